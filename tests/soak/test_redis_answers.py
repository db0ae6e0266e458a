"""Never another's answer: units with random cancellations and deadlines through a proxy that delays and cuts,
each answer held against what its unit asked."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import structlog

from actors import (
    ANYTHING,
    NEVER,
    UNCHANGED,
    Address,
    Connector,
    Continue,
    Listener,
    Loop,
    Outcome,
    Stop,
    StreamProtocol,
    Timeout,
    Transport,
    parse_address,
)
from actors.testing import run_until
from pools import PoolError, RetryBudget
from protocols import redis
from tests.redis_server import RedisServer

AT_ONCE = 200
CUT = 0.01  # of the pieces that pass
DELAY = 0.05  # of them, too


class Side(StreamProtocol):
    """One of the two connections of a passage: what it reads it passes on, late, in pieces, or not at all."""

    def __init__(self, rng: random.Random, cuts: Counter[str], server: Address | None) -> None:
        self.rng = rng
        self.cuts = cuts
        self.server = server
        self.other: Side | None = None
        self.transport: Transport | None = None
        self.held = b""
        self.gone = False
        self.until = NEVER

    def connected(self, transport: Transport) -> Outcome:
        self.transport = transport
        if self.server is not None:
            self.other = Side(self.rng, self.cuts, None)
            self.other.other = self
            transport.scope.spawn(Connector(self.server, self.other))
        elif self.other is not None:
            self.other.pass_on()
        return Continue(self, ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        self.held += transport.take(self.rng.choice([7, 100, 1 << 16]))
        fate = self.rng.random()
        if fate < CUT:
            self.cuts["cut"] += 1
            self.pass_on(self.rng.randrange(len(self.held) + 1))
            return Stop() if self.rng.random() < 0.5 else Stop(ConnectionResetError("cut"))
        if fate < CUT + DELAY or self.until != NEVER:
            self.cuts["delayed"] += 1
            if self.until == NEVER:
                self.until = transport.scope.now + self.rng.uniform(0.0005, 0.01)
            return Timeout(self, self.until, ANYTHING)
        self.pass_on()
        return Continue(self, ANYTHING)

    def pass_on(self, count: int = 1 << 30) -> None:
        if self.other is not None and self.other.transport is not None and self.held:
            self.other.transport.write(bytes(self.held[:count]))
            self.held = self.held[count:]

    def timeout(self, transport: Transport) -> Outcome:
        self.until = NEVER
        self.pass_on()
        return Continue(self, ANYTHING)

    def wakeup(self, transport: Transport) -> Outcome:
        return Stop() if self.gone else UNCHANGED

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        other, self.other = self.other, None
        if other is not None:
            other.gone, other.other = True, None
            if other.transport is not None:
                other.transport.scope.wake()


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
    wrong: list[str] = []
    with Loop() as loop, structlog.testing.capture_logs():
        setup = loop.spawn(redis.pool(redis_server.url))
        loop.run_until(setup.submit(redis.mset({f"key:{n}": f"value of key:{n}" for n in range(500)})))
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
        living: set[int] = set()
        doomed: list[Any] = []

        async def ask(n: int) -> None:
            unit, expected = question(rng, n)
            reply = pool.submit(unit, timeout=rng.choice([0.003, 5.0, 5.0, 5.0]))
            if rng.random() < 0.1:
                doomed.append(reply)
            try:
                got = await reply
            except (PoolError, redis.RedisError) as error:
                told[type(error).__name__] += 1
            else:
                told["answered"] += 1
                if got != expected:
                    wrong.append(f"{unit!r}: {got!r}, not {expected!r}")
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
        assert loop.statistics().crashed == 0
    print(f"{dict(told)}, {dict(cuts)}, {now.retried} retried, {now.taken_back} taken back, {now.lost} lost")  # noqa: T201
    assert not wrong, wrong[:5]
    assert told["answered"] > count // 4
    assert cuts["cut"] > 3
    assert told["Cancelled"] > count // 100
    assert now.submitted == now.succeeded + sum(now.failed.values())
