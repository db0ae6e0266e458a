"""The simulation finds bugs: eight that others' pools have had are planted one at a time, and each must be
found within few runs, by a script of few faults.

What is planted is a patch of this test's own; the product has none of it. Each says whose bug it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from actors import NEVER, Loop, Scope, Timeout
from actors.scope import SLOT_MASK
from actors.simulation import load_scenario, shrink, simulate
from pools.connections import Connection, State
from pools.pool import Pool
from pools.units import ABANDONED, Work
from tests.planting import SOAK, first_failure
from windlass.scenarios import SCENARIOS

RUNS_MAX = 2000 if SOAK else 200
SCRIPT_MAX = 20

Patch = pytest.MonkeyPatch


def forget(connection: Connection, work: Work[Any]) -> None:
    """The connection is taken for clean, though the answer is still to come."""
    connection._fifo.remove(work)


def fifo_not_kept_on_cancel(patch: Patch) -> None:
    """redis-py#2665: the next one gets the answer of the one that was cancelled."""

    real = Connection.cancelled

    def cancelled(self: Connection, work: Work[Any]) -> None:
        if work.stage == ABANDONED and self.driver is None and work in self._fifo:
            self._orphans -= 1
            forget(self, work)
            self.update()
        else:
            real(self, work)

    patch.setattr(Connection, "cancelled", cancelled)


def slot_leaked_on_cancel(patch: Patch) -> None:
    """httpcore#1093: who is cancelled while a connection is made for him leaves it behind, and its slot."""
    cancelled, stopped = Pool.cancelled, Connection.stopped
    leaked: list[Connection] = []

    def cancelled_and_gone(self: Pool, work: Work[Any]) -> None:
        cancelled(self, work)
        opening = [
            connection for backend in self.backends for connection in backend.all if connection.token >= 0
        ]
        for connection in opening:
            if connection.state is State.CONNECTING and not self.queue.live:
                leaked.append(connection)
                self.loop.kill(connection.token)

    def stopped_unless_leaked(self: Connection, transport: Any, error: BaseException | None) -> None:
        if self not in leaked:
            stopped(self, transport, error)

    patch.setattr(Pool, "cancelled", cancelled_and_gone)
    patch.setattr(Connection, "stopped", stopped_unless_leaked)


def wakeup_to_a_dead_waiter(patch: Patch) -> None:
    """aiohttp#9670: what has become free is offered to the first that waits, who has gone."""
    real = Pool.wakeup
    gone: dict[Work[Any], None] = {}

    def left(self: Pool, work: Work[Any]) -> None:
        if self.queue.discard(work):
            gone[work] = None

    def wakeup(self: Pool, scope: Scope) -> Any:
        if gone and self.queue.live:
            gone.pop(next(iter(gone)))
            return Timeout(self, self._next)
        return real(self, scope)

    patch.setattr(Pool, "left", left)
    patch.setattr(Pool, "wakeup", wakeup)


def stale_token_reuse(patch: Patch) -> None:
    """rotor's tokens: the next machine in a slot had the name of the one before."""
    real = Loop._end

    def end(self: Loop, scope: Scope, error: BaseException | None) -> None:
        alive = scope.machine is not None
        real(self, scope, error)
        slot = scope.token & SLOT_MASK
        if alive and slot:
            self._tokens._generations[slot] -= 1

    patch.setattr(Loop, "_end", end)


def queue_wait_left_out_of_the_deadline(patch: Patch) -> None:
    """swindon#15: a unit's time begins when it is sent."""
    submit, send = Pool.submit, Connection.send

    def submitted(self: Pool, unit: Any, timeout: float | None = None, priority: int = 0) -> Work[Any]:
        work: Any = submit(self, unit, timeout, priority)
        unit_times[id(unit)] = work.deadline - self.loop.time()
        work.deadline = NEVER
        return work  # type: ignore[no-any-return]

    def sent(self: Connection, works: list[Work[Any]]) -> list[Work[Any]]:
        for work in works:
            if work.deadline == NEVER:
                work.deadline = self.pool.loop.now + unit_times[id(work.unit)]
                self.pool.wake_at(work.deadline)
        return send(self, works)

    unit_times: dict[int, float] = {}
    patch.setattr(Pool, "submit", submitted)
    patch.setattr(Connection, "send", sent)


def retry_of_what_may_have_been_executed(patch: Patch) -> None:
    """urllib3 and others, when told to retry: a POST is sent again after its connection was lost."""

    def may_retry(self: Pool, work: Work[Any]) -> bool:
        return not self.ended and work.attempts < self.options.attempts and work.deadline > self.loop.now

    patch.setattr(Pool, "may_retry", may_retry)


def connection_kept_after_a_deadline(patch: Patch) -> None:
    """aioredis, asyncpg#464: after a timeout the connection goes back, its answer still to come."""
    real = Connection.expire

    def expire(self: Connection, now: float) -> None:
        if self.state is State.HANDSHAKING or self.driver is not None:
            real(self, now)
            return
        for work in list(self._fifo):
            if work.deadline <= now:
                if work.stage == ABANDONED:
                    self._orphans -= 1
                else:
                    work.owner = self.pool
                    work.fail(TimeoutError())
                forget(self, work)
        self.update()

    patch.setattr(Connection, "expire", expire)


def timer_left_after_stop(patch: Patch) -> None:
    """Thespian#83 and others: the deadline of one that has ended still stands."""
    real = Loop._end

    def end(self: Loop, scope: Scope, error: BaseException | None) -> None:
        deadline = scope.deadline
        real(self, scope, error)
        scope.deadline = deadline

    patch.setattr(Loop, "_end", end)


PLANTED: dict[Callable[[Patch], None], tuple[int, str]] = {
    fifo_not_kept_on_cancel: (0, "which is not its answer"),
    slot_leaked_on_cancel: (14, "holds a slot, and nothing drives it"),
    wakeup_to_a_dead_waiter: (1, "units wait while"),
    stale_token_reuse: (0, "the reminder of caller"),
    queue_wait_left_out_of_the_deadline: (1, "is late"),
    retry_of_what_may_have_been_executed: (0, "was executed twice"),
    connection_kept_after_a_deadline: (0, "which is not its answer"),
    timer_left_after_stop: (0, "a timer is left of a machine that has stopped"),
}
"""Each with the seed that finds it, and what the simulation must say of it: not any failure will do."""


@pytest.mark.no_cover
@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found_by_a_short_script(plant: Callable[[Patch], None]) -> None:
    flapping = load_scenario("pool", SCENARIOS)
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        known, finding = PLANTED[plant]
        report = first_failure(flapping, known, RUNS_MAX)
        assert finding in (report.failure or ""), report.failure
        shrunk = shrink(flapping, report)
    assert shrunk is not None
    assert shrunk.report.failure is not None
    told = (
        f"run {report.seed + 1}, {len(report.acts)} faults shrunk to {len(shrunk.acts)} in {shrunk.runs} runs"
    )
    sys.stdout.write(f"{told}: {shrunk.report.failure}\n")
    assert len(shrunk.acts) <= SCRIPT_MAX, shrunk.acts
    assert simulate(flapping, report.seed, script=shrunk.acts, knobs=shrunk.knobs).failure is None, (
        "without the bug it holds"
    )
