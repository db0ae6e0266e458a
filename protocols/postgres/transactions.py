"""Transactions: an `async def` with the connection to itself, from BEGIN to COMMIT.

    @postgres.transaction
    async def rename(tx: postgres.Transaction, id: int, name: str) -> None:
        await tx.execute("update users set name = $2 where id = $1", id, name)

    pool.submit(rename(7, "anchor"))

Rules:
1. The body may await what `tx` gives and nothing else (`HeldAcrossBackends`). Returning commits, raising
   rolls back; the reply settles with what was returned or raised.
2. A serialization failure or a deadlock (SQLSTATE 40001, 40P01) has the server's word that nothing has
   happened: the body is run anew, on the same connection, up to `attempts` times; likewise when a statement
   is not what it was when it was prepared. So it may have no effects but those in the database.
3. A body that has ended its transaction itself (`commit`) is told so by `Misuse`, and is not run anew.
4. A connection that is lost may have taken a commit with it: `ConnectionLost`, unless the transaction is
   declared `idempotent`, or read only, which the server enforces.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeVar, overload

from actors import Misuse
from pools import Exchange, Exchanges, Held, Unit

from . import units
from .copy import units as copies
from .copy.units import Format
from .errors import PostgresError, RolledBack, Turned
from .units import Command, Row, Sql

__all__ = ["Isolation", "Transaction", "TransactionUnit", "transaction"]

P = ParamSpec("P")
T = TypeVar("T")

Isolation = Literal["read committed", "repeatable read", "serializable"]

RETRIED: Final = frozenset({"40001", "40P01"})
IDLE: Final = 73  # `I` in ReadyForQuery: outside of a transaction
ENDED: Final = (
    "the body has ended its own transaction, with a commit or a rollback; what came after that was executed "
    "outside it. Return to commit, raise to roll back; in between there are savepoints"
)
COMMIT: Final = Command("commit")
ROLLBACK: Final = Command("rollback")
LEVELS: Final = ("read committed", "repeatable read", "serializable")


class Transaction:
    """The connection inside of a transaction. What its methods give is awaited for the answer; several may
    be in flight, answered in order.
    """

    __slots__ = ("_held",)

    def __init__(self, held: Held) -> None:
        self._held = held

    def __repr__(self) -> str:
        return f"<Transaction on {self._held!r}>"

    def submit(self, unit: Unit[T]) -> Exchange[T]:
        """Any unit of this protocol."""
        return self._held.submit(unit)

    @overload
    def query(self, sql: str, *arguments: Any, into: None = None) -> Exchange[list[Row]]: ...
    @overload
    def query(self, sql: str, *arguments: Any, into: type[T]) -> Exchange[list[T]]: ...
    def query(self, sql: str, *arguments: Any, into: type[Any] | None = None) -> Exchange[Any]:
        """All rows, as `postgres.query`."""
        return self._held.submit(units.query(sql, *arguments, into=into))

    @overload
    def fetch_one(self, sql: str, *arguments: Any, into: None = None) -> Exchange[Row | None]: ...
    @overload
    def fetch_one(self, sql: str, *arguments: Any, into: type[T]) -> Exchange[T | None]: ...
    def fetch_one(self, sql: str, *arguments: Any, into: type[Any] | None = None) -> Exchange[Any]:
        """The first row, as `postgres.fetch_one`."""
        return self._held.submit(units.fetch_one(sql, *arguments, into=into))

    def fetch_value(self, sql: str, *arguments: Any) -> Exchange[Any]:
        """The first column of the first row."""
        return self._held.submit(units.fetch_value(sql, *arguments))

    def execute(self, sql: str, *arguments: Any) -> Exchange[int]:
        """How many rows were changed."""
        return self._held.submit(units.execute(sql, *arguments))

    def execute_many(self, sql: str, sets: Iterable[Sequence[Any]]) -> Exchange[int]:
        """One statement with each set of parameters."""
        return self._held.submit(units.execute_many(sql, sets))

    def copy_in(
        self,
        target: str | Sequence[str],
        data: bytes | bytearray | memoryview | Iterable[bytes],
        *,
        columns: Iterable[str] = (),
        format: Format = "text",
    ) -> Exchange[int]:
        """COPY FROM STDIN, as `postgres.copy_in`. The data is there already: `HeldAcrossBackends` for a
        channel, and for an iterator, which a second run of the body would find used up.
        """
        return self._held.submit(copies.copy_in(target, data, columns=columns, format=format))

    def copy_in_records(
        self, into: str | Sequence[str], records: Iterable[Sequence[Any]], *, columns: Iterable[str] = ()
    ) -> Exchange[int]:
        """Records, as `postgres.copy_in_records`; they are there already."""
        return self._held.submit(copies.copy_in_records(into, records, columns=columns))

    def copy_out(
        self, source: str | Sequence[str], *, columns: Iterable[str] = (), format: Format = "text"
    ) -> Exchange[bytes]:
        """COPY TO STDOUT: the whole, at most the pool's `result_bytes` (`UnreadableValue`)."""
        return self._held.submit(copies.copy_out(source, columns=columns, format=format))  # type: ignore[arg-type]


Body = Callable[Concatenate[Transaction, P], Coroutine[Any, Any, T]]


class TransactionUnit(Exchanges[T]):
    """One transaction to be run."""

    __slots__ = ("_attempts", "_begin", "_run", "idempotent")

    def __init__(
        self,
        run: Callable[[Transaction], Coroutine[Any, Any, T]],
        begin: Command,
        attempts: int,
        idempotent: bool,
    ) -> None:
        self._run = run
        self._begin = begin
        self._attempts = attempts
        self.idempotent = idempotent

    def __repr__(self) -> str:
        return f"<TransactionUnit {self._begin!r}>"

    async def body(self, held: Held) -> T:
        """Begin, run, commit; again after a serialization failure."""
        for left in range(self._attempts - 1, -1, -1):
            await held.submit(self._begin)
            committing = False
            try:
                value = await self._run(Transaction(held))
                if held.wire.status == IDLE:
                    raise Misuse(ENDED)
                committing = True
                tag = await held.submit(COMMIT)
            except (PostgresError, Turned) as error:
                if held.wire.status == IDLE and not committing:
                    raise Misuse(ENDED) from error
                if not left or not (isinstance(error, Turned) or error.stale or error.sqlstate in RETRIED):
                    raise  # the wire's `restore` rolls back
                await held.submit(ROLLBACK)
                continue
            if tag == b"ROLLBACK":
                raise RolledBack(
                    "the transaction was rolled back at its commit: a statement in it had failed, but the "
                    "body continued"
                )
            return value
        raise AssertionError("the last turn returns or raises")


@overload
def transaction(function: Body[P, T], /) -> Callable[P, Unit[T, Sql]]: ...
@overload
def transaction(
    *,
    isolation: Isolation | None = None,
    read_only: bool = False,
    deferrable: bool = False,
    attempts: int = 3,
    idempotent: bool = False,
) -> Callable[[Body[P, T]], Callable[P, Unit[T, Sql]]]: ...
def transaction(
    function: Body[P, T] | None = None,
    /,
    *,
    isolation: Isolation | None = None,
    read_only: bool = False,
    deferrable: bool = False,
    attempts: int = 3,
    idempotent: bool = False,
) -> Any:
    """Make an `async def` whose first parameter is a `Transaction` a maker of units.

    `isolation`: the server's default if None. `read_only` is enforced by the server, and makes the unit
    idempotent. `attempts`: how often the body is run at most, when serialization fails or a statement is not
    what it was when it was prepared. Raises `ValueError` for a level that there is not.
    """
    if isolation is not None and isolation not in LEVELS:
        raise ValueError(f"isolation={isolation!r}; write one of {', '.join(LEVELS)}")
    if attempts < 1:
        raise ValueError(f"attempts={attempts}; write 1 or more")
    words = ["begin"]
    words += [f"isolation level {isolation}"] if isolation else []
    words += ["read only"] if read_only else []
    words += ["deferrable"] if deferrable else []
    begin = Command(" ".join(words))

    def decorate(function: Body[P, T]) -> Callable[P, Unit[T, Sql]]:
        @functools.wraps(function)
        def make(*arguments: P.args, **named: P.kwargs) -> Unit[T, Sql]:
            def run(tx: Transaction) -> Coroutine[Any, Any, T]:
                return function(tx, *arguments, **named)

            return TransactionUnit(run, begin, attempts, idempotent or read_only)

        return make

    return decorate if function is None else decorate(function)
