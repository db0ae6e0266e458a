"""The connection's table: every state and event; an illegal one raises and changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from actors import Misuse
from pools import Connection, Event, State
from pools.connections import TABLE, next_state
from pools.testing import Bench, LineWire

LEGAL = [(state, event) for state in State for event in Event if event in TABLE[state]]
ILLEGAL = [(state, event) for state in State for event in Event if event not in TABLE[state]]


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    assert set(TABLE) == set(State)
    reached = {State.CONNECTING} | {after for events in TABLE.values() for after in events.values()}
    assert reached == set(State)


@pytest.mark.parametrize("state", [state for state in State if state is not State.DEAD])
def test_every_state_can_end(state: State) -> None:
    assert next_state(state, Event.ENDED) is State.DEAD


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_an_illegal_event_says_what_is_legal(state: State, event: Event) -> None:
    with pytest.raises(Misuse, match=f"a connection that is {state.value} cannot be {event.value}; legal: "):
        next_state(state, event)


def connecting() -> tuple[Bench, Connection]:
    bench = Bench(lambda: LineWire(b"welcome"), connections=1, pipeline=4)
    bench.submit("a")
    bench.run()
    return bench, next(iter(bench.pool.backends[0].all))


def handshaking() -> tuple[Bench, Connection]:
    bench, connection = connecting()
    bench.accept()
    return bench, connection


def ready() -> tuple[Bench, Connection]:
    bench, connection = handshaking()
    bench.answer("welcome")
    return bench, connection


def draining() -> tuple[Bench, Connection]:
    bench, connection = ready()
    connection.retire()
    return bench, connection


def dead() -> tuple[Bench, Connection]:
    bench, connection = ready()
    bench.reset()
    return bench, connection


SITUATIONS = {
    State.CONNECTING: connecting,
    State.HANDSHAKING: handshaking,
    State.READY: ready,
    State.DRAINING: draining,
    State.DEAD: dead,
}


@pytest.mark.parametrize("state", SITUATIONS)
def test_a_real_connection_goes_through_them(state: State) -> None:
    bench, connection = SITUATIONS[state]()
    assert connection.state is state
    assert connection.over == (state is State.DEAD)
    assert bench.add_up()


@pytest.mark.parametrize("state", [state for state in SITUATIONS if state is not State.HANDSHAKING])
def test_ready_in_any_other_state_raises_and_changes_nothing(state: State) -> None:
    bench, connection = SITUATIONS[state]()
    before = (connection.state, connection.in_flight, bench.pool.statistics())
    with pytest.raises(Misuse):
        connection.ready()
    assert (connection.state, connection.in_flight, bench.pool.statistics()) == before


@pytest.mark.parametrize("state", SITUATIONS)
def test_retiring_and_closing_are_in_order_in_every_state(state: State) -> None:
    bench, connection = SITUATIONS[state]()
    connection.retire()
    bench.run()
    connection.close(None)
    connection.close(None)
    bench.run()
    assert connection.over
    assert bench.sockets[0].closed
    assert bench.add_up()


def test_a_handshake_may_end_outside_of_the_handlers() -> None:
    bench, connection = handshaking()
    connection.ready()
    assert connection.state is State.READY
    assert bench.sent() == ["a"]


CALLS: dict[str, Callable[[Connection], object]] = {
    "settle": lambda connection: connection.settle(b""),
    "fail": lambda connection: connection.fail(ValueError()),
    "answer": lambda connection: connection.answer(b""),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_answer_when_nothing_is_in_flight_is_the_backends_error(call: str) -> None:
    _, connection = handshaking()
    with pytest.raises(Exception, match="nothing had asked for"):
        CALLS[call](connection)
