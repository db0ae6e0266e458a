"""What can be said of a server: described and checked once, and kept whole by what runs."""

from __future__ import annotations

import ssl
from typing import Generic, Protocol, TypeVar

from actors import Spec, Transport
from actors.options import check_counts
from protocols.http.codec.limits import DEFAULT_LIMITS, Limits

from .request import Request
from .timeouts import DEFAULT_TIMEOUTS, Timeouts

__all__ = ["AccessSink", "ServerOptions"]

S = TypeVar("S", covariant=True)


class AccessSink(Protocol):
    """Where answered requests are reported, when somebody asked for that."""

    def add(
        self, transport: Transport, request: Request | None, status: int, size: int, seconds: float
    ) -> None:
        """One request (None: a refused one that could not be read) was answered with `status`, a body of
        `size` bytes (-1: not known yet), `seconds` after it had come."""


class ServerOptions(Spec[S], Generic[S], frozen=True, kw_only=True):
    """What `http.server` takes besides the address and the handler. Raises `ValueError` or `TypeError` for an
    option that makes no sense."""

    limits: Limits = DEFAULT_LIMITS
    """What one request may cost."""
    timeouts: Timeouts = DEFAULT_TIMEOUTS
    """How long each phase of a request may take. A route may have others of its own."""
    connections: int = 10_000
    """Connections that are open at a time; more wait in the system's queue."""
    requests_per_connection: int | None = None
    """After so many a connection is closed. None: never for that reason."""
    half_close: bool = True
    """Whether a client that ends its sending side is answered all the same. False: it is taken as gone."""
    reuse_port: bool = False
    """Whether other listeners may have the same address, and share its clients (SO_REUSEPORT)."""
    tls: ssl.SSLContext | None = None
    """With a certificate: the clients come by TLS."""
    access_log: AccessSink | None = None
    """What is told of every answered request: a spawned `http.AccessLog`, or anything with its `add`."""

    def __post_init__(self) -> None:
        check_counts(connections=self.connections)
        if self.requests_per_connection is not None:
            check_counts(requests_per_connection=self.requests_per_connection)
