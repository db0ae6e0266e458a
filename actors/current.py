"""Which loop runs in this thread: what `gather`, `sleep` and `deadline` mean when they are not told."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .errors import Misuse

if TYPE_CHECKING:
    from .loop import Loop

__all__ = ["current_loop", "enter_loop"]


class _Current(threading.local):
    loop: Loop | None = None


_current = _Current()


def current_loop() -> Loop:
    """The loop of this thread: the one that ticks, or else the one that was made last. Raises `Misuse`
    without one."""
    if _current.loop is None:
        raise Misuse("no loop in this thread; make one first: loop = Loop()")
    return _current.loop


def enter_loop(loop: Loop | None) -> Loop | None:
    """Make `loop` the current one and return the one before."""
    before, _current.loop = _current.loop, loop
    return before
