"""asyncio tasks that are cancelled at any moment: answers are their caller's, no connection is lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
import uvloop

from actors import Loop
from pools.testing import Account
from protocols import http
from tests.soak.backend import expected

AT_A_TIME = 256
CONNECTIONS = 8
LARGEST = 64 << 10  # bytes of a body: what is left of one much larger than that is not read but cut off


class Storm:
    """Tasks that ask, some of which are cancelled: not begun, queued, sent, or with half an answer."""

    def __init__(self, asks: Account, rng: random.Random) -> None:
        self.asks = asks
        self.rng = rng
        self.outcomes: Counter[str] = Counter()
        self.patience = 0.001  # seconds; follows the answers, so that about half of them come in time

    async def ask(self, number: int) -> None:
        """One request that nobody else makes."""
        if number % 10:
            method, target, body = "PUT" if number % 2 else "POST", f"/{number}", b"%d" % number
        else:
            method, target, body = "GET", f"/large/{number * 37 % LARGEST}/{number}", b""
        wanted = expected(method, target, body)
        unit = http.request(method, target, body=body)
        await self.asks.submit(unit, target, lambda got: got.body == wanted, timeout=30.0, kind=http.Response)

    async def one(self, number: int, room: asyncio.Semaphore) -> None:
        """A task of it, cancelled at a random moment around the time that an answer takes."""
        async with room:
            task = asyncio.ensure_future(self.ask(number))
            moment = self.rng.random() * 2.0 * self.patience
            handle = asyncio.get_running_loop().call_later(moment, task.cancel)
            try:
                await task
                self.outcomes["answered"] += 1
                self.patience *= 0.99
            except asyncio.CancelledError:
                self.outcomes["cancelled"] += 1
                self.patience *= 1.01
            finally:
                handle.cancel()


async def storm(url: str, count: int, pipeline: int, rng: random.Random) -> None:
    async with Loop.in_asyncio() as loop:
        pool = loop.spawn(http.pool(url, connections=CONNECTIONS, pipeline=pipeline))
        asks = Account(pool)
        told = Storm(asks, rng)
        await asyncio.gather(*(told.ask(number) for number in range(CONNECTIONS * pipeline)))
        before = pool.statistics()
        room = asyncio.Semaphore(AT_A_TIME)
        await asyncio.gather(*(told.one(number, room) for number in range(count)))
        for number in range(200):
            await told.ask(count + number)
        now = pool.statistics()
        print(dict(told.outcomes), now)  # noqa: T201
        asks.check()
        assert told.outcomes["answered"] + told.outcomes["cancelled"] == count
        assert min(told.outcomes.values()) > count / 20, "the moments are not spread over the answers"
        assert (now.lost, now.closed, now.connects_failed) == (0, 0, 0)
        assert CONNECTIONS >= now.opened >= before.opened
        assert now.connections == now.opened
        assert now.submitted == now.succeeded + sum(now.failed.values()) + now.queued + now.in_flight
        assert set(now.failed) <= {"Cancelled"}
        assert loop.statistics().crashed == 0


@pytest.mark.parametrize("pipeline", [1, 16])
@pytest.mark.parametrize("host", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_cancelled_at_a_random_moment(
    host: Any, pipeline: int, backend: Any, rng: random.Random, full_size: bool
) -> None:
    with asyncio.Runner(loop_factory=host) as runner:
        runner.run(storm(backend.url, 20_000 if full_size else 2_000, pipeline, rng))
