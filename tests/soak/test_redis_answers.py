"""Never another's answer: units with random cancellations and deadlines through a proxy that delays and cuts,
each answer held against what its unit asked."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import structlog

from actors import Listener, Loop, parse_address
from actors.testing import run_until
from pools import Cancelled, PoolError, RetryBudget
from pools.testing import Account
from protocols import redis
from tests.redis_server import RedisServer
from tests.soak.cutting import Side

AT_ONCE = 200


@redis.transaction
async def looked_at(tx: redis.Transaction, key: str) -> list[Any]:
    """A transaction whose results tell which one it was."""
    await tx.watch(key)
    seen = await tx.submit(redis.get(key))
    tx.queue(redis.echo(key))
    tx.queue(redis.get(key))
    return [seen, *await tx.execute()]


ECHO = redis.script("return {KEYS[1], ARGV[1]}")


def question(rng: random.Random, n: int) -> tuple[Any, Any]:
    """A unit, and the only right answer to it."""
    key = f"key:{rng.randrange(500)}"
    value, text = f"value of {key}".encode(), f"{n}".encode()
    kinds: list[tuple[Any, Any]] = [
        (redis.get(key), value),
        (redis.echo(text), text),
        (redis.command("ECHO", text, idempotent=False), text),
        (redis.pipeline(redis.get(key), redis.echo(text), redis.echo(key)), [value, text, key.encode()]),
        (redis.atomic(redis.echo(text), redis.get(key)), [text, value]),
        (ECHO([key], [text]), [key.encode(), text]),
        (redis.command("SETRANGE", key, 0, value), len(value)),
        (looked_at(key), [value, key.encode(), value]),
    ]
    return rng.choices(kinds, [30, 30, 10, 10, 5, 5, 5, 1])[0]


@pytest.mark.parametrize(("connections", "pipeline"), [(2, 256), (8, 1)])
def test_every_answer_belongs_to_its_unit(
    redis_server: RedisServer, rng: random.Random, full_size: bool, connections: int, pipeline: int
) -> None:
    count = 50_000 if full_size else 5_000
    cuts: Counter[str] = Counter()
    told: Counter[str] = Counter()
    with Loop() as loop, structlog.testing.capture_logs():
        setup = loop.spawn(redis.pool(redis_server.url))
        loop.run_until(setup.submit(redis.mset({f"key:{n}": f"value of key:{n}" for n in range(500)})))
        loop.run_until(setup.submit(ECHO(["a"], ["b"])))  # a script that is not known is a unit more
        server = parse_address(f"127.0.0.1:{redis_server.port}")
        listener = loop.spawn(Listener("127.0.0.1:0", lambda: Side(rng, cuts, server)))
        pool = loop.spawn(
            redis.pool(
                f"redis://{listener.address}",
                connections=connections,
                pipeline=pipeline,
                timeout=5.0,
                budget=RetryBudget(1.0, 1000.0),
            )
        )
        asks = Account(pool, *(pool.lane(name) for name in ("transactions", "atomic", "blocking")))
        living: set[int] = set()
        doomed: list[Any] = []

        async def ask(n: int) -> None:
            unit, expected = question(rng, n)
            patience = rng.choice([0.003, 5.0, 5.0, 5.0])
            reply = asks.submit(unit, timeout=patience, value=expected, may_fail=redis.RedisError)
            if rng.random() < 0.1:
                doomed.append(reply)
            try:
                await reply
            except (Cancelled, PoolError, redis.RedisError) as error:
                told[type(error).__name__] += 1
            else:
                told["answered"] += 1
            living.remove(n)

        for n in range(count):
            living.add(n)
            loop.spawn(ask(n))
            if rng.random() < 0.1:
                loop.tick(0)
                for reply in doomed:
                    reply.cancel()
                doomed.clear()
            if len(living) >= AT_ONCE:
                run_until(loop, lambda: len(living) < AT_ONCE // 2, seconds=30.0)
        run_until(loop, lambda: not living, seconds=30.0)
        run_until(loop, lambda: not pool.statistics().orphans, seconds=30.0)
        now = pool.statistics()
        asks.check()
        assert loop.statistics().crashed == 0
    print(f"{dict(told)}, {dict(cuts)}, {now.retried} retried, {now.taken_back} taken back, {now.lost} lost")  # noqa: T201
    assert told["answered"] > count // 4
    assert cuts["cut"] > 3
    assert told["Cancelled"] > count // 100
