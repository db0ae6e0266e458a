"""All or nothing, also where MULTI is refused: by an ACL, one that changes meanwhile, or by a proxy."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import hiredis
import pytest
import redis as redis_py

from actors import Loop, Reply
from actors.testing import FakeSocket, ManualKernel, run_until
from pools import BackendDown, PoolError
from protocols import redis
from protocols.redis.codec import encode
from protocols.redis.transactions import TransactionUnit
from tests.redis_server import RedisServer

HELLO = b"%1\r\n+version\r\n+7.0.15\r\n"
MULTI, EXEC = encode("MULTI"), encode("EXEC")


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


@pytest.fixture
def other(redis_server: RedisServer) -> Iterator[redis_py.Redis]:
    """A client that may do everything, and makes the user `limited`."""
    client = redis_py.Redis(port=redis_server.port)
    client.flushall()
    client.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">secret", "~*", "+@all")
    yield client
    client.execute_command("ACL", "DELUSER", "limited")
    client.close()


@pytest.fixture
def limited(loop: Loop, redis_server: RedisServer, other: redis_py.Redis) -> redis.RedisPool:
    url = f"redis://limited:secret@127.0.0.1:{redis_server.port}"
    return loop.spawn(redis.pool(url, transactions=1))


def settled(reply: Reply[Any]) -> bool:
    return reply.settled


def allow(other: redis_py.Redis, *rules: str) -> None:
    other.execute_command("ACL", "SETUSER", "limited", *rules)


def test_a_user_that_may_not_say_multi_executes_nothing(
    loop: Loop, limited: redis.RedisPool, other: redis_py.Redis
) -> None:
    allow(other, "-multi")
    unit = redis.atomic(redis.set("a", 1), redis.incrby("a"))
    with pytest.raises(BackendDown, match=r"NOPERM.*MULTI is refused"):
        loop.run_until(limited.submit(unit, timeout=2))
    assert other.get("a") is None
    assert loop.run_until(limited.submit(redis.set("b", 1)))


@pytest.mark.parametrize("rule", ["-multi", "-exec", "-set", "-@all"])
def test_what_a_user_may_changes_under_an_open_connection(
    rule: str, loop: Loop, limited: redis.RedisPool, other: redis_py.Redis
) -> None:
    """The connection is the same, and has executed others before."""
    unit = redis.atomic(redis.set("a", 1), redis.incrby("n"))
    for count in (1, 2, 3):
        assert loop.run_until(limited.submit(unit)) == [True, count]
    other.delete("a", "n")
    allow(other, rule)
    told = []
    for _ in range(4):
        reply = limited.submit(unit, timeout=2)
        run_until(loop, partial(settled, reply))
        told.append(reply.error)
        done = other.get("a"), other.get("n")
        assert done in ((None, None), (b"1", b"1")), (done, told)
        assert (reply.error is None) == (done != (None, None)) or len(told) > 1
    assert all(isinstance(error, PoolError) for error in told[1:])
    assert other.get("n") in (None, b"1")
    allow(other, "+@all")

    def again() -> bool:
        reply = limited.submit(unit, timeout=2)
        run_until(loop, lambda: reply.settled)
        return reply.error is None

    run_until(loop, again)


def test_a_transaction_whose_multi_is_refused(
    loop: Loop, limited: redis.RedisPool, other: redis_py.Redis
) -> None:
    @redis.transaction
    async def double(tx: redis.Transaction, key: str) -> int:
        await tx.watch(key)
        value = int(await tx.submit(redis.get(key)) or 1)
        tx.queue(redis.set(key, 2 * value))
        tx.queue(redis.set("done", 1))
        return 2 * value

    assert loop.run_until(limited.submit(double("n"))) == 2
    other.delete("done")
    allow(other, "-multi")
    with pytest.raises(redis.RedisError, match="NOPERM"):
        loop.run_until(limited.submit(double("n")))
    assert (other.get("n"), other.get("done")) == (b"2", None)
    allow(other, "+multi")
    assert loop.run_until(limited.submit(double("n"))) == 4


def test_one_round_trip_each_on_connections_of_their_own(
    loop: Loop, limited: redis.RedisPool, other: redis_py.Redis
) -> None:
    replies = [limited.submit(redis.atomic(redis.incrby("n"), redis.get("n"))) for _ in range(50)]
    assert [loop.run_until(reply) for reply in replies] == [[n, b"%d" % n] for n in range(1, 51)]
    assert limited.lane("atomic").statistics().succeeded == 50
    assert limited.statistics().succeeded == 0


def test_an_atomic_that_was_cancelled_leaves_the_connection_fit(
    loop: Loop, limited: redis.RedisPool, other: redis_py.Redis
) -> None:
    for count in range(1, 6):
        first = limited.submit(redis.atomic(redis.incrby("n")))
        if count > 1:
            loop.tick(0)
        first.cancel()
        assert len(loop.run_until(limited.submit(redis.atomic(redis.incrby("m"), redis.get("m"))))) == 2
    assert other.get("m") == b"5"


# -- on a kernel without sockets -----------------------------------------------------------------------------


class Fake:
    """A server that the test plays: `answers` by command, OK else. `heard`: what each connection was sent."""

    def __init__(self, **answers: bytes) -> None:
        self.answers = answers
        self.kernel = ManualKernel()
        self.loop = Loop(kernel=self.kernel)
        self.heard: dict[FakeSocket, list[str]] = {}
        self.pool: redis.RedisPool = self.loop.spawn(redis.pool("redis://10.0.0.1", transactions=1))
        self._readers: dict[FakeSocket, hiredis.Reader] = {}

    def run(self) -> None:
        for _ in range(20):
            self.loop.tick(0)
            for sock in self.kernel.sockets:
                if not sock.closed:
                    self._play(sock)

    def _play(self, sock: FakeSocket) -> None:
        if sock not in self.heard:
            sock.accept_connection()
            self.heard[sock] = []
            self._readers[sock] = hiredis.Reader(notEnoughData=None)
        reader = self._readers[sock]
        reader.feed(sock.delivered())
        while (command := reader.gets()) is not None:
            name = command[0].decode()
            self.heard[sock].append(name)
            sock.arrive(HELLO if name == "HELLO" else self.answers.get(name, b"+OK\r\n"))

    @property
    def all_heard(self) -> list[list[str]]:
        return list(self.heard.values())


@pytest.mark.parametrize("refusal", [b"-NOPERM no multi\r\n", b"-ERR unknown command\r\n", b"+QUEUED\r\n"])
def test_a_proxy_that_refuses_multi_never_sees_the_body(refusal: bytes) -> None:
    fake = Fake(MULTI=refusal)
    reply = fake.pool.submit(redis.atomic(redis.set("a", 1)), timeout=1)
    fake.run()
    assert fake.all_heard == [["HELLO", "MULTI"]]
    assert isinstance(reply.error, BackendDown)
    assert "MULTI is refused" in str(reply.error)


def test_a_refusal_that_comes_later_ends_the_connection_and_not_the_answer() -> None:
    fake = Fake(SET=b"+QUEUED\r\n", EXEC=b"*1\r\n+OK\r\n")
    unit = redis.atomic(redis.set("a", 1))
    first = fake.pool.submit(unit)
    fake.run()
    assert first.result() == [True]
    second = fake.pool.submit(unit)
    third = fake.pool.submit(unit)
    fake.answers["MULTI"] = b"-NOPERM no multi\r\n"
    fake.run()
    assert second.result() == [True]  # its own MULTI was accepted
    assert isinstance(third.error, BackendDown)
    assert fake.all_heard == [
        ["HELLO", "MULTI", "SET", "EXEC", "MULTI", "SET", "EXEC", "MULTI"],
        ["HELLO", "MULTI"],
    ]


def test_a_proxy_that_only_says_that_it_queues_is_told_from_one_that_does() -> None:
    fake = Fake(EXEC=b"*1\r\n+OK\r\n")
    reply = fake.pool.submit(redis.atomic(redis.set("a", 1)))
    fake.run()
    assert isinstance(reply.error, redis.BadReply)
    assert "not queued" in str(reply.error)


def test_what_goes_over_the_wire() -> None:
    unit = redis.atomic(redis.set("a", 1), redis.get("a"))
    assert unit.data == encode("SET", "a", 1) + encode("GET", "a") + EXEC + MULTI
    assert isinstance(unit.asking(), TransactionUnit)
