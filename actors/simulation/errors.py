"""What a simulation says when something is wrong: with what is simulated, or with how it is simulated."""

from __future__ import annotations

import errno
from typing import Final

from actors.errors import ActorError, Cancelled

__all__ = ["Broken", "RealityReached", "by_network"]

NETWORK_CODES: Final = frozenset(
    (
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EPIPE,
        errno.ETIMEDOUT,
    )
)


class Broken(AssertionError):
    """An invariant does not hold. Raised by checks; it ends the run and is its failure."""


class RealityReached(RuntimeError):
    """The simulated program reached for a real clock, socket, thread or source of entropy."""


def by_network(error: BaseException) -> bool:
    """Whether the network, or a peer that has gone, can have caused this. Of a group all must be so; of what
    the system says, only what it says of connections; of the runtime's own errors, those that say so
    themselves (`ActorError.by_network`)."""
    if isinstance(error, BaseExceptionGroup):
        return all(by_network(one) for one in error.exceptions)
    if isinstance(error, ActorError | Cancelled):
        return error.by_network
    return isinstance(error, ConnectionError) or (isinstance(error, OSError) and error.errno in NETWORK_CODES)
