"""The scenario `kafka` finds bugs: each is planted by a patch, and must be found within few runs
(`WINDLASS_SOAK=1`: and shrunk to a short script).

The last ones are Windlass's own, which it has found; they are mended, and planted here again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from actors.simulation import Report, Shrunk, load_scenario, shrink, simulate
from protocols.kafka.group.commits import Commits, Committer
from protocols.kafka.group.membership import Member
from protocols.kafka.producer import sender
from protocols.kafka.producer.accumulator import Batch
from protocols.kafka.producer.producer import KafkaPool
from protocols.kafka.producer.sender import Delivery
from protocols.kafka.producer.verdicts import Verdict, verdict_of_answer
from tests.planting import SOAK, first_failure
from windlass.scenarios import SCENARIOS

RUNS_MAX = 2000 if SOAK else 300
SHRINK_RUNS_MAX = 200
SCRIPT_MAX = 20
STORY = load_scenario("kafka", SCENARIOS)

Patch = pytest.MonkeyPatch


def what_may_have_been_written_is_a_new_batch(patch: Patch) -> None:
    """It goes with the next sequence, so the broker cannot know it."""
    real = Delivery._judge

    def judge(self: Delivery, batch: Batch, verdict: Verdict, error: Exception, now: float) -> None:
        if verdict is Verdict.UNKNOWN:
            self._begin_anew(batch.partition)
        real(self, batch, verdict, error, now)

    patch.setattr(Delivery, "_judge", judge)


def who_leads_no_more_has_written_nothing(patch: Patch) -> None:
    """NOT_LEADER_OR_FOLLOWER can come after the batch was appended."""
    real = verdict_of_answer

    def verdict(code: int, messages: int, transactional: bool) -> Verdict:
        return Verdict.AGAIN if code == 6 else real(code, messages, transactional)

    patch.setattr(sender, "verdict_of_answer", verdict)


def a_maybe_is_told_as_a_no(patch: Patch) -> None:
    """A deadline that passes says that nothing was written."""
    patch.setattr(Batch, "fixed", property(lambda batch: batch.sent))


def the_next_batch_does_not_wait(patch: Patch) -> None:
    """What failed goes behind what came meanwhile."""
    real = Delivery._judge

    def judge(self: Delivery, batch: Batch, verdict: Verdict, error: Exception, now: float) -> None:
        real(self, batch, verdict, error, now)
        queue = batch.partition.queue
        if len(queue) > 1 and queue[0] is batch and not batch.maybe_written:
            queue.rotate(-1)

    patch.setattr(Delivery, "_judge", judge)


def what_is_cancelled_is_held(patch: Patch) -> None:
    """The room of a message whose asker has gone is never given back."""
    real = KafkaPool._cancelled

    def cancelled(self: KafkaPool, batch: Batch, work: Any) -> None:
        real(self, batch, work)
        self.held += work.unit.size

    patch.setattr(KafkaPool, "_cancelled", cancelled)


def what_was_fetched_is_stored(patch: Patch) -> None:
    """Offsets behind what the reader was given."""
    real = Commits.done

    def done(self: Commits, keys: Any) -> Any:
        return {key: self._positions[key].offset for key in real(self, keys)}

    patch.setattr(Commits, "done", done)


def what_is_given_back_is_delivered(patch: Patch) -> None:
    """The reader hears more of a partition that is another's by now."""
    patch.setattr(Member, "_release", lambda self, keys: None)


# -- Windlass's own ------------------------------------------------------------------------------------------


def a_commit_that_has_lost_its_partitions_waits(patch: Patch) -> None:
    """The consumer had a deadline of nothing to look at, and crashed."""
    real = Committer._give_up

    def give_up(self: Committer, now: float) -> None:
        real(self, now)
        if not self._waiting and now < self._retry.due:
            raise TypeError("'float' object is not iterable")

    patch.setattr(Committer, "_give_up", give_up)


PLANTED: dict[Callable[[Patch], None], tuple[int, tuple[str, ...]]] = {
    what_may_have_been_written_is_a_new_batch: (0, ("is in the log twice",)),
    who_leads_no_more_has_written_nothing: (62, ("said not to be written, and there", "is in the log twice")),
    a_maybe_is_told_as_a_no: (7, ("said not to be written, and there", "acknowledged, and not there")),
    the_next_batch_does_not_wait: (4, ("stands behind",)),
    what_is_cancelled_is_held: (0, ("wait, with",)),
    what_was_fetched_is_stored: (0, ("but no consumer has received",)),
}
"""Each with the seed that finds it, and what the simulation must say of it: not any failure will do. What
was perhaps written may also be told of an offset at which another batch has taken its place.
"""
if SOAK:  # these take some fifty runs
    PLANTED |= {
        what_is_given_back_is_delivered: (0, ("was delivered to who does not own it",)),
        a_commit_that_has_lost_its_partitions_waits: (0, ("'float' object is not iterable",)),
    }


def first_found(plant: Callable[[Patch], None]) -> tuple[Report, Shrunk | None]:
    """The first run that the bug fails, and (at full size) what it shrinks to."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        report = first_failure(STORY, PLANTED[plant][0], RUNS_MAX)
        return report, shrink(STORY, report, runs_max=SHRINK_RUNS_MAX) if SOAK else None


@pytest.mark.no_cover
@pytest.mark.timeout(600)
@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Callable[[Patch], None]) -> None:
    report, shrunk = first_found(plant)
    assert any(finding in (report.failure or "") for finding in PLANTED[plant][1]), report.failure
    acts = report.acts if shrunk is None else shrunk.acts
    if shrunk is not None:
        told = f"run {report.seed + 1}, {len(report.acts)} faults shrunk to {len(acts)}"
        sys.stdout.write(f"{told}: {shrunk.report.failure}\n")
        assert len(acts) <= SCRIPT_MAX, acts
    assert simulate(STORY, report.seed, script=acts).failure is None, "without the bug it holds"
