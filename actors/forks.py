"""What a fork must not share: loops, threads, and what waits for them.

A forked child has no threads but the one that forked, and its copy of an epoll descriptor is the parent's own
interest list: what the child unregisters, the parent hears of no more. So what has such things is told of the
fork, in the child and before any of its code runs, and refuses to be used there.
"""

from __future__ import annotations

import os
import weakref
from typing import NoReturn, Protocol

from .errors import Misuse

__all__ = ["ForkedPoller", "Parents", "tell_of_forks"]


class Parents(Protocol):
    """What stays the parent's."""

    def forked_away(self) -> None:
        """Called in the child: let go of what is shared without touching it, and refuse from now on."""


_told: weakref.WeakSet[Parents] = weakref.WeakSet()


def tell_of_forks(thing: Parents) -> None:
    """Have `forked_away` called in every child that this process forks, as long as `thing` lives."""
    _told.add(thing)


def _in_child() -> None:
    for thing in list(_told):
        thing.forked_away()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class ForkedPoller:
    """In the child in place of the parent's poller: refuses to watch and to wait; letting go does nothing."""

    def __init__(self, advice: str) -> None:
        self.advice = advice

    def refuse(self, *_: object) -> NoReturn:
        """Raise `Misuse`."""
        raise Misuse(f"this loop was made before the process was forked, and is the parent's; {self.advice}")

    register = modify = poll = refuse

    def unregister(self, fd: int) -> None:
        """Nothing: what the parent watches stays watched."""

    def fileno(self) -> int:
        """None of its own."""
        return -1

    def close(self) -> None:
        """Nothing: the copy of the descriptor was closed already."""
