"""A consumer as a member of its group: finds the coordinator, asks what `Group` says is to be asked, and does
what follows from the answers to the partitions that are read.

Rules:
1. Joining waits for the other members, so it has a connection of its own.
2. Partitions are given back in this order: nothing of them is delivered any more, `on_rebalance` is told,
   what is finished is stored, and only then does the member join again.
3. A partition that was given is read from what the group has stored; while a transaction that stores it is
   still to be completed, that is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from actors import NEVER, Backoff, Reply, Scope
from pools import Pool
from protocols.kafka.cluster import Cluster
from protocols.kafka.connection.units import Call
from protocols.kafka.consumer.fetcher import Asks, Fetcher
from protocols.kafka.errors import CODES, BrokerTooOld, KafkaError, error_of
from protocols.kafka.protocol.api import Keeper
from protocols.kafka.protocol.group_api import OffsetFetch, OffsetFetchResponse, OffsetTopicNames

from .assignors import TopicPartition
from .commits import Committer, Offsets
from .state import Event, Group, GroupSettings, Membership, State

__all__ = ["Member", "Rebalance"]

PAUSE: Final = Backoff(0.1, 1.0)  # as retry.backoff.ms and retry.backoff.max.ms of Java's client
LANE: Final = "group"


class Rebalance(msgspec.Struct, frozen=True):
    """What has changed for a member. `revoked`: given back in good order; what is finished is stored next.
    `lost`: taken away because the group had not heard of us in time; others may have read on already.
    """

    assigned: tuple[TopicPartition, ...] = ()
    revoked: tuple[TopicPartition, ...] = ()
    lost: tuple[TopicPartition, ...] = ()


class Member:
    """One consumer's part in a group. With `alone` it only stores offsets there, and reads what it was told
    to. `release` stops the delivery of partitions, `done` says up to where partitions are finished.
    """

    __slots__ = (
        "_asked",
        "_asks",
        "_cluster",
        "_decided",
        "_failed",
        "_failures",
        "_fetcher",
        "_finding",
        "_giving_back",
        "_leaving",
        "_looking_up",
        "_not_before",
        "_on_rebalance",
        "_release",
        "_scope",
        "_lookup_not_before",
        "committer",
        "coordinator",
        "done",
        "group",
        "rebalances",
        "settings",
    )

    def __init__(
        self,
        settings: GroupSettings,
        scope: Scope,
        cluster: Cluster,
        asks: Asks,
        fetcher: Fetcher,
        *,
        alone: bool,
        release: Callable[[Iterable[TopicPartition]], object],
        done: Callable[[Iterable[TopicPartition]], Offsets],
        failed: Callable[[Exception], object],
        on_rebalance: Callable[[Rebalance], object] | None,
    ) -> None:
        self.settings = settings
        self.group = None if alone else Group(settings, scope.kernel.random())
        self.coordinator: int | None = None
        self.done = done
        self.rebalances = 0
        self.committer = Committer(
            scope,
            asks,
            timeout=cluster.settings.request_timeout,
            coordinator=self.pool,
            membership=lambda: self.membership,
            moved=self._moved,
            holds=lambda offsets: offsets.keys() <= fetcher.positions.keys(),
            epoch=fetcher.epoch_before,
        )
        self._scope = scope
        self._cluster = cluster
        self._asks = asks
        self._fetcher = fetcher
        self._release = release
        self._failed = failed
        self._on_rebalance = on_rebalance
        self._finding = False
        self._failures = 0
        self._not_before = 0.0
        self._asked = False  # the group has a question under way
        self._decided: Mapping[str, int] = {}  # what was known of the topics when the leader decided
        self._giving_back: tuple[TopicPartition, ...] | None = None
        self._leaving: Reply[Any] | None = None
        self._looking_up = False
        self._lookup_not_before = 0.0

    def __repr__(self) -> str:
        return f"<Member of {self.settings.group}, {self.group!r}, coordinator {self.coordinator}>"

    @property
    def membership(self) -> Membership:
        """Who we are, as the coordinator knows us."""
        return Membership(self.settings.group) if self.group is None else self.group.membership

    @property
    def settled(self) -> bool:
        """Whether the group has said what is to be read."""
        return self.group is None or (self.group.state is State.STABLE and self._giving_back is None)

    def pool(self, lane: str = "") -> Pool | None:
        """The connection to the coordinator; None while it is not known."""
        return None if self.coordinator is None else self._cluster.pool(self.coordinator, lane)

    def step(self, now: float, counts: Mapping[str, int]) -> float:
        """Ask for what is to be asked now. Returns when to look again."""
        self._finish_giving_back(now)
        due = self._find(now)
        if self.group is not None and not self._asked:
            self._look_at_topics(self.group, now, counts)
            due = min(due, self._ask(self.group, now, counts))
        if not self._looking_up:
            due = min(due, self._look_up(now))
        return due

    # -- the coordinator -------------------------------------------------------------------------------------

    def _find(self, now: float) -> float:
        if self._finding or self.pool() is not None:
            return NEVER
        if now < self._not_before:
            return self._not_before
        self._finding = True
        self._asks.ask(self._cluster.coordinator(self.settings.group, Keeper.GROUP), self._found)
        return NEVER

    def _found(self, reply: Reply[int]) -> None:
        self._finding = False
        error = reply.error
        if error is None:
            self._failures = 0
            self.coordinator = reply.result()
        elif isinstance(error, BrokerTooOld) or (isinstance(error, KafkaError) and not error.retriable):
            self._failed(error)
        else:
            self._failures += 1
            self._not_before = self._scope.now + PAUSE.delay(self._failures, self._scope.kernel.random())
            if (
                self._failures > 2 and self._failures & (self._failures - 1) == 0
            ):  # the first is how it is made
                self._scope.loop.log.warning(
                    "no coordinator",
                    cause=f"no coordinator {self.settings.group}",
                    group=self.settings.group,
                    error=str(error),
                    failures=self._failures,
                )

    def _moved(self) -> None:
        self.coordinator = None

    # -- the group -------------------------------------------------------------------------------------------

    def _ask(self, group: Group, now: float, counts: Mapping[str, int]) -> float:
        for topic in group.topics:
            self._cluster.want(topic)
        pool = self.pool(LANE)
        if pool is None:
            return NEVER
        request = group.request(now, counts)
        if request is None:
            return group.due if group.due > now else NEVER
        self._asked = True
        timeout = self._cluster.settings.request_timeout
        if group.state is State.SYNCING:
            self._decided = counts
        if group.state is not State.STABLE:
            timeout += group.settings.rebalance_timeout
        self._asks.ask(pool.submit(Call(request), timeout), self._answered)
        return NEVER

    def _answered(self, reply: Reply[Any]) -> None:
        self._asked = False
        group, now = self.group, self._scope.now
        if group is None or group.state is State.ENDED:
            return
        error = reply.error
        event = group.answered(reply.result(), now) if error is None else group.failed(error, now)
        if event is Event.MOVED:
            self._moved()
        elif event is Event.FAILED:
            assert group.error is not None
            self._failed(group.error)
        elif event is Event.EXPELLED:
            self._lose()
        elif event is Event.SYNCED:
            self._take(group)
        elif event is Event.REBALANCE and group.state is State.REVOKING:
            self._give_back(group.held if group.eager else ())

    def _take(self, group: Group) -> None:
        """The group has said what is ours."""
        given = group.assignment
        added = tuple(key for key in given if key not in self._fetcher.positions)
        gone = tuple(key for key in self._fetcher.positions if key not in set(given))
        self.rebalances += 1
        group.held = tuple(given)
        self._scope.loop.log.info(
            "partitions assigned",
            cause=f"partitions assigned {self.settings.group}",
            group=self.settings.group,
            generation=group.generation,
            partitions=len(given),
            added=len(added),
            given_back=len(gone),
        )
        self._fetcher.add(added)
        if gone:
            self._give_back(gone)
        if added:
            self._tell(Rebalance(assigned=added))

    def _give_back(self, keys: tuple[TopicPartition, ...]) -> None:
        self._giving_back = keys
        if keys:
            self._release(keys)
            self._tell(Rebalance(revoked=keys))
            offsets = self.done(keys)
            if offsets:
                self.committer.commit(offsets)
        self._scope.wake()

    def _finish_giving_back(self, now: float) -> None:
        """Everything is stored, or could not be: join again."""
        group, keys = self.group, self._giving_back
        if group is None or keys is None or not self.committer.idle:
            return
        self._giving_back = None
        self._fetcher.remove(keys)
        group.held = tuple(key for key in group.held if key not in keys)
        if group.state is State.STABLE:
            group.rebalance(now)
        if group.state is State.REVOKING:
            group.revoked()

    def _lose(self) -> None:
        keys = tuple(self._fetcher.positions)
        self._giving_back = None
        self._release(keys)
        self._fetcher.remove(keys)
        self._scope.loop.log.warning(
            "partitions lost",
            cause=f"partitions lost {self.settings.group}",
            group=self.settings.group,
            partitions=len(keys),
        )
        if keys:
            self._tell(Rebalance(lost=keys))

    def _tell(self, change: Rebalance) -> None:
        if self._on_rebalance is not None:
            self._on_rebalance(change)

    def _look_at_topics(self, group: Group, now: float, counts: Mapping[str, int]) -> None:
        """Whether a topic has other partitions than when the leader decided: then it decides anew."""
        if counts is self._decided or group.state is not State.STABLE or self._giving_back is not None:
            return
        decided, self._decided = self._decided, counts
        if group.leading and any(counts.get(topic, 0) != decided.get(topic, 0) for topic in group.topics):
            group.rebalance(now)
            self._give_back(group.held if group.eager else ())

    def leave(self) -> bool:
        """Tell the coordinator, once, that we go. Whether that is under way."""
        if self._leaving is None:
            request = self.group.leave() if self.group is not None else None
            pool = self.pool()
            if request is None or pool is None:
                return False
            self._leaving = pool.submit(Call(request), self._cluster.settings.request_timeout)
            self._leaving.attach(self._scope)
        return not self._leaving.settled

    # -- where to begin --------------------------------------------------------------------------------------

    def _look_up(self, now: float) -> float:
        unknown = [
            position.key
            for position in self._fetcher.positions.values()
            if position.offset < 0 and position.reset is None
        ]
        pool = self.pool()
        if not unknown or pool is None:
            return NEVER
        if now < self._lookup_not_before:
            return self._lookup_not_before
        topics: dict[str, list[int]] = {}
        for key in unknown:
            topics.setdefault(key.topic, []).append(key.partition)
        names = [OffsetTopicNames(topic, partitions) for topic, partitions in topics.items()]
        request = OffsetFetch(self.settings.group, names, self._fetcher.settings.committed_only)
        self._looking_up = True
        reply = pool.submit(Call(request, idempotent=True), self._cluster.settings.request_timeout)
        self._asks.ask(reply, partial(self._looked_up, set(unknown)))
        return NEVER

    def _looked_up(self, asked: set[TopicPartition], reply: Reply[OffsetFetchResponse]) -> None:
        self._looking_up = False
        if isinstance(reply.error, BrokerTooOld):
            self._failed(reply.error)
            return
        if reply.error is not None:
            self._moved()
            self._look_up_later(None)
            return
        answer = reply.result()
        if answer.error:
            self._look_up_later(answer.error)
            return
        for topic in answer.topics:
            for stored in topic.partitions:
                key = TopicPartition(topic.topic, stored.partition)
                position = self._fetcher.positions.get(key)
                if position is None or key not in asked or position.offset >= 0:
                    continue
                if stored.error:
                    self._look_up_later(stored.error)
                elif stored.offset >= 0:
                    position.move(stored.offset, stored.leader_epoch)
                    position.committed = stored.offset
                else:
                    self._fetcher.reset(position, f"nothing is stored for the group {self.settings.group}")

    def _look_up_later(self, code: int | None) -> None:
        self._lookup_not_before = self._scope.now + PAUSE.first
        if code is None:
            return
        error = error_of(code, about=f"offsets of the group {self.settings.group}")
        if not error.retriable:
            self._failed(error)
        elif CODES[code].stale:
            self._moved()
