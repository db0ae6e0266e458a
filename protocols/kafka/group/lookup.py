"""Where to begin: what the group has stored for partitions of which nothing else is known."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from actors import NEVER, Reply, Scope
from protocols.kafka.asks import Asks
from protocols.kafka.connection.units import Call
from protocols.kafka.consumer.fetcher import Fetcher
from protocols.kafka.consumer.positions import Positions
from protocols.kafka.errors import CODES, BrokerTooOld, error_of
from protocols.kafka.protocol.group_api import OffsetFetch, OffsetFetchResponse, OffsetTopicNames
from protocols.kafka.retrying import retry

from .assignors import TopicPartition
from .coordinator import Coordinator

__all__ = ["Lookup"]


class Lookup:
    """Asks the coordinator for stored offsets, one question at a time. While a transaction that stores one is
    still to be completed, that is waited for. `failed` is called with what ends the consumer.
    """

    __slots__ = ("_asked", "_asks", "_coordinator", "_failed", "_fetcher", "_positions", "_retry", "_scope")

    def __init__(
        self,
        coordinator: Coordinator,
        scope: Scope,
        asks: Asks,
        positions: Positions,
        fetcher: Fetcher,
        failed: Callable[[Exception], object],
    ) -> None:
        self._coordinator = coordinator
        self._scope = scope
        self._asks = asks
        self._positions = positions
        self._fetcher = fetcher
        self._failed = failed
        self._asked = False
        self._retry = retry(scope.kernel.random())

    def __repr__(self) -> str:
        return f"<Lookup of {self._coordinator.group}{', under way' if self._asked else ''}>"

    def step(self, now: float) -> float:
        """Ask for what is to be asked now. Returns when to look again."""
        if self._asked:
            return NEVER
        unknown = [position.key for position in self._positions.values() if position.lost]
        pool = self._coordinator.pool()
        if not unknown or pool is None:
            return NEVER
        if now < self._retry.due:
            return self._retry.due
        topics: dict[str, list[int]] = {}
        for key in unknown:
            topics.setdefault(key.topic, []).append(key.partition)
        names = [OffsetTopicNames(topic, partitions) for topic, partitions in topics.items()]
        request = OffsetFetch(self._coordinator.group, names, self._fetcher.settings.committed_only)
        self._asked = True
        reply = pool.submit(Call(request, idempotent=True), self._coordinator.timeout)
        self._asks.ask(reply, partial(self._answered, set(unknown)))
        return NEVER

    def _answered(self, asked: set[TopicPartition], reply: Reply[OffsetFetchResponse]) -> None:
        self._asked = False
        if isinstance(reply.error, BrokerTooOld):
            self._failed(reply.error)
            return
        if reply.error is not None:
            self._coordinator.moved()
            self._retry.failed(self._scope.now, reply.error)
            return
        answer = reply.result()
        if answer.error:
            self._refused({answer.error})
            return
        self._retry.succeeded()
        refused: set[int] = set()
        for topic in answer.topics:
            for stored in topic.partitions:
                key = TopicPartition(topic.topic, stored.partition)
                position = self._positions.get(key)
                if position is None or key not in asked or position.offset >= 0:
                    continue
                if stored.error:
                    refused.add(stored.error)
                elif stored.offset >= 0:
                    self._positions.stored(key, stored.offset, stored.leader_epoch)
                else:
                    why = f"nothing is stored for the group {self._coordinator.group}"
                    self._fetcher.reset(position, why)
        if refused:
            self._refused(refused)

    def _refused(self, codes: set[int]) -> None:
        errors = [error_of(code, about=f"offsets of the group {self._coordinator.group}") for code in codes]
        self._retry.failed(self._scope.now, errors[0])
        for error in errors:
            if not error.retriable:
                self._failed(error)
            elif CODES[error.code].stale:
                self._coordinator.moved()
