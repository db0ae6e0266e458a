"""Backends: one address each, the connections to it, and what a pool tells of both."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from actors import Address, Backoff, Retry

from .endpoints import Endpoint

if TYPE_CHECKING:
    from .connections import Connection

__all__ = ["IDLE", "NOWHERE", "SHARING", "Backend", "BackendStatistics", "PoolStatistics"]

NOWHERE: Final = 0  # which of the backend's lists a connection is on
IDLE: Final = 1
SHARING: Final = 2

DOUBTS_MAX: Final = 5  # as Finagle's failure accrual
CONNECT_PAUSE_MIN: Final = 0.01  # seconds between a failed connect and the next, whatever the backoff says
PAUSE_UNASKED: Final = Backoff(
    0.02, 0.5
)  # before another connection, where one was closed before it was asked


class BackendStatistics(msgspec.Struct, frozen=True):
    """A snapshot of one backend."""

    address: str
    connections: int
    opening: int
    idle: int
    in_flight: int
    failures: int  # connects that failed since the last that went well
    opened: int
    closed: int
    lost: int


class PoolStatistics(msgspec.Struct, frozen=True):
    """A snapshot of a pool. `submitted == succeeded + sum(failed.values()) + queued + in_flight`, always."""

    submitted: int
    succeeded: int
    failed: dict[str, int]  # by the error's name; cancelled ones are under Cancelled
    queued: int
    in_flight: int  # sent, and not answered
    orphans: int  # sent, and nobody waits for the answer
    retried: int
    taken_back: int  # into the queue, certainly not executed
    connections: int
    tunnels: int  # connections that were handed over to another protocol, and are open
    opened: int  # connections that became ready
    closed: int  # of them, in good order or while idle
    lost: int  # of them, with units in flight
    connects_failed: int
    backends: list[BackendStatistics]


class Backend:
    """One address and the connections to it. It counts what they and their pool report, and knows when it may
    be connected to. Only its methods change what it keeps.
    """

    __slots__ = (
        "all",
        "avoid_until",
        "closed",
        "connects_failed",
        "doubts",
        "endpoint",
        "idle",
        "in_flight",
        "lost",
        "open_at",
        "opened",
        "opening",
        "retry",
        "sharing",
    )

    def __init__(self, endpoint: Endpoint, retry: Retry) -> None:
        self.endpoint = endpoint
        self.all: dict[Connection, None] = {}  # open and opening
        self.idle: dict[Connection, None] = {}  # the last to fall idle at the end
        self.sharing: dict[Connection, None] = {}  # busy, with room for more
        self.in_flight = 0  # as they have reported
        self.opening = 0
        self.opened = self.closed = self.lost = self.connects_failed = 0
        self.retry = retry
        self.doubts = 0  # connections in a row that it has ended without an answer
        self.avoid_until = 0.0  # others are preferred until then
        self.open_at = 0.0  # a connection waits until then

    def __repr__(self) -> str:
        down = f", {self.failures} connects failed" if self.failures else ""
        return (
            f"<Backend {self.address} {len(self.all)} connections, {len(self.idle)} idle, "
            f"{self.in_flight} in flight{down}>"
        )

    @property
    def address(self) -> Address:
        """Where it is."""
        return self.endpoint.address

    @property
    def connections(self) -> int:
        """Open and opening ones."""
        return len(self.all)

    @property
    def failures(self) -> int:
        """Connects that have failed since a unit was answered here."""
        return self.retry.failures

    @property
    def retry_at(self) -> float:
        """It cannot be reached until then (monotonic seconds)."""
        return self.retry.due

    def renew_tls(self, tls: ssl.SSLContext | None) -> None:
        """Connections from now on are made with another context, if this backend has one at all."""
        if self.endpoint.tls is not None:
            self.endpoint = replace(self.endpoint, tls=tls)

    # -- what has happened -------------------------------------------------------------------------

    def opens(self, connection: Connection) -> None:
        """A connection is being made."""
        self.all[connection] = None
        self.opening += 1

    def ready(self) -> None:
        """One of those that were being made takes units."""
        self.opening -= 1
        self.opened += 1
        self.retry.at_once()

    def never_ready(self, connection: Connection) -> None:
        """One of them has failed."""
        self.all.pop(connection, None)
        self.opening -= 1

    def gone(self, connection: Connection, lost: bool) -> None:
        """A connection has ended: with units in flight, or in good order."""
        self.all.pop(connection, None)
        if lost:
            self.lost += 1
        else:
            self.closed += 1

    def handed_over(self, connection: Connection) -> None:
        """A connection is a tunnel from now on, and holds no place here; `gone` follows when it is closed."""
        self.all.pop(connection, None)

    def holds(self, connection: Connection, was: int, place: int, more: int) -> None:
        """A connection has `more` in flight than it had, and changes from one list to another."""
        self.in_flight += more
        if was == place:
            return
        if was == IDLE:
            self.idle.pop(connection, None)
        elif was == SHARING:
            self.sharing.pop(connection, None)
        if place == IDLE:
            self.idle[connection] = None
            if connection.completed and (self.retry.failures or self.doubts):
                self.proved()
        elif place == SHARING:
            self.sharing[connection] = None

    def proved(self) -> None:
        """It has answered a unit."""
        self.retry.succeeded()
        self.doubts = 0
        self.avoid_until = self.open_at = 0.0

    def unreachable(self, now: float, error: BaseException | None, begun: float) -> bool:
        """A connect has failed: back off. Gives whether that is worth telling. What had begun before the last
        failure is a part of that one.
        """
        self.connects_failed += 1
        if begun < self.retry.failed_at:
            return False
        self.retry.failed(now, error)
        self.retry.not_before(now + CONNECT_PAUSE_MIN)
        return self.retry.changed or self.retry.worth_telling

    def doubtful(self, now: float, asked: bool) -> float | None:
        """It has ended a connection that had never answered: after some of these in a row others are
        preferred. Gives for how many seconds, if that is worth telling. `asked`: whether anything that was to
        be sent has left; if not, the next connection waits a moment.
        """
        self.doubts = doubts = self.doubts + 1
        if not asked:
            self.open_at = now + PAUSE_UNASKED.delay(doubts, self.retry.source)
        if doubts < DOUBTS_MAX:
            return None
        delay = self.retry.backoff.delay(doubts - DOUBTS_MAX + 1, self.retry.source)
        self.avoid_until = now + delay
        return delay if doubts & (doubts - 1) == 0 or doubts == DOUBTS_MAX else None

    def statistics(self) -> BackendStatistics:
        """What is there now, and what has been."""
        return BackendStatistics(
            address=str(self.address),
            connections=len(self.all),
            opening=self.opening,
            idle=len(self.idle),
            in_flight=sum(connection.in_flight for connection in self.all),
            failures=self.failures,
            opened=self.opened,
            closed=self.closed,
            lost=self.lost,
        )
