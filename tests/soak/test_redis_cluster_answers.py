"""Never another's answer in a cluster: units with random cancellations and deadlines, through proxies that
delay and cut, while slots move from node to node."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import structlog

from actors import Listener, Loop, TcpAddress
from actors.testing import run_until
from pools import Cancelled, PoolError, RetryBudget
from pools.testing import Account
from protocols import redis
from protocols.redis.slots import key_slot
from tests.redis_server import RedisCluster, until
from tests.soak.cutting import Side

AT_ONCE = 200
TAGS = [f"{{t{n}}}" for n in range(60)]
KEYS = 8  # of each tag


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
    tag, text = rng.choice(TAGS), f"{n}".encode()
    one, two = (f"{tag}{number}" for number in rng.sample(range(KEYS), 2))
    many = [f"{some}{rng.randrange(KEYS)}" for some in rng.sample(TAGS, 5)]
    kinds: list[tuple[Any, Any]] = [
        (redis.get(one), value(one)),
        (redis.echo(text), text),
        (redis.mget(one, two), [value(one), value(two)]),
        (redis.command("SETRANGE", one, 0, value(one)), len(value(one))),
        (
            redis.pipeline(*[redis.get(key) for key in many], redis.echo(text)),
            [*[value(key) for key in many], text],
        ),
        (redis.atomic(redis.echo(text), redis.get(one), redis.get(two)), [text, value(one), value(two)]),
        (ECHO([one], [text]), [one.encode(), text]),
        (looked_at(one), [value(one), one.encode(), value(one)]),
    ]
    return rng.choices(kinds, [30, 10, 10, 10, 10, 5, 5, 2])[0]


def value(key: str) -> bytes:
    return f"value of {key}".encode()


def movers(nodes: RedisCluster, rng: random.Random, moves: Counter[str]) -> Iterator[None]:
    """Slots that move for ever, a few keys at a time."""
    while True:
        slot = key_slot(rng.choice(TAGS)[1:-1].encode())
        source, target = nodes.owner(slot), rng.choice(nodes.masters)
        if source is target:
            continue
        nodes.begin_move(slot, source, target)
        yield
        while nodes.move_keys(slot, source, target, 3):
            yield
        nodes.end_move(slot, target)
        moves["slots"] += 1
        yield


def behind_proxies(loop: Loop, nodes: RedisCluster, rng: random.Random, cuts: Counter[str]) -> str:
    """Have each node announce a proxy instead of itself; the first one's URL."""
    listeners = []
    for node in nodes.nodes:
        server = TcpAddress("127.0.0.1", node.port)
        listener = loop.spawn(Listener("127.0.0.1:0", lambda server=server: Side(rng, cuts, server)))
        node("CONFIG", "SET", "cluster-announce-port", listener.address.port)
        listeners.append(listener)
    ports = {listener.address.port for listener in listeners}
    until(lambda: all({entry[2][1] for entry in node("CLUSTER", "SLOTS")} == ports for node in nodes.nodes))
    return f"redis://{listeners[0].address}"


def test_every_answer_belongs_to_its_unit_while_slots_move(
    tmp_path: Path, require_program: Callable[[str, str], str], rng: random.Random, full_size: bool
) -> None:
    count = 50_000 if full_size else 4_000
    program = require_program("redis-server", "apt-get install redis-server")
    cuts: Counter[str] = Counter()
    told: Counter[str] = Counter()
    moves: Counter[str] = Counter()
    with (
        RedisCluster(program, tmp_path / "nodes") as nodes,
        Loop() as loop,
        structlog.testing.capture_logs() as logs,
    ):
        setup = loop.spawn(redis.cluster(nodes.urls))
        keys = [f"{tag}{number}" for tag in TAGS for number in range(KEYS)]
        loop.run_until(setup.submit(redis.pipeline(*[redis.set(key, value(key)) for key in keys])))
        url = behind_proxies(loop, nodes, rng, cuts)
        cluster = loop.spawn(redis.cluster(url, pipeline=256, budget=RetryBudget(1.0, 1000.0)))
        moving = movers(nodes, rng, moves)
        asks = Account(cluster)
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
                next(moving)
            if len(living) >= AT_ONCE:
                run_until(loop, lambda: len(living) < AT_ONCE // 2, seconds=30.0)

        def done() -> bool:
            next(moving)  # a slot in the middle of its move answers TRYAGAIN until it has moved
            return not living

        run_until(loop, done, seconds=30.0)
        run_until(loop, lambda: not cluster.statistics().orphans, seconds=30.0)
        now = cluster.statistics()
        asks.promises.check()  # scripts that a node does not know are units more
        assert [entry for entry in logs if entry["event"] == "machine crashed"] == []
        assert not cluster.parked
        moved, refreshed = cluster.moved, cluster.refreshed
    print(f"{dict(told)}, {dict(cuts)}, {moves['slots']} slots moved, {moved} redirects, {refreshed} maps, "  # noqa: T201
          f"{now.retried} retried, {now.taken_back} taken back, {now.lost} lost")  # fmt: skip
    assert told["answered"] > count // 4
    assert cuts["cut"] > 3
    assert moves["slots"] > 5
    assert moved > 5
    assert told["Cancelled"] > count // 100
