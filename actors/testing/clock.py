"""A clock that stands still until the test advances it."""

from __future__ import annotations

__all__ = ["ManualClock"]


class ManualClock:
    """Monotonic seconds that pass only when told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time."""
        return self.now

    def __repr__(self) -> str:
        return f"<ManualClock {self.now:g}>"

    def advance(self, seconds: float) -> float:
        """Let time pass, and return the new one."""
        if seconds < 0:
            raise ValueError(f"advance({seconds}): monotonic time does not go back")
        self.now += seconds
        return self.now
