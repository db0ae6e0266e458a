"""Real sockets, and a clock that the test moves: what depends on time does not depend on how busy the machine
is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors import Loop
from actors.kernel import SystemKernel
from actors.testing import ManualClock

__all__ = ["StillLoop"]

TICKS_MAX = 100_000
LOOK_SECONDS = 0.01  # of real time, for what happens elsewhere


class StillLoop(Loop):
    """A loop on the system's kernel, but for its clock."""

    def __init__(self) -> None:
        kernel = SystemKernel()
        self.clock = kernel.monotonic = ManualClock()  # type: ignore[assignment]
        super().__init__(kernel=kernel)

    def until(self, condition: Callable[[], Any], step: float = 0.0) -> None:
        """Let the loop run until it is so. `step`: seconds that pass with each look, by its own clock."""
        for _ in range(TICKS_MAX):
            if condition():
                return
            self.tick(LOOK_SECONDS)
            self.clock.advance(step)
        raise AssertionError(f"{self!r}: the condition has not come true")

    def advance(self, seconds: float) -> None:
        """Let time pass, and the loop notice."""
        self.clock.advance(seconds)
        for _ in range(4):
            self.tick(0)
