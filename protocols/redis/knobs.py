"""The knobs of Redis, and of what it stands on: see `actors.knobs`."""

from __future__ import annotations

from typing import Final

from actors.knobs import Knob, backoff
from pools.knobs import KNOBS as POOLS

__all__ = ["KNOBS"]

KNOBS: Final[tuple[Knob, ...]] = (
    *POOLS,
    Knob("protocols.redis.codec.BEHIND_MAX", (0, 100), (1 << 24,)),
    Knob("protocols.redis.slots.SMALL", (0, 20), (1 << 20,)),
    Knob("protocols.redis.cluster.FOLLOWED_AT_ONCE", (0, 1), (16,)),
    Knob("protocols.redis.cluster.REFRESH_PAUSE", (0.001,), (1.0,)),
    Knob("protocols.redis.cluster.SUSPICION_PAUSE", (0.01,), (5.0,)),
    Knob("protocols.redis.cluster.REFRESH_SECONDS", (0.05,), (3.0,)),
    Knob("protocols.redis.cluster.ASKED_MAX", (1, 2), (100,)),
    Knob("protocols.redis.cluster.PAUSES", (0.05,), (2.0,), make=backoff),
    Knob("protocols.redis.cluster.RETRIES", (0.1,), (5.0,), make=backoff),
)
