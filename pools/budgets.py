"""The retry budget: what keeps retries from doubling the load of a backend that is failing already.

After Finagle: a fifth of the requests of the last ten seconds, and ten per second besides. Costs nothing per
unit: the pool counts its units anyway, and the budget looks at that count once per second.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from actors.options import check_numbers

__all__ = ["Retries", "RetryBudget"]

SECONDS: Final = 10


class RetryBudget(msgspec.Struct, frozen=True):
    """Grants retries: `share` of the units of the last ten seconds plus `per_second` for each of these."""

    share: float = 0.2
    per_second: float = 10.0

    def __post_init__(self) -> None:
        check_numbers(zero=True, share=self.share, per_second=self.per_second)

    def begun(self) -> Retries:
        """What a pool spends it by."""
        return Retries(self)


class Retries:
    """Grants retries within a budget, and counts them."""

    __slots__ = ("_looked_at", "_seconds", "budget", "granted", "next_look")

    def __init__(self, budget: RetryBudget) -> None:
        self.budget = budget
        self.granted = 0
        self.next_look = 0.0  # when `look` is due (monotonic seconds)
        # of each second: its beginning, the units and the retries until then
        self._seconds: deque[tuple[float, int, int]] = deque(maxlen=SECONDS)
        self._looked_at = 0

    def __repr__(self) -> str:
        return f"<Retries {self.budget.share:.0%} + {self.budget.per_second:g}/s, {self.granted} granted>"

    def look(self, now: float, submitted: int) -> None:
        """Begin another second. What was submitted since the last look (of so many in all) is part of it."""
        while self._seconds and self._seconds[0][0] <= now - SECONDS:
            self._seconds.popleft()
        self._seconds.append((now, self._looked_at, self.granted))
        self._looked_at = submitted
        self.next_look = now + 1.0

    def grant(self, now: float, submitted: int) -> bool:
        """Whether one more retry is within the budget; if so it is counted."""
        if now >= self.next_look:
            self.look(now, submitted)
        _, units_before, retries_before = self._seconds[0]
        allowed = self.budget.share * (submitted - units_before) + self.budget.per_second * SECONDS
        if self.granted - retries_before >= allowed:
            return False
        self.granted += 1
        return True
