"""Hypothesis strategies: sequences of events for a driven machine.

    @given(events([b"GET / HTTP/1.1\\r\\n\\r\\n"]))
    def test_it_is_answered_or_closed(story: list[Event]) -> None:
        driver = Driver(Greeter())
        for event in story:
            event.happen(driver)
        assert driver.stops == (not driver.alive)

What hypothesis shows when a test fails reads as the line of a test: `[.receive(b'G'), .wake(), .expire()]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

try:
    from hypothesis import strategies as st
except ModuleNotFoundError as missing:
    raise ImportError(
        "actors.testing.strategies needs hypothesis; install the extra 'windlass-runtime[testing]'"
    ) from missing

from actors.simulation.knobs import knobs_of

from .events import DRAIN, END, EXPIRE, RESET, STOP, WAKE, Event, advance, receive, room

__all__ = ["events", "inputs", "knobs"]

DATA_MAX: Final = 64  # bytes of what nobody has given a form
ROOM_MAX: Final = 64  # bytes that a slow peer takes
KNOBS_MAX: Final = 8  # that are turned at a time


def inputs(messages: Sequence[bytes] = (), *, noise: bool = True) -> st.SearchStrategy[list[Event]]:
    """What a peer may send: one of `messages`, whole or cut in up to three pieces; with `noise` also what
    nobody understands."""
    ways: list[st.SearchStrategy[list[Event]]] = []
    if messages:
        ways.append(st.sampled_from(messages).flatmap(_cut))
    if noise or not messages:
        ways.append(st.binary(min_size=1, max_size=DATA_MAX).map(lambda data: [receive(data)]))
    return st.one_of(ways)


def events(
    messages: Sequence[bytes] = (),
    *,
    peer: bool = True,
    noise: bool = True,
    seconds_max: float = 60.0,
    others: Sequence[Event] = (),
    max_size: int = 12,
) -> st.SearchStrategy[list[Event]]:
    """A story of at most `max_size` happenings, in any order: what comes from the peer, wakeups, time, drains
    and stops.

    `messages`, `noise`: see `inputs`. `peer`: False for a machine without a connection. `seconds_max`: how
    much time may pass at once. `others`: events of your own (`do(send_it_a_message)`).
    """
    at_any_time = [WAKE, WAKE, EXPIRE, DRAIN, STOP, *others]
    ways: list[st.SearchStrategy[list[Event]]] = [
        st.sampled_from(at_any_time).map(lambda event: [event]),
        st.floats(0, seconds_max).map(lambda seconds: [advance(seconds)]),
    ]
    if peer:
        ways += [
            inputs(messages, noise=noise),
            st.sampled_from([END, RESET]).map(lambda event: [event]),
            (st.none() | st.integers(0, ROOM_MAX)).map(lambda count: [room(count)]),
        ]
    happenings = st.lists(st.one_of(ways), max_size=max_size)
    return happenings.map(lambda parts: [event for part in parts for event in part])


def knobs(*packages: str) -> st.SearchStrategy[dict[str, int | float]]:
    """Internal constants of these packages and of what they stand on, turned to small or large values, for
    `with actors.simulation.turned(drawn, packages)`. Most are left alone, and it shrinks to none at all."""
    known = knobs_of(packages)
    names = st.lists(st.sampled_from(sorted(known)), unique=True, max_size=KNOBS_MAX)
    return names.flatmap(
        lambda chosen: st.fixed_dictionaries({name: st.sampled_from(known[name].values) for name in chosen})
    )


def _cut(message: bytes) -> st.SearchStrategy[list[Event]]:
    places = st.lists(st.integers(0, len(message)), max_size=2).map(sorted)

    def pieces(cuts: list[int]) -> list[Event]:
        ends = [0, *cuts, len(message)]
        parts = [message[a:b] for a, b in pairwise(ends)]
        return [receive(part) for part in parts if part]

    return places.map(pieces)
