"""The simulated server: the same bytes as a real one, and everything that a pool asks of it."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from actors import Listener, Loop, StreamProtocol, gather
from actors.testing import Driver, run_until
from actors.testing.conformance import check_protocol
from actors.testing.events import EXPIRE, advance
from pools.testing.conformance import check_wire
from protocols import redis
from protocols.redis.codec import NOTHING, REPLY_BYTES_MAX, Decoder, encode
from protocols.redis.handshake import Login
from protocols.redis.simulated import SimulatedRedis, Store
from protocols.redis.simulated.server import RedisConnection
from protocols.redis.wire import RedisWire
from tests.redis_server import RedisServer

CONVERSATIONS = [
    "GET a|SET a 1|GET a|INCR a|INCRBY a 5|DECR a|DECRBY a 9|APPEND a x|STRLEN a|INCR a|GET a",
    (
        "SET a 1 NX|SET a 2 NX|SET a 3 XX GET|SET b 1 XX|SET a 4 GET|"
        "SET a 1 FOO|SET a 1 NX XX|SET a|SETNX a 1|SETNX c 1"
    ),
    (
        "SET a 1 EX 100|TTL a|PERSIST a|TTL a|PERSIST a|EXPIRE a 50|"
        "TTL a|SET a 2 KEEPTTL|TTL a|SET a 3|TTL a|TTL no"
    ),
    "EXPIRE no 1|EXPIRE a x|SET a 1 PX 100000|EXPIRE a -1|EXISTS a|SET a 1 EX 0|PEXPIRE a 5",
    (
        "MSET a 1 b 2|MGET a b c|MSET a|DEL a b c|EXISTS a b|"
        "SET a 1|EXISTS a a|UNLINK a|DBSIZE|TYPE a|GETDEL a"
    ),
    (
        "RPUSH l 1 2 3|LPUSH l 0 00|LRANGE l 0 -1|LLEN l|LPOP l|"
        "RPOP l|LPOP l 2|RPOP l 5|LPOP l|LRANGE l 0 -1|TYPE l"
    ),
    (
        "RPUSH l a b c d|LRANGE l 1 2|LRANGE l -2 -1|LRANGE l 3 1|"
        "LRANGE l 0 100|LRANGE l -100 0|LSET l 0 A|LSET l -1 Z|LSET l 9 x|LSET m 0 x|LPOP l 0|RPOP l 2|"
        "LRANGE l x 1|LRANGE l 0 -1"
    ),
    "SET s x|LPUSH s 1|LLEN s|HGET s f|GET s|TYPE s|RPUSH l 1|GET l|INCR l|STRLEN l|MGET s l",
    (
        "HSET h a 1 b 2|HSET h a 3|HGET h a|HGET h no|HGETALL h|"
        "HDEL h a no|HGETALL h|HSET h a|HINCRBY h n 4|HDEL h b n|TYPE h"
    ),
    "MULTI|SET a 1|INCR a|GET a|EXEC|GET a|EXEC|DISCARD|MULTI|SET a 9|DISCARD|GET a",
    "MULTI|NOSUCH|SET a 1|EXEC|GET a|MULTI|MULTI|WATCH a|EXEC|MULTI|LPUSH a 1|GET a|EXEC",
    (
        "WATCH a|SET a 1|MULTI|GET a|EXEC|WATCH a|MULTI|"
        "GET a|EXEC|WATCH a|UNWATCH|SET a 2|MULTI|GET a|EXEC"
    ),
    (
        "RPUSH l x y|BLPOP l 1|BRPOP no l 0|BLPOP s x|BLPOP l -1|"
        "MULTI|BLPOP l 1|LPUSH l z|BLPOP l 0|EXEC"
    ),
    "PING|PING hello|ECHO x|SELECT 0|GET|nosuch|PUBLISH c x|AUTH x",
    "SUBSCRIBE a b|PING|PSUBSCRIBE c*|UNSUBSCRIBE a|UNSUBSCRIBE|PUNSUBSCRIBE|GET a",
    (
        "HELLO 3|GET no|HGETALL h|HSET h a 1|HGETALL h|MULTI|"
        "GET no|EXEC|SUBSCRIBE a|PING|GET no|UNSUBSCRIBE|LPOP no"
    ),
    (
        "SET é ü|GET é|KEYS *|KEYS x*|FLUSHALL|"
        "DBSIZE|INCR n|SET n 9223372036854775807|INCR n|SET n 99999999999999999999|INCR n"
    ),
]  # fmt: skip
NAMES = [
    "INCR", "DECR", "GET", "SET", "STRLEN", "APPEND", "DEL", "EXISTS", "LPUSH", "RPUSH", "LPOP", "RPOP",
    "LLEN", "HSET", "HGET", "HDEL", "TYPE", "MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH",
]  # fmt: skip


def commands_of(conversation: str) -> list[bytes]:
    return [encode(*command.split(" ")) for command in conversation.split("|")]


def random_conversation(seed: int) -> str:
    rng = random.Random(seed)
    commands = []
    for _ in range(60):
        name = rng.choice(NAMES)
        count = {"SET": 2, "APPEND": 2, "LPUSH": 2, "RPUSH": 2, "HSET": 3, "HGET": 2, "HDEL": 2}.get(name, 1)
        count = 0 if name in ("MULTI", "EXEC", "DISCARD", "UNWATCH") else count
        commands.append(" ".join([name, *(rng.choice("abc123") for _ in range(count))]))
    return "|".join(commands)


def replies_in(data: bytes) -> list[Any]:
    decoder = Decoder()
    decoder.feed(data)
    found = []
    while (reply := decoder.next()) is not NOTHING:
        found.append(reply)
    return found


def connection() -> StreamProtocol:
    return SimulatedRedis()()


def told(driver: Driver, data: bytes) -> bytes:
    return driver.receive(data).sent()


@pytest.fixture
def raw(redis_server: RedisServer) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", redis_server.port), timeout=10) as sock:
        sock.sendall(encode("FLUSHALL"))
        assert sock.recv(100) == b"+OK\r\n"
        yield sock
        sock.sendall(encode("RESET"))


def forgiving(reply: Any) -> Any:
    """Errors by their code: the texts are each server's own."""
    if isinstance(reply, redis.RedisError):
        return reply.code
    return [forgiving(part) for part in reply] if isinstance(reply, list) else reply


@pytest.mark.parametrize("conversation", [*CONVERSATIONS, *(random_conversation(seed) for seed in range(8))])
def test_a_real_server_answers_the_same(raw: socket.socket, conversation: str) -> None:
    commands = commands_of(conversation)
    driver = Driver(SimulatedRedis()())
    ours = replies_in(told(driver, b"".join(commands)))
    raw.sendall(b"".join(commands))
    data = b""
    while len(replies_in(data)) < len(ours):
        data += raw.recv(65536)
    theirs = replies_in(data)
    if "HELLO 3" in conversation:
        ours[0], theirs[0] = ours[0][b"proto"], theirs[0][b"proto"]
    assert [forgiving(reply) for reply in ours] == [forgiving(reply) for reply in theirs]


@pytest.mark.parametrize(
    "conversation", [CONVERSATIONS[0], CONVERSATIONS[9], CONVERSATIONS[12], CONVERSATIONS[14]]
)
def test_a_connection_keeps_the_kits_rules(conversation: str) -> None:
    check_protocol(
        connection,
        [[(command, None) for command in commands_of(conversation)][:8]],
        clones=False,
        lingers=True,
    )


def test_times_to_live_and_waiting_end_by_the_clock() -> None:
    check_protocol(
        connection,
        [
            [
                (encode("SET", "a", 1, "PX", 1500), b"+OK\r\n"),
                advance(1.4),
                (encode("PTTL", "a"), b":100\r\n"),
                (encode("WATCH", "a"), b"+OK\r\n"),
                advance(0.1),
                (encode("GET", "a"), b"$-1\r\n"),
                (encode("MULTI") + encode("EXEC"), b"+OK\r\n$-1\r\n"),
                (encode("BLPOP", "l", 3) + encode("PING"), b""),
                EXPIRE,
                (encode("PING"), b"+PONG\r\n"),
            ]
        ],
        clones=False,
        lingers=True,
    )


@pytest.mark.parametrize("said", [b"\x00what\r\n", b":5\r\n", b"*1\r\n:5\r\n", b"*0\r\n", b"PING\r\n"])
def test_what_is_no_command_ends_the_connection(said: bytes) -> None:
    driver = Driver(SimulatedRedis()())
    assert told(driver, said).startswith(b"-ERR Protocol error")
    assert not driver.alive


def test_a_password() -> None:
    driver = Driver(SimulatedRedis(password="secret")())
    assert told(driver, encode("GET", "a")).startswith(b"-NOAUTH")
    assert told(driver, encode("HELLO", 3)).startswith(b"-NOAUTH")
    assert told(driver, encode("HELLO", 4)).startswith(b"-NOPROTO")
    assert told(driver, encode("AUTH", "wrong")).startswith(b"-WRONGPASS")
    assert told(driver, encode("HELLO", 3, "AUTH", "default", "secret", "SETNAME", "me")).startswith(b"%4")
    assert told(driver, encode("SELECT", 1)).startswith(b"-ERR DB index")
    assert told(driver, encode("CLIENT", "SETNAME", "me") + encode("QUIT")) == b"+OK\r\n+OK\r\n"
    assert not driver.alive


def test_limits() -> None:
    driver = Driver(SimulatedRedis()())
    assert told(driver, encode("SET", "a", "x" * (1 << 21))).startswith(b"-ERR this simulated server keeps")
    told(driver, encode("MULTI") + encode("GET", "a") * 1024)
    assert told(driver, encode("GET", "a")).startswith(b"-ERR more than")
    assert told(driver, encode("SUBSCRIBE", "a")).startswith(b"-ERR SUBSCRIBE is not allowed")
    assert told(driver, encode("EXEC")).startswith(b"-EXECABORT")


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


def served(loop: Loop, server: SimulatedRedis) -> str:
    listener = loop.spawn(Listener("127.0.0.1:0", server))
    return f"redis://127.0.0.1:{listener.address.port}"


def test_a_pool_and_a_subscription_cannot_tell_the_difference(loop: Loop) -> None:
    account: list[list[bytes]] = []
    server = SimulatedRedis(Store(), executed=account.append)
    url = served(loop, server)
    pool = loop.spawn(redis.pool(url, timeout=5))
    news = loop.spawn(redis.subscribe(url, "news", patterns=["user.*"]))
    loop.run_until(news.subscribed)

    @redis.transaction
    async def withdraw(tx: redis.Transaction, amount: int) -> int:
        await tx.watch("balance")
        balance = int(await tx.submit(redis.get("balance")) or 0)
        tx.queue(redis.decrby("balance", amount))
        return balance - amount

    async def everything() -> list[Any]:
        await pool.submit(redis.set("balance", 100))
        left = sorted(await gather(*(pool.submit(withdraw(10)) for _ in range(5))))
        waits = pool.submit(redis.blpop("jobs", seconds=5))
        await pool.submit(redis.rpush("jobs", "first", "second"))
        await gather(pool.submit(redis.publish("news", "a")), pool.submit(redis.publish("user.7", "b")))
        heard = [await news.receive(), await news.receive()]
        return [left, await waits, await pool.submit(redis.lrange("jobs", 0, -1)), heard]

    left, popped, jobs, heard = loop.run_until(loop.spawn(everything()))
    assert left == [50, 60, 70, 80, 90]
    assert (popped, jobs) == ((b"jobs", b"first"), [b"second"])
    assert heard == [redis.Message(b"news", b"a"), redis.Message(b"user.7", b"b", b"user.*")]
    assert [b"DECRBY", b"balance", b"10"] in account
    assert "1 listen" in repr(server)
    assert "2 keys" in repr(server.store)
    news_connection = next(iter(server.subscribers))
    assert isinstance(news_connection, RedisConnection)
    assert "listens to 2" in repr(news_connection)
    loop.kill(news.token if hasattr(news, "token") else news._token)
    run_until(loop, lambda: not server.subscribers)


def test_who_waits_first_is_served_first() -> None:
    server = SimulatedRedis()
    first = Driver(server())
    told(first, encode("BLPOP", "l", 0))
    assert "1 wait" in repr(server)
    assert "blocks" in repr(first.machine)
    first.reset()
    assert "0 wait" in repr(server)


def prepared() -> SimulatedRedis:
    store = Store()
    store.put(b"a", b"1")
    return SimulatedRedis(store)


@redis.transaction
async def look(tx: redis.Transaction) -> bytes | None:
    await tx.watch("a")
    found = await tx.submit(redis.get("a"))
    tx.queue(redis.mget("a", "no"))
    return found


@redis.transaction
async def give_up(tx: redis.Transaction) -> None:
    await tx.watch("a")
    raise KeyError("a")


def test_transactions_under_the_kit() -> None:
    units = [(look(), b"1"), (give_up(), KeyError), (redis.get("a"), b"1")]
    check_wire(lambda: RedisWire(Login(), REPLY_BYTES_MAX), units, server=prepared)


def test_the_wire_against_it() -> None:
    values = [
        (redis.set("b", 1), True),
        (redis.get("a"), b"1"),
        (redis.mget("a", "no"), [b"1", None]),
        (redis.command("NOSUCH"), redis.RedisError),
    ]
    tally = check_wire(lambda: RedisWire(Login(), REPLY_BYTES_MAX), values, server=prepared)
    assert tally["cut"] > 50
