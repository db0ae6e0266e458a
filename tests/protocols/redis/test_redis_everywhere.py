"""Commands without a key in a cluster: to any node, to all of them, or refused with the way to ask each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py

from actors import Loop, Misuse
from protocols import redis
from protocols.redis.everywhere import ANYWHERE, MERGES, every, full_name, same
from protocols.redis.slots import NONE
from tests.protocols.redis.test_redis_cluster_faults import A, B, Fake
from tests.redis_server import RedisCluster, RedisServer

POLICIES = {b"all_succeeded": same, b"agg_logical_and": every}
ASKS_WHO_IS_THERE = {"PING"}  # of which a caller wants to know no more than that somebody is


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


def policies(client: Any, name: str) -> dict[bytes, bytes]:
    """What the server itself says of a command."""
    found = client.execute_command("COMMAND", "INFO", name.replace(" ", "|").lower())
    tips = [] if found[0] is None else found[0][7]
    return dict(tip.split(b":", 1) for tip in tips if b":" in tip)


def test_the_table_is_the_servers(redis_server: RedisServer) -> None:
    client = redis_py.Redis(port=redis_server.port)
    client.response_callbacks.clear()
    for name, merge in MERGES.items():
        said = policies(client, name)
        assert said[b"request_policy"] in (b"all_shards", b"all_nodes"), name
        assert POLICIES[said[b"response_policy"]] is merge, name
    for name in ANYWHERE - ASKS_WHO_IS_THERE:
        assert b"request_policy" not in policies(client, name), name
    client.close()


def test_scripts_functions_and_settings_are_everywhere(loop: Loop, redis_cluster: RedisCluster) -> None:
    cluster: Any = loop.spawn(redis.cluster(redis_cluster.urls[0]))

    def ask(*words: Any) -> Any:
        return loop.run_until(cluster.submit(redis.command(*words)))

    for node in redis_cluster.masters:
        node("SCRIPT", "FLUSH")
    sha = ask("SCRIPT", "LOAD", "return 7")
    assert [node("SCRIPT", "EXISTS", sha.decode()) for node in redis_cluster.masters] == [[1]] * 3
    assert ask("script", "exists", sha, "f" * 40) == [1, 0]
    redis_cluster.masters[1]("SCRIPT", "FLUSH")
    assert ask("SCRIPT", "EXISTS", sha) == [0]
    code = "#!lua name=mine\nredis.register_function('seven', function() return 7 end)"
    assert ask("FUNCTION", "LOAD", "REPLACE", code) == b"mine"
    for key in ("a", "b", "c", "d"):
        assert ask("FCALL", "seven", 1, key) == 7
    with pytest.raises(redis.RedisError, match=r"already exists.*0 of 3 nodes"):
        ask("FUNCTION", "LOAD", code)
    redis_cluster.masters[2]("FUNCTION", "FLUSH")
    with pytest.raises(redis.RedisError, match="1 of 3 nodes have done it"):
        ask("FUNCTION", "LOAD", code)
    assert ask("FUNCTION", "DELETE", "mine") == b"OK"
    limit = {"slowlog-max-len": "77"}
    assert ask("CONFIG", "SET", "slowlog-max-len", 77) == b"OK"
    assert [node("CONFIG", "GET", "slowlog-max-len") for node in redis_cluster.masters] == [limit] * 3


REFUSED = [
    ("DBSIZE",), ("SCAN", 0), ("KEYS", "*"), ("RANDOMKEY",), ("FLUSHALL",), ("CONFIG", "GET", "hz"),
    ("CLIENT", "LIST"), ("SLOWLOG", "GET"), ("LATENCY", "LATEST"), ("INFO",), ("ROLE",), ("LASTSAVE",),
    ("FUNCTION", "LIST"), ("FUNCTION", "STATS"), ("SCRIPT", "KILL"), ("ACL", "WHOAMI"),
    ("PUBSUB", "CHANNELS"),
    ("SHUTDOWN",), ("BGSAVE",), ("MODULE", "LIST"), ("FAILOVER",),
]  # fmt: skip


@pytest.mark.parametrize("words", REFUSED, ids=lambda words: " ".join(map(str, words)))
def test_what_is_about_one_node_is_refused_wherever_it_stands(words: Any) -> None:
    fake = Fake(lambda port, command: b"x")
    fake.ask(redis.get("a"))
    asked = len(fake.asked)
    for unit in (
        redis.command(*words),
        redis.pipeline(redis.ping(), redis.command(*words)),
        redis.atomic(redis.command(*words)),
        redis.atomic(redis.get("a"), redis.command(*words)),
    ):
        with pytest.raises(Misuse, match=r"submit it to each of cluster.masters\(\)"):
            fake.ask(unit).result()
    assert len(fake.asked) == asked
    (node, _) = fake.cluster.masters()
    reply = node.submit(redis.command(*words))
    fake.run()
    assert reply.settled


def test_every_command_without_a_key_has_its_place() -> None:
    assert {name.encode() for name in ANYWHERE} | {name.split()[0].encode() for name in MERGES} <= NONE


def test_what_goes_everywhere_is_no_part_of_others() -> None:
    fake = Fake(lambda port, command: b"x")
    load = redis.command("SCRIPT", "LOAD", "return 1")
    for unit in (redis.pipeline(redis.get("a"), load), redis.atomic(load)):
        with pytest.raises(Misuse, match="submit it by itself"):
            fake.ask(unit).result()


def test_the_first_one_waits_for_the_map_and_a_cancelled_one_for_nobody() -> None:
    fake = Fake(lambda port, command: b"sha")
    load = redis.command("SCRIPT", "LOAD", "return 1")
    reply = fake.ask(load)
    assert reply.result() == b"sha"
    assert sorted(port for port, command in fake.asked if command[0] == b"SCRIPT") == [A, B]
    gone = fake.cluster.submit(load)
    gone.cancel()
    fake.run()
    assert fake.adds_up()


def test_nodes_that_disagree_are_an_error() -> None:
    fake = Fake(lambda port, command: b"%d" % port)
    reply = fake.ask(redis.command("SCRIPT", "LOAD", "return 1"))
    assert "answered differently" in str(reply.error)
    assert fake.adds_up()


def test_names() -> None:
    assert full_name(redis.command("script", "load", "x\r\ny").data) == "SCRIPT LOAD"
    assert full_name(redis.command("PING").data) == "PING"
    assert every([[1, 0], [1, 1]]) == [1, 0]
