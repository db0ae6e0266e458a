"""Who is to blame for the end of a connection, decided by what happened, and never by how soon it did.

| what happened | whose it is |
|---|---|
| it never came to be ready: refused, no answer, a handshake that failed | `UNREACHABLE` |
| the backend closed it or broke the protocol, and had never answered a unit on it | `DOUBTFUL` |
| anything else: it had answered before; we closed it, for a reason of a unit's or for our own | `NOBODY` |

An unreachable backend is left alone for its backoff. A doubtful end may be the backend's fault (a load
balancer with nobody behind it) or the unit's (one that makes the server's process crash), and nobody can tell
them apart by one of them. After `DOUBTS_MAX` in a row, no unit answered between, other backends are preferred
for a while. It is never a reason to reach nobody: a client that sends poison must not take the service from
others. Where nothing had been asked yet, the next connection waits a moment, lest they follow each other
without end.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from actors import Backoff
from actors.telling import words_of

from .states import State

if TYPE_CHECKING:
    from .backends import Backend
    from .connections import Connection
    from .pool import Pool

__all__ = ["CONNECT_PAUSE_MIN", "DOUBTS_MAX", "Blame", "blame", "doubtful", "unreachable"]

DOUBTS_MAX: Final = 5  # as Finagle's failure accrual
CONNECT_PAUSE_MIN: Final = 0.01  # seconds between a failed connect and the next, whatever the backoff says
PAUSE_UNASKED: Final = Backoff(
    0.02, 0.5
)  # before another connection, where one was closed before it was asked


class Blame(Enum):
    """What the end of a connection says of its backend."""

    NOBODY = "nobody"
    DOUBTFUL = "doubtful"
    UNREACHABLE = "unreachable"


def blame(connection: Connection, before: State, error: BaseException | None) -> Blame:
    """What this end, in this state, says of the backend."""
    if before is State.CONNECTING or before is State.HANDSHAKING:
        return Blame.UNREACHABLE
    if connection.ended_by_backend and error is not None and not connection.completed:
        return Blame.DOUBTFUL
    return Blame.NOBODY


def unreachable(pool: Pool, backend: Backend, error: BaseException | None, begun: float) -> None:
    """Back off. What had begun before the last failure is a part of that one."""
    now = pool.loop.now
    pool.connects_failed += 1
    if begun < backend.failed_at:
        return
    backend.failed_at = now
    backend.failures = failures = backend.failures + 1
    delay = max(CONNECT_PAUSE_MIN, pool.backoff.delay(failures, pool.loop.kernel.random()))
    backend.retry_at = now + delay
    news = words_of(error) != words_of(backend.last_error)
    backend.last_error = error
    if news or failures & (failures - 1) == 0:  # the first, the second, the fourth … of the same kind
        pool.warn("cannot connect", backend, error, failures=failures, retry_in=round(delay, 3))


def doubtful(pool: Pool, backend: Backend, error: BaseException | None, asked: bool) -> None:
    """Prefer others after some of these in a row. `asked`: whether anything that was to be sent has left."""
    now, random = pool.loop.now, pool.loop.kernel.random()
    backend.doubts = doubts = backend.doubts + 1
    if not asked:
        backend.open_at = now + PAUSE_UNASKED.delay(doubts, random)
    if doubts >= DOUBTS_MAX:
        delay = pool.backoff.delay(doubts - DOUBTS_MAX + 1, random)
        backend.avoid_until = now + delay
        if doubts & (doubts - 1) == 0 or doubts == DOUBTS_MAX:
            preferred = {"in_a_row": doubts, "others_preferred_for": round(delay, 3)}
            pool.warn("backend closes without an answer", backend, error, **preferred)
