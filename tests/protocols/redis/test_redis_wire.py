"""The wire on a kernel without sockets: handshakes old and new, and servers that misbehave."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from pools import BackendDown, ConnectionLost, DeadlineExceeded
from pools.testing import Bench
from protocols import redis
from protocols.redis.codec import REPLY_BYTES_MAX, encode
from protocols.redis.handshake import Login, greet
from protocols.redis.urls import parse_url
from protocols.redis.wire import RedisWire

HELLO = b"%1\r\n+version\r\n+7.0.15\r\n"
RESP2 = b"-ERR unknown command 'HELLO'\r\n"


def bench(login: Login = Login(), limit: int = REPLY_BYTES_MAX, **options: Any) -> Bench:  # noqa: B008
    return Bench(lambda: RedisWire(login, limit), pipeline=100, connections=1, **options)


def connect(bench: Bench, hello: bytes = HELLO) -> None:
    bench.accept()
    bench.sockets[-1].delivered()
    bench.sockets[-1].arrive(hello)
    bench.run()


def arrive(bench: Bench, data: bytes) -> None:
    bench.sockets[-1].arrive(data)
    bench.run()


def converse(login: Login, *replies: Any) -> tuple[list[bytes], int]:
    """What a handshake says when it gets these replies, and the version it comes to."""
    greeting = greet(login)
    said = [next(greeting)]
    try:
        for reply in replies:
            said += [greeting.send(reply)]
    except StopIteration as done:
        return said, done.value
    raise AssertionError(f"the handshake goes on: {said}")


def test_hello_says_all_at_once() -> None:
    said, version = converse(Login("ada", "secret", 0, "app"), {b"version": b"7"})
    assert said == [encode("HELLO", 3, "AUTH", "ada", "secret", "SETNAME", "app")]
    assert version == 3


def test_a_database_is_selected() -> None:
    said, _ = converse(Login(database=5), {b"version": b"7"}, b"OK")
    assert said == [encode("HELLO", 3), encode("SELECT", 5)]


def test_an_old_server_is_spoken_to_in_its_way() -> None:
    old = redis.RedisError("ERR unknown command 'HELLO'")
    said, version = converse(Login("", "secret", 2, "app"), old, b"OK", b"OK", b"OK")
    assert said[1:] == [encode("AUTH", "secret"), encode("CLIENT", "SETNAME", "app"), encode("SELECT", 2)]
    assert version == 2
    said, version = converse(Login("ada", "secret"), old, b"OK", b"PONG")
    assert said[1:] == [encode("AUTH", "ada", "secret"), encode("PING")]


@pytest.mark.parametrize(
    ("replies", "advice"),
    [
        ([redis.RedisError("WRONGPASS invalid")], "the user or the password is wrong"),
        ([redis.RedisError("NOAUTH HELLO must")], "redis://user:password@host"),
        (
            [redis.RedisError("ERR unknown command"), redis.RedisError("NOAUTH x")],
            "redis://user:password@host",
        ),
        ([redis.RedisError("ERR something else")], "something else"),
    ],
)
def test_a_refusal_says_what_to_do(replies: list[Any], advice: str) -> None:
    with pytest.raises(redis.RedisError, match=advice):
        converse(Login(), *replies)


def test_what_is_no_redis_server() -> None:
    with pytest.raises(redis.BadReply, match="no Redis server sends"):
        converse(Login(), b"OK")


def test_a_login_shows_no_password() -> None:
    assert "secret" not in repr(Login("ada", "secret"))


def test_units_of_one_tick_leave_in_one_write_and_are_answered_in_order() -> None:
    b = bench()
    first = b.submit(redis.get("a"))
    connect(b)
    assert b.sockets[-1].delivered() == redis.get("a").data
    others = [b.submit(redis.get(f"{n}")) for n in range(3)]
    b.run()
    assert b.sockets[-1].delivered() == b"".join(redis.get(f"{n}").data for n in range(3))
    arrive(b, b"$1\r\nx\r\n:0\r\n-WRONGTYPE no\r\n")
    assert first.result() == b"x"
    assert others[0].result() == 0
    assert isinstance(others[1].error, redis.RedisError)
    assert not others[2].settled
    arrive(b, b"_\r\n")
    assert others[2].result() is None
    assert b.add_up()


def test_resp2_and_resp3_give_the_same() -> None:
    units = [redis.hgetall("h"), redis.zrange_with_scores("z"), redis.xread({"s": 0}), redis.zscore("z", "a")]
    entries = b"*1\r\n*2\r\n+1-0\r\n*2\r\n+f\r\n+v\r\n"
    answers = {
        HELLO: [b"%1\r\n+a\r\n+1\r\n", b"*1\r\n*2\r\n+a\r\n,1.5\r\n", b"%1\r\n+s\r\n" + entries, b",1.5\r\n"],
        RESP2: [
            b"*2\r\n+a\r\n+1\r\n",
            b"*2\r\n+a\r\n$3\r\n1.5\r\n",
            b"*1\r\n*2\r\n+s\r\n" + entries,
            b"$3\r\n1.5\r\n",
        ],
    }
    for hello, data in answers.items():
        b = bench()
        replies = [b.submit(unit) for unit in units]
        connect(b, hello)
        if hello is RESP2:
            arrive(b, b"+PONG\r\n")
        arrive(b, b"".join(data))
        assert [reply.result() for reply in replies] == [
            {b"a": b"1"},
            [(b"a", 1.5)],
            {b"s": [(b"1-0", {b"f": b"v"})]},
            1.5,
        ]


def test_a_push_is_nobodys_answer() -> None:
    b = bench()
    reply = b.submit(redis.get("a"))
    connect(b, b">1\r\n+hello\r\n" + HELLO)
    arrive(b, b">2\r\n+invalidate\r\n*0\r\n+x\r\n")
    assert reply.result() == b"x"
    arrive(b, b">2\r\n+invalidate\r\n*0\r\n")  # idle
    assert b.pool.statistics().connections == 1


def test_an_answer_that_nothing_asked_for_ends_the_connection() -> None:
    b = bench()
    reply = b.submit(redis.get("a"))
    connect(b)
    arrive(b, b"+x\r\n+y\r\n")
    assert reply.result() == b"x"
    assert b.pool.statistics().connections == 0


def test_garbage_ends_one_connection_and_settles_its_units() -> None:
    b = bench(attempts=1)
    replies = [b.submit(redis.incrby("a")), b.submit(redis.incrby("b")), b.submit(redis.incrby("c"))]
    connect(b)
    arrive(b, b":1\r\nHTTP/1.1 200 OK\r\n")
    assert replies[0].result() == 1
    assert isinstance(replies[1].error, redis.BadReply)
    assert isinstance(replies[2].error, ConnectionLost)
    assert b.pool.statistics().connections == 0
    assert b.add_up()


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=60))
def test_whatever_comes_every_unit_settles(data: bytes) -> None:
    b = bench(attempts=1, timeout=1.0)
    replies = [b.submit(redis.get("a")), b.submit(redis.pipeline(redis.get("a"), redis.hgetall("b")))]
    connect(b)
    arrive(b, data)
    b.advance(2.0)
    assert all(reply.settled for reply in replies)
    assert b.add_up()


def test_a_later_reply_that_is_too_large_ends_the_connection_after_those_before_it() -> None:
    b = bench(attempts=1)
    text = b"*99999999"
    replies = [b.submit(unit) for unit in (redis.get("a"), redis.get("b"), redis.incrby("c"))]
    connect(b)
    arrive(b, b"$9\r\n" + text + b"\r\n+x\r\n*99999999\r\n")
    assert [reply.result() for reply in replies[:2]] == [text, b"x"]
    assert isinstance(replies[2].error, redis.BadReply)
    assert "elements" in str(replies[2].error)


def test_a_busy_connection_may_carry_any_number_of_replies() -> None:
    b = bench(limit=50)
    first = b.submit(redis.get("a"))
    connect(b)
    arrive(b, b"$5\r\nab")
    for _ in range(30):
        reply = b.submit(redis.get("a"))
        b.run()
        arrive(b, b"cde\r\n$5\r\nab")
        assert first.result() == b"abcde"
        first = reply
    arrive(b, b"cde\r\n")
    assert first.result() == b"abcde"


def test_an_answer_of_another_kind_than_the_command_has() -> None:
    b = bench()
    replies = [b.submit(redis.hgetall("a")), b.submit(redis.get("b"))]
    connect(b)
    arrive(b, b":7\r\n+x\r\n")
    assert isinstance(replies[0].error, redis.BadReply)
    assert "HGETALL" in str(replies[0].error)
    assert replies[1].result() == b"x"


def test_the_answer_to_a_cancelled_unit_is_dropped() -> None:
    b = bench()
    replies = [b.submit(redis.pipeline(redis.get("a"), redis.get("b"))), b.submit(redis.get("c"))]
    connect(b)
    replies[0].cancel()
    arrive(b, b"+1\r\n")
    arrive(b, b"+2\r\n+3\r\n")
    assert replies[1].result() == b"3"


def test_a_wrong_password_is_told_once_not_once_per_unit() -> None:
    with structlog.testing.capture_logs() as logs:
        b = bench(Login("", "wrong"))
        replies = [b.submit(redis.get(f"{n}")) for n in range(50)]
        connect(b, b"-WRONGPASS invalid username-password pair\r\n")
    assert all(isinstance(reply.error, BackendDown) for reply in replies)
    assert "the user or the password is wrong" in str(replies[0].error)
    assert [entry["event"] for entry in logs] == ["cannot connect"]
    assert "WRONGPASS" in logs[0]["error"]


@pytest.mark.parametrize(
    ("said", "told"),
    [(b"HTTP/1.1 400 Bad Request\r\n", "not the Redis protocol"), (b"", "during the handshake")],
)
def test_a_server_that_is_no_redis(said: bytes, told: str) -> None:
    b = bench()
    reply = b.submit(redis.get("a"))
    b.accept()
    if said:
        arrive(b, said)
    else:
        b.end()
    assert isinstance(reply.error, BackendDown)
    assert told in str(reply.error)


def test_a_handshake_that_comes_in_pieces() -> None:
    b = bench()
    reply = b.submit(redis.get("a"))
    b.accept()
    for place in range(len(HELLO)):
        arrive(b, HELLO[place : place + 1])
    arrive(b, b"+x\r\n")
    assert reply.result() == b"x"
    connection = next(iter(b.pool.backends[0].all))
    assert repr(connection.wire) == "<RedisWire RESP3>"


def test_an_end_in_good_order_is_no_news() -> None:
    b = bench()
    b.submit(redis.get("a"))
    connect(b)
    arrive(b, b"+x\r\n")
    b.end()
    assert b.pool.statistics().connections == 0
    lost = b.submit(redis.incrby("a"))
    connect(b)
    b.end()
    assert isinstance(lost.error, ConnectionLost)


@pytest.mark.parametrize(
    ("url", "address", "login"),
    [
        ("redis://host", "host:6379", Login()),
        ("redis://:p%40ss@host:7/3", "host:7", Login("", "p@ss", 3)),
        ("redis://ada:secret@[::1]", "[::1]:6379", Login("ada", "secret")),
        ("unix:///run/redis.sock?db=2", "unix:/run/redis.sock", Login(database=2)),
    ],
)
def test_urls(url: str, address: str, login: Login) -> None:
    backend, parsed = parse_url(url)
    assert str(backend.address) == address
    assert parsed == login
    assert backend.tls is None


def test_a_server_that_takes_the_connection_and_says_nothing() -> None:
    pool = bench(connect_timeout=60)
    reply = pool.submit(redis.get("key"), timeout=1.0)
    pool.accept()
    pool.advance(1.01)
    assert isinstance(reply.error, DeadlineExceeded)
    assert reply.error.stage == "connecting"
    assert "does it want TLS" in str(reply.error)


def test_tls_by_the_scheme() -> None:
    assert parse_url("rediss://host")[0].tls is not None
    with pytest.raises(ValueError, match="rediss://"):
        redis.pool("redis://host", tls=ssl.create_default_context())


@pytest.mark.parametrize(
    "url",
    [
        "http://x",
        "redis://",
        "redis://x/abc",
        "redis://x?db=1",
        "unix://",
        "redis://:secret@x:99999",
        "redis://:[secret@x",
        "redis://x/0#secret",
        "localhost:6379",
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match="write redis://") as caught:
        redis.pool(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("option", ["transactions", "blocking", "reply_bytes"])
def test_options_that_cannot_be(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}=0; write 1 or more"):
        redis.pool("redis://127.0.0.1", **{option: 0})
