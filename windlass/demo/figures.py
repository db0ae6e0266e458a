"""Figures: samples in, what is shown of them out. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from .scenario import PHASES, POOLS

__all__ = ["Figures", "Row", "Sample", "Verdict", "percentile"]

BUCKET_SECONDS: Final = 0.5  # of the chart
THROUGHPUT_LEAST: Final = 0.95  # of the healthy phase's
P99_MOST: Final = 1.5  # times the healthy phase's


class Sample(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One request, as its client saw it. `due`: monotonic seconds; `alone`: it needs no carts."""

    due: float
    seconds: float
    alone: bool
    good: bool


class Row(msgspec.Struct, frozen=True):
    """One pool in one phase, by the requests that need no carts. Latencies in seconds, of good answers."""

    good: float  # share of the requests
    per_second: float
    p50: float | None
    p99: float | None
    both: float  # share of good answers among the requests that need both backends


class Bucket(msgspec.Struct, frozen=True):
    """A piece of the chart: `at` is in seconds since the beginning."""

    at: float
    per_second: float
    p99: float | None


class Verdict(msgspec.Struct, frozen=True):
    """The slow phase by the healthy one: throughput as a share, p99 as a multiple (None: no answer)."""

    throughput: float
    p99: float | None

    @property
    def isolated(self) -> bool:
        """Whether the slow backend did not harm the requests that do not need it."""
        return self.throughput >= THROUGHPUT_LEAST and self.p99 is not None and self.p99 <= P99_MOST


class Figures:
    """Samples by pool and phase. A request belongs to the phase in which it was due."""

    def __init__(self) -> None:
        self.starts: list[float] = []  # of the phases so far, and the end of the last one (monotonic seconds)
        self._samples: dict[str, list[list[Sample]]] = {pool: [[] for _ in PHASES] for pool in POOLS}

    def begin(self, now: float) -> None:
        """The next phase begins, or the last one ends."""
        self.starts.append(now)

    def add(self, pool: str, samples: Iterable[Sample]) -> None:
        """Samples of one pool; what was due before the first phase or after the last is not counted."""
        for sample in samples:
            phase = sum(start <= sample.due for start in self.starts) - 1
            if 0 <= phase < len(PHASES):
                self._samples[pool][phase].append(sample)

    def row(self, pool: str, phase: int) -> Row | None:
        """One pool in one phase, as far as it has come; None before its first answer."""
        samples = self._samples[pool][phase]
        if not samples:
            return None
        over = phase + 1 < len(self.starts)
        end = self.starts[phase + 1] if over else max(sample.due for sample in samples)
        alone = [sample for sample in samples if sample.alone]
        good = sorted(sample.seconds for sample in alone if sample.good)
        both = [sample.good for sample in samples if not sample.alone]
        return Row(
            good=len(good) / max(1, len(alone)),
            per_second=len(good) / max(0.05, end - self.starts[phase]),
            p50=percentile(good, 0.5),
            p99=percentile(good, 0.99),
            both=sum(both) / max(1, len(both)),
        )

    def verdict(self, pool: str) -> Verdict | None:
        """The slow phase against the healthy one; None as long as there is nothing to compare."""
        healthy, slow = self.row(pool, 0), self.row(pool, 1)
        if healthy is None or slow is None or not healthy.per_second or not healthy.p99:
            return None
        return Verdict(slow.per_second / healthy.per_second, slow.p99 / healthy.p99 if slow.p99 else None)

    def buckets(self, pool: str) -> list[Bucket]:
        """The course of the requests that need only `users`."""
        begin = self.starts[0]
        count = round((self.starts[-1] - begin) / BUCKET_SECONDS)
        answered: list[list[float]] = [[] for _ in range(count)]
        for samples in self._samples[pool]:
            for sample in samples:
                index = int((sample.due - begin) / BUCKET_SECONDS)
                if sample.alone and sample.good and index < count:
                    answered[index].append(sample.seconds)
        return [
            Bucket(
                (index + 0.5) * BUCKET_SECONDS, len(times) / BUCKET_SECONDS, percentile(sorted(times), 0.99)
            )
            for index, times in enumerate(answered)
        ]


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The value that `share` of the ordered values do not exceed (nearest rank)."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
