"""Statements: what is known of one SQL text, compiled once for all connections of a pool. No I/O.

A statement is described by the server when the pool meets it first, on one connection; from then on every
connection prepares it in the same write that uses it. Its name is the same everywhere. Which connection has
prepared it is the wire's to know. Both stores are bounded; the longest unused goes first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from . import messages
from .messages import Column
from .rows import BINARY, TEXT, RowDecoder, compile_rows, formats_of
from .types import CODECS, encode_as_text
from .types.scalars import Encode

__all__ = ["Statement", "Statements", "Store"]

NULL: Final = b"\xff\xff\xff\xff"
PARAMETERS_MAX: Final = 65_535  # of one statement: they are counted in 16 bits
MESSAGE_MAX: Final = (1 << 30) - 1  # bytes: the server takes no more

_length = struct.Struct("!i").pack


class Statement:
    """One SQL text with its types. `bind` is what using it costs. Raises `ValueError` for too many types."""

    __slots__ = (
        "_encoders",
        "_head",
        "_pack",
        "_packed_head",
        "_packed_tail",
        "_tail",
        "columns",
        "decode_rows",
        "described",
        "formats",
        "introduction",
        "name",
        "names",
        "sql",
        "types",
    )

    def __init__(
        self,
        name: bytes,
        sql: str,
        types: Sequence[int],
        columns: Sequence[Column],
        described: float = 0.0,
    ) -> None:
        if len(types) > PARAMETERS_MAX:
            raise ValueError(
                f"the statement takes {len(types)} parameters; the protocol has {PARAMETERS_MAX} at most: "
                "give an array (= any($1), unnest($1)), or use execute_many"
            )
        self.name = name
        self.sql = sql
        self.described = described  # when the server has said so (monotonic seconds)
        self.types = tuple(types)
        self.columns = tuple(columns)
        self.names = tuple(column.name for column in columns)
        self.formats = formats_of(columns)
        self.decode_rows: RowDecoder = compile_rows(columns, self.formats)
        self.introduction = messages.parse(name, sql, types) + messages.describe(name)
        self._encoders: list[Encode] = [
            CODECS[oid].encode if oid in CODECS else encode_as_text for oid in self.types
        ]
        formats = [BINARY if oid in CODECS else TEXT for oid in self.types]
        count = len(self.types)
        self._head = b"\0" + name + b"\0" + struct.pack(f"!H{count}hH", count, *formats, count)
        self._tail = struct.pack(f"!h{len(self.formats)}h", len(self.formats), *self.formats)
        self._pack: Callable[..., bytes] | None = None
        self._packed_head = self._packed_tail = b""
        self._precompute()

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
        parts.append(messages.EXECUTE)
        return b"".join(parts)

    def _misfit(self, number: int, value: Any, error: Exception) -> ValueError:
        codec = CODECS.get(self.types[number])
        kind = codec.name if codec is not None else f"of type {self.types[number]}"
        return ValueError(f"parameter ${number + 1} is {kind}; {value!r:.80} does not fit: {error}")


class Store:
    """Statements by their SQL, at most `limit`."""

    __slots__ = ("_clock", "_statements", "_used", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._statements: dict[str, Statement] = {}
        self._used: dict[str, int] = {}  # when, by `_clock`
        self._clock = 0

    def __len__(self) -> int:
        return len(self._statements)

    def __repr__(self) -> str:
        return f"<Store of {len(self)} statements, at most {self.limit}>"

    def get(self, sql: str) -> Statement | None:
        """The statement, if it is known; it counts as used."""
        statement = self._statements.get(sql)
        if statement is not None:
            self._clock = self._used[sql] = self._clock + 1
        return statement

    def add(self, statement: Statement) -> Statement | None:
        """Keep one more; the one that had to go for it."""
        sql = statement.sql
        gone = None
        if len(self._statements) >= self.limit and sql not in self._statements:
            oldest = min(self._used, key=self._used.__getitem__)
            gone = self._statements.pop(oldest)
            del self._used[oldest]
        self._statements[sql] = statement
        self._clock = self._used[sql] = self._clock + 1
        return gone

    def drop(self, statement: Statement) -> None:
        """Forget this one, if it is this one that is kept."""
        if self._statements.get(statement.sql) is statement:
            del self._statements[statement.sql]
            del self._used[statement.sql]

    def forget(self, sql: str) -> None:
        """Forget what this text meant."""
        self._statements.pop(sql, None)
        self._used.pop(sql, None)


class Statements:
    """What the connections of one pool share. `limit` statements per connection; 0 keeps none prepared (for
    PgBouncer in transaction mode, where the next unit meets another server).
    """

    __slots__ = ("_number", "limit", "store")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.store = Store(max(4 * limit, 256))
        self._number = 0

    def next_name(self) -> bytes:
        """For the next statement to be prepared; empty where none is kept."""
        if not self.limit:
            return b""
        self._number += 1
        return b"windlass_%d" % self._number
