"""Streams that close, streams that hold back: how long a peer is waited for, what is read meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors import ANYTHING, SLEEP, Continue, Outcome, Stop, StreamProtocol, Timeout, Transport
from actors.net.streams import FLUSH_SECONDS, LINGER_SECONDS, LINGER_SECONDS_MAX, READ_AHEAD, READ_SIZE
from actors.testing import Driver

Handler = Callable[[Transport], Outcome]


class Script(StreamProtocol):
    """Answers `received`, and perhaps `timeout`, by a function."""

    def __init__(self, received: Handler, timeout: Handler | None = None) -> None:
        self._received = received
        self._timeout = timeout
        self.stops: list[BaseException | None] = []

    def received(self, transport: Transport) -> Outcome:
        return self._received(transport)

    def timeout(self, transport: Transport) -> Outcome:
        return super().timeout(transport) if self._timeout is None else self._timeout(transport)

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        self.stops.append(error)


def refuse(transport: Transport) -> Outcome:
    transport.write(b"too large")
    transport.linger = True
    return Stop()


def answer(transport: Transport) -> Outcome:
    transport.consume(1)
    transport.write(b"0123456789")
    return Stop()


def test_a_stream_that_stops_sends_the_rest_later_but_not_for_ever() -> None:
    script = Script(answer)
    driver = Driver(script)
    driver.socket.room = 2
    driver.receive(b"x")
    assert script.stops == [None]
    assert "<closing>" in repr(driver.stream)
    assert driver.sent() == b"01"
    stuck = driver.clone()
    driver.drain()
    driver.socket.room = None
    driver.settle()
    assert (driver.sent(), driver.socket.closed) == (b"23456789", True)
    stuck.advance(FLUSH_SECONDS - 1)
    assert not stuck.socket.closed
    stuck.advance(2)
    assert stuck.socket.closed
    assert script.stops == [None]


def test_a_slow_peer_is_not_cut_off_while_it_takes_some() -> None:
    driver = Driver(Script(answer))
    driver.socket.room = 0
    driver.receive(b"a")
    for _ in range(9):
        driver.advance(FLUSH_SECONDS - 1)
        driver.socket.room = 1
        driver.settle()
        assert not driver.socket.closed
    stuck = driver.clone()
    stuck.advance(FLUSH_SECONDS - 1)
    assert not stuck.socket.closed
    stuck.advance(2)
    assert stuck.socket.closed
    driver.socket.room = None
    driver.settle()
    assert (driver.sent(), driver.socket.closed, driver.error) == (b"0123456789", True, None)


def test_lingering_reads_on_so_that_the_answer_is_not_lost() -> None:
    driver = Driver(Script(refuse)).receive(b"a long body begins")
    assert driver.sent() == b"too large"
    assert driver.socket.ended_here
    assert not driver.socket.closed
    silent, closing = driver.clone(), driver.clone()
    driver.receive(b"and goes on" * 1000)
    assert driver.stream.input == b""
    driver.advance(LINGER_SECONDS)
    silent.advance(LINGER_SECONDS)
    closing.end()
    assert (driver.socket.closed, driver.error) == (True, None)
    assert (silent.socket.closed, silent.error) == (True, None)
    assert closing.socket.closed


def test_lingering_ends_at_once_when_the_peer_has_ended() -> None:
    driver = Driver(Script(refuse))
    driver.socket.room = 5
    driver.socket.arrive(b"a")
    driver.settle().end()
    assert not driver.socket.closed
    driver.socket.room = None
    driver.settle()
    assert driver.socket.closed


def test_who_goes_on_sending_is_not_reset_for_a_good_while() -> None:
    driver = Driver(Script(refuse)).receive(b"a long body begins")
    for _ in range(int(LINGER_SECONDS_MAX / LINGER_SECONDS) * 2 - 1):
        driver.advance(LINGER_SECONDS / 2)
        assert not driver.socket.closed
        driver.receive(b"and goes on" * 1000)
        assert driver.stream.input == b""
    driver.advance(LINGER_SECONDS / 2)
    assert (driver.socket.closed, driver.error) == (True, None)


def test_what_was_refused_is_read_while_the_answer_is_taken() -> None:
    driver = Driver(Script(refuse))
    driver.socket.room = 2
    driver.receive(b"a long body begins").receive(b"and goes on" * 100_000)
    assert driver.stream.input == b""
    driver.socket.room = None
    driver.settle()
    assert driver.sent() == b"too large"
    driver.end()
    assert (driver.socket.closed, driver.error) == (True, None)


def test_nothing_is_read_while_there_is_more_than_is_used() -> None:
    waiting: list[int] = []
    script: Any = None

    def received(transport: Transport) -> Outcome:
        waiting.append(len(transport.input))
        transport.consume(1000)
        return Timeout(script, transport.scope.now + 1, SLEEP)  # busy with it for a second

    script = Script(received, lambda transport: Continue(script, ANYTHING))
    driver = Driver(script).receive(b"x" * 10 * READ_SIZE)
    for _ in range(400):
        driver.advance(1)
    assert driver.stream.input == b""
    assert READ_AHEAD < max(waiting) < READ_AHEAD + READ_SIZE
