"""Which broker keeps the state of a group, found again whenever it is another."""

from __future__ import annotations

from collections.abc import Callable

from actors import NEVER, Reply, Scope
from pools import Pool
from protocols.kafka.asks import Asks
from protocols.kafka.cluster import Cluster
from protocols.kafka.errors import BrokerTooOld, KafkaError
from protocols.kafka.protocol.api import Keeper
from protocols.kafka.retrying import retry

__all__ = ["Coordinator"]


class Coordinator:
    """The coordinator of one group. `failed` is called with what ends the consumer."""

    __slots__ = ("_asks", "_cluster", "_failed", "_finding", "_retry", "_scope", "group", "node")

    def __init__(
        self,
        group: str,
        scope: Scope,
        cluster: Cluster,
        asks: Asks,
        failed: Callable[[Exception], object],
    ) -> None:
        self.group = group
        self.node: int | None = None
        """The broker's number; None while it is not known."""
        self._scope = scope
        self._cluster = cluster
        self._asks = asks
        self._failed = failed
        self._finding = False
        self._retry = retry(scope.kernel.random())

    def __repr__(self) -> str:
        return f"<Coordinator of {self.group}, {'not known' if self.node is None else f'broker {self.node}'}>"

    @property
    def timeout(self) -> float:
        """Seconds that a request may take."""
        return self._cluster.settings.request_timeout

    def pool(self, lane: str = "") -> Pool | None:
        """The connection to it; None while it is not known."""
        return None if self.node is None else self._cluster.pool(self.node, lane)

    def moved(self) -> None:
        """It is another one by now, or perhaps."""
        self.node = None

    def find(self, now: float) -> float:
        """Look for it if it is not known. Returns when to look again."""
        if self._finding or self.pool() is not None:
            return NEVER
        if now < self._retry.due:
            return self._retry.due
        self._finding = True
        self._asks.ask(self._cluster.coordinator(self.group, Keeper.GROUP), self._found)
        return NEVER

    def _found(self, reply: Reply[int]) -> None:
        self._finding = False
        error = reply.error
        if error is None:
            self._retry.succeeded()
            self.node = reply.result()
        elif isinstance(error, BrokerTooOld) or (isinstance(error, KafkaError) and not error.retriable):
            self._failed(error)
        else:
            self._retry.failed(self._scope.now, error)
            if self._retry.failures > 2 and self._retry.worth_telling:  # the first is how it is made
                self._scope.loop.log.warning(
                    "no coordinator",
                    cause=f"no coordinator {self.group}",
                    group=self.group,
                    error=str(error),
                    failures=self._retry.failures,
                )
