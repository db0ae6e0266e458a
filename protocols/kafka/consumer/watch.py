"""What a consumer makes of the cluster's news: partitions by topic, topics that cannot be read, brokers that
nobody will reach without a person.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from actors import NEVER
from pools import BackendError
from protocols.kafka.cluster import Cluster
from protocols.kafka.errors import error_of
from protocols.kafka.group.assignors import TopicPartition
from protocols.kafka.producer.verdicts import fatal_cause

__all__ = ["Watch"]

STRANGE_MAX: Final = 4  # times in a row that nobody answers as a broker does; one that restarts hangs up, too
MISSING_SECONDS: Final = 1.0  # between two looks for a topic that is not there


class Watch:
    """Looks at the cluster for these topics. `failed` is called with what ends the consumer."""

    __slots__ = (
        "_cluster",
        "_failed",
        "_failure_seen",
        "_log",
        "_refreshes",
        "_refused",
        "_strange",
        "_topics",
        "counts",
        "due",
    )

    def __init__(
        self, cluster: Cluster, topics: tuple[str, ...], log: Any, failed: Callable[[BaseException], object]
    ) -> None:
        self.counts: dict[str, int] = {}
        """Partitions by topic. Another object when they have changed."""
        self.due = NEVER
        """When to look again at the latest."""
        self._cluster = cluster
        self._topics = topics
        self._log = log
        self._failed = failed
        self._refused: dict[str, int] = {}  # topics that cannot be read, and why
        self._refreshes = -1
        self._failure_seen: BaseException | None = None
        self._strange = 0  # failures in a row of which no broker tells
        for topic in topics:
            cluster.want(topic)

    def __repr__(self) -> str:
        return f"<Watch of {', '.join(self._topics)}>"

    @property
    def partitions(self) -> list[TopicPartition]:
        """All partitions of these topics that are known."""
        return [TopicPartition(name, at) for name in self._topics for at in range(self.counts.get(name, 0))]

    def look(self, now: float) -> bool:
        """Take in what is new. Returns whether there was anything."""
        cluster = self._cluster
        if cluster.failure is not None and not cluster.refreshes:
            self._unreachable(cluster.failure)
        if cluster.refreshes == self._refreshes and now < self.due:
            return False
        self._refreshes = cluster.refreshes
        self.due = NEVER
        for name in self._topics:
            topic = cluster.topics.get(name)
            if topic is not None and topic.error:
                self._topic_refused(name, topic.error, now)
            else:
                self._refused.pop(name, None)
        counts = {name: 0 if topic.error else len(topic.partitions) for name, topic in cluster.topics.items()}
        if counts != self.counts:
            self.counts = counts
        return True

    def _unreachable(self, failure: BaseException) -> None:
        """What needs a person ends it; others may pass, and the brokers' pools tell of them."""
        if failure is self._failure_seen:
            return
        self._failure_seen = failure
        cause = failure if isinstance(failure, BackendError) else failure.__cause__
        if not isinstance(cause, BackendError):
            self._strange = 0
            return
        self._strange += 1
        if fatal_cause(cause) is not None or self._strange >= STRANGE_MAX:
            self._failed(cause)

    def _topic_refused(self, name: str, code: int, now: float) -> None:
        error = error_of(code, about=f"topic {name}")
        if not error.retriable:
            self._failed(error)
            return
        if self._refused.get(name) != code:
            self._refused[name] = code
            self._log.warning("topic cannot be read", cause=f"topic {name}", error=str(error))
        self.due = now + MISSING_SECONDS
        self._cluster.refresh()
