"""The scenarios of protocols, flows and supervisors find bugs too: each is planted by a patch, and must be
found within few runs.

The last ones are Windlass's own, which these scenarios have found; they are mended, and planted here again.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

from actors import NEVER, Scope, Supervisor
from actors.simulation import load_scenario, shrink, simulate
from actors.supervision import _Running
from pools.errors import BackendDown
from pools.pool import Pool
from pools.units import QUEUED, Work
from protocols.postgres.transactions import TransactionUnit
from protocols.postgres.wire import PostgresWire
from protocols.redis.transactions import Transaction
from protocols.redis.units import Command
from tests.planting import SOAK, first_failure
from windlass.scenarios import SCENARIOS

RUNS_MAX = 2000 if SOAK else 300
SHRINK_RUNS_MAX = 400 if SOAK else 60
SCRIPT_MAX = 20

Patch = pytest.MonkeyPatch


def every_command_is_sent_twice(patch: Patch) -> None:
    """A push that may have been executed is sent again."""
    patch.setattr(Command, "idempotent", True)


def nothing_is_watched(patch: Patch) -> None:
    """Two transactions take the same money."""

    async def watch(self: Transaction, *keys: Any) -> None:
        pass

    patch.setattr(Transaction, "watch", watch)


def a_transaction_is_run_again_after_a_loss(patch: Patch) -> None:
    """Its COMMIT may have gone through."""
    real = TransactionUnit.__init__

    def made(self: TransactionUnit[Any], *arguments: Any) -> None:
        real(self, *arguments)
        self.idempotent = True

    patch.setattr(TransactionUnit, "__init__", made)


def a_maybe_is_told_as_a_no(patch: Patch) -> None:
    """A connection that is lost under a transaction says that nothing was sent."""
    patch.setattr("pools.exchanges.ConnectionLost", BackendDown)


def an_answer_is_skipped_with_its_asker(patch: Patch) -> None:
    """Nobody waits for it, so the wire does not either: the next unit gets the answer."""
    real = PostgresWire._ready

    def ready(self: PostgresWire, status: int) -> None:
        work = self.connection.current
        if work is not None and work.settled and len(self._jobs) > 1:
            self.connection.settle(None)  # and the job stays
            return
        real(self, status)

    patch.setattr(PostgresWire, "_ready", ready)


def the_deadline_around_it_is_ignored(patch: Patch) -> None:
    """Units know their own timeout only."""
    real = Pool.submit

    def submit(self: Pool, *arguments: Any, **options: Any) -> Any:
        loop = self.loop
        before, loop.inherited_deadline = loop.inherited_deadline, NEVER
        try:
            return real(self, *arguments, **options)
        finally:
            loop.inherited_deadline = before

    patch.setattr(Pool, "submit", submit)


def those_after_it_go_on(patch: Patch) -> None:
    """A supervisor restarts a child under the feet of those that need it."""
    real = Supervisor._kill

    def kill(self: Supervisor, scope: Scope, running: _Running, error: BaseException | None) -> None:
        if error is not None or not scope.alive:
            real(self, scope, running, error)

    patch.setattr(Supervisor, "_kill", kill)


# -- Windlass's own ------------------------------------------------------------------------------------------


def what_was_cancelled_meanwhile_is_queued(patch: Patch) -> None:
    """A loss settles one unit, whoever hears of it cancels others, and these went back to the queue."""

    real = Pool.take_back
    later: list[Work[Any]] = []

    def requeue(self: Pool, works: list[Work[Any]]) -> None:
        later.extend(works)

    def take_back(self: Pool, *arguments: Any) -> None:
        real(self, *arguments)  # those that are lost have settled, and whoever heard of it has cancelled
        works, later[:] = later[:], []
        for work in works:
            work.owner = self
            work.stage = QUEUED
            work.wire_bytes = -1
        self.queue.put_back(works)
        self.wake()

    patch.setattr(Pool, "take_back", take_back)
    patch.setattr(Pool, "requeue", requeue)


def a_restart_does_not_wait_for_those_before(patch: Patch) -> None:
    """Each child had a delay of its own, whatever it depends on."""
    real = Supervisor._restart

    def restart(self: Supervisor, scope: Scope, running: _Running, error: BaseException | None) -> Any:
        ended = real(self, scope, running, error)
        if ended is None:
            running.due = scope.now
        return ended

    patch.setattr(Supervisor, "_restart", restart)


PLANTED: list[tuple[str, Callable[[Patch], None], int, str]] = [
    ("redis", every_command_is_sent_twice, 3, "was pushed twice"),
    ("redis", nothing_is_watched, 21, "which is not its answer"),
    ("postgres", a_transaction_is_run_again_after_a_loss, 55, "was executed twice"),
    ("postgres", a_maybe_is_told_as_a_no, 55, "said not to be done, and there"),
    ("postgres", an_answer_is_skipped_with_its_asker, 8, "not its answer|a row that nothing had asked for"),
    ("flows", the_deadline_around_it_is_ignored, 0, "may take longer than the deadline around it"),
    ("tree", those_after_it_go_on, 0, "which need it"),
    ("flows", what_was_cancelled_meanwhile_is_queued, 9, "not every unit is accounted for"),
    ("tree", a_restart_does_not_wait_for_those_before, 29, "which it needs"),
]
"""The scenario, the bug, the seed that finds it, and what the simulation must say of it (a pattern)."""


# It wants many units in one connection's pipeline, and small knobs keep them few.
SOONER_WITH_OWN_KNOBS = {an_answer_is_skipped_with_its_asker}


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("name", "plant", "known", "finding"),
    [pytest.param(*planted, id=planted[1].__name__) for planted in PLANTED],
)
def test_a_planted_bug_is_found_by_a_short_script(
    name: str, plant: Callable[[Patch], None], known: int, finding: str
) -> None:
    story = load_scenario(name, SCENARIOS)
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        knobs: dict[str, Any] | None = {} if plant in SOONER_WITH_OWN_KNOBS else None
        report = first_failure(story, known, RUNS_MAX, knobs)
        assert re.search(finding, report.failure or ""), report.failure
        shrunk = shrink(story, report, runs_max=SHRINK_RUNS_MAX)
    assert shrunk is not None
    told = f"run {report.seed + 1}, {len(report.acts)} faults shrunk to {len(shrunk.acts)}"
    sys.stdout.write(f"{told}: {shrunk.report.failure}\n")
    assert len(shrunk.acts) <= SCRIPT_MAX, shrunk.acts
    assert simulate(story, report.seed, script=shrunk.acts, knobs=shrunk.knobs).failure is None, (
        "without the bug it holds"
    )
