"""The units: `query`, `fetch_one`, `fetch_value`, `execute`, `execute_many`. Each is data, and has a Sync
of its own, so that its failure leaves those beside it alone.

None is sent twice by itself: a `select` may call a function that writes. `idempotent=True` is the caller's
word that doing it twice is the same as doing it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar, overload

import msgspec

from pools import Unit

from . import messages
from .statements import Statement

__all__ = [
    "Command",
    "Fetch",
    "Rows",
    "SqlUnit",
    "execute",
    "execute_many",
    "fetch_one",
    "fetch_value",
    "query",
]

T = TypeVar("T")

Row = tuple[Any, ...]
Rows = list[Any]
Shape = Callable[[Rows, Statement, int], Any]

MANY_MAX: Final = 10_000  # sets of parameters in one unit


class Sql:
    """Stands for PostgreSQL where the type checker asks what a unit is for."""


class SqlUnit(Unit[T, Sql]):
    """What the wire needs to know: the statement, its bytes, and how the reply is made of what comes back."""

    __slots__ = ()

    sql: str
    counts: bool = False
    """Whether the commands' tags are to be read for how many rows they count."""

    def encode(self, statement: Statement) -> bytes:
        """Bind, Execute, Sync. Raises `ValueError` for parameters that do not fit."""
        raise NotImplementedError

    def result(self, rows: Rows, statement: Statement, count: int) -> T:
        """What the reply settles with."""
        raise NotImplementedError


class Fetch(SqlUnit[T]):
    """One statement with one set of parameters."""

    __slots__ = ("arguments", "counts", "idempotent", "shape", "size", "sql")

    def __init__(
        self, sql: str, arguments: Sequence[Any], shape: Shape, idempotent: bool, counts: bool = False
    ) -> None:
        self.sql = sql
        self.arguments = arguments
        self.shape = shape
        self.idempotent = idempotent
        self.counts = counts
        self.size = len(sql)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.sql[:60]!r}>"

    def encode(self, statement: Statement) -> bytes:
        """Bind, Execute, Sync."""
        return statement.bind(self.arguments)

    def result(self, rows: Rows, statement: Statement, count: int) -> Any:
        """As the shape says."""
        return self.shape(rows, statement, count)


class Many(SqlUnit[int]):
    """One statement with many sets of parameters, all or nothing."""

    __slots__ = ("idempotent", "sets", "size", "sql")

    counts = True

    def __init__(self, sql: str, sets: Sequence[Sequence[Any]], idempotent: bool) -> None:
        self.sql = sql
        self.sets = sets
        self.idempotent = idempotent
        self.size = len(sql)

    def __repr__(self) -> str:
        return f"<Many {len(self.sets)} × {self.sql[:60]!r}>"

    def encode(self, statement: Statement) -> bytes:
        """As many Binds and Executes, and one Sync: the server makes one transaction of it."""
        return b"".join([*map(statement.bind_only, self.sets), messages.SYNC])

    def result(self, rows: Rows, statement: Statement, count: int) -> int:
        """How many rows in all."""
        return count


class Command(Unit[bytes, Sql]):
    """A statement without parameters or rows, by the simple protocol: `begin`, `rollback`. Settles with its
    tag.
    """

    __slots__ = ("encoded",)

    pipelinable = False
    counts = False

    def __init__(self, sql: str) -> None:
        self.encoded = messages.simple_query(sql)

    def __repr__(self) -> str:
        return f"<Command {self.encoded[5:-1].decode()!r}>"


# -- shapes ---------------------------------------------------------------------------------------


def all_rows(rows: Rows, statement: Statement, count: int) -> Rows:
    """As they are."""
    return rows


def one_row(rows: Rows, statement: Statement, count: int) -> Any:
    """The first one, None without."""
    return rows[0] if rows else None


def one_value(rows: Rows, statement: Statement, count: int) -> Any:
    """The first row's first column, None without."""
    return rows[0][0] if rows and rows[0] else None


def row_count(rows: Rows, statement: Statement, count: int) -> int:
    """What the command's tag says."""
    return count


def converter(into: type[T]) -> Callable[[Rows, Statement], list[T]]:
    """Rows as dicts, or as what msgspec makes of dicts."""
    if into is dict:
        return as_dicts  # type: ignore[return-value]

    def convert(rows: Rows, statement: Statement) -> list[T]:
        return msgspec.convert(as_dicts(rows, statement), list[into])  # type: ignore[valid-type]

    return convert


def as_dicts(rows: Rows, statement: Statement) -> list[dict[str, Any]]:
    """Columns by their names; of two with one name, the last."""
    names = statement.names
    return [dict(zip(names, row, strict=True)) for row in rows]


# -- what users call ------------------------------------------------------------------------------


@overload
def query(sql: str, *arguments: Any, into: None = None, idempotent: bool = False) -> Fetch[list[Row]]: ...
@overload
def query(sql: str, *arguments: Any, into: type[T], idempotent: bool = False) -> Fetch[list[T]]: ...
def query(sql: str, *arguments: Any, into: type[Any] | None = None, idempotent: bool = False) -> Fetch[Any]:
    """A unit: all rows of one statement, parameters written `$1`, `$2`, ….

    Rows are tuples; with `into=dict` dicts by column name; with `into` a `msgspec.Struct`, that (the reply
    fails with `msgspec.ValidationError` if a row does not fit).
    """
    if into is None:
        return Fetch(sql, arguments, all_rows, idempotent)
    convert = converter(into)
    return Fetch(sql, arguments, lambda rows, statement, _: convert(rows, statement), idempotent)


@overload
def fetch_one(
    sql: str, *arguments: Any, into: None = None, idempotent: bool = False
) -> Fetch[Row | None]: ...
@overload
def fetch_one(sql: str, *arguments: Any, into: type[T], idempotent: bool = False) -> Fetch[T | None]: ...
def fetch_one(
    sql: str, *arguments: Any, into: type[Any] | None = None, idempotent: bool = False
) -> Fetch[Any]:
    """A unit: the first row, None if there is none. `into` as for `query`."""
    if into is None:
        return Fetch(sql, arguments, one_row, idempotent)
    convert = converter(into)

    def shape(rows: Rows, statement: Statement, count: int) -> Any:
        return convert(rows[:1], statement)[0] if rows else None

    return Fetch(sql, arguments, shape, idempotent)


def fetch_value(sql: str, *arguments: Any, idempotent: bool = False) -> Fetch[Any]:
    """A unit: the first column of the first row, None if there is none."""
    return Fetch(sql, arguments, one_value, idempotent)


def execute(sql: str, *arguments: Any, idempotent: bool = False) -> Fetch[int]:
    """A unit: run one statement; how many rows it has changed (or would have returned)."""
    return Fetch(sql, arguments, row_count, idempotent, True)


def execute_many(sql: str, sets: Iterable[Sequence[Any]], *, idempotent: bool = False) -> Many:
    """A unit: run one statement with each set of parameters, all or nothing; how many rows in all.

    At most 10,000 sets; raises `ValueError` for more, or none.
    """
    sets = list(sets)
    if not 0 < len(sets) <= MANY_MAX:
        raise ValueError(f"{len(sets)} sets of parameters; write 1 to {MANY_MAX} in one unit")
    return Many(sql, sets, idempotent)
