"""Windlass's pools: units of work, queues, connections, retries. No caller ever holds a connection.

`Pool` is the machine; protocol packages derive a `Unit` and a `Wire` (see `pools.wires`) and get the rest.
"""

from __future__ import annotations

import sys

try:
    from actors._siblings import check_siblings
except ModuleNotFoundError as error:  # the check itself stands in `actors`
    if error.name not in ("actors", "actors._siblings"):
        raise
    found = getattr(sys.modules.get("actors"), "__file__", "nothing")
    raise ImportError(
        f"pools of Windlass needs its `actors`, but `import actors` finds {found}; rename or remove that "
        "(a file or another package), then install Windlass (the distribution windlass-runtime) again"
    ) from error
else:
    check_siblings("pools", __file__)

from .assignment import assign, least_in_flight
from .backends import Backend, BackendStatistics, PoolStatistics
from .budgets import RetryBudget
from .connections import Connection, Event, State
from .endpoints import Endpoint
from .errors import (
    BackendDown,
    BackendError,
    Cancelled,
    ConnectionLost,
    DeadlineExceeded,
    HeldAcrossBackends,
    PoolClosed,
    PoolError,
    QueueFull,
)
from .exchanges import Exchange, Exchanges, Held
from .options import PoolOptions
from .pool import Pool, pool
from .queues import UnitQueue
from .routers import Routed, Router
from .units import Unit, Work
from .wires import Wire

__all__ = [
    "Backend",
    "BackendDown",
    "BackendError",
    "BackendStatistics",
    "Cancelled",
    "ConnectionLost",
    "DeadlineExceeded",
    "Endpoint",
    "Event",
    "Exchange",
    "Exchanges",
    "Held",
    "HeldAcrossBackends",
    "Connection",
    "Pool",
    "PoolClosed",
    "PoolError",
    "PoolOptions",
    "PoolStatistics",
    "QueueFull",
    "RetryBudget",
    "Routed",
    "Router",
    "State",
    "Unit",
    "UnitQueue",
    "Wire",
    "Work",
    "assign",
    "least_in_flight",
    "pool",
]
