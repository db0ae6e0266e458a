"""Connections to backends: each is an explicit state table, and drives one wire.

Rules:
1. `TABLE` holds every transition there is. An event that a state has no entry for raises `Misuse` and changes
   nothing.
2. The FIFO of works in flight lives and dies with the connection. Answers settle its head, whatever became of
   the asker: the answer to an orphan is read and dropped, so no answer ever reaches another unit.
3. Nothing but the FIFO's end makes a connection idle. One whose unit ran past its deadline drains: it takes
   nothing new, lets its living neighbours finish, and is closed when only orphans are left.
4. There is one way out, `_leave`. What becomes of the units is decided by how far they got; who is to blame,
   by what happened (see `blame`): `ended_by_backend` is set where the backend is what ends the connection.
5. A connection whose unit waited in vain, without a byte, makes those that have been silent for as long
   suspects: each is probed before it is used again. A probe is an orphan from the first: nobody waits for it,
   and if it is late its connection is retired.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from actors import (
    ANYTHING,
    NEVER,
    UNCHANGED,
    Connector,
    Continue,
    Expectation,
    Misuse,
    Outcome,
    Stop,
    StreamProtocol,
    Timeout,
    Transport,
)

from .backends import IDLE, NOWHERE, SHARING
from .errors import BackendError, DeadlineExceeded
from .exchanges import Driver, Exchange, Exchanges
from .ledger import PARTS, fail_all
from .states import TABLE, Event, State, next_state
from .suspects import leave, suspect_after_cancel, suspect_others
from .times import Times
from .units import ABANDONED, EXCHANGE, SENT, Unit, Work, named, not_sent, too_late

if TYPE_CHECKING:
    from .backends import Backend
    from .pool import Pool
    from .wires import Wire

__all__ = ["TABLE", "Event", "Connection", "State", "next_state"]


READY: Final = State.READY  # an enum's member costs 0.05 µs to look up, and these are for every unit
DRAINING: Final = State.DRAINING
DEAD: Final = State.DEAD


class Connection(StreamProtocol):
    """Drives one wire. Made by the pool; wires call the methods under "for the wire"."""

    __slots__ = (
        "_error",
        "_exclusive",
        "_fifo",
        "_handling",
        "_orphans",
        "_place",
        "_reported",
        "_successor",
        "backend",
        "completed",
        "driver",
        "ended_by_backend",
        "pool",
        "state",
        "times",
        "token",
        "transport",
        "wire",
    )

    drain_phase: ClassVar[int | None] = None  # the pool asks its connections itself
    ledger = PARTS  # of what it sends for itself: the exchanges of a unit

    def __init__(self, pool: Pool, backend: Backend, wire: Wire, now: float) -> None:
        self.pool = pool
        self.backend = backend
        self.wire = wire
        self.transport: Transport = None  # type: ignore[assignment]  # until connected
        self.token = -1
        self.state = State.CONNECTING
        self.driver: Driver | None = None  # of the unit of several exchanges that holds this connection
        self.completed = 0  # units
        self.ended_by_backend = False
        self.times = Times(now)
        self._fifo: deque[Work[Any]] = deque()
        self._orphans = 0  # of them
        self._exclusive = False  # what is in flight wants no company
        self._place = NOWHERE
        self._reported = 0  # in flight, as the backend knows
        self._handling = False  # inside a handler, which sees to the rest when it returns
        self._error: BaseException | None = None
        self._successor: StreamProtocol | None = None
        wire.connection = self

    def __repr__(self) -> str:
        orphans = f", {self._orphans} orphans" if self._orphans else ""
        return (
            f"<Connection {self.backend.address} {self.state.value}, {self.in_flight} in flight{orphans}, "
            f"{self.completed} done>"
        )

    @property
    def in_flight(self) -> int:
        """Units sent and not finished, orphans included."""
        return len(self._fifo) + (self.driver is not None)

    @property
    def over(self) -> bool:
        """Whether the connection has ended, for the pool; its socket may still be sending its last."""
        return self.state is DEAD

    @property
    def orphans(self) -> int:
        """Units in flight whose asker has gone."""
        return self._orphans

    @property
    def pending(self) -> int:
        """Units in flight whose reply has not settled."""
        driver = self.driver
        return sum(not work.settled for work in self._fifo if work.stage == SENT) + (
            driver is not None and not driver.work.settled
        )

    @property
    def due(self) -> float:
        """When something in flight, or the handshake, will be late; what was found late does not count."""
        if self.state is State.HANDSHAKING:
            return self.times.begun + self.pool.options.connect_timeout
        due = NEVER if self.driver is None else self.driver.work.deadline
        draining = self.state is DRAINING
        for work in self._fifo:
            if work.deadline < due and (
                not draining if work.stage == ABANDONED else work.stage == SENT and not work.settled
            ):
                due = work.deadline
        return due

    # -- for the wire ------------------------------------------------------------------------------

    @property
    def current(self) -> Work[Any] | None:
        """The work whose answer comes next."""
        return self._fifo[0] if self._fifo else None

    def ready(self) -> None:
        """The handshake is done."""
        self.state = next_state(self.state, Event.GREETED)
        self.times.is_ready(self.pool.loop.now, self.pool.dialling.ready(self))
        if not self._handling:
            self.update()

    def settle(self, value: Any, reusable: bool = True) -> Work[Any] | None:
        """The current unit's answer, complete. Gives the work whose answer comes next."""
        fifo = self._fifo
        if not fifo:
            raise BackendError(f"{self.backend.address} sent an answer that nothing had asked for")
        work = fifo.popleft()
        self.completed += 1
        if not work.settle(value) and work.stage == ABANDONED:
            self._orphans -= 1
        if not reusable:
            self._close_behind()
            return None
        if not self._handling:
            self.update()
        return fifo[0] if fifo else None

    def fail(self, error: BaseException, reusable: bool = True) -> None:
        """The current unit's answer is an error of the backend's own."""
        work = self._take_current()
        self.completed += 1
        work.fail(error)
        if not reusable:
            self._close_behind()
        elif not self._handling:
            self.update()

    def take_back(self, instead: Unit[Any] | None = None) -> None:
        """The current unit was certainly not executed, and not by its own fault: back into the queue, unless
        its asker has gone, from now on as the unit `instead` if that is given. Not for an exchange of a unit
        that holds the connection: `fail` that.

        The wire sees to it that this has an end (`Work.attempts`).
        """
        if self._fifo and self._fifo[0].stage == EXCHANGE:
            raise Misuse("take_back() of an exchange, whose unit goes on here; use fail(error)")
        work = self._take_current()
        if not work.settled:
            self.pool.ledger.take_back()
            if instead is not None:
                work.become(instead)
            self.pool.requeue([work])
        if not self._handling:
            self.update()

    def _take_current(self) -> Work[Any]:
        """The current unit leaves the connection."""
        if not self._fifo:
            raise BackendError(f"{self.backend.address} sent an answer that nothing had asked for")
        work = self._fifo.popleft()
        work.owner = self.pool
        if work.stage == ABANDONED:
            self._orphans -= 1
        return work

    def answer(self, value: Any) -> None:
        """Settle the current unit's reply; the unit stays current until `finish`."""
        if not self._fifo:
            raise BackendError(f"{self.backend.address} sent an answer that nothing had asked for")
        self._fifo[0].settle(value)

    def finish(self, reusable: bool = True) -> None:
        """The current unit, answered before, is over."""
        if self._fifo and not self._fifo[0].settled:
            raise Misuse("finish() before answer(); use settle(value)")
        self.settle(None, reusable)

    def give_up(self, error: BaseException) -> None:
        """The other side broke the protocol: the current unit fails with `error`, the connection closes."""
        self.ended_by_backend = True
        work = self.current
        if work is not None and work.stage != EXCHANGE:
            work.fail(error)
        self.close(error)

    def break_off(self, error: BaseException) -> None:
        """The unit sent last cannot be sent to its end, and the backend is not to blame (its source has
        failed, its asker has gone): it fails with `error`, the connection closes, those before it are treated
        as after a loss.
        """
        if self._fifo and self._fifo[-1].stage != EXCHANGE:
            work = self._fifo[-1]
            recorded = work.record(error)
            self.close(error)
            if recorded:
                work.tell()
        else:
            self.close(error)

    def elsewhere(self, error: BaseException) -> None:
        """The current unit's answer is about the server and not about the unit, which was certainly not
        executed: this is not the primary any more, say. The connection is left, and the unit sent again; it
        fails with `error` if leaving is of no use, or it was sent `attempts` times.
        """
        work, attempts = self.current, self.pool.options.attempts
        again = work is not None and work.stage == SENT and not work.settled and work.attempts < attempts
        if leave(self) and again:
            self.take_back()
        else:
            self.fail(error)

    def leave(self) -> bool:
        """This server is not the right one any more: take nothing new, here and on the other connections to
        this backend that were made before. False if that is of no use: this one is as good as new.
        """
        return leave(self)

    def wake(self) -> None:
        """Have the wire's `wakeup` called."""
        self.transport.scope.wake()

    def hand_over(self, protocol: StreamProtocol) -> None:
        """Give the connection to another protocol, from inside a handler. The current unit must have been
        answered.
        """
        if not self._handling:
            raise Misuse("hand_over() outside a wire's handler; call wake() and do it in wakeup")
        self.state = next_state(self.state, Event.UPGRADED)
        self._successor = protocol
        self.pool.tunnels.open(self)
        self._unlist()
        self._settle_flight(None)

    # -- for the pool ------------------------------------------------------------------------------

    def dial(self, connector: Connector) -> None:
        """Have the connection made."""
        try:
            self.token = self.pool.loop.spawn(connector)
        except Exception as error:
            self.close(error)

    def send(self, works: list[Work[Any]]) -> list[Work[Any]]:
        """Hand units to the wire, and return those that it does not take because one before them has changed
        what it can. The pool calls `update` afterwards, once for all that it sends.
        """
        wire, transport, fifo = self.wire, self.transport, self._fifo
        for number, work in enumerate(works):
            if not wire.writable or self.state is not READY:
                return works[number:]
            if not work.pending:
                continue  # what became of a unit before it has had it cancelled
            work.owner = self
            work.stage = SENT
            work.attempts += 1
            if not work.unit.pipelinable:
                self._exclusive = True
                if isinstance(work.unit, Exchanges):
                    self._begin(work)
                    continue
            before = transport.unsent  # from here on as `_write`: this is done for every unit
            fifo.append(work)
            try:
                wire.send(work)
            except Exception as error:
                self._not_written(work, before, error)
            else:
                if wire.writable:
                    work.wire_bytes = transport.unsent - before
        return []

    def _begin(self, work: Work[Any]) -> None:
        try:
            self.driver = Driver(self, work)
        except Exception as error:
            work.owner = self.pool
            work.fail(error)
            return
        self.transport.scope.wake()

    def exchange(self, work: Work[Any]) -> None:
        """Send a part of the unit of several exchanges that holds this connection."""
        work.owner = self
        work.stage = EXCHANGE
        self._write(work)

    def send_probe(self, unit: Any, deadline: float) -> None:
        """Send, instead of units, what nobody waits for: it is an orphan from the first."""
        probe: Exchange[Any] = Exchange(self, unit, deadline)
        probe.settle(None)
        probe.stage = ABANDONED
        self._orphans += 1
        self._exclusive = True
        self.pool.look_at(deadline)
        self._write(probe)
        self._unlist()

    def _write(self, work: Work[Any]) -> None:
        before = self.transport.unsent
        self._fifo.append(work)
        try:
            self.wire.send(work)
        except Exception as error:
            self._not_written(work, before, error)
        else:
            if self.wire.writable:
                work.wire_bytes = self.transport.unsent - before

    def _not_written(self, work: Work[Any], before: int, error: Exception) -> None:
        """The wire could not send a unit: it fails, and nobody else does by it.

        If it was begun, nothing can follow it here. Those before it that have not left either go back into
        the queue with the rest.
        """
        begun = self.transport.unsent - before
        if begun:
            work.wire_bytes = begun
        else:
            self._fifo.pop()
            self._orphans -= work.stage == ABANDONED
            work.owner = self.pool
        recorded = work.record(not_sent(work.unit, error, self.wire, self.pool.name))
        if begun:
            self.close(
                ConnectionAbortedError(
                    f"{named(work.unit)} could not be written whole: {type(error).__name__}"
                )
            )
        if recorded:
            work.tell()
        self.pool.end_of(work.unit)

    # structure: complexity 19: run for every answer; benchmarks job proxy-64x1, 1 % with it in two
    def update(self) -> None:
        """See that this connection is on the right list, and the pool awake if something waits for it."""
        if self.driver is not None and not self._fifo:
            self.driver.unoccupied()
        count = len(self._fifo)
        place = NOWHERE
        if self.driver is None:
            if self.state is READY:
                if self.wire.writable:
                    if count == 0:
                        place = IDLE
                        if self._place != IDLE:
                            self._fell_idle()
                    elif count < self.pool.options.pipeline and not self._exclusive:
                        place = SHARING
            elif self.state is DRAINING and count == self._orphans and not self.wire.lingers:
                self._retire_now(count)
                return
        in_flight = count + (self.driver is not None)
        if place != self._place or in_flight != self._reported:
            self.backend.holds(self, self._place, place, in_flight - self._reported)
            self._place, self._reported = place, in_flight
        if (place and self.pool.queue.live) or (self.pool.draining_now and count == self._orphans):
            self.pool.wake()

    def _fell_idle(self) -> None:
        self._exclusive = False
        self.times.idle = now = self.pool.loop.now
        if self.wire.keep_alive != NEVER:
            self.pool.look_at(now + self.wire.keep_alive)

    def _unlist(self) -> None:
        in_flight = self.in_flight
        self.backend.holds(self, self._place, NOWHERE, in_flight - self._reported)
        self._place, self._reported = NOWHERE, in_flight

    def left(self, work: Work[Any]) -> None:
        """Something in flight here has failed before its answer was there: an orphan from now on."""
        if work.stage == SENT:
            work.stage = ABANDONED
            driver = self.driver
            if driver is None or driver.work is not work:
                self._orphans += 1

    def cancelled(self, work: Work[Any]) -> None:
        """The asker of something in flight here has cancelled."""
        if work.stage == ABANDONED and self.state is not DEAD:
            driver = self.driver
            if driver is not None and driver.work is work:
                driver.cancel()
            self._tell_abandoned(work)
            self.pool.look_at(work.deadline)  # which may be an earlier one than it came with
            suspect_after_cancel(self, work, self.pool.loop.now)
            if not self._handling:
                self.update()

    def _tell_abandoned(self, work: Work[Any]) -> None:
        try:
            self.wire.abandoned(work)
        except Exception as failure:
            self.pool.clean_up_failed(failure, wire=type(self.wire).__name__)

    def expire(self, now: float) -> None:
        """At `due`: fail what is past its deadline, and drain if there was any."""
        if self.state is State.HANDSHAKING:
            self.close(
                TimeoutError(
                    f"{self.backend.address} did not finish its handshake in time; does it speak this "
                    "protocol, and does it want TLS or not?"
                )
            )
            return
        driver = self.driver
        if driver is not None and driver.work.deadline <= now:
            self._expire_driver(driver)
            return
        late = [work for work in self._fifo if work.deadline <= now and work.stage in (SENT, ABANDONED)]
        living = [work for work in late if not work.settled]
        if any(work.stage == ABANDONED for work in late) or living:
            fail_all([(work, self._late(work)) for work in living])
            for work in living:
                self._tell_abandoned(work)
            suspect_others(self, late[0], now)
            self.retire()

    def _late(self, work: Work[Any]) -> DeadlineExceeded:
        waited = self.pool.loop.now - work.since
        return too_late(work.unit, waited, "no answer", "sent", self.pool.name, str(self.backend.address))

    def _expire_driver(self, driver: Driver) -> None:
        work = driver.work
        error = self._late(work)
        work.fail(error)
        self._tell_abandoned(work)
        suspect_others(self, work, self.pool.loop.now)
        if self.wire.lingers:
            self._part(driver, error)
            self.retire()
        else:
            self.close(error)

    def _part(self, driver: Driver, error: Exception) -> None:
        """The unit of several exchanges ends, and what it has in flight is nobody's any more."""
        self.driver = None
        for exchange in self._fifo:
            if exchange.stage != ABANDONED:
                exchange.stage = ABANDONED
                self._orphans += 1
        fail_all([(exchange, error) for exchange in self._fifo])
        driver.lost(error)

    def retire(self) -> None:
        """Take nothing new; close when nothing living is left. At once if idle."""
        if self.state is READY:
            self.state = next_state(self.state, Event.RETIRED)
            self._unlist()
        if not self._handling:
            self.update()

    def _retire_now(self, orphans: int) -> None:
        if not orphans:
            try:
                self.wire.goodbye()
            except Exception as failure:
                self.pool.clean_up_failed(failure, wire=type(self.wire).__name__)
        self.close(None)

    def close(self, error: BaseException | None) -> None:
        """Close the connection: its units are settled or taken back now, its socket in this tick."""
        if self.state is DEAD:
            return
        state = self.state
        self._leave(error)
        if state is State.CONNECTING:
            self.pool.loop.kill(self.token, error)
        elif not self._handling:
            self.transport.scope.wake()

    def _close_behind(self) -> None:
        """The connection is not to be used after the unit that was just finished."""
        self._leave(None, len(self._fifo) if self.wire.spares_behind else -1)
        if not self._handling:
            self.transport.scope.wake()

    def _leave(self, error: BaseException | None, unsent: int = -1) -> None:
        """The one way out."""
        before = self.state
        self.state = next_state(before, Event.ENDED)
        self._error = error
        self._unlist()
        if unsent < 0:
            unsent = self._count_unsent()
        if before is not State.CONNECTING and before is not State.HANDED_OVER:
            self._tell_wire(error)
        self.pool.connection_gone(self, before, error, asked=self.in_flight > unsent)
        self._settle_flight(error, unsent)

    def _tell_wire(self, error: BaseException | None) -> None:
        try:
            self.wire.closed(error)
        except Exception as failure:  # the units are settled whatever the wire does
            self.pool.clean_up_failed(failure, wire=type(self.wire).__name__)

    def _settle_flight(self, error: BaseException | None, unsent: int = 0) -> None:
        works = list(self._fifo)
        self._fifo.clear()
        self._orphans = 0
        driver, self.driver = self.driver, None
        self._unlist()
        if works:
            self.pool.take_back(self, works, len(works) - unsent, error)
        if driver is not None:
            driver.lost(error)

    def _count_unsent(self) -> int:
        """How many works at the FIFO's end have certainly not left: their bytes all still stand in the
        output.
        """
        transport = self.transport
        left = 0 if transport is None or transport.output is None else transport.unsent
        count = 0
        for work in reversed(self._fifo):
            if work.wire_bytes < 0 or work.wire_bytes > left:
                break
            left -= work.wire_bytes
            count += 1
        return count

    def restored(self) -> None:
        """The unit of several exchanges is over, and the connection clean."""
        self.driver = None
        self.completed += 1

    # -- for the stream ----------------------------------------------------------------------------

    def connected(self, transport: Transport) -> Outcome:
        """Begin the wire's handshake."""
        self.transport = transport
        self.wire.transport = transport
        self.state = next_state(self.state, Event.CONNECTED)
        self._handling = True
        try:
            expectation = self.wire.start()
        except BackendError as error:
            self.give_up(error)
            expectation = None
        if self.state is State.HANDSHAKING:
            self.pool.look_at(self.due)
        return self._go_on(ANYTHING if expectation is None else expectation)

    def received(self, transport: Transport) -> Outcome:
        """Have the wire read. What comes unasked on an idle connection ends it."""
        self._handling = True
        self.times.heard = self.pool.loop.now
        if self._place == IDLE and not self.wire.pushes:
            self.close(BackendError(f"{self.backend.address} sent {bytes(transport.input[:64])!r} unasked"))
            return self._go_on(None)
        try:
            expectation = self.wire.received()
        except BackendError as error:
            self.give_up(error)
            expectation = None
        return self._go_on(expectation)

    def flushed(self, transport: Transport) -> Outcome:
        """The output has drained."""
        return self._handle(self.wire.flushed)

    def ended(self, transport: Transport) -> Outcome:
        """The peer's end: news for the wire if something is in flight, otherwise a kept-alive connection that
        timed out there."""
        return self._handle(self._ended)

    def _ended(self) -> Expectation | None:
        expectation = None
        if self._fifo or self.state is State.HANDSHAKING:
            expectation = self.wire.ended()
        if expectation is None and self._successor is None:
            self.ended_by_backend = True
            self.close(ConnectionResetError(f"{self.backend.address} closed the connection"))
        return expectation

    def wakeup(self, transport: Transport) -> Outcome:
        """For the unit that holds this connection, and for the wire."""
        if self.over:
            return Stop(self._error)
        self._handling = True
        if self.driver is not None:
            self.driver.advance()
        return self._go_on(None) if self.over else self._handle(self.wire.wakeup)

    def timeout(self, transport: Transport) -> Outcome:
        """The wire's own deadline."""
        self.wire.deadline = NEVER
        return self._handle(self.wire.timeout)

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """The connection is over, or was never made."""
        if self.state is not DEAD:
            self.ended_by_backend = isinstance(error, OSError)
            self._leave(error or ConnectionAbortedError("the connection was stopped"))

    def _handle(self, handler: Callable[[], Expectation | None]) -> Outcome:
        self._handling = True
        try:
            expectation = handler()
        except BackendError as error:
            self.give_up(error)
            expectation = None
        return self._go_on(expectation)

    def _go_on(self, expectation: Expectation | None) -> Outcome:
        self._handling = False
        if self.state is DEAD:
            return Stop(self._error)
        if self._successor is not None:
            return self._successor.connected(self.transport)
        self.update()
        if self.over:  # it was draining, and only orphans are left
            return Stop(self._error)
        deadline = self.wire.deadline
        if expectation is None and deadline == self.transport.scope.deadline:
            return UNCHANGED
        if deadline == NEVER:
            return Continue(self, expectation)
        return Timeout(self, deadline, expectation)
