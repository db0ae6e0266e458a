"""The client's side of one connection, driven by a pool's member: units out, answers in, in order.

Rules:
1. Every unit ends with a Sync, and its answer with ReadyForQuery: an error skips to there and no further.
2. What was sent is told by `_jobs`, one per work in the member's FIFO: the statement whose answer comes, or
   a mark.
3. A statement that the pool does not know is described first, by itself; meanwhile nothing else is sent.
   One that this connection does not know is introduced in the same write that uses it.
4. A statement that the server has forgotten, or whose plan is no longer valid, has not been executed: the
   unit goes back to the queue and is described anew. Inside a transaction, which such an error ends, it is
   the unit's error.
5. After a CancelRequest the connection takes nothing new. A neighbour that it hits all the same has not been
   executed either, and goes back to the queue.
6. A connection is clean when its last ReadyForQuery said idle. One that a unit outside of a transaction
   leaves otherwise is closed.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from actors import ANYTHING, Bytes, Expectation, Transport
from pools import DeadlineExceeded, Unit, Wire, Work
from pools.units import EXCHANGE, SENT

from . import messages
from .cancel import cancel
from .errors import BadMessage, LeftOpen, PostgresError, UnreadableValue, is_stale
from .handshake import Handshake, Settings
from .rows import RowDecoder, compile_rows, skip_rows
from .statements import Statement, Statements, Store
from .tls import Sealed
from .transactions import ROLLBACK
from .units import Command, Rows, SqlUnit

__all__ = ["IDLE", "PostgresWire"]

IDLE: Final = 73  # `I`: ReadyForQuery outside of a transaction
MESSAGE_MAX: Final = 1 << 30  # bytes: the server's own limit
SENDS_MAX: Final = 3  # of one unit whose statement is invalid each time

NEGOTIATING: Final = 0  # `_phase`: whether there is TLS
SEALING: Final = 1  # its handshake
GREETING: Final = 2  # who we are
OPEN: Final = 3

DATA_ROW: Final = ord("D")
BIND_COMPLETE: Final = ord("2")
COMMAND_COMPLETE: Final = ord("C")
READY: Final = ord("Z")

CANCELED: Final = "57014"
LARGE: Final = 1 << 16  # bytes: a message that is waited for as a whole


class Mark:
    """A job that is not a statement's."""

    __slots__ = ("error",)

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error


DESCRIBING: Final = Mark()
SIMPLE: Final = Mark()

LEFT_OPEN: Final = (
    "the statement has left a transaction open; write an async def with @postgres.transaction instead. The "
    "connection was closed, which rolls back"
)


class PostgresWire(Wire):
    """Protocol 3.0 over one connection of a pool. `result_bytes`: how much one unit's rows may have."""

    __slots__ = (
        "_backlog",
        "_cancelled",
        "_closing",
        "_columns",
        "_count",
        "_decode",
        "_error",
        "_failure",
        "_gathered",
        "_handshake",
        "_jobs",
        "_known",
        "_large",
        "_phase",
        "_process",
        "_result_bytes",
        "_rows",
        "_secret",
        "_settings",
        "_statements",
        "_stream",
        "_tag",
        "_types",
        "status",
    )

    pushes = True  # notices, settings, its own end

    def __init__(self, settings: Settings, statements: Statements, result_bytes: int) -> None:
        super().__init__()
        self._settings = settings
        self._statements = statements
        self._result_bytes = result_bytes
        self._known = Store(max(1, statements.limit))  # what this connection has prepared
        self._stream: Transport = None  # type: ignore[assignment]  # until connected
        self._phase = NEGOTIATING
        self._handshake: Handshake | None = None
        self._process = self._secret = 0
        self._jobs: deque[Statement | Mark] = deque()
        self._backlog: deque[Work[Any]] = deque()  # handed over while a statement is being described
        self._closing = b""  # names of statements to be closed with the next write
        self._cancelled = False
        self._large = False  # one message is waited for as a whole
        self.status = IDLE
        # of the answer that is being read:
        self._types: tuple[int, ...] = ()
        self._columns: tuple[messages.Column, ...] = ()
        self._decode: RowDecoder | None = None
        self._rows: Rows = []
        self._gathered = 0
        self._tag = b""
        self._count = 0
        self._error: PostgresError | None = None
        self._failure: Exception | None = None

    def __repr__(self) -> str:
        state = "starting" if self._phase != OPEN else chr(self.status)
        return f"<PostgresWire {state}, {len(self._jobs)} answers to come, {len(self._known)} statements>"

    # -- start-up ----------------------------------------------------------------------------------

    def start(self) -> Expectation | None:
        """TLS or not, then who we are."""
        self._stream = self.transport
        if self._settings.tls is not None:
            self.transport.write(messages.SSL_REQUEST)
        else:
            self._greet()
        return ANYTHING

    def _greet(self) -> None:
        self._phase = GREETING
        self._handshake = Handshake(self._settings, self._stream)
        self._handshake.begin()

    def _negotiate(self) -> None:
        """The server's one byte. More than that came from somebody in between."""
        answer = self.transport.take(len(self.transport.input))
        if answer != b"S":
            what = (
                "the server does no TLS"
                if answer == b"N"
                else f"no answer to a request for TLS: {answer[:40]!r}"
            )
            raise BadMessage(f"{what}; write ?sslmode=disable if the network may be trusted")
        assert self._settings.tls is not None
        self._phase = SEALING
        self._stream = Sealed(self.transport, self._settings.tls, self._settings.server_hostname)

    def _greeted(self) -> bool:
        handshake, stream = self._handshake, self._stream
        assert handshake is not None
        stream.consume(handshake.take(bytes(stream.input)))
        if not handshake.done:
            return False
        self._process, self._secret = handshake.process, handshake.secret
        self._handshake = None
        self._phase = OPEN
        self.member.ready()
        return True

    # -- units -------------------------------------------------------------------------------------

    def send(self, work: Work[Any]) -> None:
        """Write the unit, or the question what it takes."""
        if not self.writable:
            self._backlog.append(work)
            return
        unit = work.unit
        if unit.__class__ is Command:
            self._stream.write(unit.encoded)
            self._jobs.append(SIMPLE)
            return
        statement = self._known.get(unit.sql)
        if statement is not None:
            self._stream.write(unit.encode(statement))
        else:
            statement = self._statements.store.get(unit.sql)
            if statement is None:
                self._describe(unit.sql)
                return
            self._introduce(statement, unit.encode(statement))
        self._jobs.append(statement)

    def _introduce(self, statement: Statement, encoded: bytes) -> None:
        """Prepare it on this connection, and use it. The server describes it once more, lest it has
        changed.
        """
        if statement.name:
            gone = self._known.add(statement)
            if gone is not None:
                self._closing += messages.close_statement(gone.name)
        self._stream.write(self._closing + statement.introduction + encoded)
        self._closing = b""

    def _describe(self, sql: str) -> None:
        """Ask what it takes and gives."""
        name = self._statements.next_name()
        self._stream.write(
            messages.parse(name, sql)
            + messages.describe(name)
            + messages.close_statement(name)
            + messages.SYNC
        )
        self._jobs.append(DESCRIBING)
        self.writable = False

    def _described(self, work: Work[Any], error: PostgresError | None) -> None:
        """Now the unit itself, and those that had to wait."""
        unit: SqlUnit[Any] = work.unit
        self.writable = True
        if error is not None:
            self.member.fail(error)
        else:
            name = self._statements.next_name()
            self._statements.store.add(Statement(name, unit.sql, self._types, self._columns))
            self._send_late(work)
        while self._backlog and self.writable:
            self._send_late(self._backlog.popleft())

    def _send_late(self, work: Work[Any]) -> None:
        """`send`, for one that is in the FIFO already: a Sync stands for what cannot be encoded."""
        try:
            self.send(work)
        except Exception as error:
            self._stream.write(messages.SYNC)
            self._jobs.append(Mark(error))

    # -- answers -----------------------------------------------------------------------------------

    def received(self) -> Expectation | None:
        """Whatever phase the connection is in."""
        if self._phase != OPEN and not self._begun():
            return None  # when more has come: a part of a message is still in the input
        stream = self._stream
        if stream is not self.transport:
            stream.pull()  # type: ignore[attr-defined]
        return self._read()

    def _begun(self) -> bool:
        """Whether the start-up is done."""
        if self._phase == NEGOTIATING:
            self._negotiate()
        stream = self._stream
        if isinstance(stream, Sealed):
            stream.pull()
            if self._phase == SEALING and stream.opened:
                self._greet()
        return self._phase == GREETING and self._greeted()

    def _read(self) -> Expectation | None:
        """Whole messages. The hot path of a client."""
        stream, member = self._stream, self.member
        data = stream.input
        if data.__class__ is not bytes:
            data = bytes(data)
        size = len(data)
        at = 0
        while size - at >= 5:
            kind = data[at]
            if kind == DATA_ROW:
                end = self._read_rows(data, at, size)
                if end == at:
                    break
                at = end
                continue
            length = int.from_bytes(data[at + 1 : at + 5])
            end = at + 1 + length
            if not 4 <= length <= MESSAGE_MAX:
                raise BadMessage(f"a message of {length} bytes (at most {MESSAGE_MAX})")
            if end > size:
                break
            if kind == COMMAND_COMPLETE:
                self._tag = data[at + 5 : end - 1]
                work = member.current
                if work is not None and work.unit.counts:
                    self._count += messages.rows_of(self._tag)
            elif kind == READY:
                self._ready(data[end - 1])
                if member.over:
                    return None
            elif kind != BIND_COMPLETE:
                self._take(chr(kind), data[at + 5 : end])
                if member.over:
                    return None
            at = end
        stream.consume(at)
        return self._waiting(data, at, size)

    def _waiting(self, data: bytes, at: int, size: int) -> Expectation | None:
        """A large message is waited for as a whole, so that it is not looked at again with each of its
        parts.
        """
        length = int.from_bytes(data[at + 1 : at + 5]) if size - at >= 5 else 0
        if length > LARGE and self._stream is self.transport:
            if length > MESSAGE_MAX:
                raise BadMessage(f"a message of {length} bytes (at most {MESSAGE_MAX})")
            self._large = True
            return Bytes(length + 1)
        if self._large:
            self._large = False
            return ANYTHING if at == size else Bytes(size - at + 1)
        return None

    def _read_rows(self, data: bytes, at: int, size: int) -> int:
        """Rows, until something else comes or the input ends."""
        decode = self._decode
        if decode is None:
            job = self._jobs[0] if self._jobs else None
            if not isinstance(job, Statement):
                raise BadMessage("a row that nothing had asked for")
            decode = self._decode = job.decode_rows
        try:
            end = decode(data, at, size, self._rows)
        except BadMessage:
            raise
        except Exception as error:  # a value that cannot be read: its unit fails, alone
            return self._skip(error, data, at, size)
        self._gathered += end - at
        if self._gathered > self._result_bytes:
            large = f"a result of more than {self._result_bytes} bytes"
            failure = UnreadableValue(f"{large}; ask for less at a time, or raise result_bytes=")
            return self._skip(failure, data, end, size)
        return end

    def _skip(self, error: Exception, data: bytes, at: int, size: int) -> int:
        """Drop the rest of this answer."""
        if not isinstance(error, UnreadableValue):
            error = UnreadableValue(f"a value that cannot be read: {error}")
        self._failure = error
        self._decode = skip_rows
        self._rows = []
        self._gathered = 0
        return skip_rows(data, at, size, self._rows)

    def _take(self, kind: str, body: bytes) -> None:
        """The messages that are not on the hot path."""
        if kind in "13nIsN":
            if kind == "n":
                self._columns = ()
                self._check_columns()
        elif kind == "t":
            self._types = messages.read_parameters(body)
        elif kind == "T":
            self._columns = messages.read_columns(body)
            self._check_columns()
        elif kind == "E":
            self._take_error(messages.read_error(body))
        elif kind == "S":
            messages.read_status(body)
        elif kind == "A":
            pass  # a notification that nobody listens for
        elif kind in "GHW":
            raise BadMessage("COPY cannot be a unit of its own: it has no end that a Sync would mark")
        else:
            raise BadMessage(f"a message {kind!r} that has no place here")

    def _check_columns(self) -> None:
        """A statement as this connection sees it: its columns may have changed since it was described."""
        job = self._jobs[0] if self._jobs else None
        if not isinstance(job, Statement) or self._columns == job.columns:
            return
        self._forget(job)
        try:
            self._decode = compile_rows(self._columns, job.formats)
        except Exception as error:
            self._failure = UnreadableValue(f"the statement's columns have changed: {error}")
            self._decode = skip_rows

    def _take_error(self, error: PostgresError) -> None:
        if error.severity in ("FATAL", "PANIC"):
            self.member.close(error)
        elif self._jobs:
            self._error = error
        else:
            raise error

    def _ready(self, status: int) -> None:
        """The end of one answer."""
        work = self.member.current
        if work is None or not self._jobs:
            raise BadMessage("the end of an answer that nothing had asked for")
        job = self._jobs.popleft()
        self.status = status
        rows, self._rows = self._rows, []  # the list is the asker's from now on, empty or not
        self._gathered = 0
        count, self._count = self._count, 0
        self._decode = None
        if self._error is not None or self._failure is not None or job.__class__ is not Statement:
            self._ready_otherwise(work, job)
        elif status != IDLE and work.stage != EXCHANGE:
            self.member.fail(LeftOpen(LEFT_OPEN), reusable=False)
        elif work.settled:
            self.member.settle(None)
        else:
            try:
                value = work.unit.result(rows, job, count)
            except Exception as error:
                self.member.fail(error)
            else:
                self.member.settle(value)

    def _ready_otherwise(self, work: Work[Any], job: Statement | Mark) -> None:
        """An error, or no statement's answer."""
        error, self._error = self._error, None
        failure, self._failure = self._failure, None
        if job is DESCRIBING:
            self._described(work, error)
        elif error is not None:
            self._fail(work, job, error)
        elif failure is not None:
            self.member.fail(failure)
        elif isinstance(job, Mark) and job.error is not None:
            self.member.fail(job.error)
        else:
            self.member.settle(self._tag)

    def _fail(self, work: Work[Any], job: Statement | Mark, error: PostgresError) -> None:
        """An error; one that says that the unit was not executed, and is not its fault, has it sent again."""
        again = error.sqlstate == CANCELED and self._cancelled
        if isinstance(job, Statement) and is_stale(error):
            self._forget(job)
            again = True
        if again and work.stage == SENT and not work.settled and work.attempts < SENDS_MAX:
            self.member.take_back()
        else:
            self.member.fail(error)

    def _forget(self, statement: Statement) -> None:
        """Describe it anew when it comes again."""
        if self._known.get(statement.sql) is statement:
            self._known.drop(statement)
            self._closing += messages.close_statement(statement.name)
        self._statements.store.drop(statement)

    # -- what else happens -------------------------------------------------------------------------

    def abandoned(self, work: Work[Any]) -> None:
        """Past its deadline, what the server is doing for it is to end. A unit that was merely cancelled is
        let finish: its answer is read and dropped.
        """
        current = self.member.current
        if not isinstance(work.error, DeadlineExceeded) or current is None:
            return
        if self._cancelled or not self._process:
            return
        if current.settled or current.stage == EXCHANGE:  # or it would hit somebody who still waits
            self._cancelled = True
            loop = self.transport.scope.loop
            cancel(loop, self.member.backend.address, self._process, self._secret)

    def restore(self) -> Unit[Any] | None:
        """After a transaction whose body has not ended it."""
        return None if self.status == IDLE else ROLLBACK

    def goodbye(self) -> None:
        """Terminate."""
        self._stream.write(messages.TERMINATE)

    def closed(self, error: BaseException | None) -> None:
        """There is nothing to linger for."""
        self.transport.input = b""
        self._jobs.clear()
        self._backlog.clear()
        self._rows = []
