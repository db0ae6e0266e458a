"""`with deadline()` in a thread that asks a loop in another one: whatever loops it has made itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest

from actors import DeadlineExceeded, Loop, Reply, deadline
from actors.embedding.thread_host import ThreadLoop, ThreadPool, ThreadReply
from actors.testing import ManualKernel
from pools import DeadlineExceeded as TooLate
from protocols import http

LONG = 60.0


@pytest.fixture
def loop() -> Iterator[ThreadLoop]:
    with Loop.in_thread(drain=0.0) as loop:
        yield loop


@pytest.fixture
def pool(loop: ThreadLoop) -> ThreadPool:
    """Nobody ever answers."""

    async def never(request: http.Request) -> http.Response:
        await Reply()
        raise AssertionError

    server = loop.spawn(http.server("127.0.0.1:0", never))
    pool: ThreadPool = loop.spawn(http.pool(f"http://{server.address}"))
    return pool


def ask(pool: ThreadPool) -> ThreadReply[http.Response]:
    return pool.submit(http.get("/"), timeout=LONG)


OWN_LOOPS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "none": nullcontext,
    "one that does not run": Loop,
    "one with another clock": lambda: Loop(kernel=ManualKernel()),
}


@pytest.mark.parametrize("own", OWN_LOOPS)
def test_a_unit_ends_by_it(own: str, pool: ThreadPool) -> None:
    with OWN_LOOPS[own](), deadline(0.01), deadline(LONG), pytest.raises(TooLate):
        ask(pool).result(timeout=10)


@pytest.mark.parametrize("own", OWN_LOOPS)
def test_it_counts_for_a_unit_that_is_submitted_when_it_has_passed(own: str, pool: ThreadPool) -> None:
    with OWN_LOOPS[own](), deadline(0):
        reply = ask(pool)
    with pytest.raises(TooLate):
        reply.result(timeout=10)


def test_a_loop_that_comes_or_goes_inside_changes_nothing(pool: ThreadPool) -> None:
    own = Loop()
    with deadline(0):
        own.close()
        after = ask(pool)
        with Loop():
            within = ask(pool)
    for reply in (after, within):
        with pytest.raises(TooLate):
            reply.result(timeout=10)
    assert not ask(pool).wait(0)  # it is over


def test_a_flow_of_a_loop_of_ones_own_has_its_own(pool: ThreadPool) -> None:
    async def asks() -> tuple[ThreadReply[http.Response], ThreadReply[http.Response]]:
        with deadline(0):
            hurried = ask(pool)
        return hurried, ask(pool)

    with Loop() as own:
        hurried, other = own.run_until(own.spawn(asks()))
    with pytest.raises(TooLate):
        hurried.result(timeout=10)
    assert not other.settled


def test_flows_and_calls_end_by_it(loop: ThreadLoop, pool: ThreadPool) -> None:
    async def wait_for(reply: Reply[http.Response]) -> http.Response:
        return await reply

    async def flow() -> http.Response:
        return await pool.submit(http.get("/"), timeout=LONG)

    with deadline(0.01):
        flowing = loop.spawn(flow())
        called = loop.call(pool.submit, http.get("/"), LONG)
    with pytest.raises(TooLate):
        flowing.result(timeout=10)
    submitted = called.wait(10) and called.result()
    with pytest.raises(TooLate):
        loop.spawn(wait_for(submitted)).result(timeout=10)


def test_a_wait_ends_by_it(pool: ThreadPool) -> None:
    reply = ask(pool)
    with deadline(0.01):
        assert not reply.wait()
        with pytest.raises(DeadlineExceeded, match="no answer within"):
            reply.result()
        with pytest.raises(DeadlineExceeded, match="no answer within"):
            reply.result(timeout=LONG)
    assert not reply.settled


def test_what_takes_no_time_is_done_when_it_has_passed(loop: ThreadLoop) -> None:
    with deadline(0):
        pool = loop.spawn(http.pool("http://127.0.0.1:9"))
        assert pool.statistics().submitted == 0
