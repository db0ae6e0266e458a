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
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Self

from actors.current import HostWait, outside_deadline
from actors.embedding.hosted import HostedLoop, due_of, give_up, remaining
from actors.errors import Misuse
from actors.kernel import Kernel
from actors.outcomes import NEVER
from actors.replies import Waitable
from actors.scope import Waker

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
        return partial(wait_in_asyncio, self._host)  # asking for the running loop each time is a system call

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

    def turn(self) -> None:
        """One tick, then the tasks that it has woken."""
        host = self._host
        if host is None or host in _batches:  # the end, or a turn within a turn
            super().turn()
            return
        batch = _batches[host] = []
        try:
            super().turn()
        finally:
            del _batches[host]
            woken = iter(batch)
            try:
                for waiting in woken:
                    waiting.context.run(waiting.step, waiting)
            finally:  # a task may raise KeyboardInterrupt or SystemExit through us
                for waiting in woken:
                    waiting.step_soon()

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


class _Waiting(Waker):
    """One wait of one task: woken by a waitable in place of a machine's scope, and a future to asyncio, by
    the protocol that its `isfuture` names. So no future of asyncio's own is made, and no handle to wake it.
    """

    __slots__ = ("_asyncio_future_blocking", "_cancelled", "_loop", "_message", "_woken", "context", "step")

    def __init__(self, host: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = True
        self._loop = host
        self.step: Any = None  # the task's own, once it waits
        self._woken = self._cancelled = False

    def wake(self) -> None:
        """The reply has settled, the time has come, or a channel has turned."""
        if not self._woken:
            self._woken = True
            if self.step is not None:
                batch = _batches.get(self._loop)
                if batch is None:
                    self.step_soon()
                else:
                    batch.append(self)

    def step_soon(self) -> None:
        """Let the task go on in asyncio's next turn."""
        try:
            self._loop.call_soon(self.step, self, context=self.context)
        except RuntimeError:  # asyncio is closed, and the task with it
            pass

    # -- for asyncio's task ----------------------------------------------------------------------------------

    def add_done_callback(self, step: Callable[[Any], object], *, context: contextvars.Context) -> None:
        """The task waits from now on."""
        self.step = step
        self.context = context
        if self._woken:
            self.step_soon()

    def cancel(self, msg: Any = None) -> bool:
        """The task is cancelled. False if it is woken already: then the task sees to it."""
        if self._woken:
            return False
        self._woken = self._cancelled = True
        self._message = msg
        self.step_soon()
        return True

    def result(self) -> None:
        """What the task has waited for: nothing, or to be cancelled."""
        if self._cancelled:
            raise asyncio.CancelledError() if self._message is None else asyncio.CancelledError(self._message)


_batches: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
"""While a turn is on: whom it has woken. They go on at its end, without a turn of asyncio's between."""


def wait_in_asyncio(host: asyncio.AbstractEventLoop, waitable: Waitable) -> Generator[Any, Any, Any]:
    """How a task of this asyncio loop waits for one of ours."""
    inherited = outside_deadline.get()
    due = waitable.due if inherited == NEVER else due_of(waitable, inherited)
    while not waitable.settled:
        waiting = _Waiting(host)
        waitable.attach(waiting)
        timer = None if due == NEVER else host.call_later(remaining(due), waiting.wake)
        try:
            yield waiting
        except BaseException:
            give_up(waitable, waiting)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if timer is not None and not waitable.settled:
            if due != waitable.due and not remaining(due):
                give_up(waitable, waiting, late=True)
            waitable.detach(waiting)
    return waitable.result()
