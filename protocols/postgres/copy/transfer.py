"""One copy on its connection: what the wire does with CopyData, either way.

Rules:
1. Nothing is sent between a COPY FROM STDIN and the end of its data, which comes once: CopyDone or CopyFail.
   After the server's error there is nothing to end, and the rest of the data is dropped.
2. A stream that is full stops the reading. The connection is read again when there is room.
3. A reader that goes away lets what is left go by, `SKIP_MAX` bytes and `SKIP_SECONDS` of it. More than that
   is cut off: a CancelRequest, and the connection is closed. Half an answer is left to nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from actors import NEVER, Channel, Scope, Transport
from pools import ConnectionLost, Work
from pools.units import EXCHANGE
from protocols.postgres import messages
from protocols.postgres.errors import BadMessage, PostgresError, UnreadableValue
from protocols.postgres.messages import Column

from .binary import records_in
from .units import CopyIn, CopyOut, CopyStream, Feed

__all__ = ["Incoming", "Outgoing"]

OUTPUT_MAX: Final = 1 << 18  # bytes of a copy that wait to be sent
PIECES_MAX: Final = 16  # that are asked of a source in one turn of the loop
SKIP_MAX: Final = 1 << 18  # bytes that are read although nobody wants them, to save the connection
SKIP_SECONDS: Final = 1.0
READER_SECONDS: Final = 3600.0  # without a chunk taken of a stream that is full
CANCELED: Final = "57014"
DATA_ROW: Final = b"D"


class Outgoing:
    """COPY FROM STDIN."""

    __slots__ = ("_columns", "_feed", "_over", "_unit", "failure")

    def __init__(self, unit: CopyIn, columns: Sequence[Column]) -> None:
        self._unit = unit
        self._columns = columns
        self._feed: Feed | None = None  # until the server is ready for it
        self._over = False  # nothing more is to be sent
        self.failure: Exception | None = None  # ours

    def __repr__(self) -> str:
        return f"<Outgoing {'over' if self._over else self._feed!r}>"

    def begin(self, scope: Scope) -> None:
        """The server is ready for the data: a second time if somebody has written two COPYs, which is one too
        many.
        """
        if self._feed is not None:
            self._over = False
            self.failure = self.failure or ValueError("a unit of copy has one COPY")
            return
        try:
            self._feed = self._unit.open(self._columns)
            self._feed.attach(scope)
        except Exception as error:
            self._feed = Feed(())
            self.failure = error

    def pump(self, stream: Transport, under: Transport) -> bool:
        """Send what there is and has room; whether there may be more at once."""
        feed = self._feed
        if feed is None or self._over:
            return False
        more = False
        if self.failure is None:
            try:
                more = self._move(feed, stream, under)
            except Exception as error:
                self.failure = error
        if self.failure is not None and not self._over:
            stream.write(messages.copy_fail(f"{type(self.failure).__name__}: {self.failure}"))
            self._over = True
        return more and not self._over

    def _move(self, feed: Feed, stream: Transport, under: Transport) -> bool:
        for _ in range(PIECES_MAX):
            if under.unsent >= OUTPUT_MAX:
                break
            piece = feed.next()
            if piece is None or self.failure is not None:  # the source may have cancelled the copy itself
                return False
            stream.write(piece)
            if piece is messages.COPY_DONE:
                self._over = True
                return False
        return True

    def refused(self, error: PostgresError) -> None:
        """The server has said why it takes no more."""
        self._over = True
        self._unit.end(error)

    def abandon(self, error: BaseException | None) -> None:
        """Nobody waits any more: it is not to be done."""
        if self.failure is None:
            self.failure = error if isinstance(error, Exception) else Exception("cancelled")
        self._unit.end(error)

    def outcome(self, error: PostgresError | None) -> Exception | None:
        """Why it has failed, None if it has not: our own reason if it was that which the server repeats."""
        if self.failure is not None and (error is None or error.sqlstate == CANCELED):
            return self.failure
        if error is not None:
            return error
        if self._feed is not None and not self._over:
            raise BadMessage("the server has ended a copy before its data had come to its end")
        if self._feed is None:
            return ValueError(
                "the statement is not a COPY FROM STDIN; it was executed, and the data was not used"
            )
        return None


class Incoming:
    """COPY TO STDOUT. Streams, or gathers for a transaction: up to `gathered_max` bytes."""

    __slots__ = (
        "_begun",
        "_binary",
        "_chunks",
        "_convert",
        "_gathered_max",
        "_left",
        "_parts",
        "_silence",
        "_size",
        "_skipping",
        "_stream",
        "_streams",
        "due",
        "failure",
    )

    def __init__(self, work: Work[Any], columns: Sequence[Column], gathered_max: int) -> None:
        unit: CopyOut = work.unit
        self._convert: Callable[[bytes], Any] = unit.converter(columns)
        self._binary = bool(unit.sql)
        self._silence = unit.silence
        self._streams = work.stage != EXCHANGE
        self._gathered_max = gathered_max
        self._begun = False
        self._parts: list[bytes] = []
        self._size = 0  # of them
        self._stream: CopyStream[Any] | None = None
        self._chunks: Channel[bytes] | None = None
        self._skipping = False
        self._left = SKIP_MAX  # bytes that may still be skipped
        self.due = NEVER  # when the server, or the reader, has been silent for too long
        self.failure: Exception | None = None

    def __repr__(self) -> str:
        return f"<Incoming {'skipping' if self._skipping else self._stream!r}>"

    @property
    def blocked(self) -> bool:
        """Whether the stream is full."""
        chunks = self._chunks
        return chunks is not None and not self._skipping and not chunks.writable

    @property
    def spent(self) -> bool:
        """Whether more was skipped than a connection is worth."""
        return self._left < 0

    def take(self, data: bytes, at: int, size: int) -> int:
        """A run of whole CopyData messages; where it ends."""
        parts = self._parts
        while size - at >= 5 and data[at] == 100:
            end = at + 1 + int.from_bytes(data[at + 1 : at + 5])
            if end > size or end < at + 5:
                break
            if self._skipping:
                self._left -= end - at
            elif self.failure is not None:
                pass
            elif self._binary:
                record = records_in(data[at + 5 : end], not self._begun)
                if record:
                    parts += (DATA_ROW, (len(record) + 4).to_bytes(4), record)
                    self._size += len(record) + 5
            else:
                parts.append(data[at + 5 : end])
                self._size += end - at - 5
            self._begun = True
            at = end
        if not self._streams and self._size > self._gathered_max:
            self.failure = UnreadableValue(
                f"a copy of more than {self._gathered_max} bytes; raise result_bytes=, "
                "or stream it outside a transaction"
            )
            self._forget()
        return at

    def hand_on(self, scope: Scope) -> CopyStream[Any] | None:
        """Pass on what was taken; the stream, if it has just begun."""
        if not self._streams:
            return None
        begun = None
        if self._parts and not self._skipping:
            if self._chunks is None:
                begun, self._chunks = self._begin(scope)
            chunks = self._chunks
            if not chunks.ended:
                chunks.put(b"".join(self._parts))
        self._forget()
        self._pace(scope.now)
        return begun

    def _begin(self, scope: Scope) -> tuple[CopyStream[Any], Channel[bytes]]:
        self._stream, self._chunks = CopyOut.stream(self._convert, scope)
        return self._stream, self._chunks

    def _pace(self, now: float) -> None:
        chunks = self._chunks
        if chunks is not None and chunks.ended and not self._skipping:
            self.abandon(now)
        elif chunks is not None and not self._skipping:
            self.due = now + (self._silence if chunks.writable else READER_SECONDS)

    def _forget(self) -> None:
        self._parts = []
        self._size = 0

    def abandon(self, now: float) -> None:
        """Nobody wants it any more."""
        if not self._skipping:
            self._skipping = True
            self._forget()
            self.due = now + SKIP_SECONDS

    def value(self, scope: Scope, rows: int) -> Any:
        """What the reply settles with at the end: a stream with all that is left in it, or for a transaction
        the whole. Raises `UnreadableValue`.
        """
        if not self._streams:
            return self._convert(b"".join(self._parts))
        if self._chunks is None:
            self._begin(scope)
        assert self._stream is not None
        assert self._chunks is not None
        if self._parts:
            self._chunks.put(b"".join(self._parts))
        self._stream.rows = rows
        self._chunks.close()
        return self._stream

    def fail(self, error: BaseException) -> None:
        """Tell the reader that there will be no more."""
        if self._chunks is not None:
            self._chunks.close(error)

    def lost(self, error: BaseException | None) -> None:
        """The connection is gone."""
        lost = ConnectionLost("the connection was lost in the middle of a copy")
        lost.__cause__ = error
        self.fail(lost)
