"""The options that every pool has, described and checked once.

A protocol's description of its pool derives from `PoolOptions` and adds its own options; what is described is
made by `Loop.spawn`, which keeps the description as `pool.options`. Descriptions are values: they can be
compared, logged (secrets are not shown) and spawned any number of times.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from actors import Backoff, Spec
from actors.options import check_counts, check_seconds

from .assignment import Choose, least_in_flight
from .budgets import RetryBudget

__all__ = ["PoolOptions", "shared_options"]

P = TypeVar("P", covariant=True)


class PoolOptions(Spec[P], Generic[P], frozen=True, kw_only=True):
    """What can be said of any pool. Times are in seconds. Raises `ValueError` or `TypeError` for an option
    that makes no sense.
    """

    connections: int = 10
    """Per backend, at most. They are opened when they are needed."""
    pipeline: int = 1
    """Units in flight on one connection, at most."""
    queue: int = 1024
    """Units that may wait; the next one fails with `QueueFull`."""
    queue_bytes: int = 64 << 20
    """What these may hold together, by their `size`."""
    timeout: float = 5.0
    """The deadline of a unit that is given none."""
    connect_timeout: float = 5.0
    """For the name, TCP and TLS together, and then once more for the wire's own handshake."""
    idle_timeout: float = 600.0
    """After so long an idle connection is closed."""
    lifetime: float = 1800.0
    """After so long a connection is renewed, up to 2.5 % sooner."""
    lost_after: float = 60.0
    """After so long without a sign of life from the other end's system a connection is given up. 0: when the
    system does so."""
    warm: int = 0
    """Connections per backend that are kept open without need."""
    attempts: int = 3
    """How often an idempotent unit is sent, at most."""
    tunnels: int = 1000
    """Connections, to all backends together, that may be handed over to another protocol. They count against
    nothing else."""
    budget: RetryBudget = RetryBudget()
    """What retries may cost."""
    backoff: Backoff | None = None
    """How long a backend that cannot be connected to is left alone. None: 1 to 32 s, and for the only backend
    0.02 to 0.5 s."""
    choose: Choose = least_in_flight
    """Which of several backends a unit prefers."""
    name: str | None = None
    """What the pool is called in logs and errors. None: its first three addresses."""

    secret: ClassVar[frozenset[str]] = frozenset()
    """Fields that a repr must not show."""

    def __post_init__(self) -> None:
        check_counts(connections=self.connections, pipeline=self.pipeline, attempts=self.attempts)
        check_counts(queue=self.queue, queue_bytes=self.queue_bytes)
        check_counts(least=0, warm=self.warm, tunnels=self.tunnels)
        check_seconds(connect_timeout=self.connect_timeout, lifetime=self.lifetime)
        check_seconds(
            zero=True, timeout=self.timeout, idle_timeout=self.idle_timeout, lost_after=self.lost_after
        )
        if self.warm > self.connections:
            raise ValueError(f"warm={self.warm} of connections={self.connections}; write at most as many")

    def __repr__(self) -> str:
        said = []
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                shown = self.shown(field.name)
                said.append(shown if field.required else f"{field.name}={shown}")
        return f"{type(self).__name__}({', '.join(said)})"

    def shown(self, name: str) -> str:
        """A field as a repr may show it."""
        return "…" if name in self.secret else repr(getattr(self, name))


def shared_options(options: PoolOptions[Any]) -> dict[str, Any]:
    """The options of any pool, without those of a protocol: for further pools that are like this one."""
    return {name: getattr(options, name) for name in PoolOptions.__struct_fields__}
