"""Blocking calls from inside a loop: an ORM, a C library, a file. They run on a few threads; the loop goes
on.

Bounded both ways: at most `threads` calls at a time, at most `waiting` more behind them; one more is refused.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from actors.current import current_loop
from actors.errors import MachineStopped, MailboxFull
from actors.machine import Machine
from actors.outcomes import UNCHANGED, Continue, Outcome, Stop
from actors.replies import Reply
from actors.scope import Scope

__all__ = ["Offloader", "offload"]

P = ParamSpec("P")
T = TypeVar("T")

Call = tuple[Reply[Any], contextvars.Context, Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Offloader(Machine["Offloader"]):
    """A loop's threads for blocking calls. `offload` makes one per loop; spawn your own for other bounds."""

    __slots__ = ("_calls", "_done", "_idle", "_pending", "_scope", "_threads", "threads", "waiting")

    drain_phase = 1

    def __init__(self, threads: int = 8, waiting: int = 1024) -> None:
        if threads < 1 or waiting < 0:
            raise ValueError(f"threads={threads}, waiting={waiting}; write 1 or more, 0 or more")
        self.threads = threads
        self.waiting = waiting
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._done: deque[tuple[Reply[Any], Any, BaseException | None]] = deque()
        self._pending: set[Reply[Any]] = set()
        self._threads: list[threading.Thread] = []
        self._idle = threading.Semaphore(0)
        self._scope: Scope | None = None

    def __repr__(self) -> str:
        return f"<Offloader {len(self._pending)} calls pending, {len(self._threads)}/{self.threads} threads>"

    def handle(self, scope: Scope) -> Offloader:
        """The machine itself."""
        return self

    def start(self, scope: Scope) -> Outcome:
        """Threads are started when first needed."""
        self._scope = scope
        return Continue(self)

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Reply[T]:
        """Call `function` on a thread. The reply fails with `MailboxFull` when too many wait, else as the
        call does."""
        reply: Reply[T] = Reply()
        if self._scope is None or not self._scope.alive:
            reply.fail(MachineStopped("the offloader has stopped"))
        elif len(self._pending) >= self.threads + self.waiting:
            reply.fail(
                MailboxFull(
                    f"{len(self._pending)} blocking calls are already pending; offload fewer at a time"
                )
            )
        else:
            self._pending.add(reply)
            self._calls.put((reply, contextvars.copy_context(), function, args, kwargs))
            if not self._idle.acquire(blocking=False) and len(self._threads) < self.threads:
                thread = threading.Thread(target=self._work, name="windlass-offload", daemon=True)
                self._threads.append(thread)
                thread.start()
        return reply

    def _work(self) -> None:
        assert self._scope is not None
        wake, token = self._scope.loop.notifier.wake, self._scope.token
        while (call := self._calls.get()) is not None:
            reply, context, function, args, kwargs = call
            value: Any = None
            error: BaseException | None = None
            if not reply.settled:  # cancelled while it waited
                try:
                    value = context.run(function, *args, **kwargs)
                except BaseException as failure:
                    error = failure
            self._done.append((reply, value, error))
            del call, reply, context, function, args, kwargs, value, error
            self._idle.release()
            wake(token)

    def wakeup(self, scope: Scope) -> Outcome:
        """Hand out what is done."""
        done = self._done
        while done:
            reply, value, error = done.popleft()
            self._pending.discard(reply)
            if error is None:
                reply.settle(value)
            else:
                reply.fail(error)
        return Stop() if scope.loop.draining and not self._pending else UNCHANGED

    def draining(self, scope: Scope) -> Outcome:
        """Calls that are pending are waited for."""
        return self.wakeup(scope)

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """Threads end after the call they are in; calls that wait are dropped."""
        try:
            while True:
                self._calls.get_nowait()
        except Empty:
            pass
        for _ in self._threads:
            self._calls.put(None)
        for reply in self._pending:
            reply.fail(
                MachineStopped(
                    "the loop has stopped; a running call continues to its end, and its result is dropped"
                )
            )


def offload(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Reply[T]:
    """`await offload(function, …)`: a blocking call on this loop's threads (8, with 1,024 calls waiting at
    most).

    It sees a copy of the caller's context variables. Cancelled before it has begun, it is not called;
    afterwards it goes on to its end unheard.
    """
    loop = current_loop()
    offloader = loop.offloader
    if offloader is None:
        offloader = loop.offloader = loop.spawn(Offloader())
    return offloader.submit(function, *args, **kwargs)
