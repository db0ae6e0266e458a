"""Against a real cluster: slots that move under load, a master that dies and one that steps down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from actors import Loop, Misuse, gather, settle_all
from actors.testing import run_until
from pools import ConnectionLost, PoolError
from protocols import redis
from protocols.redis.slots import key_slot
from tests.redis_server import ClusterNode, RedisCluster, until

TAGS = [f"{{t{n}}}" for n in range(40)]


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


class Here:
    """`ask(unit)`: its result."""

    def __init__(self, loop: Loop, cluster: redis.Cluster) -> None:
        self.loop = loop
        self.cluster = cluster

    def __call__(self, unit: Any, **options: Any) -> Any:
        return self.loop.run_until(self.cluster.submit(unit, **options))


@pytest.fixture
def ask(loop: Loop, redis_cluster: RedisCluster) -> Here:
    for node in redis_cluster.masters:
        node("FLUSHALL")
    return Here(loop, loop.spawn(redis.cluster(redis_cluster.urls[0])))


@redis.transaction
async def appended(tx: redis.Transaction, key: str, text: str) -> bytes:
    await tx.watch(key)
    before = await tx.submit(redis.get(key)) or b""
    tx.queue(redis.set(key, before + text.encode()))
    return before


LIBRARY = "#!lua name=answers\nredis.register_function('answer', function() return 42 end)"
FIRST = redis.script("return redis.call('GET', KEYS[1])")


def somewhere_else(cluster: RedisCluster, slot: int) -> tuple[ClusterNode, ClusterNode]:
    """Who serves it, and somebody who does not."""
    source = cluster.owner(slot)
    return source, next(node for node in cluster.masters if node is not source)


def test_all_kinds_of_units(ask: Here, redis_cluster: RedisCluster) -> None:
    assert all(ask(redis.set(f"key:{n}", n)) for n in range(60))
    assert sum(node("DBSIZE") for node in redis_cluster.masters) == 60
    assert all(node("DBSIZE") > 0 for node in redis_cluster.masters)
    units = [redis.get(f"key:{n}") for n in range(60)]
    assert ask(redis.pipeline(*units)) == [b"%d" % n for n in range(60)]
    assert ask(redis.mget("{u}1", "{u}2")) == [None, None]
    assert ask(redis.atomic(redis.set("{u}1", 1), redis.incrby("{u}1"))) == [True, 2]
    assert ask(FIRST(["{u}1"])) == b"2"
    assert ask(appended("{u}1", "x")) == b"2"
    assert ask(redis.get("{u}1")) == b"2x"
    assert ask(redis.blpop("none", seconds=0.01)) is None
    waiting = ask.cluster.submit(redis.blpop("list"))
    ask(redis.rpush("list", "element"))
    assert ask.loop.run_until(waiting) == (b"list", b"element")
    assert ask(redis.ping()) == b"PONG"
    sizes = [ask.loop.run_until(pool.submit(redis.dbsize())) for pool in ask.cluster.masters()]
    assert sum(sizes) == 61


def test_keys_of_several_slots(ask: Here) -> None:
    @redis.transaction
    async def both(tx: redis.Transaction, one: str, other: str) -> None:
        await tx.watch(one)
        tx.queue(redis.set(other, 1))

    @redis.transaction
    async def watched(tx: redis.Transaction, one: str, other: str) -> None:
        await tx.watch(one, other)

    one, other = "a", "b"
    for unit in (redis.mget(one, other), redis.atomic(redis.get(one), redis.get(other)), both(one, other)):
        with pytest.raises(redis.CrossSlot):
            ask(unit)
    with pytest.raises(redis.CrossSlot):
        ask(watched(one, other))
    with pytest.raises(redis.CrossSlot):
        ask(FIRST([one, other]))
    assert ask(redis.exists(other)) == 0


def test_a_transaction_whose_first_argument_is_no_key(ask: Here) -> None:
    @redis.transaction
    async def named(tx: redis.Transaction, purpose: str, number: int) -> Any:
        key = f"account:{number}"
        await tx.watch(key)
        tx.queue(redis.incrby(key))
        return purpose

    for number in range(6):
        assert ask(named("test", number)) == "test"
        assert ask(redis.get(f"account:{number}")) == b"1"
    assert ask.cluster.moved > 0


def test_a_slot_that_is_moved_away(ask: Here, redis_cluster: RedisCluster) -> None:
    key = "moving"
    slot = key_slot(key.encode())
    ask(redis.set(key, "x"))
    source, target = somewhere_else(redis_cluster, slot)
    redis_cluster.move(slot, target)
    for unit in (redis.get(key), FIRST([key]), redis.getrange(key, 0, -1)):
        assert ask(unit) == b"x"
    assert ask.cluster.moved == 1
    source, target = target, source
    redis_cluster.move(slot, target)
    assert ask(redis.pipeline(redis.append(key, "y"), redis.get(key))) == [2, b"xy"]
    redis_cluster.move(slot, source)
    assert ask(appended(key, "z")) == b"xy"
    redis_cluster.move(slot, target)
    assert ask(redis.atomic(redis.append(key, "!"), redis.get(key))) == [4, b"xyz!"]


def test_a_slot_in_the_middle_of_its_move(ask: Here, redis_cluster: RedisCluster) -> None:
    tag = "{half}"
    slot = key_slot(b"half")
    ask(redis.set(f"{tag}there", "x"))
    source, target = somewhere_else(redis_cluster, slot)
    redis_cluster.begin_move(slot, source, target)
    redis_cluster.move_keys(slot, source, target)
    assert ask(redis.get(f"{tag}there")) == b"x"
    assert ask(redis.set(f"{tag}new", "y"))
    assert ask(redis.mget(f"{tag}there", f"{tag}new")) == [b"x", b"y"]
    assert ask(appended(f"{tag}there", "1")) == b"x"
    assert ask(redis.atomic(redis.append(f"{tag}there", "2"), redis.get(f"{tag}new"))) == [3, b"y"]
    assert ask(FIRST([f"{tag}there"])) == b"x12"
    assert ask(redis.pipeline(redis.append(f"{tag}new", "z"), redis.get(f"{tag}new"))) == [2, b"yz"]
    assert ask(redis.blpop(f"{tag}none", seconds=0.01)) is None
    redis_cluster.end_move(slot, target)
    assert ask(redis.get(f"{tag}new")) == b"yz"


def test_keys_on_both_sides_are_waited_for(ask: Here, redis_cluster: RedisCluster) -> None:
    tag = "{both}"
    slot = key_slot(b"both")
    source, target = somewhere_else(redis_cluster, slot)
    ask(redis.mset({f"{tag}{n}": n for n in range(4)}))
    redis_cluster.begin_move(slot, source, target)
    redis_cluster.move_keys(slot, source, target, 2)
    reply = ask.cluster.submit(redis.mget(*[f"{tag}{n}" for n in range(4)]))
    run_until(ask.loop, lambda: ask.cluster.parked)
    redis_cluster.move_keys(slot, source, target)
    assert ask.loop.run_until(reply) == [b"0", b"1", b"2", b"3"]
    redis_cluster.end_move(slot, target)


def test_a_transaction_that_has_written_is_not_run_anew(ask: Here, redis_cluster: RedisCluster) -> None:
    key = "written"
    slot = key_slot(key.encode())

    @redis.transaction
    async def twice(tx: redis.Transaction, key: str) -> None:
        await tx.submit(redis.append(key, "x"))
        redis_cluster.move(slot, somewhere_else(redis_cluster, slot)[1])
        await tx.submit(redis.append(key, "y"))

    with pytest.raises(redis.RedisError, match="had written by then remains"):
        ask(twice(key))
    assert ask(redis.get(key)) == b"x"


def test_a_blocked_reader_follows_its_slot(ask: Here, redis_cluster: RedisCluster) -> None:
    key = "blocked"
    slot = key_slot(key.encode())
    waiting = ask.cluster.submit(redis.blpop(key))
    source, target = somewhere_else(redis_cluster, slot)
    run_until(ask.loop, lambda: "blocked_clients:1" in source("INFO", "clients"))
    redis_cluster.move(slot, target)
    run_until(ask.loop, lambda: "blocked_clients:1" in target("INFO", "clients"))
    ask(redis.rpush(key, "x"))
    assert ask.loop.run_until(waiting) == (b"blocked", b"x")


def test_slots_move_while_thousands_of_units_run(ask: Here, redis_cluster: RedisCluster) -> None:
    """Every answer belongs to its unit, every increment has happened once."""
    wrong: list[str] = []
    living: set[int] = set()

    async def work(n: int) -> None:
        tag = TAGS[n % len(TAGS)]
        text = b"%d" % n
        one = await ask.cluster.submit(redis.set(f"{tag}{n}", text))
        two = await ask.cluster.submit(redis.pipeline(redis.get(f"{tag}{n}"), redis.incrby(f"{tag}count")))
        three = await ask.cluster.submit(redis.atomic(redis.get(f"{tag}{n}"), redis.incrby(f"{tag}count")))
        four = await ask.cluster.submit(appended(f"{tag}{n}", "!"))
        if not (one is True and two[0] == three[0] == four == text):
            wrong.append(f"{n}: {one} {two} {three} {four}")
        living.remove(n)

    movers = [mover(redis_cluster, key_slot(tag[1:-1].encode())) for tag in TAGS[:6]]
    for n in range(800):
        living.add(n)
        ask.loop.spawn(work(n))
        ask.loop.tick(0)
        next(movers[n % len(movers)], None)
    run_until(ask.loop, lambda: not living, seconds=30.0)
    for rest in movers:
        for _ in rest:
            pass
    assert wrong == []
    counts = ask(redis.pipeline(*[redis.get(f"{tag}count") for tag in TAGS]))
    assert counts == [b"40"] * len(TAGS)
    now = ask.cluster.statistics()
    assert now.submitted == now.succeeded == 4 * 800 + 1
    assert ask.cluster.moved > 6


def mover(cluster: RedisCluster, slot: int) -> Iterator[None]:
    """A slot's move, a step at a time."""
    source, target = somewhere_else(cluster, slot)
    cluster.begin_move(slot, source, target)
    for _ in range(12):
        yield
        cluster.move_keys(slot, source, target, 3)
    while cluster.move_keys(slot, source, target):
        yield
    cluster.end_move(slot, target)


def test_a_master_dies_and_its_replica_takes_over(
    loop: Loop, tmp_path: Path, require_program: Callable[[str, str], str]
) -> None:
    program = require_program("redis-server", "apt-get install redis-server")
    with RedisCluster(program, tmp_path / "nodes", masters=3, replicas=1, timeout_ms=300) as nodes:
        ask = Here(loop, loop.spawn(redis.cluster(nodes.urls)))
        ask(redis.pipeline(*[redis.set(f"key:{n}", n) for n in range(100)]))
        assert nodes.masters[0]("WAIT", 1, 5000) == 1
        with structlog.testing.capture_logs():
            nodes.masters[0].stop()
            replies = [ask.cluster.submit(redis.get(f"key:{n}"), timeout=20.0) for n in range(100)]
            written = [ask.cluster.submit(redis.incrby(f"count:{n}"), timeout=20.0) for n in range(100)]
            got = loop.run_until(gather(*replies))
            done = loop.run_until(settle_all(*written))
        assert list(got) == [b"%d" % n for n in range(100)]
        assert {type(one) for one in done} <= {int, ConnectionLost}
        assert done.count(1) > 50
        owner = ask.cluster.node_of("key:0")
        ports = {pool.backends[0].address.port for pool in ask.cluster.masters()}  # type: ignore[union-attr]
        assert owner is not None
        assert ports == {nodes.replicas[0].port, *nodes.ports[1:3]}


def test_a_failover_that_is_asked_for(
    loop: Loop, tmp_path: Path, require_program: Callable[[str, str], str]
) -> None:
    program = require_program("redis-server", "apt-get install redis-server")
    with RedisCluster(program, tmp_path / "nodes", masters=3, replicas=1) as nodes:
        ask = Here(loop, loop.spawn(redis.cluster(nodes.urls[1])))
        told: list[Any] = []

        async def count(n: int) -> None:
            try:
                told.append(await ask.cluster.submit(redis.incrby(f"count:{n % 50}")))
            except PoolError as error:
                told.append(error)

        queue = next(tag for tag in TAGS if nodes.owner(key_slot(tag[1:-1].encode())) is nodes.masters[0])
        waiting = ask.cluster.submit(redis.blpop(queue), timeout=60.0)
        run_until(loop, lambda: "blocked_clients:1" in nodes.masters[0]("INFO", "clients"))
        assert nodes.replicas[0]("CLUSTER", "FAILOVER") == "OK"
        begun = 0

        def over() -> bool:
            nonlocal begun
            for _ in range(20):
                loop.spawn(count(begun))
                begun += 1
            return "role:master" in nodes.replicas[0]("INFO", "replication") and begun >= 2000

        run_until(loop, over, seconds=20.0)
        run_until(loop, lambda: len(told) == begun, seconds=20.0)
        assert [one for one in told if not isinstance(one, int)] == []
        counts = ask(redis.pipeline(*[redis.get(f"count:{n}") for n in range(50)]))
        assert sum(map(int, counts)) == begun
        ask(redis.rpush(queue, "x"))
        assert loop.run_until(waiting) == (queue.encode(), b"x")


def test_a_command_for_every_node_after_a_failover(
    loop: Loop, tmp_path: Path, require_program: Callable[[str, str], str]
) -> None:
    program = require_program("redis-server", "apt-get install redis-server")
    load = redis.command("FUNCTION", "LOAD", "REPLACE", LIBRARY)
    with RedisCluster(program, tmp_path / "nodes", masters=3, replicas=1) as nodes:
        ask = Here(loop, loop.spawn(redis.cluster(nodes.urls[1])))
        assert ask(load) == b"answers"
        assert nodes.replicas[0]("CLUSTER", "FAILOVER") == "OK"
        until(lambda: "role:slave" in nodes.masters[0]("INFO", "replication"))
        done: list[Any] = []

        def loaded() -> bool:
            (answer,) = loop.run_until(settle_all(ask.cluster.submit(load)))
            done.append(answer)
            return answer == b"answers"

        run_until(loop, loaded, seconds=10.0)
        assert {type(answer) for answer in done[:-1]} <= {redis.RedisError, ConnectionLost}


def test_inside_asyncio(ask: Here, redis_cluster: RedisCluster) -> None:
    async def main() -> Any:
        async with Loop.in_asyncio() as loop:
            cluster = loop.spawn(redis.cluster(redis_cluster.urls))
            await asyncio.gather(*[one(cluster, n) for n in range(30)])
            return await cluster.submit(redis.pipeline(*[redis.get(f"key:{n}") for n in range(30)]))

    async def one(cluster: redis.Cluster, n: int) -> Any:
        return await cluster.submit(redis.set(f"key:{n}", n))

    assert asyncio.run(main()) == [b"%d" % n for n in range(30)]


def test_from_threads(ask: Here, redis_cluster: RedisCluster) -> None:
    with Loop.in_thread() as loop:
        cluster: Any = loop.spawn(redis.cluster(redis_cluster.urls))
        assert cluster.submit(redis.set("key", "value")).result(timeout=5)
        assert cluster.submit(redis.pipeline(redis.get("key"), redis.ping())).result(timeout=5)[0] == b"value"
        with pytest.raises(Misuse):
            cluster.submit(redis.dbsize()).result(timeout=5)
        assert cluster.statistics().submitted == 3


def test_messages_cross_the_cluster(ask: Here, redis_cluster: RedisCluster) -> None:
    news = ask.loop.spawn(redis.subscribe(redis_cluster.urls[2], "news"))
    ask.loop.run_until(news.subscribed)
    ask(redis.publish("news", "hello"))

    async def first() -> redis.Message:
        return await news.receive()

    assert ask.loop.run_until(ask.loop.spawn(first())).data == b"hello"
    news.cancel()
