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
7. `states.CONNECTION` holds every step from state to state. The exchange knows where the request at hand
   stands, and the connection alone turns that into what the stream is told (`_go_on`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from actors import (
    ANYTHING,
    HIGH_WATERMARK,
    LOW_WATERMARK,
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
from protocols.http.codec.memo import HEAD_KEPT_BYTES
from protocols.http.codec.messages import (
    CLOSE_LINE,
    KEEP_ALIVE_LINE,
    Response,
    text_response,
    write_response,
)

from .exchange import Exchange
from .request import Request
from .routing import Route
from .shared import Shared
from .states import (
    ANSWERED,
    ASKED,
    BEGUN,
    BEHIND,
    BROKEN,
    BUSY,
    CLOSING,
    COMING,
    CONNECTION,
    DUE,
    ENDED,
    HEAD,
    IDLE,
    OPEN,
    TAKEN,
    TAKING,
    UPGRADE,
    UPGRADED,
    WHOLE,
    next_state,
)
from .timeouts import Sending

if TYPE_CHECKING:
    from .timeouts import Timeouts

__all__ = ["ServerConnection"]

SENDING_MIN: Final = 1 << 16
"""Bytes of answers: for more than that to be taken is waited. The rest is left to the socket."""
ONLY_FLUSH: Final = (SLEEP, Flush(0))
DRAINED: Final = Flush(LOW_WATERMARK)
GATHER: Final = object()
"""In place of an answer: the handler is called when the body is complete."""


class ServerConnection(StreamProtocol):
    """Reads heads; answers at once what can be, and makes an `Exchange` for what cannot."""

    __slots__ = (
        "_deadline",
        "_exchange",
        "_idle_until",
        "_left",
        "_listening",
        "_scanned",
        "_silent_until",
        "_taking",
        "shared",
        "state",
    )

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.state = IDLE
        self._exchange: Exchange | None = None  # while BUSY: the request that is being received or answered
        self._scanned = 0  # how much of an incomplete head was looked at
        self._left = shared.requests_max  # how many more requests this connection may make
        self._deadline = NEVER  # of the head that is being received
        self._listening = False  # the stream expects ANYTHING; there was no FIN; its timer will not be late
        self._idle_until = NEVER  # when it is closed if nothing comes
        self._taking: Sending | None = None  # the client takes what it is sent more slowly than it is made
        self._silent_until = NEVER  # after the client's FIN: when it is taken as gone if nothing happens

    def __repr__(self) -> str:
        doing = repr(self._exchange) if self._exchange else self.state
        return f"<ServerConnection {doing}{', closing' if self._left <= 0 else ''}>"

    def connected(self, transport: Transport) -> Outcome:
        """A client: its first request is due."""
        return self._listen(transport, self.shared.idle)

    def _move(self, event: str) -> None:
        self.state = CONNECTION[self.state].get(event) or next_state(CONNECTION, self.state, event, self)

    def _stop(self, error: BaseException | None = None) -> Outcome:
        """The connection ends, of itself or because something was wrong."""
        self._move(ENDED)
        return Stop(error)

    def _listen(self, transport: Transport, seconds: float) -> Outcome:
        """Nothing is at hand: the next request may come for so many seconds."""
        scope = transport.scope
        self._idle_until = due = scope.loop.now + seconds
        if self._listening and scope.deadline <= due and not transport.input:
            return UNCHANGED
        self._listening = not transport.ended
        return Timeout(self, due, ANYTHING)  # if more has come already, the stream delivers it at once

    # structure: complexity 32: hot loop; the jobs hello and pipelined, for which each call is 1 % or more
    def received(self, transport: Transport) -> Outcome:
        """Bytes: of the body of the request at hand, or of heads. The hot path of a server: answers the
        requests that are complete in the input. One long function, on purpose: what is parsed, routed, called
        and written for a small request costs fewer instructions than to pass its parts from call to call."""
        if self._exchange is not None:
            return self._more(transport, self._exchange)
        shared = self.shared
        heads = shared.heads
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
            else:
                try:
                    head = parse_request_head(data, start, shared.limits, self._scanned)
                except BadRequest as refusal:
                    return self._refuse(transport, refusal)
                if head is None:
                    return self._incomplete(transport, start)
                if not head.length:
                    shared.remember(bytes(data[start : head.end]), head)
                start = head.end
            if self._scanned:
                self._whole()
            self._left -= 1
            request = Request(head.method, head.target, head, transport, b"", head.minor)
            route = shared.route
            if route is None:
                route = shared.router.match(request)
            if head.length and not route.streams:
                transport.consume(start)
                return self._begin(transport, head, request, route, GATHER)
            shared.requests += 1
            try:
                if route.own_context:
                    context = shared.context.copy()
                    answer = context.run(route.call, request)
                else:
                    context = None
                    answer = route.call(request)
            except FAILURES as error:
                answer = shared.failed(request, error)
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
                date = shared.date if now < shared.date_until else shared.date_line()
            lines = date
            staying = head.keep_alive and self._left > 0 and not head.length
            if not staying:
                lines += CLOSE_LINE
            elif not head.minor:
                lines += KEEP_ALIVE_LINE
            try:
                write_response(transport, answer, lines, head.method, head.minor)
            except Exception as error:
                answer = shared.failed(request, error)
                write_response(transport, answer, lines, head.method, head.minor)
            if shared.access_log is not None:
                shared.report(transport, request, answer.status, len(answer.body), 0.0)
            if not staying or transport.unsent > SENDING_MIN:
                transport.consume(start)
                return self._after(transport, head, request, route)
            if start == size:
                transport.input = b""
                if not self._listening:
                    return self._listen(transport, shared.idle)
                self._idle_until = now + shared.idle
                return UNCHANGED
            head = None

    def _whole(self) -> None:
        """The rest of a head has come."""
        self._scanned = 0
        self._move(WHOLE)

    def _after(self, transport: Transport, head: RequestHead, request: Request, route: Route) -> Outcome:
        """Answered, but not ready for the next request: the connection ends, or the client must take the
        answer first."""
        if head.length:
            transport.linger = True  # answered before the body was read: let the client see that
            return self._stop()
        if not head.keep_alive:
            self._left = 0
        if transport.unsent <= SENDING_MIN:
            return self._stop()
        return self._sending(transport, self.shared.timeouts_for(route, request))

    def _incomplete(self, transport: Transport, start: int) -> Outcome:
        """A part of a head, which is due in some time from its first byte on."""
        transport.consume(start)
        self._listening = False
        if self.state is not HEAD:
            self._move(BEGUN)
            self._deadline = transport.scope.now + self.shared.timeouts.head_receiving
        self._scanned = len(transport.input)
        return Timeout(self, self._deadline, Bytes(self._scanned + 1))

    def _sending(self, transport: Transport, timeouts: Timeouts) -> Outcome:
        """A large answer: take up the next request, or close, when the client has taken this one."""
        if self.state is not TAKING:
            self._move(BEHIND)
        self._listening = False
        if self._taking is None:
            self._taking = Sending(timeouts, transport)
        return Timeout(self, self._taking.due(transport), ONLY_FLUSH)

    def _refuse(self, transport: Transport, refusal: BadRequest, request: Request | None = None) -> Outcome:
        """Answer what cannot be served, and close."""
        self.shared.refusing()
        response = text_response(f"{refusal.reason}\n", refusal.status)
        write_response(transport, response, self.shared.date_line() + CLOSE_LINE)
        if self.shared.access_log is not None:
            self.shared.report(transport, request, refusal.status, len(response.body), 0.0)
        transport.linger = True
        return self._stop()

    # -- while BUSY ------------------------------------------------------------------------------------------

    def _begin(
        self, transport: Transport, head: RequestHead, request: Request, route: Route, answer: Any
    ) -> Outcome:
        """A request that takes longer: what its handler has returned, or `GATHER`."""
        shared = self.shared
        timeouts = shared.timeouts if route.timeouts is None else shared.timeouts_for(route, request)
        self.state = CONNECTION[self.state][ASKED]
        last = self._left <= 0
        self._exchange = exchange = Exchange(shared, transport, head, request, route, timeouts, last)
        if answer is not GATHER:
            exchange.begin(answer)
            return self._go_on(transport, exchange)
        try:
            exchange.gather()
        except BadRequest as refusal:
            return self._give_up(transport, exchange, refusal)
        return self._go_on(transport, exchange)

    def _more(self, transport: Transport, exchange: Exchange) -> Outcome:
        """More of the body; or of what comes after it, which waits until this is answered."""
        body = exchange.body
        if self._listening or body is None or body.complete:
            self._listening = False
            return self._go_on(transport, exchange)
        try:
            exchange.received(body)
        except BadRequest as refusal:
            return self._give_up(transport, exchange, refusal)
        return self._go_on(transport, exchange)

    def _give_up(self, transport: Transport, exchange: Exchange, refusal: BadRequest) -> Outcome:
        """The request's body cannot be taken."""
        answered = exchange.answered
        exchange.drop(refusal)
        if answered:
            return self._stop(refusal)
        return self._refuse(transport, refusal, exchange.request)

    def _go_on(self, transport: Transport, exchange: Exchange) -> Outcome:
        """Where the exchange stands, said as an outcome."""
        state = exchange.state
        if state is not DUE and state is not OPEN:
            return self._over(transport, exchange)
        due = exchange.due
        if transport.ended and exchange.answered:
            # an answer that goes on, for a client that may have gone: only what is sent could show that
            self._silent_until = transport.scope.now + self.shared.idle
            due = min(due, self._silent_until)
        body = exchange.body
        reading = body is not None and body.state is COMING
        sending = self._taking is not None or transport.unsent > HIGH_WATERMARK
        if self._listening and not reading and not sending:
            return UNCHANGED if transport.scope.deadline <= due else Timeout(self, due)
        self._listening = False
        wanted = SLEEP if body is None else body.wanted
        if not sending:
            return Timeout(self, due, wanted)
        if self._taking is None:
            self._taking = Sending(exchange.timeouts, transport)
        return Timeout(self, min(due, self._taking.due(transport)), (wanted, DRAINED))

    def _over(self, transport: Transport, exchange: Exchange) -> Outcome:
        """The answer has come to an end: the connection goes on, or ends, or is another protocol's."""
        if exchange.state is BROKEN:
            return self._stop(exchange.error)
        self._exchange = self._taking = None
        if exchange.state is UPGRADE:
            self._move(UPGRADED)
            return exchange.successor.connected(transport)
        body = exchange.body
        if body is not None and not body.complete:
            transport.linger = True
            self._left = 0
        elif exchange.closes:
            self._left = 0
        if transport.unsent > SENDING_MIN and not transport.linger:
            return self._sending(transport, exchange.timeouts)
        if self._left <= 0:
            return self._stop()
        self.state = CONNECTION[BUSY][ANSWERED]
        return self._listen(transport, self.shared.idle)

    # -- what else the stream tells --------------------------------------------------------------------------

    def flushed(self, transport: Transport) -> Outcome:
        """The client has taken what it was sent."""
        self._taking = None
        exchange = self._exchange
        if exchange is not None:
            exchange.writable()
            return self._go_on(transport, exchange)
        if self._left <= 0:
            return self._stop()
        self._move(TAKEN)
        return self._listen(transport, self.shared.idle)

    def ended(self, transport: Transport) -> Outcome:
        """The client sends nothing more: see rule 5. With a request incomplete it has gone."""
        exchange = self._exchange
        if exchange is None:
            if transport.unsent or (transport.input and not self._scanned):
                return self._sending(transport, self.shared.timeouts)  # and go on with what was asked before
            return self._stop()
        if self.shared.options.half_close and (exchange.body_complete or exchange.body_held):
            self._listening = False
            return self._go_on(transport, exchange)
        answered = exchange.answered
        error = ConnectionAbortedError("the client has gone")
        exchange.drop(error)
        return self._stop(error if answered else None)  # earlier answers may still be on their way

    def wakeup(self, transport: Transport) -> Outcome:
        """Something the responder waits for."""
        exchange = self._exchange
        if exchange is None:
            return UNCHANGED
        exchange.wakeup()
        return self._go_on(transport, exchange)

    def timeout(self, transport: Transport) -> Outcome:
        """One of the timeout classes, or the responder's own deadline."""
        now = transport.scope.now
        shared, taking, exchange = self.shared, self._taking, self._exchange
        if exchange is not None:
            return self._late(transport, exchange, now)
        if self._listening and now < self._idle_until:
            return Timeout(self, self._idle_until)
        if transport.unsent:
            due = (
                transport.moved + shared.timeouts.response_sending
                if taking is None
                else taking.due(transport)
            )
            return Timeout(self, due) if now < due else self._not_taken()
        if self._scanned:
            shared.timed_out("head_receiving")
            return self._refuse(transport, BadRequest("the head did not come in time", 408))
        shared.timed_out("idle")
        return self._stop()

    def _not_taken(self) -> Outcome:
        self.shared.timed_out("response_sending")
        return self._stop(TimeoutError("the client did not take the response in time"))

    def _late(self, transport: Transport, exchange: Exchange, now: float) -> Outcome:
        shared, taking = self.shared, self._taking
        if taking is not None and now >= taking.due(transport):
            return self._not_taken()
        if transport.ended and now >= self._silent_until:
            shared.timed_out("idle")
            return self._stop(
                TimeoutError(
                    "the client has closed its sending side, and its answer has made no progress since"
                )
            )
        if now < exchange.class_due:
            exchange.timeout(now)
        elif exchange.body is not None and exchange.body.state is COMING:
            shared.timed_out("body_receiving")
            return self._give_up(transport, exchange, BadRequest("the body did not come in time", 408))
        else:
            shared.timed_out("response_generation")
            exchange.late()
        return self._go_on(transport, exchange)

    def draining(self, transport: Transport) -> Outcome:
        """Busy connections close after their answer. Idle ones close now or, if the loop is patient, after
        one more request: it may be on its way, and closing would lose it."""
        over, self._left = self._left <= 0, 0
        if self._exchange is not None:
            self._exchange.close_after()
        if self.state is BUSY or self.state is TAKING or transport.input:
            return UNCHANGED
        patience = transport.scope.loop.patience
        if not patience or over:
            return self._stop()
        self._listening = False  # sooner than what the stream was told
        return self._listen(transport, patience)

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """Its responder is told."""
        exchange, self._exchange = self._exchange, None
        self.state = CLOSING
        if exchange is not None:
            exchange.drop(error)
