"""Scripts on a kernel without sockets: one unit, whether the server knows the script or not."""

from __future__ import annotations

import pytest

from actors import Cancelled
from pools import DeadlineExceeded
from pools.testing import Account, Bench
from protocols import redis
from protocols.redis.codec import REPLY_BYTES_MAX, encode
from protocols.redis.handshake import Login
from protocols.redis.wire import RedisWire

SOURCE = "return redis.call('GET', KEYS[1])"
GET = redis.script(SOURCE)
UNIT = GET(["a"])
BY_DIGEST = UNIT.data
BY_SOURCE = encode("EVAL", SOURCE, 1, "a")
UNKNOWN = b"-NOSCRIPT No matching script. Please use EVAL.\r\n"


@pytest.fixture
def bench() -> Bench:
    """A connection that is ready, and at most four units that wait."""
    bench = Bench(lambda: RedisWire(Login(), REPLY_BYTES_MAX), pipeline=2, connections=1, warm=1, queue=4)
    bench.accept()
    bench.sockets[-1].delivered()
    arrive(bench, b"%1\r\n+version\r\n+7.0.15\r\n")
    return bench


def arrive(bench: Bench, data: bytes) -> None:
    bench.sockets[-1].arrive(data)
    bench.run()


def sent(bench: Bench) -> bytes:
    bench.run()
    return bench.sockets[-1].delivered()


def test_a_script_that_the_server_does_not_know_is_one_unit(bench: Bench) -> None:
    asks = Account(bench.pool)
    reply = asks.submit(UNIT)
    assert sent(bench) == BY_DIGEST
    arrive(bench, UNKNOWN)
    assert not reply.settled
    assert bench.pool.statistics().submitted == 1
    assert sent(bench) == BY_SOURCE
    arrive(bench, b"$1\r\nx\r\n")
    assert reply.result() == b"x"
    asks.check()
    assert bench.add_up()


def test_it_is_sent_again_although_the_pool_drains(bench: Bench) -> None:
    reply = bench.submit(UNIT)
    sent(bench)
    bench.pool.drain()
    arrive(bench, UNKNOWN)
    assert sent(bench) == BY_SOURCE
    arrive(bench, b"$1\r\nx\r\n")
    assert reply.result() == b"x"


def test_it_is_sent_again_although_the_queue_is_full(bench: Bench) -> None:
    reply = bench.submit(UNIT)
    others = [bench.submit(redis.get("b")) for _ in range(4)]
    sent(bench)
    others += [bench.submit(redis.get("b")) for _ in range(4)]
    bench.run()
    arrive(bench, UNKNOWN)
    assert sent(bench) == BY_SOURCE  # before those that came later
    arrive(bench, b"$1\r\ny\r\n$1\r\nx\r\n")
    assert reply.result() == b"x"
    assert bench.add_up()


def test_it_is_not_sent_again_if_nobody_waits(bench: Bench) -> None:
    reply = bench.submit(UNIT)
    sent(bench)
    reply.cancel()
    assert isinstance(reply.error, Cancelled)
    arrive(bench, UNKNOWN)
    assert sent(bench) == b""
    assert bench.add_up()


def test_its_deadline_counts_both_times(bench: Bench) -> None:
    reply = bench.submit(UNIT, timeout=3)
    sent(bench)
    bench.advance(2)
    arrive(bench, UNKNOWN)
    assert sent(bench) == BY_SOURCE
    bench.advance(2)
    assert isinstance(reply.error, DeadlineExceeded)
    assert bench.add_up()


def test_what_the_script_itself_says_is_its_answer(bench: Bench) -> None:
    reply = bench.submit(UNIT)
    sent(bench)
    arrive(bench, UNKNOWN)
    assert sent(bench) == BY_SOURCE
    arrive(bench, UNKNOWN)
    assert isinstance(reply.error, redis.RedisError)
    assert reply.error.code == "NOSCRIPT"
    assert sent(bench) == b""


@pytest.mark.parametrize("idempotent", [True, False])
def test_what_was_lost_is_sent_again_if_that_does_no_harm(bench: Bench, idempotent: bool) -> None:
    reply = bench.submit(redis.script(SOURCE, idempotent=idempotent)(["a"]))
    sent(bench)
    arrive(bench, UNKNOWN)
    sent(bench)
    bench.reset()
    bench.accept()
    bench.sockets[-1].delivered()
    arrive(bench, b"%1\r\n+version\r\n+7.0.15\r\n")
    assert sent(bench) == (BY_SOURCE if idempotent else b"")
    assert reply.settled != idempotent
