"""The simulated server changes under its clients, as a real one does: types, statements, backends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from actors import Listener, Loop, settle_all
from pools import Pool
from protocols import postgres
from protocols.postgres import PostgresError
from protocols.postgres.simulated import Database, Declared, SimulatedPostgres, declare
from tests.protocols.postgres.servers import Server

PRICE = "select price from prices"
DELETE = "delete from accounts where id = $1"
BALANCE = "select balance from accounts where id = $1"


def price(kind: str, value: Any) -> Declared:
    return declare(PRICE, lambda changes: [(value,)], gives={"price": kind})


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


def served(loop: Loop, server: SimulatedPostgres, **options: Any) -> Pool:
    listener = loop.spawn(Listener("127.0.0.1:0", server))
    return loop.spawn(postgres.pool(f"postgresql://me@127.0.0.1:{listener.address.port}/db", **options))


@postgres.transaction
async def by_cursor(tx: postgres.Transaction, sql: str) -> list[Any]:
    await tx.execute(f"declare cur cursor for {sql}")
    found = [await tx.query("fetch 2 from cur") for _ in range(2)]
    await tx.execute("close cur")
    return found


@postgres.transaction
async def by_no_cursor(tx: postgres.Transaction) -> Any:
    return await tx.query("fetch 2 from cur")


def test_cursors_are_as_with_a_real_server(loop: Loop, server: Server) -> None:
    real = loop.spawn(postgres.pool(server.url, connections=1))
    for statement in (
        "drop table if exists accounts",
        "create table accounts (id integer primary key, balance bigint not null)",
        "insert into accounts (id, balance) values (1, 10), (2, 20), (3, 30)",
    ):
        loop.run_until(real.submit(postgres.execute(statement)))
    ours = served(loop, SimulatedPostgres(Database({"accounts": {1: 10, 2: 20, 3: 30}})), connections=1)
    for sql in (
        "select id, balance from accounts order by id",
        "select 1",
        "select sum(balance)::bigint from accounts",
    ):
        found = [loop.run_until(pool.submit(by_cursor(sql), timeout=20)) for pool in (ours, real, ours)]
        assert found[0] == found[1] == found[2]
    for pool in (ours, real):
        with pytest.raises(PostgresError, match="34000"):
            loop.run_until(pool.submit(by_no_cursor(), timeout=20))
    loop.run_until(real.submit(postgres.execute("drop table accounts")))


@pytest.mark.parametrize("statements", [0, 1, 2, 256])
@pytest.mark.parametrize("pipeline", [1, 8])
def test_columns_that_change_their_type(loop: Loop, statements: int, pipeline: int) -> None:
    server = SimulatedPostgres(statements=[price("bigint", 5)])
    db = served(loop, server, connections=2, pipeline=pipeline, statements=statements)
    for kind, value in (("double precision", 2.5), ("text", "x"), ("bigint", 7), ("bytea", b"\0")):
        before = [db.submit(postgres.fetch_value(PRICE)) for _ in range(6)]
        loop.run_until(settle_all(*before))
        server.alter(price(kind, value))
        answers = [*loop.run_until(settle_all(*[db.submit(postgres.fetch_value(PRICE)) for _ in range(12)]))]
        assert answers == [value] * 12
        server.lose_statements()
    assert not db.statistics().failed


def test_a_transaction_that_alters_what_it_reads(loop: Loop) -> None:
    alter = declare(
        "alter table prices alter price type float8", lambda changes: server.alter(price("real", 2.5)) or 0
    )
    server = SimulatedPostgres(statements=[price("bigint", 5), alter])
    db = served(loop, server, connections=1)
    runs = []

    @postgres.transaction
    async def turn(tx: postgres.Transaction) -> list[Any]:
        runs.append(1)
        found = [await tx.fetch_value(PRICE)]
        await tx.execute(alter.sql)
        return [*found, await tx.fetch_value(PRICE)]

    assert loop.run_until(db.submit(turn())) == [5, 2.5]
    assert len(runs) == 1


@pytest.mark.parametrize("statements", [0, 256])
def test_a_pooler_between(loop: Loop, statements: int) -> None:
    database = Database({"accounts": dict.fromkeys(range(100), 5)})
    server = SimulatedPostgres(database, pooled=True)
    with capture_logs() as logs:
        pools = [
            served(loop, server, connections=3, pipeline=2, statements=statements, name=name)
            for name in ("reads", "deletes")
        ]
        for turn in range(30):
            unit = postgres.fetch_value(BALANCE, turn % 10)
            units = [pools[0].submit(unit) for _ in range(8)]
            units += [pools[1].submit(postgres.execute(DELETE, 10 + turn)) for _ in range(2)]
            units.append(pools[0].submit(transferred()))
            *reads, one, other, moved = loop.run_until(settle_all(*units))
            assert (reads, {one, other}, moved) == ([5] * 8, {0, 1}, 5)
    assert sorted(database.tables["accounts"]) == [*range(10), *range(40, 100)]
    said = [entry for entry in logs if entry["event"] == "statements vanish"]
    assert {entry["pool"] for entry in said} <= {"reads", "deletes"}
    assert len(said) <= 2
    if statements:
        assert "statements=0" in said[0]["why"]
    else:
        assert not said


@postgres.transaction
async def transferred(tx: postgres.Transaction) -> int:
    """Its statements meet one backend."""
    first: int = await tx.fetch_value(BALANCE, 1)
    return first if await tx.fetch_value(BALANCE, 2) == first else -1
