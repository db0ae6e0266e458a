"""A loop that another loop drives, on the same thread: asyncio, uvloop, trio.

The loop's epoll descriptor is itself pollable. So a host watches one descriptor, keeps one timer for the next
deadline, and calls `tick(0)`; no thread, no polling.

Rules:
1. What the host's tasks do between ticks (submit, cancel, take from a channel) wakes machines; `nudge` asks
   the host for one tick after all tasks of its turn have run, so everything that was submitted in one turn
   leaves in one write.
2. Machines and flows run inside ticks only, tasks outside of them only: no exception passes from one to the
   other, and a task's `deadline()` and context variables are its own.
3. A task that is cancelled while it waits loses interest in the reply, as `Reply.cancel` does, unless
   somebody else waits for it too.
4. The loop belongs to the thread it was attached in, and to the host's run that was on then.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from types import TracebackType
from typing import Any, ClassVar, Final, NoReturn, Self

from actors.current import (
    HostWait,
    enter_host,
    enter_loop,
    hosted_here,
    leave_host,
    outside_deadline,
)
from actors.errors import DeadlineExceeded, Misuse
from actors.kernel import Kernel, SystemKernel
from actors.loop import Loop
from actors.outcomes import NEVER
from actors.replies import Reply, Waitable
from actors.scope import Scope, Waker
from actors.seconds import seconds_of
from actors.telling import told

__all__ = ["GRACE", "LOST", "NO_THREAD", "HostedLoop", "Watch", "due_of", "give_up", "remaining"]

NO_THREAD = -1
GRACE: Final = 1.0  # seconds after its deadline that a reply may take to settle, before it counts as lost
LOST: Final = (
    "neither an answer nor an error came by the deadline: the unit was lost and may have been executed. "
    "Please report this"
)


class _Nudging(list[Scope]):
    """The list of woken scopes between two ticks: each one asks for a tick."""

    __slots__ = ("nudge",)

    def __init__(self, nudge: Callable[[], None], scopes: list[Scope]) -> None:
        super().__init__(scopes)
        self.nudge = nudge

    def append(self, scope: Scope) -> None:
        super().append(scope)
        self.nudge()


class HostedLoop(Loop):
    """Derive a host from it. `attach_here`, `detach_here`, `host_is_over`, `host_runs`, `ask_for_turn` and
    `rearm` are the host's part."""

    host_name: ClassVar[str]
    """As it is called in messages."""

    quiet_drain = True

    def __init__(self, *, drain: float = 5.0, kernel: Kernel | None = None, slots: int = 1 << 20) -> None:
        self.drain_seconds = drain
        self._flow_deadline = NEVER
        self._thread = NO_THREAD  # until attached
        self._empty: Reply[None] | None = None
        before = enter_loop(None)
        try:
            super().__init__(kernel=kernel, slots=slots)
        finally:
            enter_loop(before)  # which loop is current outside of ticks is known by who is attached
        self.woken = _Nudging(self.nudge, self.woken)

    # -- what a host has to do -------------------------------------------------------------------------------

    def attach_here(self) -> HostWait:
        """Watch `fileno()`; returns how the host's coroutines wait."""
        raise NotImplementedError

    def detach_here(self) -> None:
        """Let go of the host, which may be closed already."""
        raise NotImplementedError

    def host_is_over(self) -> bool:
        """Whether the host that drove this loop will never do so again."""
        raise NotImplementedError

    def host_runs(self) -> bool:
        """Whether the host that drives this loop is the one that runs in this thread now."""
        raise NotImplementedError

    def in_host_task(self) -> bool:
        """Within a tick: whether the calling code is a task of the host, and no flow. A host whose tasks
        never begin within a tick need not say."""
        return False

    def ask_for_turn(self) -> None:
        """Have `turn` called, once, when the host's tasks of now have run. Raises `Misuse` if the host is
        over."""
        raise NotImplementedError

    def rearm(self) -> None:
        """After each turn: see that `turn` is called again at `next_deadline`."""
        raise NotImplementedError

    # -- coming and going ------------------------------------------------------------------------------------

    @property
    def attached(self) -> bool:
        """Whether a host drives this loop."""
        return self._thread != NO_THREAD

    def _attach(self) -> Self:
        if self.closed:
            raise Misuse(f"this loop is closed; make another: {self.opener}")
        if self.attached:
            raise Misuse(f"{self.host_name} already drives this loop; make another: {self.opener}")
        if self.fileno() < 0:
            raise Misuse("this system's poller cannot be watched by another loop; use Loop.in_thread()")
        for loop in hosted_here():
            if isinstance(loop, HostedLoop) and loop.host_is_over():
                loop.warn_of_forgotten()
        enter_host(self, self.attach_here())
        self._thread = get_ident()
        self.nudge()
        return self

    def detach(self) -> None:
        """Close at once, without a drain: stop every machine, settle what is left."""
        self.close()

    async def aclose(self) -> None:
        """Drain for at most `drain` seconds, settle what is left then, and close. Does nothing the second
        time."""
        try:
            if self.attached and self.machines:
                self._empty = Reply()
                self.drain(self.drain_seconds)
                self.ask_for_turn()
                await self._empty
        finally:
            self.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.aclose()
        else:  # the program is in trouble, or was cancelled: nothing is waited for
            self.close()

    def close(self) -> None:
        """As `Loop.close`, and let go of the host."""
        if self.attached and not self.ticking and not self.closed:
            self._thread = NO_THREAD
            leave_host(self)
            self.detach_here()
        super().close()

    def __del__(self, warn: Any = warnings.warn) -> None:
        if not getattr(self, "closed", True):
            self.warn_of_forgotten(warn)

    def warn_of_forgotten(self, warn: Any = warnings.warn) -> None:
        """Say that nobody has closed this loop, and close it."""
        text = f"{self!r} was never closed; write `{self.opener} as loop:`, or await loop.aclose() at the end"
        warn(text, ResourceWarning, source=self)
        with suppress(Exception):
            self.close()

    # -- turns -----------------------------------------------------------------------------------------------

    def nudge(self) -> None:
        """There is something to do. Raises `Misuse` in another thread than the host's."""
        if self._thread != NO_THREAD:
            if get_ident() != self._thread:
                self._refuse_thread()
            self.ask_for_turn()

    def turn(self) -> None:
        """One tick on behalf of the host, which may call it once more after the end."""
        if self.closed:
            return
        try:
            self.tick(0)
        finally:
            self.rearm()
        if self._empty is not None and not self.machines:
            self._empty.settle(None)

    def tick(self, timeout: float | None = None) -> None:
        """As `Loop.tick`."""
        self.woken = list(self.woken)
        try:
            super().tick(timeout)
        finally:
            self.woken = _Nudging(self.nudge, self.woken)
            if self.woken or self.dirty:
                self.nudge()

    def spawn_with_token(
        self, machine: Any, on_stop: Callable[[BaseException | None], object] | None = None
    ) -> tuple[int, Any]:
        """As `Loop.spawn_with_token`; between ticks also sees that what the machine began goes on."""
        if self.ticking:
            return super().spawn_with_token(machine, on_stop)
        self._check_thread()
        before = enter_loop(self)
        try:
            spawned = super().spawn_with_token(machine, on_stop)
        finally:
            enter_loop(before)
        self.nudge()
        return spawned

    def run(self, **options: Any) -> NoReturn:
        """Raises `Misuse`: the host runs this loop."""
        raise Misuse(f"{self.host_name} runs this loop; await what you wait for instead of run()")

    def run_until(self, reply: Reply[Any]) -> NoReturn:
        """Raises `Misuse`: the host runs this loop."""
        raise Misuse(f"{self.host_name} runs this loop; await the reply instead of run_until()")

    # -- deadlines, threads ----------------------------------------------------------------------------------

    @property
    def inherited_deadline(self) -> float:
        """Inside a tick the running flow's; outside the host task's own, for tasks take turns."""
        if get_ident() != self._thread != NO_THREAD:
            self._refuse_thread()
        return self._flow_deadline if self._in_flow() else outside_deadline.get()

    @inherited_deadline.setter
    def inherited_deadline(self, deadline: float) -> None:
        if self._in_flow():
            self._flow_deadline = deadline
        else:
            outside_deadline.set(deadline)

    def _in_flow(self) -> bool:
        return self.ticking and not self.in_host_task()

    def deadline_in(self, seconds: float) -> float:
        """As `Loop.deadline_in`, written out: this is called for every unit."""
        if get_ident() != self._thread != NO_THREAD:
            self._refuse_thread()
        if self.ticking:
            inherited = outside_deadline.get() if self.in_host_task() else self._flow_deadline
        else:
            self.now = self._clock()
            inherited = outside_deadline.get()
        try:
            deadline = self.now + seconds
        except TypeError:
            deadline = seconds_of(seconds, "a timeout")  # which refuses
        if deadline <= inherited:
            return deadline
        seconds_of(seconds, "a timeout")
        return inherited

    def _check_thread(self) -> None:
        if get_ident() != self._thread != NO_THREAD:
            self._refuse_thread()

    def _refuse_thread(self) -> NoReturn:
        raise Misuse(
            f"this loop belongs to the thread of its {self.host_name}, and was used in another; "
            "give threads a loop of their own: Loop.in_thread()"
        )


class Watch:
    """Sees to it that a wait ends, whatever has gone wrong: a reply that has not settled `GRACE` seconds
    after its own deadline has been lost, and is failed. Costs two dictionary operations per wait, and one
    timer for all. A host derives from it, and calls `look` at `due`.
    """

    __slots__ = ("earliest", "waiting")

    def __init__(self) -> None:
        self.earliest = NEVER  # no deadline of those that wait is earlier (monotonic seconds)
        self.waiting: dict[Any, Waitable] = {}  # by who waits

    def add(self, waiter: Any, waitable: Waitable) -> None:
        """Somebody begins to wait; they take themselves out of `waiting`."""
        self.waiting[waiter] = waitable
        if waitable.deadline < self.earliest:
            self.arm_for(waitable.deadline)

    def arm_for(self, deadline: float) -> None:
        """Look when this one, the earliest, has passed."""
        self.earliest = deadline
        self.arm()

    @property
    def due(self) -> float:
        """When to look (monotonic seconds)."""
        return self.earliest + GRACE

    def arm(self) -> None:
        """See that `look` is called at `due`, after what the loop itself does at that time."""
        raise NotImplementedError

    def look(self) -> None:
        """Fail what is lost. What is raised by it is raised when all have been looked at."""
        now = SystemKernel.monotonic()
        failures = []
        for waitable in list(self.waiting.values()):
            if waitable.deadline + GRACE <= now and isinstance(waitable, Reply):
                try:
                    waitable.cancel(DeadlineExceeded(LOST))
                except Exception as failure:  # out of the hook of whoever has lost it
                    failures.append(failure)
        self.earliest = min(
            (waitable.deadline for waitable in self.waiting.values() if not waitable.settled), default=NEVER
        )
        if self.earliest != NEVER:
            self.arm()
        if failures:
            raise ExceptionGroup("units that were lost could not be cancelled", failures)


def due_of(waitable: Waitable, inherited: float) -> float:
    """When a task that waits for this must look by itself: its own time, or the end of the `deadline()`
    around it."""
    if isinstance(waitable, Reply) and waitable.deadline <= inherited:
        return waitable.due  # the reply comes to an end by itself, and says more about why
    return min(waitable.due, inherited)


def give_up(waitable: Waitable, waker: Waker, *, late: bool = False) -> None:
    """A task waits no longer, because it was cancelled, or `late`: its `deadline()` has passed.

    A reply that nobody else waits for is told that interest is lost. Late, raises `DeadlineExceeded`.
    """
    waitable.detach(waker)
    error = None
    if late:
        error = DeadlineExceeded(f"the deadline passed while waiting for {told(waitable)}")
    if isinstance(waitable, Reply) and not waitable.awaited:
        waitable.cancel(error)
    if error is not None:
        raise error


def remaining(due: float) -> float:
    """Seconds until then, not less than 0."""
    return max(0.0, due - SystemKernel.monotonic())
