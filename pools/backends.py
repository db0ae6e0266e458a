"""Backends: one address each, the connections to it, and what a pool tells of both."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from .endpoints import Endpoint

if TYPE_CHECKING:
    from .connections import Connection

__all__ = ["Backend", "BackendStatistics", "PoolStatistics"]


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
    taken_back: int  # from a connection that died before they were sent
    connections: int
    tunnels: int  # connections that were handed over to another protocol, and are open
    opened: int  # connections that became ready
    closed: int  # of them, in good order or while idle
    lost: int  # of them, with units in flight
    connects_failed: int
    backends: list[BackendStatistics]


class Backend:
    """One address and the connections to it."""

    __slots__ = (
        "address",
        "avoid_until",
        "closed",
        "doubts",
        "endpoint",
        "failed_at",
        "failures",
        "idle",
        "in_flight",
        "last_error",
        "lost",
        "all",
        "open_at",
        "opened",
        "opening",
        "retry_at",
        "sharing",
    )

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.address = endpoint.address
        self.all: dict[Connection, None] = {}  # open and opening
        self.idle: dict[Connection, None] = {}  # the last to fall idle at the end
        self.sharing: dict[Connection, None] = {}  # busy, with room for more
        self.in_flight = 0
        self.opening = 0
        self.failures = 0
        self.failed_at = 0.0
        self.retry_at = 0.0  # it is unreachable until then
        self.doubts = 0  # connections in a row that it has ended without an answer
        self.avoid_until = 0.0  # others are preferred until then
        self.open_at = 0.0  # a connection waits until then
        self.last_error: BaseException | None = None
        self.opened = self.closed = self.lost = 0

    def __repr__(self) -> str:
        down = f", {self.failures} connects failed" if self.failures else ""
        return (
            f"<Backend {self.address} {len(self.all)} connections, {len(self.idle)} idle, "
            f"{self.in_flight} in flight{down}>"
        )

    @property
    def connections(self) -> int:
        """Open and opening ones."""
        return len(self.all)

    def renew_tls(self, tls: ssl.SSLContext | None) -> None:
        """Connections from now on are made with another context, if this backend has one at all."""
        if self.endpoint.tls is not None:
            self.endpoint = replace(self.endpoint, tls=tls)

    def proved(self) -> None:
        """It has answered a unit."""
        self.failures = self.doubts = 0
        self.avoid_until = self.open_at = 0.0

    def statistics(self) -> BackendStatistics:
        """What is there now, and what has been."""
        return BackendStatistics(
            address=str(self.address),
            connections=len(self.all),
            opening=self.opening,
            idle=len(self.idle),
            in_flight=self.in_flight,
            failures=self.failures,
            opened=self.opened,
            closed=self.closed,
            lost=self.lost,
        )
