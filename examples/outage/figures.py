"""What clients saw, in figures: samples in, what is shown of them out. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final, NamedTuple

import msgspec

from .scenario import APPLICATIONS, PHASES

__all__ = ["KEPT_LEAST", "Course", "Outage", "Row", "Sample", "Window", "percentile", "summary"]

KEPT_LEAST: Final = 0.95  # of the throughput before, for the promise to be kept
WINDOWS_PER_PHASE: Final = 10


class Sample(NamedTuple):
    """One request. `due`: monotonic seconds; `seconds`: until its answer, or until its client went away."""

    due: float
    seconds: float
    good: bool


class Course(NamedTuple):
    """One round of one application. `starts`: when each phase began, and when the last one ended."""

    starts: list[float]
    accounts: list[Sample]
    reports: list[Sample]


class Row(msgspec.Struct, frozen=True):
    """`/account` of one application in one phase, medians of the rounds. Latencies in milliseconds: how long
    clients waited, whatever came of it.
    """

    application: str
    phase: str
    per_second: float
    p50: float | None
    p99: float | None
    reports: float  # answered per second


class Window(msgspec.Struct, frozen=True):
    """A piece of the course of one application; `at`: its middle, seconds since the beginning."""

    at: float
    per_second: float
    p99: float | None  # milliseconds


class Outage(msgspec.Struct, frozen=True):
    """All that is shown. A request counts in the phase, and in the window, in which it was due."""

    phase_seconds: float
    rounds: int
    rows: list[Row]
    windows: dict[str, list[Window]]
    date: str = ""
    machine: dict[str, str | int | bool] = {}

    def row(self, application: str, phase: str) -> Row:
        """The one row of these."""
        return next(r for r in self.rows if (r.application, r.phase) == (application, phase))

    def kept(self, application: str) -> float:
        """How much of the throughput of the first phase is left in the slow one."""
        before, slow = (self.row(application, phase).per_second for phase in PHASES[:2])
        return slow / before if before else 0.0


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The value that `share` of the ordered values do not exceed (nearest rank)."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def summary(phase_seconds: float, rounds: Sequence[dict[str, Course]]) -> Outage:
    """The medians of all rounds; each is the course of every application."""
    rows = [
        row(name, index, [courses[name] for courses in rounds])
        for name in APPLICATIONS
        for index in range(len(PHASES))
    ]
    windows = {name: course([courses[name] for courses in rounds], phase_seconds) for name in APPLICATIONS}
    return Outage(phase_seconds, len(rounds), rows, windows)


def row(name: str, phase: int, courses: list[Course]) -> Row:
    """One application in one phase."""
    accounts, reports = [], []
    for starts, account, report in courses:
        begin, end = starts[phase], starts[phase + 1]
        accounts.append(Piece(account, begin, end))
        reports.append(Piece(report, begin, end))
    return Row(
        name,
        PHASES[phase],
        median(piece.per_second for piece in accounts),
        middle(percentile(piece.milliseconds, 0.5) for piece in accounts),
        middle(percentile(piece.milliseconds, 0.99) for piece in accounts),
        median(piece.per_second for piece in reports),
    )


def course(courses: list[Course], phase_seconds: float) -> list[Window]:
    """One application over time."""
    windows = []
    for index in range(WINDOWS_PER_PHASE * len(PHASES)):
        phase, part = divmod(index, WINDOWS_PER_PHASE)
        pieces = []
        for starts, accounts, _ in courses:  # no phase is exactly as long as it should be
            step = (starts[phase + 1] - starts[phase]) / WINDOWS_PER_PHASE
            begin = starts[phase] + part * step
            pieces.append(Piece(accounts, begin, begin + step))
        windows.append(
            Window(
                (index + 0.5) * phase_seconds / WINDOWS_PER_PHASE,
                median(piece.per_second for piece in pieces),
                middle(percentile(piece.milliseconds, 0.99) for piece in pieces),
            )
        )
    return windows


class Piece:
    """What was due in a piece of time: good answers per second, and how long clients waited, ordered."""

    def __init__(self, samples: Iterable[Sample], begin: float, end: float) -> None:
        due = [sample for sample in samples if begin <= sample.due < end]
        self.per_second = sum(sample.good for sample in due) / (end - begin)
        self.milliseconds = sorted(sample.seconds * 1000 for sample in due)


def middle(values: Iterable[float | None]) -> float | None:
    """The median of those that are there."""
    there = [value for value in values if value is not None]
    return median(there) if there else None
