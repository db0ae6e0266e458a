"""A patient drain: an idle connection may bring one more request, which was perhaps on its way."""

from __future__ import annotations

from protocols import http
from tests.protocols.http.harness import Simulated, get, read_answers


def echo(request: http.Request) -> http.Response:
    return http.Response(200, body=b"Hello")


def test_an_idle_connection_is_answered_once_more_and_told_so() -> None:
    with Simulated(echo) as simulated:
        used, fresh = simulated.connect(), simulated.connect()
        simulated.ask(used, get())
        simulated.loop.drain(30.0, patience=1.0)
        simulated.settle()
        assert not used.closed
        for sock in (used, fresh):
            (answer,) = simulated.ask(sock, get())
            assert answer.headers.get("connection") == "close"
            assert sock.closed
        assert simulated.loop.machines == 0


def test_patience_has_an_end() -> None:
    with Simulated(echo) as simulated:
        sock = simulated.connect()
        simulated.loop.drain(30.0, patience=1.0)
        simulated.settle()
        simulated.advance(0.9)
        assert not sock.closed
        simulated.advance(0.2)
        assert sock.closed


def test_a_head_that_has_begun_may_take_its_time() -> None:
    with Simulated(echo) as simulated:
        sock = simulated.connect()
        simulated.loop.drain(30.0, patience=1.0)
        simulated.settle()
        simulated.advance(0.9)
        simulated.send(sock, get()[:10])
        simulated.advance(5.0)
        (answer,) = simulated.ask(sock, get()[10:])
        assert answer.headers.get("connection") == "close"
        assert sock.closed


def test_what_was_answered_in_the_tick_of_the_drain_may_ask_again() -> None:
    with Simulated(echo) as simulated:
        sock = simulated.connect()
        sock.arrive(get())
        simulated.loop.drain(30.0, patience=1.0)
        simulated.settle()
        simulated.send(sock, get())
        first, second = read_answers(sock.delivered(), ended=True)
        assert first.headers.get("connection") is None
        assert second.headers.get("connection") == "close"
        assert sock.closed


def test_a_client_that_does_not_take_its_answer_is_not_waited_for_longer() -> None:
    with Simulated(lambda request: http.Response(200, body=b"x" * 500_000)) as simulated:
        sock = simulated.connect(room=1000)
        simulated.send(sock, get())
        simulated.loop.drain(30.0, patience=1.0)
        simulated.settle()
        sock.room = None
        simulated.advance(0.5)
        (answer,) = read_answers(sock.delivered(), ended=True)
        assert len(answer.body) == 500_000
        assert sock.closed
