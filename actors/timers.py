"""The timer heap, lazy: at most one entry per machine, corrected when it comes up.

Pushing a deadline later or clearing it is an attribute write on the scope (`deadline`); only pulling it
earlier than what the heap holds (`scheduled`) makes an entry. An entry that comes up too early is put back at
the real deadline. Entries of stopped machines are swept out when they outnumber the living.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from .outcomes import NEVER
from .scope import Scope

__all__ = ["TimerHeap"]

SWEEP_MIN = 1024


class TimerHeap:
    """Which machine's deadline comes next. `heap` is read by the loop, which pushes entries itself on its hot
    path."""

    __slots__ = ("heap", "sweep_at")

    def __init__(self) -> None:
        self.heap: list[tuple[float, Scope]] = []
        self.sweep_at = SWEEP_MIN

    def __repr__(self) -> str:
        return f"<TimerHeap {len(self.heap)} entries>"

    def __len__(self) -> int:
        return len(self.heap)

    def schedule(self, scope: Scope, deadline: float) -> None:
        """Look at this machine no later than `deadline`. Raises `ValueError` for one that is not a
        number (NaN): it would never come."""
        if deadline != deadline:
            raise ValueError(f"{scope!r}: a deadline that is not a number")
        scope.scheduled = deadline
        heappush(self.heap, (deadline, scope))
        if len(self.heap) > self.sweep_at:
            self._sweep()

    def next_deadline(self) -> float:
        """When to look next: never later than the earliest deadline."""
        return self.heap[0][0] if self.heap else NEVER

    def due(self, now: float) -> list[Scope]:
        """The machines whose deadline has passed, in the order of their deadlines. Each one's is cleared."""
        heap = self.heap
        ready: list[Scope] = []
        scope: Scope | None = None
        try:
            while heap and heap[0][0] <= now:
                when, scope = heap[0]
                if when != scope.scheduled or scope.machine is None:
                    heappop(heap)  # superseded by an earlier entry, or its machine has stopped
                    continue
                scope.scheduled = NEVER
                if scope.deadline <= when:
                    scope.deadline = NEVER
                    ready.append(scope)
                    heappop(heap)
                else:
                    heappop(heap)
                    if scope.deadline != NEVER:
                        self.schedule(scope, scope.deadline)
        except BaseException:  # Ctrl-C: nobody's time may be lost by it
            if scope is not None and scope.scheduled == NEVER != scope.deadline:
                self.schedule(scope, scope.deadline)
            self.put_back(ready, now)
            raise
        return ready

    def put_back(self, scopes: Iterable[Scope], now: float) -> None:
        """These were due and could not be called: they are due in the next tick, unless they have stopped or
        have got another deadline meanwhile."""
        for scope in scopes:
            if scope.machine is not None and scope.deadline == NEVER:
                scope.deadline = now
                self.schedule(scope, now)

    def _sweep(self) -> None:
        self.heap[:] = {
            entry for entry in self.heap if entry[1].machine is not None and entry[0] == entry[1].scheduled
        }
        heapify(self.heap)
        self.sweep_at = max(SWEEP_MIN, 2 * len(self.heap))
