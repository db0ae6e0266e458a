"""The tables of a server's connection: whole, true, and every arrow of the picture walked by a client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from actors import Misuse, Outcome, StreamProtocol, Timeout, Transport
from actors.testing import FakeSocket
from protocols import http
from protocols.http.codec import CHUNKED
from protocols.http.server.states import ANSWER, BODY, CONNECTION, next_state
from tests.protocols.http.harness import Simulated, get

TABLES = {"connection": CONNECTION, "body": BODY, "answer": ANSWER}
FIRST = {"connection": "idle", "body": "coming", "answer": "due"}
EDGES = {
    (name, state, event): after
    for name, table in TABLES.items()
    for state, events in table.items()
    for event, after in events.items()
}
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"


class Other(StreamProtocol):
    """What the connection is switched to."""

    def connected(self, transport: Transport) -> Outcome:
        return Timeout(self, transport.scope.now + 9)


class Silent(http.Responder):
    """Does nothing of itself; the test acts on its exchange."""

    def __init__(self) -> None:
        self.exchange: Any = None
        self.woken: Callable[[http.Exchange], None] | None = None

    def begin(self, exchange: http.Exchange) -> None:
        self.exchange = exchange

    def wakeup(self, exchange: http.Exchange) -> None:
        act, self.woken = self.woken, None
        if act is not None:
            act(exchange)


class Stage:
    """A client and a server whose connection is in a state."""

    def __init__(self, simulated: Simulated, responders: list[Silent]) -> None:
        self.simulated = simulated
        self.responders = responders
        self.sock: FakeSocket = simulated.connect()
        (stream,) = simulated.streams()
        self.connection: Any = stream.protocol

    def send(self, data: bytes) -> None:
        self.simulated.send(self.sock, data)

    @property
    def exchange(self) -> Any:
        return self.responders[-1].exchange

    def act(self, act: Callable[[http.Exchange], Any]) -> None:
        """In a turn of the responder's."""
        self.responders[-1].woken = act
        self.exchange.scope.wake()
        self.simulated.settle()

    def state(self, table: str) -> str:
        if table == "connection":
            return str(self.connection.state)
        return str(self.exchange.state if table == "answer" else self.exchange.body.state)


def respond(exchange: http.Exchange) -> None:
    exchange.respond(http.Response(200))


def send_head(exchange: http.Exchange) -> None:
    exchange.send_head(200, b"", CHUNKED)


def upgrade(exchange: http.Exchange) -> None:
    exchange.send_head(101, b"Upgrade: x\r\n", CHUNKED)
    exchange.switch(Other())


def upgrade_and_fail(exchange: http.Exchange) -> None:
    upgrade(exchange)
    raise KeyError("after all")


def hold(exchange: http.Exchange) -> None:
    exchange.hold_body(True)


def ask(stage: Stage) -> None:
    stage.send(get("/wait"))


def post(stage: Stage) -> None:
    stage.send(POST + b"a")


def behind(stage: Stage) -> None:
    stage.sock.room = 0
    stage.send(get("/large"))


def reset(stage: Stage) -> None:
    stage.sock.reset()
    stage.simulated.settle()


def take(stage: Stage) -> None:
    stage.sock.room = None
    stage.simulated.settle()


def part_and_fin_behind_an_answer(stage: Stage) -> None:
    stage.sock.end()
    stage.simulated.settle()


def part_of_a_head(stage: Stage) -> None:
    stage.send(b"GET / HT")


def part_behind_an_answer(stage: Stage) -> None:
    stage.sock.room = 0
    stage.send(get("/") + b"GET / HT")


def held(stage: Stage) -> None:
    post(stage)
    stage.act(hold)


def held_in_anothers_turn(stage: Stage) -> None:
    post(stage)
    stage.exchange.hold_body(True)  # and nobody is woken: the rest is on its way already


def opened(stage: Stage) -> None:
    ask(stage)
    stage.act(send_head)


def large_in_the_end(stage: Stage) -> None:
    stage.sock.room = 0
    stage.act(lambda exchange: exchange.respond(http.Response(200, body=bytes(200_000))))


def abort(exchange: http.Exchange) -> None:
    exchange.abort(KeyError("no"))


WALKS: dict[tuple[str, str, str], tuple[Callable[[Stage], Any] | None, Callable[[Stage], Any]]] = {
    ("connection", "idle", "part of a head"): (None, part_of_a_head),
    ("connection", "idle", "request"): (None, ask),
    ("connection", "idle", "client is behind"): (None, behind),
    ("connection", "idle", "ended"): (None, lambda stage: stage.simulated.advance(100)),
    ("connection", "receiving a head", "rest of it"): (
        part_of_a_head,
        lambda stage: stage.send(b"TP/1.1\r\nHost: a\r\n\r\n"),
    ),
    ("connection", "receiving a head", "client is behind"): (
        part_behind_an_answer,
        part_and_fin_behind_an_answer,
    ),
    ("connection", "receiving a head", "ended"): (
        part_of_a_head,
        lambda stage: stage.simulated.advance(11),
    ),
    ("connection", "busy", "answered"): (ask, lambda stage: stage.act(respond)),
    ("connection", "busy", "client is behind"): (ask, large_in_the_end),
    ("connection", "busy", "upgraded"): (ask, lambda stage: stage.act(upgrade)),
    ("connection", "busy", "ended"): (ask, reset),
    ("connection", "being taken from", "taken"): (behind, take),
    ("connection", "being taken from", "ended"): (behind, reset),
    ("body", "coming", "hold"): (post, lambda stage: stage.act(hold)),
    ("body", "coming", "last byte"): (post, lambda stage: stage.send(b"bc")),
    ("body", "held", "take"): (
        held,
        lambda stage: stage.act(lambda exchange: exchange.hold_body(False)),
    ),
    ("body", "held", "last byte"): (held_in_anothers_turn, lambda stage: stage.send(b"bc")),
    ("answer", "due", "head"): (ask, lambda stage: stage.act(send_head)),
    ("answer", "due", "whole answer"): (ask, lambda stage: stage.act(respond)),
    ("answer", "due", "failed"): (ask, reset),
    ("answer", "open", "last byte"): (opened, lambda stage: stage.act(lambda exchange: exchange.finish())),
    ("answer", "open", "failed"): (opened, lambda stage: stage.act(abort)),
    ("answer", "open", "switch"): (ask, lambda stage: stage.act(upgrade)),
    ("answer", "upgrade", "failed"): (ask, lambda stage: stage.act(upgrade_and_fail)),
}
"""For each arrow what brings a connection to where it begins (None: it is there), and what happens then."""
TRANSIENT = {("answer", "open", "switch"), ("answer", "upgrade", "failed")}
"""Walked within one turn, so that nobody outside sees where they begin."""


@pytest.mark.parametrize("edge", WALKS, ids="-".join)
def test_every_arrow_is_walked(edge: tuple[str, str, str]) -> None:
    responders: list[Silent] = []

    def answer(request: http.Request) -> http.Response | http.Responder:
        if request.path == "/large":
            return http.Response(200, body=bytes(200_000))
        if request.method == "GET" and request.path == "/":
            return http.Response(200)
        responders.append(Silent())
        return responders[-1]

    arrive, happens = WALKS[edge]
    table, before, _ = edge
    with Simulated(http.streaming(answer)) as simulated:
        stage = Stage(simulated, responders)
        if arrive is not None:
            arrive(stage)
        if edge not in TRANSIENT:
            assert stage.state(table) == before
        happens(stage)
        assert stage.state(table) == EDGES[edge]


def test_every_arrow_is_among_them_and_every_state_can_be_reached() -> None:
    assert set(WALKS) == set(EDGES)
    for name, table in TABLES.items():
        reached = {FIRST[name]} | {after for events in table.values() for after in events.values()}
        assert reached == set(table)


@pytest.mark.parametrize("name", TABLES)
def test_an_illegal_event_says_what_is_legal(name: str) -> None:
    table = TABLES[name]
    events = {event for row in table.values() for event in row}
    for state, row in table.items():
        for event in events - set(row):
            with pytest.raises(Misuse, match=f"it is {state}: '{event}' cannot happen to it now; legal: "):
                next_state(table, state, event, Name())


class Name:
    def __repr__(self) -> str:
        return "it"


@pytest.mark.parametrize("act", [respond, send_head, lambda exchange: exchange.relay(200, b"a\n", b"")])
def test_a_second_answer_is_misuse_and_changes_nothing(act: Callable[[http.Exchange], None]) -> None:
    seen: list[Any] = []

    def answer(exchange: http.Exchange) -> None:
        exchange.send_head(200, b"", 2)
        with pytest.raises(Misuse, match="cannot happen to it now; legal: last byte, failed, switch"):
            act(exchange)
        seen.append(exchange.state)
        exchange.send(b"ok")
        exchange.finish()

    class Now(http.Responder):
        def begin(self, exchange: http.Exchange) -> None:
            answer(exchange)

    with Simulated(lambda request: Now()) as simulated:
        (found,) = simulated.ask(simulated.connect(), get())
        assert (found.status, found.body) == (200, b"ok")
    assert seen == ["open"]
