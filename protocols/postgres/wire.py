"""The client's side of one connection of a pool: units out, answers in, in order.

Rules:
1. Every unit ends with a Sync, and its answer with ReadyForQuery: an error skips to there and no further.
2. What was sent is told by `_jobs`, one per work in the connection's FIFO: the statement whose answer comes,
   or a mark.
3. A statement that this connection does not know is described first, by itself (`preparing`); meanwhile
   nothing else is sent. Where nothing stays prepared it is introduced in the same write that uses it, by
   what another server has said of it; its rows are read by what its own server says of them.
4. A statement that the server has forgotten, or that no longer fits the tables and types that it is about,
   has not been executed if it was not bound: the unit goes back to the queue, and is described anew whichever
   connection gets it. Inside a transaction, which such an error ends, it is the unit's error.
   It is described anew when a parameter does not fit as well, but not all the time.
5. What is executed and nobody waits for is ended by a CancelRequest (`orphans`). A neighbour that it hits was
   not executed either, and goes back to the queue.
6. A COPY goes by the simple protocol. From its statement to the end of its data nothing else is sent; what
   comes out of one is read no faster than its reader takes it (`copying`).
7. A connection is clean when its last ReadyForQuery said idle. One that a unit outside of a transaction
   leaves otherwise is closed.
"""

from __future__ import annotations

from typing import Any, Final

from actors import ANYTHING, NEVER, SLEEP, Bytes, Expectation, Flush
from pools import DeadlineExceeded, HeldAcrossBackends, Unit, Work
from pools.units import EXCHANGE, SENT

from . import messages
from .answers import AnswersWire
from .copy.transfer import Incoming, Outgoing
from .copy.units import CopyIn, CopyOut
from .errors import (
    INVALID_NAME,
    BadMessage,
    LeftOpen,
    PostgresError,
    Turned,
    is_invalid,
    is_outdated,
)
from .orphans import Job, Mark
from .preparing import Preparing, decode_found
from .rows import skip_rows
from .session import Session
from .startup.handshake import Settings
from .startup.negotiate import Opening
from .statements import Statement, Statements, Utility
from .transactions import IDLE, ROLLBACK
from .units import Command, Fetch, Rows, SqlUnit

__all__ = ["PostgresWire"]

DOUBT_SECONDS: Final = 1.0  # without another doubt when the last was unfounded
SENDS_MAX: Final = 3  # of one unit whose statement is invalid each time

CANCELED: Final = "57014"
READ_ONLY: Final = "25006"
EMPTY: Final = Command("")  # answered by every server and pooler, and by nothing else
SENT_ALL: Final = Flush(0)

SIMPLE: Final = Mark()


class PostgresWire(AnswersWire):
    """Protocol 3.0 over one connection of a pool. `result_bytes`: how much one unit's rows may have."""

    __slots__ = (
        "_known",
        "_opening",
        "_sending",
        "_session",
        "_settings",
    )

    takes = (SqlUnit, Command, CopyIn, CopyOut)
    pushes = True  # notices, settings, its own end

    def __init__(self, settings: Settings, statements: Statements, result_bytes: int) -> None:
        super().__init__(result_bytes)
        self._settings = settings
        self._session = Session(statements)
        self._known = self._session.known
        self._opening: Opening | None = None  # until the server is ready
        self._sending: Outgoing | None = None  # the last job, if it is a copy whose data is being sent

    def __repr__(self) -> str:
        state = "starting" if self._opening is not None else chr(self.status)
        return f"<PostgresWire {state}, {len(self._jobs)} answers to come, {len(self._known)} statements>"

    # -- start-up ----------------------------------------------------------------------------------

    def start(self) -> Expectation | None:
        """TLS or not, then who we are."""
        self._stream = self.transport
        self._opening = Opening(self._settings, self.transport)
        self._opening.begin()
        return ANYTHING

    def _open(self, opening: Opening) -> bool:
        """Whether the start-up is done."""
        done = opening.take()
        self._stream = opening.stream
        if done:
            self._process, self._secret = opening.process, opening.secret
            self._session.begin(self.transport.scope.kernel.random())
            self._opening = None
            self._sized = True
            self.connection.ready()
        return done

    # -- units -------------------------------------------------------------------------------------

    def send(self, work: Work[Any]) -> None:
        """Write the unit, or the question what it takes."""
        unit = work.unit
        if not self.writable:
            self._put_off(work, unit)
            return
        if unit.__class__ is not Fetch and self._send_otherwise(work):
            return
        known = self._known.get(unit.sql)
        if known.__class__ is not Statement or work.attempts > 1:
            self._send_apart(work, unit, known)
            return
        try:
            encoded = unit.encode(known)
        except ValueError as misfit:
            self._doubt_types(work, known, misfit)
        else:
            self._stream.write(encoded)
            self._jobs.append(known)

    def _send_apart(self, work: Work[Any], unit: SqlUnit[Any], known: Statement | None) -> None:
        """What is not known, not planned, or sent again: what was refused elsewhere may be untrue here."""
        known = known or self._session.guess(unit.sql)
        if known is None or work.attempts > 1:
            self._prepare(work)
        elif isinstance(known, Utility) and known.by_portal and not unit.counts:
            self._prepare(work, known)
        else:
            try:
                encoded = unit.encode(known)
            except ValueError as misfit:
                self._doubt_types(work, known, misfit)
            else:
                self._stream.write(encoded if known.name else known.introduction + encoded)
                self._jobs.append(known)

    def _doubt_types(self, work: Work[Any], known: Statement | None, misfit: ValueError) -> None:
        """A parameter does not fit: its type may have changed."""
        if known is None or self.transport.scope.now - known.confirmed < DOUBT_SECONDS:
            raise misfit
        self._session.forget(known)
        self._prepare(work, doubted=known)

    def _send_otherwise(self, work: Work[Any]) -> bool:
        """What goes by the simple protocol. False if it does not."""
        unit = work.unit
        if isinstance(unit, Command):
            self._stream.write(unit.encoded)
            self._jobs.append(SIMPLE)
        elif isinstance(unit, CopyIn | CopyOut):
            self._send_copy(work, unit)
        else:
            return False
        return True

    def _send_copy(self, work: Work[Any], unit: CopyIn | CopyOut) -> None:
        """The statement; of records after their types are known."""
        if isinstance(unit, CopyIn):
            work.when_settled(unit.settled)
            if work.stage == EXCHANGE and not unit.lasting:
                raise HeldAcrossBackends(
                    "a copy inside a transaction cannot wait for a channel, and its body may run again: "
                    "give it bytes, or a list in place of an iterator"
                )
        if unit.sql:
            self._prepare(work)
        else:
            self._jobs.append(self._begin_copy(work, ()))

    def _begin_copy(self, work: Work[Any], columns: tuple[messages.Column, ...]) -> Outgoing | Incoming:
        """Write the statement; the job that it is."""
        unit: CopyIn | CopyOut = work.unit
        if isinstance(unit, CopyOut):
            job: Outgoing | Incoming = Incoming(work, columns, self._result_bytes)
        else:
            job = Outgoing(unit, columns)
        self._stream.write(messages.simple_query(unit.statement(columns)))
        if isinstance(job, Outgoing):
            self._sending = job
            self.writable = False
        return job

    def _prepare(
        self, work: Work[Any], known: Statement | None = None, doubted: Statement | None = None
    ) -> None:
        """Ask what it takes and gives. Until that is answered nothing else is sent, and nothing is
        executed.
        """
        job = Preparing(work.unit, self._session, known, doubted)
        if not self._jobs or work.stage == EXCHANGE:
            self._stream.write(job.begin())
        self._jobs.append(job)
        self.writable = False
        work.wire_bytes = 0  # lost with the connection, it was not executed

    def _ask_late(self, job: Job) -> None:
        """What is before it was answered, after which a pooler may have given its server to somebody else."""
        work = self.connection.current
        if isinstance(job, Preparing) and not job.begun and work is not None:
            try:
                self._stream.write(job.begin())
            except Exception as error:
                self._go_ahead(work, job, error)

    def _told(self, job: Preparing) -> None:
        """The server has answered: the next question, or the unit."""
        work = self.connection.current
        assert work is not None
        now, rows = self.transport.scope.now, self._taken_rows()
        try:
            question = (
                job.looked_up(rows, now) if job.asked else job.described(self._types, self._columns, now)
            )
        except Exception as error:
            self._go_ahead(work, job, error)
            return
        if question:
            self._stream.write(question)
            self._read_by(decode_found if job.asked else None)
        else:
            self._go_ahead(work, job)

    def _go_ahead(self, work: Work[Any], job: Preparing, error: Exception | None = None) -> None:
        """All is known: the unit itself, if it is still wanted and can be encoded, and those that had to
        wait.
        """
        self.writable = True
        self._begins()
        work.wire_bytes = -1
        try:
            if error is not None or work.settled:
                self._jobs[0] = self._withdraw(error)
            elif job.statement is None:
                self._jobs[0] = self._begin_copy(work, job.columns)
            else:
                self._stream.write(self._session.closing() + work.unit.encode(job.statement))
                self._jobs[0] = job.statement
        except Exception as unfit:
            self._jobs[0] = self._withdraw(unfit)
        self._catch_up()

    def _withdraw(self, error: Exception | None) -> Mark:
        """It is not to be done after all."""
        self._stream.write(messages.SYNC)
        return Mark(error)

    def _catch_up(self) -> None:
        """Those that had to wait."""
        while self._backlog and self.writable:
            self._send_late(self._backlog.popleft())

    def _send_late(self, work: Work[Any]) -> None:
        """`send`, for one that is in the FIFO already: a Sync stands for what cannot be encoded."""
        work.wire_bytes = -1
        try:
            self.send(work)
        except Exception as error:
            self._jobs.append(self._withdraw(error))

    # -- answers -----------------------------------------------------------------------------------

    def received(self) -> Expectation | None:
        """Whatever phase the connection is in."""
        opening = self._opening
        if opening is not None and not self._open(opening):
            return opening.expectation
        return self._go_on()

    def _go_on(self) -> Expectation | None:
        """Read what is there, and feed a copy that has room."""
        stream = self._stream
        if stream is not self.transport:
            stream.pull()  # type: ignore[attr-defined]
        expectation = self._read()
        return expectation if self._sending is None else self._feed(expectation)

    def _feed(self, expectation: Expectation | None = None) -> Expectation | None:
        """Send more of a copy's data, and say what is waited for: the server, and room."""
        sending = self._sending
        if sending is None or self.connection.over:
            return expectation
        more = sending.pump(self._stream, self.transport)
        reading = expectation if isinstance(expectation, Bytes) else self._anything()
        return (reading, SENT_ALL) if more else reading

    def _take_copy(self, kind: str) -> None:
        """What is said before and after CopyData, which is read elsewhere."""
        job = self._jobs[0] if self._jobs else None
        if kind == "G" and isinstance(job, Outgoing):
            job.begin(self.transport.scope)
        elif kind == "G" and isinstance(job, Incoming):
            job.failure = ValueError("the statement takes data: postgres.copy_in is for that")
            self._stream.write(messages.copy_fail(str(job.failure)))
        elif kind in "Hdc" and isinstance(job, Outgoing):
            job.abandon(ValueError("the statement gives data: postgres.copy_out is for that"))
        elif kind == "H" and isinstance(job, Incoming):
            self._incoming = job
        elif kind != "c" or self._incoming is None:
            raise BadMessage("a COPY out of place; postgres.copy_in and postgres.copy_out make units of it")

    def _check_columns(self) -> None:
        """The server's own word: what was asked for, or what a guess is held against."""
        job = self._jobs[0] if self._jobs else None
        if isinstance(job, Preparing):
            self._told(job)
        elif isinstance(job, Statement) and self._columns != job.columns:
            self._session.forget(job)
            work = self.connection.current
            if job.fits(self._columns):
                self._jobs[0] = job.with_columns(self._columns)
                return
            self._read_by(skip_rows)
            if work is not None and not work.unit.counts:
                self._fails(Turned())
                self._session.forget_all()

    def _take_error(self, error: PostgresError) -> None:
        if error.severity in ("FATAL", "PANIC"):
            self.connection.close(error)
        elif self._jobs:
            self._refused(error)
            job = self._jobs[0]
            if isinstance(job, Outgoing):
                job.refused(error)
            elif isinstance(job, Preparing):
                self._stream.write(messages.SYNC)
        else:
            raise error

    def _ready_otherwise(self, work: Work[Any], job: Job, rows: Rows, count: int, bound: bool) -> None:
        """An error, or no planned statement's answer."""
        error, failure = self._wrong()
        if isinstance(job, Outgoing | Incoming):
            self._end_copy(work, job, error, count)
        elif error is not None:
            self._fail(work, job, error, bound)
        elif failure is not None:
            self._put_back(work, failure, isinstance(failure, Turned) and work.unit.idempotent)
        elif isinstance(job, Mark) and job.error is not None:
            self.connection.fail(job.error)
        else:
            self._session.done(self._tag, self.status == IDLE)
            if self.status != IDLE and work.stage != EXCHANGE:
                self.connection.fail(LeftOpen(), reusable=False)
            elif isinstance(job, Statement) and not work.settled:
                self._answer(work, job, rows, count)
            else:
                self.connection.settle(self._tag)

    def _end_copy(
        self, work: Work[Any], job: Outgoing | Incoming, error: PostgresError | None, count: int
    ) -> None:
        """A copy is over, one way or the other."""
        self.deadline = NEVER
        if isinstance(job, Outgoing):
            self._sending = None
            self.writable = True
            failure = job.outcome(error)
        else:
            self._incoming = None
            failure = job.failure or error
        self._catch_up()
        reusable = self.status == IDLE or work.stage == EXCHANGE
        value: Any = count
        if failure is None and not reusable:
            failure = LeftOpen()
        if failure is None and isinstance(job, Incoming):
            try:
                value = job.value(self.transport.scope, count)
            except Exception as unreadable:
                failure = unreadable
        if failure is None:
            self.connection.settle(value)
            return
        if isinstance(job, Incoming):
            job.fail(failure)
        self.connection.fail(failure, reusable)

    def _fail(self, work: Work[Any], job: Job, error: PostgresError, bound: bool) -> None:
        """An error; one that says that the unit was not executed, and is not its fault, has it sent again."""
        again = error.sqlstate == CANCELED and self._cancelled is not None
        statement = job.statement if isinstance(job, Preparing) else job
        guessed = isinstance(job, Statement) and not job.name and not bound
        if isinstance(statement, Statement) and (is_invalid(error) or is_outdated(error, guessed)):
            self._doubt(work, statement, error, bound)
            again = not bound
        if error.sqlstate == READ_ONLY:
            self._read_only(work, error)
        else:
            self._put_back(work, error, again)
        if isinstance(job, Preparing):
            self.writable = True
            self._catch_up()

    def _read_only(self, work: Work[Any], error: PostgresError) -> None:
        """This server is a standby, perhaps since a moment ago. One statement that says so had no effect; a
        transaction may be one that was begun as read only.
        """
        if work.stage == EXCHANGE:
            self.connection.leave()
            self.connection.fail(error)
        else:
            self.connection.elsewhere(error)

    def _put_back(self, work: Work[Any], error: Exception, again: bool) -> None:
        if again and work.stage == SENT and not work.settled and work.attempts < SENDS_MAX:
            self.connection.take_back()
        else:
            self.connection.fail(error)

    def _doubt(self, work: Work[Any], statement: Statement, error: PostgresError, bound: bool) -> None:
        """What was known of it is true no more."""
        error.stale = True
        session = self._session
        kept = session.forget(statement)
        if error.sqlstate == INVALID_NAME and kept and not bound:
            session.vanished(self.connection.pool)
        elif work.stage == EXCHANGE and not bound:
            session.turned(statement, is_invalid(error))

    # -- what else happens -------------------------------------------------------------------------

    def flushed(self) -> Expectation | None:
        """Room for more of a copy's data."""
        return self._feed()

    def wakeup(self) -> Expectation | None:
        """A copy's source has more, the reader of one has made room, or somebody does not wait any more."""
        if self._cut:
            self._end_cut()
            return SLEEP
        if self._sending is not None:
            return self._feed()
        return self._go_on() if self._incoming is not None else None

    def ended(self) -> Expectation | None:
        """What has come of a copy that stands still may be all of it."""
        return SLEEP if self._incoming is not None and self._incoming.blocked else None

    def timeout(self) -> Expectation | None:
        """A copy has stood still for too long, or what is left of it takes too long."""
        incoming = self._incoming
        if incoming is None:
            self._look_at_time()
        else:
            incoming.fail(
                DeadlineExceeded(
                    "a copy has stood still for too long, on the side of its server or of its reader"
                )
            )
            self._cut_off()
        return None

    def probe(self) -> Unit[Any] | None:
        """The empty query."""
        return EMPTY

    def restore(self) -> Unit[Any] | None:
        """After a transaction whose body has not ended it."""
        return None if self.status == IDLE else ROLLBACK

    def goodbye(self) -> None:
        """Terminate."""
        self._stream.write(messages.TERMINATE)

    def closed(self, error: BaseException | None) -> None:
        """There is nothing to linger for."""
        if self._incoming is not None:
            self._incoming.lost(error)
        self._sending = self._incoming = None
        self.transport.input = b""
        self._jobs.clear()
        self._backlog.clear()
        self._taken_rows()
