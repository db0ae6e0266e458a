"""One partition's log, as its leader keeps it. Pure.

Rules:
1. What is appended gets the next offsets. It is `committed`, and shown to readers, when the replicas have
   it.
2. An idempotent producer's batch is taken once: one of its last five again is answered with the offset that
   it has; one out of turn, or of an epoch that is over, is refused (KIP-98, KIP-360). What is known of a
   producer is what the log holds of it, so it goes when that is cut off.
3. `cut` is what happens when another replica takes over that was behind: nothing committed is ever lost,
   unless it is an unclean election.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from protocols.kafka.codes import Code
from protocols.kafka.errors import BadMessage
from protocols.kafka.records.batch import Batch, Record, batches, read_records

__all__ = ["Entry", "Log"]

REMEMBERED: Final = 5  # batches of each producer
SEQUENCES: Final = 1 << 31

_base = struct.Struct(">q")
_epoch = struct.Struct(">i")


class Entry(NamedTuple):
    """A batch in the log: its first offset, the one behind it, and how it is sent to readers."""

    base: int
    behind: int
    batch: Batch
    data: bytes


class Log:
    """`committed`: the offset behind what all replicas have (the high watermark)."""

    __slots__ = ("_producers", "committed", "entries")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.committed = 0
        self._producers: dict[int, list[Entry]] = {}

    def __repr__(self) -> str:
        return f"<Log of {len(self.entries)} batches, committed to {self.committed} of {self.end}>"

    @property
    def end(self) -> int:
        """The offset that the next record will have."""
        return self.entries[-1].behind if self.entries else 0

    def append(self, data: bytes, leader_epoch: int) -> Entry | int:
        """Take a batch. Returns where it stands, perhaps for long; or the error code that refuses it."""
        try:
            (batch,) = batches(data)
            read_records(batch, "", 0)
        except (BadMessage, ValueError):
            return Code.CORRUPT_MESSAGE
        if batch.producer_id >= 0:
            known = self._judge(batch)
            if known is not None:
                return known
        base = self.end
        stamped = _base.pack(base) + data[8:12] + _epoch.pack(leader_epoch) + data[16:]
        (batch,) = batches(stamped)
        entry = Entry(base, batch.last_offset + 1, batch, stamped)
        self.entries.append(entry)
        self._remember(entry)
        return entry

    def _judge(self, batch: Batch) -> Entry | int | None:
        recent = self._producers.get(batch.producer_id)
        if recent is None:
            return None
        last = recent[-1].batch
        if batch.producer_epoch < last.producer_epoch:
            return Code.INVALID_PRODUCER_EPOCH
        if batch.producer_epoch > last.producer_epoch:
            return Code.OUT_OF_ORDER_SEQUENCE_NUMBER if batch.base_sequence else None
        for entry in recent:
            held = entry.batch
            if (held.producer_epoch, held.base_sequence, held.count) == (
                batch.producer_epoch,
                batch.base_sequence,
                batch.count,
            ):
                return entry
        expected = (last.base_sequence + last.count) % SEQUENCES
        return None if batch.base_sequence == expected else Code.OUT_OF_ORDER_SEQUENCE_NUMBER

    def _remember(self, entry: Entry) -> None:
        if entry.batch.producer_id >= 0:
            recent = self._producers.setdefault(entry.batch.producer_id, [])
            recent.append(entry)
            del recent[:-REMEMBERED]

    def commit(self, behind: int) -> bool:
        """The replicas have everything before `behind`. Whether that is news."""
        if behind <= self.committed:
            return False
        self.committed = behind
        return True

    def cut(self, behind: int, *, unclean: bool = False) -> None:
        """A replica takes over that has only what is before `behind`; all of that is committed then.
        `unclean`: what was committed before may be lost.
        """
        end = behind if unclean else max(behind, self.committed)
        self.entries = [entry for entry in self.entries if entry.behind <= end]
        self._producers = {}
        for entry in self.entries:
            self._remember(entry)
        self.committed = self.end

    def end_of(self, epoch: int) -> tuple[int, int]:
        """The greatest leader epoch that is not above this one, and the offset behind it; (-1, -1) if there
        is none.
        """
        behind = [entry for entry in self.entries if entry.batch.leader_epoch <= epoch]
        return (behind[-1].batch.leader_epoch, behind[-1].behind) if behind else (-1, -1)

    def read(self, offset: int, limit: int) -> bytes:
        """Committed batches from that of `offset` on, of `limit` bytes together, but at least one."""
        found: list[bytes] = []
        size = 0
        for entry in self.entries[self._at(offset) :]:
            if entry.behind > self.committed or (found and size + len(entry.data) > limit):
                break
            found.append(entry.data)
            size += len(entry.data)
        return b"".join(found)

    def _at(self, offset: int) -> int:
        low, high = 0, len(self.entries)
        while low < high:
            middle = (low + high) // 2
            if self.entries[middle].behind <= offset:
                low = middle + 1
            else:
                high = middle
        return low

    def since(self, timestamp: int) -> Record | None:
        """The first committed record of that time (ms) or later."""
        for entry in self.entries:
            if entry.behind <= self.committed and entry.batch.max_timestamp >= timestamp:
                for record in read_records(entry.batch, "", 0):
                    if record.timestamp >= timestamp:
                        return record
        return None

    def records(self, topic: str = "", partition: int = 0) -> list[Record]:
        """Everything in it."""
        return [record for entry in self.entries for record in read_records(entry.batch, topic, partition)]
