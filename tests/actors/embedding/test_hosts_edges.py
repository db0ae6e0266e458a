"""Hosts at their edges: replies that nobody settles, two asyncio loops in turn, tasks within a tick."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from actors import DeadlineExceeded, Loop, Machine, Misuse, Reply, deadline, gather, sleep
from actors.embedding import thread_host
from tests.actors.embedding.hosts import HOSTS, pump, run_in

LONG_AGO = 100.0  # seconds

every_host = pytest.mark.parametrize("host", HOSTS)


# -- what is lost ------------------------------------------------------------------------------------------


@every_host
@pytest.mark.parametrize("seconds", [1000.0, 1e6])
def test_a_reply_that_nobody_settles_ends_after_its_own_deadline(host, seconds):
    async def main():
        async with Loop.in_anyio() as loop:
            lost: Reply[int] = Reply(deadline=loop.time() - LONG_AGO)
            with (
                deadline(seconds) if seconds else deadline(1e6),
                pytest.raises(DeadlineExceeded, match="lost"),
            ):
                await lost
            assert lost.settled

    run_in(host, main)


@every_host
def test_a_wait_that_is_in_time_is_left_alone(host):
    async def main():
        async with Loop.in_anyio() as loop:
            late: Reply[int] = Reply(deadline=loop.time() + LONG_AGO)
            lost: Reply[int] = Reply(deadline=loop.time() - LONG_AGO)
            got = []

            async def wait():
                got.append(await late)

            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await pump()
                with pytest.raises(DeadlineExceeded):
                    await lost
                assert got == []
                late.settle(5)
            assert got == [5]

    run_in(host, main)


class Raises(Reply[int]):
    def cancel(self, error: BaseException | None = None) -> bool:
        super().cancel(error)
        raise KeyError("the unit")


def test_whoever_has_lost_it_cannot_keep_the_wait_by_raising_once_more():
    async def main():
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        async with Loop.in_asyncio() as loop:
            due = loop.time() - LONG_AGO
            lost: list[Reply[int]] = [Raises(deadline=due), Reply(deadline=due)]

            async def wait(reply: Reply[int]) -> int:
                return await reply

            ends = await asyncio.gather(*map(wait, lost), return_exceptions=True)
            assert [type(end) for end in ends] == [DeadlineExceeded, DeadlineExceeded]
        assert [type(error) for error in told[0].exceptions] == [KeyError]

    run_in("asyncio", main)


class Loses(Machine[Any]):
    """In the place of a pool that has lost its unit."""

    def handle(self, scope: Any) -> Any:
        return self

    def submit(self, unit: Any, timeout: Any = None, priority: int = 0) -> Reply[Any]:
        return Reply(deadline=-LONG_AGO)


def test_a_thread_does_not_wait_for_what_is_lost(monkeypatch):
    monkeypatch.setattr(thread_host, "LOOK_SECONDS", 0.01)
    with Loop.in_thread() as loop:
        pool = loop.spawn(Loses())
        with pytest.raises(DeadlineExceeded, match="lost"):
            pool.submit("unit").result()
        assert not pool.submit("unit").wait(0.001)


# -- two asyncio loops in one thread -----------------------------------------------------------------------


async def flow(value: int) -> int:
    await sleep(0)
    return value


async def uses(loop: Loop) -> tuple[int, int]:
    with deadline(1000):
        return await gather(loop.spawn(flow(1)), loop.spawn(flow(2)))


@pytest.fixture
def two():
    """Two asyncio loops, each with one of ours."""
    hosts = [asyncio.new_event_loop(), asyncio.new_event_loop()]

    async def attached() -> Any:
        return Loop.in_asyncio().attach()

    ours = [host.run_until_complete(attached()) for host in hosts]
    yield list(zip(hosts, ours, strict=True))
    for host, loop in zip(hosts, ours, strict=True):
        host.run_until_complete(loop.aclose())
        host.close()


def test_two_asyncio_loops_take_turns_in_one_thread(two):
    for _ in range(2):
        for host, loop in two:
            assert host.run_until_complete(uses(loop)) == (1, 2)


def test_a_loop_that_another_asyncio_drives_is_refused_at_once(two):
    (_, first), (second, _) = two
    with pytest.raises(Misuse, match="does not drive this Windlass loop"):
        second.run_until_complete(uses(first))


def test_a_reply_of_another_asyncio_is_refused_at_once():
    host, other = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def attached() -> Any:
        return Loop.in_asyncio().attach()

    async def wait(reply: Reply[int]) -> int:
        return await reply

    loop = host.run_until_complete(attached())
    reply: Reply[int] = Reply()
    with pytest.raises(Misuse, match="does not drive this Windlass loop"):
        other.run_until_complete(wait(reply))
    assert reply.settled
    host.run_until_complete(loop.aclose())
    host.close()
    other.close()


# -- within a tick -----------------------------------------------------------------------------------------


def begin(host: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """A task that begins at once, as `eager_task_factory` of Python 3.12 makes it."""
    if hasattr(asyncio, "eager_task_factory"):
        return asyncio.eager_task_factory(host, coroutine)
    task = asyncio.tasks._PyTask(coroutine, loop=host)
    task._Task__step()
    return task


def test_a_task_that_begins_within_a_tick_waits_as_any_other():
    async def main():
        host = asyncio.get_running_loop()
        async with Loop.in_asyncio() as loop:
            reply: Reply[int] = Reply()

            async def task() -> int:
                with deadline(1000):
                    assert loop.inherited_deadline < 1e12
                    return await reply

            async def starts() -> Any:
                task_of_it = begin(host, task())
                assert loop.inherited_deadline > 1e12  # the task's is its own
                await sleep(0)
                assert loop.inherited_deadline > 1e12
                return task_of_it

            waiting = await loop.spawn(starts())
            assert not waiting.done()
            reply.settle(7)
            assert await waiting == 7

    run_in("asyncio", main)


def test_asyncio_inside_a_flow_is_told_what_cannot_come():
    async def main():
        host: Any = asyncio.get_running_loop()
        async with Loop.in_asyncio() as loop:

            async def asks() -> str:
                try:
                    return await loop.spawn(flow(3))
                except Misuse as error:
                    return str(error)

            async def nests() -> str:
                task = host.create_task(asks())
                for _ in range(5):  # what nest_asyncio does in the place of run_until_complete
                    host.call_soon(int)
                    host._run_once()
                assert task.done()
                return await reply_of(task)

            async def reply_of(task: Any) -> str:
                said: str = task.result()
                return said

            assert "asyncio runs inside a flow" in await loop.spawn(nests())
            assert await loop.spawn(flow(4)) == 4

    run_in("asyncio", main)


def test_a_turn_within_a_tick_is_told_once_and_the_loop_goes_on():
    async def main():
        async with Loop.in_asyncio() as loop:

            async def nests() -> None:
                for _ in range(100):
                    loop.turn()

            with capture_logs() as logs:
                await loop.spawn(nests())
            assert [line["event"] for line in logs] == [
                "asyncio runs inside a flow or a handler; this loop is stopped until that ends"
            ]
            await asyncio.to_thread(loop.notifier.wake, 0)  # is heard
            assert await loop.spawn(flow(4)) == 4

    run_in("asyncio", main)
