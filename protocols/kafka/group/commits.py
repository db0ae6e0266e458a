"""Storing with the group up to where its members have come.

Rules:
1. One request at a time. What is to be stored meanwhile waits, and goes together with the next: an offset
   that a later one overtakes is never sent.
2. A commit is tried again while that can help (the coordinator moves, the group is being balanced) and its
   time lasts; then it fails. What was not stored is read again, by whoever reads the partition next.
3. What is not held any more is not stored: somebody else may have come further.
4. A commit whose answer was lost may be executed late: its broker reads what a dead connection has brought,
   perhaps after the same was sent again over another, and the group is back at the older offset. Nobody can
   recall it, but a broker refuses it once the group has another generation. Until a commit was acknowledged
   in a later one, its partitions are `doubtful`: whoever stores by itself stores them again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from actors import NEVER, Backoff, DeadlineExceeded, Reply, Scope
from pools import Pool
from protocols.kafka.codes import Code
from protocols.kafka.connection.units import Call
from protocols.kafka.consumer.fetcher import Asks
from protocols.kafka.errors import CODES, KafkaError, error_of
from protocols.kafka.producer.verdicts import Verdict, verdict_of_failure
from protocols.kafka.protocol.group_api import (
    CommittedPartition,
    CommittedTopic,
    OffsetCommit,
    OffsetCommitResponse,
)

from .assignors import TopicPartition
from .state import Membership

__all__ = ["Committer"]

PAUSE: Final = Backoff(0.1, 1.0)  # as retry.backoff.ms and retry.backoff.max.ms of Java's client
EXPELLED: Final = (Code.ILLEGAL_GENERATION, Code.UNKNOWN_MEMBER_ID)

Offsets = Mapping[TopicPartition, int]


class Committer:
    """`coordinator` gives the pool to ask, None while it is not known; `moved` is called when it is another,
    `holds` says whether these partitions are ours, `epoch` in which leader's epoch what is before an offset
    was written (-1: not known): who goes on there can tell then whether it is still that log."""

    __slots__ = (
        "_asks",
        "_coordinator",
        "_epoch",
        "_failures",
        "_holds",
        "_membership",
        "_moved",
        "_not_before",
        "_scope",
        "_sent",
        "_timeout",
        "_unheard",
        "_waiting",
        "_who",
    )

    def __init__(
        self,
        scope: Scope,
        asks: Asks,
        *,
        timeout: float,
        coordinator: Callable[[], Pool | None],
        membership: Callable[[], Membership],
        moved: Callable[[], object],
        holds: Callable[[Offsets], bool],
        epoch: Callable[[TopicPartition, int], int],
    ) -> None:
        self._scope = scope
        self._asks = asks
        self._timeout = timeout
        self._coordinator = coordinator
        self._membership = membership
        self._moved = moved
        self._holds = holds
        self._epoch = epoch
        self._waiting: list[tuple[Offsets, Reply[None]]] = []
        self._sent: list[tuple[Offsets, Reply[None]]] = []
        self._who = membership()  # who sent what is under way
        self._unheard: dict[TopicPartition, Membership] = {}  # who sent the last commit that has no answer
        self._not_before = 0.0
        self._failures = 0

    def __repr__(self) -> str:
        return f"<Committer, {len(self._sent)} under way, {len(self._waiting)} waiting>"

    @property
    def idle(self) -> bool:
        """Whether everything is stored, or has failed."""
        return not self._sent and not self._waiting

    def doubtful(self, key: TopicPartition) -> bool:
        """Whether a commit that is executed late may take back what is stored of a partition, and no other is
        under way.
        """
        return key in self._unheard and not any(
            key in offsets for offsets, _ in (*self._sent, *self._waiting)
        )

    def commit(self, offsets: Offsets) -> Reply[None]:
        """Store these. The reply settles when they are."""
        reply: Reply[None] = Reply(deadline=self._scope.loop.time() + self._timeout)
        self._waiting.append((offsets, reply))
        self._scope.wake()
        return reply

    def fail(self, error: BaseException) -> None:
        """Nothing will be stored any more."""
        for _, reply in (*self._sent, *self._waiting):
            reply.fail(error)
        self._sent, self._waiting = [], []

    def step(self, now: float) -> float:
        """Send what is to be sent now. Returns when to look again."""
        if self._sent or not self._waiting:
            return NEVER
        self._give_up(now)
        if not self._waiting:
            return NEVER
        due = min(reply.deadline for _, reply in self._waiting)
        if now < self._not_before:
            return min(self._not_before, due)
        pool = self._coordinator()
        if pool is None:
            return due
        self._sent, self._waiting = self._waiting, []
        together: dict[TopicPartition, int] = {}
        for offsets, _ in self._sent:
            together.update(offsets)
        who = self._who = self._membership()
        request = OffsetCommit(
            who.group, who.generation, who.member, who.instance, -1, self._by_topic(together)
        )
        self._asks.ask(pool.submit(Call(request), self._timeout), self._answered)
        return NEVER

    def _give_up(self, now: float) -> None:
        waiting, self._waiting = self._waiting, []
        for offsets, reply in waiting:
            if not self._holds(offsets):
                reply.fail(self._error(Code.ILLEGAL_GENERATION))
            elif reply.deadline <= now:
                reply.fail(DeadlineExceeded(f"offsets were not stored within {self._timeout:g} s"))
            else:
                self._waiting.append((offsets, reply))

    def _answered(self, reply: Reply[OffsetCommitResponse]) -> None:
        if reply.error is not None:
            if verdict_of_failure(reply.error) is Verdict.UNKNOWN:
                self._unheard.update((key, self._who) for offsets, _ in self._sent for key in offsets)
            self._again()
            self._moved()
            return
        codes = [part.error for topic in reply.result().topics for part in topic.partitions if part.error]
        if not codes:
            self._failures = 0
            sent, self._sent = self._sent, []
            for offsets, waiting in sent:
                for key in offsets:
                    if self._unheard.get(key) != self._who:  # what is late is of a generation that is over
                        self._unheard.pop(key, None)
                waiting.settle(None)
            return
        code = codes[0]
        if code in CODES and (CODES[code].retriable or code == Code.REBALANCE_IN_PROGRESS):
            self._again()
            if CODES[code].stale:
                self._moved()
            return
        sent, self._sent = self._sent, []
        for _, waiting in sent:
            waiting.fail(self._error(code))

    def _error(self, code: int) -> KafkaError:
        why = "the group has given the partitions to other members; these read again from what was stored"
        about = f"offsets of the group {self._membership().group}"
        return error_of(code, why if code in EXPELLED else None, about=about)

    def _again(self) -> None:
        self._failures += 1
        self._not_before = self._scope.now + PAUSE.delay(self._failures, self._scope.kernel.random())
        self._waiting = self._sent + self._waiting
        self._sent = []

    def _by_topic(self, offsets: Offsets) -> list[CommittedTopic]:
        topics: dict[str, list[CommittedPartition]] = {}
        for key, offset in offsets.items():
            stored = CommittedPartition(key.partition, offset, self._epoch(key, offset), None)
            topics.setdefault(key.topic, []).append(stored)
        return [CommittedTopic(topic, partitions) for topic, partitions in topics.items()]
