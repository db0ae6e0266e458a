"""What is called idempotent: done twice, with somebody else's write between, it is as if it was done once."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from actors import Loop
from pools import Unit
from protocols import postgres
from protocols.postgres import PostgresError
from tests.protocols.postgres.servers import Server

WRITES = [
    "insert into twice values (9)",
    "update twice set n = n + 1",
    "delete from twice",
    "truncate twice",
    "select nextval('turns')",
    "select setval('turns', 50)",
    "select n from twice for update",
    "create table more (n int)",
    "drop table twice",
    "alter table twice add m int",
    "refresh materialized view seen",
    "with gone as (delete from twice returning n) select * from gone",
    "copy twice from stdin",
    "select bump()",
    "set transaction read write",
]
SET_UP = [
    "drop materialized view if exists seen",
    "drop table if exists twice",
    "drop sequence if exists turns",
    "create table twice (n int)",
    "insert into twice values (1)",
    "create sequence turns",
    "create materialized view seen as select * from twice",
    "create or replace function bump() returns void language sql as 'update twice set n = n + 1'",
]


@postgres.transaction
async def nothing(tx: postgres.Transaction) -> None:
    """A transaction as it comes."""


UNITS: list[Unit[Any]] = [
    postgres.query("select 1"),
    postgres.fetch_one("select 1"),
    postgres.fetch_value("select 1"),
    postgres.execute("insert into twice values (1)"),
    postgres.execute_many("insert into twice values ($1)", [(1,)]),
    postgres.copy_in("twice", b"1\n"),
    postgres.copy_in_records("twice", [(1,)]),
    postgres.copy_out("twice"),
    postgres.copy_out_records("select 1"),
    postgres.notify("channel", "payload"),
    nothing(),
]


def test_nothing_is_called_so_that_the_caller_has_not_called_so() -> None:
    assert not any(unit.idempotent for unit in UNITS)
    reads = postgres.transaction(read_only=True)(nothing.__wrapped__)  # type: ignore[attr-defined]
    assert reads().idempotent


@pytest.mark.parametrize("sql", WRITES)
def test_a_transaction_that_reads_cannot_write(loop: Loop, server: Server, sql: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        for statement in SET_UP:
            connection.execute(statement.encode())
        db = loop.spawn(postgres.pool(server.url, connections=1))

        @postgres.transaction(read_only=True)
        async def body(tx: postgres.Transaction) -> list[Any]:
            before = await tx.query("select n from twice")
            if sql.startswith("copy"):
                await tx.copy_in(sql, b"5\n")
            else:
                await tx.query(sql)
            return before

        seen: list[Any] = []
        for number in (10, 20):
            with pytest.raises(PostgresError) as refused:
                loop.run_until(db.submit(body()))
            assert refused.value.sqlstate in ("25006", "25001")
            seen.append(connection.execute("select array_agg(n order by n) from twice").fetchone())
            seen.append(connection.execute("select last_value, is_called from turns").fetchone())
            connection.execute("insert into twice values (%s)", (number,))
        assert seen == [([1],), (1, False), ([1, 10],), (1, False)]
