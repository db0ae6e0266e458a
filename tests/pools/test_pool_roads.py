"""The rarer roads through a pool: units that go another way, connections that end in the middle of something,
and what a unit is told then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import actors
import pools
from actors import Reply, StreamProtocol
from actors.simulation import Broken
from pools import (
    BackendDown,
    ConnectionLost,
    DeadlineExceeded,
    Exchanges,
    Held,
    PoolClosed,
    Unit,
    Work,
)
from pools.connections import Connection, State
from pools.ledger import Entry, Ledger
from pools.pool import BACKOFF_ALONE, BACKOFF_SEVERAL
from pools.testing import Ask, Bench, LineWire, Refused


class Body(Exchanges[Any]):
    """Runs a function's coroutine."""

    __slots__ = ("function", "idempotent")

    def __init__(self, function: Callable[[Held], Any], idempotent: bool = False) -> None:
        self.function = function
        self.idempotent = idempotent

    def body(self, held: Held) -> Any:
        return self.function(held)


def connected(wire: Callable[[], LineWire] = LineWire, **options: Any) -> Bench:
    """With one idle connection that has answered."""
    bench = Bench(wire, **{"connections": 1, **options})
    bench.submit("first")
    bench.accept()
    bench.sent()
    bench.answer("ok")
    return bench


# -- another way in ------------------------------------------------------------------------------------------


class Apart(Unit[bytes]):
    """Goes another way while there is one."""

    asked: tuple[Any, ...] = ()
    way: Reply[bytes] | None = None

    def detour(self, pool: Any, timeout: float | None, priority: int) -> Reply[bytes] | None:
        self.asked = (pool, timeout, priority)
        return self.way


def test_a_unit_may_go_another_way() -> None:
    bench = connected()
    unit = Apart()
    unit.way = bench.submit("its way")
    assert bench.pool.submit(unit, 3.0, 2) is unit.way
    assert unit.asked == (bench.pool, 3.0, 2)
    assert bench.pool.statistics().submitted == 2


def test_or_go_the_usual_way_after_all() -> None:
    bench = connected()
    unit = Apart()
    reply = bench.pool.submit(unit)
    assert bench.pool.statistics().queued == 1
    assert unit.asked == (bench.pool, None, 0)
    bench.run()
    assert isinstance(reply.error, AssertionError)  # the toy wire cannot send it
    assert bench.pool.submit_apart("a lane", unit, None, 0) is None


# -- how a pool is named, paced and numbered -----------------------------------------------------------------


def test_a_pool_is_named_after_its_first_backends() -> None:
    addresses = tuple(f"192.0.2.{number}:7" for number in range(1, 6))
    bench = Bench(backends=addresses)
    assert bench.pool.name == "192.0.2.1:7, 192.0.2.2:7, 192.0.2.3:7"
    assert Bench(backends=addresses, name="cache").pool.name == "cache"
    assert repr(bench.pool).startswith(f"<Pool {bench.pool.name} open, 0 queued")
    assert bench.pool.token > 0
    assert bench.pool.handle(bench.loop) is bench.pool  # type: ignore[arg-type]


def test_the_only_backend_is_asked_again_sooner() -> None:
    assert Bench().pool.backends[0].retry.backoff is BACKOFF_ALONE
    several = Bench(backends=("192.0.2.1:7", "192.0.2.2:7")).pool.backends
    assert all(backend.retry.backoff is BACKOFF_SEVERAL for backend in several)


@pytest.mark.parametrize(
    "options", [{"connections": 1, "pipeline": 1, "queue": 1, "attempts": 1}, {"warm": 10}, {"tunnels": 0}]
)
def test_the_least_and_the_most_are_taken(options: dict[str, int]) -> None:
    assert Bench(**options).add_up()


@pytest.mark.parametrize(
    "options",
    [
        {"connect_timeout": 0.0},
        {"connect_timeout": float("nan")},
        {"lifetime": 0.0},
        {"lifetime": -1.0},
        {"timeout": -1.0},
        {"idle_timeout": -1.0},
        {"lost_after": float("nan")},
    ],
)
def test_seconds_that_make_no_sense(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}=.*; write"):
        pools.pool(LineWire, ["192.0.2.7:7000"], **options)  # type: ignore[arg-type]


def test_a_pool_needs_a_backend() -> None:
    with pytest.raises(ValueError, match="a pool without backends; name at least one address"):
        pools.pool(LineWire, [])


def test_where_a_unit_was_late_is_told() -> None:
    bench = connected(name="cache")
    bench.submit("busy", timeout=9.0)
    reply = bench.submit("late", timeout=0.5)
    bench.advance(0.5)
    assert "(pool cache, backend 192.0.2.7:7000, stage queued); it was not sent" in str(reply.error)
    bench = connected()
    reply = bench.submit("late", timeout=0.5)
    bench.run()
    bench.advance(0.5)
    assert "(pool 192.0.2.7:7000, stage sent); it may have been executed" in str(reply.error)


def test_a_wire_may_take_several_kinds_of_units() -> None:
    class One(Unit[Any]):
        pass

    class Other(Unit[Any]):
        pass

    class Strict(LineWire):
        __slots__ = ()
        takes = (One, Other)

        def send(self, work: Work[Any]) -> None:
            raise TypeError("cannot")

    bench = Bench(Strict, pipeline=2)
    foreign, own = bench.submit("neither"), bench.submit(One())
    bench.accept()
    with pytest.raises(actors.Misuse, match=r"is a Ask, and the pool of .* takes One or Other"):
        foreign.result()
    assert isinstance(own.error, TypeError)
    assert "Strict.send could not send" in own.error.__notes__[0]


def test_a_pool_that_has_stopped_says_so() -> None:
    bench = connected()
    bench.pool.drain()
    assert "drains" in str(bench.pool.submit(Ask("a")).error)
    bench.run()
    assert "has stopped" in str(bench.pool.submit(Ask("a")).error)
    assert repr(bench.pool) == "<Pool 192.0.2.7:7000 stopped, 0 queued, 0 in flight on 0 connections>"


def test_a_drain_ends_idle_connections_in_good_order() -> None:
    class Polite(LineWire):
        __slots__ = ()

        def goodbye(self) -> None:
            self.transport.write(b"goodbye\n")

    bench = connected(Polite)
    bench.pool.drain()
    assert bench.sent() == ["goodbye"]
    assert bench.sockets[0].closed
    assert not bench.loop.alive(bench.pool.token)
    assert bench.pool.statistics().closed == 1


# -- connections that end ------------------------------------------------------------------------------------


class Ending(LineWire):
    """`error, bye` is the backend's error and its last."""

    __slots__ = ()

    def received(self) -> actors.Expectation | None:
        if self.transport.input.startswith(b"error, bye\n"):
            self.transport.consume(len(b"error, bye\n"))
            self.connection.fail(Refused("error, bye"), reusable=False)
            return None
        return super().received()


def test_an_error_may_be_the_last_answer() -> None:
    bench = connected(Ending, pipeline=3)
    first, behind = bench.submit("a"), bench.submit("b")
    assert bench.sent() == ["a", "b"]
    bench.answer("error, bye")
    assert isinstance(first.error, Refused)
    assert bench.sockets[0].closed
    bench.accept()
    assert bench.sent() == ["b"]
    bench.answer("B")
    assert behind.result() == b"B"
    assert bench.pool.statistics().taken_back == 1


def test_what_stands_unsent_behind_the_last_answer_was_not_executed() -> None:
    class Unpromising(LineWire):
        __slots__ = ()
        spares_behind = False

    bench = connected(Unpromising, pipeline=3)
    first = bench.submit("a")
    assert bench.sent() == ["a"]
    bench.sockets[0].room = 0
    behind = bench.submit("b")
    bench.run()
    bench.answer("bye")
    assert first.result() == b"bye"
    bench.accept()
    assert bench.sent() == ["b"]
    bench.answer("B")
    assert behind.result() == b"B"


def test_what_was_taken_back_has_not_been_tried() -> None:
    bench = Bench(lambda: LineWire(b"welcome"), connections=1, attempts=2)
    reply: Any = bench.submit(Ask("a", idempotent=True))
    for _ in range(3):
        bench.accept()
        bench.sockets[-1].room = 0
        bench.answer("welcome")
        assert reply.attempts == 1
        bench.reset()
        assert reply.attempts == 0
        bench.advance(1.0)  # it was closed before it was asked, which is a reason to wait a moment
    for _ in range(2):
        bench.accept()
        bench.answer("welcome")
        assert bench.sent() == ["a"]
        bench.reset()
        bench.advance(0.1)
    assert isinstance(reply.error, ConnectionLost)
    now = bench.pool.statistics()
    assert (now.taken_back, now.retried) == (3, 1)


def test_a_neighbour_of_a_late_unit_keeps_its_own_deadline() -> None:
    bench = connected(pipeline=2)
    late, neighbour = bench.submit("late", timeout=1.0), bench.submit("neighbour", timeout=3.0)
    bench.run()
    bench.advance(1.0)
    assert isinstance(late.error, DeadlineExceeded)
    assert not neighbour.settled
    bench.advance(2.0)
    assert isinstance(neighbour.error, DeadlineExceeded)
    assert bench.sockets[0].closed


def test_connections_that_are_closed_unasked_are_doubtful_until_one_has_answered() -> None:
    bench = Bench(warm=1, timeout=500.0)
    for number in range(1, 4):
        bench.accept()
        assert bench.pool.statistics().backends[0].idle == 1
        bench.end()
        assert bench.pool.backends[0].doubts == number
        bench.advance(1.0)
    bench.accept()
    bench.submit("a")
    bench.run()
    bench.answer("A")
    assert bench.pool.backends[0].doubts == 0


class ByThree(LineWire):
    """Answers have three bytes, and the rest is left for the next."""

    __slots__ = ("seen",)

    def start(self) -> actors.Expectation | None:
        self.seen: list[int] = []
        self.connection.ready()
        return actors.Bytes(3)

    def received(self) -> actors.Expectation | None:
        self.seen.append(len(self.transport.input))
        if len(self.seen) % 2:
            self.connection.settle(self.transport.take(3))
            return actors.Bytes(5)
        self.connection.settle(self.transport.take(5))
        return actors.Bytes(3)


def test_what_a_wire_expects_next_is_what_it_is_called_for() -> None:
    bench = Bench(ByThree, connections=1, pipeline=4)
    replies = [bench.submit(f"{number}") for number in range(3)]
    bench.accept()
    (connection,) = bench.pool.backends[0].all
    for part in (b"a", b"bcd", b"ef", b"gh", b"i", b"jk"):
        bench.sockets[0].arrive(part)
        bench.run()
    assert [reply.result() for reply in replies] == [b"abc", b"defgh", b"ijk"]
    assert connection.wire.seen == [4, 5, 3]


def test_one_that_is_cancelled_in_the_middle_of_the_plan_keeps_nobody_back() -> None:
    class Picky(LineWire):
        __slots__ = ()

        def send(self, work: Work[Any]) -> None:
            if work.unit.line == b"bad":
                raise ValueError("cannot be encoded")
            super().send(work)

    bench = connected(Picky, pipeline=4)
    bad, gone, behind = (bench.submit(text) for text in ("bad", "gone", "behind"))
    bad.when_settled(lambda _: gone.cancel())
    assert bench.sent() == ["behind"]
    bench.answer("ok")
    assert behind.result() == b"ok"
    assert bench.pool.statistics().failed == {"ValueError": 1, "Cancelled": 1}
    assert bench.add_up()


class NotMe(LineWire):
    """`not me` is about the server."""

    __slots__ = ()

    def received(self) -> actors.Expectation | None:
        if self.transport.input.startswith(b"not me\n"):
            self.transport.consume(len(b"not me\n"))
            self.connection.elsewhere(Refused("not me"))
            return None
        return super().received()


def test_a_server_that_is_never_the_right_one_has_so_many_attempts() -> None:
    bench = connected(NotMe, attempts=3, timeout=100.0)
    reply = bench.submit("write")
    for _ in range(3):
        assert not reply.settled
        bench.accept()
        bench.advance(1.0)
        assert bench.sent() == ["write"]
        bench.answer("not me")
    assert isinstance(reply.error, Refused)
    assert len(bench.sockets) == 3


def test_of_connections_that_were_never_heard_one_that_is_silent_tells_of_the_others() -> None:
    class Pinged(LineWire):
        __slots__ = ()

        def probe(self) -> Unit[Any]:
            return Ask("PING")

    bench = Bench(Pinged, connections=2, warm=2)
    bench.accept()
    bench.advance(5.0)
    late = bench.submit("late", timeout=2.0)
    bench.run()
    bench.advance(2.0)
    assert isinstance(late.error, DeadlineExceeded)
    assert bench.sent(0) == ["PING"]


def test_a_connection_that_was_handed_over_has_no_room_for_anybody() -> None:
    class Upgrading(LineWire):
        __slots__ = ()

        def received(self) -> actors.Expectation | None:
            if self.transport.input.startswith(b"upgrade\n"):
                self.transport.consume(8)
                self.connection.answer(b"upgrade")
                self.connection.hand_over(StreamProtocol())
                return None
            return super().received()

    bench = connected(Upgrading, pipeline=4)
    (connection,) = bench.pool.backends[0].all
    reply = bench.submit("a")
    bench.run()
    bench.sent()
    bench.answer("upgrade")
    assert reply.result() == b"upgrade"
    assert connection.state is State.HANDED_OVER
    other = bench.submit("other")
    bench.accept()
    assert (bench.sent(0), bench.sent(1)) == ([], ["other"])
    bench.answer("ok")
    assert other.result() == b"ok"


# -- units of several exchanges ------------------------------------------------------------------------------


class Lingering(LineWire):
    """Its work goes on being stopped when nobody waits any more."""

    __slots__ = ()

    def abandoned(self, work: Work[Any]) -> None:
        self.lingers = True

    def stopped(self) -> None:
        self.lingers = False
        self.connection.wake()


def test_a_late_one_may_linger_until_it_is_stopped() -> None:
    heard: list[BaseException] = []

    async def body(held: Held) -> None:
        exchanges = [held.submit(Ask("one")), held.submit(Ask("two"))]
        for exchange in exchanges:
            try:
                await exchange
            except DeadlineExceeded as error:
                heard.append(error)
        with pytest.raises(DeadlineExceeded):
            await held.submit(Ask("three"))

    bench = connected(Lingering)
    (connection,) = bench.pool.backends[0].all
    reply = bench.submit(Body(body), timeout=0.5)
    assert bench.sent() == ["one", "two"]
    bench.advance(0.5)
    assert isinstance(reply.error, DeadlineExceeded)
    assert heard == [reply.error] * 2
    assert not bench.sockets[0].closed
    now = bench.pool.statistics()
    assert (now.orphans, now.in_flight, now.backends[0].in_flight) == (2, 0, 2)
    bench.answer("1")
    assert bench.pool.statistics().orphans == 1
    assert not bench.sockets[0].closed
    connection.wire.stopped()
    bench.run()
    assert bench.sockets[0].closed
    assert bench.pool.statistics().backends[0].in_flight == 0
    assert bench.add_up()


def test_what_ended_it_is_what_its_next_exchange_gets() -> None:
    heard: list[BaseException] = []

    async def body(held: Held) -> None:
        for text in ("one", "two"):
            try:
                await held.submit(Ask(text))
            except (DeadlineExceeded, PoolClosed, ConnectionLost) as error:
                heard.append(error)

    bench = connected()
    reply = bench.submit(Body(body), timeout=0.5)
    bench.run()
    bench.advance(0.5)
    assert heard == [reply.error, reply.error]

    heard.clear()
    bench = connected()
    bench.submit(Body(body))
    bench.run()
    bench.loop.kill(bench.pool.token)
    assert [type(error) for error in heard] == [PoolClosed, PoolClosed]


def test_a_loss_names_its_cause() -> None:
    heard: list[BaseException] = []

    async def body(held: Held) -> None:
        answer = held.submit(Ask("a"))
        await answer
        try:
            await held.submit(Ask("b"))
        except ConnectionLost as error:
            heard.append(error)
            raise

    bench = connected()
    reply = bench.submit(Body(body))
    bench.run()
    bench.answer("A")
    bench.reset()
    assert isinstance(reply.error, ConnectionLost)
    assert isinstance(heard[0].__cause__, OSError)


def test_each_exchange_in_flight_hears_of_the_loss() -> None:
    heard: list[str] = []

    async def body(held: Held) -> str:
        exchanges = {text: held.submit(Ask(text)) for text in ("one", "two", "three")}
        for text, exchange in exchanges.items():
            try:
                await exchange
            except (ConnectionLost, OSError):
                heard.append(text)
        return "to its end"

    bench = connected()
    reply = bench.submit(Body(body))
    bench.run()
    bench.reset()
    assert heard == ["one", "two", "three"]
    assert reply.result() == "to its end"


def test_one_that_waits_to_be_run_anew_may_be_cancelled() -> None:
    async def body(held: Held) -> None:
        await held.submit(Ask("a"))

    bench = connected(timeout=100.0)
    reply = bench.submit(Body(body, idempotent=True))
    bench.run()
    bench.reset()
    assert bench.pool.statistics().queued == 1
    reply.cancel()
    assert bench.pool.statistics().queued == 0
    assert bench.pool.statistics().retried == 1
    assert bench.add_up()


def test_a_lost_unit_that_may_not_be_sent_again_is_told_when_all_are_down() -> None:
    bench = connected(backends=("192.0.2.7:7000",), attempts=3)
    tried = bench.submit(Ask("tried", idempotent=True))
    bench.run()
    bench.reset()
    fresh = bench.submit("fresh")
    bench.refuse()
    assert isinstance(tried.error, ConnectionLost)
    assert "may have been executed" in str(tried.error)
    assert tried.error.__cause__ is not None
    assert isinstance(fresh.error, BackendDown)
    assert "the unit was not sent" in str(fresh.error)
    assert isinstance(fresh.error.__cause__, OSError)


def test_a_bench_notices_books_that_are_wrong() -> None:
    bench = connected()
    bench.pool.backends[0].opening += 1
    with pytest.raises(Broken, match=r"bench: .* counts 0 in flight and 1 opening"):
        bench.run()


class Closing(actors.Machine[int]):
    """Closes a connection when it is woken."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def wakeup(self, scope: actors.Scope) -> actors.Outcome:
        self.connection.close(ConnectionResetError("gone"))
        return actors.UNCHANGED


def test_one_that_has_not_sent_anything_is_run_anew_on_the_next_connection() -> None:
    ran = []

    async def body(held: Held) -> bytes:
        ran.append(held)
        return await held.submit(Ask("one"))

    bench = connected()
    (connection,) = bench.pool.backends[0].all
    token, _ = bench.loop.spawn_with_token(Closing(connection))
    reply = bench.submit(Body(body))  # the pool is woken, then the other, then the connection
    bench.loop.wake(token)
    bench.accept()
    assert bench.sent() == ["one"]
    bench.answer("ok")
    assert reply.result() == b"ok"
    assert len(ran) == 1
    assert len(bench.sockets) == 2


def test_a_wire_is_told_once_of_each_that_nobody_waits_for() -> None:
    told: list[bytes] = []

    class Noting(LineWire):
        __slots__ = ()

        def abandoned(self, work: Work[Any]) -> None:
            told.append(work.unit.line)

    bench = connected(Noting, pipeline=4)
    gone = bench.submit("gone", timeout=1.0)
    bench.submit("late", timeout=1.0)
    bench.run()
    gone.cancel()
    bench.advance(1.0)
    assert told == [b"gone", b"late"]


class Asking(actors.Machine[int]):
    """Counts how often it is woken."""

    turns = 0

    def start(self, scope: actors.Scope) -> actors.Outcome:
        self.scope = scope
        return actors.Continue(self)

    def wakeup(self, scope: actors.Scope) -> actors.Outcome:
        self.turns += 1
        return actors.UNCHANGED


def test_who_waits_for_several_is_woken_once_by_all_that_come_together() -> None:
    bench = connected(pipeline=4)
    asking = Asking()
    bench.loop.spawn(asking)
    for line in ("a", "b", "c"):
        bench.submit(line).attach(asking.scope)
    bench.run()
    asking.turns = 0
    bench.answer("A", "B", "C")
    assert asking.turns == 1


def test_a_bench_refuses_only_what_is_connecting() -> None:
    bench = connected(connections=2)
    busy, other = bench.submit("busy"), bench.submit("other")
    bench.run()
    bench.refuse()
    bench.answer("ok", index=0)
    assert busy.result() == b"ok"
    bench.answer("ok", index=0)
    assert other.result() == b"ok"
    assert bench.pool.statistics().lost == 0


def test_an_entry_has_a_number() -> None:
    ledger = Ledger()
    assert [Entry().enter(ledger) for _ in range(3)] == [1, 2, 3]
    assert ledger.waiting == 3
