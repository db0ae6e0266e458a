"""Real sockets, and a clock that the test moves: what depends on time does not depend on how busy the machine
is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from actors import Address, Loop, TcpAddress
from actors.kernel import SystemKernel
from actors.testing import ManualClock
from tests.relay import Relay

__all__ = ["StillLoop"]

TICKS_MAX = 100_000
LOOK_SECONDS = 0.01  # of real time, for what happens elsewhere


def connect(straight: Callable[[Address], Any], through: Relay, address: Address) -> Any:
    """To the relay in place of its target."""
    if isinstance(address, TcpAddress) and address.port == through.target:
        address = TcpAddress("127.0.0.1", through.port)
    return straight(address)


class StillLoop(Loop):
    """A loop on the system's kernel, but for its clock."""

    def __init__(self, through: Relay | None = None) -> None:
        """`through`: what connects to its target goes through it, as through a NAT."""
        kernel = SystemKernel()
        if through is not None:
            kernel.connect = partial(connect, kernel.connect, through)  # type: ignore[method-assign]
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
