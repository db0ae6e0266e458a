"""Exploring: many seeds, each of them or some of them run twice, added up.

A seed whose two runs differ is a failure as well: then something that the seed does not decide has had a part
in it (the order of a set, an `id`, a real clock).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from .faults import Faults
from .knobs import Turned
from .scenarios import Report, Scenario, simulate

__all__ = ["DIFFERS", "Tally", "explore", "run_twice"]

DIFFERS: Final = (
    "two runs of this seed differ: something that the seed does not decide plays a part "
    "(the order of a set, an id, a real clock)"
)


class Tally(msgspec.Struct):
    """What many runs came to."""

    seeds: int = 0
    runs: int = 0
    failed: list[Report] = msgspec.field(default_factory=list)
    hits: Counter[str] = msgspec.field(default_factory=Counter)
    outcomes: Counter[str] = msgspec.field(default_factory=Counter)
    knobs: Counter[tuple[str, float]] = msgspec.field(default_factory=Counter)  # by name and value
    seconds: float = 0.0  # simulated, of all runs
    events: int = 0
    sides: set[tuple[str, bool]] = msgspec.field(
        default_factory=set
    )  # decisions by knobs, and how they came out

    def add(self, report: Report, runs: int = 2) -> None:
        """One seed more."""
        self.seeds += 1
        self.runs += runs
        self.hits.update(report.hits)
        self.outcomes.update(report.outcomes)
        self.knobs.update(report.knobs.items())
        self.seconds += runs * report.seconds
        self.events += runs * report.events
        if report.failure is not None:
            self.failed.append(report)

    def merge(self, other: Tally) -> None:
        """What another process has found."""
        self.seeds += other.seeds
        self.runs += other.runs
        self.failed += other.failed
        self.hits.update(other.hits)
        self.outcomes.update(other.outcomes)
        self.knobs.update(other.knobs)
        self.seconds += other.seconds
        self.events += other.events
        self.sides |= other.sides


def run_twice(
    scenario: Scenario,
    seed: int,
    *,
    faults: Faults | None = None,
    seconds: float | None = None,
    knobs: Turned | None = None,
) -> Report:
    """Run a seed twice; two runs that differ are a failure."""
    report, again = (simulate(scenario, seed, faults=faults, seconds=seconds, knobs=knobs) for _ in range(2))
    if report.failure is None and report.hash != again.hash:
        return msgspec.structs.replace(report, failure=f"{DIFFERS}: {report.hash} and {again.hash}")
    return report


def explore(
    scenario: Scenario,
    seeds: Iterable[int],
    *,
    faults: Faults | None = None,
    seconds: float | None = None,
    knobs: Turned | None = None,
    twice: int = 1,
) -> Tally:
    """Run these seeds up to the first that fails, twice those that `twice` divides: whether two runs differ
    shows itself soon, and costs as much as twice the seeds."""
    tally = Tally()
    for seed in seeds:
        if seed % twice:
            tally.add(simulate(scenario, seed, faults=faults, seconds=seconds, knobs=knobs), runs=1)
        else:
            tally.add(run_twice(scenario, seed, faults=faults, seconds=seconds, knobs=knobs))
        if tally.failed:
            break
    return tally
