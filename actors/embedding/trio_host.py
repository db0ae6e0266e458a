"""The loop inside a trio program, on the same thread. Needs `trio`.

    async with Loop.in_trio() as loop:
        backend = loop.spawn(http.pool("http://127.0.0.1:9001"))
        response = await backend.submit(http.get("/"))

Two system tasks drive it: one waits for the descriptor or the next deadline, one for a nudge. Any task may
await replies and channels; one that is cancelled, by its scope or a timeout, cancels the reply it waits for.
A reply that is pending is a checkpoint, one that has settled is not. Leaving the block is as for asyncio.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from functools import partial
from typing import Any, Self

import trio
from trio import lowlevel

from actors.current import HostWait, outside_deadline
from actors.embedding.hosted import HostedLoop, Watch, due_of, give_up, remaining
from actors.errors import Misuse
from actors.kernel import Kernel
from actors.outcomes import NEVER
from actors.replies import Waitable
from actors.scope import Waker

__all__ = ["TrioLoop"]


class TrioLoop(HostedLoop):
    """Made by `Loop.in_trio()`. `async with` it, or call `attach` and, at the end, `await aclose()`."""

    host_name = "trio"
    opener = "async with Loop.in_trio()"

    def __init__(self, *, drain: float = 5.0, kernel: Kernel | None = None, slots: int = 1 << 20) -> None:
        self._nudges = lowlevel.ParkingLot()
        self._nudged = False
        self._until = trio.CancelScope()
        self._over = False
        super().__init__(drain=drain, kernel=kernel, slots=slots)

    def attach(self) -> Self:
        """Let the running trio program drive this loop from now on. Raises `Misuse` if one does already."""
        return self._attach()

    async def __aenter__(self) -> Self:
        return self.attach()

    def attach_here(self) -> HostWait:
        """Start the two tasks; they end with the loop, or with trio."""
        if not lowlevel.in_trio_run():
            raise Misuse("no trio program runs here; write `async with Loop.in_trio()` inside trio.run()")
        lowlevel.spawn_system_task(self._watch, name=f"{self!r} watches")
        lowlevel.spawn_system_task(self._answer_nudges, name=f"{self!r} is nudged")
        return partial(wait_in_trio, TrioWatch())

    def detach_here(self) -> None:
        """End the two tasks."""
        if not self._over and lowlevel.in_trio_run():
            lowlevel.notify_closing(self.fileno())
            self._nudges.unpark_all()
        self._over = True

    def host_is_over(self) -> bool:
        """Whether `trio.run` has ended our tasks."""
        return self._over

    def host_runs(self) -> bool:
        """Whether trio runs in this thread."""
        return not self._over and lowlevel.in_trio_run()

    def ask_for_turn(self) -> None:
        """Let the nudged task run with trio's next batch."""
        if self._over or not lowlevel.in_trio_run():
            raise Misuse(
                "the trio program that drove this loop is over; write `async with Loop.in_trio()` inside "
                "what trio.run() runs, once in each"
            )
        if not self._nudged:
            self._nudged = True
            self._nudges.unpark()

    async def _answer_nudges(self) -> None:
        try:
            while not self._over:
                if self._nudged:
                    self._nudged = False
                    self.turn()
                else:
                    await self._nudges.park()
        finally:
            self._over = True

    async def _watch(self) -> None:
        try:
            while not self._over:
                with trio.CancelScope(deadline=self._trio_deadline()) as self._until:
                    await lowlevel.wait_readable(self.fileno())
                self.turn()
        except trio.ClosedResourceError:
            pass  # the loop was closed
        finally:
            self._over = True

    def rearm(self) -> None:
        """Move the deadline of the watching task."""
        self._until.deadline = self._trio_deadline()

    def _trio_deadline(self) -> float:
        due = self.next_deadline
        return math.inf if due == NEVER else trio.current_time() + remaining(due)


class _Waker(Waker):
    """What a waitable wakes in place of a machine's scope: the task that waits for it."""

    __slots__ = ("task",)

    def __init__(self, task: lowlevel.Task) -> None:
        self.task: lowlevel.Task | None = task

    def wake(self) -> None:
        """Reschedule the task, once."""
        task, self.task = self.task, None
        if task is not None:
            lowlevel.reschedule(task)


class TrioWatch(Watch):
    """By a task of its own, which ends when nothing is left to look at."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        super().__init__()
        self._until: trio.CancelScope | None = None

    def arm(self) -> None:
        """Start the task, or have it look earlier."""
        if self._until is None:
            self._until = trio.CancelScope()
            lowlevel.spawn_system_task(self._run, name="windlass watches for lost replies")
        self._until.deadline = trio.current_time() + remaining(self.due)

    async def _run(self) -> None:
        while self.earliest != NEVER:
            with trio.CancelScope(deadline=trio.current_time() + remaining(self.due)) as self._until:
                await trio.sleep_forever()
            await lowlevel.checkpoint()  # what the loop itself does at that time comes first
            self.look()
        self._until = None


def wait_in_trio(watch: TrioWatch, waitable: Waitable) -> Generator[Any, Any, Any]:
    """How a trio task waits for one of ours."""
    inherited = outside_deadline.get()
    due = waitable.due if inherited == NEVER else due_of(waitable, inherited)
    watched = waitable.deadline != NEVER
    while not waitable.settled:
        waker = _Waker(lowlevel.current_task())

        def abort(_: Any, waker: _Waker = waker) -> lowlevel.Abort:
            waker.task = None
            return lowlevel.Abort.SUCCEEDED

        waitable.attach(waker)
        if watched:
            watch.add(waker, waitable)
        try:
            if due == NEVER:
                yield from lowlevel.wait_task_rescheduled(abort).__await__()
            else:
                with trio.CancelScope(deadline=trio.current_time() + remaining(due)):
                    yield from lowlevel.wait_task_rescheduled(abort).__await__()
        except BaseException:
            give_up(waitable, waker)
            raise
        finally:
            if watched:
                del watch.waiting[waker]
        if not waitable.settled:  # the timer's doing
            if due != waitable.due and not remaining(due):
                give_up(waitable, waker, late=True)
            waitable.detach(waker)
    return waitable.result()
