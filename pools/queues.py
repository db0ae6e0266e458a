"""The queue in front of a pool: bounded in units and in bytes, a FIFO per priority.

Rules:
1. Lower numbers go first. Within a priority the order of `push` holds; what `put_back` returns goes to the
   head.
2. Removing is O(1): a work that has settled is dead where it stands, counted out at once and swept out later.
3. `len` is the exact number of living works, `bytes` the size of their units.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

from actors import NEVER

from .units import Work

__all__ = ["PRIORITIES", "UnitQueue"]

PRIORITIES: Final = 4  # 0 (first) to 3: few enough to look at each
SWEEP_MIN: Final = 64  # dead works that are tolerated at the least


class UnitQueue:
    """Holds at most `limit` units of together `bytes_max` bytes; whoever pushes looks before."""

    __slots__ = ("_dead", "_levels", "bytes", "bytes_max", "limit", "live")

    def __init__(self, limit: int, bytes_max: int) -> None:
        self.limit = limit
        self.bytes_max = bytes_max
        self.bytes = 0
        self.live = 0
        self._dead = 0
        self._levels: tuple[deque[Work[Any]], ...] = tuple(deque() for _ in range(PRIORITIES))

    def __repr__(self) -> str:
        return f"<UnitQueue {self.live}/{self.limit} units, {self.bytes}/{self.bytes_max} bytes>"

    def __len__(self) -> int:
        return self.live

    def __iter__(self) -> Iterator[Work[Any]]:
        """The living, in the order in which they are to be sent."""
        works = chain.from_iterable(self._levels)
        return (work for work in works if not work._state) if self._dead else works

    def push(self, work: Work[Any]) -> None:
        """Queue at the end of its priority."""
        self._levels[work.priority].append(work)
        self.live += 1
        self.bytes += work.unit.size

    def put_back(self, works: Iterable[Work[Any]]) -> None:
        """Taken back from a connection, in their order: to the head. The limit does not apply, they had been
        admitted.
        """
        for work in reversed(list(works)):
            self._levels[work.priority].appendleft(work)
            self.live += 1
            self.bytes += work.unit.size

    def drop(self, count: int) -> None:
        """Take the first `count` living works off, which are those that iterating gave first."""
        if count == self.live:  # nearly always
            for level in self._levels:
                level.clear()
            self.live = self.bytes = self._dead = 0
            return
        for level in self._levels:
            while count and level:
                work = level.popleft()
                if work._state:
                    self._dead -= 1
                else:
                    count -= 1
                    self.live -= 1
                    self.bytes -= work.unit.size

    def settled(self, work: Work[Any]) -> None:
        """A work that stands in this queue has been settled: it is dead."""
        self.live -= 1
        self.bytes -= work.unit.size
        self._dead += 1
        if self._dead > self.live + SWEEP_MIN:
            self._sweep()

    def expired(self, now: float) -> tuple[list[Work[Any]], float]:
        """Whose deadline has passed, and the earliest deadline of the others."""
        gone: list[Work[Any]] = []
        earliest = NEVER
        for work in self:
            if work.deadline <= now:
                gone.append(work)
            elif work.deadline < earliest:
                earliest = work.deadline
        return gone, earliest

    def _sweep(self) -> None:
        for level in self._levels:
            living = [work for work in level if not work._state]
            level.clear()
            level.extend(living)
        self._dead = 0
