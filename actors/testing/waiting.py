"""Ticking until something is so: at rest on a manual kernel, or a condition with real sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from actors.loop import Loop

__all__ = ["run_until", "settle"]

TICKS_MAX: Final = 1000  # until there is nothing more to do


def settle(loop: Loop) -> None:
    """Tick a loop on a manual kernel until there is nothing to do at this time. Raises `AssertionError` if it
    never comes to rest."""
    for _ in range(TICKS_MAX):
        loop.tick(0)
        late = loop.timers.next_deadline() <= loop.kernel.monotonic()
        if not (loop.woken or loop.dirty or late or loop.poller.poll(0)):
            return
    raise AssertionError(f"{loop!r} does not come to rest within {TICKS_MAX} ticks: it spins")


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
