"""Where a topic's messages go: a queue per partition, and a place for those that came before the partitions
were known. No I/O.

Rules:
1. A partition that was named is taken; else the key decides, as in Java's client; else the topic's sticky
   partition, which moves on after `STICKY_BYTES`, to one whose leader is there and answers (KIP-794).
2. Messages that wait for the partitions are routed in the order in which they came.
3. A topic is missing when the cluster has said so for a while, again and again. An answer that is older than
   that while says nothing about a topic that was created since.
"""

from __future__ import annotations

import random
import re
from collections.abc import Container, Iterator
from typing import Final

from actors import NEVER
from protocols.kafka.protocol.api import TopicMetadata

from .accumulator import Batch, Hook, Partition
from .messages import Push
from .partitioner import partition_for

__all__ = ["LEGAL_NAME", "Topic", "Topics"]

LEGAL_NAME: Final = re.compile(r"(?!\.\.?$)[a-zA-Z0-9._-]{1,249}")  # of a topic, as Java's brokers check it

MISSING_MAX: Final = 100  # topics that are not there, and remembered
STICKY_BYTES: Final = 16384  # as batch.size of Java's client, by which its sticky partitioner moves on


class Topic:
    """One topic's partitions, as far as they are known."""

    __slots__ = (
        "_missing_heard",
        "_missing_since",
        "_nowhere",
        "_source",
        "count",
        "holding",
        "name",
        "partitions",
        "sticky",
        "sticky_bytes",
    )

    def __init__(self, name: str, source: random.Random, nowhere: Partition) -> None:
        self.name = name
        self._nowhere = nowhere
        self._source = source
        self.partitions: list[Partition] = []  # all that there ever were
        self.count = 0  # how many there are: a topic that was made anew may have fewer
        self.sticky: Partition | None = None  # where messages without a key go now
        self.sticky_bytes = 0  # how many more
        self.holding: Batch | None = None  # what waits for the partitions
        self._missing_heard = -NEVER  # when the cluster last said that there is no such topic
        self._missing_since = 0.0  # when it began to say so

    def __repr__(self) -> str:
        return f"<Topic {self.name}, {self.count} partitions>"

    def learn(self, known: TopicMetadata, alive: Container[int]) -> list[Batch]:
        """Take what the cluster says of it. `alive`: the brokers that there are. Returns what waits for
        partitions that are there no more, and has never been sent.
        """
        self.exists()
        by_index = {partition.index: partition for partition in known.partitions}
        self.count = len(by_index)
        if self.sticky is not None and self.sticky.index >= self.count:
            self.sticky, self.sticky_bytes = None, 0
        while len(self.partitions) < self.count:
            self.partitions.append(Partition(self.name, len(self.partitions), self._source))
        for partition in self.partitions:
            heard = by_index.get(partition.index)
            leader = -1 if heard is None or heard.leader not in alive else heard.leader
            partition.led_by(leader)
        return [batch for partition in self.partitions[self.count :] for batch in partition.take_unsent()]

    def held(self, now: float, on_cancel: Hook) -> Batch:
        """What is held until the partitions are known, to take one more message."""
        if self.holding is None:
            self.holding = Batch(self._nowhere, now, on_cancel)
        return self.holding

    def release(self) -> Batch | None:
        """What was held, to be routed or failed."""
        holding, self.holding = self.holding, None
        return holding

    def refused(self, error: Exception) -> None:
        """The cluster says why its partitions are not known: the cause, should what waits for them fail."""
        if self.holding is not None:
            self.holding.blame(error)

    def exists(self) -> None:
        """The cluster knows of it."""
        self._missing_heard = -NEVER

    def missing(self, now: float, patience: float) -> bool:
        """The cluster says that there is no such topic. Whether it has said so for `patience` seconds."""
        if now > self._missing_heard + patience:
            self._missing_since = now
        self._missing_heard = now
        return now >= self._missing_since + patience

    @property
    def batches(self) -> Iterator[Batch]:
        """All that waits for it, or is on its way."""
        if self.holding is not None:
            yield self.holding
        for partition in self.partitions:
            yield from partition.queue
            if partition.sent is not None:
                yield partition.sent

    def route(self, unit: Push) -> Partition | None:
        """Where a message goes; None if the partitions are not known, or it names one that is not there."""
        if not self.count:
            return None
        if unit.partition is not None:
            return self.partitions[unit.partition] if 0 <= unit.partition < self.count else None
        if unit.key is not None:
            return self.partitions[partition_for(unit.key, self.count)]
        return self.stick(unit.size)

    def stick(self, size: int) -> Partition:
        """Where a message of this size goes that has no key; that much less goes there."""
        if self.sticky is None or self.sticky_bytes <= 0:
            usable = [
                partition
                for partition in self.partitions[: self.count]
                if partition.leader >= 0 and not partition.retry.failures and partition is not self.sticky
            ]
            self.sticky = self._source.choice(usable or self.partitions[: self.count])
            self.sticky_bytes = STICKY_BYTES
        self.sticky_bytes -= size
        return self.sticky


class Topics(dict[str, Topic]):
    """All topics that somebody has written to, by name."""

    __slots__ = ("_missing", "_source", "nowhere")

    def __init__(self, source: random.Random) -> None:
        super().__init__()
        self.nowhere = Partition("", -1, source)
        """Where batches belong that wait for their topic's partitions. Nothing is sent there."""
        self._missing: dict[str, None] = {}  # of them, those that are not there, the oldest news first
        self._source = source

    @property
    def partitions(self) -> Iterator[Partition]:
        """Every partition that is known here."""
        for topic in self.values():
            yield from topic.partitions

    @property
    def batches(self) -> list[Batch]:
        """All that waits, or is on its way."""
        return [batch for topic in self.values() for batch in topic.batches]

    def add(self, name: str) -> Topic:
        """A topic of which nothing is known yet."""
        topic = self[name] = Topic(name, self._source, self.nowhere)
        return topic

    def missing(self, name: str) -> str | None:
        """Remember that there is no such topic: the next message for it fails at once. Returns the name of
        one that was forgotten for it, for anybody may make up names.
        """
        self._missing.pop(name, None)
        self._missing[name] = None
        if len(self._missing) > MISSING_MAX:
            oldest = next(iter(self._missing))
            del self._missing[oldest]
            if self[oldest].holding is None and not self[oldest].partitions:
                del self[oldest]
                return oldest
        return None
