"""Connections that lead nowhere, and a name that leads to another server: real servers behind a relay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from actors import Reply
from pools import DeadlineExceeded
from protocols import redis
from tests.redis_server import RedisServer
from tests.relay import Relay
from tests.still_time import StillLoop


def outcome(loop: StillLoop, reply: Reply[Any], step: float = 0.0) -> Any:
    """What it settles with; `step` seconds pass with each look."""
    loop.until(lambda: reply.settled, step)
    return reply.error or reply.result()


def idle(pool: Any) -> int:
    return int(pool.statistics().backends[0].idle)


def test_forgotten_connections_cost_one_command(redis_server: RedisServer) -> None:
    with Relay(redis_server.port) as relay, StillLoop() as loop:
        url = f"redis://127.0.0.1:{relay.port}"
        pool = loop.spawn(redis.pool(url, connections=4, warm=4, timeout=5.0))
        loop.until(lambda: idle(pool) == 4)
        relay.silence()
        loop.advance(60.0)
        lost = pool.submit(redis.get("k"))
        loop.until(lambda: pool.statistics().in_flight == 1)
        loop.advance(5.1)
        assert isinstance(lost.error, DeadlineExceeded)
        assert pool.statistics().orphans == 3  # the others are asked whether they are there
        assert [outcome(loop, pool.submit(redis.set("k", n)), step=0.001) for n in range(20)] == [True] * 20
        loop.advance(1.1)
        loop.until(lambda: pool.statistics().orphans == 0)
        assert sum(pool.statistics().failed.values()) == 1


def test_a_server_that_goes_silent_fails_within_the_bound_and_comes_back(redis_server: RedisServer) -> None:
    with Relay(redis_server.port) as relay, StillLoop() as loop:
        url = f"redis://127.0.0.1:{relay.port}"
        pool = loop.spawn(redis.pool(url, connections=2, timeout=5.0, connect_timeout=1.0))
        assert outcome(loop, pool.submit(redis.set("k", 1))) is True
        relay.mute = True
        relay.silence()
        began = loop.now
        replies = [pool.submit(redis.get("k")) for _ in range(20)]
        loop.until(lambda: all(reply.settled for reply in replies), step=0.05)
        assert loop.now - began < 5.5
        assert all(reply.error is not None for reply in replies)
        relay.mute = False
        loop.advance(60.0)
        assert outcome(loop, pool.submit(redis.get("k")), step=0.01) == b"1"


def test_after_a_failover_behind_a_name_the_pool_goes_to_the_primary(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with (
        RedisServer("redis-server", tmp_path) as promoted,
        redis_py.Redis(port=redis_server.port) as old,
        redis_py.Redis(port=promoted.port) as new,
        Relay(redis_server.port) as relay,
        StillLoop() as loop,
    ):
        pool = loop.spawn(redis.pool(f"redis://127.0.0.1:{relay.port}", connections=3, warm=3, timeout=5.0))
        loop.until(lambda: idle(pool) == 3)
        assert outcome(loop, pool.submit(redis.set("k", "before"))) is True
        loop.advance(60.0)
        try:
            relay.target = promoted.port
            old.replicaof("127.0.0.1", promoted.port)
            replies = [pool.submit(redis.set(f"k{n}", "after")) for n in range(30)]
            loop.until(lambda: all(reply.settled for reply in replies), step=0.001)
            assert [reply.error for reply in replies] == [None] * 30
            assert new.get("k29") == b"after"
            assert pool.statistics().backends[0].connections <= 3
        finally:
            old.replicaof("no", "one")
            old.flushall()


@pytest.mark.parametrize("seconds", [0.0, 30.0])
def test_a_wait_for_what_may_never_come_ends_at_its_deadline(
    redis_server: RedisServer, seconds: float
) -> None:
    with Relay(redis_server.port) as relay, StillLoop() as loop:
        pool = loop.spawn(redis.pool(f"redis://127.0.0.1:{relay.port}", timeout=5.0))
        waiting = pool.submit(redis.blpop("nothing comes", seconds=seconds), timeout=40.0)
        lane = pool.lane("blocking")
        loop.until(lambda: lane.statistics().in_flight == 1)
        relay.silence()
        assert isinstance(outcome(loop, waiting, step=0.5), DeadlineExceeded)
        assert outcome(loop, pool.submit(redis.blpop("k", "list", seconds=0.01)), step=0.01) is None
