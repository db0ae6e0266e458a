"""The queue in front of a pool: bounded in units and in bytes, a FIFO per priority.

Rules:
1. Lower numbers go first. Within a priority units go in the order in which they were submitted, also those
   that come back from a connection.
2. A work is queued if it is a key here, and that is all there is to it: there are no dead ones, no marks on
   the works, nothing to sweep. Removing is O(1).
3. `live` is the exact number of works, `bytes` the size of their units. Nobody else writes them.

Each priority has two dicts of works and the sizes of their units. `back` takes what is submitted. What comes
back from a connection goes into `front`, in order; and when the front is used up, it takes the next
`FRONT_SIZE` of the back: a dict that is eaten from its head must not be read from its head every time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from operator import attrgetter
from typing import Any, Final

from actors import NEVER

from .units import Work

__all__ = ["PRIORITIES", "UnitQueue"]

PRIORITIES: Final = 4  # 0 (first) to 3: few enough to look at each
FRONT_SIZE: Final = 256

BY_NUMBER: Final = attrgetter("number")


class UnitQueue:
    """Holds at most `limit` units of together `bytes_max` bytes; whoever pushes looks before."""

    __slots__ = ("_backs", "_fronts", "_order", "bytes", "bytes_max", "limit", "live")

    def __init__(self, limit: int, bytes_max: int) -> None:
        self.limit = limit
        self.bytes_max = bytes_max
        self.bytes = 0
        self.live = 0
        self._fronts: tuple[dict[Work[Any], int], ...] = tuple({} for _ in range(PRIORITIES))
        self._backs: tuple[dict[Work[Any], int], ...] = tuple({} for _ in range(PRIORITIES))
        self._order = tuple(chain.from_iterable(zip(self._fronts, self._backs, strict=True)))

    def __repr__(self) -> str:
        return f"<UnitQueue {self.live}/{self.limit} units, {self.bytes}/{self.bytes_max} bytes>"

    def __len__(self) -> int:
        return self.live

    def __contains__(self, work: Work[Any]) -> bool:
        return work in self._fronts[work.priority] or work in self._backs[work.priority]

    def __iter__(self) -> Iterator[Work[Any]]:
        """In the order in which they are to be sent."""
        first = self._backs[0]
        return iter(first) if len(first) == self.live else chain.from_iterable(self._order)

    def push(self, work: Work[Any], size: int) -> None:
        """Queue at the end of its priority; its unit holds so many bytes."""
        self._backs[work.priority][work] = size
        self.live += 1
        self.bytes += size

    def put_back(self, works: Iterable[Work[Any]]) -> None:
        """Taken back from a connection: to where they stood. The limit does not apply, they had been
        admitted.
        """
        touched: set[int] = set()
        for work in works:
            try:
                size = work.unit.size
            except Exception:  # it was known once, and what was admitted stays so
                size = 0
            self._fronts[work.priority][work] = size
            self.live += 1
            self.bytes += size
            touched.add(work.priority)
        for priority in touched:
            front = self._fronts[priority]
            in_order = {work: front[work] for work in sorted(front, key=BY_NUMBER)}
            front.clear()
            front.update(in_order)

    def take(self, count: int) -> None:
        """Take the first `count` off, which are those that iterating gave first."""
        if count == self.live:  # nearly always
            if len(self._backs[0]) == count:
                self._backs[0].clear()
            else:
                for level in self._order:
                    level.clear()
            self.live = self.bytes = 0
            return
        for work in list(islice(self, count)):
            self.discard(work)
        for front, back in zip(self._fronts, self._backs, strict=True):
            if not front and len(back) > FRONT_SIZE:
                front.update(islice(back.items(), FRONT_SIZE))
                for work in front:
                    del back[work]

    def discard(self, work: Work[Any]) -> bool:
        """Take this one off, wherever it stands. False if it was not queued."""
        priority = work.priority
        for level in (self._fronts[priority], self._backs[priority]):
            size = level.pop(work, None)
            if size is not None:
                self.live -= 1
                self.bytes -= size
                return True
        return False

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
