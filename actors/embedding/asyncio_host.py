"""The loop inside an asyncio or uvloop program, on the same thread.

    async with Loop.in_asyncio() as loop:
        backend = loop.spawn(http.pool("http://127.0.0.1:9001"))
        response = await backend.submit(http.get("/"))

Any task may await replies and channels. Cancelling the task cancels the reply it waits for; no wire is
touched. Leaving the block drains for at most `drain` seconds, then settles what is left with `PoolClosed` and
gives every descriptor back. Left by an exception, it drains for nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio import get_running_loop
from collections.abc import Generator
from typing import Any, Self

from actors.current import HostWait, outside_deadline
from actors.embedding.hosted import HostedLoop, due_of, give_up, remaining
from actors.errors import Misuse
from actors.kernel import Kernel
from actors.outcomes import NEVER
from actors.replies import Waitable

__all__ = ["AsyncioLoop"]


class AsyncioLoop(HostedLoop):
    """Made by `Loop.in_asyncio()`. `async with` it, or call `attach` and, at the end, `await aclose()`."""

    host_name = "asyncio"
    opener = "async with Loop.in_asyncio()"

    def __init__(self, *, drain: float = 5.0, kernel: Kernel | None = None, slots: int = 1 << 20) -> None:
        self._host: asyncio.AbstractEventLoop | None = None
        self._nudged = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = NEVER
        super().__init__(drain=drain, kernel=kernel, slots=slots)

    def attach(self, host: asyncio.AbstractEventLoop | None = None) -> Self:
        """Let this asyncio loop (None: the running one) drive ours from now on. Raises `Misuse` if one does
        already."""
        if self.attached:
            return self._attach()  # which refuses
        host = host or get_running_loop()
        if host.is_closed():
            raise Misuse("cannot attach to an asyncio loop that is closed")
        self._host = host
        return self._attach()

    async def __aenter__(self) -> Self:
        return self.attach()

    def attach_here(self) -> HostWait:
        """One reader. Turns run in a context of their own, not in that of whichever task has asked."""
        assert self._host is not None
        self._context = contextvars.Context()
        self._context.run(self._host.add_reader, self.fileno(), self.turn)
        return wait_in_asyncio

    def detach_here(self) -> None:
        """No reader, no timer."""
        host, self._host = self._host, None
        if host is not None and not host.is_closed():
            host.remove_reader(self.fileno())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def host_is_over(self) -> bool:
        """Whether the asyncio loop is closed."""
        return self._host is not None and self._host.is_closed()

    def ask_for_turn(self) -> None:
        """One tick after the tasks of this turn."""
        host = self._host
        assert host is not None
        if host.is_closed():
            raise Misuse(
                "the asyncio loop that drove this one is closed; write `async with Loop.in_asyncio()` inside "
                "what asyncio.run() runs, once in each"
            )
        if not self._nudged:
            self._nudged = True
            host.call_soon(self._nudged_turn, context=self._context)

    def _nudged_turn(self) -> None:
        self._nudged = False
        self.turn()

    def rearm(self) -> None:
        """One asyncio timer, moved only when the next deadline is earlier than it."""
        due = self.next_deadline
        if due >= self._timer_due or self._host is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        when = self._host.time() + max(0.0, due - self.now)
        self._timer = self._host.call_at(when, self._timer_turn, context=self._context)

    def _timer_turn(self) -> None:
        self._timer = None
        self._timer_due = NEVER
        self.turn()


class _Waker:
    """What a waitable wakes in place of a machine's scope: the future that a task waits for."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.future = future

    def __call__(self, reply: Any = None) -> None:
        """The reply has settled, the time has come, or a channel has turned."""
        future = self.future
        if not future.done():
            try:
                future.set_result(None)
            except RuntimeError:  # asyncio is closed, and the task with it
                pass

    wake = __call__


def wait_in_asyncio(waitable: Waitable) -> Generator[Any, Any, None]:
    """How an asyncio task waits for one of ours."""
    host = get_running_loop()
    inherited = outside_deadline.get()
    due = waitable.due if inherited == NEVER else due_of(waitable, inherited)
    while not waitable.settled:
        future: asyncio.Future[None] = host.create_future()
        waker: Any = _Waker(future)
        waitable.attach(waker)
        timer = None if due == NEVER else host.call_later(remaining(due), waker)
        try:
            yield from future
        except BaseException:
            give_up(waitable, waker)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if timer is not None and not waitable.settled:
            if due != waitable.due and not remaining(due):
                give_up(waitable, waker, late=True)
            waitable.detach(waker)
