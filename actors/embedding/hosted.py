"""A loop that another loop drives, on the same thread: asyncio, uvloop, trio.

The loop's epoll descriptor is itself pollable. So a host watches one descriptor, keeps one timer for the next
deadline, and calls `tick(0)`; no thread, no polling. What host tasks do between ticks (submit, cancel, take
from a channel) wakes machines; `nudge` asks the host for one tick after all tasks of its turn have run, so
that everything that was submitted in one turn leaves in one write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.current import outside_deadline
from actors.kernel import Kernel
from actors.loop import Loop
from actors.outcomes import NEVER
from actors.scope import Scope

__all__ = ["HostedLoop"]


class _Nudging(list[Scope]):
    """The list of woken scopes between two ticks: the first one asks for a tick."""

    __slots__ = ("nudge",)

    def __init__(self, nudge: Callable[[], None], scopes: list[Scope]) -> None:
        super().__init__(scopes)
        self.nudge = nudge

    def append(self, scope: Scope) -> None:
        super().append(scope)
        self.nudge()


class HostedLoop(Loop):
    """Derive a host from it: `nudge` must see that `turn` is called soon, and `rearm` that it is at
    `next_deadline`."""

    def __init__(self, *, kernel: Kernel | None = None, slots: int = 1 << 20) -> None:
        self._flow_deadline = NEVER
        super().__init__(kernel=kernel, slots=slots)
        self.woken = _Nudging(self.nudge, self.woken)

    @property
    def inherited_deadline(self) -> float:
        """Inside a tick the running flow's; outside the host task's own, for tasks take turns."""
        return self._flow_deadline if self.ticking else outside_deadline.get()

    @inherited_deadline.setter
    def inherited_deadline(self, deadline: float) -> None:
        if self.ticking:
            self._flow_deadline = deadline
        else:
            outside_deadline.set(deadline)

    def nudge(self) -> None:
        """There is something to do: have `turn` called when the host's tasks have run."""
        raise NotImplementedError

    def rearm(self) -> None:
        """After each turn: have `turn` called again at `next_deadline`."""
        raise NotImplementedError

    def turn(self) -> None:
        """One tick on behalf of the host, which has to do nothing else."""
        self.tick(0)
        self.rearm()

    def tick(self, timeout: float | None = None) -> None:
        """As `Loop.tick`."""
        self.woken = list(self.woken)
        try:
            super().tick(timeout)
        finally:
            self.woken = _Nudging(self.nudge, self.woken)
            if self.woken or self.dirty:
                self.nudge()

    def spawn_with_token(self, machine: Any) -> tuple[int, Any]:
        """As `Loop.spawn_with_token`; between ticks also sees that what the machine began goes on."""
        spawned = super().spawn_with_token(machine)
        if not self.ticking:
            self.nudge()
        return spawned
