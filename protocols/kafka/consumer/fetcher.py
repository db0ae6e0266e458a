"""Reading ahead: where partitions are to be read from, and the messages from there, from whoever leads them.

Rules:
1. One request per broker at a time, for all of its partitions that have room. What is asked for and what
   waits is bounded by `buffer_bytes` together; a partition with `partition_bytes` waiting is left out. A
   broker for which there was no room comes first when there is some.
2. Partitions take turns at the first place of a request, for that one is served for certain.
3. Where to begin is what the group has stored, else what the reset policy says; the same policy goes for an
   offset that is gone. A policy of `none` makes it the reader's error.
4. When a partition has another leader, or one in a later epoch, it is asked first whether it has what was
   read (KIP-320); a fetch that a leader of another epoch gets is refused. If it has not, reading goes on
   where the logs part: nothing of the leader's log is left out, and a line says so. A topic that was made
   anew (another id) is read from its beginning. With the policy `none` both are the reader's error.
5. A broker that does not answer, or does not lead any more, costs a pause and a look at the cluster. What
   cannot go well again ends the consumer, by `failed`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from actors import NEVER, Reply, Scope
from actors.options import check_counts, check_seconds
from pools import BackendDown, ConnectionLost
from protocols.kafka.arguments import SECONDS_MAX
from protocols.kafka.asks import Asks
from protocols.kafka.cluster import Cluster
from protocols.kafka.codes import Code
from protocols.kafka.connection.units import Call
from protocols.kafka.errors import CODES, BadMessage, BrokerTooOld, KafkaError, error_of
from protocols.kafka.group.assignors import TopicPartition
from protocols.kafka.protocol.fetch_api import (
    BEGINNING,
    END,
    NO_ID,
    EndOfEpoch,
    EpochOf,
    EpochsOf,
    Fetch,
    FetchedPartition,
    FetchPartition,
    FetchResponse,
    FetchTopic,
    ListedPartition,
    ListOffsets,
    ListOffsetsResponse,
    OffsetForLeaderEpoch,
    OffsetForLeaderEpochResponse,
    OffsetPartition,
    OffsetTopic,
)

from .positions import Position, Positions

__all__ = ["Fetcher", "FetchSettings", "NoOffset"]

BRIEFLY: Final = 0.02  # seconds that a broker may wait for messages while other partitions have room for none
LANE: Final = "fetch"
NOWHERE: Final = ""  # a rack would make a broker name another replica instead of giving messages


class NoOffset(KafkaError):
    """Nothing is stored for a partition, or what is stored is gone, and `auto_offset_reset` is "none".

    Say where to begin: `seek`, or another `auto_offset_reset`.
    """

    def __init__(self, key: TopicPartition, why: str) -> None:
        super().__init__(
            Code.OFFSET_OUT_OF_RANGE,
            f"{why}; seek() to where to begin, or give auto_offset_reset",
            about=f"{key.topic}/{key.partition}",
        )


class FetchSettings(msgspec.Struct, frozen=True):
    """How much is read ahead (bytes), how long a broker may wait for messages (seconds), of which kind they
    are, and where to begin if nothing says so (`reset`: `BEGINNING`, `END`, None for nowhere)."""

    wait: float = 0.5
    bytes_min: int = 1
    fetch_bytes: int = 16 << 20
    partition_bytes: int = 1 << 20
    buffer_bytes: int = 64 << 20
    committed_only: bool = True
    reset: int | None = END

    def __post_init__(self) -> None:
        check_seconds(zero=True, most=SECONDS_MAX, fetch_wait=self.wait)
        check_counts(
            fetch_bytes=self.fetch_bytes,
            partition_bytes=self.partition_bytes,
            buffer_bytes=self.buffer_bytes,
        )
        check_counts(least=0, fetch_min_bytes=self.bytes_min)


class Fetcher:
    """Keeps the buffer of the positions filled. `failed` is called with what ends the consumer, `drop` with a
    position of which nothing that was read ahead is to be delivered.
    """

    __slots__ = (
        "_asks",
        "_busy",
        "_checking",
        "_cluster",
        "_crowded_out",
        "_drop",
        "_failed",
        "_ids",
        "_looking_up",
        "_positions",
        "_reserved",
        "_scope",
        "leaders",
        "parted",
        "settings",
    )

    def __init__(
        self,
        settings: FetchSettings,
        cluster: Cluster,
        scope: Scope,
        asks: Asks,
        positions: Positions,
        failed: Callable[[Exception], object],
        drop: Callable[[Position], object],
    ) -> None:
        self.settings = settings
        self.leaders: dict[TopicPartition, tuple[int, int]] = {}  # broker and epoch
        self.parted = 0  # how often a leader had not what was read
        self._positions = positions
        self._cluster = cluster
        self._scope = scope
        self._asks = asks
        self._failed = failed
        self._drop = drop
        self._ids: dict[str, bytes] = {}  # of topics, the last that was heard
        self._busy: set[int] = set()  # brokers that have a request of ours
        self._crowded_out: set[int] = set()  # brokers for whose partitions there was no room
        self._looking_up: set[int] = set()  # brokers that are asked for offsets
        self._checking: set[int] = set()  # brokers that are asked for the ends of epochs
        self._reserved = 0  # bytes that may be on their way

    def __repr__(self) -> str:
        return f"<Fetcher of {self._positions!r}>"

    # -- for the consumer ------------------------------------------------------------------------------------

    def learn(self) -> None:
        """There is news of the cluster."""
        self.leaders = {
            TopicPartition(name, entry.index): (entry.leader, entry.leader_epoch)
            for name, topic in self._cluster.topics.items()
            if not topic.error
            for entry in topic.partitions
            if entry.leader >= 0
        }
        for name, topic in self._cluster.topics.items():
            if topic.id == NO_ID:
                continue
            if self._ids.setdefault(name, topic.id) != topic.id:
                self._ids[name] = topic.id
                for position in [position for position in self._positions.values() if position.topic == name]:
                    self._made_anew(position)

    def reset(self, position: Position, why: str) -> None:
        """Where to begin is not known, or gone: do as the policy says."""
        policy = self.settings.reset
        if policy is None:
            self._failed(NoOffset(position.key, why))
            return
        self._drop(position)
        position.look_up(policy)

    def step(self, now: float) -> float:
        """Ask for what is to be asked now. Returns when to look again at the latest."""
        due = NEVER
        lookups: dict[int, list[Position]] = {}
        fetches: dict[int, list[Position]] = {}
        checks: dict[int, list[Position]] = {}
        for position in self._positions.in_turn():
            if position.asked or position.lost:
                continue
            if now < position.retry.due:
                due = min(due, position.retry.due)
                continue
            leader = self.leaders.get(position.key)
            if leader is None:
                self._pause(position, now, refresh=True)
                self._tell_again(position, "it has no leader, or there is no such partition")
                due = min(due, position.retry.due)
            elif position.reset is not None:
                lookups.setdefault(leader[0], []).append(position)
            elif position.doubtful(leader[1]):
                checks.setdefault(leader[0], []).append(position)
            elif not position.paused:
                fetches.setdefault(leader[0], []).append(position)
        for node, positions in lookups.items():
            if node not in self._looking_up:
                self._look_up(node, positions)
        for node, positions in checks.items():
            if node not in self._checking:
                self._check(node, positions)
        for node in sorted(fetches, key=lambda node: node not in self._crowded_out):
            if node not in self._busy:
                self._fetch(node, fetches[node])
        return due

    # -- messages --------------------------------------------------------------------------------------------

    def _fetch(self, node: int, positions: list[Position]) -> None:
        settings = self.settings
        room = settings.buffer_bytes - self._positions.buffer.weight - self._reserved
        wanted = [position for position in positions if position.buffered < settings.partition_bytes]
        if not wanted:
            return
        if room <= 0:
            self._crowded_out.add(node)
            return
        self._crowded_out.discard(node)
        pool = self._cluster.pool(node, LANE)
        if pool is None:
            self._cluster.refresh()
            return
        topics: dict[str, list[FetchPartition]] = {}
        for position in wanted:
            position.ask()
            topics.setdefault(position.topic, []).append(
                FetchPartition(
                    position.partition,
                    self.leaders[position.key][1],
                    position.offset,
                    -1,
                    -1,
                    settings.partition_bytes,
                )
            )
        wait = settings.wait if len(wanted) == len(positions) else min(BRIEFLY, settings.wait)
        size = min(settings.fetch_bytes, room, settings.partition_bytes * len(wanted))
        request = Fetch(
            -1,
            round(wait * 1000),
            settings.bytes_min,
            size,
            int(settings.committed_only),
            0,
            -1,
            [
                FetchTopic(topic, self._ids.get(topic, NO_ID), partitions)
                for topic, partitions in topics.items()
            ],
            [],
            NOWHERE,
        )
        self._busy.add(node)
        self._reserved += size
        timeout = self._cluster.settings.request_timeout + wait
        reply = pool.submit(Call(request), timeout)
        asked = {
            position.key: (position, position.offset, self.leaders[position.key][1]) for position in wanted
        }
        names = {topic.id: topic.topic for topic in request.topics}
        self._asks.ask(reply, partial(self._fetched, node, size, asked, names))

    def _fetched(
        self,
        node: int,
        size: int,
        asked: dict[TopicPartition, tuple[Position, int, int]],
        names: dict[bytes, str],
        reply: Reply[FetchResponse],
    ) -> None:
        self._busy.discard(node)
        self._reserved -= size
        now = self._scope.now
        for position, _, _ in asked.values():
            position.heard()
        error = reply.error
        if error is not None or reply.result().error:
            for position, _, _ in asked.values():
                self._pause(position, now, refresh=True)
            self._not_answered(node, error or error_of(reply.result().error))
            return
        for topic in reply.result().topics:
            for answer in topic.partitions:
                key = TopicPartition(topic.topic or names.get(topic.id, ""), answer.partition)
                if key not in asked:
                    continue
                position, offset, epoch = asked[key]
                if self._positions.get(key) is not position or position.offset != offset:
                    continue  # not ours any more, or the reader has gone elsewhere
                try:
                    self._take(position, answer, epoch, now)
                except BadMessage as damaged:
                    self._failed(damaged)

    def _take(self, position: Position, answer: FetchedPartition, epoch: int, now: float) -> None:
        if answer.error == Code.OFFSET_OUT_OF_RANGE:
            self._scope.loop.log.warning(
                "offset out of range",
                cause=f"offset out of range {position.topic}",
                topic=position.topic,
                partition=position.partition,
                offset=position.offset,
            )
            self.reset(position, f"offset {position.offset} no longer exists")
        elif answer.error:
            self._refused(position, answer.error, now)
        else:
            position.retry.succeeded()
            position.agrees(epoch)
            if answer.records:
                self._positions.buffer.add(position, answer.records, answer.aborted or ())

    # -- offsets ---------------------------------------------------------------------------------------------

    def _look_up(self, node: int, positions: list[Position]) -> None:
        pool = self._cluster.pool(node)
        if pool is None:
            self._cluster.refresh()
            return
        topics: dict[str, list[OffsetPartition]] = {}
        for position in positions:
            position.ask()
            assert position.reset is not None
            topics.setdefault(position.topic, []).append(
                OffsetPartition(position.partition, self.leaders[position.key][1], position.reset)
            )
        request = ListOffsets(
            -1,
            int(self.settings.committed_only),
            [OffsetTopic(topic, partitions) for topic, partitions in topics.items()],
        )
        self._looking_up.add(node)
        reply = pool.submit(Call(request, idempotent=True), self._cluster.settings.request_timeout)
        asked = {position.key: (position, position.reset) for position in positions}
        self._asks.ask(reply, partial(self._looked_up, node, asked))

    def _looked_up(
        self,
        node: int,
        asked: dict[TopicPartition, tuple[Position, int | None]],
        reply: Reply[ListOffsetsResponse],
    ) -> None:
        self._looking_up.discard(node)
        now = self._scope.now
        for position, _ in asked.values():
            position.heard()
        if reply.error is not None:
            for position, _ in asked.values():
                self._pause(position, now, refresh=True)
            self._not_answered(node, reply.error)
            return
        for topic in reply.result().topics:
            for answer in topic.partitions:
                key = TopicPartition(topic.topic, answer.partition)
                if key in asked and (position := asked[key][0]).reset == asked[key][1] is not None:
                    self._listed(position, answer, now)

    def _listed(self, position: Position, answer: ListedPartition, now: float) -> None:
        if answer.error:
            self._refused(position, answer.error, now)
        elif answer.offset < 0:  # no message is as young as the time that was asked for
            position.look_up(END)
        else:
            position.retry.succeeded()
            position.move(answer.offset, answer.leader_epoch)

    # -- whether a leader has what was read ------------------------------------------------------------------

    def _check(self, node: int, positions: list[Position]) -> None:
        pool = self._cluster.pool(node)
        if pool is None:
            self._cluster.refresh()
            return
        topics: dict[str, EpochsOf] = {}
        asked: dict[TopicPartition, tuple[Position, int, int]] = {}
        for position in positions:
            position.ask()
            leader_epoch = self.leaders[position.key][1]
            asked[position.key] = position, position.offset, leader_epoch
            named = topics.setdefault(position.topic, EpochsOf(position.topic, []))
            epoch = position.epoch_before(position.offset)
            named.partitions.append(EpochOf(position.partition, leader_epoch, epoch))
        self._checking.add(node)
        request = OffsetForLeaderEpoch(-1, list(topics.values()))
        reply = pool.submit(Call(request, idempotent=True), self._cluster.settings.request_timeout)
        self._asks.ask(reply, partial(self._checked, node, asked))

    def _checked(
        self,
        node: int,
        asked: dict[TopicPartition, tuple[Position, int, int]],
        reply: Reply[OffsetForLeaderEpochResponse],
    ) -> None:
        self._checking.discard(node)
        now = self._scope.now
        for position, _, _ in asked.values():
            position.heard()
        error = reply.error
        if isinstance(error, BrokerTooOld):
            self._scope.loop.log.warning(
                "epochs not checked", cause=f"epochs not checked {node}", broker=node, error=str(error)
            )
            for position, _, leader_epoch in asked.values():
                position.compared(leader_epoch)
            return
        if error is not None:
            for position, _, _ in asked.values():
                self._pause(position, now, refresh=True)
            self._not_answered(node, error)
            return
        for topic in reply.result().topics:
            for answer in topic.partitions:
                key = TopicPartition(topic.topic, answer.partition)
                if key not in asked:
                    continue
                position, offset, leader_epoch = asked[key]
                if self._positions.get(key) is position and position.offset == offset:
                    self._compare(position, answer, leader_epoch, now)

    def _compare(self, position: Position, answer: EndOfEpoch, leader_epoch: int, now: float) -> None:
        if answer.error:
            self._refused(position, answer.error, now)
            return
        position.retry.succeeded()
        position.compared(leader_epoch)
        where = position.parted(answer.epoch, answer.end) if answer.end >= 0 else -1
        if where == position.offset:
            return
        self._drop(position)  # which says how far the reader has come, too
        if not self._tell_parted(position, where, "the leader's log is not the one that was read"):
            return
        if where < 0:  # it knows of no such epoch at all
            position.renew(BEGINNING)
        elif where < position.delivered:
            position.back(where)
        else:
            position.cut(where)

    def _made_anew(self, position: Position) -> None:
        """All of the new topic's messages came after those of the old one."""
        self._drop(position)
        if self._tell_parted(position, 0, "the topic was deleted and created again"):
            position.renew(BEGINNING)

    def _tell_parted(self, position: Position, where: int, why: str) -> bool:
        """In the log; and to the reader, if it wants to decide itself. Whether to go on."""
        self.parted += 1
        self._scope.loop.log.warning(
            "log has changed",
            cause=f"log has changed {position.topic}",
            topic=position.topic,
            partition=position.partition,
            delivered=position.delivered,
            goes_on=max(0, where),
            why=why,
        )
        if self.settings.reset is not None:
            return True
        gone = f"{why}: what was read from offset {max(0, where)} on is gone"
        self._failed(NoOffset(position.key, gone))
        return False

    # -- what goes wrong -------------------------------------------------------------------------------------

    def _refused(self, position: Position, code: int, now: float) -> None:
        error = error_of(code, about=f"{position.topic}/{position.partition}")
        if not error.retriable:
            self._failed(error)
            return
        self._pause(position, now, refresh=CODES[code].stale)
        self._tell_again(position, str(error))

    def _tell_again(self, position: Position, error: str) -> None:
        """In the log, more and more rarely."""
        if position.retry.failures > 1 and position.retry.worth_telling:
            self._scope.loop.log.warning(
                "partition cannot be read",
                cause=f"partition cannot be read {position.topic}",
                topic=position.topic,
                partition=position.partition,
                error=error,
                failures=position.retry.failures,
            )

    def _not_answered(self, node: int, error: BaseException) -> None:
        """A connection that is lost, or cannot be made, its pool tells of."""
        if isinstance(error, BrokerTooOld):
            self._failed(error)
        elif not isinstance(error, BackendDown | ConnectionLost):
            log = self._scope.loop.log
            log.warning("fetch failed", cause=f"fetch failed {node}", broker=node, error=str(error))

    def _pause(self, position: Position, now: float, *, refresh: bool) -> None:
        position.retry.failed(now)
        if refresh:
            self._cluster.refresh()
