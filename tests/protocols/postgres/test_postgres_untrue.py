"""A statement that was refused as untrue is described anew, wherever it is sent next."""

from __future__ import annotations

import pytest

from pools.testing import Bench
from protocols import postgres
from protocols.postgres import messages
from protocols.postgres.startup.handshake import Settings
from protocols.postgres.statements import Statements
from protocols.postgres.wire import PostgresWire
from tests.protocols.postgres.played import DESCRIBED, READY, UNIT, WELCOME, answer

CONNECTIONS = 3
STALE = messages.message(b"E", b"SERROR\0VERROR\0C0A000\0Mno\0RRevalidateCachedQuery\0\0")
GONE = messages.message(b"E", b"SERROR\0VERROR\0C26000\0Mno\0\0")
TEXT = b"select $1::int"  # Parse tells it, Bind does not


@pytest.fixture
def bench() -> Bench:
    """Three connections, all of which know the statement."""
    settings = Settings("me", None, "db", {}, {}, None, "localhost")
    shared = Statements(8)
    bench = Bench(
        lambda: PostgresWire(settings, shared, 1 << 20),
        ("192.0.2.7:5432",),
        connections=CONNECTIONS,
        pipeline=2,
    )
    replies = [bench.submit(UNIT) for _ in range(CONNECTIONS)]
    bench.accept()
    for said in (WELCOME, DESCRIBED, answer(5)):
        for sock in bench.sockets:
            sock.arrive(said)
        bench.run()
    assert [reply.result() for reply in replies] == [[(5,)]] * CONNECTIONS
    for sock in bench.sockets:
        sock.delivered()
    return bench


@pytest.mark.parametrize("error", [STALE, GONE], ids=["another result", "not there"])
def test_what_one_connection_has_refused_is_described_anew_by_the_next(bench: Bench, error: bytes) -> None:
    replies = [bench.submit(UNIT) for _ in range(CONNECTIONS)]
    bench.run()
    others = [bench.submit(postgres.query(f"select {number}, $1::int", 5)) for number in range(CONNECTIONS)]
    bench.run()
    first, second, third = bench.sockets
    for sock in bench.sockets:
        assert TEXT not in sock.delivered()
    for said in (answer(5), DESCRIBED, answer(7)):  # the second answers both of its units, and is idle
        second.arrive(said)
        bench.run()
    second.delivered()
    first.arrive(error + READY)  # and is busy with another
    bench.run()
    assert TEXT in second.delivered()
    for said in (DESCRIBED, answer(5)):
        second.arrive(said)
        bench.run()
    third.arrive(answer(5))
    bench.run()
    assert [reply.result() for reply in replies] == [[(5,)]] * CONNECTIONS
    for reply in others:
        reply.cancel()
    assert bench.add_up()
