"""The cluster: which brokers there are, who leads what, and one pool of connections per broker.

Rules:
1. Who leads what is asked one question at a time, at most every `PAUSE`, more slowly while nobody answers;
   again after `metadata_age` seconds, and whenever somebody calls `refresh` because an answer said that what
   is known here is stale.
2. What is known never grows older: a partition's entry of an earlier leader epoch than the one that is known
   is not taken (KIP-320), nor an answer without brokers.
3. The addresses that were given (bootstrap) serve only to ask that. Everything else goes to the address that
   a broker advertises, and an error says which one that was.
4. The pools have no life of their own: they stop with the cluster, and the cluster with its owner.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final, Self, TypeVar, cast

import msgspec

from actors import NEVER, Address, Machine, Outcome, Reply, Scope, Spec, TcpAddress, Timeout
from pools import BackendDown, Endpoint, Pool, PoolStatistics
from pools.pool import PoolSpec

from . import retrying
from .connection.sasl import Login
from .connection.units import Call
from .connection.wire import ANSWER_BYTES, KafkaWire
from .errors import error_of
from .protocol.api import (
    FindCoordinator,
    FindCoordinatorResponse,
    Keeper,
    Metadata,
    MetadataResponse,
    TopicMetadata,
    TopicName,
)
from .protocol.schema import Message, Request
from .retrying import retry

__all__ = ["BrokerPool", "Cluster", "ClusterSpec", "Settings"]

R = TypeVar("R", bound=Message)

IDLE_SECONDS: Final = 540.0  # brokers close what was idle for 600 (connections.max.idle.ms)
PIPELINE: Final = 8  # requests in flight per connection; a producer keeps to 5 of its own


class Settings(msgspec.Struct, frozen=True):
    """Where a cluster is found and how its brokers are talked to. Times in seconds."""

    bootstrap: tuple[TcpAddress, ...]
    login: Login | None = None
    tls: ssl.SSLContext | None = None
    client: str = "windlass"
    connect_timeout: float = 5.0
    request_timeout: float = 10.0
    metadata_age: float = 300.0
    answer_bytes: int = ANSWER_BYTES
    create_topics: bool = True

    @property
    def name(self) -> str:
        """What the cluster is called in logs and errors: its first three addresses."""
        return ", ".join(str(address) for address in self.bootstrap[:3])


class BrokerPool(Pool):
    """One broker's connection. It drains when its owner does."""

    __slots__ = ()

    drain_phase = None  # type: ignore[assignment]  # another machine's, unlike other pools


class BrokerSpec(PoolSpec, frozen=True):
    """Describes one."""

    runs = BrokerPool


class ClusterSpec(Spec["Cluster"], frozen=True):
    """A cluster, for whoever uses it: spawns it, is told by `changed()` when there is news, and stops it at
    the end.
    """

    settings: Settings
    changed: Callable[[], object]

    def make(self, scope: Scope) -> Cluster:
        """The cluster, with a pool for the addresses that were given."""
        return Cluster(scope, self.settings, self.changed)


class Cluster(Machine["Cluster"]):
    """What is known of the brokers and topics, and the connections to them. See `ClusterSpec`."""

    __slots__ = (
        "_asked",
        "_doubts",
        "_due",
        "_pools",
        "_retry",
        "_scope",
        "_wanted",
        "bootstrap",
        "changed",
        "failure",
        "nodes",
        "refreshes",
        "settings",
        "topics",
    )

    drain_phase = None

    def __init__(self, scope: Scope, settings: Settings, changed: Callable[[], object]) -> None:
        self.settings = settings
        self.changed = changed
        self.nodes: dict[int, TcpAddress] = {}
        self.topics: dict[str, TopicMetadata] = {}  # what was last heard, errors too
        self.failure: BaseException | None = None  # why the last question had no answer
        self.refreshes = 0  # answers
        self._pools: dict[tuple[int, str], BrokerPool] = {}
        self._doubts: set[Address] = set()  # see KafkaWire
        self._wanted: dict[str, None] = {}
        self._asked: Reply[MetadataResponse] | None = None
        self._due = scope.now  # at once: a wrong address is to be noticed before the first message
        self._retry = retry(scope.kernel.random())
        self._scope = scope
        self.bootstrap = self._open(settings.bootstrap, settings.name)

    def __repr__(self) -> str:
        return (
            f"<Cluster {self.settings.name}, {len(self.nodes)} brokers, {len(self.topics)} topics, "
            f"{self.refreshes} refreshes>"
        )

    # -- for its owner ---------------------------------------------------------------------------------------

    def want(self, topic: str) -> None:
        """Be told of this topic's partitions from now on."""
        if topic not in self._wanted:
            self._wanted[topic] = None
            if not self._retry.failures:
                self._retry.at_once()  # somebody waits, and nothing says that it would be in vain
            self.refresh()

    def forget(self, topic: str) -> None:
        """Stop asking about this topic."""
        self._wanted.pop(topic, None)
        self.topics.pop(topic, None)

    def refresh(self) -> None:
        """What is known is stale, or not enough: ask, as soon as that is in order."""
        self._due = min(self._due, self._retry.due)
        self._scope.wake()

    def pool(self, node: int, lane: str = "") -> BrokerPool | None:
        """The connections to a broker, made now if there are none; None if there is no such broker.

        A `lane` has a connection of its own, for requests that the broker holds back on purpose.
        """
        pool = self._pools.get((node, lane))
        if pool is None:
            address = self.nodes.get(node)
            if address is None:
                return None
            pool = self._pools[node, lane] = self._open(
                (address,), f"broker {node}, which advertises {address}{lane and f' ({lane})'}"
            )
        return pool

    def call(self, request: Request[R], node: int | None = None, *, idempotent: bool = False) -> Reply[R]:
        """Ask a broker; any that can be reached, if None."""
        pool = self._informant() if node is None else self.pool(node)
        if pool is None:
            failed: Reply[R] = Reply()
            failed.fail(BackendDown(f"there is no broker {node} in the cluster of {self.settings.name}"))
            return failed
        return pool.submit(Call(request, idempotent=idempotent), self.settings.request_timeout)

    def coordinator(self, key: str, kind: Keeper) -> Reply[int]:
        """Which broker keeps the state of a group or a transactional producer. Fails with `KafkaError`, or
        what `call` fails with.
        """

        def read(answer: FindCoordinatorResponse) -> int:
            if answer.error:
                raise error_of(answer.error, answer.message, about=f"the coordinator of {key}")
            self._meet(answer.node, TcpAddress(answer.host, answer.port))
            return answer.node

        return self.call(FindCoordinator(key, kind), idempotent=True).map(read)

    def statistics(self) -> list[PoolStatistics]:
        """Of every pool of connections, the bootstrap's first."""
        return [pool.statistics() for pool in (self.bootstrap, *self._pools.values())]

    # -- machine ---------------------------------------------------------------------------------------------

    def handle(self, scope: Scope) -> Self:
        """Spawning gives the cluster itself."""
        return self

    @property
    def token(self) -> int:
        """The machine's token."""
        return self._scope.token

    def start(self, scope: Scope) -> Outcome:
        """Ask about brokers and topics."""
        return self.wakeup(scope)

    def wakeup(self, scope: Scope) -> Outcome:
        """An answer has come, or a question is due."""
        now = scope.now
        asked = self._asked
        if asked is not None and asked.settled:
            self._asked = None
            if isinstance(asked.error, Exception):
                self._failed(asked.error, now)
            else:
                self._take(asked.result(), now)
            self.changed()
        if self._asked is None and now >= self._due:
            self._ask(now)
        return Timeout(self, NEVER if self._asked is not None else self._due)

    timeout = wakeup

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """The connections are closed."""
        for pool in (self.bootstrap, *self._pools.values()):
            scope.loop.kill(pool.token, error)

    # -- asking ----------------------------------------------------------------------------------------------

    def _ask(self, now: float) -> None:
        self._due = now + self.settings.metadata_age
        self._retry.not_before(now + retrying.PAUSE.first)
        topics = [TopicName(name=name) for name in self._wanted]
        self._asked = self._informant().submit(
            Call(Metadata(topics, self.settings.create_topics), idempotent=True),
            self.settings.request_timeout / 3,
        )
        self._asked.attach(self._scope)

    def _informant(self) -> BrokerPool:
        """Whoever has a connection; after failures, one after the other."""
        if not self._retry.failures:
            for (_, lane), pool in self._pools.items():
                if not lane and pool.backends[0].connections > pool.backends[0].opening:
                    return pool
            return self.bootstrap
        turn = self._retry.failures % (len(self.nodes) + 1)
        return self.pool(list(self.nodes)[turn - 1]) or self.bootstrap if turn else self.bootstrap

    def _failed(self, error: Exception, now: float) -> None:
        self.failure = error
        self._retry.failed(now, error)
        self._due = self._retry.due

    def _take(self, answer: MetadataResponse, now: float) -> None:
        if not answer.brokers:
            self._failed(BackendDown(f"{self.settings.name} knows of no broker yet"), now)
            return
        self.failure = None
        self._retry.succeeded()
        self.refreshes += 1
        for broker in answer.brokers:
            self._meet(broker.node, TcpAddress(broker.host, broker.port))
        for node in self.nodes.keys() - {broker.node for broker in answer.brokers}:
            del self.nodes[node]
            self._close(node)
        for topic in answer.topics:
            if topic.name is not None and topic.name in self._wanted:
                self.topics[topic.name] = newer(self.topics.get(topic.name), topic)
        if not self._wanted.keys() <= self.topics.keys():
            self._due = self._retry.due  # the answer leaves some out

    # -- brokers ---------------------------------------------------------------------------------------------

    def _meet(self, node: int, address: TcpAddress) -> None:
        known = self.nodes.get(node)
        if known != address:
            self.nodes[node] = address
            self._close(node)

    def _close(self, node: int) -> None:
        """Its pools finish what they have begun."""
        for key in [key for key in self._pools if key[0] == node]:
            self._pools.pop(key).drain()

    def _open(self, addresses: tuple[TcpAddress, ...], name: str) -> BrokerPool:
        settings = self.settings
        pool = BrokerSpec(
            lambda: KafkaWire(settings.client, settings.login, self._doubts, settings.answer_bytes),
            [Endpoint(address, settings.tls, address.host) for address in addresses],
            connections=1,
            pipeline=PIPELINE,
            timeout=settings.request_timeout,
            connect_timeout=settings.connect_timeout,
            idle_timeout=IDLE_SECONDS,
            name=name,
        )
        return cast(BrokerPool, self._scope.spawn(pool))


def newer(known: TopicMetadata | None, heard: TopicMetadata) -> TopicMetadata:
    """What is to be believed of a topic: per partition the later leader epoch."""
    if known is None or known.error or heard.error or known.id != heard.id:
        return heard
    before = {partition.index: partition for partition in known.partitions}
    heard.partitions = [
        before[partition.index]
        if partition.index in before and before[partition.index].leader_epoch > partition.leader_epoch >= 0
        else partition
        for partition in heard.partitions
    ]
    return heard
