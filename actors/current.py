"""Which loop runs in this thread: what `gather`, `sleep` and `deadline` mean when they are not told. And who
drives a coroutine that awaits something of ours outside of every tick: a host such as asyncio, or nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from .errors import Misuse

if TYPE_CHECKING:
    from .loop import Loop

__all__ = [
    "HostWait",
    "current_loop",
    "enter_host",
    "enter_loop",
    "host_wait",
    "loop_here",
    "outside_deadline",
]

HostWait = Callable[[Any], Generator[Any, Any, None]]
"""How a host's coroutine waits until a waitable has settled."""


outside_deadline: ContextVar[float] = ContextVar("windlass_deadline", default=float("inf"))
"""The deadline that a host's task, or a thread without a loop, has set by `deadline` (monotonic seconds)."""


class _Current(threading.local):
    loop: Loop | None = None
    host: HostWait | None = None


_current = _Current()


def current_loop() -> Loop:
    """The loop of this thread: the one that ticks, or else the one that was made last. Raises `Misuse`
    without one."""
    if _current.loop is None:
        raise Misuse("no loop in this thread; make one first: loop = Loop()")
    return _current.loop


def loop_here() -> Loop | None:
    """Like `current_loop`, None without one."""
    return _current.loop


def enter_loop(loop: Loop | None) -> Loop | None:
    """Make `loop` the current one and return the one before."""
    before, _current.loop = _current.loop, loop
    return before


def enter_host(host: HostWait | None) -> HostWait | None:
    """Say how coroutines outside of ticks wait in this thread; returns what was said before."""
    before, _current.host = _current.host, host
    return before


def host_wait() -> HostWait | None:
    """How the running coroutine must wait; None if a loop of ours drives it."""
    loop = _current.loop
    return None if loop is not None and loop.ticking else _current.host
