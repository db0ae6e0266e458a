"""Types that somebody has added, and changes, under connections that know them: dropped and made again under
the same name, with another label, another field, another base; by somebody else and by the pool itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg
import pytest

from actors import Loop, settle_all
from pools import Pool, Unit
from protocols import postgres
from tests.protocols.postgres.servers import Server

MADE_AGAIN = ("drop table kept", "drop type added")
TABLE = "create table kept (a added, b added[])"
TIMES = 6


class Change(NamedTuple):
    """What somebody does, and what a value is before and after it: as one, and in an array."""

    name: str
    first: str
    then: tuple[str, ...]
    before: tuple[Any, Any]
    after: tuple[Any, Any]


ENUM = "create type added as enum ('sad', 'ok')"
PAIR = "create type added as (x int, y text)"
WORDS = (("ok", "{ok}"), ("glad", "{glad}"))
CHANGES = [
    Change("an enum, made again", ENUM, (*MADE_AGAIN, "create type added as enum ('glad')", TABLE), *WORDS),
    Change("a label more", ENUM, ("alter type added add value 'glad' before 'ok'",), *WORDS),
    Change("a label's name", ENUM, ("alter type added rename value 'ok' to 'glad'",), *WORDS),
    Change(
        "a field more",
        PAIR,
        ("alter type added add attribute z float8",),
        ("(1,x)", '{"(1,x)"}'),
        ("(1,x,2.5)", '{"(1,x,2.5)"}'),
    ),
    Change(
        "another field",
        PAIR,
        (*MADE_AGAIN, "create type added as (x float8)", TABLE),
        ("(1,x)", '{"(1,x)"}'),
        ("(2.5)", "{(2.5)}"),
    ),
    Change(
        "a domain, made again over another type",
        "create domain added as int8",
        (*MADE_AGAIN, "create domain added as float8", TABLE),
        (5, "{5}"),
        (2.5, "{2.5}"),
    ),
    Change(
        "a domain in place of an enum",
        ENUM,
        (*MADE_AGAIN, "create domain added as int4", TABLE),
        ("ok", "{ok}"),
        (7, "{7}"),
    ),
    Change(
        "an enum in place of a domain",
        "create domain added as int4",
        (*MADE_AGAIN, "create type added as enum ('7')", TABLE),
        (7, "{7}"),
        ("7", "{7}"),
    ),
    Change(
        "another search path",
        ENUM,
        (
            "create domain other.added as int4",
            "alter table kept rename to gone",
            TABLE.replace("added", "other.added"),
        ),
        ("ok", "{ok}"),
        (7, "{7}"),
    ),
]


def elsewhere(server: Server, *statements: str) -> None:
    """By somebody of whom the pool knows nothing."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        for sql in statements:
            connection.execute(sql.encode())


def set_up(server: Server, change: Change) -> None:
    elsewhere(
        server,
        *("drop table if exists kept, gone", "drop schema if exists other cascade", "create schema other"),
        *("drop type if exists added cascade", change.first, TABLE),
    )


def all_of(loop: Loop, pool: Pool, *units: Unit[Any]) -> list[Any]:
    return [*loop.run_until(settle_all(*[pool.submit(unit, timeout=20) for unit in units]))]


INSERT = "insert into kept values ($1, $2)"
SELECT = "select a, b from kept"
AMONG = "select count(*) from kept where a = any($1)"
EQUAL = "select count(*) from kept where b = $1"


@postgres.transaction
async def in_one(tx: postgres.Transaction, value: Any, count: str) -> list[Any]:
    """All of it, and then not."""
    await tx.execute("delete from kept")
    written = [tx.execute(INSERT, value, [value]) for _ in range(3)]
    done = [await reply for reply in written]
    found = [await tx.query("select distinct a, b from kept"), await tx.fetch_value(count, [value])]
    await tx.execute("delete from kept")
    return [*done, *found]


def use(loop: Loop, pool: Pool, value: Any, shown: str) -> None:
    """Values go in and come out, several at a time."""
    count = EQUAL if str(value).startswith("(") else AMONG  # the server takes no array of anonymous records
    assert all_of(loop, pool, *[postgres.execute(INSERT, value, [value])] * TIMES) == [1] * TIMES
    found = all_of(loop, pool, *[postgres.query(SELECT, idempotent=True)] * TIMES)
    assert found == [[(value, shown)] * TIMES] * TIMES
    assert {type(rows[0][0]) for rows in found} == {type(value)}
    counted = postgres.fetch_value(count, [value], idempotent=True)
    assert all_of(loop, pool, *[counted] * TIMES) == [TIMES] * TIMES
    assert all_of(loop, pool, postgres.execute("delete from kept")) == [TIMES]
    assert all_of(loop, pool, in_one(value, count)) == [[1, 1, 1, [(value, shown)], 3]]


@pytest.mark.parametrize(("statements", "pipeline"), [(0, 1), (0, 8), (1, 8), (256, 1)])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_a_type_that_changes_under_old_and_new_connections(
    loop: Loop, server: Server, change: Change, pipeline: int, statements: int
) -> None:
    set_up(server, change)
    old = loop.spawn(
        postgres.pool(server.url, connections=2, warm=2, pipeline=pipeline, statements=statements)
    )
    growing = loop.spawn(postgres.pool(server.url, connections=3, pipeline=pipeline, statements=statements))
    use(loop, old, *change.before)
    use(loop, growing, *change.before)
    elsewhere(server, "delete from kept", *change.then)
    use(loop, old, *change.after)
    all_of(loop, growing, postgres.fetch_value("select pg_sleep(0.02)"), postgres.fetch_value("select 1"))
    use(loop, growing, *change.after)


@pytest.mark.parametrize("statements", [0, 256])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_a_type_that_the_pool_itself_changes(
    loop: Loop, server: Server, change: Change, statements: int
) -> None:
    set_up(server, change)
    db = loop.spawn(postgres.pool(server.url, connections=2, pipeline=4, statements=statements))
    use(loop, db, *change.before)
    for sql in change.then:
        all_of(loop, db, postgres.execute(sql))
    use(loop, db, *change.after)
