"""Statements: what a server has said of one SQL text, compiled. No I/O.

What decodes rows is what their own server has said of them. So each connection describes each statement
itself, and keeps what it was told as long as the server holds it to that: the server refuses to run a
statement whose result is no longer the one that it has described. A text that the server does not plan
(FETCH, EXECUTE, CALL, SHOW, EXPLAIN) may give other columns each time: `Utility.by_portal`. Connections
share what is reckoned from a description (`compile_rows`), and the descriptions only as guesses, where
nothing stays prepared (`Statements.guesses`).

Names are drawn per connection: behind a pooler that gives each transaction another server, somebody else's
statement may stand there under any name that two could choose. All stores are bounded, in statements and in
bytes; the longest unused goes first.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from weakref import WeakSet

from . import messages
from .messages import Column
from .rows import BINARY, TEXT, RowDecoder, compile_rows, formats_of, skip_rows
from .types import CODECS, Codec, encode_unknown
from .types.scalars import Encode

__all__ = ["Statement", "Statements", "Store", "Utility", "make_statement"]

NULL: Final = b"\xff\xff\xff\xff"
PARAMETERS_MAX: Final = 65_535  # of one statement: they are counted in 16 bits
MESSAGE_MAX: Final = (1 << 30) - 1  # bytes: the server takes no more
KEPT_MAX: Final = 1 << 14  # characters of a text that stays prepared; asyncpg: 15 KiB
PREPARED_BYTES_MAX: Final = 1 << 20  # on one connection; a server holds several times as much
GUESSES_MAX: Final = 256
FICKLE_MAX: Final = 64
VANISHED_MAX: Final = 2  # the first time that a statement is gone may be somebody's DEALLOCATE
NEVER_YET: Final = float("-inf")
COLUMN_BYTES: Final = 512  # about, what one column or parameter takes here

PLANNED: Final = frozenset({"SELECT", "WITH", "VALUES", "TABLE", "INSERT", "UPDATE", "DELETE", "MERGE", ""})
BY_PORTAL: Final = frozenset({"FETCH", "EXECUTE", "CALL", "SHOW", "EXPLAIN"})
"""What gives rows without being planned (`UtilityReturnsTuples` of the server)."""

_length = struct.Struct("!i").pack
_space = re.compile(r"(?:[\s(;]|--[^\n]*)+").match
_comment = re.compile(r"/\*|\*/").search
_word = re.compile(r"[A-Za-z]*").match


def first_word(sql: str) -> str:
    """The command of a text, in upper case: behind white space, parentheses and comments, which nest."""
    at = 0
    while True:
        space = _space(sql, at)
        at = at if space is None else space.end()
        if not sql.startswith("/*", at):
            break
        depth = 0
        while (mark := _comment(sql, at)) is not None:
            at = mark.end()
            depth += 1 if mark.group() == "/*" else -1
            if not depth:
                break
        else:
            return ""
    word = _word(sql, at)
    return "" if word is None else word.group().upper()


class Statement:
    """One SQL text with its types. `bind` is what using it costs. `codecs`: of parameters whose types are
    not in the table. Raises `ValueError` for too many types.
    """

    __slots__ = (
        "_encoders",
        "_head",
        "_introduction",
        "_pack",
        "_packed_head",
        "_packed_tail",
        "_tail",
        "added",
        "codecs",
        "columns",
        "confirmed",
        "decode_rows",
        "formats",
        "name",
        "names",
        "sql",
        "types",
        "used",
    )

    def __init__(
        self,
        name: bytes,
        sql: str,
        types: Sequence[int],
        columns: Sequence[Column],
        confirmed: float = NEVER_YET,
        codecs: Mapping[int, Codec] = CODECS,
    ) -> None:
        if len(types) > PARAMETERS_MAX:
            raise ValueError(
                f"the statement takes {len(types)} parameters; the protocol has {PARAMETERS_MAX} at most: "
                "give an array (= any($1), unnest($1)), or use execute_many"
            )
        self.name = name
        self.sql = sql
        self.confirmed = confirmed  # when a doubt about its types was unfounded (monotonic seconds)
        self.types = tuple(types)
        self.codecs = codecs
        self.added = self.used = 0  # when, by the clock of the store that keeps it
        self._introduction = b""
        self._set_columns(tuple(columns))
        count = len(self.types)
        found = [CODECS.get(oid) or codecs.get(oid) for oid in self.types]
        self._encoders: list[Encode] = [encode_unknown if codec is None else codec.encode for codec in found]
        formats = [TEXT if codec is None or codec.as_text else BINARY for codec in found]
        self._head = b"\0" + name + b"\0" + struct.pack(f"!H{count}hH", count, *formats, count)
        self._pack: Callable[..., bytes] | None = None
        self._packed_head = self._packed_tail = b""
        self._precompute()

    def _set_columns(self, columns: tuple[Column, ...]) -> None:
        self.columns = columns
        self.names = tuple(column.name for column in columns)
        self.formats = formats_of(columns)
        self.decode_rows: RowDecoder = compile_rows(columns, self.formats)
        self._tail = struct.pack(f"!h{len(self.formats)}h", len(self.formats), *self.formats)

    @property
    def introduction(self) -> bytes:
        """Parse, with the types that are taken for granted, and Describe."""
        if not self._introduction:
            parse = messages.parse(self.name, self.sql, self.types)
            self._introduction = parse + messages.describe(self.name)
        return self._introduction

    @property
    def weight(self) -> int:
        """About how many bytes it holds."""
        return len(self.sql) + COLUMN_BYTES * (len(self.types) + len(self.columns))

    def fits(self, columns: Sequence[Column]) -> bool:
        """Whether rows of these columns come in the formats in which they would be asked for."""
        asked = self.formats if len(self.formats) != 1 else self.formats * len(columns)
        return (asked or (TEXT,) * len(columns)) == formats_of(columns)

    def with_columns(self, columns: Sequence[Column]) -> Statement:
        """The same text, giving these columns."""
        return type(self)(self.name, self.sql, self.types, columns, self.confirmed, self.codecs)

    def __repr__(self) -> str:
        return f"<Statement {self.name.decode()} {self.sql[:60]!r}>"

    def _precompute(self) -> None:
        """No parameter, or one that `struct` alone encodes: the message is two constants around it."""
        if len(self.types) > 1:
            return
        size = 0
        head = self._head
        if self.types:
            codec = CODECS.get(self.types[0])
            if codec is None or not codec.plain:
                return
            size = codec.size
            head += _length(size)
            self._pack = struct.Struct("!" + codec.code).pack
        else:
            self._pack = struct.Struct("").pack
        self._packed_head = b"B" + _length(4 + len(head) + size + len(self._tail)) + head
        self._packed_tail = self._tail + messages.EXECUTE + messages.SYNC

    def bind(self, arguments: Sequence[Any]) -> bytes:
        """Bind, Execute and Sync. Raises `ValueError` for an argument that does not fit."""
        if self._pack is not None:
            try:
                return self._packed_head + self._pack(*arguments) + self._packed_tail
            except (struct.error, OverflowError):
                pass  # None, or what `bind_only` can say more about
        return self.bind_only(arguments) + messages.SYNC

    def bind_only(self, arguments: Sequence[Any]) -> bytes:
        """Bind and Execute."""
        return self.bound(arguments) + messages.EXECUTE

    def bound(self, arguments: Sequence[Any]) -> bytes:
        """Bind."""
        if len(arguments) != len(self.types):
            raise ValueError(
                f"the statement takes {len(self.types)} parameters, not {len(arguments)}: {self.sql[:200]!r}"
            )
        parts = [b"B", b"", self._head]
        for number, (encode, value) in enumerate(zip(self._encoders, arguments, strict=True)):
            if value is None:
                parts.append(NULL)
                continue
            try:
                encoded = encode(value)
            except Exception as error:
                raise self._misfit(number, value, error) from error
            parts.append(_length(len(encoded)))
            parts.append(encoded)
        parts.append(self._tail)
        size = 4 + sum(map(len, parts)) - 1
        if size > MESSAGE_MAX:
            raise ValueError(f"the parameters have {size} bytes; a message has at most {MESSAGE_MAX}")
        parts[1] = _length(size)
        return b"".join(parts)

    def _misfit(self, number: int, value: Any, error: Exception) -> ValueError:
        oid = self.types[number]
        codec = CODECS.get(oid) or self.codecs.get(oid)
        kind = codec.name if codec is not None else f"of type {oid}"
        return ValueError(f"parameter ${number + 1} is {kind}; {value!r:.80} does not fit: {error}")


class Utility(Statement):
    """A text that the server executes without planning it. As it stands its rows are skipped: they have no
    description but that of each portal (`with_columns`), if they have one at all.
    """

    __slots__ = ("by_portal", "command")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.command = first_word(self.sql)
        self.by_portal = self.command in BY_PORTAL

    def skipping(self) -> Utility:
        """The same, for rows that nobody wants."""
        blind = type(self)(self.name, self.sql, self.types, (), self.confirmed, self.codecs)
        blind.decode_rows = skip_rows
        return blind


def make_statement(
    name: bytes,
    sql: str,
    types: Sequence[int],
    columns: Sequence[Column],
    confirmed: float = NEVER_YET,
    codecs: Mapping[int, Codec] = CODECS,
) -> Statement:
    """A statement of the kind that the text is of."""
    if first_word(sql) in PLANNED:
        return Statement(name, sql, types, columns, confirmed, codecs)
    utility = Utility(name, sql, types, columns, confirmed, codecs)
    return utility.skipping() if utility.by_portal else utility


class Store:
    """Statements by their SQL: at most `limit`, and `PREPARED_BYTES_MAX` in all."""

    __slots__ = ("__weakref__", "_statements", "bytes", "clock", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._statements: dict[str, Statement] = {}
        self.clock = 0  # one more with each use

    def __len__(self) -> int:
        return len(self._statements)

    def __repr__(self) -> str:
        return f"<Store of {len(self)} statements, at most {self.limit}, {self.bytes} bytes>"

    def get(self, sql: str) -> Statement | None:
        """The statement, if it is known; it counts as used."""
        statement = self._statements.get(sql)
        if statement is not None:
            statement.used = self.clock = self.clock + 1
        return statement

    def add(self, statement: Statement) -> list[Statement]:
        """Keep one more; those that had to go for it."""
        gone = [self._pop(statement.sql)] if statement.sql in self._statements else []
        self.bytes += statement.weight
        kept = self._statements
        while kept and (len(kept) >= self.limit or self.bytes > PREPARED_BYTES_MAX):
            gone.append(self._pop(min(kept, key=lambda sql: kept[sql].used)))
        kept[statement.sql] = statement
        statement.added = statement.used = self.clock = self.clock + 1
        return gone

    def drop(self, statement: Statement) -> bool:
        """Forget this one, if it is this one that is kept."""
        kept = self._statements.get(statement.sql) is statement
        if kept:
            self._pop(statement.sql)
        return kept

    def clear(self) -> list[Statement]:
        """Forget all; those that there were."""
        gone = list(self._statements.values())
        self._statements.clear()
        self.bytes = 0
        return gone

    def _pop(self, sql: str) -> Statement:
        gone = self._statements.pop(sql)
        self.bytes -= gone.weight
        return gone


class Statements:
    """What the connections of one pool share. `limit` statements stay prepared per connection; 0 keeps none
    (for PgBouncer in transaction mode, where the next unit meets another server).

    `guesses`: what such a server may give, by what another has said; its own answer is what counts.
    """

    __slots__ = ("_fickle", "_stores", "_vanished", "guesses", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.guesses = Store(GUESSES_MAX)
        self._fickle: dict[str, None] = {}
        self._stores: WeakSet[Store] = WeakSet()  # of the connections that there are
        self._vanished = 0

    def store(self) -> Store:
        """For what one connection's server holds."""
        store = Store(self.limit)
        self._stores.add(store)
        return store

    def keeps(self, sql: str) -> bool:
        """Whether a text is to stay prepared."""
        return self.limit > 0 and len(sql) <= KEPT_MAX and sql not in self._fickle

    def turned(self, sql: str) -> None:
        """A text has changed its result inside of the transaction in which it was described, and ended it: it
        is described at each use from now on.
        """
        self._fickle[sql] = None
        if len(self._fickle) > FICKLE_MAX:
            del self._fickle[next(iter(self._fickle))]

    def vanished(self) -> bool:
        """A server did not have what was prepared; whether that shows that there is another server each time,
        and nothing stays prepared any more, nor is relied upon anywhere.
        """
        self._vanished += 1
        if not self.limit or self._vanished < VANISHED_MAX:
            return False
        self.limit = 0
        for store in self._stores:
            store.clear()
        return True
