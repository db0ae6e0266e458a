"""Waking machines from other threads: a deque of tokens and one descriptor, at most one write pending."""

from __future__ import annotations

import threading
from collections import deque
from typing import Self

from .kernel import READABLE, Kernel
from .machine import Machine
from .outcomes import Continue, Outcome
from .scope import Scope

__all__ = ["Notifier"]


class Notifier(Machine["Notifier"]):
    """Thread-safe `wake`. The loop has one (`loop.notifier`); it can never fail because a queue is full."""

    __slots__ = ("_closed", "_closing", "_tokens", "_waker", "_written")

    drain_phase = None  # it serves until the loop is closed

    def __init__(self, kernel: Kernel) -> None:
        self._waker = kernel.waker()
        self._tokens: deque[int] = deque()
        self._written = False
        self._closing = threading.RLock()  # reentrant, for a signal handler may interrupt a `wake`
        self._closed = False

    def __repr__(self) -> str:
        return f"<Notifier {len(self._tokens)} wakeups pending>"

    def wake(self, token: int) -> None:
        """Wake the machine with this token, from any thread or signal handler."""
        self._tokens.append(token)
        if not self._written:
            with self._closing:  # the descriptor's number may be another's once it is closed
                if not self._closed:
                    self._written = True
                    self._waker.wake()

    def start(self, scope: Scope) -> Outcome:
        """Watch the descriptor."""
        scope.register(self._waker.fileno(), READABLE)
        return Continue(self)

    def ready(self, scope: Scope, events: int) -> Outcome:
        """Hand the tokens to the loop. `_written` falls before the deque is read, so no token is left
        behind."""
        self._waker.clear()
        self._written = False
        tokens = self._tokens
        while tokens:
            scope.loop.wake(tokens.popleft())
        return Continue(self)

    def forked_away(self) -> None:
        """In the child of a fork: give the copy of the descriptor back. A thread may have held the lock."""
        self._closing = threading.RLock()
        self._closed = True
        self._waker.close()

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """Give the descriptor back."""
        with self._closing:
            self._closed = True
            self._waker.close()

    def handle(self, scope: Scope) -> Self:
        """Spawning gives the notifier itself."""
        return self
