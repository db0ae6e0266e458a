"""Reading answers: messages as they come, and what they make of the one that is being read.

The loop over messages is the hot path of a client, and what it gathers are this class's own attributes. What
a message means for the unit is decided in `wire`, which says here what is to become of the answer: whose rows
they are (`_read_by`), that it fails (`_fails`, `_refused`).
"""

from __future__ import annotations

from typing import Any, Final

from actors import ANYTHING, SLEEP, Bytes, Expectation, Transport
from pools import Work
from pools.units import EXCHANGE

from . import messages
from .errors import BadMessage, LeftOpen, PostgresError, UnreadableValue
from .orphans import Job, OrphansWire
from .preparing import Preparing
from .rows import RowDecoder, skip_rows
from .statements import Statement
from .transactions import IDLE
from .units import Rows

__all__ = ["AnswersWire"]

MESSAGE_MAX: Final = 1 << 30  # bytes: the server's own limit
LARGE: Final = 1 << 16  # bytes: a message that is waited for as a whole

DATA_ROW: Final = ord("D")
BIND_COMPLETE: Final = ord("2")
COMMAND_COMPLETE: Final = ord("C")
READY: Final = ord("Z")
COPY_DATA: Final = ord("d")


class AnswersWire(OrphansWire):
    """A wire that reads what its server answers. `result_bytes`: how much one unit's rows may have."""

    __slots__ = (
        "_bound",
        "_columns",
        "_count",
        "_decode",
        "_error",
        "_failure",
        "_gathered",
        "_result_bytes",
        "_rows",
        "_sized",
        "_stream",
        "_tag",
        "_types",
        "status",
    )

    def __init__(self, result_bytes: int) -> None:
        super().__init__()
        self._result_bytes = result_bytes
        self._stream: Transport = None  # type: ignore[assignment]  # until connected
        self._sized = False  # a certain number of bytes is waited for, not just anything
        self.status = IDLE
        # of the answer that is being read:
        self._bound = False
        self._types: tuple[int, ...] = ()
        self._columns: tuple[messages.Column, ...] = ()
        self._decode: RowDecoder | None = None
        self._rows: Rows = []
        self._gathered = 0
        self._tag = b""
        self._count = 0
        self._error: PostgresError | None = None
        self._failure: Exception | None = None

    # -- what a wire decides ---------------------------------------------------------------------------------

    def _told(self, job: Preparing) -> None:
        """The server has answered a question about a statement."""
        raise NotImplementedError

    def _ask_late(self, job: Job) -> None:
        """The answer before this job's is over."""
        raise NotImplementedError

    def _check_columns(self) -> None:
        """The server has said which columns the rows have."""
        raise NotImplementedError

    def _take_error(self, error: PostgresError) -> None:
        """The server has said what is wrong."""
        raise NotImplementedError

    def _take_copy(self, kind: str) -> None:
        """What is said before and after the data of a COPY."""
        raise NotImplementedError

    def _ready_otherwise(self, work: Work[Any], job: Job, rows: Rows, count: int, bound: bool) -> None:
        """An error, or the end of an answer that no planned statement has."""
        raise NotImplementedError

    def _begins(self) -> None:
        """What was asked about the statement is answered; its own answer begins."""
        self._bound = False

    def _read_by(self, decode: RowDecoder | None) -> None:
        """The rows that come are read by this; None: as the job's statement says."""
        self._decode = decode

    def _taken_rows(self) -> Rows:
        """The rows that have come, for somebody else; the answer has none any more."""
        rows = self._rows
        self._rows, self._decode, self._count = [], None, 0
        return rows

    def _fails(self, failure: Exception) -> None:
        """Its unit fails with this at its end, whatever comes."""
        self._failure = failure

    def _refused(self, error: PostgresError) -> None:
        """The server has refused it: the same, unless it is sent again."""
        self._error = error

    def _wrong(self) -> tuple[PostgresError | None, Exception | None]:
        """What the server has refused it with, and what else has failed; forgotten with that."""
        wrong = self._error, self._failure
        self._error = self._failure = None
        return wrong

    # -- reading ---------------------------------------------------------------------------------------------

    def _read(self) -> Expectation | None:
        """Whole messages. The hot path of a client."""
        incoming = self._incoming
        if self._cut or (incoming is not None and incoming.blocked):
            return SLEEP
        stream, connection = self._stream, self.connection
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
                work = connection.current
                if work is not None and work.unit.counts:
                    self._count += messages.rows_of(self._tag)
            elif kind == READY:
                self._ready(data[end - 1])
                if connection.over:
                    return None
            elif kind == COPY_DATA and self._incoming is not None:
                end = self._incoming.take(data, at, size)
            elif kind == BIND_COMPLETE:
                self._bound = True
            else:
                self._take(chr(kind), data[at + 5 : end])
                if connection.over:
                    return None
            at = end
        stream.consume(at)
        expectation = self._waiting(data, at, size)
        if incoming is None and self._incoming is None:
            return expectation
        return self._copied(expectation)

    def _copied(self, expectation: Expectation | None) -> Expectation | None:
        """Hand on what has come of a copy, and read on when there is room for more."""
        incoming = self._incoming
        if incoming is not None:
            begun = incoming.hand_on(self.transport.scope)
            if begun is not None:
                self.connection.answer(begun)
            self.deadline = min(incoming.due, self.deadline) if self._orphaned else incoming.due
            if incoming.spent:
                self._cut_off()
                return SLEEP
            if incoming.blocked:
                return SLEEP
        return expectation or self._anything()

    def _waiting(self, data: bytes, at: int, size: int) -> Expectation | None:
        """A large message is waited for as a whole, so that it is not looked at again with each of its
        parts.
        """
        length = int.from_bytes(data[at + 1 : at + 5]) if size - at >= 5 else 0
        if length > LARGE and self._stream is self.transport:
            if length > MESSAGE_MAX:
                raise BadMessage(f"a message of {length} bytes (at most {MESSAGE_MAX})")
            self._sized = True
            return Bytes(length + 1)
        return self._anything() if self._sized else None

    def _anything(self) -> Bytes:
        """Whatever comes behind what is there."""
        left = len(self.transport.input)
        self._sized = left > 0
        return Bytes(left + 1) if left else ANYTHING

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
            elif kind == "3":
                job = self._jobs[0] if self._jobs else None
                if isinstance(job, Preparing) and job.asked:
                    self._told(job)
        elif kind == "t":
            self._types = messages.read_parameters(body)
        elif kind == "T":
            self._columns = messages.read_columns(body)
            self._check_columns()
        elif kind == "E":
            self._take_error(messages.read_error(body))
        elif kind == "S":
            messages.check_status(body)
        elif kind == "A":
            pass  # a notification that nobody listens for
        elif kind in "GHWdc":
            self._take_copy(kind)
        else:
            raise BadMessage(f"a message {kind!r} that has no place here")

    def _ready(self, status: int) -> None:
        """The end of one answer."""
        work = self.connection.current
        if work is None or not self._jobs:
            raise BadMessage("the end of an answer that nothing had asked for")
        job = self._jobs.popleft()
        self.status = status
        rows, self._rows = self._rows, []  # the list is the asker's from now on, empty or not
        self._gathered = 0
        count, self._count = self._count, 0
        self._decode = None
        bound, self._bound = self._bound, False
        if self._error is not None or self._failure is not None or job.__class__ is not Statement:
            self._ready_otherwise(work, job, rows, count, bound)
        elif status != IDLE and work.stage != EXCHANGE:
            self.connection.fail(LeftOpen(), reusable=False)
        elif work.settled:
            self.connection.settle(None)
        else:
            self._answer(work, job, rows, count)
        if not self.writable and self._jobs:
            self._ask_late(self._jobs[0])
        if self._orphaned:
            self._orphaned -= 1
            self._look_at_orphans()

    def _answer(self, work: Work[Any], job: Statement, rows: Rows, count: int) -> None:
        try:
            value = work.unit.result(rows, job, count)
        except Exception as error:
            self.connection.fail(error)
        else:
            self.connection.settle(value)
