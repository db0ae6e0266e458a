"""The server's side of a connection, and what the connections share.

Rules:
1. Messages are executed in order. After an error everything up to the next Sync is skipped.
2. Outside of a transaction what comes before a Sync is a transaction of its own.
3. A statement that takes time holds up those behind it, on this connection alone, and can be cancelled by a
   CancelRequest with the right secret.
4. A connection that ends takes its transaction with it, rolled back.
5. Statements can be altered (`alter`) and lost (`lose_statements`) at any time. One that was prepared and
   whose result is no longer the same is refused when it is bound (0A000), as is one that is not there
   (26000).
6. With `pooled` it stands behind a pooler in transaction mode: each transaction meets another of its
   backends, with what others have prepared there, under whatever names.
7. A `standby` writes nothing, also not what was begun before it became one. Its connections live on.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

from actors import (
    ANYTHING,
    SLEEP,
    UNCHANGED,
    Bytes,
    Continue,
    Outcome,
    Stop,
    StreamProtocol,
    Timeout,
    Transport,
)
from protocols.postgres.errors import BadMessage, PostgresError
from protocols.postgres.messages import message, next_message
from protocols.postgres.rows import BINARY
from protocols.postgres.types import CODECS

from . import codec
from .cursors import Cursors
from .database import Changes, Database, failure
from .statements import STATEMENTS, Declared, Later

__all__ = ["PostgresConnection", "SimulatedPostgres"]

PROTOCOL: Final = 196608  # 3.0
CANCEL: Final = 80877102
SSL: Final = 80877103
GSS: Final = 80877104
MESSAGE_MAX: Final = 1 << 24  # bytes
PREPARED_MAX: Final = 1024  # statements of one connection
ABORTED: Final = "current transaction is aborted, commands ignored until end of transaction block"


class Backend:
    """A process of the server: what was prepared in it, by whomever."""

    def __init__(self) -> None:
        self.prepared: dict[bytes, Declared] = {}


class SimulatedPostgres:
    """Makes the protocol of each connection, as a `Listener` wants it.

    `database` may be one that an earlier server has left. `statements`: those that it knows besides
    `STATEMENTS`. `executed`: called with the SQL and the arguments of each statement that is executed.
    `pooled`: whether a pooler in transaction mode is between.
    """

    def __init__(
        self,
        database: Database | None = None,
        statements: Iterable[Declared] = (),
        *,
        executed: Callable[[str, list[Any]], object] = lambda sql, arguments: None,
        pooled: bool = False,
    ) -> None:
        self.database = database or Database({"accounts": {}})
        self.statements = {known.sql: known for known in (*STATEMENTS, *statements)}
        self.executed = executed
        self.pooled = pooled
        self.standby = False
        self.free: list[Backend] = []  # of a pooler
        self.sessions: dict[int, PostgresConnection] = {}
        self._processes = 0

    def __call__(self) -> PostgresConnection:
        return PostgresConnection(self)

    def __repr__(self) -> str:
        return f"<SimulatedPostgres {self.database!r}, {len(self.sessions)} sessions>"

    @property
    def at_rest(self) -> bool:
        """Whether no transaction is open, not even that of a statement which is only described so far: who
        alters a table has to wait for that."""
        return not any(session.open for session in self.sessions.values())

    def begin(self) -> Changes:
        """A transaction."""
        changes = self.database.begin()
        changes.read_only = self.standby
        return changes

    def alter(self, *statements: Declared) -> None:
        """These are others from now on: the tables that they are about have changed."""
        self.statements |= {altered.sql: altered for altered in statements}

    def lose_statements(self) -> None:
        """Nothing that was prepared is there any more."""
        for backend in [*self.free, *(session.backend for session in self.sessions.values())]:
            backend.prepared.clear()

    def take_backend(self, source: random.Random) -> Backend:
        """For a session; of a pooler any that is free, for one transaction."""
        if not self.free:
            return Backend()
        return self.free.pop(source.randrange(len(self.free)))

    def admit(self, session: PostgresConnection) -> int:
        """A new session's process number."""
        self._processes += 1
        self.sessions[self._processes] = session
        return self._processes


class PostgresConnection(StreamProtocol):
    """One session."""

    def __init__(self, server: SimulatedPostgres) -> None:
        self.server = server
        self.transport: Transport
        self.process = self.secret = 0
        self.backend = Backend()
        self.held = False  # the backend, from a pooler, until the transaction is over
        self.cursors = Cursors()
        self.portal: tuple[Declared, list[Any]] | None = None
        self.changes: Changes | None = None  # of the transaction, or of what comes before a Sync
        self.open = False  # a transaction, be it only up to the next Sync
        self.begun = False  # by BEGIN
        self.failed = False  # inside of it
        self.skipping = False  # to the next Sync
        self.later: tuple[Declared, Later] | None = None  # what takes time
        self.cancelled = False
        self.over = False

    def __repr__(self) -> str:
        doing = (
            "busy" if self.later else {b"I": "idle", b"T": "in a transaction", b"E": "failed"}[self.status]
        )
        return f"<PostgresConnection {self.process} {doing}>"

    @property
    def status(self) -> bytes:
        """What ReadyForQuery says."""
        return b"I" if not self.begun else b"E" if self.failed else b"T"

    # -- events ----------------------------------------------------------------------------------------------

    def connected(self, transport: Transport) -> Outcome:
        """A client, who speaks first."""
        self.transport = transport
        return Continue(self, ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        """Messages."""
        try:
            return self._read()
        except BadMessage as error:
            self.transport.write(codec.error_response(failure("08P01", str(error), "FATAL")))
            return Stop()

    def _read(self) -> Outcome:
        """Every complete message, unless one takes time."""
        transport = self.transport
        if not self.process and not self._start():
            return Stop() if self.over else self._more()
        data, at = bytes(transport.input), 0
        while self.later is None and (found := next_message(data, at, MESSAGE_MAX)) is not None:
            kind, end = found
            body = data[at + 5 : end]
            at = end
            if kind == ord("X"):
                return Stop()
            self._message(chr(kind), body)
        transport.consume(at)
        if self.later is None:
            return self._more()
        return Timeout(self, transport.scope.now + self.later[1].seconds, SLEEP)

    def _more(self) -> Outcome:
        """Wait for more than the part of a message that is there."""
        return Continue(self, Bytes(len(self.transport.input) + 1))

    def _start(self) -> bool:
        """Who is it? Whether the session has begun."""
        transport = self.transport
        while (found := codec.read_startup(transport.input)) is not None:
            code, body, end = found
            transport.consume(end)
            if code in (SSL, GSS):
                transport.write(b"N")
            elif code == CANCEL and len(body) == 8:
                self._cancel(*struct.unpack("!iI", body))
                return False
            elif code == PROTOCOL:
                self._greet()
                return True
            else:
                raise BadMessage(f"protocol {code >> 16}.{code & 0xFFFF} is not known here")
        return False

    def _greet(self) -> None:
        transport = self.transport
        self.process = self.server.admit(self)
        self.secret = transport.scope.kernel.random().getrandbits(32)
        settings = {"server_version": "16.0", "client_encoding": "UTF8", "TimeZone": "UTC"}
        said = [message(b"S", f"{name}\0{value}\0".encode()) for name, value in settings.items()]
        keys = message(b"K", struct.pack("!iI", self.process, self.secret))
        transport.write(message(b"R", bytes(4)) + b"".join(said) + keys + codec.ready(b"I"))

    def _cancel(self, process: int, secret: int) -> None:
        """For another session; this connection is over."""
        self.over = True
        session = self.server.sessions.get(process)
        if session is not None and session.secret == secret and session.later is not None:
            session.cancelled = True
            session.transport.scope.wake()

    def wakeup(self, transport: Transport) -> Outcome:
        """What takes time is to end."""
        if self.later is None or not self.cancelled:
            return UNCHANGED
        self._failed(failure("57014", "canceling statement due to user request"))
        return self._go_on()

    def timeout(self, transport: Transport) -> Outcome:
        """What took time is done."""
        assert self.later is not None
        declared, later = self.later
        self._complete(declared, later.rows)
        return self._go_on()

    def _go_on(self) -> Outcome:
        self.later, self.cancelled = None, False
        return self.received(self.transport)

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """What was not committed never was."""
        self.server.sessions.pop(self.process, None)
        if self.held:
            self.server.free.append(self.backend)

    # -- messages --------------------------------------------------------------------------------------------

    def _message(self, kind: str, body: bytes) -> None:
        if self.server.pooled and not self.held:
            self.backend = self.server.take_backend(self.transport.scope.kernel.random())
            self.held = True
        if kind == "S":
            self._sync()
            return
        self.open = True
        handler = HANDLERS.get(kind)
        if handler is None:
            raise BadMessage(f"a message {kind!r}, which is not known here")
        if self.skipping:
            return
        try:
            handler(self, body)
        except PostgresError as error:
            self._failed(error)
            if kind == "Q":
                self._sync()

    def _failed(self, error: PostgresError) -> None:
        self.transport.write(codec.error_response(error))
        self.skipping = True
        self.failed = self.begun
        self.changes = None
        self.portal = None

    def _sync(self) -> None:
        self.skipping = False
        self.portal = None
        if not self.begun and self.changes is not None:
            changes, self.changes = self.changes, None
            try:
                self._commit(changes)
            except PostgresError as error:
                self.transport.write(codec.error_response(error))
        self.transport.write(codec.ready(self.status))
        if self.begun:
            return
        self.open = False
        self.cursors.clear()
        if self.held:
            self.held = False
            self.server.free.append(self.backend)

    def _commit(self, changes: Changes) -> None:
        """Raises `PostgresError`."""
        changes.read_only = changes.read_only or self.server.standby
        changes.commit()

    def _parse(self, body: bytes) -> None:
        name, sql = codec.read_parse(body)
        self._usable()
        declared = self._declared(sql)
        if declared is None:
            raise failure("42601", f"this simulated server does not know {sql!r}; declare it")
        prepared = self.backend.prepared
        if name and name in prepared:
            raise failure("42P05", f'prepared statement "{name.decode()}" already exists')
        if len(prepared) >= PREPARED_MAX:
            raise failure("53400", f"more than {PREPARED_MAX} prepared statements")
        prepared[name] = declared
        self.transport.write(message(b"1"))

    def _declared(self, sql: str) -> Declared | None:
        """What a text means now."""
        return self.server.statements.get(sql) or self.cursors.declared(sql, self.server.statements)

    def _named(self, name: bytes) -> Declared:
        declared = self.backend.prepared.get(name)
        if declared is None:
            raise failure("26000", f'prepared statement "{name.decode(errors="replace")}" does not exist')
        return declared

    def _bind(self, body: bytes) -> None:
        bound = codec.read_bind(body)
        self._usable()
        declared = self._named(bound.name)
        current = self._declared(declared.sql)
        if current is None:
            raise failure("42P01", f"{declared.sql!r} is about something that no longer exists")
        if current.gives != declared.gives and not self.cursors.fetches(declared.sql):
            raise failure("0A000", "cached plan must not change result type", routine="RevalidateCachedQuery")
        if current.takes != declared.takes:
            raise failure("42804", "the types of the parameters are others now")
        declared = current
        if len(bound.values) != len(declared.takes):
            raise failure("08P01", f"{len(bound.values)} parameters for {len(declared.takes)}")
        if any(form != BINARY for form in (*bound.formats, *bound.results)):
            raise failure("0A000", "this simulated server speaks binary only")
        try:
            values = [
                None if data is None else CODECS[oid].decode(data)
                for oid, data in zip(declared.takes, bound.values, strict=True)
            ]
        except (ValueError, struct.error) as error:
            raise failure("22P03", f"a parameter that cannot be read: {error}") from None
        self.portal = declared, values
        self.transport.write(message(b"2"))

    def _describe(self, body: bytes) -> None:
        self._usable()
        if body[:1] == b"P":
            if self.portal is None:
                raise failure("34000", "there is no portal")
            self.transport.write(codec.row_description(self.portal[0].gives))
            return
        declared = self._named(codec.read_text(body, 1)[0])
        self.transport.write(
            codec.parameter_description(declared.takes) + codec.row_description(declared.gives)
        )

    def _execute(self, body: bytes) -> None:
        self._usable()
        if self.portal is None:
            raise failure("34000", "there is no portal")
        declared, values = self.portal
        self.changes = self.changes or self.server.begin()
        self.server.executed(declared.sql, values)
        found = declared.run(self.changes, *values)
        if isinstance(found, Later):
            self.later = declared, found
        else:
            self._complete(declared, found)

    def _complete(self, declared: Declared, found: list[tuple[Any, ...]] | int) -> None:
        rows = [] if isinstance(found, int) else found
        count = found if isinstance(found, int) else len(found)
        said = [codec.data_row(declared.gives, row) for row in rows]
        self.transport.write(b"".join(said) + codec.command_complete(declared.tag(count)))

    def _close(self, body: bytes) -> None:
        self.backend.prepared.pop(codec.read_text(body, 1)[0], None)
        self.transport.write(message(b"3"))

    def _usable(self) -> None:
        """A transaction that has failed takes nothing but its end."""
        if self.failed:
            raise failure("25P02", ABORTED)

    def _query(self, body: bytes) -> None:
        """The simple protocol: the frame of a transaction, and nothing else."""
        sql = codec.read_text(body)[0].decode(errors="replace")
        words = sql.lower().split()
        command = words[0] if words else ""
        if command == "begin":
            self._usable()
            if not self.begun:
                self.begun, self.changes = True, self.server.begin()
                self.changes.read_only |= "read only" in sql.lower()
        elif command in ("commit", "rollback"):
            failed, self.failed, self.begun = self.failed, False, False
            changes, self.changes = self.changes, None
            if command == "commit" and changes is not None and not failed:
                self._commit(changes)
            command = "rollback" if failed else command
        else:
            self._usable()
            raise failure(
                "42601", f"this simulated server knows BEGIN, COMMIT and ROLLBACK here, not {sql!r}"
            )
        self.transport.write(codec.command_complete(command.upper().encode()))
        self._sync()

    def _flush(self, body: bytes) -> None:
        """What is written leaves by itself."""


HANDLERS: Final[dict[str, Callable[[PostgresConnection, bytes], None]]] = {
    "B": PostgresConnection._bind,
    "C": PostgresConnection._close,
    "D": PostgresConnection._describe,
    "E": PostgresConnection._execute,
    "H": PostgresConnection._flush,
    "P": PostgresConnection._parse,
    "Q": PostgresConnection._query,
}
"""What is done with each kind of message; Sync and Terminate are seen to before."""
