"""What can go wrong with Kafka, told apart by whose fault it is.

`KafkaError` is a broker's own answer; its table below says what each code means for who sent the request:
whether asking again can help, whether somebody else must be asked. `BadMessage` is what no broker says: that
connection is closed. `BrokerTooOld`, `AuthenticationFailed` and `ProducerFenced` stay until a person acts.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeVar

from pools import BackendError

__all__ = [
    "AuthenticationFailed",
    "BadMessage",
    "BrokerTooOld",
    "CODES",
    "Code",
    "KafkaError",
    "MessageTooLarge",
    "NoSuchTopic",
    "ProducerFenced",
    "TransactionAborted",
    "error_of",
    "twin",
]

E = TypeVar("E", bound=BaseException)


class KafkaError(BackendError):
    """A broker's answer was an error. `code` is its number, `name` what the protocol calls it (protocol
    guide, "Error Codes"), `retriable` whether the same may go well later.
    """

    def __init__(self, code: int, message: str | None = None, *, about: str = "") -> None:
        known = CODES.get(code) or Code(f"ERROR_{code}")
        self.code = code
        self.name = known.name
        self.retriable = known.retriable
        self.about = about
        advice = message or known.advice
        super().__init__(f"{about}{': ' if about else ''}{known.name}{f' ({advice})' if advice else ''}")


class MessageTooLarge(KafkaError):
    """A message is larger than the pool (`message_bytes=`) or the topic (`max.message.bytes`) allows; it was
    not written. Raise the limit, or send less at a time.
    """


class NoSuchTopic(KafkaError):
    """The topic, or that partition of it, does not exist, or this user may not know of it; nothing was
    written. Create it, or look for a slip in its name.
    """


class ProducerFenced(KafkaError):
    """Another producer has begun with the same `transactional_id`: this one can write no more.

    Give each process an id of its own; if it is the process that took this one's place, let this one end.
    """


class AuthenticationFailed(BackendError):
    """The broker does not accept who we say we are, or not this way of proving it; the text says which."""


class TransactionAborted(BackendError):
    """The transaction was rolled back: nothing of it will be seen by those who read committed records. Run
    it again from its beginning.
    """


class BadMessage(BackendError):
    """The other side sent what the protocol does not allow. The connection was closed.

    Check that host and port are those of a Kafka broker, and whether that listener wants TLS or SASL.
    """


class BrokerTooOld(BackendError):
    """The broker does not speak a request that is needed; the text says which. Kafka 2.1 is new enough."""


class Code(NamedTuple):
    """What an error code means. `stale`: who leads or coordinates has changed, ask for it again.
    `unknown_fate`: a batch may have been written all the same; a broker that loses the leadership while the
    replicas follow says 6, though the new leader may have it.
    """

    name: str
    retriable: bool = False
    stale: bool = False
    unknown_fate: bool = False
    advice: str = ""
    error: type[KafkaError] = KafkaError


def _again(name: str, advice: str = "") -> Code:
    return Code(name, retriable=True, advice=advice)


def _stale(name: str, advice: str = "") -> Code:
    return Code(name, retriable=True, stale=True, advice=advice)


CODES: Final[dict[int, Code]] = {
    -1: Code("UNKNOWN_SERVER_ERROR", advice="look into the broker's log"),
    1: Code("OFFSET_OUT_OF_RANGE"),
    2: _again("CORRUPT_MESSAGE", "the batch was damaged on its way"),
    3: Code(
        "UNKNOWN_TOPIC_OR_PARTITION",
        retriable=True,
        stale=True,
        unknown_fate=True,
        advice="create the topic, or look for a slip in its name",
        error=NoSuchTopic,
    ),
    5: _stale("LEADER_NOT_AVAILABLE", "an election is under way, or the replicas' brokers are down"),
    6: Code("NOT_LEADER_OR_FOLLOWER", retriable=True, stale=True, unknown_fate=True),
    7: Code("REQUEST_TIMED_OUT", retriable=True, unknown_fate=True, advice="replicas did not follow in time"),
    8: _again("BROKER_NOT_AVAILABLE"),
    9: _stale("REPLICA_NOT_AVAILABLE"),
    10: Code(
        "MESSAGE_TOO_LARGE",
        advice="raise the topic's max.message.bytes, or send less at a time",
        error=MessageTooLarge,
    ),
    13: _stale("NETWORK_EXCEPTION"),
    14: _again("COORDINATOR_LOAD_IN_PROGRESS"),
    15: _stale("COORDINATOR_NOT_AVAILABLE"),
    16: _stale("NOT_COORDINATOR"),
    17: Code("INVALID_TOPIC_EXCEPTION", advice="letters, digits, '.', '_' and '-', 249 at most"),
    18: Code("RECORD_LIST_TOO_LARGE", advice="raise the topic's segment.bytes, or send less at a time"),
    19: _again("NOT_ENOUGH_REPLICAS", "fewer replicas in sync than the topic's min.insync.replicas"),
    20: Code(
        "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
        retriable=True,
        unknown_fate=True,
        advice="fewer replicas in sync than the topic's min.insync.replicas",
    ),
    21: Code("INVALID_REQUIRED_ACKS", advice="acks is 0, 1 or 'all'"),
    22: Code("ILLEGAL_GENERATION"),
    23: Code("INCONSISTENT_GROUP_PROTOCOL", advice="the group's other members assign in another way"),
    24: Code("INVALID_GROUP_ID"),
    25: Code("UNKNOWN_MEMBER_ID"),
    26: Code("INVALID_SESSION_TIMEOUT", advice="see the broker's group.min/max.session.timeout.ms"),
    27: Code("REBALANCE_IN_PROGRESS"),
    28: Code("INVALID_COMMIT_OFFSET_SIZE", advice="offset.metadata.max.bytes"),
    29: Code("TOPIC_AUTHORIZATION_FAILED", advice="give this user an ACL for the topic"),
    30: Code("GROUP_AUTHORIZATION_FAILED", advice="give this user an ACL for the group"),
    31: Code("CLUSTER_AUTHORIZATION_FAILED", advice="give this user an ACL for IdempotentWrite"),
    32: Code("INVALID_TIMESTAMP", advice="see the topic's message.timestamp.type and its limits"),
    33: Code("UNSUPPORTED_SASL_MECHANISM"),
    34: Code("ILLEGAL_SASL_STATE"),
    35: Code("UNSUPPORTED_VERSION"),
    38: Code("INVALID_REPLICATION_FACTOR", advice="there are fewer brokers than that"),
    39: Code("INVALID_REPLICA_ASSIGNMENT"),
    40: Code("INVALID_CONFIG"),
    41: _stale("NOT_CONTROLLER"),
    42: Code("INVALID_REQUEST"),
    43: Code("UNSUPPORTED_FOR_MESSAGE_FORMAT", advice="the topic keeps a format older than Kafka 0.11"),
    44: Code("POLICY_VIOLATION"),
    45: Code("OUT_OF_ORDER_SEQUENCE_NUMBER", advice="messages that were acknowledged are gone on the broker"),
    46: Code("DUPLICATE_SEQUENCE_NUMBER"),
    47: Code(
        "INVALID_PRODUCER_EPOCH",
        advice="the transaction took longer than its timeout, or another producer has begun with its id",
    ),
    48: Code("INVALID_TXN_STATE"),
    49: Code("INVALID_PRODUCER_ID_MAPPING"),
    50: Code("INVALID_TRANSACTION_TIMEOUT", advice="at most the broker's transaction.max.timeout.ms"),
    51: _again("CONCURRENT_TRANSACTIONS", "the transaction before is still being completed"),
    52: Code("TRANSACTION_COORDINATOR_FENCED"),
    53: Code(
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", advice="give this user an ACL for the transactional id"
    ),
    54: Code("SECURITY_DISABLED"),
    55: Code("OPERATION_NOT_ATTEMPTED", advice="another partition of the same request was refused"),
    56: Code(
        "KAFKA_STORAGE_ERROR",
        retriable=True,
        stale=True,
        unknown_fate=True,
        advice="the broker's disk has failed",
    ),
    58: Code("SASL_AUTHENTICATION_FAILED"),
    59: Code("UNKNOWN_PRODUCER_ID", advice="the broker has forgotten this producer"),
    60: _again("REASSIGNMENT_IN_PROGRESS"),
    65: Code("TRANSACTIONAL_ID_NOT_FOUND"),
    68: Code("NON_EMPTY_GROUP"),
    69: Code("GROUP_ID_NOT_FOUND"),
    70: _again("FETCH_SESSION_ID_NOT_FOUND"),
    71: _again("INVALID_FETCH_SESSION_EPOCH"),
    72: _stale("LISTENER_NOT_FOUND", "the leader has no such listener"),
    74: _stale("FENCED_LEADER_EPOCH"),
    75: _again("UNKNOWN_LEADER_EPOCH"),
    76: Code("UNSUPPORTED_COMPRESSION_TYPE", advice="the broker is too old for it; choose another one"),
    77: Code("STALE_BROKER_EPOCH"),
    78: _again("OFFSET_NOT_AVAILABLE"),
    79: Code("MEMBER_ID_REQUIRED"),
    80: _stale("PREFERRED_LEADER_NOT_AVAILABLE"),
    81: Code("GROUP_MAX_SIZE_REACHED", advice="see the broker's group.max.size"),
    82: Code("FENCED_INSTANCE_ID", advice="another member has the same group_instance"),
    87: Code("INVALID_RECORD", advice="the topic refuses it; a compacted one wants a key"),
    88: _again("UNSTABLE_OFFSET_COMMIT", "a transaction has still to be completed"),
    89: _again("THROTTLING_QUOTA_EXCEEDED"),
    90: Code("PRODUCER_FENCED", error=ProducerFenced),
    100: _stale("UNKNOWN_TOPIC_ID"),
    103: _stale("INCONSISTENT_TOPIC_ID"),
    120: Code("TRANSACTION_ABORTABLE"),
}


def error_of(code: int, message: str | None = None, *, about: str = "") -> KafkaError:
    """The error that a code stands for. `message` is the broker's own word, `about` what it is about."""
    known = CODES.get(code)
    return (KafkaError if known is None else known.error)(code, message, about=about)


def twin(error: E, more: str = "") -> E:
    """The same error once more, with a word added: each reply has its own, for raising one leaves traces."""
    made = error.__class__.__new__(error.__class__)
    made.__dict__.update(error.__dict__)
    made.args = (f"{error}{more}",)
    made.__cause__ = error.__cause__
    return made
