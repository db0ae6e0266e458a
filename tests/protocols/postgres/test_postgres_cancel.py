"""What nobody waits for any more does not go on at the server, and a cancel hits nobody else: against a
server that the test plays, and on a real one.
"""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from actors import Loop, settle_all
from actors.testing import run_until
from pools import Cancelled, DeadlineExceeded, Pool
from protocols import postgres
from protocols.postgres import messages
from tests.protocols.postgres.played import DESCRIBED, READY, UNIT, WELCOME, Played, answer, error, m
from tests.protocols.postgres.servers import Server

CANCEL = messages.cancel_request(7, 9)
CANCELED = m(b"2") + error("57014") + READY


def cancels(bench: Played) -> list[bytes]:
    """What was said on the connections of cancels, which are accepted."""
    bench.accept()
    return [sock.delivered() for sock in bench.sockets[1:]]


def test_a_cancelled_unit_has_a_moment_to_end_by_itself() -> None:
    bench = Played(pipeline=4).ready()
    gone, behind = bench.submit(UNIT), bench.submit(UNIT)
    bench.run()
    gone.cancel()
    bench.advance(0.09)
    bench.say(answer(1) + answer(2))
    bench.advance(10.0)
    assert behind.result() == [(2,)]
    assert len(bench.sockets) == 1
    assert not bench.sockets[0].closed


def test_then_its_statement_is_cancelled_and_its_connection_goes() -> None:
    bench = Played(timeout=60.0).ready()
    gone = bench.submit(UNIT)
    bench.run()
    gone.cancel()
    assert isinstance(gone.error, Cancelled)
    bench.advance(0.11)
    assert cancels(bench) == [CANCEL]
    statistics = bench.pool.statistics()
    assert (statistics.connections, statistics.orphans, statistics.failed) == (1, 1, {"Cancelled": 1})
    behind = bench.submit(UNIT)
    bench.run()
    assert len(bench.sockets) == 2  # the connection counts until the server has heard
    assert not bench.sockets[0].closed
    bench.sockets[1].end()
    bench.run()
    assert bench.sockets[0].delivered().count(b"B\0\0\0") == 1  # nothing is sent behind a cancel
    bench.say(CANCELED, index=0)
    assert bench.sockets[0].closed
    bench.accept()
    bench.say(WELCOME)
    bench.say(DESCRIBED)
    bench.say(answer(3))
    assert behind.result() == [(3,)]
    assert bench.add_up()


@pytest.mark.parametrize("heard", [False, True])
def test_a_server_that_does_nothing_about_it_is_left(heard: bool) -> None:
    bench = Played(timeout=60.0).ready()
    gone = bench.submit(UNIT)
    bench.run()
    gone.cancel()
    bench.advance(0.11)
    if heard:
        assert cancels(bench) == [CANCEL]
        bench.sockets[1].end()
        bench.run()
    assert not bench.sockets[0].closed
    bench.advance(1.1)
    assert bench.sockets[0].closed
    assert bench.add_up()


def test_a_cancel_that_cannot_be_sent_holds_nothing_up() -> None:
    bench = Played(timeout=60.0).ready()
    gone = bench.submit(UNIT)
    bench.run()
    gone.cancel()
    bench.advance(0.11)
    bench.sockets[1].refuse()
    bench.run()
    bench.advance(1.1)
    assert bench.sockets[0].closed


def test_a_cancel_that_has_hit_nothing_is_made_again() -> None:
    bench = Played(timeout=60.0).ready()
    gone = bench.submit(UNIT)
    bench.run()
    gone.cancel()
    bench.advance(0.11)
    for number in range(1, 4):
        assert cancels(bench) == [*[b""] * (number - 1), CANCEL]
        bench.end(number)  # heard, before it had read what to execute
        bench.advance(0.1 * 2 ** (number - 1) + 0.001)
    bench.sockets[4].end()
    bench.say(CANCELED, index=0)
    assert bench.sockets[0].closed
    bench.advance(10.0)
    assert len(bench.sockets) == 5
    assert bench.add_up()


@pytest.mark.parametrize("heard", [False, True])
def test_a_cancelled_transaction_does_not_wait_for_a_server_that_does_nothing(heard: bool) -> None:
    bench = Played().ready()
    told: list[BaseException] = []

    @postgres.transaction
    async def slow(tx: postgres.Transaction) -> None:
        try:
            await tx.submit(UNIT)
        except BaseException as failure:
            told.append(failure)
            raise

    reply = bench.submit(slow())
    bench.run()
    bench.say(m(b"C", b"BEGIN\0") + m(b"Z", b"T"))
    reply.cancel()
    bench.advance(0.11)
    for _ in range(6):
        bench.accept()
        for sock in bench.sockets[1:] if heard else []:
            if not sock.closed:
                sock.end()
        bench.run()
        assert not bench.sockets[0].closed
        bench.advance(0.15)
    bench.advance(1.1)
    assert bench.sockets[0].closed
    assert isinstance(reply.error, Cancelled)
    assert len(told) == 1
    assert bench.pool.statistics().in_flight == 0
    assert bench.add_up()


def test_each_of_several_is_cancelled_when_its_turn_comes_and_none_that_is_wanted() -> None:
    bench = Played(pipeline=8, timeout=60.0).ready()
    units = [bench.submit(UNIT) for _ in range(5)]
    bench.run()
    for number in (1, 2, 4):
        units[number].cancel()
    bench.advance(5.0)
    assert len(bench.sockets) == 1  # the first is wanted, and it is its turn
    bench.say(answer(0))
    bench.advance(0.11)
    assert cancels(bench) == [CANCEL]
    bench.sockets[1].end()
    bench.say(CANCELED, index=0)
    assert cancels(bench) == [b"", CANCEL]
    bench.say(CANCELED, index=0)  # sooner than the end of the cancel
    bench.sockets[2].end()
    bench.advance(5.0)
    assert len(bench.sockets) == 3
    bench.say(answer(3), index=0)
    assert cancels(bench)[2] == CANCEL
    bench.sockets[3].end()
    bench.say(CANCELED, index=0)
    assert [units[number].result() for number in (0, 3)] == [[(0,)], [(3,)]]
    assert bench.sockets[0].closed
    assert bench.add_up()


def test_one_that_is_late_behind_one_that_is_not_is_cancelled_in_its_turn() -> None:
    bench = Played(pipeline=8).ready()
    wanted, late = bench.submit(UNIT, timeout=60.0), bench.submit(UNIT, timeout=1.0)
    bench.run()
    bench.advance(2.0)
    assert isinstance(late.error, DeadlineExceeded)
    assert len(bench.sockets) == 1
    bench.say(answer(1))
    assert wanted.result() == [(1,)]
    assert cancels(bench) == [CANCEL]
    assert not bench.sockets[0].closed
    bench.say(CANCELED, index=0)
    assert bench.sockets[0].closed


def test_a_unit_whose_statement_is_still_being_described_is_not_executed() -> None:
    bench = Played()
    gone, behind = bench.submit(UNIT), bench.submit(UNIT)
    bench.accept()
    bench.say(WELCOME)
    gone.cancel()
    bench.sockets[-1].delivered()
    bench.say(DESCRIBED)
    assert bench.sockets[-1].delivered() == messages.SYNC
    bench.say(READY)
    assert bench.sockets[-1].delivered().startswith(b"B")
    bench.say(answer(2))
    assert behind.result() == [(2,)]
    assert bench.add_up()


def test_a_transaction_past_its_deadline_hears_of_it_before_its_connection_goes() -> None:
    bench = Played()
    told: list[BaseException] = []

    @postgres.transaction
    async def late(tx: postgres.Transaction) -> None:
        try:
            await tx.submit(UNIT)
        except BaseException as failure:
            told.append(failure)
            raise

    reply = bench.submit(late(), timeout=1.0)
    bench.accept()
    bench.say(WELCOME)
    bench.say(m(b"C", b"BEGIN\0") + m(b"Z", b"T"))
    bench.say(DESCRIBED)
    bench.advance(2.0)
    assert isinstance(reply.error, DeadlineExceeded)
    assert isinstance(told[0], DeadlineExceeded)
    assert cancels(bench) == [CANCEL]
    assert not bench.sockets[0].closed
    bench.sockets[1].end()
    bench.say(m(b"2") + error("57014") + m(b"Z", b"E"), index=0)
    assert bench.sockets[0].closed
    assert bench.add_up()


# -- a real server -------------------------------------------------------------------------------------------


def active(server: Server, mark: str) -> int:
    """How many statements with this mark are being executed."""
    sql = "select count(*) from pg_stat_activity where query like %s and state = 'active'"
    with psycopg.connect(server.url, autocommit=True) as connection:
        row = connection.execute(sql + " and pid <> pg_backend_pid()", (f"%{mark}%",)).fetchone()
    assert row is not None
    return int(row[0])


def ends(loop: Loop, server: Server, mark: str) -> None:
    def ended() -> bool:
        loop.tick(0.01)
        return not active(server, mark)

    run_until(loop, ended, seconds=20.0)


@pytest.mark.parametrize("pipeline", [1, 8])
def test_callers_that_cancel_leave_nothing_behind(loop: Loop, server: Server, pipeline: int) -> None:
    db: Pool = loop.spawn(postgres.pool(server.url, connections=2, pipeline=pipeline))
    sleep = postgres.query("select pg_sleep(600), 'left behind'")
    for _ in range(6):
        replies = [db.submit(sleep, timeout=60) for _ in range(4)]
        run_until(loop, lambda: db.statistics().in_flight > 0)
        loop.tick(0.01)
        for reply in replies:
            reply.cancel()
        assert db.statistics().connections <= 2
    ends(loop, server, "left behind")
    assert loop.run_until(db.submit(postgres.fetch_value("select 1"), timeout=20)) == 1
    run_until(loop, lambda: db.statistics().orphans == 0)


def test_a_cancelled_transaction_cleans_up_when_its_statement_has_ended(loop: Loop, server: Server) -> None:
    db: Pool = loop.spawn(postgres.pool(server.url, connections=1))
    cleaned: list[Any] = []

    @postgres.transaction
    async def slow(tx: postgres.Transaction) -> None:
        try:
            await tx.execute("select pg_sleep(600), 'held back'")
        except BaseException as failure:
            await tx.submit(postgres.execute("rollback"))
            cleaned.append(failure)
            raise

    reply = db.submit(slow(), timeout=60)
    run_until(loop, lambda: active(server, "held back") or loop.tick(0.01))
    reply.cancel()
    ends(loop, server, "held back")
    run_until(loop, lambda: cleaned)
    assert isinstance(cleaned[0], Cancelled)
    assert loop.run_until(db.submit(postgres.fetch_value("select 1"), timeout=20)) == 1
    assert db.statistics().opened == 2


def test_short_statements_that_are_cancelled_cost_no_connection(loop: Loop, server: Server) -> None:
    db: Pool = loop.spawn(postgres.pool(server.url, connections=2, pipeline=4))
    unit = postgres.fetch_value("select $1::int", 7)
    loop.run_until(settle_all(*[db.submit(unit) for _ in range(8)]))
    for _ in range(20):
        replies = [db.submit(unit) for _ in range(8)]
        loop.tick(0)
        for reply in replies[1:]:
            reply.cancel()
        assert loop.run_until(replies[0]) == 7
    run_until(loop, lambda: db.statistics().orphans == 0)
    assert db.statistics().opened == db.statistics().connections <= 2
