"""What a caller of a pool can get instead of an answer. Each error says whether the unit may have been
executed.
"""

from __future__ import annotations

from typing import Literal

import actors

__all__ = [
    "BackendDown",
    "BackendError",
    "Cancelled",
    "ConnectionLost",
    "DeadlineExceeded",
    "HeldAcrossBackends",
    "PoolClosed",
    "PoolError",
    "QueueFull",
    "Stage",
]

Stage = Literal["queued", "connecting", "sent"]
"""How far a unit had come."""


class PoolError(actors.NoAnswer):
    """The base of everything that a pool answers a unit with, other than its value."""


class QueueFull(PoolError):
    """The pool's queue was full; the unit was not sent. Submit less at a time, retry later, or raise `queue=`
    or `connections=`.
    """

    by_network = True


class DeadlineExceeded(PoolError, actors.DeadlineExceeded):
    """The unit's deadline has passed. In the stages queued and connecting it was not sent; sent, it may have
    been executed.

    Give it a longer `timeout=`, or find out why the backend is slow: queued says that the pool is too small
    for its backend, connecting that the backend does not accept, sent that it does not answer. `pool` is the
    pool's name, `backend` the address (empty before there is one), `unit` what was to be done, `seconds` how
    long it has waited.
    """

    by_network = True

    def __init__(
        self,
        message: str,
        stage: Stage = "sent",
        *,
        pool: str = "",
        backend: str = "",
        unit: str = "",
        seconds: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.stage: Stage = stage
        self.pool = pool
        self.backend = backend
        self.unit = unit
        self.seconds = seconds


class BackendDown(PoolError):
    """No backend could be reached; the unit was not sent. `__cause__` is the last attempt's error."""

    by_network = True


class ConnectionLost(PoolError):
    """The connection died after the unit was sent: it may have been executed, and it was not safe to send it
    again.

    Find out what happened before you submit it once more, or declare the unit idempotent if it is.
    """

    by_network = True


class BackendError(PoolError):
    """The backend's own answer was an error, or no answer that its protocol allows. Protocols derive from
    this.
    """


class Cancelled(actors.Cancelled):
    """The asker cancelled. A unit that was sent by then may have been executed; its answer is read and
    dropped. No `PoolError`, for it is no `Exception` (see `actors.Cancelled`).
    """

    by_network = True


class PoolClosed(PoolError):
    """The pool drains or has stopped; the unit was not sent, or was given up. Submit before the drain, or to
    another pool.
    """

    by_network = True


class HeldAcrossBackends(PoolError):
    """A unit of several exchanges awaited something other than its own connection, which would hold that
    connection meanwhile.

    Await the other thing before you submit the unit, or after it has settled, and pass the value in.
    """
