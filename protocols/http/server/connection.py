"""One client's connection, as the server sees it: requests in, answers out, in order.

Rules:
1. One request is answered at a time. What the client has sent ahead (pipelining) waits in the input, bounded,
   until its turn; reading pauses when nobody wants more.
2. A request that a plain function answers at once costs no object beyond the request and its response. What
   takes longer is an `Exchange`.
3. Every request gets exactly one answer, or the connection is closed. After a refusal (`BadRequest`) it is
   always closed, because the framing of what follows is lost.
4. A body that was announced and not read to its end is not skipped: the connection is closed after the
   answer.
5. The client's FIN after a whole request says that it sends nothing more, and nothing else: it is answered
   (RFC 9112 section 9.6). A reset cancels the work, and so does a FIN to a server with `half_close=False`.
6. A request in a row of many costs no outcome. The stream's timer is a lower bound: when it fires, `timeout`
   looks what is due, and goes on if nothing is. And while an exchange wants no input, the stream may go on
   expecting some (`listening`), until some comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from actors import (
    ANYTHING,
    NEVER,
    SLEEP,
    UNCHANGED,
    Bytes,
    Flush,
    Outcome,
    Stop,
    StreamProtocol,
    Timeout,
    Transport,
)
from actors.errors import FAILURES
from protocols.http.codec.errors import BadRequest
from protocols.http.codec.head import RequestHead, parse_request_head
from protocols.http.codec.memo import HEAD_KEPT_BYTES, is_plain_request
from protocols.http.codec.messages import (
    CLOSE_LINE,
    KEEP_ALIVE_LINE,
    Response,
    text_response,
    write_response,
)

from .exchange import GATHER, Exchange
from .request import Request
from .routing import Route
from .timeouts import Sending

if TYPE_CHECKING:
    from .server import Server
    from .timeouts import Timeouts

__all__ = ["Exchange", "ServerConnection"]

SENDING_MIN: Final = 1 << 16
"""Bytes of answers: for more than that to be taken is waited. The rest is left to the socket."""
ONLY_FLUSH: Final = (SLEEP, Flush(0))


class ServerConnection(StreamProtocol):
    """Reads heads; answers at once what can be, and makes an `Exchange` for what cannot."""

    __slots__ = ("deadline", "exchange", "idle_until", "left", "listening", "scanned", "server", "taking")

    def __init__(self, server: Server) -> None:
        self.server = server
        self.exchange: Exchange | None = None  # the request that is being received or answered
        self.scanned = 0  # how much of an incomplete head was looked at
        self.left = server.requests_max  # how many more requests this connection may make
        self.deadline = NEVER  # of the head that is being received
        self.listening = False  # the stream expects ANYTHING; there was no FIN; its timer will not be late
        self.idle_until = NEVER  # when it is closed if nothing comes
        self.taking: Sending | None = None  # a large answer, before anything else

    def __repr__(self) -> str:
        doing = repr(self.exchange) if self.exchange else "receiving a head" if self.scanned else "idle"
        return f"<ServerConnection {doing}{', closing' if self.left <= 0 else ''}>"

    def connected(self, transport: Transport) -> Outcome:
        """A client: its first request is due."""
        return self.listen(transport, self.server.idle)

    def listen(self, transport: Transport, seconds: float) -> Outcome:
        """Nothing is at hand: the next request may come for so many seconds."""
        scope = transport.scope
        self.idle_until = due = scope.loop.now + seconds
        if self.listening and scope.deadline <= due and not transport.input:
            return UNCHANGED
        self.listening = not transport.ended
        return Timeout(self, due, ANYTHING)  # if more has come already, the stream delivers it at once

    def received(self, transport: Transport) -> Outcome:
        """Bytes: of the body of the request at hand, or of heads. The hot path of a server: answers the
        requests that are complete in the input. One long function, on purpose: what is parsed, routed, called
        and written for a small request costs fewer instructions than to pass its parts from call to call."""
        if self.exchange is not None:
            return self.exchange.received(transport)
        server = self.server
        heads = server.heads
        data = transport.input
        size = len(data)
        start = 0
        date = head = None
        if data.__class__ is bytes:  # and so nothing of it has been looked at before
            if data == heads.last:
                head = heads.last_value
            elif size <= HEAD_KEPT_BYTES:
                head = heads.find(data)
        while True:
            if head is not None:
                start = size
            elif data.startswith(heads.last, start):  # of requests in a row that are the same
                head = heads.last_value
                start += len(heads.last)
                self.scanned = 0
            else:
                try:
                    head = parse_request_head(data, start, server.limits, self.scanned)
                except BadRequest as refusal:
                    return self.refuse(transport, refusal)
                if head is None:
                    return self._incomplete(transport, start)
                self.scanned = 0
                if not head.length:
                    lines = bytes(data[start : head.end])
                    if is_plain_request(lines):
                        heads.keep(lines, head)
                start = head.end
            self.left -= 1
            request = Request(head.method, head.target, head, transport, b"", head.minor)
            route = server.route
            if route is None:
                route = server.router.match(request)
            if head.length and not route.streams:
                transport.consume(start)
                return self._begin(transport, head, request, route, GATHER)
            server.requests += 1
            try:
                if route.own_context:
                    context = server.context.copy()
                    answer = context.run(route.call, request)
                else:
                    context = None
                    answer = route.call(request)
            except FAILURES as error:
                answer = server.failed(request, error)
            if answer.__class__ is not Response:
                if start == size:
                    transport.input = b""
                else:
                    transport.consume(start)
                if context is None:
                    return self._begin(transport, head, request, route, answer)
                return context.run(self._begin, transport, head, request, route, answer)
            if date is None:  # once for all that are answered now, and not for what a proxy passes on
                now = transport.scope.loop.now
                date = server.date if now < server.date_until else server.date_line()
            lines = date
            staying = head.keep_alive and self.left > 0 and not head.length
            if not staying:
                lines += CLOSE_LINE
            elif not head.minor:
                lines += KEEP_ALIVE_LINE
            try:
                write_response(transport, answer, lines, head.method, head.minor)
            except Exception as error:
                answer = server.failed(request, error)
                write_response(transport, answer, lines, head.method, head.minor)
            if server.access_log is not None:
                server.report(transport, request, answer.status, len(answer.body), 0.0)
            if not staying or transport.unsent > SENDING_MIN:
                transport.consume(start)
                return self._after(transport, head, request, route)
            if start == size:
                transport.input = b""
                if not self.listening:
                    return self.listen(transport, server.idle)
                self.idle_until = now + server.idle
                return UNCHANGED
            head = None

    def _after(self, transport: Transport, head: RequestHead, request: Request, route: Route) -> Outcome:
        """Answered, but not ready for the next request: the connection ends, or the client must take the
        answer first."""
        if head.length:
            transport.linger = True  # answered before the body was read: let the client see that
            return Stop()
        if not head.keep_alive:
            self.left = 0
        if transport.unsent <= SENDING_MIN:
            return Stop()
        return self.sending(transport, self.server.timeouts_for(route, request))

    def _incomplete(self, transport: Transport, start: int) -> Outcome:
        transport.consume(start)
        self.listening = False
        if not self.scanned:
            self.deadline = transport.scope.now + self.server.timeouts.head_receiving
        self.scanned = len(transport.input)
        return Timeout(self, self.deadline, Bytes(self.scanned + 1))

    def _begin(
        self, transport: Transport, head: RequestHead, request: Request, route: Route, answer: Any
    ) -> Outcome:
        server = self.server
        timeouts = server.timeouts if route.timeouts is None else server.timeouts_for(route, request)
        self.exchange = exchange = Exchange(self, transport, head, request, route, timeouts)
        return exchange.begin(answer)

    def sending(self, transport: Transport, timeouts: Timeouts) -> Outcome:
        """A large answer: take up the next request, or close, when the client has taken this one."""
        self.listening = False
        if self.taking is None:
            self.taking = Sending(timeouts, transport)
        return Timeout(self, self.taking.due(transport), ONLY_FLUSH)

    def next(self, transport: Transport, timeouts: Timeouts) -> Outcome:
        """The request at hand is answered, and the connection goes on, or ends."""
        self.exchange = None
        if transport.unsent > SENDING_MIN and not transport.linger:
            return self.sending(transport, timeouts)
        if self.left <= 0:
            return Stop()
        return self.listen(transport, self.server.idle)

    def refuse(self, transport: Transport, refusal: BadRequest, request: Request | None = None) -> Outcome:
        """Answer what cannot be served, and close."""
        self.server.refused += 1
        response = text_response(f"{refusal.reason}\n", refusal.status)
        write_response(transport, response, self.server.date_line() + CLOSE_LINE)
        if self.server.access_log is not None:
            self.server.report(transport, request, refusal.status, len(response.body), 0.0)
        transport.linger = True
        return Stop()

    def flushed(self, transport: Transport) -> Outcome:
        """The client has taken what it was sent."""
        if self.exchange is not None:
            return self.exchange.flushed()
        self.taking = None
        return self.next(transport, self.server.timeouts)

    def ended(self, transport: Transport) -> Outcome:
        """The client sends nothing more."""
        if self.exchange is not None:
            return self.exchange.ended()
        if transport.unsent or (transport.input and not self.scanned):
            return self.sending(transport, self.server.timeouts)  # and go on with what was asked before
        return Stop()

    def wakeup(self, transport: Transport) -> Outcome:
        """Something the responder waits for."""
        return UNCHANGED if self.exchange is None else self.exchange.wakeup()

    def timeout(self, transport: Transport) -> Outcome:
        """One of the timeout classes."""
        if self.exchange is not None:
            return self.exchange.timeout(transport.scope.now)
        if self.listening and transport.scope.now < self.idle_until:
            return Timeout(self, self.idle_until)
        if transport.unsent:
            timeouts = self.server.timeouts
            taking = self.taking
            due = transport.moved + timeouts.response_sending if taking is None else taking.due(transport)
            if transport.scope.now < due:
                return Timeout(self, due)
            self.server.timed_out("response_sending")
            return Stop(TimeoutError("the client did not take the response in time"))
        if self.scanned:
            self.server.timed_out("head_receiving")
            return self.refuse(transport, BadRequest("the head did not come in time", 408))
        self.server.timed_out("idle")
        return Stop()

    def draining(self, transport: Transport) -> Outcome:
        """Busy connections close after their answer. Idle ones close now or, if the loop is patient, after
        one more request: it may be on its way, and closing would lose it."""
        over, self.left = self.left <= 0, 0
        if self.exchange is not None or transport.input or self.taking is not None:
            return UNCHANGED
        patience = transport.scope.loop.patience
        if not patience or over:
            return Stop()
        self.listening = False  # sooner than what the stream was told
        return self.listen(transport, patience)

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """Whoever was answering is told."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.drop(error)
