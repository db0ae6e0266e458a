"""Who is to blame for the end of a connection, decided by what happened, and never by how soon it did.

| what happened | whose it is |
|---|---|
| it never came to be ready: refused, no answer, a handshake that failed | `UNREACHABLE` |
| the backend closed it or broke the protocol, and had never answered a unit on it | `DOUBTFUL` |
| anything else: it had answered before; we closed it, because of a unit or for our own reasons | `NOBODY` |

An unreachable backend is left alone for its backoff. A doubtful end may be the backend's fault (a load
balancer without servers) or the unit's (one that makes the server's process crash), and one end alone does
not tell which. After `backends.DOUBTS_MAX` in a row, without an answer in between, other backends are
preferred for a while. It is never a reason to reach none at all: a client that sends poison must not take
the service from others. Where nothing had been asked yet, the next connection waits a moment, so that they
do not follow each other without end.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from .states import State

if TYPE_CHECKING:
    from .connections import Connection

__all__ = ["Blame", "blame"]


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
