"""What is about the server and not about the command; and what a suspect connection is asked."""

from __future__ import annotations

import pytest

from pools import DeadlineExceeded
from pools.testing import Bench
from protocols import redis
from protocols.redis.codec import REPLY_BYTES_MAX, encode
from protocols.redis.handshake import Login
from protocols.redis.wire import RedisWire

HELLO = b"%1\r\n+version\r\n+7.0.15\r\n"
SET = encode("SET", "k", "v")


class Clustered(RedisWire):
    clustered = True


def connected(connections: int = 1, wire: type[RedisWire] = RedisWire) -> Bench:
    """All connections have been idle for a minute."""
    bench = Bench(
        lambda: wire(Login(), REPLY_BYTES_MAX),
        connections=connections,
        pipeline=8,
        warm=connections,
    )
    connect(bench, range(connections))
    assert bench.pool.statistics().backends[0].idle == connections
    bench.advance(60.0)
    return bench


def connect(bench: Bench, indices: range) -> None:
    bench.accept()
    for index in indices:
        bench.sockets[index].delivered()
        arrive(bench, HELLO, index)


def arrive(bench: Bench, data: bytes, index: int) -> None:
    bench.sockets[index].arrive(data)
    bench.run()


@pytest.mark.parametrize(
    "error",
    [
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
    ],
)
def test_a_server_that_is_not_the_one_is_left_and_the_command_sent_again(error: bytes) -> None:
    bench = connected(3)
    reply = bench.submit(redis.set("k", "v"))
    bench.run()
    index = next(n for n, sock in enumerate(bench.sockets) if sock.delivered() == SET)
    arrive(bench, error, index)
    assert all(sock.closed for sock in bench.sockets[:3])
    connect(bench, range(3, 6))
    index = next(n for n in range(3, 6) if bench.sockets[n].delivered() == SET)
    arrive(bench, b"+OK\r\n", index)
    assert reply.result() is True
    assert bench.add_up()


def test_the_new_connection_may_lead_to_the_same_server() -> None:
    bench = connected()
    reply = bench.submit(redis.set("k", "v"))
    bench.run()
    arrive(bench, b"-READONLY no\r\n", 0)
    bench.accept()
    arrive(bench, HELLO, 1)
    arrive(bench, b"-READONLY no\r\n", 1)
    assert isinstance(reply.error, redis.RedisError)
    assert reply.error.code == "READONLY"
    assert bench.pool.statistics().connections == 1


def test_who_waits_at_a_server_that_becomes_a_replica_waits_at_the_next_one() -> None:
    bench = connected()
    waiting = bench.submit(redis.blpop("q"))
    bench.run()
    bench.sockets[0].delivered()
    state = (
        b"-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n"
    )
    arrive(bench, state, 0)
    bench.sockets[0].end()
    connect(bench, range(1, 2))
    assert bench.sockets[1].delivered() == encode("BLPOP", "q", 0)
    arrive(bench, b"*2\r\n$1\r\nq\r\n$1\r\nx\r\n", 1)
    assert waiting.result() == (b"q", b"x")
    assert bench.add_up()


def test_who_is_unblocked_by_somebody_is_told() -> None:
    bench = connected()
    waiting = bench.submit(redis.blpop("q"))
    bench.run()
    arrive(bench, b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n", 0)
    assert isinstance(waiting.error, redis.RedisError)
    assert not bench.sockets[0].closed


def test_another_error_is_the_commands_own() -> None:
    bench = connected()
    reply = bench.submit(redis.set("k", "v"))
    bench.run()
    arrive(bench, b"-WRONGTYPE no\r\n", 0)
    assert isinstance(reply.error, redis.RedisError)
    assert not bench.sockets[0].closed


def test_in_a_cluster_the_router_knows_better() -> None:
    bench = connected(wire=Clustered)
    reply = bench.submit(redis.set("k", "v"))
    bench.run()
    arrive(bench, b"-READONLY no\r\n", 0)
    assert isinstance(reply.error, redis.RedisError)
    assert not bench.sockets[0].closed


def test_of_several_commands_some_may_have_been_executed() -> None:
    bench = connected(2)
    reply = bench.submit(redis.pipeline(redis.get("k"), redis.set("k", "v")))
    bench.run()
    index = next(n for n, sock in enumerate(bench.sockets) if sock.delivered())
    arrive(bench, b"$1\r\nv\r\n-READONLY no\r\n", index)
    assert reply.settled
    assert all(sock.closed for sock in bench.sockets[:2])


def test_suspects_are_asked_by_ping() -> None:
    bench = connected(3)
    first = bench.submit(redis.get("k"), timeout=1.0)
    bench.run()
    index = next(n for n, sock in enumerate(bench.sockets) if sock.delivered())
    bench.advance(1.01)
    assert isinstance(first.error, DeadlineExceeded)
    for n in range(3):
        if n != index:
            assert bench.sockets[n].delivered() == encode("PING")
            arrive(bench, b"+PONG\r\n", n)
    now = bench.pool.statistics()
    assert (now.backends[0].idle, now.orphans) == (2, 0)
