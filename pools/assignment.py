"""Who sends what, as a pure function: what waits and what the connections could take go in, a plan comes out,
nothing is changed.

The pool calls `assign` once per wakeup for all that waits, and then carries the plan out. Rules:
1. Units go in the order of the queue. The first that cannot be placed ends the plan: what is behind it waits
   as well, so an exclusive unit, which needs an idle connection, is not starved by those that could share.
2. Backends: `choose` names the preferred one for each unit, by default that with the least in flight, a
   connection that is opening counting as one. A backend whose last connect failed is left out until its
   backoff is over, unless it still has connections. One that is to be avoided does not grow while there are
   others, and serves only what would wait otherwise.
3. On a backend: the connection that fell idle last; else the least loaded one with room, of the first
   `SHARING_LOOKED_AT`.
4. A unit that found no idle connection where it was preferred makes its backend grow by one, lazily, up to
   its limit, connections that are opening already being counted. With several opened at once the units are
   not bound to them.
5. Cost: per unit O(backends) and a heap step over at most `SHARING_LOOKED_AT` connections, per call nothing
   that grows with the connections or with what stays in the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from itertools import islice
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

__all__ = ["BackendView", "Choose", "Plan", "Slate", "assign", "forgiving", "least_in_flight"]

SHARING_LOOKED_AT: Final = 32

M = TypeVar("M", bound="ConnectionView")
W = TypeVar("W", bound="WorkView")


class WorkView(Protocol):
    """What the plan needs to know of a waiting unit."""

    @property
    def unit(self) -> Any: ...


class ConnectionView(Protocol):
    """What the plan needs to know of a connection."""

    @property
    def in_flight(self) -> int: ...


class BackendView(Protocol[M]):
    """What the plan needs to know of a backend."""

    @property
    def idle(self) -> dict[M, None]:
        """Connections with nothing in flight, the last to fall idle at the end."""

    @property
    def sharing(self) -> dict[M, None]:
        """Connections with something in flight and room for more."""

    @property
    def in_flight(self) -> int: ...
    @property
    def connections(self) -> int:
        """Open and opening ones."""

    @property
    def opening(self) -> int: ...
    @property
    def retry_at(self) -> float:
        """When it may be connected to again (monotonic seconds); 0 if the last attempt went well."""

    @property
    def avoid_until(self) -> float:
        """Others are preferred until then (monotonic seconds)."""


class Plan(NamedTuple, Generic[W, M]):
    """Which unit goes to which connection, in this order, and how many each backend (by its index) opens."""

    sends: list[tuple[W, M]]
    opens: list[tuple[int, int]]


class Slate(Generic[M]):
    """One backend's offer during one call: what is left of it as the plan goes on."""

    __slots__ = ("_depth", "_idle", "_heap", "_sequence", "backend", "index", "load", "may_open", "wanted")

    def __init__(
        self, index: int, backend: BackendView[M], depth: int, connections_max: int, now: float
    ) -> None:
        self.index = index
        self.backend = backend
        self.load = backend.in_flight + backend.opening  # and what the plan has added
        self.may_open = connections_max - backend.connections if backend.retry_at <= now else 0
        self.wanted = -backend.opening  # connections, those that are opening taken off
        self._depth = depth
        self._idle: Iterator[M] | None = reversed(backend.idle) if backend.idle else None
        self._heap: list[tuple[int, int, M]] | None = None if depth > 1 else []
        self._sequence = 0

    def take(self, pipelinable: bool) -> M | None:
        """A connection for one more unit, an idle one first; None if there is none."""
        if self._idle is not None:
            connection = next(self._idle, None)
            if connection is not None:
                self.load += 1
                if pipelinable and self._depth > 1:
                    self._sequence += 1
                    heappush(self._shared(), (1, self._sequence, connection))
                return connection
            self._idle = None
        self.wanted += 1
        if not pipelinable:
            return None
        heap = self._shared()
        if not heap:
            return None
        load, sequence, connection = heap[0]
        if load + 1 < self._depth:
            heapreplace(heap, (load + 1, sequence, connection))
        else:
            heappop(heap)
        self.load += 1
        return connection

    @property
    def only(self) -> tuple[M | None, int]:
        """The only connection with room, which would be given to all the next that may share, and how many
        those are.
        """
        heap = self._heap
        if self._idle is None and heap and len(heap) == 1:
            return heap[0][2], self._depth - heap[0][0]
        return None, 0

    def took(self, count: int) -> None:
        """The only connection has been given to so many without asking."""
        if count:
            load, sequence, connection = self._shared().pop()
            if load + count < self._depth:
                self._shared().append((load + count, sequence, connection))
            self.load += count
            self.wanted += count

    def _shared(self) -> list[tuple[int, int, M]]:
        if self._heap is None:
            connections = list(islice(self.backend.sharing, SHARING_LOOKED_AT))
            self._heap = [
                (connection.in_flight, number, connection) for number, connection in enumerate(connections)
            ]
            heapify(self._heap)
            self._sequence = len(connections)
        return self._heap

    @property
    def opens(self) -> int:
        """How many connections to open: as many as are wanted and allowed."""
        return max(0, min(self.wanted, self.may_open))


Choose = Callable[[list[Slate[Any]], Any], Slate[Any]]
"""Picks the preferred one of at least two slates for a unit. This is where other ways of balancing are put
in.
"""


def least_in_flight(slates: list[Slate[Any]], unit: Any) -> Slate[Any]:
    """The backend with the least in flight; equal ones take turns."""
    return min(slates, key=_load)


def forgiving(choose: Choose, tell: Callable[[Exception], object]) -> Choose:
    """`choose`, or `least_in_flight` for a unit for which it fails: it raises, or does not return one of the
    slates. `tell` is called with the error. What it does to the list changes nothing.
    """

    def chosen(slates: list[Slate[Any]], unit: Any) -> Slate[Any]:
        try:
            slate = choose(slates.copy(), unit)
            if slate not in slates:
                raise TypeError(f"choose returned a {type(slate).__name__}; return one of the slates given")
        except Exception as error:
            tell(error)
            slate = least_in_flight(slates, unit)
        return slate

    return choose if choose is least_in_flight else chosen


def _load(slate: Slate[Any]) -> int:
    return slate.load


def assign(
    waiting: Iterable[W],
    count: int,
    backends: Sequence[BackendView[M]],
    *,
    depth: int,
    connections_max: int,
    now: float,
    choose: Choose = least_in_flight,
    first: int = 0,
) -> Plan[W, M]:
    """Plan for the `count` units of `waiting`, with at most `depth` units per connection and
    `connections_max` per backend. Of equal backends the one at the index `first`, or the next after it, is
    preferred.
    """
    order = range(len(backends)) if not first else [*range(first, len(backends)), *range(first)]
    slates = [
        Slate(index, backends[index], depth, connections_max, now)
        for index in order
        if backends[index].retry_at <= now or backends[index].connections
    ]
    spare: list[Slate[M]] = []  # of those to be avoided: what is idle there is better than to wait
    if len(slates) > 1:
        good = [slate for slate in slates if slate.backend.avoid_until <= now]
        if good and len(good) < len(slates):
            spare = [slate for slate in slates if slate.backend.avoid_until > now]
            slates = good
    sends: list[tuple[W, M]] = []
    if len(slates) == 1:
        slate = slates[0]
        only: Any = None
        room = given = 0
        for work in waiting:
            if given < room and work.unit.pipelinable:
                given += 1
                sends.append((work, only))
                continue
            slate.took(given)
            connection = slate.take(work.unit.pipelinable)
            (only, room), given = slate.only, 0
            if connection is None and spare:
                connection = _any(spare, work.unit)
            if connection is None:
                break
            sends.append((work, connection))
        slate.took(given)
        slate.wanted += max(0, count - len(sends) - 1)
    elif slates:
        for work in waiting:
            connection = _place(slates, work.unit, choose)
            if connection is None and spare:
                connection = _any(spare, work.unit)
            if connection is None:
                break
            sends.append((work, connection))
        _spread(slates, count - len(sends))
    return Plan(sends, [(slate.index, slate.opens) for slate in slates if slate.opens])


def _place(slates: list[Slate[M]], unit: Any, choose: Choose) -> M | None:
    """The preferred backend's connection, or any other's that has one now."""
    preferred: Slate[M] = choose(slates, unit)
    wanted_before = preferred.wanted
    connection = preferred.take(unit.pipelinable)
    if connection is not None:
        return connection
    for slate in sorted(slates, key=_load):
        if slate is not preferred:
            wanted = slate.wanted
            connection = slate.take(unit.pipelinable)
            slate.wanted = wanted  # only the preferred one grows for this unit
            if connection is not None:
                return connection
    preferred.wanted = wanted_before  # it waits: whoever may grow does so for it
    return None


def _any(slates: list[Slate[M]], unit: Any) -> M | None:
    """A connection of whichever has one now."""
    for slate in slates:
        connection = slate.take(unit.pipelinable)
        if connection is not None:
            return connection
    return None


def _spread(slates: list[Slate[M]], waiting: int) -> None:
    """One connection more per unit that stays in the queue, in turns over the backends that may grow."""
    while waiting > 0:
        growing = [slate for slate in slates if slate.wanted < slate.may_open]
        if not growing:
            return
        slate = min(growing, key=lambda slate: slate.load + max(0, slate.wanted))
        slate.wanted += 1
        waiting -= 1
