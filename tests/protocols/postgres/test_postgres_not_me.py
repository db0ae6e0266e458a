"""A server that has become a standby, and what a suspect connection is asked."""

from __future__ import annotations

from pools import DeadlineExceeded
from pools.testing import Bench
from protocols import postgres
from protocols.postgres import messages
from protocols.postgres.startup.handshake import Settings
from protocols.postgres.statements import Statements
from protocols.postgres.wire import PostgresWire
from tests.protocols.postgres.played import DESCRIBED, READY, UNIT, WELCOME, Played, answer, error, m

EMPTY = messages.simple_query("")


def test_a_standby_is_left_and_the_statement_sent_again() -> None:
    bench = Played().ready()
    bench.advance(60.0)
    reply = bench.submit(UNIT)
    bench.run()
    bench.say(error("25006") + READY)
    assert bench.sockets[0].closed
    bench.accept()
    bench.say(WELCOME)
    bench.say(answer(7, introduced=True))
    assert reply.result() == [(7,)]
    assert bench.add_up()


def test_where_it_is_the_same_server_the_statement_fails() -> None:
    bench = Played().ready()
    bench.advance(60.0)
    reply = bench.submit(UNIT)
    bench.run()
    bench.say(error("25006") + READY)
    bench.accept()
    bench.say(WELCOME)
    bench.say(DESCRIBED + error("25006") + READY)
    assert isinstance(reply.error, postgres.PostgresError)
    assert reply.error.sqlstate == "25006"
    assert not bench.sockets[1].closed


def test_a_transaction_is_not_run_again_and_its_connection_is_left() -> None:
    @postgres.transaction
    async def write(tx: postgres.Transaction) -> None:
        await tx.execute("update t set a = 1")

    bench = Played().ready()
    bench.advance(60.0)
    reply = bench.submit(write())
    bench.run()
    bench.say(m(b"C", b"BEGIN\0") + m(b"Z", b"T"))
    bench.say(m(b"1") + m(b"t", b"\0\0") + m(b"n") + m(b"Z", b"T"))
    bench.say(m(b"2") + error("25006") + m(b"Z", b"E"))
    bench.say(m(b"C", b"ROLLBACK\0") + READY)
    assert isinstance(reply.error, postgres.PostgresError)
    assert bench.sockets[0].closed


def test_suspects_are_asked_by_the_empty_query() -> None:
    settings = Settings("me", None, "db", {}, {}, None, "localhost")
    shared = Statements(8)
    bench = Bench(lambda: PostgresWire(settings, shared, 1 << 20), ("192.0.2.7:5432",), connections=2, warm=2)
    bench.accept()
    for sock in bench.sockets:
        sock.delivered()
        sock.arrive(WELCOME)
    bench.run()
    bench.advance(60.0)
    assert bench.pool.statistics().backends[0].idle == 2
    late = bench.submit(UNIT, timeout=1.0)
    bench.run()
    index = next(n for n, sock in enumerate(bench.sockets) if sock.delivered())
    bench.advance(1.01)
    assert isinstance(late.error, DeadlineExceeded)
    other = bench.sockets[1 - index]
    assert other.delivered() == EMPTY
    other.arrive(m(b"I") + READY)
    bench.run()
    assert bench.pool.statistics().backends[0].idle == 1
