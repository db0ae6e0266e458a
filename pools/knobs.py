"""The knobs of pools, and of what they stand on: see `actors.knobs`."""

from __future__ import annotations

from typing import Final

from actors.knobs import KNOBS as ACTORS
from actors.knobs import Knob, backoff

__all__ = ["KNOBS"]

KNOBS: Final[tuple[Knob, ...]] = (
    *ACTORS,
    Knob("pools.queues.FRONT_SIZE", (1, 3), (4096,)),
    Knob("pools.assignment.SHARING_LOOKED_AT", (1, 2), (10_000,)),
    Knob("pools.budgets.SECONDS", (1, 2), (100,)),
    Knob("pools.exchanges.FOREIGN_MAX", (1, 2), (1000,)),
    Knob("pools.exchanges.EXCHANGES_MAX", (16,), (100_000,)),
    Knob("pools.pool.LATENESS", (0.0,)),
    Knob("pools.dialling.LIFETIME_JITTER", (0.0,), (0.5,)),
    Knob("pools.backends.CONNECT_PAUSE_MIN", (0.001,), (0.3,)),
    Knob("pools.backends.DOUBTS_MAX", (1, 2), (1000,)),
    Knob("pools.backends.PAUSE_UNASKED", (0.05,), (5.0,), make=backoff),
    Knob("pools.suspects.SILENT_SECONDS", (0.0, 0.01), (30.0,)),
    Knob("pools.suspects.PROBE_SECONDS", (0.05,), (10.0,)),
    Knob("pools.suspects.RENEW_SECONDS", (0.0, 0.05), (30.0,)),
    Knob("pools.pool.BACKOFF_SEVERAL", (0.1, 1.0), make=backoff),
    Knob("pools.pool.BACKOFF_ALONE", (0.05,), (5.0,), make=backoff),
    Knob("pools.routers.LATENESS", (0.0,)),
)
