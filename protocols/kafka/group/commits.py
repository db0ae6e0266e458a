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

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from actors import NEVER, DeadlineExceeded, Reply, Scope
from protocols.kafka.asks import Asks
from protocols.kafka.codes import Code
from protocols.kafka.connection.units import Call
from protocols.kafka.consumer.positions import Positions
from protocols.kafka.consumer.reader import Reader
from protocols.kafka.errors import CODES, KafkaError, error_of
from protocols.kafka.producer.verdicts import Verdict, verdict_of_failure
from protocols.kafka.protocol.group_api import (
    CommittedPartition,
    CommittedTopic,
    OffsetCommit,
    OffsetCommitResponse,
)
from protocols.kafka.retrying import retry

from .assignors import TopicPartition
from .coordinator import Coordinator
from .state import Membership

__all__ = ["Commits", "Committer"]

EXPELLED: Final = (Code.ILLEGAL_GENERATION, Code.UNKNOWN_MEMBER_ID)

Offsets = Mapping[TopicPartition, int]


class Committer:
    """Has the coordinator store offsets of the partitions that are read. With each goes the leader epoch in
    which what is before it was written: whoever goes on there can tell then whether it is still that log.
    """

    __slots__ = (
        "_asks",
        "_coordinator",
        "_membership",
        "_positions",
        "_retry",
        "_scope",
        "_sent",
        "_unheard",
        "_waiting",
        "_who",
    )

    def __init__(
        self,
        scope: Scope,
        asks: Asks,
        coordinator: Coordinator,
        positions: Positions,
        membership: Callable[[], Membership],
    ) -> None:
        self._scope = scope
        self._asks = asks
        self._coordinator = coordinator
        self._positions = positions
        self._membership = membership
        self._waiting: list[tuple[Offsets, Reply[None]]] = []
        self._sent: list[tuple[Offsets, Reply[None]]] = []
        self._who = membership()  # who sent what is under way
        self._unheard: dict[TopicPartition, Membership] = {}  # who sent the last commit that has no answer
        self._retry = retry(scope.kernel.random())

    def __repr__(self) -> str:
        return f"<Committer, {len(self._sent)} under way, {len(self._waiting)} waiting>"

    @property
    def group(self) -> str:
        """The group's name."""
        return self._coordinator.group

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
        reply: Reply[None] = Reply(deadline=self._scope.loop.time() + self._coordinator.timeout)
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
        if now < self._retry.due:
            return min(self._retry.due, due)
        pool = self._coordinator.pool()
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
        self._asks.ask(pool.submit(Call(request), self._coordinator.timeout), self._answered)
        return NEVER

    def _give_up(self, now: float) -> None:
        waiting, self._waiting = self._waiting, []
        for offsets, reply in waiting:
            if not offsets.keys() <= self._positions.keys():
                reply.fail(self._error(Code.ILLEGAL_GENERATION))
            elif reply.deadline <= now:
                reply.fail(
                    DeadlineExceeded(f"offsets were not stored within {self._coordinator.timeout:g} s")
                )
            else:
                self._waiting.append((offsets, reply))

    def _answered(self, reply: Reply[OffsetCommitResponse]) -> None:
        if reply.error is not None:
            if verdict_of_failure(reply.error) is Verdict.UNKNOWN:
                self._unheard.update((key, self._who) for offsets, _ in self._sent for key in offsets)
            self._again(reply.error)
            self._coordinator.moved()
            return
        codes = [part.error for topic in reply.result().topics for part in topic.partitions if part.error]
        if not codes:
            self._retry.succeeded()
            sent, self._sent = self._sent, []
            for offsets, waiting in sent:
                for key in offsets:
                    if self._unheard.get(key) != self._who:  # what is late is of a generation that is over
                        self._unheard.pop(key, None)
                waiting.settle(None)
            return
        code = codes[0]
        if code in CODES and (CODES[code].retriable or code == Code.REBALANCE_IN_PROGRESS):
            self._again(self._error(code))
            if CODES[code].stale:
                self._coordinator.moved()
            return
        sent, self._sent = self._sent, []
        for _, waiting in sent:
            waiting.fail(self._error(code))

    def _error(self, code: int) -> KafkaError:
        why = "the group has given the partitions to other members; these read again from what was stored"
        about = f"offsets of the group {self.group}"
        return error_of(code, why if code in EXPELLED else None, about=about)

    def _again(self, error: BaseException) -> None:
        self._retry.failed(self._scope.now, error)
        self._waiting = self._sent + self._waiting
        self._sent = []

    def _by_topic(self, offsets: Offsets) -> list[CommittedTopic]:
        topics: dict[str, list[CommittedPartition]] = {}
        for key, offset in offsets.items():
            stored = CommittedPartition(
                key.partition, offset, self._positions.epoch_before(key, offset), None
            )
            topics.setdefault(key.topic, []).append(stored)
        return [CommittedTopic(topic, partitions) for topic, partitions in topics.items()]


class Commits:
    """What is stored of a consumer's partitions, and when it stores by itself: every `interval` seconds,
    before partitions are given back, and at the end; never with None.
    """

    __slots__ = ("_due", "_interval", "_positions", "_reader", "_scope", "committer", "failed", "stored")

    def __init__(
        self,
        scope: Scope,
        committer: Committer,
        positions: Positions,
        reader: Reader,
        interval: float | None,
    ) -> None:
        self.committer = committer
        self.stored = self.failed = 0  # commits
        self._scope = scope
        self._positions = positions
        self._reader = reader
        self._interval = interval
        self._due = NEVER if interval is None else scope.now + interval

    def __repr__(self) -> str:
        return f"<Commits, {self.stored} stored, {self.failed} failed, {self.committer!r}>"

    def step(self, now: float) -> float:
        """Store what is due. Returns when to look again."""
        due = self.committer.step(now)
        if self._interval is not None and now >= self._due:
            self._due = now + self._interval
            self.store_done()
        return min(due, self._due)

    def done(self, keys: Iterable[TopicPartition]) -> Offsets:
        """What is to be stored without being asked: what is finished, and not stored or not for certain."""
        if self._interval is None:
            return {}
        self._reader.mark()
        offsets: dict[TopicPartition, int] = {}
        for key in keys:
            position = self._positions[key]
            if position.done > position.committed:
                offsets[key] = position.done
            elif position.committed >= 0 and self.committer.doubtful(key):
                offsets[key] = position.committed
        return offsets

    def store_done(self) -> None:
        """Store what is finished, if there is anything; a failure is told in the log."""
        offsets = self.done(self._positions)
        if offsets:
            self.store(offsets).when_settled(self._told)

    def store(self, offsets: Offsets) -> Reply[None]:
        """Store these. The reply settles when they are."""
        reply = self.committer.commit(offsets)
        positions = {key: self._positions.get(key) for key in offsets}

        def settled(reply: Reply[None]) -> None:
            if reply.error is not None:
                self.failed += 1
                return
            self.stored += 1
            for key, position in positions.items():
                if position is not None:
                    position.stored(offsets[key])

        reply.when_settled(settled)
        return reply

    def _told(self, reply: Reply[None]) -> None:
        if reply.error is not None and self._scope.alive:
            group = self.committer.group
            self._scope.loop.log.warning(
                "offsets not stored", cause=f"offsets not stored {group}", error=str(reply.error)
            )
