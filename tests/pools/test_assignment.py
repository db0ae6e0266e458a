"""Assignment is a pure function: cases by table, then anything that hypothesis can think of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools import assign
from pools.assignment import Slate, least_in_flight
from pools.testing import Ask


@dataclass(frozen=True)
class Waiting:
    name: int
    unit: Ask


@dataclass(eq=False)
class Connection:
    name: str
    in_flight: int = 0


@dataclass
class Address:
    idle: dict[Connection, None] = field(default_factory=dict)
    sharing: dict[Connection, None] = field(default_factory=dict)
    in_flight: int = 0
    connections: int = 0
    opening: int = 0
    retry_at: float = 0.0
    avoid_until: float = 0.0


def backend(idle: str = "", sharing: str = "", full: int = 0, opening: int = 0, **more: Any) -> Address:
    """`idle="ab"`: b fell idle last; `sharing="c1d3"`: c with one in flight, d with three."""
    shared = {
        Connection(name, int(load)): None for name, load in zip(sharing[::2], sharing[1::2], strict=True)
    }
    return Address(
        idle={Connection(name): None for name in idle},
        sharing=shared,
        in_flight=sum(connection.in_flight for connection in shared) + full,
        connections=len(idle) + len(shared) + full + opening,
        opening=opening,
        **more,
    )


def plan(
    waiting: str, *backends: Address, depth: int = 1, limit: int = 4, now: float = 10.0
) -> tuple[str, dict[int, int]]:
    """Units as `.` (may share) and `x` (exclusive); the plan as the connections' names in order."""
    works = [Waiting(n, Ask("", pipelinable=kind == ".")) for n, kind in enumerate(waiting)]
    sends, opens = assign(works, len(works), backends, depth=depth, connections_max=limit, now=now)
    assert [work.name for work, _ in sends] == list(range(len(sends)))
    return "".join(connection.name for _, connection in sends), dict(opens)


CASES = {
    "nothing there: one connection per unit": (("..", backend()), {}, ("", {0: 2})),
    "at most as many as allowed": (("........", backend()), {}, ("", {0: 4})),
    "none when enough are opening": (("..", backend(opening=2)), {}, ("", {})),
    "one more than are opening": (("...", backend(opening=2)), {}, ("", {0: 1})),
    "the last to fall idle goes first": (("..", backend("abc")), {}, ("cb", {})),
    "idle ones, then growth": (("...", backend("ab")), {}, ("ba", {0: 1})),
    "all busy and no more allowed": (("..", backend(full=4)), {}, ("", {})),
    "pipelining: idle first, shared after": (("...", backend("a")), {"depth": 2, "limit": 1}, ("aa", {})),
    "the least loaded with room": (("...", backend(sharing="a3b1")), {"depth": 4, "limit": 2}, ("bba", {})),
    "evenly": (("....", backend("ab")), {"depth": 2, "limit": 2}, ("baba", {})),
    "grows while it shares": (("..", backend(sharing="a1")), {"depth": 4}, ("aa", {0: 2})),
    "exclusive takes an idle one": (("x", backend("a", "b1")), {"depth": 4}, ("a", {})),
    "exclusive does not share": (("x", backend(sharing="a1")), {"depth": 4, "limit": 1}, ("", {})),
    "and holds back those behind": ((".x.", backend(sharing="a1")), {"depth": 4, "limit": 1}, ("a", {})),
    "an exclusive one's connection takes no more": (
        ("x.", backend("a")),
        {"depth": 4, "limit": 1},
        ("a", {}),
    ),
    "two backends: least in flight": (("..", backend("a", full=1), backend("b")), {}, ("ba", {})),
    "two backends: in turns": (("....", backend("ab"), backend("cd")), {}, ("bdac", {})),
    "a preferred backend grows, another serves": (
        (".", backend(), backend("b", full=1)),
        {},
        ("b", {0: 1}),
    ),
    "a backend that is slow to accept is not waited for": (
        ("..", backend(opening=1), backend()),
        {},
        ("", {1: 1}),
    ),
    "growth is spread": (("....", backend(), backend()), {}, ("", {0: 2, 1: 2})),
    "growth stops at both limits": ((".........", backend(), backend()), {"limit": 2}, ("", {0: 2, 1: 2})),
    "a backend that is down is left out": (("..", backend(retry_at=11.0), backend()), {}, ("", {1: 2})),
    "but not the connections it has": (("..", backend("a", retry_at=11.0)), {}, ("a", {})),
    "a backend that is avoided is left out": (("..", backend(avoid_until=11.0), backend()), {}, ("", {1: 2})),
    "but what is idle there is better than to wait": (
        ("..", backend("a", avoid_until=11.0), backend()),
        {},
        ("a", {1: 2}),
    ),
    "but not where all are": (
        ("..", backend(avoid_until=11.0), backend(avoid_until=12.0)),
        {},
        ("", {0: 1, 1: 1}),
    ),
    "no more than the depth, though more wait": (
        (".....", backend("a")),
        {"depth": 3, "limit": 1},
        ("aaa", {}),
    ),
    "all that fit, whatever the depth": (("......", backend("a")), {"depth": 5, "limit": 1}, ("aaaaa", {})),
    "nor when one that goes elsewhere comes between": (
        ("..x...", backend(sharing="a1"), backend("b", avoid_until=11.0)),
        {"depth": 4, "limit": 1},
        ("aaba", {}),
    ),
    "nor on those that are shared": (
        ("......", backend(sharing="a1b2")),
        {"depth": 3, "limit": 2},
        ("aab", {}),
    ),
    "one that was idle has one in flight then": (
        ("....", backend("a", "b1")),
        {"depth": 3, "limit": 2},
        ("abab", {}),
    ),
    "an exclusive one's connection is left with it": (
        ("x...", backend("ab")),
        {"depth": 2, "limit": 2},
        ("baa", {}),
    ),
    "shared ones of two backends in turns": (
        ("....", backend(sharing="a1"), backend(sharing="b1")),
        {"depth": 4, "limit": 1},
        ("abab", {}),
    ),
    "where none may be opened none is wanted": (
        ("..", backend(full=1, retry_at=11.0), backend(full=2)),
        {},
        ("", {1: 2}),
    ),
    "a backend may be tried again at the very moment": (("..", backend(retry_at=10.0)), {}, ("", {0: 2})),
    "and is avoided no longer": (
        ("..", backend("a", avoid_until=10.0), backend("b", full=1)),
        {},
        ("ab", {0: 1}),
    ),
    "what is avoided serves what would wait, and grows only alone": (
        ("...", backend("ab", avoid_until=11.0), backend(full=4), backend(full=4)),
        {},
        ("ba", {}),
    ),
    "all are down": (("..", backend(retry_at=11.0), backend(retry_at=12.0)), {}, ("", {})),
    "nothing waits": (("", backend("a")), {}, ("", {})),
}


@pytest.mark.parametrize("case", CASES)
def test_cases(case: str) -> None:
    arguments, options, expected = CASES[case]
    assert plan(*arguments, **options) == expected


def test_how_a_backend_is_chosen_can_be_replaced() -> None:
    def last(slates: list[Slate[Any]], unit: Any) -> Slate[Any]:
        return slates[-1]

    works = [Waiting(0, Ask(""))]
    backends = [backend("a"), backend("b", full=9)]
    sends, _ = assign(works, 1, backends, depth=1, connections_max=20, now=0.0, choose=last)
    assert [connection.name for _, connection in sends] == ["b"]
    sends, _ = assign(works, 1, backends, depth=1, connections_max=20, now=0.0, choose=least_in_flight)
    assert [connection.name for _, connection in sends] == ["a"]


@st.composite
def addresses(draw: st.DrawFn, depth: int, limit: int) -> Address:
    loads = draw(st.lists(st.integers(0, depth), max_size=limit))
    connections = [Connection(f"{n}", load) for n, load in enumerate(loads)]
    opening = draw(st.integers(0, limit - len(connections)))
    return Address(
        idle={connection: None for connection in connections if not connection.in_flight},
        sharing={connection: None for connection in connections if 0 < connection.in_flight < depth},
        in_flight=sum(loads),
        connections=len(connections) + opening,
        opening=opening,
        retry_at=draw(st.sampled_from([0.0, 5.0, 15.0])),
    )


@pytest.mark.no_cover
@given(st.data(), st.integers(1, 4), st.integers(1, 6), st.text(".x", max_size=30))
def test_whatever_the_situation(data: st.DataObject, depth: int, limit: int, waiting: str) -> None:
    backends = data.draw(st.lists(addresses(depth, limit), min_size=1, max_size=3))
    before = [(dict(each.idle), dict(each.sharing), each.in_flight) for each in backends]
    works = [Waiting(n, Ask("", pipelinable=kind == ".")) for n, kind in enumerate(waiting)]
    sends, opens = assign(works, len(works), backends, depth=depth, connections_max=limit, now=10.0)

    assert before == [(each.idle, each.sharing, each.in_flight) for each in backends]  # it is pure
    assert [work for work, _ in sends] == works[: len(sends)]  # FIFO, from the head
    load: dict[Connection, int] = {}
    alone: set[Connection] = set()
    for work, connection in sends:
        assert connection not in alone
        load[connection] = load.get(connection, connection.in_flight) + 1
        if not work.unit.pipelinable:
            assert load[connection] == 1
            alone.add(connection)
    assert all(count <= depth for count in load.values())  # capacity
    for index, count in opens:
        each = backends[index]
        assert 0 < count <= limit - each.connections
        assert each.retry_at <= 10.0
        assert count + each.opening <= len(works)
    if len(sends) < len(works):  # nothing waits that could have been sent
        used = set(load)
        assert not any(connection not in used for each in backends for connection in each.idle)
        if works[len(sends)].unit.pipelinable:
            assert all(
                load.get(connection, connection.in_flight) >= depth or connection in alone
                for each in backends
                for connection in (*each.idle, *each.sharing)
            )
        growing = [each for each in backends if each.retry_at <= 10.0 and each.connections < limit]
        assert opens or not growing or any(each.opening for each in backends)
