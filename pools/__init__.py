"""Windlass's pools: units of work, queues, members, retries. They own the connections; no caller ever holds
one.

`Pool` is the machine; protocol packages derive a `Unit` and a `Wire` (see `pools.wires`) and get the rest.
"""

from __future__ import annotations

from actors._siblings import check_siblings

from .assignment import assign, least_in_flight
from .backends import Backend, BackendStatistics, PoolStatistics
from .budgets import RetryBudget
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
from .members import Event, Member, State
from .pool import Pool
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
    "Event",
    "Exchange",
    "Exchanges",
    "Held",
    "HeldAcrossBackends",
    "Member",
    "Pool",
    "PoolClosed",
    "PoolError",
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
]

check_siblings("pools", __file__)
