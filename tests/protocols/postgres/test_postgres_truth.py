"""What a server has said once is not true for ever: tables, types, statements and servers that change under
the pool, pipelined and not, on old connections and on new ones, inside of a transaction and outside.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from actors import Loop, settle_all
from actors.testing import run_until
from pools import Pool, Unit
from protocols import postgres
from protocols.postgres import PostgresError
from tests.protocols.postgres.servers import Server

Ask = Callable[..., Any]
SIZES = [0, 1, 2, 256]

VALUES = [
    ("5::int8", 5), ("2.5::float8", 2.5), ("7::int4", 7), ("1.5::float4", 1.5), ("'a'::text", "a"),
    ("'2024-01-01'::timestamp", datetime.datetime(2024, 1, 1)), ("'\\x00ff'::bytea", b"\0\xff"),
    ("null::int", None), ("'1.50'::numeric", Decimal("1.50")), ("'$2.50'::money", "$2.50"), ("true", True),
    ("'00000000-0000-0000-0000-000000000007'::uuid", uuid.UUID(int=7)), ("array[1,2]", [1, 2]),
]  # fmt: skip


def spawn(loop: Loop, server: Server, **options: Any) -> Pool:
    return loop.spawn(postgres.pool(server.url, **options))


def wait(loop: Loop, pool: Pool, unit: Unit[Any], timeout: float = 10.0) -> Any:
    return loop.run_until(pool.submit(unit, timeout=timeout))


def elsewhere(server: Server, *statements: str) -> None:
    """By somebody of whom the pool knows nothing."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        for sql in statements:
            connection.execute(sql.encode())


# -- rows that are described by their portal -----------------------------------------------------------------


@postgres.transaction
async def fetched(tx: postgres.Transaction, sql: str) -> Any:
    await tx.execute(f"declare cur cursor for {sql}")
    rows = await tx.query("fetch 100 from cur")
    await tx.execute("close cur")
    return rows


@postgres.transaction
async def executed(tx: postgres.Transaction, sql: str) -> Any:
    await tx.execute(f"prepare told as {sql}")
    count = await tx.execute("execute told")
    rows = await tx.query("execute told", into=dict)
    await tx.execute("deallocate told")
    assert count == len(rows)
    return [tuple(row.values()) for row in rows]


@pytest.mark.parametrize("statements", SIZES)
@pytest.mark.parametrize("body", [fetched, executed])
def test_rows_of_a_cursor_and_of_a_prepared_statement(
    loop: Loop, server: Server, body: Any, statements: int
) -> None:
    db = spawn(loop, server, connections=1, pipeline=8, statements=statements)
    for literal, value in VALUES:
        assert wait(loop, db, body(f"select {literal} as a")) == [(value,)]
        assert wait(loop, db, body(f"select 1 as a, {literal} as b")) == [(1, value)]
    assert wait(loop, db, body("select n as a from generate_series(1, 50) n")) == [(n,) for n in range(1, 51)]
    assert wait(loop, db, body("select 1 as a where false")) == []
    assert db.statistics().opened == 1


@pytest.mark.parametrize("statements", SIZES)
def test_two_columns_after_one_and_the_same_text_in_flight(
    loop: Loop, server: Server, statements: int
) -> None:
    db = spawn(loop, server, connections=1, statements=statements)

    @postgres.transaction
    async def both(tx: postgres.Transaction) -> list[Any]:
        found = []
        for sql in ("select 5::int8", "select 2.5::float8, 'x'::text", "select 'y'::text"):
            declared, first = tx.execute(f"declare cur cursor for {sql}"), tx.query("fetch 1 from cur")
            rest, closed = tx.query("fetch 1 from cur"), tx.execute("close cur")
            found += [await reply for reply in (declared, first, rest, closed)][1:3]
        return found

    for _ in range(2):
        assert wait(loop, db, both()) == [[(5,)], [], [(2.5, "x")], [], [("y",)], []]


@pytest.mark.parametrize("statements", [0, 256])
def test_show_explain_and_call(loop: Loop, server: Server, statements: int) -> None:
    db = spawn(loop, server, connections=1, statements=statements)
    elsewhere(
        server,
        "create or replace procedure doubled(inout n int, out m float8) language plpgsql as "
        "'begin n := n * 2; m := n / 4.0; end'",
    )
    for _ in range(2):
        assert wait(loop, db, postgres.fetch_value("show server_encoding")) == "UTF8"
        assert wait(loop, db, postgres.query("call doubled($1, null)", 5)) == [(10, 2.5)]
        assert wait(loop, db, postgres.fetch_one("explain select 1")) == (
            "Result  (cost=0.00..0.01 rows=1 width=4)",
        )
        assert wait(loop, db, postgres.execute_many("call doubled($1, null)", [(1,), (2,)])) == 0
    with pytest.raises(PostgresError, match="26000"):
        wait(loop, db, postgres.query("execute nobody"))
    with pytest.raises(PostgresError, match="34000"):
        wait(loop, db, postgres.query("fetch 1 from nobody"))
    with pytest.raises(ValueError, match="takes 1 parameters, not 2"):
        wait(loop, db, postgres.query("call doubled($1, null)", 5, 6))
    assert wait(loop, db, postgres.fetch_value("select 1")) == 1
    assert db.statistics().opened == 1


# -- columns that change their type --------------------------------------------------------------------------

ALTERED = [
    ("int8", "float8", "5", 5.0), ("int4", "float4", "5", 5.0), ("float8", "int8", "5", 5),
    ("int8", "timestamp using '2024-01-01'", "5", datetime.datetime(2024, 1, 1)),
    ("text", "bytea using a::bytea", "'abc'", b"abc"), ("int4", "text", "5", "5"),
    ("trouble", "int4 using 5", "'mild'", 5), ("int4", "trouble using 'mild'", "5", "mild"),
    ("money", "float8 using 5", "'5'", 5.0), ("int4", "int8", "5", 5),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "literal", "value"), ALTERED)
@pytest.mark.parametrize("pipeline", [1, 8])
@pytest.mark.parametrize("statements", SIZES)
def test_units_on_old_and_new_connections_after_a_type_has_changed(
    loop: Loop,
    server: Server,
    before: str,
    after: str,
    literal: str,
    value: Any,
    pipeline: int,
    statements: int,
) -> None:
    elsewhere(
        server,
        "drop table if exists changed",
        "drop type if exists trouble",
        "create type trouble as enum ('mild', 'wild')",
        f"create table changed (a {before})",
        f"insert into changed values ({literal})",
    )
    select = postgres.query("select a from changed", idempotent=True)
    db = spawn(loop, server, connections=1, pipeline=pipeline, statements=statements)
    fresh = spawn(loop, server, connections=2, pipeline=pipeline, statements=statements)
    wait(loop, db, select)
    first = fresh.submit(select)
    holding = fresh.submit(postgres.fetch_value("select pg_sleep(0.02)"))
    loop.run_until(settle_all(first, holding))
    elsewhere(server, f"alter table changed alter a type {after}")
    for pool in (db, fresh):
        replies = [pool.submit(select) for _ in range(8)]
        found = [*loop.run_until(settle_all(*replies))]
        assert found == [[(value,)]] * 8
        assert {type(rows[0][0]) for rows in found} == {type(value)}  # type: ignore[index]


@pytest.mark.parametrize("statements", SIZES)
def test_more_columns_and_fewer(loop: Loop, server: Server, statements: int) -> None:
    elsewhere(server, "drop table if exists wide", "create table wide (a int)", "insert into wide values (1)")
    pools = [spawn(loop, server, connections=1, pipeline=8, statements=statements) for _ in range(2)]
    select = postgres.query("select * from wide", into=dict, idempotent=True)
    for pool in pools:
        assert wait(loop, pool, select) == [{"a": 1}]
    for sql, row in (
        ("add b float8 default 2.5", {"a": 1, "b": 2.5}),
        ("add c text default 'x'", {"a": 1, "b": 2.5, "c": "x"}),
        ("drop a, drop b", {"c": "x"}),
        ("rename c to d", {"d": "x"}),
    ):
        elsewhere(server, f"alter table wide {sql}")
        for pool in pools:
            assert [*loop.run_until(settle_all(*[pool.submit(select) for _ in range(4)]))] == [[row]] * 4


def test_a_statement_that_was_executed_is_not_repeated_without_leave(loop: Loop, server: Server) -> None:
    elsewhere(server, "drop table if exists once", "create table once (a money)")
    db = spawn(loop, server, connections=1, statements=0)
    insert = "insert into once values (2::numeric) returning a"
    assert wait(loop, db, postgres.query(insert)) == [("$2.00",)]
    elsewhere(server, "alter table once alter a type int using 1")
    with pytest.raises(postgres.UnreadableValue, match="was executed, its rows were dropped"):
        wait(loop, db, postgres.query(insert))
    assert wait(loop, db, postgres.fetch_value("select count(*) from once")) == 2
    assert wait(loop, db, postgres.query(insert)) == [(2,)]
    elsewhere(server, "alter table once alter a type money using 1::money")
    assert wait(loop, db, postgres.execute(insert)) == 1  # its rows are not looked at


@pytest.mark.parametrize("statements", SIZES)
@pytest.mark.parametrize(
    "alter",
    ["alter table turned alter a type float8", "drop table turned; create table turned as select 5::float8 a",
     "do $$ begin alter table turned alter a type float8; end $$", "select turn()"],
)  # fmt: skip
def test_the_same_select_before_and_after_in_one_transaction(
    loop: Loop, server: Server, statements: int, alter: str
) -> None:
    elsewhere(
        server,
        "drop table if exists turned",
        "create or replace function turn() returns void language plpgsql as "
        "'begin alter table turned alter a type float8; end'",
    )
    db = spawn(loop, server, connections=1, statements=statements)
    runs = 0

    @postgres.transaction
    async def turn(tx: postgres.Transaction) -> list[Any]:
        nonlocal runs
        runs += 1
        before = await tx.query("select a from turned")
        for sql in alter.split("; create" if "drop" in alter else "\0"):
            await tx.execute(sql if sql.startswith(("alter", "drop", "do", "select")) else "create" + sql)
        return before + await tx.query("select a from turned")

    for _ in range(2):
        elsewhere(
            server,
            "drop table if exists turned",
            "create table turned (a int8)",
            "insert into turned values (5)",
        )
        found = wait(loop, db, turn())
        assert found == [(5,), (5.0,)]
        assert [type(row[0]) for row in found] == [int, float]
    assert runs <= 4
    if alter.startswith(("alter", "drop")):
        assert runs <= 3  # the body is not run in vain because of what it has done itself


def test_what_was_rolled_back_is_as_before(loop: Loop, server: Server) -> None:
    elsewhere(
        server, "drop table if exists undone", "create table undone (a int8)", "insert into undone values (5)"
    )
    db = spawn(loop, server, connections=1)
    runs = 0

    @postgres.transaction
    async def undo(tx: postgres.Transaction) -> list[Any]:
        nonlocal runs
        runs += 1
        found = await tx.query("select a from undone")
        await tx.execute("savepoint s")
        await tx.execute("alter table undone alter a type float8")
        found += await tx.query("select a from undone")
        await tx.execute("rollback to savepoint s")
        return found + await tx.query("select a from undone")

    assert [type(value) for (value,) in wait(loop, db, undo())] == [int, float, int]
    assert runs == 1

    @postgres.transaction
    async def fail(tx: postgres.Transaction) -> None:
        await tx.execute("alter table undone alter a type float8")
        await tx.query("select a from undone")
        raise LookupError

    with pytest.raises(LookupError):
        wait(loop, db, fail())
    assert [type(value) for (value,) in wait(loop, db, undo())] == [int, float, int]
    assert runs == 2


# -- statements that go -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "gone", ["deallocate all", "discard all", "do $$ begin execute 'deallocate all'; end $$"]
)
@pytest.mark.parametrize("pipeline", [1, 8])
def test_statements_that_are_deallocated(loop: Loop, server: Server, gone: str, pipeline: int) -> None:
    db = spawn(loop, server, connections=1, pipeline=pipeline)
    for _ in range(2):
        units = [postgres.fetch_value(f"select $1::int + {number}", 1) for number in range(6)]
        assert [*loop.run_until(settle_all(*map(db.submit, units)))] == [1, 2, 3, 4, 5, 6]
        again = [db.submit(postgres.execute(gone)), *map(db.submit, units)]
        assert [*loop.run_until(settle_all(*again))][1:] == [1, 2, 3, 4, 5, 6]
    assert db.statistics().opened == 1


def test_names_are_nobody_elses(loop: Loop, server: Server) -> None:
    names: set[str] = set()
    pools = [spawn(loop, server, connections=3, warm=3) for _ in range(2)]
    run_until(loop, lambda: all(db.statistics().backends[0].idle == 3 for db in pools))
    for db in pools:
        rows = [db.submit(postgres.query("select name from pg_prepared_statements")) for _ in "123"]
        for answer in [*loop.run_until(settle_all(*rows))]:
            assert not names & {name for (name,) in answer}  # type: ignore[misc, union-attr]
            names |= {name for (name,) in answer}  # type: ignore[misc, union-attr]
    assert len(names) == 6
    assert all(name.startswith("windlass_") for name in names)


def test_large_statements_do_not_stay(loop: Loop, server: Server) -> None:
    db = spawn(loop, server, connections=1, pipeline=4)
    large = [f"select {number}, length('{'x' * 20_000}')" for number in range(8)]
    for _ in range(2):
        rows = [*loop.run_until(settle_all(*[db.submit(postgres.query(sql)) for sql in large]))]
        assert rows == [[(number, 20_000)] for number in range(8)]
    wait(loop, db, postgres.execute_many(f"select $1::int, '{'y' * 20_000}'", [(1,), (2,)]))
    middling = [f"select {number}, '{'z' * 10_000}'" for number in range(200)]
    for sql in middling:
        wait(loop, db, postgres.query(sql))
    kept = (
        "select count(*), sum(length(statement)) from pg_prepared_statements where statement like 'select%'"
    )
    count, size = wait(loop, db, postgres.fetch_one(kept))
    assert 50 < count < 110
    assert size < (1 << 20) + 20_000
