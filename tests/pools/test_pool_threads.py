"""A pool whose loop runs in another thread."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import pytest

import pools
from actors import Loop, Misuse
from pools import PoolError
from pools.testing import Ask, LineWire


def test_a_unit_from_another_thread_is_refused_at_once_and_not_counted() -> None:
    loop = Loop()
    pool = loop.spawn(pools.pool(LineWire, ["127.0.0.1:1"]))
    running, done = threading.Event(), threading.Event()

    async def say_so() -> None:
        running.set()

    loop.spawn(say_so())
    thread = threading.Thread(target=lambda: (loop.run(signals=False), done.set()))
    thread.start()
    try:
        assert running.wait(10)
        for _ in range(3):
            with pytest.raises(Misuse, match=r"runs in another thread.*Loop\.in_thread"):
                pool.submit(Ask("lost"))
        assert pool.statistics().submitted == 0
    finally:
        loop.stop()
        thread.join()
    assert done.is_set()
    reply = pool.submit(Ask("after"))  # nobody runs it: this thread may
    assert not reply.settled
    loop.close()
    assert reply.settled


def test_a_loop_may_be_prepared_in_one_thread_and_run_in_another() -> None:
    loop = Loop()
    pool: Any = loop.spawn(pools.pool(LineWire, ["127.0.0.1:1"], timeout=0.2))
    reply = pool.submit(Ask("early"))
    thread = threading.Thread(target=lambda: until(loop, reply))
    thread.start()
    thread.join()
    assert reply.settled
    loop.close()


def until(loop: Loop, reply: Any) -> None:
    async def wait() -> None:
        with suppress(PoolError):
            await reply

    loop.run_until(loop.spawn(wait()))
