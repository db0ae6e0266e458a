"""The very moment: what is due at a time is done at that time, neither before nor a little later; and the
very number, where something is bounded or counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import pools
from actors import Backoff, Loop, Misuse, Reply
from actors.testing import ManualKernel
from pools import (
    BackendDown,
    DeadlineExceeded,
    Exchanges,
    Held,
    Pool,
    Unit,
    UnitQueue,
    Work,
)
from pools.testing import Ask, Bench, LineWire

HALF = 0.5  # seconds that a float holds exactly, as it does their sums
JUST = 2.0**-10


class Body(Exchanges[Any]):
    """Runs a function's coroutine."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[Held], Any]) -> None:
        self.function = function

    def body(self, held: Held) -> Any:
        return self.function(held)


def connected(**options: Any) -> Bench:
    """With one idle connection that has answered."""
    bench = Bench(**{"connections": 1, **options})
    bench.submit("first")
    bench.accept()
    bench.sent()
    bench.answer("ok")
    return bench


# -- deadlines -----------------------------------------------------------------------------------------------


def waiting(bench: Bench) -> Reply[Any]:
    bench.submit("busy", timeout=100.0)
    bench.run()
    return bench.submit("waits", timeout=HALF)


def in_flight(bench: Bench) -> Reply[Any]:
    return bench.submit("sent", timeout=HALF)


def between_exchanges(bench: Bench) -> Reply[Any]:
    async def body(held: Held) -> None:
        await held.submit(Ask("one"))

    return bench.submit(Body(body), timeout=HALF)


@pytest.mark.parametrize("where", [waiting, in_flight, between_exchanges])
def test_a_unit_is_late_at_its_deadline_and_not_before(where: Callable[[Bench], Reply[Any]]) -> None:
    bench = connected()
    reply = where(bench)
    bench.run()
    bench.advance(HALF - JUST)
    assert not reply.settled
    bench.advance(JUST)
    assert isinstance(reply.error, DeadlineExceeded)
    assert reply.error.seconds == HALF


def test_a_handshake_is_late_at_its_time() -> None:
    bench = Bench(lambda: LineWire(b"welcome"), connections=1, connect_timeout=HALF, timeout=100.0)
    bench.submit("a")
    bench.accept()
    bench.advance(HALF - JUST)
    assert not bench.sockets[0].closed
    bench.advance(JUST)
    assert bench.sockets[0].closed


@pytest.mark.parametrize("answered", [False, True])
def test_a_connection_closes_when_its_idle_time_is_over(answered: bool) -> None:
    bench = connected(idle_timeout=HALF, lifetime=1000.0)
    bench.advance(HALF - JUST)
    assert not bench.sockets[0].closed
    if answered:  # it begins anew
        bench.submit("again")
        bench.run()
        bench.answer("ok")
        bench.advance(HALF - JUST)
        assert not bench.sockets[0].closed
    bench.advance(JUST)
    assert bench.sockets[0].closed


def test_a_backend_is_tried_again_when_its_backoff_is_over() -> None:
    bench = Bench(backoff=Backoff(1.0, 1.0))
    bench.submit("a")
    bench.refuse()
    at = bench.pool.backends[0].retry_at
    assert isinstance(bench.submit("b").error, BackendDown)
    bench.kernel.clock.advance(at - bench.loop.time())
    bench.run()
    reply = bench.submit("c")
    bench.accept()
    bench.answer("ok")
    assert reply.result() == b"ok"


class Pinged(LineWire):
    """Has something to ask."""

    __slots__ = ()

    def probe(self) -> Unit[Any]:
        return Ask("PING")


def two_idle() -> tuple[Bench, int]:
    """And the number of that which is not used next."""
    bench = Bench(Pinged, connections=2, lifetime=10_000.0)
    for number in range(2):
        bench.submit(f"{number}")
    bench.accept()
    for number in (0, 1):
        bench.answer("ok", index=number)
        bench.sent(number)
    bench.advance(10.0)
    return bench, 0


def test_a_suspect_has_a_second_to_answer() -> None:
    bench, other = two_idle()
    late = bench.submit("late", timeout=2.0)
    bench.run()
    bench.advance(2.0)
    assert isinstance(late.error, DeadlineExceeded)
    assert bench.sent(other) == ["PING"]
    bench.advance(1.0 - JUST)
    assert bench.pool.statistics().connections == 1
    bench.advance(JUST)
    assert bench.pool.statistics().connections == 0


def test_a_unit_of_several_exchanges_that_waited_in_vain_makes_suspects_too() -> None:
    async def body(held: Held) -> None:
        await held.submit(Ask("one"))

    bench, other = two_idle()
    late = bench.submit(Body(body), timeout=2.0)
    bench.run()
    bench.advance(2.0)
    assert isinstance(late.error, DeadlineExceeded)
    assert bench.sent(other) == ["PING"]


@pytest.mark.parametrize(("silent_for", "asked"), [(0.25 - JUST, []), (0.25, ["PING"])])
def test_a_connection_that_has_just_spoken_makes_no_suspects(silent_for: float, asked: list[str]) -> None:
    bench, other = two_idle()
    late = bench.submit("late", timeout=2.0)
    bench.run()
    bench.advance(2.0 - silent_for)
    bench.sockets[1 - other].arrive(b"a part of an ans")
    bench.run()
    bench.advance(silent_for)
    assert late.settled
    assert bench.sent(other) == asked


@pytest.mark.parametrize(("waited", "asked"), [(0.25 - JUST, []), (0.25, ["PING"])])
def test_who_cancels_has_waited_long_enough_to_tell(waited: float, asked: list[str]) -> None:
    bench, other = two_idle()
    reply = bench.submit("impatient")
    bench.run()
    bench.advance(waited)
    reply.cancel()
    assert bench.sent(other) == asked


# -- numbers -------------------------------------------------------------------------------------------------


def test_so_many_exchanges_may_be_in_flight_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pools.exchanges.EXCHANGES_MAX", 5)
    sent = 0

    async def greedy(held: Held) -> None:
        nonlocal sent
        while True:
            held.submit(Ask("a"))
            sent += 1

    bench = Bench(connections=1)
    reply = bench.submit(Body(greedy))
    bench.accept()
    assert isinstance(reply.error, Misuse)
    assert sent == 5


def test_a_units_name_is_cut_at_two_hundred() -> None:
    bench = connected()
    bench.submit("busy")
    reply = bench.submit("x" * 400, timeout=HALF)
    bench.advance(HALF)
    error = reply.error
    assert isinstance(error, DeadlineExceeded)
    assert error.unit == f"Ask('{'x' * 195}"


def test_connections_say_what_they_have_done() -> None:
    bench = connected(pipeline=4)
    (connection,) = bench.pool.backends[0].all
    assert repr(connection) == "<Connection 192.0.2.7:7000 ready, 0 in flight, 1 done>"
    bench.submit("bad")
    bench.run()
    bench.answer("error bad")
    assert connection.completed == 2
    gone = bench.submit("gone")
    bench.run()
    gone.cancel()
    assert repr(connection) == "<Connection 192.0.2.7:7000 ready, 1 in flight, 1 orphans, 2 done>"
    bench.answer("late")
    assert connection.completed == 3

    async def body(held: Held) -> None:
        await held.submit(Ask("one"))

    reply = bench.submit(Body(body))
    bench.run()
    assert connection.in_flight == 2
    bench.answer("ok")
    assert reply.settled
    assert (connection.completed, connection.in_flight, connection.backend.in_flight) == (5, 0, 0)


def test_what_was_taken_back_is_counted() -> None:
    class Forgetful(LineWire):
        __slots__ = ()

        def received(self) -> None:
            if self.transport.input.startswith(b"forgotten\n"):
                self.transport.consume(len(b"forgotten\n"))
                self.connection.take_back()
            else:
                super().received()

    bench = Bench(Forgetful, connections=1, pipeline=2)
    replies = [bench.submit("a"), bench.submit("b")]
    bench.accept()
    assert bench.sent() == ["a", "b"]
    bench.answer("forgotten")
    assert bench.pool.statistics().taken_back == 1
    assert bench.sent() == ["a"]
    bench.answer("B", "A")
    assert [reply.result() for reply in replies] == [b"A", b"B"]
    assert bench.pool.backends[0].in_flight == 0


def test_a_half_written_unit_is_lost_with_its_connection() -> None:
    class Half(LineWire):
        __slots__ = ()

        def send(self, work: Work[Any]) -> None:
            super().send(work)
            if work.unit.line == b"half":
                raise ValueError("not whole")

    bench = connected(wire=Half)
    reply = bench.submit("half")
    bench.run()
    assert isinstance(reply.error, ValueError)
    now = bench.pool.statistics()
    assert (now.lost, now.closed, now.in_flight, now.connections) == (1, 0, 0, 0)
    assert bench.pool.backends[0].in_flight == 0


# -- the queue by itself -------------------------------------------------------------------------------------


def works(count: int, priority: int = 0, size: int = 0) -> list[Work[Any]]:
    loop = Loop(kernel=ManualKernel())
    pool: Pool = loop.spawn(pools.pool(LineWire, ["192.0.2.7:7000"]))
    return [Work(pool, Ask(f"{number}", size=size), 10.0 + number, priority) for number in range(count)]


def test_a_queue_knows_what_it_holds() -> None:
    queue = UnitQueue(10, 1000)
    some = works(3, size=7)
    for work in some:
        queue.push(work, 7)
    assert (queue.live, queue.bytes, len(queue), list(queue)) == (3, 21, 3, some)
    assert queue.discard(some[1])
    assert not queue.discard(some[1])
    assert (queue.live, queue.bytes, list(queue)) == (2, 14, [some[0], some[2]])
    queue.put_back([some[1]])
    assert all(work in queue for work in some)
    assert (queue.live, queue.bytes) == (3, 21)
    queue.take(1)
    assert (queue.live, queue.bytes, some[1] in queue) == (2, 14, False)
    queue.take(2)
    assert (queue.live, queue.bytes, list(queue)) == (0, 0, [])


def test_a_queue_says_whose_time_has_come() -> None:
    queue = UnitQueue(10, 1000)
    some = works(3)
    for work in some:
        queue.push(work, 0)
    assert queue.expired(9.0) == ([], 10.0)
    assert queue.expired(11.0) == (some[:2], 12.0)
    gone, earliest = queue.expired(12.0)
    assert (gone, earliest) == (some, float("inf"))
