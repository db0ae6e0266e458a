"""Whatever is awaited settles: chains, cycles, channels with several ends, cancels, deadlines; each flow in
context variables of its own."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from actors import (
    AllFailed,
    Cancelled,
    Channel,
    ChannelClosed,
    Child,
    DeadlineExceeded,
    Loop,
    MachineStopped,
    MailboxFull,
    Misuse,
    NoAnswer,
    Reply,
    Supervisor,
    deadline,
    first,
    gather,
    settle_all,
    sleep,
    with_deadline,
)
from actors.testing import ManualKernel
from pools import BackendDown, PoolError
from pools import Cancelled as UnitCancelled
from pools.exchanges import Exchanges, Held
from pools.testing import Ask, Bench
from protocols import http


@pytest.fixture
def loop():
    with Loop(kernel=ManualKernel()) as loop:
        yield loop


def ticks(loop: Loop, count: int = 5) -> None:
    for _ in range(count):
        loop.tick(0)


# -- chains ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 340, 5000])
def test_a_chain_of_any_length_settles_and_is_cancelled(depth):
    source = reply = Reply()
    for _ in range(depth):
        reply = reply.map(lambda value: value + 1)
    heard = []
    reply.when_settled(heard.append)
    assert source.settle(0)
    assert (reply.result(), heard) == (depth, [reply])
    source = reply = Reply()
    for _ in range(depth):
        reply = reply.map(str)
    assert reply.cancel()
    assert isinstance(source.error, Cancelled)


@pytest.mark.parametrize("combine", [gather, settle_all, first])
def test_nested_combinations_settle_and_are_cancelled(combine):
    def nested() -> tuple[Reply[Any], Reply[Any]]:
        source = reply = Reply()
        for _ in range(2000):
            reply = combine(reply)
        return source, reply

    source, reply = nested()
    source.settle(1)
    value = reply.result()
    while isinstance(value, tuple):
        (value,) = value
    assert value == 1
    source, reply = nested()
    source.fail(MailboxFull("full"))
    assert reply.settled
    source, reply = nested()
    reply.cancel()
    assert isinstance(source.error, Cancelled)


# -- cycles ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "through",
    [
        lambda reply: reply,
        lambda reply: reply.map(str),
        lambda reply: gather(Reply(), reply),
        settle_all,
        first,
        lambda reply: gather(first(reply).map(str)),
    ],
)
def test_flows_that_await_each_other_are_told_so(loop, through):
    flows: list[Reply[Any]] = []

    async def one() -> Any:
        return await through(flows[1])

    async def other() -> Any:
        return await flows[0]

    async def itself() -> Any:
        return await through(flows[2])

    flows += [loop.spawn(one()), loop.spawn(other()), loop.spawn(itself())]
    ticks(loop)
    assert isinstance(flows[1].error, Misuse)
    assert "would never end: " in str(flows[1].error)
    assert isinstance(flows[2].error, Misuse)
    assert "itself waits for " in str(flows[2].error)


def test_what_is_no_cycle_is_awaited(loop):
    late = Reply()

    async def bottom() -> int:
        return await late

    async def middle(below: Reply[int]) -> int:
        return sum(await gather(below, below))

    async def top(below: Reply[int], bottom: Reply[int]) -> int:
        return await first(Reply(), below) + await bottom

    lowest = loop.spawn(bottom())
    between = loop.spawn(middle(lowest))
    highest = loop.spawn(top(between, lowest))
    ticks(loop)
    late.settle(1)
    ticks(loop)
    assert highest.result() == 3


# -- channels ----------------------------------------------------------------------------------------------


def test_several_receivers_and_senders_are_served_in_order(loop):
    channel: Channel[int] = Channel(1)
    got: list[tuple[str, int]] = []

    async def takes(name: str) -> None:
        async for item in channel:
            got.append((name, item))  # noqa: PERF401 - one by one, as they come

    async def sends(*items: int) -> str:
        for item in items:
            await channel.send(item)
        return "sent"

    takers = [loop.spawn(takes(name)) for name in "abc"]
    loop.tick(0)
    assert loop.run_until(loop.spawn(sends(1, 2, 3))) == "sent"
    ticks(loop)
    assert got == [("a", 1), ("b", 2), ("c", 3)]
    channel.close()
    ticks(loop)
    assert [taker.result() for taker in takers] == [None] * 3

    channel = Channel(1)
    channel.put(0)
    senders = [loop.spawn(sends(number)) for number in (1, 2, 3)]
    ticks(loop)
    assert [channel.take() for _ in range(4)] == [0, 1, 2, 3]
    ticks(loop)
    assert [sender.result() for sender in senders] == ["sent"] * 3


def test_what_a_receiver_was_given_and_did_not_take_goes_to_the_next(loop):
    channel: Channel[int] = Channel()
    gone, stays = loop.spawn(channel.receive()), loop.spawn(channel.receive())
    loop.tick(0)
    channel.put(1)
    gone.cancel()
    ticks(loop)
    assert stays.result() == 1
    alone = loop.spawn(channel.receive())
    loop.tick(0)
    channel.put(2)
    channel.close()
    alone.cancel()
    ticks(loop)
    assert channel.take() == 2
    assert channel.ended


def test_a_sender_that_has_gone_sends_nothing_and_a_closed_channel_lets_all_go(loop):
    channel: Channel[int] = Channel(1)
    channel.put(0)
    gone, stays = loop.spawn(channel.send(1)), loop.spawn(channel.send(2))
    ticks(loop)
    gone.cancel()
    ticks(loop)
    channel.cancel(ValueError("no more"))
    ticks(loop)
    assert isinstance(stays.error, ChannelClosed)
    assert channel.statistics().sent == 1
    waiting = [loop.spawn(Channel.receive(empty := Channel())) for _ in range(1)]
    ticks(loop)
    empty.close(KeyError("k"))
    ticks(loop)
    assert isinstance(waiting[0].error, KeyError)


# -- cancelling --------------------------------------------------------------------------------------------


def test_a_flow_that_tries_again_and_again_can_be_cancelled(loop):
    asked: list[Reply[int]] = []

    async def stubborn() -> None:
        while True:
            try:
                asked.append(Reply())
                await asked[-1]
            except Exception:
                continue

    reply = loop.spawn(stubborn())
    loop.tick(0)
    asked[0].fail(ValueError("try again"))
    loop.tick(0)
    assert reply.cancel()
    ticks(loop)
    assert loop.machines == 0
    assert len(asked) == 2
    assert isinstance(asked[1].error, Cancelled)
    assert not issubclass(UnitCancelled, Exception)
    assert issubclass(UnitCancelled, Cancelled)


def test_a_unit_of_several_exchanges_that_tries_again_can_be_cancelled():
    class Stubborn(Exchanges[Any]):
        async def body(self, held: Held) -> None:
            while True:
                try:
                    await held.submit(Ask("again"))
                except Exception:
                    continue

    bench = Bench(connections=1)
    reply = bench.submit(Stubborn())
    bench.accept()
    assert bench.sent() == ["again"]
    assert reply.cancel()
    bench.answer("ok")
    assert bench.sent() == []
    assert bench.pool.statistics().in_flight == 0


def test_a_unit_of_several_exchanges_has_the_variables_of_where_it_was_made():
    seen = []

    class Reads(Exchanges[Any]):
        async def body(self, held: Held) -> None:
            seen.append(who.get())
            who.set("body")
            await held.submit(Ask("x"))
            seen.append(who.get())

    def make() -> Reads:
        who.set("maker")
        return Reads()

    bench = Bench(connections=1)
    reply = bench.submit(copy_context().run(make))
    bench.accept()
    bench.answer("ok")
    assert reply.settled
    assert (seen, who.get()) == (["maker", "body"], "nobody")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda reply: reply,
        lambda reply: with_deadline(reply, 100),
        lambda reply: with_deadline(gather(with_deadline(reply, 10), Reply()), 100),
        lambda reply: reply.map(str),
    ],
)
def test_a_cancel_is_passed_on(loop, wrap):
    told = []

    async def waits() -> None:
        reply = Reply()
        reply.on_cancel(lambda: told.append("first hook"))
        reply.on_cancel(lambda: told.append("second hook"))
        wrapped = wrap(reply)
        wrapped.on_cancel(lambda: told.append("hook of the wrapping"))
        await wrapped

    flow = loop.spawn(waits())
    loop.tick(0)
    flow.cancel()
    ticks(loop)
    assert sorted(told) == ["first hook", "hook of the wrapping", "second hook"]
    assert loop.machines == 0


def test_somebody_else_who_waits_keeps_a_reply_alive(loop):
    shared = with_deadline(Reply(), 100)

    async def waits() -> int:
        return await shared

    one, other = loop.spawn(waits()), loop.spawn(waits())
    loop.tick(0)
    one.cancel()
    ticks(loop)
    assert not shared.settled
    shared.settle(1)
    ticks(loop)
    assert other.result() == 1


def test_a_handler_that_awaits_what_was_cancelled_answers_500():
    async def handler(request: http.Request) -> http.Response:
        reply = Reply()
        reply.cancel()
        return await reply

    with Loop() as loop:
        server = loop.spawn(http.server("127.0.0.1:0", handler))
        pool = loop.spawn(http.pool(f"http://127.0.0.1:{server.address.port}"))
        assert loop.run_until(pool.submit(http.get("/"))).status == 500


# -- deadlines: one clause ---------------------------------------------------------------------------------


async def never() -> None:
    await Reply()


AWAITED = {
    "a reply": lambda bench: Reply(),
    "a unit that is queued": lambda bench: bench.submit("late"),
    "a unit with a timeout": lambda bench: bench.submit("late", timeout=0.1),
    "a flow": lambda bench: bench.loop.spawn(never()),
    "gather": lambda bench: gather(bench.submit("late"), bench.loop.spawn(never())),
    "first of units": lambda bench: first(bench.submit("late"), bench.submit("late")),
    "first of a unit and a flow": lambda bench: first(bench.submit("late"), bench.loop.spawn(never())),
    "map": lambda bench: bench.submit("late").map(str),
    "with_deadline": lambda bench: with_deadline(Reply(), 0.1),
    "sleep": lambda bench: sleep(100),
    "a channel": lambda bench: Channel().receive(),
    "a full channel": lambda bench: full().send(1),
    "a coroutine": lambda bench: never(),
}


def full() -> Channel[int]:
    channel: Channel[int] = Channel(1)
    channel.put(0)
    return channel


@pytest.mark.parametrize("name", AWAITED)
def test_one_clause_catches_whatever_is_late(name):
    bench = Bench(connections=1)
    bench.submit("holds the only connection", timeout=1000)
    caught: list[NoAnswer] = []

    async def asks() -> None:
        try:
            with deadline(0.2):
                await AWAITED[name](bench)
        except NoAnswer as error:
            caught.append(error)

    asking = bench.loop.spawn(asks())
    for _ in range(10):
        bench.advance(0.1)
    assert asking.settled
    assert [isinstance(error, DeadlineExceeded) for error in caught] == [True]
    assert isinstance(caught[0], TimeoutError)


def test_what_first_fails_with():
    def failing(*errors: BaseException) -> BaseException | None:
        replies: list[Reply[int]] = [Reply() for _ in errors]
        reply = first(*replies)
        for part, error in zip(replies, errors, strict=True):
            part.fail(error)
        return reply.error

    late, down, stopped = DeadlineExceeded("late"), BackendDown("down"), MachineStopped("stopped")
    assert failing(late) is late
    assert failing(Cancelled("gone"), late) is late
    assert isinstance(failing(Cancelled("gone")), Cancelled)
    nobody = failing(late, down, stopped)
    assert isinstance(nobody, AllFailed)
    assert isinstance(nobody, NoAnswer)
    assert nobody.exceptions == (late, down, stopped)
    matched, rest = nobody.split(PoolError)
    assert isinstance(matched, AllFailed)
    assert isinstance(rest, AllFailed)
    mistake = failing(late, KeyError("a mistake"))
    assert isinstance(mistake, ExceptionGroup)
    assert not isinstance(mistake, NoAnswer)


# -- context variables -------------------------------------------------------------------------------------

who: ContextVar[str] = ContextVar("who", default="nobody")


def test_each_flow_has_variables_of_its_own(loop):
    async def sets(name: str) -> list[str]:
        seen = [who.get()]
        who.set(name)
        await sleep(1)
        seen.append(who.get())
        return seen

    async def spawns() -> str:
        who.set("spawner")
        child = loop.spawn(reads())
        who.set("changed later")
        return await child

    async def reads() -> str:
        return who.get()

    flows = [loop.spawn(sets(name)) for name in ("ada", "bob")]
    spawning = loop.spawn(spawns())
    loop.tick(0)
    loop.kernel.clock.advance(1)
    ticks(loop)
    assert [flow.result() for flow in flows] == [["nobody", "ada"], ["nobody", "bob"]]
    assert spawning.result() == "spawner"
    assert who.get() == "nobody"


def test_clean_up_callbacks_and_children_keep_their_variables(loop):
    seen = []

    async def cleans_up() -> None:
        who.set("flow")
        try:
            await Reply()
        finally:
            seen.append(who.get())

    async def child() -> None:
        seen.append(who.get())
        who.set("child")
        await sleep(0)
        raise ValueError("again")

    def asks() -> Reply[str]:
        who.set("asker")
        source.when_settled(lambda reply: seen.append(who.get()))
        loop.spawn(Supervisor(Child("child", child), restarts_max=1))
        return source.map(lambda value: who.get())

    source = Reply()
    loop.spawn(cleans_up())
    mapped = copy_context().run(asks)
    source.settle(1)
    assert (mapped.result(), seen) == ("asker", ["asker"])
    for _ in range(5):
        loop.tick(0)
        loop.kernel.clock.advance(1)
    assert seen == ["asker"] * 3
    loop.close()
    assert seen[-1] == "flow"


async def read_later(request: http.Request) -> http.Response:
    before = who.get()
    who.set(request.path)
    await sleep(0)
    return http.text_response(f"{before} {who.get()}")


def read_at_once(request: http.Request) -> http.Response:
    before = who.get()
    who.set(request.path)
    return http.text_response(f"{before} {who.get()}")


def decorated(request: http.Request) -> Any:
    who.set("decorated")
    return read_later(request)


@pytest.mark.parametrize(
    ("handler", "before"), [(read_later, "server"), (read_at_once, "server"), (decorated, "decorated")]
)
@pytest.mark.parametrize("body", [b"", b"gathered"])
def test_each_request_has_variables_of_its_own(handler, before, body):
    with Loop() as loop:

        def serve() -> Any:
            who.set("server")
            return loop.spawn(http.server("127.0.0.1:0", handler))

        server = copy_context().run(serve)
        pool = loop.spawn(http.pool(f"http://127.0.0.1:{server.address.port}", connections=2))
        asked = [pool.submit(http.post(f"/{name}", body=body)) for name in "abcd"]
        answers = loop.run_until(gather(*asked))
        assert [answer.text() for answer in answers] == [f"{before} /{name}" for name in "abcd"]
    assert who.get() == "nobody"


def test_under_asyncio_a_flow_has_the_tasks_variables():
    async def main() -> None:
        async with Loop.in_asyncio() as loop:

            async def sets() -> None:
                who.set("flow")
                await sleep(0)

            async def reads() -> str:
                await sleep(0)
                return who.get()

            who.set("task")
            setting, reading = loop.spawn(sets()), loop.spawn(reads())
            await setting
            assert await reading == "task"
            assert who.get() == "task"

    asyncio.run(main())
