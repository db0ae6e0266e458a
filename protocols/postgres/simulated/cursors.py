"""Cursors of one session: `declare NAME cursor for …` of a declared statement without parameters, `fetch
COUNT from NAME`, `close NAME`. What a FETCH gives is known by the cursor that stands there when it is bound.
No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from protocols.postgres.messages import Column

from .database import Changes, failure
from .statements import Declared, Later

__all__ = ["Cursors"]

DECLARE: Final = re.compile(r"declare (\w+) cursor for (.*)", re.DOTALL).fullmatch
FETCH: Final = re.compile(r"fetch (\d+) from (\w+)").fullmatch
CLOSE: Final = re.compile(r"close (\w+)").fullmatch

Rows = list[tuple[Any, ...]]


class Cursors:
    """The columns of each cursor, and the rows that are left in it."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[tuple[Column, ...], Rows]] = {}

    def __repr__(self) -> str:
        return f"<Cursors {', '.join(self._open)}>"

    def clear(self) -> None:
        """The transaction is over."""
        self._open.clear()

    def fetches(self, sql: str) -> bool:
        """Whether a statement is described by its portal alone."""
        return FETCH(sql) is not None

    def declared(self, sql: str, known: Mapping[str, Declared]) -> Declared | None:
        """What a text about cursors means now; None if it is no such text."""
        if (found := DECLARE(sql)) is not None and found[2] in known:
            name, query = found[1], known[found[2]]
            return Declared(sql, (), (), lambda changes: self._declare(name, query, changes))
        if (found := FETCH(sql)) is not None:
            count, name = int(found[1]), found[2]
            columns, _ = self._open.get(name, ((), []))
            return Declared(sql, (), columns, lambda changes: self._fetch(name, count))
        if (found := CLOSE(sql)) is not None:
            name = found[1]
            return Declared(sql, (), (), lambda changes: self._close(name))
        return None

    def _declare(self, name: str, query: Declared, changes: Changes) -> int:
        rows = query.run(changes)
        if isinstance(rows, int | Later):
            raise failure("42P11", "a cursor is for a query that gives rows at once")
        self._open[name] = query.gives, list(rows)
        return 0

    def _fetch(self, name: str, count: int) -> Rows:
        if name not in self._open:
            raise failure("34000", f'cursor "{name}" does not exist')
        rows = self._open[name][1]
        fetched = rows[:count]
        del rows[:count]
        return fetched

    def _close(self, name: str) -> int:
        if self._open.pop(name, None) is None:
            raise failure("34000", f'cursor "{name}" does not exist')
        return 0
