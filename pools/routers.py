"""Routers: several pools behind one `submit`, where each backend holds another part of the data.

A protocol package derives its router: `place` names the pool a unit belongs to, `again` says what becomes of
a unit that its pool has failed. It knows no wire. Rules:
1. What the asker holds is a `Routed`: it settles once and is counted once, to however many pools its unit was
   submitted.
2. Its deadline counts everything: waiting for a place, every pool's queue and work, pauses in between.
3. A unit is submitted again only if `again` has it so, which knows whether it was executed.
4. What can go nowhere now is parked, at most `queue` of them. One timer for all that are parked, a lower
   bound that is corrected when it fires: it may be late by a microsecond for each, never early.
5. A pool that is no longer needed finishes what it has, then stops.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Any, Final, Generic, Self, TypeVar

from actors import NEVER, Continue, Loop, Machine, Misuse, Outcome, Reply, Scope, Stop, Timeout
from actors.callbacks import one_turn
from actors.options import check_counts, check_seconds

from .backends import BackendStatistics, PoolStatistics
from .errors import BackendDown, Cancelled, ConnectionLost, DeadlineExceeded, PoolClosed, QueueFull
from .ledger import PARTS, Entry, Ledger, fail_all
from .pool import Pool
from .queues import PRIORITIES
from .units import Unit, no_unit, too_late

__all__ = ["Routed", "Router"]

T = TypeVar("T")
P = TypeVar("P", bound=Pool)

LATENESS: Final = 1e-6  # seconds by which what is parked may be looked at late, for each that is


class Routed(Entry[T]):
    """A unit on its way through a router, and the reply to it."""

    __slots__ = ("hops", "inner", "lost", "pool", "priority", "reason", "router", "since", "tries", "unit")

    counted: bool = True
    """Whether it is a unit of its own in the statistics, not a part of one."""

    def __init__(self, router: Router[Any], unit: Unit[T], deadline: float, priority: int) -> None:
        Reply.__init__(self, None, deadline)
        self.enter(router.ledger if self.counted else PARTS)
        self.router = router
        self.since = router.loop.now  # when it was submitted (monotonic seconds)
        self.unit: Any = unit
        self.priority = priority
        self.pool: Any = None  # the one that it was submitted to last
        self.inner: Reply[T] | None = None  # what that pool has given for it
        self.tries = 0  # how often a pool has failed it, and it was not the end
        self.hops = 0  # of them, because it belonged elsewhere
        self.lost = False  # a connection was lost under it: it has perhaps been executed
        self.reason: BaseException | None = None  # for the last time

    def __repr__(self) -> str:
        where = "settled" if not self.pending else "parked" if self.inner is None else f"at {self.pool.name}"
        return f"<{type(self).__name__} {self.unit!r} {where}, {self.tries} tries>"

    def cancel(self, error: BaseException | None = None) -> bool:
        """Lose interest, wherever the unit is. False if it had settled before."""
        with one_turn():
            if not self.fail(error or Cancelled("the unit was cancelled by its caller")):
                return False
            inner, self.inner = self.inner, None
            if inner is not None:
                inner.cancel()
            return True

    def left(self) -> None:
        """It has failed: parked no longer."""
        self.router.left(self)

    def answered(self, inner: Reply[T]) -> None:
        """By the pool that it was submitted to."""
        if inner is not self.inner or not self.pending:
            return
        self.inner = None
        error = inner.error
        if error is None:
            self.router.done(self, inner.result())
        else:
            self.router.failed(self, error)


class Router(Machine[Any], Generic[P]):
    """Derive from it: `place`, `again`, and `look` if it has something to do by the clock.

    `queue`: how many units may be parked. `timeout`: the deadline, in seconds, of a unit that was given none.
    """

    __slots__ = (
        "_gone",
        "_next",
        "_retiring",
        "_scope",
        "draining_now",
        "ledger",
        "loop",
        "name",
        "parked",
        "pools",
        "queue",
        "stopped_now",
        "timeout_default",
    )

    drain_phase = 1

    def __init__(self, name: str, *, queue: int, timeout: float) -> None:
        check_counts(queue=queue)
        check_seconds(zero=True, timeout=timeout)
        self.name = name
        self.queue = queue
        self.timeout_default = timeout
        self.pools: dict[Hashable, P] = {}
        self.parked: dict[Routed[Any], float] = {}  # and when it is tried again; NEVER: when it is released
        self.loop: Loop = None  # type: ignore[assignment]  # until spawned
        self.draining_now = self.stopped_now = False
        self.ledger = Ledger()
        self._scope: Scope | None = None
        self._next = NEVER  # when the timer must fire at the latest
        self._retiring: dict[P, None] = {}  # they still finish what they have
        self._gone: Counter[str] = Counter()  # what pools that have stopped had counted

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.name} {self.open} units on {len(self.pools)} pools, "
            f"{len(self.parked)} parked>"
        )

    # -- for whoever derives ---------------------------------------------------------------------------------

    def place(self, unit: Any) -> P | None:
        """The pool this unit belongs to; None if that is not known now: it is parked until `release`. What is
        raised fails the unit.
        """
        raise NotImplementedError

    def again(self, routed: Routed[Any], error: BaseException) -> None:
        """A pool has failed a unit: `fail` it, `send` it to another pool, or `park` it for some seconds."""
        raise NotImplementedError

    def look(self, now: float) -> float:
        """Do what is due by the clock; when to look again (monotonic seconds)."""
        return NEVER

    # -- for whoever asks ------------------------------------------------------------------------------------

    def submit(self, unit: Unit[T], timeout: float | None = None, priority: int = 0) -> Reply[T]:
        """As `pools.Pool.submit`."""
        if not isinstance(unit, Unit):
            raise no_unit(unit)
        return self.start_with(Routed(self, unit, self.due(timeout), self.check(priority)))

    def start_with(self, routed: Routed[T]) -> Routed[T]:
        """A unit comes in."""
        if self.draining_now:
            done = "has stopped" if self.stopped_now else "drains"
            self.fail(routed, PoolClosed(f"{self.name} {done}; the unit was not sent"))
        else:
            self.go(routed)
        return routed

    def start_at(self, pool: P, unit: Unit[T], timeout: float | None) -> Reply[T]:
        """A unit of no priority comes in whose place is known: the short way of nearly all."""
        seconds = self.timeout_default if timeout is None else timeout
        inner = pool.submit(unit, seconds)
        routed: Routed[T] = Routed(self, unit, inner.deadline, 0)
        routed.pool = pool
        routed.inner = inner
        inner.when_settled(routed.answered)
        return routed

    def check(self, priority: int) -> int:
        """Raise what is a misuse of `submit`."""
        if self._scope is None:
            raise Misuse("the router is not running; spawn it first: loop.spawn(...)")
        if not 0 <= priority < PRIORITIES:
            raise ValueError(f"priority={priority}; write 0 (first) to {PRIORITIES - 1}")
        return priority

    def due(self, timeout: float | None) -> float:
        """When a unit with this `timeout` is late (monotonic seconds)."""
        loop = self.loop
        if loop is None:
            raise Misuse("the router is not running; spawn it first: loop.spawn(...)")
        return loop.deadline_in(self.timeout_default if timeout is None else timeout)

    def drain(self) -> None:
        """Take no more units, finish those that are there, then stop."""
        self.draining_now = True
        self.wake()

    @property
    def open(self) -> int:
        """Units that have not settled."""
        return self.ledger.waiting

    def statistics(self) -> PoolStatistics:
        """As `pools.Pool.statistics`: units are counted once, connections are those of all pools. `queued`
        are the parked; what waits in a pool is `in_flight` here.
        """
        each = [pool.statistics() for pool in (*self.pools.values(), *self._retiring)]
        backends: list[BackendStatistics] = [backend for pool in each for backend in pool.backends]
        parked = sum(routed.counted for routed in self.parked)
        sums = {name: self._gone[name] + sum(getattr(pool, name) for pool in each) for name in SUMMED}
        return PoolStatistics(
            submitted=self.ledger.submitted,
            succeeded=self.ledger.succeeded,
            failed=dict(self.ledger.failures),
            queued=parked,
            in_flight=self.open - parked,
            orphans=sum(pool.orphans for pool in each),
            connections=sum(pool.connections for pool in each),
            tunnels=sum(pool.tunnels for pool in each),
            backends=backends,
            **sums,
        )

    # -- units -----------------------------------------------------------------------------------------------

    def go(self, routed: Routed[Any]) -> None:
        """To where it belongs."""
        try:
            pool = self.place(routed.unit)
            if pool is None:
                self.park(routed, NEVER, routed.reason)
            else:
                self.send(routed, pool, routed.unit)
        except Exception as error:
            self.fail(routed, error)

    def send(self, routed: Routed[Any], pool: P, unit: Unit[Any]) -> None:
        """Submit it to this pool, perhaps in another form."""
        routed.pool = pool
        left = routed.deadline - self.loop.time()
        routed.inner = inner = pool.submit(unit, max(0.0, left), routed.priority)
        inner.when_settled(routed.answered)

    def park(self, routed: Routed[Any], seconds: float, reason: BaseException | None) -> None:
        """Try it again in so many seconds; NEVER: when it is released."""
        routed.reason = reason
        if self.stopped_now:
            self.fail(routed, PoolClosed(f"{self.name} has stopped; the unit was not executed"))
        elif len(self.parked) >= self.queue:
            full = f"{len(self.parked)} units already wait for a place in {self.name}"
            self.fail(routed, QueueFull(f"{full} ({reason}); the unit was not executed"))
        else:
            when = self.loop.time() + seconds
            self.parked[routed] = when
            self.look_at(min(when, routed.deadline))

    def release(self) -> None:
        """Places have become known: try what was parked until then."""
        for routed, when in list(self.parked.items()):
            if when == NEVER and self._unpark(routed):
                self.go(routed)

    def _unpark(self, routed: Routed[Any]) -> bool:
        """Whether it was there: when one fails, others may be cancelled."""
        return self.parked.pop(routed, None) is not None

    def failed(self, routed: Routed[Any], error: BaseException) -> None:
        """By a pool."""
        routed.lost = routed.lost or isinstance(error, ConnectionLost)
        if self.stopped_now:
            self.fail(routed, error)
            return
        try:
            self.again(routed, error)
        except Exception as failure:  # it is in nobody's hands now
            self.fail(routed, failure)

    def done(self, routed: Routed[T], value: T) -> None:
        """Settle a unit with its value."""
        if routed.settle(value) and self.draining_now:
            self.wake()

    def fail(self, routed: Routed[Any], error: BaseException) -> None:
        """Settle a unit with an error."""
        if routed.lost:
            error = after_loss(error)
        routed.fail(error)

    def left(self, routed: Routed[Any]) -> None:
        """A unit has failed: it is parked no longer, if it was."""
        self.parked.pop(routed, None)
        if self.draining_now:
            self.wake()

    # -- pools -----------------------------------------------------------------------------------------------

    def retire(self, names: Iterable[Hashable]) -> None:
        """These pools are needed no longer: they finish what they have."""
        for name in list(names):
            pool = self.pools.pop(name)
            self._retiring[pool] = None
            self.loop.watch(pool.token, lambda _, pool=pool: self._pool_stopped(pool))  # type: ignore[misc]
            pool.drain()

    def _pool_stopped(self, pool: P) -> None:
        if self._retiring.pop(pool, self) is None:
            last = pool.statistics()
            for name in SUMMED:
                self._gone[name] += getattr(last, name)

    # -- machine ---------------------------------------------------------------------------------------------

    def handle(self, scope: Scope) -> Self:
        """Spawning gives the router itself."""
        return self

    @property
    def token(self) -> int:
        """The machine's token; -1 before it is spawned."""
        return -1 if self._scope is None else self._scope.token

    @property
    def scope(self) -> Scope:
        """The machine's scope, once it is spawned."""
        assert self._scope is not None
        return self._scope

    def start(self, scope: Scope) -> Outcome:
        """Nothing is connected before it is needed."""
        self._scope = scope
        self.loop = scope.loop
        return Continue(self)

    def wake(self) -> None:
        """Have the router look at what there is to do, in this tick."""
        if self._scope is not None:
            self._scope.wake()

    def look_at(self, when: float) -> None:
        """See that the timer fires at `when` at the latest."""
        if when < self._next:
            self._next = when
            self.wake()

    def wakeup(self, scope: Scope) -> Outcome:
        """What is due."""
        now = scope.now
        due = self.look(now)
        if now >= self._next:
            self._sweep(now)
        self._next = min(self._next, due)
        if self.draining_now and not self.open:
            return Stop()
        return Timeout(self, self._next)

    timeout = wakeup

    def _sweep(self, now: float) -> None:
        self._next = NEVER
        for routed, when in list(self.parked.items()):
            if routed.deadline <= now:
                if self._unpark(routed):
                    self.fail(routed, self.late(routed))
            elif when <= now:
                if self._unpark(routed):
                    self.go(routed)
            else:
                self._next = min(self._next, when, routed.deadline)
        self._next = max(self._next, now + LATENESS * len(self.parked))

    def late(self, routed: Routed[Any]) -> DeadlineExceeded:
        """What a unit gets whose deadline passes while it is parked."""
        why = "where it belongs was not known" if routed.reason is None else str(routed.reason)
        waited = self.loop.now - routed.since
        error = too_late(routed.unit, waited, f"not done ({why})", "queued", self.name)
        error.__cause__ = routed.reason
        return error

    def draining(self, scope: Scope) -> Outcome:
        """The loop drains."""
        self.draining_now = True
        return self.wakeup(scope)

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """Settle everything, stop every pool."""
        self.draining_now = self.stopped_now = True
        closed = PoolClosed(f"{self.name} has stopped; the unit was not executed")
        fail_all([(routed, after_loss(closed) if routed.lost else closed) for routed in self.parked])
        for pool in [*self.pools.values(), *self._retiring]:
            self.loop.kill(pool.token, error)


def after_loss(error: BaseException) -> BaseException:
    """An error that says "not executed", of a unit that perhaps was, at an earlier attempt."""
    told: BaseException
    if isinstance(error, DeadlineExceeded) and error.stage != "sent":
        told = DeadlineExceeded(
            f"{error}; an earlier attempt may have been executed",
            "sent",
            pool=error.pool,
            backend=error.backend,
            unit=error.unit,
            seconds=error.seconds,
        )
    elif isinstance(error, BackendDown | QueueFull):
        told = ConnectionLost(f"the connection was lost, the unit may have been executed; then: {error}")
    else:
        return error
    told.__cause__ = error
    return told


SUMMED: Final = ("retried", "taken_back", "opened", "closed", "lost", "connects_failed")
