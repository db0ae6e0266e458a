"""Transactions on a real server: what commits, what rolls back, what is run again, what it may not await."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actors import Channel, Loop, Misuse, Reply, gather, settle_all, sleep
from actors.testing import run_until
from examples import transfers
from pools import Cancelled, ConnectionLost, HeldAcrossBackends, Pool
from protocols import postgres
from protocols.postgres import PostgresError, RolledBack, Transaction
from tests.protocols.postgres.servers import Server

Ask = Callable[..., Any]


@pytest.fixture
def ledger(ask: Ask) -> Ask:
    """A table with one row, and how to ask."""
    ask(postgres.execute("drop table if exists ledger"))
    ask(postgres.execute("create table ledger (id int primary key, n int not null)"))
    ask(postgres.execute("insert into ledger values (1, 0)"))
    return ask


def value(ask: Ask) -> Any:
    return ask(postgres.fetch_value("select n from ledger where id = 1"))


@postgres.transaction
async def add(tx: Transaction, amount: int) -> int:
    """All that a transaction can do."""
    await tx.execute("update ledger set n = n + $1 where id = 1", amount)
    rows = await tx.query("select n from ledger")
    one = await tx.fetch_one("select n from ledger", into=dict)
    same = await tx.submit(postgres.fetch_one("select n from ledger", into=dict))
    assert [{"n": n} for (n,) in rows] == [one] == [same]
    if amount < 0:
        raise LookupError(amount)
    return int(await tx.fetch_value("select n from ledger"))


def test_what_returns_commits_and_what_raises_rolls_back(ledger: Ask) -> None:
    assert ledger(add(5)) == 5
    with pytest.raises(LookupError):
        ledger(add(-3))
    assert value(ledger) == 5
    assert add.__name__ == "add"
    assert "begin" in repr(add(1))


def test_several_in_flight_at_once(ledger: Ask) -> None:
    @postgres.transaction
    async def several(tx: Transaction) -> list[Any]:
        replies = [tx.fetch_value("select $1::int", n) for n in range(20)]
        await tx.execute_many("insert into ledger values ($1, $2)", [(n, n) for n in range(2, 5)])
        return [await reply for reply in replies]

    assert ledger(several()) == list(range(20))
    assert ledger(postgres.fetch_value("select count(*) from ledger")) == 4


def test_a_statement_that_cannot_be_encoded_leaves_the_transaction_whole(ledger: Ask) -> None:
    @postgres.transaction
    async def stumble(tx: Transaction) -> int:
        replies = [tx.fetch_value("select $1::int + 0", "x"), tx.fetch_value("select $1::int + 0", 4)]
        with pytest.raises(ValueError, match=r"\$1 is integer"):
            await replies[0]
        return int(await replies[1])

    assert ledger(stumble()) == 4


def test_an_error_that_the_body_swallows(ledger: Ask) -> None:
    @postgres.transaction
    async def swallow(tx: Transaction) -> None:
        await tx.execute("update ledger set n = 9")
        with pytest.raises(PostgresError):
            await tx.execute("select 1 / 0")

    with pytest.raises(RolledBack, match="body continued"):
        ledger(swallow())
    assert value(ledger) == 0


def test_isolation_and_read_only_reach_the_server(ledger: Ask) -> None:
    @postgres.transaction(isolation="serializable", read_only=True, deferrable=True)
    async def look(tx: Transaction) -> tuple[Any, ...] | None:
        sql = "select current_setting('transaction_isolation'), current_setting('transaction_read_only')"
        return await tx.fetch_one(sql)

    assert ledger(look()) == ("serializable", "on")
    assert look().idempotent

    @postgres.transaction(read_only=True)
    async def write(tx: Transaction) -> None:
        await tx.execute("update ledger set n = 9")

    with pytest.raises(PostgresError, match="25006"):
        ledger(write())
    for options in ({"isolation": "snapshot"}, {"attempts": 0}):
        with pytest.raises(ValueError, match="write"):
            postgres.transaction(**options)  # type: ignore[call-overload]


def test_a_serialization_failure_runs_the_body_again(ledger: Ask, loop: Loop, db: Pool) -> None:
    runs = []

    @postgres.transaction(isolation="serializable", attempts=20)
    async def bump(tx: Transaction, who: int) -> None:
        runs.append(who)
        n = await tx.fetch_value("select n from ledger where id = 1")
        await tx.execute("select pg_sleep(0.002)")  # so that two of them meet
        await tx.execute("update ledger set n = $1 where id = 1", n + 1)

    replies = [db.submit(bump(who), timeout=20) for who in range(20)]
    assert loop.run_until(settle_all(*replies)) == (None,) * 20
    assert value(ledger) == 20
    assert len(runs) > 20

    @postgres.transaction(attempts=1)
    async def fail(tx: Transaction) -> None:
        await tx.execute("do $$ begin raise exception 'no' using errcode = '40001'; end $$")

    with pytest.raises(PostgresError, match="40001"):
        ledger(fail())


def foreign_awaits(loop: Loop, db: Pool) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every kind of what a transaction may not await."""
    channel: Channel[int] = Channel()
    host = asyncio.new_event_loop()
    future = host.create_future()
    host.close()
    yield "another pool's reply", lambda: db.submit(postgres.fetch_value("select 1"))
    yield "gather", lambda: gather(Reply(), Reply())
    yield "sleep", lambda: sleep(0.01)
    yield "channel", channel.receive
    yield "full channel", lambda: filled(channel).send(1)
    yield "flow", lambda: loop.spawn(nothing())
    yield "asyncio", lambda: future
    yield "settle_all", lambda: settle_all(Reply())


async def nothing() -> None:
    """A flow."""
    await sleep(0)


def filled(channel: Channel[int]) -> Channel[int]:
    while channel.writable:
        channel.put(1)
    return channel


def test_awaiting_anything_else_rolls_back_and_the_connection_lives_on(loop: Loop, server: Server) -> None:
    held = loop.spawn(postgres.pool(server.url, connections=1))
    other = loop.spawn(postgres.pool(server.url, connections=1))

    def ask(unit: Any) -> Any:
        return loop.run_until(held.submit(unit, timeout=10))

    for sql in ("drop table if exists held", "create table held (n int)"):
        ask(postgres.execute(sql))

    @postgres.transaction
    async def hold(tx: Transaction, awaitable: Callable[[], Any]) -> None:
        await tx.execute("insert into held values (1)")
        await awaitable()

    for name, awaitable in foreign_awaits(loop, other):
        with pytest.raises(HeldAcrossBackends):
            ask(hold(awaitable))
        assert ask(postgres.fetch_value("select count(*) from held")) == 0, name
    assert held.statistics().opened == 1


def test_a_cancelled_transaction_rolls_back(ledger: Ask, loop: Loop, db: Pool) -> None:
    seen: list[BaseException] = []

    @postgres.transaction
    async def long(tx: Transaction) -> None:
        try:
            await tx.execute("update ledger set n = 7")
            await tx.execute("select pg_sleep(60), 'cancelled'")
            await tx.execute("select 1")
        except Cancelled as error:
            seen.append(error)
            raise

    reply = db.submit(long())
    active = "select count(*) from pg_stat_activity where state = 'active' and query = $1"
    run_until(loop, lambda: ledger(postgres.fetch_value(active, "select pg_sleep(60), 'cancelled'")))
    reply.cancel()
    assert value(ledger) == 0
    run_until(loop, lambda: seen)
    assert value(ledger) == 0


def test_a_connection_lost_in_a_transaction(ledger: Ask, loop: Loop, server: Server) -> None:
    alone = loop.spawn(postgres.pool(server.url, connections=1))

    @postgres.transaction
    async def doomed(tx: Transaction) -> None:
        await tx.execute("update ledger set n = 7")
        await tx.execute("select pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(ConnectionLost):
        loop.run_until(alone.submit(doomed()))
    assert value(ledger) == 0


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_body_that_ends_its_transaction_itself_is_told(ledger: Ask, ask: Ask, end: str) -> None:
    runs = []

    @postgres.transaction
    async def ends(tx: Transaction, then: str) -> None:
        runs.append(then)
        await tx.execute("update ledger set n = n + 1")
        await tx.execute(end)
        await tx.execute(then)

    conflict = "do $$ begin raise exception 'as if' using errcode = '40001'; end $$"
    for then in ("select 1", conflict):
        with pytest.raises(Misuse, match="has ended its own transaction"):
            ask(ends(then))
    assert runs == ["select 1", conflict]
    assert value(ledger) == (2 if end == "commit" else 0)


def test_the_example_of_transfers(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    transfers.main(["--database", server.url, "--flows", "8", "--transfers", "5"])
    out = capsys.readouterr().out
    assert out.endswith("800 before, 800 after\n")
    assert int(out.split()[0]) > 0
