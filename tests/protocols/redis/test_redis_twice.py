"""What may be sent twice, held against a real server: each command that is called idempotent is executed
twice with another client's write of the same kind in between: answer and state are those of doing it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis as redis_py

from protocols import redis
from protocols.redis.semantics import IDEMPOTENT, is_idempotent
from protocols.redis.units import Blocking, Idempotent
from tests.redis_server import RedisServer

Words = tuple[Any, ...]

# By kind: what is there, and what another client writes meanwhile.
BEFORE: dict[str, list[Words]] = {
    "string": [("SET", "k", "12"), ("SET", "other", "x")],
    "hash": [("HSET", "k", "a", "1", "b", "2")],
    "list": [("RPUSH", "k", "a", "b", "c", "a")],
    "set": [("SADD", "k", "a", "b", "c"), ("SADD", "other", "b", "d")],
    "zset": [("ZADD", "k", 1, "a", 2, "b"), ("ZADD", "other", 2, "b")],
    "geo": [("GEOADD", "k", 13.3, 38.1, "a", 15.0, 37.5, "b")],
    "stream": [
        ("XADD", "k", "1-0", "f", "v"),
        ("XGROUP", "CREATE", "k", "g", "0"),
        ("XREADGROUP", "GROUP", "g", "me", "STREAMS", "k", ">"),
    ],
    "log": [("PFADD", "k", "a", "b")],
}
MEANWHILE: dict[str, list[Words]] = {
    "string": [("SET", "k", "7"), ("INCR", "k"), ("APPEND", "k", "9"), ("DEL", "k"), ("EXPIRE", "k", 100)],
    "hash": [("HSET", "k", "a", "9", "c", "3"), ("HINCRBY", "k", "a", 5), ("HDEL", "k", "a"), ("DEL", "k")],
    "list": [("LPUSH", "k", "NEW"), ("LPOP", "k"), ("LSET", "k", 0, "x"), ("LTRIM", "k", 1, 2), ("DEL", "k")],
    "set": [("SADD", "k", "z"), ("SREM", "k", "a"), ("SPOP", "k", 3), ("DEL", "other")],
    "zset": [("ZADD", "k", 0.5, "z"), ("ZINCRBY", "k", 9, "a"), ("ZPOPMIN", "k"), ("DEL", "other")],
    "geo": [("GEOADD", "k", 14.0, 38.0, "z"), ("ZREM", "k", "a")],
    "stream": [("XADD", "k", "5-0", "f", "w"), ("XDEL", "k", "1-0"), ("XACK", "k", "g", "1-0")],
    "log": [("PFADD", "k", "c", "d"), ("DEL", "k")],
}

SAMPLES: dict[str, list[tuple[str, str]]] = {  # by command, kind and arguments
    "GET": [("string", "k")], "MGET": [("string", "k other")], "STRLEN": [("string", "k")],
    "GETRANGE": [("string", "k 0 1")], "SUBSTR": [("string", "k 0 1")], "GETBIT": [("string", "k 3")],
    "BITCOUNT": [("string", "k")], "BITPOS": [("string", "k 1")],
    "BITFIELD_RO": [("string", "k GET u8 0")], "LCS": [("string", "k other")],
    "EXISTS": [("string", "k other")], "TYPE": [("string", "k")], "TTL": [("string", "k")],
    "PTTL": [("string", "k")], "EXPIRETIME": [("string", "k")], "PEXPIRETIME": [("string", "k")],
    "KEYS": [("string", "*")], "SCAN": [("string", "0 COUNT 100")], "RANDOMKEY": [("string", "")],
    "DUMP": [("string", "k"), ("list", "k")],
    "OBJECT": [("string", "ENCODING k"), ("string", "REFCOUNT k"), ("string", "IDLETIME k")],
    "MEMORY": [("string", "USAGE k")],
    "HGET": [("hash", "k a")], "HMGET": [("hash", "k a c")], "HGETALL": [("hash", "k")],
    "HKEYS": [("hash", "k")], "HVALS": [("hash", "k")], "HLEN": [("hash", "k")],
    "HSTRLEN": [("hash", "k a")], "HEXISTS": [("hash", "k c")], "HSCAN": [("hash", "k 0")],
    "HRANDFIELD": [("hash", "k 10")], "HTTL": [("hash", "k FIELDS 1 a")],
    "HPTTL": [("hash", "k FIELDS 1 a")], "HEXPIRETIME": [("hash", "k FIELDS 1 a")],
    "HPEXPIRETIME": [("hash", "k FIELDS 1 a")],
    "LLEN": [("list", "k")], "LINDEX": [("list", "k 0"), ("list", "k -1")],
    "LRANGE": [("list", "k 0 -1"), ("list", "k 1 2")], "LPOS": [("list", "k a"), ("list", "k a RANK -1")],
    "SMEMBERS": [("set", "k")], "SISMEMBER": [("set", "k a")], "SMISMEMBER": [("set", "k a z")],
    "SCARD": [("set", "k")], "SRANDMEMBER": [("set", "k 10")], "SSCAN": [("set", "k 0")],
    "SINTER": [("set", "k other")], "SUNION": [("set", "k other")], "SDIFF": [("set", "k other")],
    "SINTERCARD": [("set", "2 k other")],
    "ZCARD": [("zset", "k")], "ZCOUNT": [("zset", "k -inf 1")], "ZLEXCOUNT": [("zset", "k - +")],
    "ZRANGE": [("zset", "k 0 0"), ("zset", "k 0 1 REV WITHSCORES")],
    "ZRANGEBYSCORE": [("zset", "k 1 2")], "ZRANGEBYLEX": [("zset", "k - +")],
    "ZREVRANGE": [("zset", "k 0 0")], "ZREVRANGEBYSCORE": [("zset", "k 9 0")],
    "ZREVRANGEBYLEX": [("zset", "k + -")], "ZRANK": [("zset", "k a")], "ZREVRANK": [("zset", "k a")],
    "ZSCORE": [("zset", "k a")], "ZMSCORE": [("zset", "k a z")], "ZRANDMEMBER": [("zset", "k 10")],
    "ZSCAN": [("zset", "k 0")], "ZINTER": [("zset", "2 k other")], "ZUNION": [("zset", "2 k other")],
    "ZDIFF": [("zset", "2 k other")], "ZINTERCARD": [("zset", "2 k other")],
    "XLEN": [("stream", "k")], "XRANGE": [("stream", "k - +")],
    "XREVRANGE": [("stream", "k + - COUNT 1")],
    "XREAD": [("stream", "STREAMS k 0"), ("stream", "BLOCK 1 STREAMS k 1-0")],
    "XPENDING": [("stream", "k g")],
    "XINFO": [("stream", "STREAM k")], "PFCOUNT": [("log", "k")],
    "GEOPOS": [("geo", "k a")], "GEODIST": [("geo", "k a b")], "GEOHASH": [("geo", "k a")],
    "GEOSEARCH": [("geo", "k FROMMEMBER b BYRADIUS 500 km ASC")],
    "GEORADIUS_RO": [("geo", "k 15 37 500 km ASC")],
    "GEORADIUSBYMEMBER_RO": [("geo", "k b 500 km ASC")],
    "SORT_RO": [("list", "k ALPHA")],
    "EVAL_RO": [("string", "return_redis.call('GET',KEYS[1]) 1 k")],
    "EVALSHA_RO": [("string", "{sha} 1 k")], "FCALL_RO": [("string", "look 1 k")],
    "PING": [("string", "")], "ECHO": [("string", "x")], "TIME": [("string", "")],
    "DBSIZE": [("string", "")], "INFO": [("string", "server")], "LASTSAVE": [("string", "")],
    "ROLE": [("string", "")], "COMMAND": [("string", "COUNT")],
    "SLOWLOG": [("string", "LEN"), ("string", "GET 1")], "PUBSUB": [("string", "CHANNELS")],
}  # fmt: skip
OF_THE_MOMENT = {"RANDOMKEY", "TIME", "INFO", "LASTSAVE", "SLOWLOG"} | {
    *("TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME")
}
"""What they answer is another thing each time, and never meant to be the same."""
KEEPS_ITS_SUM = {"PFCOUNT"}  # it may write down what it has counted, which changes no answer
LOOK = "#!lua name=looking\nredis.register_function{function_name='look', flags={'no-writes'}, \
callback=function(keys) return redis.call('GET', keys[1]) end}"


class Server:
    """`server("GET", "k")`: the reply as it comes, errors by their text."""

    def __init__(self, port: int) -> None:
        self._client = redis_py.Redis(port=port)
        self._client.response_callbacks.clear()
        self("FUNCTION", "LOAD", "REPLACE", LOOK)
        self.sha = self("SCRIPT", "LOAD", "return redis.call('GET',KEYS[1])").decode()

    def __call__(self, *words: Any) -> Any:
        try:
            return self._client.execute_command(*words)
        except redis_py.ResponseError as error:
            return f"{error}"

    def begin(self, kind: str) -> None:
        self("FLUSHALL")
        for words in BEFORE[kind]:
            self(*words)

    @property
    def state(self) -> Any:
        return self("DEBUG", "DIGEST")

    def words(self, name: str, arguments: str) -> Words:
        return (
            name,
            *(word.replace("return_", "return ").format(sha=self.sha) for word in arguments.split()),
        )

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[Server]:
    made = Server(redis_server.port)
    yield made
    made("FLUSHALL")
    made.close()


def settled(answer: Any) -> Any:
    """Without an order, where the server promises none."""
    if isinstance(answer, list):
        return sorted((settled(part) for part in answer), key=repr)
    return answer


def test_there_is_a_sample_of_each() -> None:
    assert SAMPLES.keys() == IDEMPOTENT


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_twice_with_others_writes_in_between_is_as_once(name: str, server: Server) -> None:
    known = server("COMMAND", "INFO", name)[0]
    if known is None:
        assert "unknown command" in server(*server.words(name, SAMPLES[name][0][1]))
        return  # a newer server's: it reads, as its siblings do
    assert b"write" not in known[2]
    for kind, arguments in SAMPLES[name]:
        words = server.words(name, arguments)
        assert is_idempotent(name, words)
        for write in MEANWHILE[kind]:
            server.begin(kind)
            before = server.state
            server(*words)
            assert server.state == before or name in KEEPS_ITS_SUM
            server(*write)
            answer, state = server(*words), server.state
            server.begin(kind)
            server(*write)
            assert server.state == state or name in KEEPS_ITS_SUM or write[0] == "EXPIRE", (words, write)
            if name not in OF_THE_MOMENT:
                assert settled(server(*words)) == settled(answer), (words, write)


WRITES: list[tuple[str, str, str]] = [  # what is not called idempotent; what another does; how it begins
    ("SET k 1", "INCRBY k 5", "SET k 0"),
    ("SET k 1 EX 50", "INCRBY k 5", "SET k 0"),
    ("SET k 1 KEEPTTL", "INCRBY k 5", "SET k 0"),
    ("SET k 1 NX", "DEL k", "PING"),
    ("SET k 1 XX", "INCRBY k 5", "SET k 0"),
    ("SET k 1 GET", "INCRBY k 5", "SET k 0"),
    ("SETEX k 50 1", "INCRBY k 5", "SET k 0"),
    ("PSETEX k 50000 1", "INCRBY k 5", "SET k 0"),
    ("SETNX k 1", "DEL k", "PING"),
    ("MSET k 1 l 2", "INCRBY k 5", "MSET k 0 l 0"),
    ("GETSET k 1", "INCRBY k 5", "SET k 0"),
    ("GETDEL k", "SETNX k b", "SET k a"),
    ("SETRANGE k 0 x", "GETSET k b", "SET k a"),
    ("SETBIT k 7 1", "INCR k", "SET k 0"),
    ("APPEND k x", "APPEND k y", "SET k a"),
    ("INCRBY k 1", "INCRBY k 10", "SET k 0"),
    ("INCRBYFLOAT k 1", "INCRBYFLOAT k 10", "SET k 0"),
    ("BITFIELD k SET u8 0 49", "INCR k", "SET k 0"),
    ("DEL k", "SETNX k b", "SET k a"),
    ("UNLINK k", "SETNX k b", "SET k a"),
    ("RENAME k l", "SETNX k b", "SET k a"),
    ("RENAMENX k l", "RENAME l k", "SET k a"),
    ("COPY k l", "DEL l", "SET k a"),
    ("MOVE k 1", "SET k b", "SET k a"),
    ("SORT k ALPHA STORE l", "LPUSH l 9", "RPUSH k 2 1"),
    ("LSET k 0 A", "LPUSH k NEW", "RPUSH k a b c"),
    ("LTRIM k 0 1", "LPUSH k NEW", "RPUSH k a b c d"),
    ("LREM k 1 a", "RPUSH k a", "RPUSH k a b a"),
    ("LINSERT k BEFORE b x", "LPUSH k y", "RPUSH k a b"),
    ("LPUSH k x", "LPUSH k y", "RPUSH k a"),
    ("RPOP k", "RPUSH k y", "RPUSH k a b"),
    ("LMOVE k l LEFT LEFT", "LPUSH k y", "RPUSH k a b"),
    ("HSET k f 1", "HINCRBY k f 5", "HSET k f 0"),
    ("HMSET k f 1", "HINCRBY k f 5", "HSET k f 0"),
    ("HDEL k f", "HSET k f 2", "HSET k f 1 g 2"),
    ("SADD k x", "SREM k x", "SADD k a"),
    ("SREM k x", "SADD k x", "SADD k a x"),
    ("SMOVE k l x", "SMOVE l k x", "SADD k a x"),
    ("SPOP k 2", "SADD k y", "SADD k a b"),
    ("ZADD k 1 a", "ZINCRBY k 5 a", "ZADD k 0 a"),
    ("ZADD k CH 1 a", "ZINCRBY k 5 a", "ZADD k 0 a"),
    ("ZADD k LT 1 a", "ZINCRBY k 5 a", "ZADD k 2 a"),
    ("ZADD k GT CH 5 a", "ZADD k 9 b", "ZADD k 2 a"),
    ("ZADD k INCR 1 a", "ZINCRBY k 5 a", "ZADD k 0 a"),
    ("ZADD k NX 1 a", "ZREM k a", "PING"),
    ("ZREM k a", "ZADD k 2 a", "ZADD k 1 a 2 b"),
    ("ZPOPMIN k", "ZADD k 0 z", "ZADD k 1 a 2 b"),
    ("ZRANGESTORE l k 0 -1", "ZINCRBY l 5 a", "ZADD k 1 a"),
    ("GEOSEARCHSTORE l k FROMMEMBER a BYRADIUS 1 km", "ZREM l a", "GEOADD k 13 38 a"),
    ("PFADD k x", "PFADD k y", "PFADD k a"),
    ("XADD k 9-* f v", "XADD k 9-* f w", "XADD k 1-0 f v"),
    ("XREADGROUP GROUP g me COUNT 1 STREAMS k >", "XADD k 9-0 f w", "XADD k 1-0 f v"),
    ("EVAL return+redis.call('INCR',KEYS[1]) 1 k", "INCR k", "SET k 0"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "other", "before"), WRITES)
def test_no_write_is_sent_twice_for_it_shows(first: str, other: str, before: str, server: Server) -> None:
    """Done twice, it gives what no order of doing each once can give: in state, or in what both are told."""
    words = tuple(word.replace("+", " ") for word in first.split())
    assert not is_idempotent(words[0], words)
    assert not redis.command(*words).idempotent

    def outcome(*steps: Words) -> tuple[Any, Any, Any]:
        server("FLUSHALL")
        server(*before.split())
        server("XGROUP", "CREATE", "k", "g", "0")
        told = {step: server(*step) for step in steps}  # the last time counts
        return server.state, told[words], told[tuple(other.split())]

    meanwhile = tuple(other.split())
    twice = outcome(words, meanwhile, words)
    once = [outcome(words, meanwhile), outcome(meanwhile, words)]
    assert twice not in once


def test_a_list_loses_nothing_by_an_lset_that_is_done_once(server: Server) -> None:
    """The reason in one picture: LSET done again hits what another has put there meanwhile."""
    server.begin("list")
    for words in (("LSET", "k", 0, "A"), ("LPUSH", "k", "NEW"), ("LSET", "k", 0, "A")):
        server(*words)
    assert b"NEW" not in server("LRANGE", "k", 0, -1)


@pytest.mark.parametrize(
    ("positions", "expected"),
    [({"s": "0"}, True), ({"s": "5-1"}, True), ({"s": "$"}, False), ({"t": "0", "s": "$"}, False)],
)
def test_a_stream_is_read_again_only_from_a_place(positions: dict[str, str], expected: bool) -> None:
    assert redis.xread(positions).idempotent is expected
    waits = redis.xread(positions, seconds=5)
    assert isinstance(waits, Blocking)
    assert waits.idempotent is expected


def test_who_knows_better_says_so() -> None:
    assert redis.command("SET", "k", 1, idempotent=True).idempotent
    makers: list[Callable[[], Any]] = [
        lambda: redis.set("k", 1),
        lambda: redis.set("k", 1, ex=5),
        lambda: redis.mset({"k": 1}),
        lambda: redis.pipeline(redis.get("k"), redis.set("k", 1)),
        lambda: redis.atomic(redis.get("k")),
    ]
    assert not any(make().idempotent for make in makers)
    assert isinstance(redis.get("k"), Idempotent)
