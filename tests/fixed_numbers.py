"""Numbers that no simulation turns, and why. `test_knobs.py` holds that each number is here or a knob."""

from __future__ import annotations

WHOLE_MODULES: dict[str, str] = {
    "actors.simulation": "the simulation itself",
    "actors.testing": "for tests",
    "actors.workers": "real processes",
    "actors.embedding": "real threads and other loops",
    "pools.testing": "for tests",
    "pools.invariants": "for tests",
    "pools.simulation": "the simulation itself",
    "windlass": "the program and its scenarios, not the library",
    "protocols.kafka.simulated": "the simulation's own servers",
    "protocols.postgres.simulated": "the simulation's own servers",
    "protocols.redis.simulated": "the simulation's own servers",
}

WIRE = "the wire format's own"
STATE = "a name for a state"
OPTION = "the default of an option, which scenarios set"
LIMIT = "a limit against a hostile peer, with tests of its own"
DERIVED = "follows from the form of something else"
SYSTEM = "the system's own"
SEALED = "TLS cannot be simulated: OpenSSL has entropy of its own"
COST = "how large something is, about"

FIXED: dict[str, dict[str, str]] = {
    "actors.current": {
        "ANY_THREAD": STATE,
    },
    "actors.kernel": {
        "READABLE": SYSTEM,
        "WRITABLE": SYSTEM,
        "ERROR": SYSTEM,
        "HANGUP": SYSTEM,
        "KEEPALIVE_PROBES": SYSTEM,
        "SECONDS_MAX": SYSTEM,
    },
    "actors.lines": {
        "WRITE_MAX": SYSTEM,
    },
    "actors.net.listeners": {
        "PAUSE_SECONDS": "only after EMFILE, which is not simulated",
    },
    "actors.loop": {
        "DRAIN_SECONDS": OPTION,
    },
    "actors.outcomes": {
        "NEVER": STATE,
    },
    "actors.net.resolver": {
        "AGAIN_SECONDS": "real threads, which the simulated kernel does without",
        "LOOKUPS_MAX": "real threads, which the simulated kernel does without",
        "SLOW_SECONDS": "real threads, which the simulated kernel does without",
        "SLOW_NAMES_KEPT": "real threads, which the simulated kernel does without",
        "THREADS_MAX": "real threads, which the simulated kernel does without",
        "IDLE_SECONDS": "real threads, which the simulated kernel does without",
        "NAMES_MAX": "real threads, which the simulated kernel does without",
        "WAITING_MAX": "real threads, which the simulated kernel does without",
    },
    "actors.scope": {
        "SLOT_BITS": DERIVED,
        "SLOT_MASK": DERIVED,
    },
    "actors.net.streams": {
        "ENDS_MAX": LIMIT,
        "FLUSHED": STATE,
        "DUE": STATE,
        "BROKEN": STATE,
        "NOTHING": STATE,
    },
    "actors.tokens": {
        "FREE_MIN": "how slowly generations grow: no path of a machine's depends on it",
    },
    "actors.supervision": {
        "BACKOFF": OPTION,
    },
    "actors.net.tls": {
        "HANDSHAKE_SECONDS": SEALED,
        "SEALED_MAX": SEALED,
        "CHUNKS_MAX": SEALED,
    },
    "pools.backends": {
        "NOWHERE": STATE,
        "IDLE": STATE,
        "SHARING": STATE,
    },
    "pools.persistent": {
        "ASKS_MAX": LIMIT,
        "BACKOFF": OPTION,
        "CAPACITY": OPTION,
        "CONNECT_SECONDS": OPTION,
        "PING_SECONDS": OPTION,
    },
    "pools.queues": {
        "PRIORITIES": "how many there are to choose from",
    },
    "pools.units": {
        "QUEUED": STATE,
        "SENT": STATE,
        "ABANDONED": STATE,
        "EXCHANGE": STATE,
    },
    "protocols.http.server.access_log": {
        "INTERVAL": "written by a thread and a real file",
        "BATCH": "written by a thread and a real file",
        "WAITING_MAX": "written by a thread and a real file",
        "WRITE_MAX": "written by a thread and a real file",
    },
    "protocols.http.codec.bodies": {
        "_TRAILERS": STATE,
    },
    "protocols.http.server.exchange": {
        "UNKNOWN": STATE,
    },
    "protocols.http.codec.head": {
        "CHUNKED": STATE,
        "UNTIL_CLOSE": STATE,
        "LEADING_BLANK_LINES_MAX": LIMIT,
        "CONNECTION_OPTIONS_MAX": LIMIT,
        "START_LINE_SLACK": LIMIT,
    },
    "protocols.http.codec.messages": {
        "_LENGTHS_KEPT": "a table is made of it when the module is loaded",
    },
    "protocols.http.proxy.proxy": {
        "GATHER": OPTION,
        "BODY_TIMEOUT_SECONDS": OPTION,
        "SPOOL_MAX": OPTION,
        "SPOOL_TOTAL": OPTION,
        "TUNNEL_IDLE_SECONDS": OPTION,
        "UPGRADE_REQUIRED": WIRE,
    },
    "protocols.http.server.request": {
        "QUERY_FIELDS_MAX": LIMIT,
    },
    "protocols.http.server.server": {
        "REQUESTS_MAX": OPTION,
    },
    "protocols.http.proxy.spool": {
        "FILES_MAX": LIMIT,
    },
    "protocols.http.client.wire": {
        "NO_LIMIT": STATE,
        "INTERIM_MAX": LIMIT,
    },
    "protocols.kafka.arguments": {
        "OFFSET_MAX": WIRE,
        "PARTITION_MAX": WIRE,
        "SECONDS_MAX": WIRE,
    },
    "protocols.kafka.group.assignors": {
        "SUBSCRIPTION_VERSION": WIRE,
        "ASSIGNMENT_VERSION": WIRE,
    },
    "protocols.kafka.producer.accumulator": {
        "EPOCH_MAX": WIRE,
        "SEQUENCES": WIRE,
    },
    "protocols.kafka.producer.options": {
        "PORT": WIRE,
    },
    "protocols.kafka.cluster": {
        "IDLE_SECONDS": OPTION,
    },
    "protocols.kafka.records.compression": {
        "UNPACKED_BYTES": LIMIT,
        "GZIP": WIRE,
        "SNAPPY_BLOCK": WIRE,
        "FIRST_GUESS": WIRE,
    },
    "protocols.kafka.consumer.consumer": {
        "MANY": OPTION,
    },
    "protocols.kafka.producer.sender": {
        "ANSWER_SHARE": DERIVED,
    },
    "protocols.kafka.protocol.fetch_api": {
        "BEGINNING": WIRE,
        "END": WIRE,
        "BY_NAME": WIRE,
    },
    "protocols.kafka.producer.messages": {
        "RECORD_OVERHEAD": WIRE,
        "PARTITION_MAX": WIRE,
        "TIMESTAMP_MAX": WIRE,
    },
    "protocols.kafka.producer.partitioner": {
        "SEED": WIRE,
        "MULTIPLIER": WIRE,
        "MASK": WIRE,
        "KEYS_REMEMBERED": "a memo of a pure function",
    },
    "protocols.kafka.protocol.primitives": {
        "VARINT_BYTES_MAX": WIRE,
    },
    "protocols.kafka.producer.producer": {
        "OBJECT_BYTES": COST,
    },
    "protocols.kafka.records.batch": {
        "HEADER_BYTES": WIRE,
        "MAGIC": WIRE,
        "COMPRESSION": WIRE,
        "LOG_APPEND_TIME": WIRE,
        "TRANSACTIONAL": WIRE,
        "CONTROL": WIRE,
        "ABORT": WIRE,
        "COMMIT": WIRE,
        "BEFORE_CRC": WIRE,
        "CHECKED_FROM": WIRE,
    },
    "protocols.kafka.protocol.schema": {
        "NEVER": WIRE,
    },
    "protocols.kafka.producer.transactions": {
        "EPOCH_MAX": WIRE,
    },
    "protocols.kafka.connection.wire": {
        "ANSWER_BYTES": LIMIT,
        "GREETING_BYTES": LIMIT,
        "RENEWED": DERIVED,
    },
    "protocols.postgres.copy.binary": {
        "ITEM_COST": COST,
        "FIRST_ADDED": WIRE,
    },
    "protocols.postgres.urls": {
        "PORT": WIRE,
    },
    "protocols.postgres.copy.transfer": {
        "READER_SECONDS": "an hour: longer than any run",
    },
    "protocols.postgres.startup.handshake": {
        "GREETING_MAX": LIMIT,
    },
    "protocols.postgres.messages": {
        "PROTOCOL": WIRE,
        "DESCRIBE_SIZE_MAX": LIMIT,
        "REASON_MAX": LIMIT,
    },
    "protocols.postgres.identifiers": {
        "NAME_BYTES_MAX": WIRE,
    },
    "protocols.postgres.startup.negotiate": {
        "NEGOTIATING": STATE,
        "SEALING": STATE,
        "GREETING": STATE,
    },
    "protocols.postgres.preparing": {
        "OIDS": WIRE,
    },
    "protocols.postgres.rows": {
        "TEXT": WIRE,
        "BINARY": WIRE,
        "DATA_ROW": WIRE,
        "DECODERS_MAX": "a memo of a pure function",
    },
    "protocols.postgres.statements": {
        "NEVER_YET": "no time at all",
        "PARAMETERS_MAX": WIRE,
        "MESSAGE_MAX": WIRE,
        "COLUMN_BYTES": COST,
    },
    "protocols.postgres.subscriptions": {
        "MESSAGE_MAX": LIMIT,
    },
    "protocols.postgres.transactions": {
        "IDLE": WIRE,
    },
    "protocols.postgres.types.composed": {
        "DIMENSIONS_MAX": WIRE,
        "EMPTY": WIRE,
        "LOWER_INCLUDED": WIRE,
        "UPPER_INCLUDED": WIRE,
        "LOWER_INFINITE": WIRE,
        "UPPER_INFINITE": WIRE,
    },
    "protocols.postgres.types.scalars": {
        "EPOCH_DAY": WIRE,
        "DAY": WIRE,
        "INFINITY_64": WIRE,
        "INFINITY_32": WIRE,
        "FAMILY_4": WIRE,
        "FAMILY_6": WIRE,
        "NUMERIC_NAN": WIRE,
        "NUMERIC_INFINITY": WIRE,
        "NUMERIC_MINUS_INFINITY": WIRE,
        "DIGITS_MAX": WIRE,
    },
    "protocols.postgres.units": {
        "MANY_MAX": LIMIT,
    },
    "protocols.postgres.answers": {
        "MESSAGE_MAX": WIRE,
        "DATA_ROW": WIRE,
        "BIND_COMPLETE": WIRE,
        "COMMAND_COMPLETE": WIRE,
        "READY": WIRE,
        "COPY_DATA": WIRE,
    },
    "protocols.postgres.wire": {
        "SENT_ALL": WIRE,
    },
    "protocols.redis.urls": {
        "PORT": WIRE,
    },
    "protocols.redis.client": {
        "PIPELINE": OPTION,
        "QUEUE": OPTION,
    },
    "protocols.redis.cluster": {
        "NODES_MAX": LIMIT,
        "REDIRECTS": OPTION,
    },
    "protocols.redis.codec": {
        "REPLY_BYTES_MAX": LIMIT,
        "ELEMENTS_MAX": LIMIT,
        "INT_BITS_MAX": LIMIT,
        "ATTRIBUTE": WIRE,
        "HEAD_BYTES_MAX": WIRE,
        "LINE_MAX": WIRE,
    },
    "protocols.redis.slots": {
        "SLOTS": WIRE,
    },
    "protocols.redis.transactions": {
        "ATTEMPTS": OPTION,
    },
    "protocols.scram": {
        "ITERATIONS_MAX": LIMIT,
    },
}
