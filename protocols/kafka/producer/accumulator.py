"""Batches: what waits for a partition, and what is on its way there. No I/O.

Rules:
1. A batch takes messages until it is full or sent. It is packed when it is sent, in one loop, so a message
   whose asker has gone by then is not sent at all.
2. A batch that may have been written is sent again as it was, but for its header: the broker tells by
   sequence number and count whether it has it already (KIP-98).
3. A partition has one batch on its way at a time. What comes meanwhile gathers in the next one, so batches
   grow by themselves when the broker is slow, and nothing can overtake.
4. A partition's sequence numbers go on when a batch was acknowledged, and begin anew, in the next epoch, when
   one was given up without its fate being known (KIP-360).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from actors import NEVER, Reply
from actors.callbacks import one_turn
from pools import Cancelled
from protocols.kafka.records.batch import VARINTS, append_record, seal
from protocols.kafka.records.compression import Codec
from protocols.kafka.retrying import retry

from .messages import Push, RecordMetadata

__all__ = [
    "EPOCH_MAX",
    "SMALL",
    "Batch",
    "Hook",
    "Partition",
    "Sending",
    "pack",
    "pack_plain",
]

EPOCH_MAX: Final = 32766  # the broker keeps the last one for itself
SEQUENCES: Final = 1 << 31
SMALL: Final = 16000  # bytes: what is shorter has all its sizes in the table

Hook = Callable[["Batch", "Sending"], object]


class Sending(Reply[RecordMetadata]):
    """A message on its way, and the reply to it: one object, for there is one of each per message."""

    __slots__ = ("batch", "since", "unit")

    def __init__(self, unit: Push, batch: Batch, since: float, deadline: float) -> None:
        self.pending = True  # as Reply.__init__, written out: this is made for every message
        self._error = None
        self._waiters = None
        self._on_cancel = None
        self.deadline = deadline
        self.unit = unit
        self.batch = batch
        self.since = since  # when it was submitted (monotonic seconds)

    def __repr__(self) -> str:
        return f"<Sending {self.unit!r}{'' if self.pending else ', settled'}>"

    def cancel(self, error: BaseException | None = None) -> bool:
        """Lose interest. Before its batch was sent the message is removed; afterwards it may be written."""
        with one_turn():
            if not self.fail(error or Cancelled("the message was cancelled by its caller")):
                return False
            self._tell_hooks()
            self.batch.on_cancel(self.batch, self)
            return True


class Batch:
    """Messages for one partition; for `Topics.nowhere` while the topic's partitions are not known."""

    __slots__ = (
        "bytes",
        "cause",
        "clock",
        "count",
        "created",
        "dead",
        "due",
        "first_ms",
        "last_ms",
        "maybe_written",
        "on_cancel",
        "partition",
        "payload",
        "plain",
        "sent",
        "works",
    )

    def __init__(self, partition: Partition, now: float, on_cancel: Hook) -> None:
        self.partition = partition
        self.created = now
        self.on_cancel = on_cancel
        self.works: list[Sending] = []
        self.dead = 0  # of them: nobody waits for them any more
        self.bytes = 0  # of those that somebody waits for
        self.due = NEVER  # the earliest deadline of them
        self.sent = False  # on its way
        self.plain = True  # no headers, no timestamps of their own, all `SMALL`, in the order of submission
        self.maybe_written = False  # an earlier attempt's fate is not known
        self.cause: BaseException | None = None  # why the last attempt failed
        self.payload: bytes | bytearray = b""  # packed records, once it was sent
        self.count = 0  # of them
        self.first_ms = self.last_ms = 0
        self.clock = 0.0  # what made timestamps of monotonic seconds

    def __repr__(self) -> str:
        state = "sent" if self.sent else "maybe written" if self.maybe_written else "waiting"
        return f"<Batch for {self.partition!r} {state}, {len(self.works)} messages>"

    @property
    def live(self) -> int:
        """How many messages somebody waits for."""
        return len(self.works) - self.dead

    @property
    def fixed(self) -> bool:
        """Whether its messages must stay as they are: a broker has, or may have, these very ones."""
        return self.sent or self.maybe_written

    def settled(self, work: Sending) -> None:
        """One of its messages has settled by itself."""
        self.dead += 1
        self.bytes -= work.unit.size
        if not self.fixed and 2 * self.dead > len(self.works):
            self.compact()

    def compact(self) -> None:
        """Keep only messages that somebody waits for."""
        self.works = [work for work in self.works if work.pending]
        self.dead = 0

    def expired(self, now: float) -> list[Sending]:
        """Messages whose deadline has passed; `due` is then the next one's."""
        if self.due > now:
            return []
        late = [work for work in self.works if work.deadline <= now and work.pending]
        self.due = min((w.deadline for w in self.works if w.deadline > now and w.pending), default=NEVER)
        return late

    def prepare(self, codec: Codec, clock: float) -> None:
        """Pack it for being sent. `clock`: what to add to monotonic seconds for those since 1970."""
        if not self.maybe_written:
            self.clock = clock
            if self.dead:
                self.compact()
            works = self.works
            self.count = len(works)
            short = self.plain and self.count <= len(VARINTS)
            try:
                packed = pack_plain(works, clock) if short else pack(works, clock)
            except IndexError:
                packed = pack(works, clock)
            records, self.first_ms, self.last_ms = packed
            self.payload = codec.compress(records)

    def seal(self, codec: Codec, transactional: bool) -> bytes:
        """The batch as it is sent."""
        partition = self.partition
        return seal(
            self.payload,
            codec.code,
            self.count,
            self.first_ms,
            self.last_ms,
            partition.producer,
            partition.epoch,
            partition.sequence,
            transactional,
        )

    def came_back(self, cause: BaseException | None) -> None:
        """It was not written, or perhaps not: what was sent has had this answer."""
        self.sent = False
        self.partition.sent = None
        self.cause = cause

    def blame(self, cause: BaseException) -> None:
        """Why it has not been written yet."""
        self.cause = cause

    def doubt(self) -> None:
        """It may have been written."""
        self.maybe_written = True

    def succeed(self, offset: int, timestamp: int, on_cancel: Hook) -> None:
        """It was written, its first message at `offset`; `timestamp` is the broker's, or -1. `on_cancel`
        hears of messages that are cancelled while others are told.

        Settling is written out from `Reply.settle`: 4 % of the benchmarks' job kafka-produce.
        """
        self.on_cancel = on_cancel
        works, self.works = self.works, []  # else they would hold each other, for the collector to find
        topic, partition, clock = self.partition.topic, self.partition.index, self.clock
        step, plain = 1 if offset >= 0 else 0, self.plain
        stamp, until = timestamp, NEVER if timestamp >= 0 else -NEVER
        for work in works:
            if work.pending:
                if work.since >= until:
                    stamp = stamp_of(work, clock)
                    until = same_stamp_until(stamp, clock) if plain else -NEVER
                work._value = RecordMetadata(topic, partition, offset, stamp)
                work.pending = False
                waiters = work._waiters
                if waiters is not None:
                    work._waiters = None
                    work._notify(waiters)
            offset += step

    def fails(self) -> list[Sending]:
        """Take its messages out, for they fail now. It takes no more of them."""
        if self.partition.open is self:
            self.partition.open = None
        works, self.works = self.works, []
        return works

    def failed(self) -> None:
        """All of them have."""
        self.dead = self.bytes = 0

    def split(self, now: float) -> tuple[Batch, Batch]:
        """Two of half its messages each."""
        middle = len(self.works) // 2
        halves = (Batch(self.partition, now, self.on_cancel), Batch(self.partition, now, self.on_cancel))
        for half, works in zip(halves, (self.works[:middle], self.works[middle:]), strict=True):
            for work in works:
                if work.pending:
                    half.take(work)
        return halves

    def take(self, work: Sending) -> None:
        """Add a message, of whatever kind."""
        work.batch = self
        self.plain = False
        self.works.append(work)
        self.bytes += work.unit.size
        self.due = min(self.due, work.deadline)


class Partition:
    """What waits for one partition, what is on its way there, and how its sequence goes on."""

    __slots__ = (
        "epoch",
        "index",
        "leader",
        "open",
        "producer",
        "queue",
        "retry",
        "sent",
        "sequence",
        "topic",
    )

    def __init__(self, topic: str, index: int, source: random.Random) -> None:
        self.topic = topic
        self.index = index
        self.leader = -1  # node id; -1: nobody, or not known
        self.queue: deque[Batch] = deque()
        self.open: Batch | None = None  # the queue's last, if it takes more
        self.sent: Batch | None = None
        self.retry = retry(source)
        self.producer = self.epoch = self.sequence = -1

    def __repr__(self) -> str:
        return f"<Partition {self.topic}/{self.index}, {len(self.queue)} batches>"

    def take_unsent(self) -> list[Batch]:
        """Out of the queue: batches that no broker has, or may have."""
        unsent = [batch for batch in self.queue if not batch.fixed]
        for batch in unsent:
            self.queue.remove(batch)
        self.open = None
        return unsent

    def begin(self, batch: Batch) -> None:
        """The next messages go into this batch."""
        self.open = batch
        self.queue.append(batch)

    def pop(self) -> Batch:
        """The first batch in the queue, out of it. It takes no more messages."""
        batch = self.queue.popleft()
        if self.open is batch:
            self.open = None
        return batch

    def sends(self, batch: Batch) -> None:
        """This batch is on its way."""
        self.sent = batch
        batch.sent = True

    def again(self, batch: Batch, error: BaseException, now: float) -> None:
        """This batch is to be sent again, after a pause."""
        self.retry.failed(now, error)
        self.queue.appendleft(batch)

    def led_by(self, leader: int) -> None:
        """Who leads it; somebody else is asked at once."""
        if leader != self.leader:
            self.leader = leader
            self.retry.at_once()

    def written(self, count: int) -> None:
        """What was on its way is in the log."""
        self.sent = None
        self.retry.succeeded()
        self.retry.at_once()
        if self.producer >= 0:
            self.sequence = (self.sequence + count) % SEQUENCES

    def identify(self, producer: int, epoch: int) -> None:
        """Who writes from now on: the sequence begins."""
        self.producer, self.epoch, self.sequence = producer, epoch, 0

    def begin_anew(self) -> None:
        """The next epoch, with a sequence of its own. After the last one, another identity is to be given."""
        if self.producer < 0:
            return
        self.epoch += 1
        self.sequence = 0
        if self.epoch > EPOCH_MAX:
            self.producer = -1


def pack(works: list[Sending], clock: float) -> tuple[bytearray, int, int]:
    """The records of these messages, and the first and the latest timestamp."""
    out = bytearray()
    stamps = [stamp_of(work, clock) for work in works]
    first = stamps[0]
    for number, (work, stamp) in enumerate(zip(works, stamps, strict=True)):
        unit = work.unit
        append_record(out, number, stamp - first, unit.key, unit.value, unit.headers)
    return out, first, max(stamps)


def pack_plain(works: list[Sending], clock: float) -> tuple[bytearray, int, int]:
    """The same for `plain` messages, in one loop written out: it is where a batch's time goes. Raises
    `IndexError` for what spans more milliseconds than the table.
    """
    out = bytearray()
    known = VARINTS
    first = stamp_of(works[0], clock)
    delta, until = known[0], -NEVER
    for work, number in zip(works, known, strict=False):
        unit: Any = work.unit
        value, key = unit.value, unit.key
        if work.since >= until:
            stamp = stamp_of(work, clock)
            delta, until = known[stamp - first], same_stamp_until(stamp, clock)
        if key is None:
            body = b"\0%b%b\1%b%b\0" % (delta, number, known[len(value)], value)
        else:
            body = b"\0%b%b%b%b%b%b\0" % (delta, number, known[len(key)], key, known[len(value)], value)
        out += known[len(body)]
        out += body
    return out, first, stamp_of(works[-1], clock)


def same_stamp_until(stamp: int, clock: float) -> float:
    """Until when (monotonic seconds) messages certainly have this timestamp too: looking is cheaper than
    reckoning. It ends a little early, for numbers of that size are exact to a quarter of a microsecond.
    """
    return (stamp + 1) / 1000 - clock - 1e-6


def stamp_of(work: Sending, clock: float) -> int:
    """A message's timestamp (milliseconds): the one it was given, or when it was submitted."""
    given = work.unit.timestamp
    return int((work.since + clock) * 1000) if given is None else given
