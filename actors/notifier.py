"""The loop's own machine: it wakes others from other threads (a deque of tokens and one descriptor, at most
one write pending), and does what the loop itself has to do later."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Self

from .errors import Misuse
from .kernel import READABLE, Kernel
from .machine import Machine
from .outcomes import NEVER, UNCHANGED, Continue, Outcome, Timeout
from .scope import Scope
from .signals import SignalPipe
from .telling import told

__all__ = ["Notifier"]

LATER_MAX: Final = 1024


class Notifier(Machine["Notifier"]):
    """Thread-safe `wake`. The loop has one (`loop.notifier`); it can never fail because a queue is full."""

    __slots__ = (
        "_closed",
        "_closing",
        "_interrupt",
        "_later",
        "_scope",
        "_signals",
        "_soon",
        "_tokens",
        "_waker",
        "_written",
    )

    drain_phase = None  # it serves until the loop is closed

    def __init__(self, kernel: Kernel) -> None:
        self._waker = kernel.waker()
        self._tokens: deque[int] = deque()
        self._written = False
        self._closing = threading.RLock()  # reentrant, for a signal handler may interrupt a `wake`
        self._closed = False
        self._interrupt: BaseException | None = None
        self._later: deque[tuple[float, Callable[[], object]]] = deque()
        self._soon: deque[Callable[[], object]] = deque()
        self._signals: SignalPipe | None = None

    def __repr__(self) -> str:
        return f"<Notifier {len(self._tokens)} wakeups pending>"

    def wake(self, token: int) -> None:
        """Wake the machine with this token, from any thread or signal handler. Raises `Misuse` for what is no
        token."""
        if not isinstance(token, int):
            raise Misuse(f"{told(token)} is not a token; a machine's token is its scope's `token`")
        self._tokens.append(token)
        if not self._written:
            self._write()

    @property
    def hears_signals(self) -> bool:
        """Whether a signal ends the loop's wait at once."""
        return self._signals is not None

    def hear_signals(self, pipe: SignalPipe | None) -> None:
        """Have what this hears end the loop's wait; None: no longer."""
        if self._signals is not None:
            self._scope.unregister(self._signals.fileno())
        self._signals = pipe
        if pipe is not None:
            self._scope.register(pipe.fileno(), READABLE)

    def interrupt(self, error: BaseException) -> None:
        """Have `tick` raise this as soon as no machine's handler is on: Ctrl-C hit code that ran inside of
        one and must not end it."""
        self._interrupt = self._interrupt or error
        self._scope.wake()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        """Call it then; earlier if more than `LATER_MAX` wait, or if the loop is closed. All give the same
        number of seconds."""
        scope = self._scope
        if len(self._later) >= LATER_MAX:
            self._later.popleft()[1]()
        self._later.append((scope.now + seconds, callback))
        if scope.deadline == NEVER:
            scope.deadline = due = self._later[0][0]
            if due < scope.scheduled:
                scope.loop.timers.schedule(scope, due)

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call it in the next tick. From anywhere: another thread, the middle of a garbage collection."""
        self._soon.append(callback)
        self.wake(self._scope.token)

    def do_soon(self) -> None:
        """Do now what was given to `call_soon`."""
        while self._soon:
            self._soon.popleft()()

    def _write(self) -> None:
        with self._closing:  # the descriptor's number may be another's once it is closed
            if not self._closed:
                self._written = True
                self._waker.wake()

    def start(self, scope: Scope) -> Outcome:
        """Watch the descriptor."""
        self._scope = scope
        scope.register(self._waker.fileno(), READABLE)
        return Continue(self)

    def ready(self, scope: Scope, events: int) -> Outcome:
        """Hand the tokens to the loop. `_written` falls before the deque is read, so no token is left
        behind; nor is one by Ctrl-C."""
        tokens = self._tokens
        try:
            if self._signals is not None:
                self._signals.clear()
            self._waker.clear()
            self._written = False
            while tokens:
                scope.loop.wake(tokens[0])
                tokens.popleft()
        finally:
            if tokens:
                self._write()
        return UNCHANGED

    def wakeup(self, scope: Scope) -> Outcome:
        """Do what was to be done soon; raise what has interrupted."""
        self.do_soon()
        error, self._interrupt = self._interrupt, None
        if error is not None:
            raise error
        return UNCHANGED

    def timeout(self, scope: Scope) -> Outcome:
        """Do what is due."""
        later = self._later
        while later and later[0][0] <= scope.now:
            later.popleft()[1]()
        return Timeout(self, later[0][0]) if later else Continue(self)

    def forked_away(self) -> None:
        """In the child of a fork: give the copy of the descriptor back. A thread may have held the lock."""
        self._closing = threading.RLock()
        self._closed = True
        self._waker.close()

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """Do what is left, give the descriptor back."""
        self.do_soon()
        while self._later:
            self._later.popleft()[1]()
        with self._closing:
            self._closed = True
            self._waker.close()

    def handle(self, scope: Scope) -> Self:
        """Spawning gives the notifier itself."""
        return self
