"""The wire under the kit: stopped after each byte of the answers, and something happens there."""

from __future__ import annotations

import pytest

from pools.testing.conformance import Exchange, check_wire
from protocols import redis
from protocols.redis.codec import REPLY_BYTES_MAX, encode
from protocols.redis.handshake import Login
from protocols.redis.units import Command
from protocols.redis.wire import RedisWire

HELLO = {encode("HELLO", 3): b"%1\r\n+version\r\n+7.0.15\r\n"}
OLD = {encode("HELLO", 3): b"-ERR unknown command\r\n", encode("PING"): b"+PONG\r\n"}


def wire() -> RedisWire:
    return RedisWire(Login(), REPLY_BYTES_MAX)


def exchange(unit: Command[object], answer: bytes, value: object) -> Exchange:
    return unit, unit.data, answer, value


EXCHANGES = [
    exchange(redis.get("a"), b"$1\r\nx\r\n", b"x"),
    exchange(redis.incrby("n", 1), b":3\r\n", 3),
    exchange(redis.get("l"), b"-WRONGTYPE no\r\n", redis.RedisError),
    exchange(redis.hgetall("h"), b"*2\r\n+f\r\n$2\r\nxy\r\n", {b"f": b"xy"}),
    exchange(redis.pipeline(redis.get("p"), redis.get("q")), b"$-1\r\n$3\r\nabc\r\n", [None, b"abc"]),
]


@pytest.mark.no_cover
@pytest.mark.parametrize("server", [HELLO, OLD], ids=["RESP3", "RESP2"])
@pytest.mark.parametrize("pipeline", [5, 1])
def test_answers_however_they_come_and_whatever_happens(server: dict[bytes, bytes], pipeline: int) -> None:
    tally = check_wire(
        wire, EXCHANGES, script=[*server.items(), (encode("PING"), b"+PONG\r\n")], pipeline=pipeline
    )
    assert tally["cut"] > 70
