"""The HTTP/1.1 server: a listener whose connections speak HTTP (RFC 9112)."""

from __future__ import annotations

from typing import cast

import msgspec
from msgspec.structs import force_setattr

from actors import Address, Listener, Machine, Scope, parse_address

from .connection import ServerConnection
from .options import ServerOptions
from .routing import Handler, Route, Router, route_of
from .shared import Shared

__all__ = ["Server", "ServerSpec", "ServerStatistics", "server"]


class ServerStatistics(msgspec.Struct, frozen=True):
    """A snapshot of a server. `timeouts` counts by class, as named in `Timeouts`."""

    address: str
    connections: int
    accepted: int
    requests: int
    refused: int
    failed: int
    timeouts: dict[str, int]


class ServerSpec(ServerOptions["Server"], frozen=True):
    """An HTTP server for `loop.spawn`. `address`: `"127.0.0.1:8080"`, `"unix:/run/app.sock"`; `handler`: a
    function of the request (plain or `async def`), a `Route` (with timeouts of its own) or a `Router`.

    Raises `ValueError` or `TypeError` for an address, a handler or an option that makes no sense. Spawning
    raises `OSError` if the address is taken.
    """

    address: Address | str
    handler: Handler | Route | Router

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.address, str):
            force_setattr(self, "address", parse_address(self.address))
        if not isinstance(self.handler, Router):
            route_of(self.handler)

    def make(self, scope: Scope) -> Machine[Server]:
        """As `actors.Spec`."""
        return cast("Machine[Server]", Server(self, scope))  # its handle is itself


class Server(Listener):
    """A listener with what its connections share. Made by `loop.spawn(http.server(…))`."""

    __slots__ = ("options", "shared")

    def __init__(self, options: ServerSpec, scope: Scope) -> None:
        self.options = options
        self.shared = shared = Shared(options, options.handler, scope)
        super().__init__(
            options.address,
            lambda: ServerConnection(shared),
            connections_max=options.connections,
            reuse_port=options.reuse_port,
            tls=options.tls,
        )

    def statistics(self) -> ServerStatistics:  # type: ignore[override]
        """What the server has done so far."""
        listener, shared = super().statistics(), self.shared
        return ServerStatistics(
            address=listener.address,
            connections=listener.connections,
            accepted=listener.accepted,
            requests=shared.requests,
            refused=shared.refused,
            failed=shared.errors,
            timeouts=shared.timeouts_counted(),
        )


server = ServerSpec
