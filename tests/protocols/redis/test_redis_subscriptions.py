"""Pub/sub against a real redis-server, and against peers that cut, fall silent or are no Redis server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis as redis_py
import structlog

from actors import (
    ANYTHING,
    Backoff,
    Cancelled,
    ChannelClosed,
    Continue,
    DeadlineExceeded,
    Listener,
    Loop,
    Outcome,
    Stop,
    StreamProtocol,
    Transport,
)
from actors.testing import run_until
from pools import PoolClosed
from protocols import redis
from tests.redis_server import RedisServer

SOON = Backoff(0.001, 0.01)


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


@pytest.fixture
def other(redis_server: RedisServer) -> Iterator[redis_py.Redis]:
    client = redis_py.Redis(port=redis_server.port)
    yield client
    client.close()


def receive(loop: Loop, news: redis.Subscription, count: int = 1) -> list[redis.Message]:
    async def some() -> list[redis.Message]:
        return [await news.receive() for _ in range(count)]

    return loop.run_until(loop.spawn(some()))


def test_messages_come_by_channel_and_by_pattern(loop: Loop, redis_server: RedisServer, other: Any) -> None:
    news = loop.spawn(redis.subscribe(redis_server.url, "news", "more", patterns=["user.*"]))
    loop.run_until(news.subscribed)
    assert other.publish("news", "hello") == 1
    other.publish("user.7", b"\xff")
    other.publish("else", "not for us")
    other.publish("more", "bye")
    assert receive(loop, news, 3) == [
        redis.Message(b"news", b"hello"),
        redis.Message(b"user.7", b"\xff", b"user.*"),
        redis.Message(b"more", b"bye"),
    ]
    assert "0 gaps" in repr(news)


def test_what_is_subscribed_to_changes(loop: Loop, redis_server: RedisServer, other: Any) -> None:
    news = loop.spawn(redis.subscribe(redis_server.url, "one", backoff=SOON, name="changing"))
    early = news.subscribe("two", patterns=["p*"])  # there is no connection yet
    loop.run_until(early)
    assert news.subscribed.settled
    loop.run_until(news.unsubscribe("one"))
    loop.run_until(news.subscribe("three", b"four", memoryview(b"five"), 6))
    assert other.publish("one", "not for us") == 0
    for channel in ("two", "three", "four", "five", "6", "px"):
        assert other.publish(channel, "x") == 1
    assert {message.channel for message in receive(loop, news, 6)} == {
        b"two",
        b"three",
        b"four",
        b"five",
        b"6",
        b"px",
    }
    with structlog.testing.capture_logs():
        (client,) = [entry for entry in other.client_list() if entry["name"] == "changing"]
        other.client_kill_filter(_id=client["id"])
        run_until(loop, lambda: news.gaps == 1)
        meanwhile = news.unsubscribe("two", patterns=["p*"])
        loop.run_until(meanwhile)
    assert [other.publish(channel, "y") for channel in ("one", "two", "px", "three")] == [0, 0, 0, 1]
    loop.run_until(news.unsubscribe("three", "four", "five", "6"))
    with structlog.testing.capture_logs():
        (client,) = [entry for entry in other.client_list() if entry["name"] == "changing"]
        other.client_kill_filter(_id=client["id"])
        run_until(loop, lambda: news.gaps == 2)
        loop.run_until(news.subscribe("last"))
    assert other.publish("last", "z") == 1
    news.cancel()
    run_until(loop, lambda: loop.machines == 0)
    with pytest.raises(PoolClosed):
        news.subscribe("more").result()
    with pytest.raises(ValueError, match="nothing is named"):
        news.unsubscribe()


def test_from_threads(redis_server: RedisServer, other: Any) -> None:
    async def changed(news: redis.Subscription) -> None:
        await news.subscribed
        await news.subscribe("second")

    with Loop.in_thread() as loop:
        news = loop.spawn(redis.subscribe(redis_server.url, "first"))
        loop.spawn(changed(news)).result(timeout=5)
        for number, channel in enumerate(("first", "second", "first")):
            assert other.publish(channel, number) == 1
            got = loop.spawn(news.receive()).result(timeout=5)
            assert got == redis.Message(channel.encode(), b"%d" % number)
        impatient = loop.spawn(news.receive())
        with pytest.raises(DeadlineExceeded):
            impatient.result(timeout=0.001)
        impatient.cancel()
        with pytest.raises(Cancelled):
            impatient.result(timeout=5)
        other.publish("first", "kept")
        assert loop.spawn(news.receive()).result(timeout=5).data == b"kept"
        loop.call(news.cancel).result(timeout=5)


def test_a_change_that_is_refused_is_left_out(loop: Loop, redis_server: RedisServer, other: Any) -> None:
    other.acl_setuser("reader", enabled=True, nopass=True, channels=["mine*"], commands=["+@all"], keys=["*"])
    news = loop.spawn(
        redis.subscribe(redis_server.url, "mine", username="reader", password="x", backoff=SOON)
    )
    loop.run_until(news.subscribed)
    with structlog.testing.capture_logs():
        refused, allowed = news.subscribe("others"), news.subscribe("mine too")
        with pytest.raises(redis.RedisError, match="NOPERM"):
            loop.run_until(refused)
        loop.run_until(allowed)
    assert [other.publish(channel, "x") for channel in ("mine", "others", "mine too")] == [1, 0, 1]
    assert news.gaps == 1
    news.cancel()
    other.acl_deluser("reader")


def test_a_change_that_is_never_confirmed_settles(loop: Loop) -> None:
    url, _ = peer(loop, HELLO, SUBSCRIBED)
    news = loop.spawn(redis.subscribe(url, "x"))
    before = news.subscribe("y")
    loop.run_until(news.subscribed)
    after = news.subscribe("z")
    news.cancel()
    run_until(loop, lambda: before.settled and after.settled)
    assert isinstance(before.error, PoolClosed)


def test_the_next_of_several_servers_is_tried(
    loop: Loop, redis_server: RedisServer, other: Any, free_port: Callable[[], int]
) -> None:
    urls = [f"redis://127.0.0.1:{free_port()}", redis_server.url]
    with structlog.testing.capture_logs():
        news = loop.spawn(redis.subscribe(urls, "x", backoff=SOON))
        loop.run_until(news.subscribed)
    assert str(redis_server.port) in repr(news)
    assert other.publish("x", "y") == 1
    news.cancel()
    with pytest.raises(ValueError, match="no server"):
        redis.subscribe([], "x")


def test_it_is_iterated_over_until_cancelled(loop: Loop, redis_server: RedisServer, other: Any) -> None:
    news = loop.spawn(redis.subscribe(redis_server.url, "iterated"))

    async def read() -> list[bytes]:
        await news.subscribed
        got = []
        async for message in news:
            got.append(message.data)
            if message.data == b"2":
                break
        return got

    reading = loop.spawn(read())
    loop.run_until(news.subscribed)
    for n in range(3):
        other.publish("iterated", n)
    assert loop.run_until(reading) == [b"0", b"1", b"2"]
    news.cancel()
    run_until(loop, lambda: other.publish("iterated", "x") == 0)
    assert loop.machines == 0
    with pytest.raises(ChannelClosed):
        receive(loop, news)


def test_it_subscribes_again_after_a_reconnect(loop: Loop, redis_server: RedisServer, other: Any) -> None:
    news = loop.spawn(redis.subscribe(redis_server.url, "again", backoff=SOON, name="subscriber"))
    loop.run_until(news.subscribed)
    with structlog.testing.capture_logs() as logs:
        for turn in range(3):
            (client,) = [entry for entry in other.client_list() if entry["name"] == "subscriber"]
            other.client_kill_filter(_id=client["id"])
            run_until(loop, lambda turn=turn: news.gaps == turn + 1)
            run_until(loop, lambda turn=turn: other.publish("again", turn) == 1)
            assert receive(loop, news) == [redis.Message(b"again", str(turn).encode())]
    assert {entry["event"] for entry in logs} == {"subscription lost", "subscribed again"}
    news.cancel()


def test_a_slow_reader_slows_the_connection_and_loses_nothing(
    loop: Loop, redis_server: RedisServer, other: Any
) -> None:
    news = loop.spawn(redis.subscribe(redis_server.url, "slow", capacity=2, ping=0.01))
    loop.run_until(news.subscribed)
    for n in range(100):
        other.publish("slow", n)
    run_until(loop, lambda: len(news.messages) == 2)
    with structlog.testing.capture_logs() as logs, pytest.raises(AssertionError, match="not come true"):
        run_until(loop, lambda: news.gaps, seconds=0.05)  # it does not ask for what it would not read
    assert logs == []
    assert [message.data for message in receive(loop, news, 100)] == [b"%d" % n for n in range(100)]


def test_a_wrong_password_ends_it_with_what_to_do(loop: Loop, redis_server: RedisServer) -> None:
    with structlog.testing.capture_logs() as logs:
        news = loop.spawn(redis.subscribe(redis_server.url, "x", username="nobody", password="wrong"))
        with pytest.raises(redis.RedisError, match="password is wrong"):
            loop.run_until(news.subscribed)
    with pytest.raises(redis.RedisError, match="password is wrong"):
        receive(loop, news)
    run_until(loop, lambda: loop.machines == 0)
    assert [entry["event"] for entry in logs] == ["subscription lost"]
    assert "wrong@" not in repr(news)


def test_a_draining_loop_ends_it(loop: Loop, redis_server: RedisServer) -> None:
    news = loop.spawn(redis.subscribe(redis_server.url, "x"))
    loop.drain(5.0)
    loop.run(signals=False)
    with pytest.raises(PoolClosed):
        news.subscribed.result()


def test_there_is_something_to_subscribe_to() -> None:
    with pytest.raises(ValueError, match="name a channel"):
        redis.subscribe("redis://host")


class Peer(StreamProtocol):
    """Says what it is told to, line by line of what comes in; then nothing, or the end."""

    script: list[bytes]
    heard: list[bytes]
    ends = False

    def received(self, transport: Transport) -> Outcome:
        self.heard.append(transport.take(1 << 16))
        if not self.script:
            return Stop() if self.ends else Continue(self, ANYTHING)
        transport.write(self.script.pop(0))
        return Continue(self, ANYTHING)


def peer(loop: Loop, *script: bytes, ends: bool = False) -> tuple[str, type[Peer]]:
    kind = type("Kind", (Peer,), {"script": list(script), "heard": [], "ends": ends})
    listener = loop.spawn(Listener("127.0.0.1:0", kind))
    return f"redis://{listener.address}", kind


HELLO = b"%1\r\n+version\r\n+7\r\n"
SUBSCRIBED = b">3\r\n+subscribe\r\n+x\r\n:1\r\n"


def test_resp2_serves_as_well(loop: Loop) -> None:
    old = b"-ERR unknown command 'HELLO'\r\n"
    message = b"*3\r\n+message\r\n+x\r\n+data\r\n"
    url, _ = peer(loop, old, b"+PONG\r\n", b"*3\r\n+subscribe\r\n+x\r\n:1\r\n" + message)
    news = loop.spawn(redis.subscribe(url, "x"))
    assert receive(loop, news) == [redis.Message(b"x", b"data")]


def test_silence_is_asked_about_and_then_given_up(loop: Loop) -> None:
    url, kind = peer(loop, HELLO, SUBSCRIBED, b"+PONG\r\n")
    news = loop.spawn(redis.subscribe(url, "x", ping=0.01, backoff=SOON))
    with structlog.testing.capture_logs() as logs:
        run_until(loop, lambda: news.gaps == 1)
        run_until(loop, lambda: logs)
    assert kind.heard.count(b"*1\r\n$4\r\nPING\r\n") >= 2
    assert "has not answered a PING" in logs[0]["error"]


@pytest.mark.parametrize(
    ("script", "ends", "error", "told"),
    [
        ([b"HTTP/1.1 400\r\n"], False, redis.BadReply, "not the Redis protocol"),
        ([], True, redis.BadReply, "is it a Redis server"),
        ([HELLO, b"-NOPERM no\r\n"], False, redis.RedisError, "NOPERM"),
    ],
)
def test_a_peer_that_refuses(
    loop: Loop, script: list[bytes], ends: bool, error: type[Exception], told: str
) -> None:
    url, _ = peer(loop, *script, ends=ends)
    with structlog.testing.capture_logs():
        news = loop.spawn(redis.subscribe(url, "x"))
        with pytest.raises(error, match=told):
            loop.run_until(news.subscribed)


def test_garbage_later_is_a_gap(loop: Loop) -> None:
    url, _ = peer(loop, HELLO, SUBSCRIBED + b"garbage\r\n", HELLO, SUBSCRIBED)
    with structlog.testing.capture_logs():
        news = loop.spawn(redis.subscribe(url, "x", backoff=SOON))
        run_until(loop, lambda: news.gaps == 1)


def test_garbage_behind_a_full_channel_is_a_gap(loop: Loop) -> None:
    message = b">3\r\n+message\r\n+x\r\n+data\r\n"
    url, _ = peer(loop, HELLO, SUBSCRIBED + message + b"garbage\r\n")
    with structlog.testing.capture_logs():
        news = loop.spawn(redis.subscribe(url, "x", backoff=SOON, capacity=1))
        run_until(loop, lambda: len(news.messages) == 1)
        assert receive(loop, news) == [redis.Message(b"x", b"data")]
        run_until(loop, lambda: news.gaps == 1)


def test_nobody_listens_at_first(loop: Loop, free_port: Callable[[], int]) -> None:
    port = free_port()
    news = loop.spawn(redis.subscribe(f"redis://127.0.0.1:{port}", "x", backoff=SOON))
    with structlog.testing.capture_logs() as logs:
        run_until(loop, lambda: len(logs) >= 1)
        assert "refused" in logs[0]["error"]
        kind = type("Kind", (Peer,), {"script": [HELLO, SUBSCRIBED], "heard": []})
        loop.spawn(Listener(f"127.0.0.1:{port}", kind))
        loop.run_until(news.subscribed)
    assert news.gaps == 0
