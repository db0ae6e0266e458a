"""Pools: the machine that owns the connections to one kind of backend. A caller submits a unit and gets a
reply.

Rules:
1. There is no `acquire`. `submit` only queues and wakes the pool; one plan per wakeup sends what waits (see
   `assignment`).
2. Every unit settles exactly once, and is counted exactly once: submitted = succeeded + failed + queued + in
   flight.
3. A deadline counts queue wait, connecting and work together. The pool has one timer for all of them, a lower
   bound that is corrected when it fires; a deadline may be noticed late by a microsecond per unit that waits,
   never early.
4. A unit that was not sent is never lost with a connection; one that was is sent again only if it is
   idempotent, has tries left, and the retry budget allows it.
5. A backend that cannot be connected to is left alone for its backoff. When none is left, what waits and what
   comes fails with `BackendDown` at once instead of waiting for its deadline.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final, Self, TypeVar

from msgspec.structs import force_setattr

from actors import (
    NEVER,
    Address,
    Backoff,
    Continue,
    Machine,
    Outcome,
    Reply,
    Retry,
    Scope,
    Stop,
    Stream,
    Timeout,
)
from actors.net.streams import StreamOwner
from actors.telling import told, words_of

from .assignment import assign, forgiving
from .backends import Backend, PoolStatistics
from .connections import Connection, State
from .dialling import Dialling
from .endpoints import Endpoint, as_endpoint
from .errors import ConnectionLost, DeadlineExceeded, PoolClosed, QueueFull, Stage
from .kinds import For, Kind
from .ledger import Ledger, fail_all
from .options import PoolOptions
from .queues import PRIORITIES, UnitQueue
from .tunnels import Tunnels
from .units import QUEUED, SENT, Unit, Work, no_unit, too_late
from .wires import Wire

__all__ = ["Pool", "PoolSpec", "pool"]

T = TypeVar("T")

LATENESS: Final = 1e-6  # seconds by which a deadline may be noticed late, per unit that waits
BACKOFF_SEVERAL: Final = Backoff(1.0, 32.0)
BACKOFF_ALONE: Final = Backoff(0.02, 0.5)  # the only backend is asked again soon: waiting would help nobody


class Pool(For[Kind], StreamOwner, Machine[Any]):
    """Owns the connections to some backends, and has units done on them. `pools.pool` and the protocols'
    functions describe one, `loop.spawn` makes it.
    """

    __slots__ = (
        "dialling",
        "ended",
        "_next",
        "_plan",
        "_turn",
        "backends",
        "budget",
        "choose",
        "draining_now",
        "ledger",
        "loop",
        "name",
        "options",
        "queue",
        "scope",
        "tunnels",
    )

    drain_phase = 1

    def __init__(
        self,
        options: PoolOptions[Any],
        wire: Callable[[], Wire],
        endpoints: Iterable[Endpoint],
        scope: Scope,
        name: str | None = None,
    ) -> None:
        self.options = options
        self.scope = scope
        self.loop = scope.loop
        endpoints = list(endpoints)
        backoff = options.backoff or (BACKOFF_ALONE if len(endpoints) == 1 else BACKOFF_SEVERAL)
        self.backends = [Backend(each, Retry(backoff, scope.kernel.random())) for each in endpoints]
        self.name = name or options.name or ", ".join(str(each.address) for each in self.backends[:3])
        self.queue = UnitQueue(options.queue, options.queue_bytes)
        self.budget = options.budget.begun()
        self.choose = forgiving(options.choose, self._choose_failed)
        self.tunnels = Tunnels(options.tunnels)
        self.ledger = Ledger()
        self.draining_now = False
        self.ended = False
        self._turn = 0  # the backend that is preferred among equals
        self._plan: list[tuple[Work[Any], Connection]] = []  # what is just being sent
        self._next = NEVER  # when the timer must fire at the latest
        self.dialling = Dialling(self, wire)

    def __repr__(self) -> str:
        state = "stopped" if self.ended else "draining" if self.draining_now else "open"
        connections = sum(backend.connections for backend in self.backends)
        in_flight = sum(backend.in_flight for backend in self.backends)
        return (
            f"<Pool {self.name} {state}, {len(self.queue)} queued, "
            f"{in_flight} in flight on {connections} connections>"
        )

    # -- for whoever asks --------------------------------------------------------------------------

    def submit(self, unit: Unit[T, Kind], timeout: float | None = None, priority: int = 0) -> Reply[T]:
        """Have a unit done within `timeout` seconds (the pool's default if None; a surrounding `deadline()`
        if that is earlier).

        `priority` 0 goes first, 3 last. Whatever happens is told by the reply: its value, or an error from
        `pools.errors`.
        """
        try:
            detour = unit.detour
        except AttributeError:
            if isinstance(unit, Unit):
                raise  # its own
            raise no_unit(unit) from None
        if detour is not None:
            apart = detour(self, timeout, priority)
            if apart is not None:
                return apart
        loop = self.loop
        due = loop.deadline_in(self.options.timeout if timeout is None else timeout)
        if priority and not 0 <= priority < PRIORITIES:
            raise ValueError(f"priority={priority}; write 0 (first) to {PRIORITIES - 1}")
        size = unit.size
        queue = self.queue
        if (
            queue.live >= queue.limit
            or queue.bytes >= queue.bytes_max
            or self.dialling.down_until > loop.now
            or self.draining_now
        ):
            refused: Work[T] = Work(self, unit, due, priority, loop.now)
            self._refuse([(refused, self._refusal(loop.now))])
            return refused
        scope = self.scope
        if not scope.woken:
            scope.wake()  # raises in a thread that is not the loop's
        work: Work[T] = Work(self, unit, due, priority, loop.now)
        queue.push(work, size)
        if due < self._next:
            self._next = due
        return work

    def submit_apart(self, lane: str, unit: Unit[T], timeout: float | None, priority: int) -> Reply[T] | None:
        """For a unit's detour: to the connections that this pool keeps for units of its kind. None: it keeps
        none, or no more; the unit takes its turn with the others.
        """
        return None

    def _refusal(self, now: float) -> Exception:
        if self.ended or self.draining_now:
            done = "has stopped" if self.ended else "drains"
            return PoolClosed(f"the pool of {self.name} {done}; the unit was not sent")
        if self.dialling.down_until > now:
            return self.dialling.down_error()
        self.loop.log.warning(
            "queue full", cause=f"queue full {self.name}", pool=self.name, queued=len(self.queue)
        )
        return QueueFull(f"{len(self.queue)} units already wait for {self.name}; the unit was not sent")

    def renew_tls(self, tls: ssl.SSLContext | None) -> None:
        """Connections from now on are made with this context, to those backends that are spoken to by TLS."""
        for backend in self.backends:
            backend.renew_tls(tls)

    def drain(self) -> None:
        """Take no more units, finish those that are there, then stop."""
        self.draining_now = True
        self.wake()

    def statistics(self) -> PoolStatistics:
        """What the pool has done so far, and what is there now."""
        connections = [connection for backend in self.backends for connection in backend.all]
        return PoolStatistics(
            submitted=self.ledger.submitted,
            succeeded=self.ledger.succeeded,
            failed=dict(self.ledger.failures),
            queued=len(self.queue) + len(self._planned()),
            in_flight=sum(connection.pending for connection in connections),
            orphans=sum(connection.orphans for connection in connections),
            retried=self.ledger.retried,
            taken_back=self.ledger.taken_back,
            connections=len(connections),
            tunnels=len(self.tunnels),
            opened=sum(backend.opened for backend in self.backends),
            closed=sum(backend.closed for backend in self.backends),
            lost=sum(backend.lost for backend in self.backends),
            connects_failed=sum(backend.connects_failed for backend in self.backends),
            backends=[backend.statistics() for backend in self.backends],
        )

    # -- machine -----------------------------------------------------------------------------------

    def handle(self, scope: Scope) -> Self:
        """Spawning gives the pool itself."""
        return self

    @property
    def token(self) -> int:
        """The machine's token."""
        return self.scope.token

    @property
    def timeout_default(self) -> float:
        """The deadline of a unit that is given none (seconds)."""
        return self.options.timeout

    def start(self, scope: Scope) -> Outcome:
        """Open the warm connections."""
        if self.options.warm:
            scope.wake()
        return Continue(self)

    def wake(self) -> None:
        """Have the pool look at what waits, in this tick."""
        self.scope.wake()

    def wakeup(self, scope: Scope) -> Outcome:
        """Send what can be sent, open what is to be opened."""
        now = scope.loop.now
        if now >= self._next:
            self._sweep(now)
        if now >= self.budget.next_look:
            self.budget.look(now, self.ledger.submitted)
        if self.options.warm and not self.draining_now:
            self.dialling.keep_warm(now)
        if self.queue.live:
            self._dispatch(now)
        if self.draining_now and not self._busy:
            for backend in self.backends:
                for connection in list(backend.idle):
                    connection.retire()  # in good order, with what its protocol says at the end
            return Stop()
        return Timeout(self, self._next)

    timeout = wakeup

    @property
    def _busy(self) -> bool:
        """Whether something is there that a drain waits for: not for orphans, whose answers nobody wants."""
        return bool(self.queue.live or self.tunnels) or any(
            connection.in_flight > connection.orphans
            for backend in self.backends
            for connection in backend.all
        )

    def draining(self, scope: Scope) -> Outcome:
        """The loop drains."""
        self.draining_now = True
        return self.wakeup(scope)

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """Settle everything, close every connection."""
        self.draining_now = self.ended = True
        closed = PoolClosed(f"the pool of {self.name} has stopped")
        self._refuse([(work, closed) for work in [*self._planned(), *self.queue]])
        for backend in self.backends:
            for connection in list(backend.all):
                connection.close(closed)
        for stream in list(self.tunnels):
            self.loop.kill(stream.scope.token)

    def stream_stopped(self, stream: Stream) -> None:
        """A connection that was handed over is closed."""
        connection = self.tunnels.pop(stream, None)
        if connection is not None:
            connection.stopped(stream, None)

    # -- sending -----------------------------------------------------------------------------------

    def _dispatch(self, now: float) -> None:
        queue = self.queue
        try:
            sends, opens = assign(
                queue,
                queue.live,
                self.backends,
                depth=self.options.pipeline,
                connections_max=self.options.connections,
                now=now,
                choose=self.choose,
                first=self._turn,
            )
        except Exception:
            if not self._refuse_unplannable():
                raise
            return
        if sends:
            self._turn = (self._turn + 1) % len(self.backends)
            queue.take(len(sends))
            refused: list[Work[Any]] = []
            touched: dict[Connection, None] = {}
            self._plan = sends
            run: list[Work[Any]] = []  # of units that go to the same connection, one after the other
            before = sends[0][1]
            for work, connection in sends:
                if connection is not before:
                    refused += before.send(run)
                    touched[before] = None
                    before, run = connection, []
                run.append(work)
            refused += before.send(run)
            touched[before] = None
            if refused:
                self.requeue(refused)
            self._plan = []
            for connection in touched:
                connection.update()
        for index, count in opens:
            for _ in range(count):
                self.dialling.open(self.backends[index], now)
        if queue.live and not opens:
            self._refuse_if_down(now)

    def _choose_failed(self, error: Exception) -> None:
        """A backend was to be preferred; the one with the least in flight was taken instead."""
        cause = f"choose failed {self.name}"
        self.loop.log.error("choose failed", cause=cause, pool=self.name, error=told(error), exc_info=error)

    def _refuse_unplannable(self) -> bool:
        """A plan has failed: whether by units that raise when they are asked what they are."""
        failures: list[tuple[Work[Any], BaseException]] = []
        for work in self.queue:
            try:
                work.unit.pipelinable  # noqa: B018 - a property
            except Exception as error:
                failures.append((work, error))
        self._refuse(failures)
        self.wake()
        return bool(failures)

    def look_at(self, when: float) -> None:
        """See that the timer fires at `when` at the latest; outside the pool's own handlers."""
        if when < self._next:
            self._next = when
            self.wake()

    def wake_at(self, when: float) -> None:
        """As `look_at`, inside the pool's own handlers, or where the pool is woken in any case."""
        if when < self._next:
            self._next = when

    # -- time --------------------------------------------------------------------------------------

    def _sweep(self, now: float) -> None:
        """Everything that is due, and when to look again: also at what comes up while this looks."""
        self._next = NEVER
        gone, earliest = self.queue.expired(now)
        if gone:
            late = self._late(now)
            self._refuse([(work, late(work)) for work in gone])
        count = len(self.queue)
        for backend in self.backends:
            for connection in list(backend.all):
                if connection.due <= now:
                    connection.expire(now)
                earliest = min(earliest, connection.due, self.dialling.renew(connection, now))
                count += connection.in_flight
        self._next = max(min(earliest, self._next), now + LATENESS * count)

    def _late(self, now: float) -> Callable[[Work[Any]], DeadlineExceeded]:
        """What units get whose deadline passes while they wait: what they have waited for."""
        backends = self.backends
        stage: Stage = "queued"
        what = "no connection was free"
        if any(backend.opening for backend in backends) and not any(
            backend.connections > backend.opening for backend in backends
        ):
            stage = "connecting"
            what = "could not connect"
            if any(
                connection.state is State.HANDSHAKING for backend in backends for connection in backend.all
            ):
                what = "the handshake was not finished (is it that kind of server, and does it want TLS?)"
        where = str(backends[0].address) if len(backends) == 1 else ""
        return lambda work: too_late(work.unit, now - work.since, what, stage, self.name, where)

    # -- what connections tell -------------------------------------------------------------------------

    def connection_gone(
        self, connection: Connection, before: State, error: BaseException | None, *, asked: bool
    ) -> None:
        """A connection has ended, or was never made. `asked`: whether anything for it has left."""
        self.dialling.gone(connection, before, error, asked)
        if self.queue.live or connection.in_flight or self.options.warm or self.draining_now:
            self.wake()

    def _refuse_if_down(self, now: float) -> None:
        if self.dialling.is_down(now):
            down, lost = self.dialling.down_error, self.dialling.last_error
            self._refuse([(work, self._lost(lost) if work.attempts else down()) for work in self.queue])

    def _lost(self, cause: BaseException | None) -> ConnectionLost:
        error = ConnectionLost(
            f"the connection to {self.name} was lost ({words_of(cause)}); the unit may have been executed"
        )
        error.__cause__ = cause
        return error

    # -- what becomes of units ---------------------------------------------------------------------

    def left(self, work: Work[Any]) -> None:
        """A unit has failed that no connection has: it waits no longer, if it did."""
        self.queue.discard(work)

    def cancelled(self, work: Work[Any]) -> None:
        """The asker of a queued unit has cancelled."""
        self.end_of(work.unit)
        if self.draining_now:
            self.wake()

    def _refuse(self, failures: list[tuple[Work[Any], BaseException]]) -> None:
        """Fail units that no connection has."""
        fail_all(failures)
        for work, _ in failures:
            self.end_of(work.unit)

    def end_of(self, unit: Unit[Any]) -> None:
        """Tell a unit that it was not sent. A unit that cannot hear it is no reason to stop everybody's."""
        try:
            unit.dropped()
        except Exception as failure:
            self.clean_up_failed(failure, unit=type(unit).__name__)

    def clean_up_failed(self, failure: Exception, **whose: str) -> None:
        """Log what a unit or a wire raises where nobody can be told of it."""
        self.loop.log.error("clean-up failed", **whose, error=told(failure), exc_info=failure)

    def _planned(self) -> list[Work[Any]]:
        """Units that have left the queue and are still to be handed to their connections, by the plan that is
        just being carried out: nearly always none.
        """
        queue = self.queue
        return [
            work for work, _ in self._plan if work.stage == QUEUED and not work.settled and work not in queue
        ]

    def take_back(
        self, connection: Connection, works: list[Work[Any]], sent: int, error: BaseException | None
    ) -> None:
        """A connection is gone with these in flight, of which all but the first `sent` have certainly not
        left.
        """
        again: list[Work[Any]] = []
        lost: list[tuple[Work[Any], BaseException]] = []
        for number, work in enumerate(works):
            if work.settled:
                continue
            work.owner = self
            if work.stage != SENT:
                lost.append((work, error or self._lost(None)))
            elif self.ended:
                lost.append((work, error or PoolClosed("the pool has stopped")))
            elif number >= sent:
                self.ledger.take_back()
                work.attempts -= 1
                again.append(work)
            elif self.may_retry(work):
                again.append(work)
            else:
                lost.append((work, self._lost(error)))
        if again:
            self.requeue(again)
        fail_all(lost)

    def may_retry(self, work: Work[Any]) -> bool:
        """Whether a unit that was sent, and perhaps executed, may be sent again. Counts it if so."""
        if self.ended or work.attempts >= self.options.attempts:
            return False
        try:
            if not work.unit.idempotent:
                return False
        except Exception as failure:
            self.clean_up_failed(failure, unit=type(work.unit).__name__)
            return False
        now = self.loop.now
        if work.deadline <= now or not self.budget.grant(now, self.ledger.submitted):
            return False
        self.ledger.retry()
        return True

    def requeue(self, works: list[Work[Any]]) -> None:
        """Put units back to where they stood in the queue, except those that were cancelled meanwhile."""
        works = [work for work in works if not work.settled]
        for work in works:
            work.queue_again(self)
            self.wake_at(work.deadline)
        self.queue.put_back(works)
        self.wake()


class PoolSpec(PoolOptions["Pool[Any]"], frozen=True):
    """A pool of connections, for `loop.spawn`. `wire` makes the protocol's side of each connection;
    `backends` are addresses, or `Endpoint`s for TLS.
    """

    wire: Callable[[], Wire]
    backends: Iterable[Address | Endpoint | str]

    runs: ClassVar[type[Pool[Any]]] = Pool

    def __post_init__(self) -> None:
        super().__post_init__()
        endpoints = tuple(as_endpoint(backend) for backend in self.backends)
        if not endpoints:
            raise ValueError("a pool without backends; name at least one address")
        force_setattr(self, "backends", endpoints)

    def make(self, scope: Scope) -> Pool[Any]:
        """As `actors.Spec`."""
        return self.runs(self, self.wire, map(as_endpoint, self.backends), scope)


pool = PoolSpec
