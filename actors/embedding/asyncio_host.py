"""The loop inside an asyncio or uvloop program, on the same thread.

    async with Loop.in_asyncio() as loop:
        backend = loop.spawn(http.pool("http://127.0.0.1:9001"))
        response = await backend.submit(http.get("/"))

Any task may await replies and channels. Cancelling the task cancels the reply it waits for; no wire is
touched. Leaving the block drains for at most `drain` seconds, then settles what is left with `PoolClosed` and
gives every descriptor back. Left by an exception, it drains for nothing.

Tasks run outside of ticks, with two exceptions. A task that a flow starts begins at once where the program
has set `asyncio.eager_task_factory`; it may wait for what is ours like any other task. And `nest_asyncio`
lets a flow run asyncio once more: this loop stands still until the flow goes on, and says so.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio import current_task, get_running_loop
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Final, Self

from actors.current import HostWait, outside_deadline, several_hosts
from actors.embedding.hosted import HostedLoop, Watch, due_of, give_up, remaining
from actors.errors import Misuse
from actors.kernel import Kernel
from actors.outcomes import NEVER
from actors.replies import Waitable
from actors.scope import Waker

__all__ = ["AsyncioLoop"]

ANOTHER_LOOP: Final = (
    "the asyncio loop that runs here does not drive this Windlass loop; a loop, its pools and "
    "their replies are used inside one asyncio.run(), so write `async with Loop.in_asyncio()` inside each"
)
INSIDE: Final = (
    "asyncio runs inside a flow or a handler (nest_asyncio?), and this task waits for what comes only after "
    "that continues; await it in the flow instead"
)


class AsyncioLoop(HostedLoop):
    """Made by `Loop.in_asyncio()`. `async with` it, or call `attach` and, at the end, `await aclose()`."""

    host_name = "asyncio"
    opener = "async with Loop.in_asyncio()"

    def __init__(self, *, drain: float = 5.0, kernel: Kernel | None = None, slots: int = 1 << 20) -> None:
        self._host: asyncio.AbstractEventLoop | None = None
        self._nudged = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = NEVER
        self._ticking_task: asyncio.Task[Any] | None = None  # whose step the tick is part of
        self._stands_still = False
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
        self._watch = AsyncioWatch(self._host)
        # Bound to the host, since asking for the running loop each time is a system call; and not to this
        # loop, which nobody shall keep alive.
        return partial(wait_in_asyncio, self._host, self._watch)

    def detach_here(self) -> None:
        """No reader, no timer."""
        host, self._host = self._host, None
        if host is not None and not host.is_closed():
            host.remove_reader(self.fileno())
        self._watch.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def host_is_over(self) -> bool:
        """Whether the asyncio loop is closed."""
        return self._host is not None and self._host.is_closed()

    def host_runs(self) -> bool:
        """Whether the asyncio loop that runs in this thread is ours."""
        return self._host is not None and asyncio._get_running_loop() is self._host

    def in_host_task(self) -> bool:
        """A task is current that was not when the tick began."""
        return current_task(self._host) is not self._ticking_task

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
            if several_hosts():
                self._check_host(host)
            self._nudged = True
            host.call_soon(self._nudged_turn, context=self._context)

    def _check_host(self, host: asyncio.AbstractEventLoop) -> None:
        running = asyncio._get_running_loop()
        if running is not None and running is not host:
            raise Misuse(ANOTHER_LOOP)

    def tick(self, timeout: float | None = None) -> None:
        """As `Loop.tick`."""
        self._ticking_task = None if self._host is None else current_task(self._host)
        super().tick(timeout)

    def turn(self) -> None:
        """One tick, then the tasks that it has woken."""
        if self.ticking:
            self._stand_still()
            return
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
            if len(batch) > 1 and hasattr(host, "_nest_patched"):
                for waiting in woken:  # one of them may run asyncio, and wait for another
                    waiting.step_soon()
            try:
                for waiting in woken:
                    waiting.context.run(waiting.step, waiting)
            finally:  # a task may raise KeyboardInterrupt or SystemExit through us
                for waiting in woken:
                    waiting.step_soon()

    def _stand_still(self) -> None:
        """A flow or a handler runs asyncio, within our tick: hear nothing until it has ended."""
        assert self._host is not None
        self._host.remove_reader(self.fileno())
        if not self._stands_still:
            self._stands_still = True
            self.log.error("asyncio runs inside a flow or a handler; this loop is stopped until that ends")

    def _nudged_turn(self) -> None:
        self._nudged = False
        self.turn()

    def rearm(self) -> None:
        """One asyncio timer, moved only when the next deadline is earlier than it."""
        if self._stands_still and self._host is not None:
            self._stands_still = False
            self._context.run(self._host.add_reader, self.fileno(), self.turn)
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

    __slots__ = ("_asyncio_future_blocking", "_error", "_loop", "_woken", "context", "step")

    def __init__(self, host: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = True
        self._loop = host
        self.step: Any = None  # the task's own, once it waits
        self._woken = False
        self._error: BaseException | None = None

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
        self._woken = True
        self._error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self.step_soon()
        return True

    def refuse_inside(self, loop: AsyncioLoop) -> None:
        """Called in a turn of asyncio's: where the tick in which the wait began goes on, it can never end."""
        if loop.ticking and not self._woken:
            self._woken = True
            self._error = Misuse(INSIDE)
            if self.step is not None:
                self.step_soon()

    def result(self) -> None:
        """What the task has waited for: nothing, or to be cancelled."""
        if self._error is not None:
            raise self._error


_batches: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
"""While a turn is on: whom it has woken. They go on at its end, without a turn of asyncio's between."""


class AsyncioWatch(Watch):
    """By a timer of asyncio's."""

    __slots__ = ("_host", "_timer")

    def __init__(self, host: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._host = host
        self._timer: asyncio.TimerHandle | None = None

    def arm(self) -> None:
        """Look in the turn after the one in which the time has come: first the loop has its own."""
        self.stop()
        self._timer = self._host.call_later(remaining(self.due), self._host.call_soon, self.look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()


def wait_in_asyncio(
    host: asyncio.AbstractEventLoop,
    watch: AsyncioWatch,
    waitable: Waitable,
    inside: AsyncioLoop | None = None,
) -> Generator[Any, Any, Any]:
    """How a task of this asyncio loop waits for one of ours that has not settled. `inside`: whose tick it
    runs in, if in one."""
    inherited = outside_deadline.get()
    due = waitable.due if inherited == NEVER else due_of(waitable, inherited)
    watched = watch.waiting
    while True:
        waiting = _Waiting(host)
        waitable.attach(waiting)
        watched[waiting] = waitable  # as `Watch.add`, written out
        if waitable.deadline < watch.earliest:
            watch.arm_for(waitable.deadline)
        timer = None if due == NEVER else host.call_later(remaining(due), waiting.wake)
        if inside is not None:
            host.call_soon(waiting.refuse_inside, inside)
            inside = None
        try:
            yield waiting
        except BaseException as error:
            give_up(waitable, waiting)
            if isinstance(error, RuntimeError) and waiting.step is None and get_running_loop() is not host:
                raise Misuse(ANOTHER_LOOP) from None
            raise
        finally:
            del watched[waiting]
            if timer is not None:
                timer.cancel()
        if waitable.settled:
            return waitable.result()
        if timer is not None:
            if due != waitable.due and not remaining(due):
                give_up(waitable, waiting, late=True)
            waitable.detach(waiting)
