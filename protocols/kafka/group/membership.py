"""A consumer as a member of its group: asks what `Group` says is to be asked, and does what follows from the
answers to the partitions that are read.

Rules:
1. Joining waits for the other members, so it has a connection of its own.
2. Partitions are given back in this order: nothing of them is delivered any more, `on_rebalance` is told,
   what is finished is stored, and only then does the member join again.
3. A partition that was given is read from what the group has stored; while a transaction that stores it is
   still to be completed, that is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from actors import NEVER, Reply, Scope
from actors.telling import told
from pools import PoolClosed
from protocols.kafka.asks import Asks
from protocols.kafka.cluster import Cluster
from protocols.kafka.connection.units import Call
from protocols.kafka.consumer.fetcher import Fetcher
from protocols.kafka.consumer.positions import Positions
from protocols.kafka.consumer.reader import Reader

from .assignors import TopicPartition
from .commits import Commits, Committer
from .coordinator import Coordinator
from .lookup import Lookup
from .state import Event, Group, GroupSettings, Membership, State

__all__ = ["Member", "Rebalance"]

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
    to. `failed` is called with what ends the consumer.
    """

    __slots__ = (
        "_asked",
        "_asks",
        "_cluster",
        "_decided",
        "_failed",
        "_giving_back",
        "_leaving",
        "_on_rebalance",
        "_positions",
        "_reader",
        "_scope",
        "commits",
        "coordinator",
        "group",
        "lookup",
        "rebalances",
    )

    def __init__(
        self,
        settings: GroupSettings,
        scope: Scope,
        cluster: Cluster,
        asks: Asks,
        reader: Reader,
        fetcher: Fetcher,
        positions: Positions,
        *,
        alone: bool,
        auto_commit: float | None,
        failed: Callable[[Exception], object],
        on_rebalance: Callable[[Rebalance], object] | None,
    ) -> None:
        self.group = None if alone else Group(settings, scope.kernel.random())
        self.coordinator = Coordinator(settings.group, scope, cluster, asks, failed)
        self.lookup = Lookup(self.coordinator, scope, asks, positions, fetcher, failed)
        committer = Committer(scope, asks, self.coordinator, positions, lambda: self.membership)
        self.commits = Commits(scope, committer, positions, reader, auto_commit)
        self.rebalances = 0
        self._scope = scope
        self._cluster = cluster
        self._asks = asks
        self._positions = positions
        self._reader = reader
        self._failed = failed
        self._on_rebalance = on_rebalance
        self._asked = False  # the group has a question under way
        self._decided: Mapping[str, int] = {}  # what was known of the topics when the leader decided
        self._giving_back: tuple[TopicPartition, ...] | None = None
        self._leaving: Reply[Any] | None = None

    def __repr__(self) -> str:
        return f"<Member of {self.coordinator.group}, {self.group!r}, {self.coordinator!r}>"

    @property
    def membership(self) -> Membership:
        """Who we are, as the coordinator knows us."""
        return Membership(self.coordinator.group) if self.group is None else self.group.membership

    @property
    def settled(self) -> bool:
        """Whether the group has said what is to be read."""
        return self.group is None or (self.group.state is State.STABLE and self._giving_back is None)

    def step(self, now: float, counts: Mapping[str, int]) -> float:
        """Ask for what is to be asked now. Returns when to look again."""
        self._finish_giving_back(now)
        due = self.coordinator.find(now)
        if self.group is not None and not self._asked:
            self._look_at_topics(self.group, now, counts)
            due = min(due, self._ask(self.group, now, counts))
        return min(due, self.lookup.step(now), self.commits.step(now))

    # -- the group -------------------------------------------------------------------------------------------

    def _ask(self, group: Group, now: float, counts: Mapping[str, int]) -> float:
        for topic in group.topics:
            self._cluster.want(topic)
        pool = self.coordinator.pool(LANE)
        if pool is None:
            return NEVER
        request = group.request(now, counts)
        if request is None:
            return group.due if group.due > now else NEVER
        self._asked = True
        timeout = self.coordinator.timeout
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
            self.coordinator.moved()
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
        added = tuple(key for key in given if key not in self._positions)
        gone = tuple(key for key in self._positions if key not in set(given))
        self.rebalances += 1
        group.held = tuple(given)
        self._scope.loop.log.info(
            "partitions assigned",
            cause=f"partitions assigned {self.coordinator.group}",
            group=self.coordinator.group,
            generation=group.generation,
            partitions=len(given),
            added=len(added),
            given_back=len(gone),
        )
        self._positions.add(added)
        if gone:
            self._give_back(gone)
        if added:
            self._tell(Rebalance(assigned=added))

    def _give_back(self, keys: tuple[TopicPartition, ...]) -> None:
        self._giving_back = keys
        if keys:
            self._release(keys)
            self._tell(Rebalance(revoked=keys))
            offsets = self.commits.done(keys)
            if offsets:
                self.commits.committer.commit(offsets)
        self._scope.wake()

    def _finish_giving_back(self, now: float) -> None:
        """Everything is stored, or could not be: join again."""
        group, keys = self.group, self._giving_back
        if group is None or keys is None or not self.commits.committer.idle:
            return
        self._giving_back = None
        self._positions.remove(keys)
        group.held = tuple(key for key in group.held if key not in keys)
        if group.state is State.STABLE:
            group.rebalance(now)
        if group.state is State.REVOKING:
            group.revoked()

    def _lose(self) -> None:
        keys = tuple(self._positions)
        self._giving_back = None
        self._release(keys)
        self._positions.remove(keys)
        self._scope.loop.log.warning(
            "partitions lost",
            cause=f"partitions lost {self.coordinator.group}",
            group=self.coordinator.group,
            partitions=len(keys),
        )
        if keys:
            self._tell(Rebalance(lost=keys))

    def _release(self, keys: Iterable[TopicPartition]) -> None:
        """They are ours no longer, or not for long."""
        for key in keys:
            position = self._positions.get(key)
            if position is not None:
                self._reader.release(position)

    def _tell(self, change: Rebalance) -> None:
        """The caller, who is not prepared for what he has raised an error about."""
        if self._on_rebalance is not None:
            try:
                self._on_rebalance(change)
            except Exception as error:
                ended = PoolClosed(f"on_rebalance has failed ({told(error)}); the consumer has ended")
                ended.__cause__ = error
                self._failed(ended)

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
            pool = self.coordinator.pool()
            if request is None or pool is None:
                return False
            self._leaving = pool.submit(Call(request), self.coordinator.timeout)
            self._leaving.attach(self._scope)
        return not self._leaving.settled
