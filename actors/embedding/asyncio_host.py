"""The loop inside an asyncio or uvloop program, on the same thread.

    async with Loop.in_asyncio() as loop:
        backend = loop.spawn(http.pool("http://127.0.0.1:9001"))
        response = await backend.submit(http.get("/"))

Any task may await replies and channels. Cancelling the task cancels the reply it waits for; no wire is
touched. Leaving the block drains for at most `drain` seconds, then settles what is left with `PoolClosed` and
gives every descriptor back.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Generator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from actors.current import HostWait, enter_host
from actors.embedding.hosted import HostedLoop
from actors.errors import Misuse
from actors.kernel import Kernel
from actors.outcomes import NEVER
from actors.replies import Reply, Waitable

__all__ = ["AsyncioLoop"]


class AsyncioLoop(HostedLoop):
    """Made by `Loop.in_asyncio()`. `async with` it, or call `attach` and, at the end, `detach`."""

    def __init__(self, *, drain: float = 5.0, kernel: Kernel | None = None, slots: int = 1 << 20) -> None:
        self._host: asyncio.AbstractEventLoop | None = None
        self._nudged = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = NEVER
        self._wait_before: HostWait | None = None
        self._empty: asyncio.Future[None] | None = None
        self.drain_seconds = drain
        super().__init__(kernel=kernel, slots=slots)

    def attach(self, host: asyncio.AbstractEventLoop) -> Self:
        """Let this asyncio loop drive ours from now on. Raises `Misuse` if one does already."""
        if self._host is not None:
            raise Misuse(
                "this loop is attached to an asyncio loop already; detach() it first, or make another"
            )
        if host.is_closed():
            raise Misuse("cannot attach to an asyncio loop that is closed")
        self._host = host
        self._wait_before = enter_host(wait_in_asyncio)
        host.add_reader(self.fileno(), self.turn)
        self.nudge()
        return self

    def detach(self) -> None:
        """Close at once, without a drain: stop every machine, settle what is left."""
        self.close()

    async def __aenter__(self) -> Self:
        return self.attach(asyncio.get_running_loop())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and not self.closed and self.machines:
                self._empty = asyncio.get_running_loop().create_future()
                self.drain(self.drain_seconds)
                self.nudge()
                await self._empty
        finally:
            self.close()

    def nudge(self) -> None:
        """One tick after the tasks of this turn."""
        if not self._nudged and self._host is not None:
            if self._host.is_closed():
                raise Misuse(
                    "the asyncio loop that drove this one is closed; "
                    "use `async with Loop.in_asyncio()` inside each"
                )
            self._nudged = True
            self._host.call_soon(self._nudged_turn)

    def _nudged_turn(self) -> None:
        self._nudged = False
        self.turn()

    def turn(self) -> None:
        """One tick; asyncio may call it once more after the end."""
        if self.closed:
            return
        super().turn()
        if self._empty is not None and not self.machines and not self._empty.done():
            self._empty.set_result(None)

    def rearm(self) -> None:
        """One asyncio timer, moved only when the next deadline is earlier than it."""
        due = self.next_deadline
        if due >= self._timer_due or self._host is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._host.call_at(self._host.time() + max(0.0, due - self.now), self._timer_turn)

    def _timer_turn(self) -> None:
        self._timer = None
        self._timer_due = NEVER
        self.turn()

    def close(self) -> None:
        """As `Loop.close`, and let go of the asyncio loop."""
        host, self._host = self._host, None
        if host is not None and not host.is_closed():
            host.remove_reader(self.fileno())
            if self._timer is not None:
                self._timer.cancel()
        if host is not None:
            enter_host(self._wait_before)
        super().close()

    def __del__(self, warn: Any = warnings.warn) -> None:
        if not getattr(self, "closed", True):
            warn(
                f"{self!r} was never closed; write `async with Loop.in_asyncio() as loop:`",
                ResourceWarning,
                source=self,
            )
            with suppress(Exception):
                self.close()


class _Waker:
    """What a waitable wakes in place of a machine's scope: the future that a task waits for."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.future = future

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def __call__(self, reply: Reply[Any]) -> None:
        if not self.future.done():
            self.future.set_result(None)


def wait_in_asyncio(waitable: Waitable) -> Generator[Any, Any, None]:
    """How an asyncio task waits for one of ours. Cancelled, it cancels a reply, and detaches otherwise."""
    host = asyncio.get_running_loop()
    while not waitable.settled:
        future: asyncio.Future[None] = host.create_future()
        waker: Any = _Waker(future)
        waitable.attach(waker)
        timer = None
        if waitable.due != NEVER:
            timer = host.call_later(max(0.0, waitable.remaining()), waker.wake)
        try:
            yield from future
        except BaseException:
            waitable.detach(waker)
            if isinstance(waitable, Reply):
                waitable.cancel()
            raise
        finally:
            if timer is not None:
                timer.cancel()
