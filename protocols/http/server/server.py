"""The HTTP/1.1 server: a listener whose connections speak HTTP (RFC 9112)."""

from __future__ import annotations

import ssl
from contextvars import Context, copy_context
from typing import Final, Protocol

import msgspec

from actors import Address, Listener, Outcome, Scope, Transport
from actors.options import check_counts
from actors.telling import told
from protocols.http.codec.errors import BadRequest
from protocols.http.codec.head import RequestHead
from protocols.http.codec.limits import DEFAULT_LIMITS, Limits
from protocols.http.codec.memo import Memo, is_plain_request
from protocols.http.codec.messages import Response, date_line, text_response

from .connection import ServerConnection
from .request import Request
from .routing import Handler, Route, Router
from .timeouts import DEFAULT_TIMEOUTS, Timeouts

__all__ = ["AccessSink", "Server", "ServerStatistics", "server"]


REQUESTS_MAX: Final = 1 << 29  # of a connection without a limit: two months at 100 a second; cheap to count


class AccessSink(Protocol):
    """Where answered requests are reported, when somebody asked for that."""

    def add(
        self, transport: Transport, request: Request | None, status: int, size: int, seconds: float
    ) -> None:
        """One request (None: a refused one that could not be read) was answered with `status`, a body of
        `size` bytes (-1: not known yet), `seconds` after it had come."""


class ServerStatistics(msgspec.Struct, frozen=True):
    """A snapshot of a server. `timeouts` counts by class, as named in `Timeouts`."""

    address: str
    connections: int
    accepted: int
    requests: int
    refused: int
    failed: int
    timeouts: dict[str, int]


class Server(Listener):
    """A listener with what its connections share. Made by `server()`."""

    __slots__ = (
        "_timed_out",
        "access_log",
        "context",
        "date",
        "date_until",
        "errors",
        "half_close",
        "heads",
        "idle",
        "limits",
        "refused",
        "requests",
        "requests_max",
        "route",
        "router",
        "timeouts",
    )

    def __init__(
        self,
        address: Address | str,
        handler: Handler | Route | Router,
        *,
        limits: Limits = DEFAULT_LIMITS,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        connections: int = 10_000,
        requests_per_connection: int | None = None,
        half_close: bool = True,
        reuse_port: bool = False,
        tls: ssl.SSLContext | None = None,
        access_log: AccessSink | None = None,
    ) -> None:
        check_counts(connections=connections)
        if requests_per_connection is not None:
            check_counts(requests_per_connection=requests_per_connection)
        super().__init__(
            address,
            lambda: ServerConnection(self),
            connections_max=connections,
            reuse_port=reuse_port,
            tls=tls,
        )
        self.router = handler if isinstance(handler, Router) else Router()
        self.route = None if isinstance(handler, Router) else _route(handler)
        self.limits = limits
        self.timeouts = timeouts
        self.idle = timeouts.idle
        self.heads: Memo[bytes, RequestHead] = Memo()
        self.requests_max = requests_per_connection or REQUESTS_MAX
        self.half_close = half_close
        self.access_log = access_log
        self.context = Context()  # until `start`
        self.requests = self.refused = self.errors = 0
        self._timed_out = dict.fromkeys(
            ("idle", "head_receiving", "body_receiving", "response_generation", "response_sending"), 0
        )
        self.date = b""
        self.date_until = 0.0

    def remember(self, data: bytes, head: RequestHead) -> None:
        """Keep a head that has no body behind it: whoever polls sends the same bytes again."""
        if is_plain_request(data):
            self.heads.keep(data, head)

    def date_line(self) -> bytes:
        """The Date header of this second (RFC 9110 section 6.6.1)."""
        loop = self._scope.loop
        if loop.now >= self.date_until:
            wall = loop.kernel.wall_clock()
            self.date = date_line(wall)
            self.date_until = loop.now + 1.0 - wall % 1.0
        return self.date

    def start(self, scope: Scope) -> Outcome:
        """Listen. Each request's handler runs in a copy of the context variables of now."""
        self.context = copy_context()
        return super().start(scope)

    def failed(self, request: Request, error: BaseException) -> Response:
        """A handler has raised: make the answer. Log it, unless it says that the request was bad."""
        if isinstance(error, BadRequest):
            self.refused += 1
            return text_response(f"{error.reason}\n", error.status)
        self.errors += 1
        self._scope.loop.log.error(
            "handler failed",
            cause=f"handler {type(error).__name__}",
            method=request.method,
            target=request.target,
            error=told(error),
            exc_info=error,
        )
        return text_response("internal server error\n", 500)

    def timeouts_for(self, route: Route, request: Request) -> Timeouts:
        """What holds for this request. A function that fails to say it is logged, and the server's own
        hold."""
        chosen = route.timeouts
        if chosen is None:
            return self.timeouts
        try:
            found = chosen(request) if callable(chosen) else chosen
            if not isinstance(found, Timeouts):
                raise TypeError(f"the timeouts of {route!r} are {found!r}; write Timeouts(…)")
        except Exception as error:
            self.failed(request, error)
            return self.timeouts
        return found

    def report(
        self, transport: Transport, request: Request | None, status: int, size: int, seconds: float
    ) -> None:
        """To the access log, which there is. What it raises is logged, and reaches nobody else."""
        try:
            self.access_log.add(transport, request, status, size, seconds)  # type: ignore[union-attr]
        except Exception as error:
            self._scope.loop.log.error("access log failed", error=told(error), exc_info=error)

    def timed_out(self, name: str) -> None:
        """Count a timeout of this class."""
        self._timed_out[name] += 1

    def statistics(self) -> ServerStatistics:  # type: ignore[override]
        """What the server has done so far."""
        listener = super().statistics()
        return ServerStatistics(
            address=listener.address,
            connections=listener.connections,
            accepted=listener.accepted,
            requests=self.requests,
            refused=self.refused,
            failed=self.errors,
            timeouts=dict(self._timed_out),
        )


def _route(handler: Handler | Route) -> Route:
    return handler if isinstance(handler, Route) else Route(handler)


def server(
    address: Address | str,
    handler: Handler | Route | Router,
    *,
    limits: Limits = DEFAULT_LIMITS,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    connections: int = 10_000,
    requests_per_connection: int | None = None,
    half_close: bool = True,
    reuse_port: bool = False,
    tls: ssl.SSLContext | None = None,
    access_log: AccessSink | None = None,
) -> Server:
    """An HTTP server for `loop.spawn`. `address`: `"127.0.0.1:8080"`, `"unix:/run/app.sock"`.

    `handler` is a function of the request (plain or `async def`), a `Route` (with timeouts of its own) or a
    `Router`. At most `connections` are open at a time; each is closed after `requests_per_connection`.
    `half_close`: a client that ends its sending side is answered all the same; false: it is taken as gone.
    Spawning raises `OSError` if the address is taken.
    """
    return Server(
        address,
        handler,
        limits=limits,
        timeouts=timeouts,
        connections=connections,
        requests_per_connection=requests_per_connection,
        half_close=half_close,
        reuse_port=reuse_port,
        tls=tls,
        access_log=access_log,
    )
