"""For tests with real sockets: tick until something is true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.loop import Loop

__all__ = ["run_until"]


def run_until(
    loop: Loop, condition: Callable[[], Any], *, seconds: float = 10.0, ticks: int = 100_000
) -> None:
    """Tick a loop with real sockets until `condition()` is true. Raises `AssertionError` past the limits."""
    clock = loop.kernel.monotonic
    until = clock() + seconds
    for _ in range(ticks):
        if condition():
            return
        left = until - clock()
        if left <= 0:
            break
        loop.tick(left)
    if not condition():
        raise AssertionError(f"{loop!r}: the condition has not come true within {seconds:g} s, {ticks} ticks")
