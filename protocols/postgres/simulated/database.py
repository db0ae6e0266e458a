"""What a simulated PostgreSQL keeps: tables of rows by key, and transactions over them. No I/O.

Rules:
1. A transaction's writes are its own until it commits; a commit is all of them or none.
2. Every transaction is serializable, whatever level it asked for: at its commit nothing that it has read may
   have changed since, or it fails with 40001 and has done nothing. Nobody waits for a lock.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from protocols.postgres.errors import PostgresError

__all__ = ["Changes", "Database", "failure"]

Key = tuple[str, Any]

ROWS_MAX: Final = 100_000
NO_ROW: Final = object()


def failure(sqlstate: str, message: str, severity: str = "ERROR", routine: str = "") -> PostgresError:
    """An error as the server would send it."""
    fields = {"S": severity, "V": severity, "C": sqlstate, "M": message}
    return PostgresError(fields | ({"R": routine} if routine else {}))


class Database:
    """Tables. `Database({"accounts": {1: 100, 2: 100}})`: what each holds by key."""

    def __init__(self, tables: dict[str, dict[Any, Any]] | None = None) -> None:
        self.tables: dict[str, dict[Any, Any]] = {name: dict(rows) for name, rows in (tables or {}).items()}
        self.versions: Counter[Key] = Counter()  # of rows; under the key NO_ROW that of the table as a whole
        self.commits = self.conflicts = 0

    def __repr__(self) -> str:
        return f"<Database of {len(self.tables)} tables, {self.commits} commits, {self.conflicts} conflicts>"

    def begin(self) -> Changes:
        """A transaction."""
        return Changes(self)


class Changes:
    """One transaction: what it has read and what it will write."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.read_only = False
        self._seen: dict[Key, int] = {}
        self._written: dict[Key, Any] = {}

    def __repr__(self) -> str:
        return f"<Changes: {len(self._seen)} read, {len(self._written)} written>"

    def get(self, table: str, key: Any, default: Any = None) -> Any:
        """A row."""
        name = (table, key)
        if name in self._written:
            value = self._written[name]
            return default if value is NO_ROW else value
        self._see(name)
        return self._table(table).get(key, default)

    def all(self, table: str) -> dict[Any, Any]:
        """Every row by its key."""
        self._see((table, NO_ROW))
        rows = dict(self._table(table))
        for (name, key), value in self._written.items():
            if name == table:
                rows[key] = value
        return {key: value for key, value in rows.items() if value is not NO_ROW}

    def put(self, table: str, key: Any, value: Any) -> None:
        """Write a row."""
        if self.read_only:
            raise failure("25006", "cannot execute a write in a read-only transaction")
        if len(self._table(table)) >= ROWS_MAX:
            raise failure("53400", f"a simulated table has at most {ROWS_MAX} rows")
        self._written[table, key] = value

    def delete(self, table: str, key: Any) -> bool:
        """Delete a row; whether there was one."""
        there = self.get(table, key, NO_ROW) is not NO_ROW
        if there:
            self.put(table, key, NO_ROW)
        return there

    def commit(self) -> None:
        """Write it all. Raises 40001 if something that was read has changed meanwhile, 25006 if nothing may
        be written."""
        database = self.database
        if self.read_only and self._written:
            raise failure("25006", "cannot commit a write: the server is a standby by now")
        if any(database.versions[name] != version for name, version in self._seen.items()):
            database.conflicts += 1
            raise failure(
                "40001", "could not serialize access due to read/write dependencies among transactions"
            )
        for (table, key), value in self._written.items():
            rows = self._table(table)
            if value is NO_ROW:
                rows.pop(key, None)
            else:
                rows[key] = value
            database.versions[table, key] += 1
            database.versions[table, NO_ROW] += 1
        database.commits += bool(self._written)

    def _see(self, name: Key) -> None:
        self._seen.setdefault(name, self.database.versions[name])

    def _table(self, table: str) -> dict[Any, Any]:
        if table not in self.database.tables:
            raise failure("42P01", f'relation "{table}" does not exist')
        return self.database.tables[table]
