"""PostgreSQL: units of SQL for a pool that owns the connections.

`pool(url)` makes a machine for `loop.spawn`; `query`, `fetch_one`, `fetch_value`, `execute`, `execute_many`
make units for it, `transaction` makes them of an `async def`; `copy_in`, `copy_out` and their like stream.
`listen` makes a channel of notifications, with a connection of its own.
"""

from __future__ import annotations

from .client import pool
from .copy.units import CopyStream, copy_in, copy_in_records, copy_out, copy_out_records
from .errors import BadMessage, LeftOpen, PostgresError, RolledBack, UnreadableValue
from .subscriptions import Notification, Subscription, listen, notify
from .transactions import Isolation, Transaction, transaction
from .types import INFINITY, Infinity, Range
from .units import execute, execute_many, fetch_one, fetch_value, query

__all__ = [
    "INFINITY",
    "BadMessage",
    "CopyStream",
    "Infinity",
    "Isolation",
    "LeftOpen",
    "Notification",
    "PostgresError",
    "Range",
    "RolledBack",
    "Subscription",
    "Transaction",
    "UnreadableValue",
    "copy_in",
    "copy_in_records",
    "copy_out",
    "copy_out_records",
    "execute",
    "execute_many",
    "fetch_one",
    "fetch_value",
    "listen",
    "notify",
    "pool",
    "query",
    "transaction",
]
