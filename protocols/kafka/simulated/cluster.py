"""What the brokers of a simulated cluster have in common: who leads what, the logs, the groups. Pure.

It is kept outside of the brokers, as on disks that lose nothing. Who runs them says which are there: `stop`
and `start` are what a controller would notice.

Rules:
1. Every broker has a replica of everything. A partition's leader appends; the others have it `lag` seconds
   later at most, and then it is committed. Where they are all gone, the leader alone will do.
2. When a leader goes, another replica in sync takes over, in a new epoch, with everything that is committed
   and with more of the rest or less. Where none is left, the partition waits for its last leader.
3. What a broker says of the cluster may be `lag` seconds old.
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from actors import NEVER
from protocols.kafka.producer.topics import LEGAL_NAME

from .groups import Group
from .log import Log

__all__ = ["Partition", "Replicas", "SimulatedKafka", "View"]

TOPICS_MAX: Final = 1000
GROUPS_MAX: Final = 1000


class Replicas(NamedTuple):
    """Who has a partition, as a broker tells it."""

    leader: int
    epoch: int
    all: tuple[int, ...]
    in_sync: tuple[int, ...]


class View(NamedTuple):
    """The cluster at some time: the brokers that are there, the partitions of each topic, and its id."""

    brokers: dict[int, tuple[str, int]]
    topics: dict[str, list[Replicas]]
    ids: dict[str, bytes]


class Partition:
    """One partition: its leader (-1: none), and the log, which all replicas in sync will have."""

    __slots__ = ("_copying", "_last", "epoch", "in_sync", "leader", "log")

    def __init__(self, leader: int, in_sync: Iterable[int]) -> None:
        self.leader = self._last = leader
        self.epoch = 0
        self.in_sync = set(in_sync)
        self.log = Log()
        self._copying: deque[tuple[float, int]] = deque()  # when the replicas will have what is before where

    def __repr__(self) -> str:
        return f"<Partition led by {self.leader} in epoch {self.epoch}, {self.log!r}>"

    def copy(self, behind: int, when: float) -> None:
        """The replicas will have everything before `behind` at that time of the leader's clock."""
        self._copying.append((when, behind))

    def step(self, now: float) -> float:
        """Commit what the replicas have by now. Returns when there is more."""
        if len(self.in_sync) == 1:
            self._copying.clear()
            self.log.commit(self.log.end)
        while self._copying and self._copying[0][0] <= now:
            self.log.commit(self._copying.popleft()[1])
        return self._copying[0][0] if self._copying else NEVER

    @property
    def ends(self) -> list[int]:
        """Where the log of a replica in sync may end."""
        log = self.log
        return [log.committed, *(entry.behind for entry in log.entries if entry.behind > log.committed)]

    def lead(self, leader: int, end: int, *, unclean: bool = False) -> None:
        """Another leader, or none. It has what is before `end`, or everything if it led before; `unclean`:
        not even what was committed.
        """
        if leader >= 0:
            self.log.cut(self.log.end if leader == self._last and not unclean else end, unclean=unclean)
            self._last = leader
        self._copying.clear()
        self.leader = leader
        self.epoch += 1


class SimulatedKafka:
    """A cluster. `brokers`: where each is reached (`host:port`), by its number; `topics`: how many partitions
    each has.

    `lag`: seconds by which replicas, and what brokers know, are behind. `batch_bytes`: the largest batch that
    is taken. `partitions`: of a topic that is made by asking for it; 0: none is. `join_seconds`: for which a
    group's first member waits for others. `source` decides what is chance: who is elected, what its log has
    beyond what is committed, and how late, up to `lag`; without it the first is, nothing, and all of it.
    """

    def __init__(
        self,
        brokers: Mapping[int, str],
        topics: Mapping[str, int] | None = None,
        *,
        lag: float = 0.0,
        batch_bytes: int = 1 << 20,
        partitions: int = 0,
        join_seconds: float = 0.0,
        source: random.Random | None = None,
    ) -> None:
        self.addresses = {node: _address(address) for node, address in brokers.items()}
        self.up = set(brokers)
        self.lag = lag
        self.batch_bytes = batch_bytes
        self.partitions = partitions
        self.join_seconds = join_seconds
        self._source = source
        self.topics: dict[str, list[Partition]] = {}
        self.ids: dict[str, bytes] = {}
        self._made = 0  # topics
        self.groups: dict[str, Group] = {}
        self.coordinators: dict[str, int] = {}
        self.listening: dict[int, Callable[[], object]] = {}  # by broker: it is told of changes
        self._producers = 0
        for name, count in (topics or {}).items():
            self.create(name, count)

    def __repr__(self) -> str:
        return f"<SimulatedKafka, {len(self.up)} of {len(self.addresses)} brokers, {len(self.topics)} topics>"

    # -- for who runs it -------------------------------------------------------------------------------------

    def advertise(self, node: int, address: str) -> None:
        """Where a broker is reached from now on."""
        self.addresses[node] = _address(address)

    def create(self, name: str, partitions: int) -> bool:
        """Make a topic, or give it more partitions. Whether there was room, and that is a name."""
        if len(self.topics) >= TOPICS_MAX or LEGAL_NAME.fullmatch(name) is None:
            return False
        if name not in self.topics:
            self._made += 1
            self.ids[name] = self._made.to_bytes(16, "big")
        made, up = self.topics.setdefault(name, []), sorted(self.up)
        for index in range(len(made), partitions):
            made.append(Partition(up[index % len(up)] if up else -1, up or self.addresses))
        return True

    def delete(self, name: str) -> None:
        """A topic is gone, and what groups have stored of it. Another one may be made under its name."""
        del self.topics[name], self.ids[name]
        for group in self.groups.values():
            for key in [key for key in group.offsets if key[0] == name]:
                del group.offsets[key]
        self._changed()

    def lose(self, topic: str, index: int, end: int) -> None:
        """An unclean election: a replica leads that has only what is before `end`."""
        partition = self.topics[topic][index]
        others = sorted(self.up - {partition.leader}) or sorted(self.up)
        partition.lead(self._any(others), end, unclean=True)
        self._changed()

    def stop(self, node: int) -> None:
        """A broker is gone: others lead and coordinate in its place."""
        self.up.discard(node)
        for partition in self._all():
            if len(partition.in_sync) > 1:
                partition.in_sync.discard(node)
            if partition.leader == node:
                self._elect(partition)
        for name, coordinator in self.coordinators.items():
            if coordinator == node and name in self.groups:
                self.groups[name].unload()
        self._changed()

    def start(self, node: int) -> None:
        """It is there again, and has caught up."""
        self.up.add(node)
        for partition in self._all():
            if partition.leader < 0:
                self._elect(partition)
            if partition.leader >= 0:
                partition.in_sync |= self.up
        self._changed()

    def move(self, topic: str, index: int) -> None:
        """Another replica leads, if there is one."""
        partition = self.partition(topic, index)
        others = sorted(partition.in_sync & self.up - {partition.leader}) if partition is not None else []
        if partition is not None and others:
            partition.lead(self._any(others), self._any(partition.ends))
            self._changed()

    def _changed(self) -> None:
        for changed in self.listening.values():
            changed()

    def _all(self) -> list[Partition]:
        return [partition for partitions in self.topics.values() for partition in partitions]

    def _elect(self, partition: Partition) -> None:
        ready = sorted(partition.in_sync & self.up)
        partition.lead(self._any(ready) if ready else -1, self._any(partition.ends))

    def _any(self, these: list[int]) -> int:
        return these[0] if self._source is None else self._source.choice(these)

    # -- for brokers -----------------------------------------------------------------------------------------

    def late(self) -> float:
        """Some seconds of the lag."""
        return self.lag if self._source is None or not self.lag else self._source.uniform(0, self.lag)

    def view(self) -> View:
        """The cluster now."""
        brokers = {node: self.addresses[node] for node in sorted(self.up)}
        nodes = tuple(sorted(self.addresses))
        topics = {
            name: [
                Replicas(partition.leader, partition.epoch, nodes, tuple(sorted(partition.in_sync)))
                for partition in partitions
            ]
            for name, partitions in self.topics.items()
        }
        return View(brokers, topics, dict(self.ids))

    def named(self, id: bytes) -> str:
        """The topic of an id; "" if there is none."""
        return next((name for name, known in self.ids.items() if known == id), "")

    def partition(self, topic: str, index: int) -> Partition | None:
        """A partition, if there is one."""
        partitions = self.topics.get(topic, [])
        return partitions[index] if 0 <= index < len(partitions) else None

    def identify(self) -> int:
        """A new producer's identity."""
        self._producers += 1
        return self._producers

    def coordinator(self, group: str) -> int:
        """Which broker keeps a group's state: always the same while it is there; -1 if none is."""
        if self.coordinators.get(group, -1) not in self.up:
            up = sorted(self.up)
            self.coordinators[group] = up[zlib.crc32(group.encode()) % len(up)] if up else -1
        return self.coordinators[group]

    def group(self, name: str) -> Group | None:
        """A group, made when it is asked for; None if there are too many."""
        group = self.groups.get(name)
        if group is None and len(self.groups) < GROUPS_MAX:
            group = self.groups[name] = Group(name, self.join_seconds)
        return group


def _address(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
