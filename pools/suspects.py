"""Connections that may lead nowhere any more, and connections that lead to the wrong server.

**Silence.** A NAT or a balancer forgets connections without a word, and then every one that was idle for as
long is gone. The first unit that waits in vain, without a byte, tells of it: the idle siblings that have not
been heard since it was submitted are suspects, and each is probed before it is used again. So one caller pays
with its deadline, not one after the other. A unit that is cancelled tells the same, if it has waited for
`SILENT_SECONDS`. A wire says by `Wire.probe` what to ask; where it has nothing to ask, a suspect is closed.

**Not me.** A server that is not the primary any more answers, and its connections live on, while its name
leads elsewhere. An answer that is about the server has all connections left that were made before. At most
once in `RENEW_SECONDS`: one that is newer would lead to the same server again, and a unit that is at fault
itself (a write, in a pool that is for reading) must not cost the others their connections again and again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .states import State

if TYPE_CHECKING:
    from .connections import Connection
    from .units import Work

__all__ = [
    "PROBE_SECONDS",
    "RENEW_SECONDS",
    "SILENT_SECONDS",
    "leave",
    "probe",
    "suspect_after_cancel",
    "suspect_others",
]

SILENT_SECONDS: Final = (
    0.25  # without a byte, before a unit that is cancelled says anything of its connection
)
PROBE_SECONDS: Final = 1.0  # for the answer to a probe: on a path that lives it takes a round trip
RENEW_SECONDS: Final = 1.0  # how old a connection must be for a new one to lead elsewhere


def suspect_others(connection: Connection, work: Work[Any], now: float) -> None:
    """This unit has waited in vain on this connection: if nothing at all has come meanwhile, suspect the
    others.
    """
    if connection.times.heard > connection.times.idle and now - connection.times.heard < SILENT_SECONDS:
        return
    for other in list(connection.backend.idle):
        if max(other.times.heard, other.times.ready) < work.since:
            probe(other, now)


def suspect_after_cancel(connection: Connection, work: Work[Any], now: float) -> None:
    """The same for one whose asker has gone, if it had waited for long enough."""
    if now - work.since >= SILENT_SECONDS:
        suspect_others(connection, work, now)


def probe(connection: Connection, now: float) -> None:
    """Ask the server whether it is there. Units go elsewhere until it has answered."""
    unit: Any = None
    try:
        unit = connection.wire.probe()
    except Exception as failure:
        connection.pool.clean_up_failed(failure, wire=type(connection.wire).__name__)
    if unit is not None:
        connection.send_probe(unit, now + PROBE_SECONDS)
    if not connection.in_flight:  # there is nothing to ask, or it could not be sent
        connection.retire()


def leave(connection: Connection) -> bool:
    """Take nothing new, on this connection and on those to the same backend that were made before. False if
    this one is so new that another would lead to the same server.
    """
    now = connection.pool.loop.now
    if now - connection.times.ready < RENEW_SECONDS:
        return False
    for each in list(connection.backend.all):
        if each.state is State.READY and now - each.times.ready >= RENEW_SECONDS:
            each.retire()
    return True
