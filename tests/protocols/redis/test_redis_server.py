"""Against a real redis-server, with redis-py as the independent reader and writer."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
import structlog

from actors import Channel, Loop, Misuse, Reply, deadline, gather, sleep
from actors.testing import run_until
from pools import BackendDown, Cancelled, DeadlineExceeded, HeldAcrossBackends, PoolClosed
from protocols import http, redis
from tests.redis_server import RedisServer


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


@pytest.fixture
def other(redis_server: RedisServer) -> Iterator[redis_py.Redis]:
    """redis-py on the same server, emptied."""
    client = redis_py.Redis(port=redis_server.port)
    client.flushall()
    client.script_flush()
    yield client
    client.close()


class Here:
    """`ask(unit)`: its result."""

    def __init__(self, loop: Loop, pool: redis.RedisPool) -> None:
        self.loop = loop
        self.pool = pool

    def __call__(self, unit: Any, **options: Any) -> Any:
        return self.loop.run_until(self.pool.submit(unit, **options))


@pytest.fixture
def ask(loop: Loop, redis_server: RedisServer, other: redis_py.Redis) -> Here:
    return Here(loop, loop.spawn(redis.pool(redis_server.url)))


def test_strings_and_keys(ask: Here, other: Any) -> None:
    assert ask(redis.get("a")) is None
    assert ask(redis.set("a", "é")) is True
    assert other.get("a") == "é".encode() == ask(redis.get("a"))
    assert ask(redis.set("a", 1, nx=True)) is False
    assert ask(redis.set("b", 1, nx=True, ex=100)) is True
    assert 99_000 < ask(redis.pttl("b")) <= 100_000
    assert ask(redis.set("b", 2, xx=True, keep_ttl=True)) is True
    assert ask(redis.set("b", 2, ex=50.5)) is True
    assert other.ttl("b") in (50, 51)
    assert ask(redis.set_get("b", 3)) == b"2"
    assert ask(redis.incrby("b")) == 4
    assert ask(redis.decrby("b", 3)) == 1
    assert ask(redis.incrbyfloat("b", 0.5)) == 1.5
    assert ask(redis.mset({"x": 1, "y": b"2"})) is None
    assert ask(redis.mget("x", "y", "z")) == [b"1", b"2", None]
    assert ask(redis.append("x", "23")) == 3 == ask(redis.strlen("x"))
    assert ask(redis.setrange("x", 1, "9")) == 3
    assert ask(redis.getrange("x", 0, 1)) == b"19"
    assert ask(redis.getdel("x")) == b"193"
    assert ask(redis.getex("y", 10)) == b"2"
    assert ask(redis.persist("y")) is True
    assert ask(redis.expire("y", 0.5)) is True
    assert ask(redis.expire("none", 1)) is False
    assert ask(redis.exists("a", "b", "none")) == 2 == ask(redis.touch("a", "b"))
    assert ask(redis.key_type("a")) == b"string"
    assert ask(redis.rename("a", "c")) is None
    assert ask(redis.scan(match="c")) == (0, [b"c"])
    assert ask(redis.delete("c", "none")) == 1
    assert ask(redis.unlink("b")) == 1
    assert ask(redis.dbsize()) == other.dbsize()
    assert ask(redis.flushdb()) is None
    assert other.dbsize() == 0


def test_hashes_lists_and_sets(ask: Here, other: Any) -> None:
    assert ask(redis.hset("h", {"a": 1, "b": 2})) == 2
    assert ask(redis.hgetall("h")) == other.hgetall("h") == {b"a": b"1", b"b": b"2"}
    assert ask(redis.hget("h", "a")) == b"1"
    assert ask(redis.hsetnx("h", "a", 5)) is False
    assert ask(redis.hmget("h", "a", "z")) == [b"1", None]
    assert ask(redis.hincrby("h", "a", 4)) == 5
    assert ask(redis.hexists("h", "z")) is False
    assert ask(redis.hkeys("h")) == [b"a", b"b"]
    assert ask(redis.hvals("h")) == [b"5", b"2"]
    assert ask(redis.hdel("h", "a")) == 1 == ask(redis.hlen("h"))
    assert ask(redis.rpush("l", 1, 2, 3)) == 3 == ask(redis.llen("l"))
    assert ask(redis.lpush("l", 0)) == 4
    assert ask(redis.lrange("l")) == other.lrange("l", 0, -1)
    assert ask(redis.lindex("l", -1)) == b"3"
    assert ask(redis.lpop("l")) == b"0"
    assert ask(redis.rpop("l")) == b"3"
    assert ask(redis.lmove("l", "m")) == b"2"
    assert ask(redis.lrem("l", 1)) == 1
    assert ask(redis.ltrim("m", 0, 0)) is None
    assert ask(redis.sadd("s", "a", "b")) == 2 == ask(redis.scard("s"))
    assert ask(redis.sadd("t", "b", "c")) == 2
    assert ask(redis.smembers("s")) == other.smembers("s") == {b"a", b"b"}
    assert ask(redis.sismember("s", "a")) is True
    assert ask(redis.sinter("s", "t")) == {b"b"}
    assert ask(redis.sunion("s", "t")) == {b"a", b"b", b"c"}
    assert ask(redis.sdiff("s", "t")) == {b"a"}
    assert ask(redis.srem("s", "a")) == 1
    assert ask(redis.spop("s")) == b"b"


def test_sorted_sets_and_streams(ask: Here, other: Any) -> None:
    assert ask(redis.zadd("z", {"a": 1, "b": 2.5, "c": 3})) == 3 == ask(redis.zcard("z"))
    assert ask(redis.zrange_with_scores("z")) == other.zrange("z", 0, -1, withscores=True)
    assert ask(redis.zrange("z", reverse=True)) == [b"c", b"b", b"a"]
    assert ask(redis.zrange_with_scores("z", 0, 0, reverse=True)) == [(b"c", 3.0)]
    assert ask(redis.zrange_by_score("z", "(1", 3)) == [(b"b", 2.5), (b"c", 3.0)]
    assert ask(redis.zscore("z", "b")) == 2.5
    assert ask(redis.zscore("z", "none")) is None
    assert ask(redis.zrank("z", "c")) == 2
    assert ask(redis.zcount("z", 2)) == 2
    assert ask(redis.zincrby("z", "a", 9)) == 10.0
    assert ask(redis.zpopmax("z")) == [(b"a", 10.0)]
    assert ask(redis.zpopmin("z")) == [(b"b", 2.5)]
    assert ask(redis.zremrangebyscore("z", 0, 2)) == 0
    assert ask(redis.zrem("z", "c")) == 1
    assert ask(redis.zrange_with_scores("z")) == []
    first = ask(redis.xadd("x", {"f": "v"}))
    second = ask(redis.xadd("x", {"f": 2}, maxlen=1000))
    assert ask(redis.xrange("x")) == other.xrange("x") == [(first, {b"f": b"v"}), (second, {b"f": b"2"})]
    assert ask(redis.xread({"x": first}, count=1)) == {b"x": [(second, {b"f": b"2"})]}
    assert ask(redis.xread({"x": second}, seconds=0.01)) == {}
    assert ask(redis.xgroup_create("x", "g", id=0)) is None
    got = ask(redis.xreadgroup("g", "me", {"x": ">"}, count=1))
    assert got == {b"x": [(first, {b"f": b"v"})]}
    assert ask(redis.xack("x", "g", first)) == 1
    assert ask(redis.xdel("x", first)) == 1 == ask(redis.xlen("x"))
    assert ask(redis.xtrim("x", 0)) == 1


def test_the_server_itself(ask: Here) -> None:
    assert ask(redis.ping()) == b"PONG"
    assert ask(redis.echo("x")) == b"x"
    assert ask(redis.info("server"))["redis_mode"] == "standalone"
    assert ask(redis.publish("nobody", "x")) == 0
    assert ask(redis.command("CONFIG", "GET", "databases")) == {b"databases": b"16"}


def test_several_at_once(ask: Here) -> None:
    assert ask(redis.pipeline(redis.set("a", 1), redis.incrby("a"), redis.hgetall("h"))) == [True, 2, {}]
    assert ask(redis.atomic(redis.incrby("a"), redis.get("a"))) == [3, b"3"]
    with pytest.raises(redis.RedisError) as caught:
        ask(redis.pipeline(redis.lpush("a", 1), redis.incrby("a")))
    assert caught.value.code == "WRONGTYPE"
    error, value = ask(redis.pipeline(redis.lpush("a", 1), redis.incrby("a"), keep_errors=True))
    assert (error.code, value) == ("WRONGTYPE", 5)
    with pytest.raises(redis.RedisError, match="unknown command"):
        ask(redis.atomic(redis.command("NO.SUCH"), redis.incrby("a")))
    assert ask(redis.get("a")) == b"5"


def test_a_script_is_sent_once(ask: Here, other: Any) -> None:
    add = redis.script("return redis.call('INCRBY', KEYS[1], ARGV[1])", int)
    assert [ask(add(["a"], [5])), ask(add(["a"], [2]))] == [5, 7]
    other.script_flush()
    assert ask(add(["a"], [1])) == 8
    assert ask(redis.pipeline(add(["a"], [1]), redis.get("a"))) == [9, b"9"]
    with pytest.raises(redis.RedisError, match="WRONGTYPE"):
        ask(redis.script("return redis.call('LPUSH', KEYS[1], 1)", idempotent=True)(["a"]))
    cancelled = ask.pool.submit(add(["a"], [100]))
    cancelled.cancel()
    assert isinstance(cancelled.error, Cancelled)
    ask(redis.ping())
    assert other.get("a") == b"9"


def test_a_blocking_command_holds_up_nobody(ask: Here, other: Any) -> None:
    waiting = [ask.pool.submit(redis.blpop("q", seconds=30)) for _ in range(5)]
    moved = ask.pool.submit(redis.blmove("p", "o", seconds=0))
    assert ask(redis.incrby("a")) == 1
    assert not any(reply.settled for reply in waiting)
    ask(redis.rpush("q", *range(5)))
    assert ask.loop.run_until(gather(*waiting)) == tuple((b"q", b"%d" % n) for n in range(5))
    ask(redis.rpush("p", "x"))
    assert ask.loop.run_until(moved) == b"x"
    assert ask(redis.brpop("none", seconds=0.01)) is None
    assert "blocking" in repr(ask.pool.lane("blocking"))


def test_a_cancelled_wait_takes_nothing(ask: Here, other: Any) -> None:
    waiting = ask.pool.submit(redis.blpop("q"))
    run_until(ask.loop, lambda: other.info("clients")["blocked_clients"] == 1)
    waiting.cancel()
    run_until(ask.loop, lambda: other.info("clients")["blocked_clients"] == 0)
    ask(redis.rpush("q", 1))
    assert other.llen("q") == 1
    late = ask.pool.submit(redis.blpop("empty"), timeout=0.02)
    with pytest.raises(DeadlineExceeded):
        ask.loop.run_until(late)
    run_until(ask.loop, lambda: other.info("clients")["blocked_clients"] == 0)


# -- transactions -----


@redis.transaction
async def withdraw(tx: redis.Transaction, account: str, amount: int) -> int:
    """Take from an account what is there."""
    await tx.watch(account)
    balance = int(await tx.submit(redis.get(account)) or 0)
    if balance < amount:
        raise ValueError("not enough")
    tx.queue(redis.decrby(account, amount))
    return balance - amount


def test_a_transaction_looks_before_it_writes(ask: Here, other: Any) -> None:
    other.set("account", 100)
    assert ask(withdraw("account", 30)) == 70
    assert other.get("account") == b"70"
    with pytest.raises(ValueError, match="not enough"):
        ask(withdraw("account", amount=300))
    assert other.get("account") == b"70"
    assert repr(withdraw("account", 1)) == "<transaction withdraw>"
    assert withdraw.__doc__ == "Take from an account what is there."


def test_transactions_at_once_lose_nothing(ask: Here, other: Any) -> None:
    other.set("account", 1000)
    replies = [ask.pool.submit(withdraw("account", 1), timeout=20) for _ in range(60)]
    while not all(reply.settled for reply in replies):
        ask.loop.tick()
    done = sum(reply.error is None for reply in replies)
    assert done >= 20
    assert {type(reply.error) for reply in replies} <= {type(None), redis.Conflict}
    assert int(other.get("account")) == 1000 - done


def test_a_watched_key_that_always_changes(ask: Here, other: Any) -> None:
    runs = []

    @redis.transaction(attempts=3)
    async def late(tx: redis.Transaction) -> None:
        await tx.watch("a")
        runs.append(other.incr("a"))
        tx.queue(redis.set("a", "mine"))

    with pytest.raises(redis.Conflict, match="nothing was executed"):
        ask(late())
    assert runs == [1, 2, 3]
    assert other.get("a") == b"3"


def test_results_inside_a_transaction(ask: Here, other: Any) -> None:
    add = redis.script("return redis.call('INCRBY', KEYS[1], ARGV[1])", int)

    @redis.transaction
    async def several(tx: redis.Transaction) -> Any:
        nothing = await tx.execute()
        tx.queue(redis.incrby("a"))
        tx.queue(add(["a"], [10]))
        first = await tx.execute()
        assert repr(tx) == "<Transaction with 0 commands queued>"
        await tx.watch("a")
        seen = await tx.submit(add(["a"], [100]))
        return nothing, first, seen

    assert ask(several()) == ([], [1, 11], 111)
    connections = ask.pool.lane("transactions").statistics()
    assert (connections.opened, connections.lost) == (1, 0)


def test_what_has_executed_is_not_run_again(ask: Here, other: Any) -> None:
    runs = []

    @redis.transaction
    async def twice(tx: redis.Transaction) -> None:
        runs.append(1)
        tx.queue(redis.incrby("a"))
        await tx.execute()
        await tx.watch("b")
        other.incr("b")
        tx.queue(redis.incrby("b"))

    with pytest.raises(redis.Conflict):
        ask(twice())
    assert (len(runs), other.get("a")) == (1, b"1")

    @redis.transaction
    async def fails(tx: redis.Transaction) -> None:
        tx.queue(redis.lpush("a", 1))
        with pytest.raises(redis.RedisError, match="WRONGTYPE"):
            await tx.execute()
        assert tx.executed
        tx.queue(redis.incrby("a"))
        with pytest.raises(ValueError, match="read and watch first"):
            await tx.watch("a")

    ask(fails())
    assert other.get("a") == b"2"


@pytest.mark.parametrize("foreign", ["reply", "gather", "sleep", "channel", "asyncio"])
def test_a_transaction_waits_for_nothing_else(ask: Here, other: Any, foreign: str) -> None:
    async def host() -> None:
        pass

    waits: dict[str, Callable[[], Any]] = {
        "reply": lambda: ask.pool.submit(redis.get("a")),
        "gather": lambda: gather(ask.pool.submit(redis.get("a"))),
        "sleep": lambda: sleep(0.01),
        "channel": lambda: Channel[int]().receive(),
        "asyncio": lambda: asyncio.sleep(0),
    }

    @redis.transaction
    async def holds(tx: redis.Transaction) -> None:
        await tx.watch("a")
        tx.queue(redis.set("a", 1))
        await waits[foreign]()

    with pytest.raises(HeldAcrossBackends):
        ask(holds())
    assert other.get("a") is None
    other.set("a", 5)
    assert ask(withdraw("a", 1)) == 4  # on the same connection, which watches nothing any more
    connections = ask.pool.lane("transactions").statistics()
    assert (connections.opened, connections.lost) == (1, 0)


def test_a_transaction_past_its_deadline_or_cancelled(ask: Here, other: Any) -> None:
    other.set("account", 10)
    other.client_pause(60_000, all=False)
    try:
        late = ask.pool.submit(withdraw("account", 1), timeout=0.03)
        with pytest.raises(DeadlineExceeded):
            ask.loop.run_until(late)
        cancelled = ask.pool.submit(withdraw("account", 1))
        ask.loop.tick(0)
        cancelled.cancel()
        with pytest.raises(Cancelled):
            ask.loop.run_until(cancelled)
    finally:
        other.client_unpause()
    assert ask(withdraw("account", 1)) < 10


def test_a_unit_of_another_protocol(ask: Here) -> None:
    with pytest.raises(Misuse, match="takes RedisUnit"):
        ask(http.get("/"))
    assert ask(redis.get("missing")) is None


def test_a_transaction_has_attempts() -> None:
    with pytest.raises(ValueError, match="attempts=0"):
        redis.transaction(attempts=0)


# -- connections -----


def test_over_a_unix_socket(loop: Loop, redis_server: RedisServer, other: Any) -> None:
    ask = Here(loop, loop.spawn(redis.pool(f"unix://{redis_server.path}?db=3", name="by-path")))
    ask(redis.set("a", 1))
    assert redis_py.Redis(port=redis_server.port, db=3).get("a") == b"1"
    assert b"name=by-path" in ask(redis.command("CLIENT", "INFO"))


def test_over_tls_with_a_password(
    loop: Loop, tmp_path: Path, require_program: Callable[[str, str], str], free_port: Callable[[], int]
) -> None:
    openssl = require_program("openssl", "apt-get install openssl")
    certificate, key = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    subprocess.run(
        f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        f" -subj /CN=localhost"
        f" -addext subjectAltName=DNS:localhost -out {certificate} -keyout {key}".split(),
        check=True,
        capture_output=True,
    )
    port = free_port()
    tls = ["--tls-port", str(port), "--tls-cert-file", certificate, "--tls-key-file", key]
    tls += ["--tls-ca-cert-file", certificate, "--tls-auth-clients", "no", "--requirepass", "p@ss"]
    program = require_program("redis-server", "apt-get install redis-server")
    with RedisServer(program, tmp_path, *tls) as server:
        trust = ssl.create_default_context(cafile=certificate)
        ask = Here(loop, loop.spawn(redis.pool(f"rediss://:p%40ss@localhost:{port}", tls=trust)))
        assert ask(redis.ping()) == b"PONG"
        for url, told in [
            (server.url, "redis://user:password@host"),
            (f"redis://:wrong@127.0.0.1:{server.port}", "password is wrong"),
            (f"redis://127.0.0.1:{port}", "during the handshake|TLS|reset|not the Redis"),
            (f"redis://:p%40ss@127.0.0.1:{server.port}/99", "fewer databases"),
        ]:
            with Loop() as fresh, structlog.testing.capture_logs() as logs:
                wrong = Here(fresh, fresh.spawn(redis.pool(url)))
                with pytest.raises(BackendDown, match=told):
                    wrong(redis.ping())
            assert [entry["event"] for entry in logs] == ["cannot connect"]
            assert "p@ss" not in str(logs)


def test_a_server_that_goes_away_and_comes_back(
    loop: Loop, tmp_path: Path, require_program: Callable[[str, str], str]
) -> None:
    program = require_program("redis-server", "apt-get install redis-server")
    with RedisServer(program, tmp_path) as server:
        ask = Here(loop, loop.spawn(redis.pool(server.url)))
        assert ask(redis.set("a", 1))
        server.stop()
        with structlog.testing.capture_logs() as logs:
            replies = [ask.pool.submit(redis.get("a")) for _ in range(50)]
            while not all(reply.settled for reply in replies):
                loop.tick()
        assert {type(reply.error).__name__ for reply in replies} <= {"BackendDown", "ConnectionLost"}
        assert "refused" in str(replies[-1].error)
        assert [entry["event"] for entry in logs].count("cannot connect") <= 2
        server.start()

        async def back() -> bytes:
            while True:
                try:
                    return await ask.pool.submit(redis.ping())
                except BackendDown:
                    await sleep(0.01)

        assert loop.run_until(loop.spawn(back())) == b"PONG"


def test_drains_and_stops(loop: Loop, redis_server: RedisServer, other: Any) -> None:
    ask = Here(loop, loop.spawn(redis.pool(redis_server.url)))
    other.set("account", 5)
    waiting = ask.pool.submit(redis.blpop("q"))
    held = ask.pool.submit(withdraw("account", 1))
    ask(redis.ping())
    ask.pool.drain()
    with pytest.raises(PoolClosed):
        loop.run_until(waiting)
    assert loop.run_until(held) == 4
    for unit in (redis.ping(), redis.blpop("q"), withdraw("account", 1)):
        with pytest.raises(PoolClosed):
            ask(unit)
    assert not loop.alive(ask.pool.token)
    stopped = Here(loop, loop.spawn(redis.pool(redis_server.url)))
    waiting = stopped.pool.submit(redis.blpop("q"))
    loop.kill(stopped.pool.token)
    with pytest.raises(PoolClosed):
        loop.run_until(waiting)


def test_a_draining_loop_does_not_wait_for_what_may_never_come(redis_server: RedisServer, other: Any) -> None:
    with Loop() as loop:
        ask = Here(loop, loop.spawn(redis.pool(redis_server.url)))
        waiting = ask.pool.submit(redis.blpop("q"))
        ask(redis.ping())
        loop.drain(30.0)
        loop.run(signals=False)
        assert isinstance(waiting.error, PoolClosed)


def test_inside_asyncio(redis_server: RedisServer, other: Any) -> None:
    async def main() -> Any:
        async with Loop.in_asyncio() as loop:
            cache = loop.spawn(redis.pool(redis_server.url))
            await cache.submit(redis.set("key", "value"))
            values = await asyncio.gather(*[one(cache) for _ in range(64)])
            task = asyncio.create_task(one(cache))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with deadline(5.0):
                return values, await cache.submit(redis.get("key"))

    async def one(cache: redis.RedisPool) -> Any:
        return await cache.submit(redis.get("key"))

    assert asyncio.run(main()) == ([b"value"] * 64, b"value")


def test_from_threads(redis_server: RedisServer, other: Any) -> None:
    with Loop.in_thread() as loop:
        pool: Any = loop.spawn(redis.pool(redis_server.url))
        assert pool.submit(redis.set("key", "value")).result(timeout=5)
        assert pool.submit(redis.get("key")).result(timeout=5) == b"value"
        assert pool.submit(redis.script("return 7")()).result(timeout=5) == 7
        assert pool.submit(redis.blpop("none", seconds=0.01)).result(timeout=5) is None


def test_what_one_writes_the_other_reads(ask: Here, other: Any) -> None:
    values = [b"", b"\r\n", bytes(range(256)), b"x" * 100_000]
    for value in values:
        ask(redis.set("a", value))
        assert other.get("a") == value
        other.set("b", value)
        assert ask(redis.get("b")) == value
    replies: list[Reply[Any]] = [ask.pool.submit(redis.echo(f"{n}")) for n in range(5000)]
    assert ask.loop.run_until(gather(*replies)) == tuple(f"{n}".encode() for n in range(5000))
