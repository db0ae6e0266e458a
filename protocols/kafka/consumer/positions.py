"""What a consumer has read ahead: per partition how far it has come, and the batches that nobody took yet.
Pure.

Four offsets of a partition, each at or before the next: `committed` is stored with the group; what is before
`done` the reader has finished; what is before `delivered` it was given; from `offset` on is to be fetched.
Between the last two lies what was read ahead.

Which leader epochs the messages were written in is kept, too: when there is another leader, that tells
whether what was read is in its log (KIP-320).

Rules:
1. Batches wait as they came, and are unpacked one after the other when they are wanted. So what waits is
   bounded by what was fetched, and what is dropped (a partition is given back) costs nothing.
2. Of a transaction that was rolled back nothing is delivered, where only what is committed is wanted; of the
   markers that end transactions, never anything.
3. Messages are delivered per partition in the order of their offsets, and otherwise as they came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from protocols.kafka.group.assignors import TopicPartition
from protocols.kafka.offsets import Offset
from protocols.kafka.protocol.fetch_api import AbortedTransaction
from protocols.kafka.records.batch import (
    ABORT,
    Batch,
    Record,
    batches,
    control_type,
    record_pieces,
    whole_batches,
)

__all__ = ["Position", "ReadAhead"]

ENOUGH: Final = 500  # records that are unpacked at a time at least, where there are so many
EPOCHS_MAX: Final = 64  # that are remembered of a partition: elections while it is read


class Position:
    """One partition that is read."""

    __slots__ = (
        "asked",
        "believed",
        "buffered",
        "checked",
        "committed",
        "delivered",
        "done",
        "epochs",
        "failures",
        "given_back",
        "key",
        "not_before",
        "offset",
        "partition",
        "paused",
        "reset",
        "topic",
    )

    def __init__(self, key: TopicPartition, offset: int | None = None) -> None:
        self.key = key
        self.topic, self.partition = key
        self.offset = -1  # the next to fetch; not known yet
        self.delivered = self.done = self.committed = -1
        self.reset: int | None = (
            None  # which offset to look up instead (a time in ms, -1 the end, -2 the start)
        )
        self.buffered = 0  # bytes
        self.paused = False
        self.given_back = False  # it is ours no longer, or not for long
        self.asked = False  # it is part of a request that is under way
        self.not_before = 0.0
        self.failures = 0
        self.epochs: list[tuple[int, int]] = []  # of what was read: from which offset on, which leader epoch
        self.believed = -1  # the epoch before all of these, as somebody has told
        self.checked = -1  # the leader's epoch in which what is before `offset` is known to be in its log
        if offset is not None:
            self.move(offset)

    def __repr__(self) -> str:
        return f"<Position {self.topic}/{self.partition} at {self.delivered}, fetched to {self.offset}>"

    @property
    def known(self) -> bool:
        """Whether it is known where to go on."""
        return self.offset >= 0 and self.reset is None

    def move(self, offset: int, epoch: int = -1) -> None:
        """Go on there. `epoch`: in which what is before it was written, if that is known."""
        self.offset = self.delivered = self.done = offset
        self.reset = None
        self.epochs = []
        self.believed = self.checked = epoch

    def forget(self) -> None:
        """Where to go on is to be looked up."""
        self.offset = self.delivered = self.done = -1
        self.reset = None

    def epoch_before(self, offset: int) -> int:
        """The leader epoch in which what is before an offset was written; -1 if that is not known."""
        for first, epoch in reversed(self.epochs):
            if first < offset:
                return epoch
        return self.believed

    @property
    def reached(self) -> Offset:
        """Where to go on behind all that was delivered."""
        return Offset(self.delivered, self.epoch_before(self.delivered))

    def doubtful(self, leader_epoch: int) -> bool:
        """Whether a leader of this epoch may not have what was read."""
        return self.checked < leader_epoch and self.epoch_before(self.offset) >= 0

    def parted(self, epoch: int, end: int) -> int:
        """Where the log that was read and the leader's part, or `offset` if they do not: in the leader's the
        last epoch that could be ours is this one, and ends there.
        """
        beyond = next((first for first, ours in self.epochs if ours > epoch), self.offset)
        return min(end, beyond, self.offset)

    def back(self, offset: int) -> None:
        """What was read from there on is not in the leader's log."""
        self.offset = self.delivered = self.done = offset
        self.committed = -1  # perhaps it is stored that we have come further
        self.epochs = [known for known in self.epochs if known[0] < offset]

    def renew(self, reset: int) -> None:
        """The log is another's: offsets of the old one mean nothing."""
        self.move(-1)
        self.committed = -1
        self.reset = reset


class _Chunk:
    """What one answer had for one partition."""

    __slots__ = ("aborted", "batches", "pieces", "position", "rolled_back", "size")

    def __init__(self, position: Position, data: bytes, aborted: Iterable[AbortedTransaction]) -> None:
        self.position = position
        self.size = len(data)
        self.batches: Iterator[Batch] = batches(data)
        self.aborted = deque(sorted(aborted, key=lambda transaction: transaction.first_offset))
        self.rolled_back: set[int] = set()  # producers whose transaction here comes to nothing
        self.pieces = self._pieces()

    def wanted(self, batch: Batch) -> bool:
        """Whether its messages are to be delivered."""
        while self.aborted and self.aborted[0].first_offset <= batch.last_offset:
            self.rolled_back.add(self.aborted.popleft().producer)
        if batch.control:
            if control_type(batch) == ABORT:
                self.rolled_back.discard(batch.producer_id)
            return False
        return not (batch.transactional and batch.producer_id in self.rolled_back)

    def _pieces(self) -> Iterator[tuple[list[Record], int]]:
        """Records, and the offset behind them."""
        position = self.position
        for batch in self.batches:
            wanted = self.wanted(batch)
            if batch.last_offset < position.delivered:
                continue
            if wanted:
                for records in record_pieces(batch, position.topic, position.partition, position.delivered):
                    if records:
                        yield records, records[-1].offset + 1
            yield [], batch.last_offset + 1  # some of them may be gone


class ReadAhead:
    """The batches of all partitions that wait for the reader."""

    __slots__ = ("_chunks", "weight")

    def __init__(self) -> None:
        self._chunks: deque[_Chunk] = deque()
        self.weight = 0  # bytes

    def __repr__(self) -> str:
        return f"<ReadAhead {self.weight} bytes in {len(self._chunks)} pieces>"

    def __len__(self) -> int:
        return len(self._chunks)

    @property
    def waiting(self) -> bool:
        """Whether there is something to `take`, or to skip."""
        return any(not chunk.position.paused for chunk in self._chunks)

    def add(self, position: Position, data: bytes, aborted: Iterable[AbortedTransaction] = ()) -> bool:
        """What was fetched at the position's offset; moves that. False if there was nothing. Raises
        `BadMessage`.
        """
        size, behind = whole_batches(data, position.epochs)
        while len(position.epochs) > EPOCHS_MAX:
            position.believed = position.epochs.pop(0)[1]
        if not size:
            return False
        position.offset = max(behind, position.offset)
        chunk = _Chunk(position, data, aborted)
        position.buffered += chunk.size
        self.weight += chunk.size
        self._chunks.append(chunk)
        return True

    def drop(self, position: Position) -> None:
        """Forget what waits of this partition; it goes on where the reader is."""
        self._chunks = deque(chunk for chunk in self._chunks if chunk.position is not position)
        self.weight -= position.buffered
        position.buffered = 0
        if position.known:
            position.offset = position.delivered

    def take(self) -> tuple[Position, list[Record], int] | None:
        """The next messages, of one partition, and the offset behind them; None if nothing waits. A partition
        that is paused keeps its own. Raises `BadMessage`.
        """
        for _ in range(len(self._chunks)):
            chunk = self._chunks[0]
            if chunk.position.paused:
                self._chunks.rotate(-1)
                continue
            records, behind = self._unpack(chunk)
            if records:
                return chunk.position, records, behind
        return None

    def _unpack(self, chunk: _Chunk) -> tuple[list[Record], int]:
        """Some batches of a chunk; the last of them leaves the buffer with it."""
        position = chunk.position
        records: list[Record] = []
        behind = position.delivered
        for piece, behind in chunk.pieces:
            records += piece
            if len(records) >= ENOUGH:
                return records, behind
        self._chunks.popleft()
        self.weight -= chunk.size
        position.buffered -= chunk.size
        if not records:  # markers, or what was rolled back: there is nothing for the reader to finish
            position.delivered = position.done = behind
        return records, behind
