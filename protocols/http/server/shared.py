"""What all connections of one server share: its options, its routes, the memo of heads, the counters.

It is the owner of these facts. A connection and its exchanges know it, and nothing of the listener that
accepts clients.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import Any, Final

from actors import Scope, Transport
from actors.telling import told
from protocols.http.codec.errors import BadRequest
from protocols.http.codec.head import RequestHead
from protocols.http.codec.memo import Memo, is_plain_request
from protocols.http.codec.messages import Response, date_line, text_response

from .options import ServerOptions
from .request import Request
from .routing import Handler, Route, Router, route_of
from .timeouts import Timeouts

__all__ = ["Shared"]

REQUESTS_MAX: Final = 1 << 29  # of a connection without a limit: two months at 100 a second; cheap to count


class Shared:
    """Made with its server; each request's handler runs in a copy of the context variables of that moment."""

    __slots__ = (
        "_loop",
        "_timed_out",
        "access_log",
        "context",
        "date",
        "date_until",
        "errors",
        "heads",
        "idle",
        "limits",
        "options",
        "refused",
        "requests",
        "route",
        "router",
        "timeouts",
    )

    def __init__(self, options: ServerOptions[Any], handler: Handler | Route | Router, scope: Scope) -> None:
        self.options = options
        self._loop = scope.loop
        self.router = handler if isinstance(handler, Router) else Router()
        self.route = None if isinstance(handler, Router) else route_of(handler)
        self.limits = options.limits
        self.timeouts = options.timeouts
        self.idle = options.timeouts.idle
        self.access_log = options.access_log
        self.heads: Memo[bytes, RequestHead] = Memo()
        self.context = copy_context()
        self.requests = self.refused = self.errors = 0
        self._timed_out = dict.fromkeys(
            ("idle", "head_receiving", "body_receiving", "response_generation", "response_sending"), 0
        )
        self.date = b""
        self.date_until = 0.0

    def __repr__(self) -> str:
        return f"<Shared {self.requests} requests, {self.refused} refused, {self.errors} failed>"

    @property
    def requests_max(self) -> int:
        """How many requests one connection may make."""
        return self.options.requests_per_connection or REQUESTS_MAX

    def called(self) -> None:
        """Count a request whose handler is called."""
        self.requests += 1

    def refusing(self) -> None:
        """Count a request that is refused."""
        self.refused += 1

    def remember(self, data: bytes, head: RequestHead) -> None:
        """Keep a head that has no body behind it: whoever polls sends the same bytes again."""
        if is_plain_request(data):
            self.heads.keep(data, head)

    def date_line(self) -> bytes:
        """The Date header of this second (RFC 9110 section 6.6.1)."""
        loop = self._loop
        if loop.now >= self.date_until:
            wall = loop.kernel.wall_clock()
            self.date = date_line(wall)
            self.date_until = loop.now + 1.0 - wall % 1.0
        return self.date

    def failed(self, request: Request, error: BaseException) -> Response:
        """A handler has raised: make the answer. Log it, unless it says that the request was bad."""
        if isinstance(error, BadRequest):
            self.refused += 1
            return text_response(f"{error.reason}\n", error.status)
        self.errors += 1
        self._loop.log.error(
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
        """To the access log, if there is one. What it raises is logged, and goes no further."""
        if self.access_log is None:
            return
        try:
            self.access_log.add(transport, request, status, size, seconds)
        except Exception as error:
            self._loop.log.error("access log failed", error=told(error), exc_info=error)

    def timed_out(self, name: str) -> None:
        """Count a timeout of this class."""
        self._timed_out[name] += 1

    def timeouts_counted(self) -> dict[str, int]:
        """How many timeouts there were, by class."""
        return dict(self._timed_out)
