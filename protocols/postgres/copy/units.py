"""Units of COPY, and the two ends that users see: where the data comes from, and where it goes.

`copy_in` and `copy_in_records` send data; their replies settle with the number of rows once the server has
all of it. `copy_out` and `copy_out_records` get data; their replies settle with a `CopyStream` when the first
of it is there. Both go by the simple protocol, for COPY takes no parameters, and a ReadyForQuery follows
whatever happens.

Rules:
1. Data that is asked for a piece at a time (an iterable, a `Channel`) is asked for as the server takes it:
   `OUTPUT_MAX` bytes and one item wait here, whatever the whole has.
2. A source that fails ends its copy with CopyFail: nothing of it stays, the connection goes on, and the
   reply fails with the source's own error. However a copy comes to its end, its channel is closed, so whoever
   feeds it does not wait for nothing.
3. No copy is sent twice: the data may not be there any more.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Generic, Literal, TypeVar

from actors import Channel, ChannelClosed, Misuse, Reply, Scope
from actors.channels import ChannelStatistics
from pools import Unit
from protocols.postgres import messages
from protocols.postgres.identifiers import column_list, table
from protocols.postgres.messages import Column
from protocols.postgres.units import Sql

from . import binary
from .binary import Gather

__all__ = [
    "CopyIn",
    "CopyOut",
    "CopyStream",
    "Data",
    "Feed",
    "Format",
    "Records",
    "copy_in",
    "copy_in_records",
    "copy_out",
    "copy_out_records",
]

T = TypeVar("T")

Data = bytes | bytearray | memoryview | Iterable[bytes] | Channel[bytes]
Records = Iterable[Sequence[Any]] | Channel[Any]
Format = Literal["text", "csv", "binary"]

PIECE: Final = 1 << 15  # bytes of a CopyData message, about
BYTES: Final = (bytes, bytearray, memoryview)
STREAM_CAPACITY: Final = 1 << 18  # bytes between a connection and a stream's reader

_is_copy = re.compile(r"\s*copy\s", re.IGNORECASE).match


# -- in -------------------------------------------------------------------------------------------


def slices(data: bytes | bytearray | memoryview) -> Iterator[bytes]:
    """Data that is there already, piece by piece."""
    view = memoryview(data).cast("B")
    for start in range(0, len(view), PIECE):
        yield bytes(view[start : start + PIECE])


class Feed:
    """The data of one copy as it is sent. `gather` makes bytes of the source's items."""

    __slots__ = ("_channel", "_gather", "_head", "_items", "_over", "_rest", "_tail")

    def __init__(
        self, source: Any, gather: Gather = binary.gather_bytes, head: bytes = b"", tail: bytes = b""
    ) -> None:
        self._channel = source if isinstance(source, Channel) else None
        self._items: Iterator[Any] = iter(()) if self._channel is not None else iter(source)
        self._gather = gather
        self._head = head
        self._tail = tail
        self._rest = memoryview(b"")
        self._over = False

    def __repr__(self) -> str:
        return f"<Feed {'at its end' if self._over else 'going on'}>"

    def attach(self, scope: Scope) -> None:
        """Wake this machine when the source has more."""
        if self._channel is not None:
            self._channel.attach_receiver(scope)

    def next(self) -> bytes | None:
        """The next CopyData or the CopyDone at the end, None if nothing is there yet. Raises what the source
        raises.
        """
        if not self._rest:
            data = self._gathered()
            if not data:
                return messages.COPY_DONE if self._over else None
            self._rest = memoryview(data)
        piece, self._rest = self._rest[: 2 * PIECE], self._rest[2 * PIECE :]
        return messages.copy_data(bytes(piece))

    def _gathered(self) -> bytes:
        """What is there, about a piece of it."""
        if self._over:
            return b""
        parts = [self._head]
        self._head = b""
        if self._channel is None:
            self._over = self._gather(self._items, parts, PIECE)
        else:
            self._gather(self._received(self._channel), parts, PIECE)
        if self._over:
            parts.append(self._tail)
        return b"".join(parts)

    def _received(self, channel: Channel[Any]) -> Iterator[Any]:
        """What is in the channel now."""
        while len(channel):
            yield channel.take()
        if channel.ended:
            if channel.error is not None:
                raise channel.error
            self._over = True


class CopyIn(Unit[int, Sql]):
    """COPY FROM STDIN: a statement and its data. Settles with the number of rows.

    With `sql`, which selects the columns, the data are records and the statement is made of their types.
    """

    __slots__ = ("_data", "_opened", "_statement", "_table", "size", "sql")

    pipelinable = False
    counts = True

    def __init__(self, statement: str, data: Any, *, into: str = "", sql: str = "") -> None:
        if isinstance(data, str) or not isinstance(data, Iterable | Channel):
            raise TypeError(
                f"a copy's data is bytes, something to iterate over, or a Channel, not {data!r:.80}"
            )
        self._statement = statement
        self._table = into
        self._data = data
        self._opened = False
        self.sql = sql
        self.size = len(statement) + (memoryview(data).nbytes if isinstance(data, BYTES) else 0)

    def __repr__(self) -> str:
        return f"<CopyIn {self._statement or self._table!r:.60}>"

    @property
    def lasting(self) -> bool:
        """Whether the data is there, and can be sent a second time."""
        return not isinstance(self._data, Channel | Iterator)

    def statement(self, columns: Sequence[Column]) -> str:
        """The statement, for records of these columns."""
        if not self.sql:
            return self._statement
        names = column_list(column.name for column in columns)
        return f"copy {self._table}{names} from stdin (format binary)"

    def open(self, columns: Sequence[Column]) -> Feed:
        """Begin with the data. Raises `Misuse` if it was used up before."""
        if self._opened and not self.lasting:
            raise Misuse("the data of this copy was used up by another submission; make a unit for each")
        self._opened = True
        if self.sql:
            return Feed(self._data, binary.compile_records(columns), binary.HEADER, binary.TRAILER)
        data = self._data
        return Feed(slices(data) if isinstance(data, BYTES) else data)

    def dropped(self) -> None:
        """No more of the data is wanted: tell who feeds it."""
        self.end(None)

    def settled(self, reply: Reply[int]) -> None:
        """It is over, however it came to that: who feeds it hears why."""
        self.end(reply.error)

    def end(self, error: BaseException | None) -> None:
        """No more of the data is wanted."""
        if isinstance(self._data, Channel):
            self._data.cancel(error)


def copy_in(
    target: str | Sequence[str],
    data: Data,
    *,
    columns: Iterable[str] = (),
    format: Format = "text",
) -> CopyIn:
    """A unit: COPY FROM STDIN; how many rows.

    `target` is the statement (`copy t (a, b) from stdin (format csv)`), or a table's name, or `(schema,
    name)`; then `columns` (all by default) and `format` say the rest. `data` is bytes, an iterable of bytes,
    or a `Channel` of them, which is closed when the copy has ended. The deadline counts all of it: give a
    large copy the time it needs. Raises `ValueError` for what is no such statement, `TypeError` for no such
    data.
    """
    statement = statement_of(target, columns, format, "from stdin")
    return CopyIn(statement, data)


def copy_in_records(into: str | Sequence[str], records: Records, *, columns: Iterable[str] = ()) -> CopyIn:
    """A unit: sequences of Python values, one per row, in the binary format of COPY; how many rows.

    `into` is the table's name, or `(schema, name)`; `columns` are all by default. `records` is an iterable,
    or a `Channel`. A value that does not fit its column fails the copy with `ValueError`, and nothing of it
    stays.
    """
    name = table(into)
    listed = column_list(columns)[2:-1]
    return CopyIn("", records, into=name, sql=f"select {listed or '*'} from {name}")


def statement_of(target: str | Sequence[str], columns: Iterable[str], format: Format, direction: str) -> str:
    """A statement as it is given, or made for a table."""
    if not isinstance(target, str) or _is_copy(target) is None:
        if format not in ("text", "csv", "binary"):
            raise ValueError(f"format={format!r}; write text, csv or binary")
        return f"copy {table(target)}{column_list(columns)} {direction} (format {format})"
    if tuple(columns) or format != "text":
        raise ValueError("columns= and format= are for a table's name; write them into the statement")
    return target


# -- out ------------------------------------------------------------------------------------------


class CopyStream(Generic[T]):
    """What comes out of a COPY, no faster than it is read: `async for chunk in stream`.

    A chunk is bytes, or a list of records; where it ends means nothing. `rows` is their number, known at the
    end. Leaving it unread holds the connection: `cancel()` gives it back.
    """

    __slots__ = ("_chunks", "_convert", "rows")

    def __init__(self, chunks: Channel[bytes], convert: Callable[[bytes], T]) -> None:
        self._chunks = chunks
        self._convert = convert
        self.rows: int | None = None

    def __repr__(self) -> str:
        return f"<CopyStream {self._chunks!r}{'' if self.rows is None else f', {self.rows} rows'}>"

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            try:
                chunk = await self.receive()
            except ChannelClosed:
                if self.rows is None:
                    raise
                return
            yield chunk

    async def receive(self) -> T:
        """The next chunk. Raises what has ended the copy, or `ChannelClosed` at its end."""
        chunk = await self._chunks.receive()
        try:
            return self._convert(chunk)
        except Exception:
            self.cancel()
            raise

    def cancel(self) -> None:
        """No more is wanted."""
        self._chunks.cancel()

    def statistics(self) -> ChannelStatistics:
        """What waits for the reader, in bytes."""
        return self._chunks.statistics()


class CopyOut(Unit[Any, Sql]):
    """COPY TO STDOUT. With `sql`, which is what it selects, records of Python values come out."""

    __slots__ = ("_statement", "silence", "size", "sql")

    pipelinable = False
    counts = True

    def __init__(self, statement: str, silence: float, sql: str = "") -> None:
        if silence <= 0:
            raise ValueError(f"silence={silence}; write seconds above 0")
        self._statement = statement
        self.silence = silence
        self.sql = sql
        self.size = len(statement)

    def __repr__(self) -> str:
        return f"<CopyOut {self._statement!r:.60}>"

    def statement(self, columns: Sequence[Column]) -> str:
        """The statement."""
        return self._statement

    def converter(self, columns: Sequence[Column]) -> Callable[[bytes], Any]:
        """What makes a chunk of what has come."""
        return binary.record_decoder(columns) if self.sql else bytes

    @staticmethod
    def stream(convert: Callable[[bytes], Any], scope: Scope) -> tuple[CopyStream[Any], Channel[bytes]]:
        """What the reply settles with, and its other end."""
        chunks: Channel[bytes] = Channel(STREAM_CAPACITY, weigh=len)
        chunks.attach_sender(scope)
        return CopyStream(chunks, convert), chunks


def copy_out(
    source: str | Sequence[str],
    *,
    columns: Iterable[str] = (),
    format: Format = "text",
    silence: float = 60.0,
) -> Unit[CopyStream[bytes], Sql]:
    """A unit: COPY TO STDOUT; a stream of bytes.

    `source` is the statement (`copy (select …) to stdout (format csv)`), or a table's name, or `(schema,
    name)`; then `columns` (all by default) and `format` say the rest. The deadline counts until the first of
    the data is there; from then on `silence` is how many seconds the server may take for the next. Raises
    `ValueError` for what is no such statement.
    """
    return CopyOut(statement_of(source, columns, format, "to stdout"), silence)


def copy_out_records(sql: str, *, silence: float = 60.0) -> Unit[CopyStream[list[tuple[Any, ...]]], Sql]:
    """A unit: the rows of a query without parameters, streamed as lists of tuples; the rest as `copy_out`."""
    return CopyOut(f"copy ({sql}) to stdout (format binary)", silence, sql)
