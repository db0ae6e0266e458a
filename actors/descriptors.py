"""Descriptors: what the poller watches, and for which machine."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from .forks import ForkedPoller

if TYPE_CHECKING:
    from .kernel import Poller
    from .scope import Scope

__all__ = ["Descriptors"]


class Descriptors:
    """One loop's: `by_fd` names the machine of each."""

    __slots__ = ("by_fd", "poller")

    def __init__(self, poller: Poller) -> None:
        self.poller = poller
        self.by_fd: dict[int, Scope] = {}

    def __repr__(self) -> str:
        return f"<Descriptors, {len(self.by_fd)} watched>"

    def register(self, scope: Scope, fd: int, events: int) -> None:
        """Watch one for a machine."""
        self.poller.register(fd, events)
        self.by_fd[fd] = scope
        scope.watches(fd)

    def unregister(self, scope: Scope, fd: int) -> None:
        """Stop watching it. It may be closed already."""
        if self.by_fd.get(fd) is scope:
            del self.by_fd[fd]
            with suppress(OSError, ValueError):  # closed already: the kernel has forgotten it by itself
                self.poller.unregister(fd)
        scope.watches_no_longer(fd)

    def release(self, scope: Scope) -> None:
        """Watch nothing more for a machine."""
        if scope.fd >= 0:
            self.unregister(scope, scope.fd)
        while scope.fds:
            self.unregister(scope, next(iter(scope.fds)))

    def refuse_in_child(self, advice: str) -> None:
        """After a fork: give back the child's copy of the poller, and raise `Misuse` from now on."""
        self.poller.close()
        self.poller = ForkedPoller(advice)

    def close(self) -> None:
        """Give the poller back."""
        self.poller.close()
