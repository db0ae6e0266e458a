"""Exponential backoff with full jitter: pure arithmetic over a source of randomness, and a memory for it.

A `Retry` belongs to one thing that is attempted again and again: a backend, a broker, a subscription. Its
owner reports what happened and asks when the next attempt is due. It has no timer and starts nothing.
"""

from __future__ import annotations

import random

import msgspec

from .options import check_seconds
from .telling import words_of

__all__ = ["Backoff", "Retry"]


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


class Retry:
    """Remembers the failures in a row of one thing, and when it is to be attempted again.

    `source` gives the jitter, usually `loop.kernel.random()`. All times are monotonic seconds, as `loop.now`.
    """

    __slots__ = ("backoff", "changed", "due", "error", "failed_at", "failures", "source")

    def __init__(self, backoff: Backoff, source: random.Random) -> None:
        self.backoff = backoff
        self.source = source
        self.failures = 0
        """How many attempts in a row have failed."""
        self.due = 0.0
        """The next attempt is not to begin before; 0 at first."""
        self.failed_at = 0.0
        """When the last failure was told of."""
        self.error: BaseException | None = None
        """What went wrong last. A success does not clear it."""
        self.changed = False
        """Whether the last error reads otherwise than the one before it."""

    def __repr__(self) -> str:
        last = f", last {words_of(self.error)!r:.80}" if self.error is not None else ""
        return f"<Retry {self.failures} failed in a row, due {self.due:g}{last}>"

    @property
    def worth_telling(self) -> bool:
        """Whether the last failure deserves a line in the log: the first, second, fourth, eighth … does."""
        failures = self.failures
        return failures > 0 and failures & (failures - 1) == 0

    def failed(self, now: float, error: BaseException | None = None) -> float:
        """An attempt has failed: the next one is due after a pause. Gives that pause in seconds."""
        self.changed = words_of(error) != words_of(self.error)
        self.error = error
        self.failed_at = now
        self.failures += 1
        pause = self.backoff.delay(self.failures, self.source)
        self.due = now + pause
        return pause

    def succeeded(self) -> None:
        """An attempt has succeeded: the next failure is the first in a row again. `due` stays: where several
        attempts overlap, one that succeeds does not shorten the pause after another's failure.
        """
        self.failures = 0

    def not_before(self, when: float) -> None:
        """Put the next attempt off until `when` at least, although nothing has failed."""
        if when > self.due:
            self.due = when

    def at_once(self) -> None:
        """The next attempt may begin now. The failures in a row still count."""
        self.due = 0.0
