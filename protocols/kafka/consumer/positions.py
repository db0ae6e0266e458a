"""The table of what a consumer reads: per partition how far it has come, and the batches that nobody took
yet. No I/O, and the only place where a position changes: others tell it by a method what has happened.

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

import random
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
from protocols.kafka.retrying import retry

__all__ = ["Position", "Positions", "ReadAhead"]

ENOUGH: Final = 500  # records that are unpacked at a time at least, where there are so many
EPOCHS_MAX: Final = 64  # that are remembered of a partition: elections while it is read


class Position:
    """One partition that is read. Others read its attributes, and change them by its methods alone."""

    __slots__ = (
        "asked",
        "believed",
        "buffered",
        "checked",
        "committed",
        "delivered",
        "done",
        "epochs",
        "given_back",
        "key",
        "offset",
        "paused",
        "reset",
        "retry",
    )

    def __init__(self, key: TopicPartition, source: random.Random, offset: int | None = None) -> None:
        self.key = key
        self.offset = -1  # the next to fetch; not known yet
        self.delivered = self.done = self.committed = -1
        self.reset: int | None = None  # what to look up instead: a time in ms, -1 the end, -2 the start
        self.buffered = 0  # bytes
        self.paused = False
        self.given_back = False  # it is ours no longer, or not for long
        self.asked = False  # it is part of a request that is under way
        self.retry = retry(source)
        self.epochs: list[tuple[int, int]] = []  # of what was read: from which offset on, which leader epoch
        self.believed = -1  # the epoch before all of these, as somebody has told
        self.checked = -1  # the leader's epoch in which what is before `offset` is known to be in its log
        if offset is not None:
            self.move(offset)

    def __repr__(self) -> str:
        return f"<Position {self.topic}/{self.partition} at {self.delivered}, fetched to {self.offset}>"

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self.key.topic

    @property
    def partition(self) -> int:
        """The partition's number in its topic."""
        return self.key.partition

    @property
    def known(self) -> bool:
        """Whether it is known where to go on."""
        return self.offset >= 0 and self.reset is None

    @property
    def lost(self) -> bool:
        """Whether nothing says where to go on, and nothing has been asked about it."""
        return self.offset < 0 and self.reset is None

    @property
    def reached(self) -> Offset:
        """Where to go on behind all that was delivered."""
        return Offset(self.delivered, self.epoch_before(self.delivered))

    # -- where to read ---------------------------------------------------------------------------------------

    def move(self, offset: int, epoch: int = -1) -> None:
        """Go on there. `epoch`: in which what is before it was written, if that is known."""
        self.offset = self.delivered = self.done = offset
        self.reset = None
        self.epochs = []
        self.believed = self.checked = epoch

    def forget(self) -> None:
        """Where to go on is to be looked up in the group."""
        self.offset = self.delivered = self.done = -1
        self.reset = None

    def look_up(self, reset: int) -> None:
        """Where to go on is to be asked of the leader."""
        self.reset = reset

    def back(self, offset: int) -> None:
        """What was read from there on is not in the leader's log."""
        self.offset = self.delivered = self.done = offset
        self.committed = -1  # perhaps it is stored that we have come further
        self.cut(offset)

    def cut(self, offset: int) -> None:
        """Forget the epochs from this offset on."""
        self.epochs = [known for known in self.epochs if known[0] < offset]

    def renew(self, reset: int) -> None:
        """The log is another's: offsets of the old one mean nothing."""
        self.move(-1)
        self.committed = -1
        self.reset = reset

    # -- what the reader does --------------------------------------------------------------------------------

    def at(self, done: int, delivered: int) -> None:
        """The reader has finished what is before `done`, and was given what is before `delivered`."""
        self.done = done
        self.delivered = delivered

    def finish(self) -> None:
        """The reader has finished all that it was given."""
        self.done = self.delivered

    def stored(self, offset: int) -> None:
        """The group has stored that what is before this is finished: less than before, after a seek."""
        self.committed = offset

    def pause(self) -> None:
        """Deliver nothing until `resume`."""
        self.paused = True

    def resume(self) -> None:
        """Go on, unless the group is taking it away."""
        self.paused = self.given_back

    def give_back(self) -> None:
        """It is ours no longer, or not for long."""
        self.paused = self.given_back = True

    # -- what is asked and fetched ---------------------------------------------------------------------------

    def ask(self) -> None:
        """A request of it is under way."""
        self.asked = True

    def heard(self) -> None:
        """That request was answered, or will not be."""
        self.asked = False

    def fetched(self, data: bytes) -> int:
        """What was fetched at its offset: goes on behind whole batches. Returns their bytes. Raises
        `BadMessage`.
        """
        size, behind = whole_batches(data, self.epochs)
        while len(self.epochs) > EPOCHS_MAX:
            self.believed = self.epochs.pop(0)[1]
        if size:
            self.offset = max(behind, self.offset)
            self.buffered += len(data)
        return size

    def unpacked(self, size: int) -> None:
        """So many bytes less wait."""
        self.buffered -= size

    def dropped(self) -> None:
        """Nothing of it waits any more: it goes on where the reader is."""
        self.buffered = 0
        if self.known:
            self.offset = self.delivered

    # -- leader epochs ---------------------------------------------------------------------------------------

    def epoch_before(self, offset: int) -> int:
        """The leader epoch in which what is before an offset was written; -1 if that is not known."""
        for first, epoch in reversed(self.epochs):
            if first < offset:
                return epoch
        return self.believed

    def doubtful(self, leader_epoch: int) -> bool:
        """Whether a leader of this epoch may not have what was read."""
        return self.checked < leader_epoch and self.epoch_before(self.offset) >= 0

    def agrees(self, leader_epoch: int) -> None:
        """A leader of this epoch has answered a fetch: it has what is before the offset."""
        if self.checked < leader_epoch:
            self.believed = self.checked = leader_epoch

    def compared(self, leader_epoch: int) -> None:
        """What was read was compared with the log of a leader of this epoch, as far as it can be."""
        self.checked = leader_epoch

    def parted(self, epoch: int, end: int) -> int:
        """Where the log that was read and the leader's part, or `offset` if they do not: in the leader's the
        last epoch that could be ours is this one, and ends there.
        """
        beyond = next((first for first, ours in self.epochs if ours > epoch), self.offset)
        return min(end, beyond, self.offset)


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
        if not position.fetched(data):
            return False
        self.weight += len(data)
        self._chunks.append(_Chunk(position, data, aborted))
        return True

    def drop(self, position: Position) -> None:
        """Forget what waits of this partition; it goes on where the reader is."""
        self._chunks = deque(chunk for chunk in self._chunks if chunk.position is not position)
        self.weight -= position.buffered
        position.dropped()

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
        position.unpacked(chunk.size)
        if not records:  # markers, or what was rolled back: there is nothing for the reader to finish
            position.at(behind, behind)
        return records, behind


class Positions(dict[TopicPartition, Position]):
    """What is read, by partition, and what was read ahead of it."""

    __slots__ = ("_source", "_turn", "buffer")

    def __init__(self, source: random.Random) -> None:
        super().__init__()
        self.buffer = ReadAhead()
        self._source = source
        self._turn = 0

    def __repr__(self) -> str:
        return f"<Positions of {len(self)} partitions, {self.buffer!r}>"

    @property
    def reached(self) -> dict[TopicPartition, Offset]:
        """Where to go on behind all that was delivered, for each of which it is known."""
        return {key: position.reached for key, position in self.items() if position.delivered >= 0}

    def add(self, keys: Iterable[TopicPartition]) -> None:
        """Read these too, those that are not read yet."""
        for key in keys:
            if key not in self:
                self[key] = Position(key, self._source)

    def remove(self, keys: Iterable[TopicPartition]) -> None:
        """Stop reading these."""
        for key in keys:
            position = self.pop(key, None)
            if position is not None:
                self.buffer.drop(position)

    def stored(self, key: TopicPartition, offset: int, epoch: int) -> None:
        """The group has told what is stored with it: go on there."""
        position = self[key]
        position.move(offset, epoch)
        position.stored(offset)

    def epoch_before(self, key: TopicPartition, offset: int) -> int:
        """The leader epoch in which what is before an offset was written; -1 if that is not known."""
        position = self.get(key)
        return -1 if position is None else position.epoch_before(offset)

    def in_turn(self) -> list[Position]:
        """All of them, another one first each time."""
        self._turn += 1
        positions = list(self.values())
        if not positions:
            return positions
        first = self._turn % len(positions)
        return positions[first:] + positions[:first]
