"""Units of several exchanges: they hold one connection, can wait for nothing else, and leave it clean."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors import Channel, Misuse, gather, sleep
from actors.replies import Reply
from pools import Cancelled, ConnectionLost, DeadlineExceeded, Exchanges, Held, HeldAcrossBackends, Unit
from pools.testing import Ask, Bench, LineWire, Refused


class Body(Exchanges[Any]):
    """Runs a function's coroutine."""

    __slots__ = ("function", "idempotent")

    def __init__(self, function: Callable[[Held], Awaitable[Any]], idempotent: bool = False) -> None:
        self.function = function
        self.idempotent = idempotent

    async def body(self, held: Held) -> Any:
        return await self.function(held)


class Restoring(LineWire):
    """Says `rollback` after a body that ended in an open transaction."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        super().__init__()
        self.open = False

    def send(self, work: Any) -> None:
        super().send(work)
        self.open = {b"begin": True, b"commit": False, b"rollback": False}.get(work.unit.line, self.open)

    def restore(self) -> Unit[Any] | None:
        return Ask("rollback") if self.open else None


async def transfer(held: Held) -> bytes:
    await held.submit(Ask("begin"))
    answer = await held.submit(Ask("move"))
    await held.submit(Ask("commit"))
    return answer


def started(function: Callable[[Held], Awaitable[Any]], **options: Any) -> tuple[Bench, Reply[Any]]:
    bench = Bench(Restoring, connections=1, pipeline=8, **options)
    reply = bench.submit(Body(function), timeout=1)
    bench.accept()
    return bench, reply


def idle(bench: Bench) -> bool:
    return bench.pool.statistics().backends[0].idle == 1


def test_exchanges_follow_each_other_on_one_connection() -> None:
    bench, reply = started(transfer)
    other = bench.submit("other")
    assert bench.sent() == ["begin"]
    bench.answer("ok")
    assert bench.sent() == ["move"]
    bench.answer("moved")
    assert bench.sent() == ["commit"]
    assert not reply.settled
    bench.answer("ok")
    assert reply.result() == b"moved"
    assert bench.sent() == ["other"]
    bench.answer("1")
    assert other.result() == b"1"
    assert idle(bench)
    assert bench.add_up()
    assert bench.pool.statistics().succeeded == 2


def test_several_exchanges_may_be_in_flight() -> None:
    async def both(held: Held) -> list[bytes]:
        exchanges = [held.submit(Ask("a")), held.submit(Ask("b"))]
        return [await exchange for exchange in exchanges]

    bench, reply = started(both)
    assert bench.sent() == ["a", "b"]
    bench.answer("1", "2")
    assert reply.result() == [b"1", b"2"]


def test_an_exchanges_error_is_raised_where_it_is_awaited() -> None:
    async def careful(held: Held) -> str:
        try:
            await held.submit(Ask("a"))
        except Refused as error:
            return f"caught {error}"
        raise AssertionError

    bench, reply = started(careful)
    bench.answer("error no")
    assert reply.result() == "caught error no"
    assert bench.pool.statistics().failed == {}


def test_what_the_body_raises_reaches_the_caller_and_the_connection_is_restored() -> None:
    async def failing(held: Held) -> None:
        await held.submit(Ask("begin"))
        raise LookupError("no such account")

    bench, reply = started(failing)
    bench.answer("ok")
    with pytest.raises(LookupError, match="no such account"):
        reply.result()
    assert bench.sent() == ["begin", "rollback"]
    assert not idle(bench)
    bench.answer("ok")
    assert idle(bench)


def test_a_connection_that_cannot_be_restored_is_discarded() -> None:
    async def failing(held: Held) -> None:
        await held.submit(Ask("begin"))
        raise LookupError

    bench, _ = started(failing)
    bench.answer("ok")
    assert bench.sent() == ["begin", "rollback"]
    bench.answer("error cannot")
    assert bench.sockets[0].closed


def test_a_wire_may_refuse_to_restore() -> None:
    class Never(LineWire):
        __slots__ = ()

        def restore(self) -> None:
            raise Refused("throw it away")

    bench = Bench(Never)
    reply = bench.submit(Body(lambda held: held.submit(Ask("a"))))
    bench.accept()
    bench.answer("1")
    assert reply.result() == b"1"
    assert bench.sockets[0].closed


def test_what_the_body_leaves_in_flight_is_read_and_dropped() -> None:
    async def careless(held: Held) -> str:
        held.submit(Ask("a"))
        return "done"

    bench, reply = started(careless)
    assert reply.result() == "done"
    next_one = bench.submit("next")
    assert bench.sent() == ["a"]
    bench.answer("not for next")
    assert bench.sent() == ["next"]
    bench.answer("for next")
    assert next_one.result() == b"for next"


def foreign_awaits() -> dict[str, Callable[[Bench, Held], Any]]:
    class Future:
        def __await__(self) -> Any:
            yield self

    return {
        "another pool's reply": lambda bench, held: bench.submit("elsewhere"),
        "gather": lambda bench, held: gather(bench.submit("elsewhere")),
        "gather of its own": lambda bench, held: gather(held.submit(Ask("a"))),
        "a sleep": lambda bench, held: sleep(1),
        "a channel": lambda bench, held: Channel[int]().receive(),
        "a foreign future": lambda bench, held: Future(),
    }


@pytest.mark.parametrize("kind", foreign_awaits())
def test_awaiting_anything_else_is_refused_at_once(kind: str) -> None:
    async def body(held: Held) -> None:
        await held.submit(Ask("begin"))
        await foreign_awaits()[kind](elsewhere, held)

    elsewhere = Bench()
    bench, reply = started(body)
    bench.answer("ok")
    with pytest.raises(HeldAcrossBackends, match=r"Body awaited .* await it before or after"):
        reply.result()
    if kind == "gather of its own":
        bench.answer("ok")
    assert "rollback" in bench.sent()
    bench.answer("ok")
    assert idle(bench)


def test_a_body_may_go_on_after_the_refusal() -> None:
    async def body(held: Held) -> bytes:
        with pytest.raises(HeldAcrossBackends):
            await sleep(1)
        answer: bytes = await held.submit(Ask("a"))
        return answer

    bench, reply = started(body)
    bench.answer("1")
    assert reply.result() == b"1"


def test_a_body_that_never_stops_awaiting_others_is_ended() -> None:
    async def stubborn(held: Held) -> None:
        while True:
            try:
                await sleep(1)
            except HeldAcrossBackends:
                pass

    _, reply = started(stubborn)
    assert isinstance(reply.error, HeldAcrossBackends)


def test_cancelling_lets_the_clean_up_use_the_connection() -> None:
    async def body(held: Held) -> None:
        await held.submit(Ask("begin"))
        try:
            await held.submit(Ask("slow"))
        except Cancelled:
            await held.submit(Ask("rollback"))
            raise

    bench, reply = started(body)
    bench.answer("ok")
    reply.cancel()
    assert isinstance(reply.error, Cancelled)
    assert bench.sent() == ["begin", "slow"]
    bench.answer("slow's answer")
    assert bench.sent() == ["rollback"]
    bench.answer("ok")
    assert idle(bench)
    assert bench.pool.statistics().failed == {"Cancelled": 1}
    assert bench.add_up()


def test_cancelling_before_the_body_has_begun() -> None:
    bench = Bench(Restoring, connections=1)
    bench.submit("first")
    bench.accept()
    reply = bench.submit(Body(transfer))
    bench.sent()
    bench.run()
    reply.cancel()
    bench.answer("ok")
    assert bench.sent() == []
    assert idle(bench)


def test_past_the_deadline_the_connection_is_closed() -> None:
    heard: list[BaseException] = []

    async def body(held: Held) -> None:
        try:
            await held.submit(Ask("slow"))
        except DeadlineExceeded as error:
            heard.append(error)
            await held.submit(Ask("rollback"))

    bench, reply = started(body)
    bench.advance(1.01)
    assert isinstance(reply.error, DeadlineExceeded)
    assert reply.error.stage == "sent"
    assert heard == [reply.error]
    assert bench.sent() == ["slow"]
    assert bench.sockets[0].closed
    assert bench.add_up()


def test_a_cancelled_one_has_until_its_deadline() -> None:
    bench, reply = started(transfer)
    reply.cancel()
    bench.run()
    assert not bench.sockets[0].closed
    bench.advance(1.01)
    assert bench.sockets[0].closed
    assert bench.pool.statistics().failed == {"Cancelled": 1}


def test_a_lost_connection_is_raised_inside() -> None:
    async def body(held: Held) -> str:
        try:
            await held.submit(Ask("a"))
        except ConnectionLost:
            with pytest.raises(ConnectionLost):
                await held.submit(Ask("b"))
            raise
        return "never"

    bench, reply = started(body)
    bench.run()
    bench.reset()
    with pytest.raises(ConnectionLost, match="between exchanges"):
        reply.result()
    assert bench.add_up()


def test_an_idempotent_one_is_run_anew() -> None:
    bench = Bench(Restoring, connections=1)
    bench.submit("warm up")
    bench.accept()
    bench.answer("ok")
    reply = bench.submit(Body(transfer, idempotent=True))
    bench.run()
    bench.answer("ok")
    bench.end()
    bench.accept()
    assert bench.sent() == ["begin"]
    bench.answer("ok")
    bench.answer("2")
    bench.answer("ok")
    assert reply.result() == b"2"
    assert bench.add_up()


def test_stopping_the_pool_ends_the_body() -> None:
    cleaned = []

    async def body(held: Held) -> None:
        try:
            await held.submit(Ask("a"))
        finally:
            cleaned.append(True)

    bench, reply = started(body)
    bench.loop.close()
    assert cleaned == [True]
    assert reply.settled
    assert bench.add_up()


def test_an_exchange_that_cannot_be_encoded_fails_alone() -> None:
    class Picky(Restoring):
        __slots__ = ()

        def send(self, work: Any) -> None:
            if work.unit.line == b"bad":
                raise ValueError("cannot be encoded")
            super().send(work)

    async def body(held: Held) -> bytes:
        with pytest.raises(ValueError, match="cannot be encoded"):
            await held.submit(Ask("bad"))
        answer: bytes = await held.submit(Ask("good"))
        return answer

    bench = Bench(Picky)
    reply = bench.submit(Body(body))
    bench.accept()
    assert bench.sent() == ["good"]
    bench.answer("1")
    assert reply.result() == b"1"


def test_a_unit_of_several_exchanges_needs_a_body() -> None:
    bench = Bench()
    reply = bench.submit(Exchanges())
    bench.accept()
    assert isinstance(reply.error, NotImplementedError)
    assert bench.add_up()


def test_held_is_of_no_use_afterwards() -> None:
    kept: list[Held] = []

    async def body(held: Held) -> None:
        kept.append(held)
        await held.submit(Ask("a"))

    bench, reply = started(body)
    bench.answer("1")
    assert reply.result() is None
    with pytest.raises(Misuse, match="has ended"):
        kept[0].submit(Ask("b"))


def test_exchanges_in_flight_are_bounded() -> None:
    async def greedy(held: Held) -> None:
        while True:
            held.submit(Ask("a"))

    _, reply = started(greedy)
    assert isinstance(reply.error, Misuse)


def test_reprs_and_the_wire_inside() -> None:
    seen: list[str] = []

    async def body(held: Held) -> None:
        seen.append(repr(held))
        assert isinstance(held.wire, Restoring)
        await held.submit(Ask("a"))

    bench, _ = started(body)
    (connection,) = bench.pool.backends[0].all
    assert seen[0].startswith("<Held <Connection")
    assert repr(connection.driver) == "<Driver of Body waiting for <Exchange Ask exchange>>"
