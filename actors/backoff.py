"""Exponential backoff with full jitter: pure arithmetic over a source of randomness."""

from __future__ import annotations

import random

import msgspec

from .options import check_seconds

__all__ = ["Backoff"]


class Backoff(msgspec.Struct, frozen=True):
    """How long to wait before the n-th attempt: between half and all of `first * 2**n`, at most `longest`
    (seconds)."""

    first: float = 1.0
    longest: float = 32.0

    def __post_init__(self) -> None:
        check_seconds(zero=True, first=self.first, longest=self.longest)
        if self.first > self.longest:
            raise ValueError(
                f"Backoff({self.first}, {self.longest}); write 0 <= first <= longest, in seconds"
            )

    def delay(self, failures: int, source: random.Random) -> float:
        """Seconds to wait after that many failures in a row (0 for none)."""
        if failures <= 0:
            return 0.0
        whole = min(self.longest, self.first * 2.0 ** min(failures - 1, 64))
        return whole * source.uniform(0.5, 1.0)
