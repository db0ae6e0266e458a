"""The pool over real sockets: TCP and Unix, a server in the same loop that answers, delays, closes, dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pools
from actors import ANYTHING, Continue, Listener, Loop, Outcome, Stop, StreamProtocol, Transport
from pools import BackendDown, ConnectionLost, RetryBudget
from pools.testing import Ask, LineWire


class EchoServer(StreamProtocol):
    """Echoes lines; closes the connection instead of answering every `drop`."""

    def received(self, transport: Transport) -> Outcome:
        *lines, rest = bytes(transport.input).split(b"\n")
        transport.input = rest
        for line in lines:
            if line.startswith(b"drop"):
                return Stop(ConnectionResetError("told to"))
            transport.write(line + b"\n")
        return Continue(self, None if rest else ANYTHING)


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


@pytest.mark.parametrize("pipeline", [1, 16])
def test_a_thousand_units_each_get_their_own_answer(loop: Loop, pipeline: int) -> None:
    listener = loop.spawn(Listener("127.0.0.1:0", EchoServer))
    pool = loop.spawn(pools.pool(LineWire, [listener.address], connections=4, pipeline=pipeline))
    replies = [pool.submit(Ask(f"{n}")) for n in range(1000)]
    assert [loop.run_until(reply) for reply in replies] == [f"{n}".encode() for n in range(1000)]
    assert pool.statistics().connections == 4


def test_over_a_unix_socket(loop: Loop, tmp_path: Path) -> None:
    listener = loop.spawn(Listener(f"unix:{tmp_path}/line.sock", EchoServer))
    pool = loop.spawn(pools.pool(LineWire, [listener.address]))
    assert loop.run_until(pool.submit(Ask("hello"))) == b"hello"


def test_a_name_is_resolved(loop: Loop) -> None:
    listener = loop.spawn(Listener("127.0.0.1:0", EchoServer))
    pool = loop.spawn(pools.pool(LineWire, [f"localhost:{listener.address.port}"]))
    assert loop.run_until(pool.submit(Ask("hello"))) == b"hello"


def test_nobody_listens(loop: Loop, free_port: Callable[[], int]) -> None:
    pool = loop.spawn(pools.pool(LineWire, [f"127.0.0.1:{free_port()}"]))
    with pytest.raises(BackendDown, match="refused"):
        loop.run_until(pool.submit(Ask("hello")))


def test_connections_that_die_all_the_time(loop: Loop) -> None:
    listener = loop.spawn(Listener("127.0.0.1:0", EchoServer))
    pool = loop.spawn(
        pools.pool(
            LineWire, [listener.address], connections=3, pipeline=4, attempts=50, budget=RetryBudget(1, 1000)
        )
    )
    replies = []
    for n in range(400):
        if n % 40 == 7:
            dropped = pool.submit(Ask(f"drop {n}"))
            replies.append((dropped, None))
        replies.append((pool.submit(Ask(f"{n}", idempotent=True)), f"{n}".encode()))
        loop.tick(0)
    for reply, expected in replies:
        while not reply.settled:
            loop.tick()
        if expected is None:
            assert isinstance(reply.error, ConnectionLost)
        else:
            assert reply.result() == expected
    now = pool.statistics()
    assert now.failed == {"ConnectionLost": 10}
    assert now.submitted == now.succeeded + 10
    assert now.backends[0].idle == now.connections


def test_a_pool_drains_over_real_sockets(loop: Loop) -> None:
    listener = loop.spawn(Listener("127.0.0.1:0", EchoServer))
    pool = loop.spawn(pools.pool(LineWire, [listener.address]))
    replies = [pool.submit(Ask(f"{n}")) for n in range(20)]
    pool.drain()
    while loop.alive(pool.token):
        loop.tick()
    assert [reply.result() for reply in replies] == [f"{n}".encode() for n in range(20)]
