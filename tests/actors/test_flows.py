"""Flows: coroutines as machines."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from actors import (
    NEVER,
    Cancelled,
    DeadlineExceeded,
    Loop,
    Machine,
    MachineStopped,
    Misuse,
    Reply,
    deadline,
    gather,
    sleep,
    with_deadline,
)
from actors.testing import ManualKernel


@pytest.fixture
def loop():
    with Loop(kernel=ManualKernel()) as loop:
        yield loop


def pass_time(loop, seconds):
    loop.kernel.clock.advance(seconds)
    loop.tick(0)


def test_awaits_replies_sleeps_and_other_flows(loop):
    asked = Reply()

    async def inner(value):
        await sleep(1)
        return value

    async def outer():
        return await asked, await gather(loop.spawn(inner(1)), loop.spawn(inner(2)))

    reply = loop.spawn(outer())
    loop.tick(0)
    assert loop.machines == 1
    asked.settle("a")
    loop.tick(0)
    pass_time(loop, 1)
    loop.tick(0)
    assert reply.result() == ("a", (1, 2))
    assert loop.machines == 0


def test_run_until_returns_or_raises(loop):
    async def works():
        await sleep(0)
        return 7

    async def breaks():
        raise KeyError("k")

    assert loop.run_until(loop.spawn(works())) == 7
    with capture_logs() as logs, pytest.raises(KeyError):
        loop.run_until(loop.spawn(breaks()))
    assert logs == [], "who runs until it settles has seen the error"


def test_an_error_that_nobody_awaits_is_logged(loop):
    async def breaks():
        raise KeyError("k")

    with capture_logs() as logs:
        loop.spawn(breaks())
        loop.tick(0)
        loop.tick(0)
    assert [log["event"] for log in logs] == ["flow failed"]


def test_cancelling_raises_inside_and_cancels_what_it_waits_for(loop):
    asked, seen = Reply(), []

    async def flow():
        try:
            await asked
        except Cancelled:
            seen.append("cancelled")
            raise

    reply = loop.spawn(flow())
    loop.tick(0)
    assert reply.cancel()
    assert not asked.settled
    loop.tick(0)
    assert seen == ["cancelled"]
    assert isinstance(asked.error, Cancelled)
    assert loop.machines == 0
    never_run = loop.spawn(flow())
    never_run.cancel()
    loop.tick(0)
    assert seen == ["cancelled"]
    assert loop.machines == 0


def test_a_reply_that_others_wait_for_too_survives_one_of_them(loop):
    shared = Reply()

    async def flow():
        return await shared

    one, two = loop.spawn(flow()), loop.spawn(flow())
    loop.tick(0)
    one.cancel()
    loop.tick(0)
    assert not shared.settled
    shared.settle(5)
    loop.tick(0)
    assert two.result() == 5


def test_a_cancelled_flow_may_clean_up_and_may_even_answer(loop):
    async def flow():
        try:
            await sleep(100)
        except Cancelled:
            await sleep(1)
            return "done"

    reply = loop.spawn(flow())
    loop.tick(0)
    reply.cancel()
    loop.tick(0)
    assert loop.machines == 1
    pass_time(loop, 1)
    assert loop.machines == 0
    assert isinstance(reply.error, Cancelled)


def test_a_deadline_ends_waits_inside_and_is_given_on_to_flows_inside(loop):
    seen = []
    asked = Reply()

    async def child():
        await sleep(100)

    async def flow():
        with deadline(2):
            try:
                await asked
            except DeadlineExceeded as error:
                seen.append(str(error))
            with pytest.raises(DeadlineExceeded):
                await sleep(0.1)
        await sleep(1)
        with deadline(1):
            await loop.spawn(child())

    reply = loop.spawn(flow())
    loop.tick(0)
    assert loop.inherited_deadline == NEVER
    pass_time(loop, 1)
    assert not seen
    pass_time(loop, 1)
    assert seen == ["the deadline passed while waiting for <Reply pending>"]
    assert isinstance(asked.error, DeadlineExceeded)
    loop.tick(0)
    pass_time(loop, 1)
    pass_time(loop, 1)
    loop.tick(0)
    assert isinstance(reply.error, DeadlineExceeded)
    assert loop.machines == 0


def test_a_reply_with_an_earlier_deadline_of_its_own_says_more(loop):
    async def flow():
        with deadline(2):
            await with_deadline(Reply(), 2)

    reply = loop.spawn(flow())
    loop.tick(0)
    pass_time(loop, 2)
    assert "no answer within 2 s" in str(reply.error)


def test_a_wakeup_that_means_nothing_keeps_the_deadline(loop):
    async def flow():
        await sleep(2)
        return "slept"

    reply = loop.spawn(flow())
    loop.tick(0)
    loop.wake(1)
    loop.tick(0)
    assert loop.next_deadline == 1002.0
    pass_time(loop, 2)
    assert reply.result() == "slept"


def test_foreign_awaitables_are_refused_inside_at_once(loop):
    foreign = asyncio.new_event_loop()

    async def flow():
        with pytest.raises(Misuse, match="it may await replies"):
            await foreign.create_future()
        return "went on"

    assert loop.run_until(loop.spawn(flow())) == "went on"
    foreign.close()
    with pytest.raises(Misuse, match="call the async function"):
        loop.spawn(flow)
    with pytest.raises(Misuse, match=r"Machine is a class; spawn one: spawn\(Machine\(\.\.\.\)\)"):
        loop.spawn(Machine)  # type: ignore[type-var]


def test_a_killed_flow_settles_and_leaves_no_deadline_behind(loop):
    seen = []

    async def flow():
        try:
            with deadline(5), deadline(3):
                await Reply()
        finally:
            seen.append("cleaned up")

    with deadline(50):
        reply = loop.spawn(flow())
        loop.tick(0)
    loop.kill(1, ValueError("why"))
    assert seen == ["cleaned up"]
    assert isinstance(reply.error, MachineStopped)
    assert "why" in str(reply.error)
    assert loop.inherited_deadline == NEVER


def test_a_flow_that_will_not_end_settles_all_the_same(loop):
    async def flow():
        try:
            await sleep(5)
        finally:
            await sleep(5)

    reply = loop.spawn(flow())
    loop.tick(0)
    with capture_logs() as logs:
        loop.kill(1)
    assert isinstance(reply.error, MachineStopped)
    assert [log["event"] for log in logs] == ["clean-up failed"]


def test_draining_lets_flows_finish(loop):
    async def flow():
        await sleep(2)
        return "finished"

    reply = loop.spawn(flow())
    loop.tick(0)
    loop.drain(10)
    loop.tick(0)
    pass_time(loop, 2)
    assert reply.result() == "finished"


def test_reprs(loop):
    async def named():
        await sleep(2)

    loop.spawn(named())
    loop.tick(0)
    assert "named waiting for <sleep for 2.000 s>" in repr(loop.machine(1))
