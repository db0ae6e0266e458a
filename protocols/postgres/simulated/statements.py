"""What a simulated PostgreSQL can execute: statements that are declared, by their text. There is no SQL
parser.

    declare("select name from users where id = $1", takes=["integer"], gives={"name": "text"},
            run=lambda changes, id: [(changes.get("users", id),)])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from protocols.postgres.messages import Column
from protocols.postgres.types import CODECS

from .database import Changes, failure

__all__ = ["STATEMENTS", "Declared", "Later", "declare"]

OIDS: Final = {codec.name: oid for oid, codec in CODECS.items()}

Rows = list[tuple[Any, ...]]


class Later(msgspec.Struct, frozen=True):
    """What `run` gives if its answer takes so many seconds."""

    seconds: float
    rows: Rows


class Declared(msgspec.Struct, frozen=True):
    """One statement: its types by OID, and what it does. `run(changes, *arguments)` gives rows, or how many
    it has changed, and may raise a `PostgresError`."""

    sql: str
    takes: tuple[int, ...]
    gives: tuple[Column, ...]
    run: Callable[..., Rows | int | Later]

    def tag(self, count: int) -> bytes:
        """What CommandComplete says."""
        word, *rest = self.sql.upper().split(None, 2)
        if word in ("ALTER", "CREATE", "DROP"):
            return f"{word} {rest[0]}".encode()
        if word in ("DECLARE", "CLOSE"):
            return f"{word} CURSOR".encode()
        return f"{word} 0 {count}".encode() if word == "INSERT" else f"{word} {count}".encode()


def declare(
    sql: str,
    run: Callable[..., Rows | int | Later],
    *,
    takes: Sequence[str] = (),
    gives: Mapping[str, str] | None = None,
) -> Declared:
    """A statement, its types by their names. Raises `ValueError` for a type that is not known."""
    columns = gives or {}
    unknown = sorted({*takes, *columns.values()} - OIDS.keys())
    if unknown:
        raise ValueError(f"types {', '.join(unknown)} are not known; write {', '.join(sorted(OIDS))}")
    named = tuple(Column(name, OIDS[kind]) for name, kind in columns.items())
    return Declared(sql, tuple(OIDS[kind] for kind in takes), named, run)


def balance(changes: Changes, id: int) -> Rows:
    """An account's."""
    found = changes.get("accounts", id)
    return [] if found is None else [(found,)]


def add(changes: Changes, id: int, amount: int) -> int:
    """To an account, which may not fall below nothing."""
    found = changes.get("accounts", id)
    if found is None:
        return 0
    if found + amount < 0:
        raise failure("23514", 'new row for relation "accounts" violates check constraint "solvent"')
    changes.put("accounts", id, found + amount)
    return 1


def insert(changes: Changes, id: int, amount: int) -> int:
    """A new account."""
    if changes.get("accounts", id) is not None:
        raise failure("23505", 'duplicate key value violates unique constraint "accounts_pkey"')
    changes.put("accounts", id, amount)
    return 1


STATEMENTS: Final = (
    declare("select 1", lambda changes: [(1,)], gives={"?column?": "integer"}),
    declare("select $1::int", lambda changes, n: [(n,)], takes=["integer"], gives={"int4": "integer"}),
    declare("select $1::text", lambda changes, text: [(text,)], takes=["text"], gives={"text": "text"}),
    declare(
        "select * from generate_series(1, $1)",
        lambda changes, count: [(number,) for number in range(1, count + 1)],
        takes=["integer"],
        gives={"generate_series": "integer"},
    ),
    declare(
        "select pg_sleep($1)",
        lambda changes, seconds: Later(seconds, [("",)]),
        takes=["double precision"],
        gives={"pg_sleep": "void"},
    ),
    declare("insert into accounts (id, balance) values ($1, $2)", insert, takes=["integer", "bigint"]),
    declare(
        "delete from accounts where id = $1",
        lambda changes, id: int(changes.delete("accounts", id)),
        takes=["integer"],
    ),
    declare(
        "select id, balance from accounts order by id",
        lambda changes: sorted(changes.all("accounts").items()),
        gives={"id": "integer", "balance": "bigint"},
    ),
    declare(
        "select sum(balance)::bigint from accounts",
        lambda changes: [(sum(changes.all("accounts").values()),)],
        gives={"sum": "bigint"},
    ),
    *(
        declare(
            f"select balance from accounts where id = $1{lock}",
            balance,
            takes=["integer"],
            gives={"balance": "bigint"},
        )
        for lock in ("", " for update")
    ),
    declare("update accounts set balance = balance + $2 where id = $1", add, takes=["integer", "bigint"]),
    declare(
        "update accounts set balance = balance - $2 where id = $1",
        lambda changes, id, amount: add(changes, id, -amount),
        takes=["integer", "bigint"],
    ),
)
"""What every simulated server knows: one table, `accounts (id integer, balance bigint)`, and some echoes."""
