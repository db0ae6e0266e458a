"""One client's connection, as the server sees it: requests in, answers out, in order.

Rules:
1. One request is answered at a time. What the client has sent ahead (pipelining) waits in the input, bounded, until its
   turn; reading pauses when nobody wants more.
2. A request that a plain function answers at once costs no object beyond the request and its response.
3. Every request gets exactly one answer, or the connection is closed. After a refusal (`BadRequest`) it is always closed,
   because the framing of what follows is lost.
4. A body that was announced and not read to its end is not skipped: the connection is closed after the answer.
5. The client's FIN while its request is being answered means that it has gone, and cancels the work (nginx and Envoy do
   so too); a server made with `half_close=True` answers all the same.
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
    Scope,
    Stop,
    StreamProtocol,
    Timeout,
    Transport,
)

from .bodies import BodyDecoder, body_decoder, encode_chunk, encode_last_chunk
from .errors import BadRequest
from .head import CHUNKED, UNTIL_CLOSE, RequestHead, parse_request_head
from .headers import NO_HEADERS, Headers
from .messages import (
    CLOSE_LINE,
    KEEP_ALIVE_LINE,
    Request,
    Response,
    encode_response,
    encode_response_head,
    text_response,
)
from .responders import ChannelResponder, FlowResponder, Responder, StreamingResponse
from .routing import Route

if TYPE_CHECKING:
    from .server import Server
    from .timeouts import Timeouts

__all__ = ["Exchange", "ServerConnection"]

SENDING_MIN: Final = (
    1 << 16
)  # bytes; less than that is left to the socket, without waiting for it to be taken
ONLY_FLUSH: Final = (SLEEP, Flush(0))
ONLY_DRAIN: Final = (SLEEP, Flush(LOW_WATERMARK))
READ_AND_DRAIN: Final = (ANYTHING, Flush(LOW_WATERMARK))
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class ServerConnection(StreamProtocol):
    """Reads heads; answers at once what can be, and makes an `Exchange` for what cannot."""

    __slots__ = ("deadline", "exchange", "left", "scanned", "server")

    def __init__(self, server: Server) -> None:
        self.server = server
        self.exchange: Exchange | None = None  # the request that is being received or answered
        self.scanned = 0  # how much of an incomplete head was looked at
        self.left = server.requests_max  # how many more requests this connection may make
        self.deadline = NEVER  # of the head that is being received

    def __repr__(self) -> str:
        doing = (
            repr(self.exchange)
            if self.exchange is not None
            else "receiving a head"
            if self.scanned
            else "idle"
        )
        return f"<ServerConnection {doing}{', closing' if self.left <= 0 else ''}>"

    def connected(self, transport: Transport) -> Outcome:
        """A client: its first request is due."""
        return Timeout(self, transport.scope.now + self.server.timeouts.idle, ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        """Bytes: of a head, or of the body of the request at hand."""
        exchange = self.exchange
        if exchange is not None:
            return exchange.received(transport)
        return self.read(transport)

    def read(self, transport: Transport) -> Outcome:
        """Answer the requests that are complete in the input. The hot path of a server."""
        server = self.server
        data = transport.input
        start = 0
        head = server.heads.get(data) if data.__class__ is bytes else None
        while True:
            if head is None:
                try:
                    head = parse_request_head(data, start, server.limits, self.scanned)
                except BadRequest as refusal:
                    return self.refuse(transport, refusal)
                if head is None:
                    return self._incomplete(transport, start)
                self.scanned = 0
                if start == 0 and head.end == len(data) and not head.length:
                    server.remember(data, head)
            start = head.end
            self.left -= 1
            request = Request.from_head(head, b"", transport)
            route = server.route
            if route is None:
                route = server.router.match(request)
            if head.length and not route.streams:
                transport.consume(start)
                return self._begin(transport, head, request, route)
            server.requests += 1
            try:
                answer = route.call(request)
            except Exception as error:
                answer = server.failed(request, error)
            if answer.__class__ is not Response:
                transport.consume(start)
                return self._begin(transport, head, request, route, answer)
            now = transport.scope.loop.now
            lines = server.date if now < server.date_until else server.date_line()
            staying = head.keep_alive and self.left > 0
            if not staying:
                lines += CLOSE_LINE
            elif not head.minor:
                lines += KEEP_ALIVE_LINE
            transport.write(encode_response(answer, lines, head.method, head.minor))
            if server.access_log is not None:
                server.access_log.add(transport, request, answer.status)
            if start == len(data):
                transport.input = b""
            if head.length or not staying or transport.unsent >= SENDING_MIN:
                return self._after(transport, head, staying, start)
            if not transport.input:
                return Timeout(self, now + server.idle, ANYTHING)
            head = None

    def _after(self, transport: Transport, head: RequestHead, staying: bool, start: int) -> Outcome:
        """Answered, but not ready for the next request: the connection ends, or the client must take the answer first."""
        transport.consume(start)
        if head.length:
            transport.linger = True  # answered before the body was read: let the client see that
            return Stop()
        return self.sending(transport) if staying else Stop()

    def _incomplete(self, transport: Transport, start: int) -> Outcome:
        transport.consume(start)
        held = len(transport.input)
        now = transport.scope.now
        if not held:
            return Timeout(self, now + self.server.timeouts.idle, ANYTHING)
        if not self.scanned:
            self.deadline = now + self.server.timeouts.head_receiving
        self.scanned = held
        return Timeout(self, self.deadline, Bytes(held + 1))

    def _begin(
        self, transport: Transport, head: RequestHead, request: Request, route: Route, answer: Any = None
    ) -> Outcome:
        self.exchange = exchange = Exchange(self, transport, head, request, route)
        return exchange.begin(answer)

    def sending(self, transport: Transport) -> Outcome:
        """A large answer: take up the next request when the client has taken this one."""
        timeouts = self.server.timeouts
        due = transport.scope.now + timeouts.response_sending + transport.unsent / timeouts.body_rate_min
        return Timeout(self, due, ONLY_FLUSH)

    def next(self, transport: Transport) -> Outcome:
        """The exchange is over and the connection goes on."""
        self.exchange = None
        if self.left <= 0:
            return Stop()
        if transport.unsent >= SENDING_MIN:
            return self.sending(transport)
        if transport.input:
            return self.read(transport)
        if transport.ended:
            return Stop()
        return Timeout(self, transport.scope.now + self.server.timeouts.idle, ANYTHING)

    def refuse(self, transport: Transport, refusal: BadRequest) -> Outcome:
        """Answer what cannot be served, and close."""
        self.server.refused += 1
        response = text_response(f"{refusal.reason}\n", refusal.status)
        transport.write(encode_response(response, self.server.date_line() + CLOSE_LINE))
        if self.server.access_log is not None:
            self.server.access_log.add(transport, None, refusal.status)
        transport.linger = True
        return Stop()

    def flushed(self, transport: Transport) -> Outcome:
        """The client has taken what it was sent."""
        if self.exchange is not None:
            return self.exchange.flushed()
        return self.next(transport)

    def ended(self, transport: Transport) -> Outcome:
        """The client sends nothing more."""
        if self.exchange is not None:
            return self.exchange.ended(transport)
        if transport.unsent:
            self.left = 0
            return self.sending(transport)
        return Stop()

    def wakeup(self, transport: Transport) -> Outcome:
        """Something the responder waits for."""
        return UNCHANGED if self.exchange is None else self.exchange.wakeup()

    def timeout(self, transport: Transport) -> Outcome:
        """One of the timeout classes."""
        if self.exchange is not None:
            return self.exchange.timeout(transport.scope.now)
        if transport.unsent:
            self.server.timed_out("response_sending")
            return Stop(TimeoutError("the client did not take the response in time"))
        if self.scanned:
            self.server.timed_out("head_receiving")
            return self.refuse(transport, BadRequest("the head did not come in time", 408))
        self.server.timed_out("idle")
        return Stop()

    def draining(self, transport: Transport) -> Outcome:
        """Idle connections close now, busy ones after their answer."""
        self.left = 0
        if self.exchange is None and not transport.input and not transport.unsent:
            return Stop()
        return UNCHANGED

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """Whoever was answering is told."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.drop(error)

    def log(self, transport: Transport, request: Request, status: int) -> None:
        """Count the answer in the access log, if there is one."""
        if self.server.access_log is not None:
            self.server.access_log.add(transport, request, status)


class Exchange:
    """One request and its answer, while they take more than a moment. A `Responder` acts on it."""

    __slots__ = (
        "_answered",
        "_body",
        "_chunked",
        "_close",
        "_connection",
        "_continue",
        "_decoder",
        "_error",
        "_finished",
        "_received",
        "_responder",
        "_sending",
        "_switched",
        "body_held",
        "head",
        "request",
        "route",
        "timeouts",
        "transport",
    )

    def __init__(
        self,
        connection: ServerConnection,
        transport: Transport,
        head: RequestHead,
        request: Request,
        route: Route,
    ) -> None:
        self._connection = connection
        self.transport = transport
        self.head = head
        self.request = request
        self.route = route
        chosen = route.timeouts
        self.timeouts: Timeouts = (
            connection.server.timeouts
            if chosen is None
            else (chosen(request) if callable(chosen) else chosen)
        )
        self._responder: Responder | None = None
        self._decoder: BodyDecoder | None = None
        if head.length:
            self._decoder = body_decoder(head.length, connection.server.limits, BadRequest)
        self._body: list[bytes] = []  # gathered for a handler that wants it whole
        self.body_held = False
        self._continue = head.expect_continue  # the client waits for a 100
        self._answered = False  # the final head is written
        self._finished = False  # and the last byte
        self._chunked = False
        self._close = not head.keep_alive
        self._error: BaseException | None = None  # set by `abort`
        self._switched: StreamProtocol | None = None
        self._received = transport.scope.now  # when the request began; deadlines count from here
        self._sending = False

    def __repr__(self) -> str:
        state = "answering" if self._decoder is None or self._decoder.done else "receiving the body"
        return f"<Exchange {self.request.method} {self.request.target} {state} {self._responder or self.route!r}>"

    # -- what a responder uses ----------------------------------------------------------------------------------------

    @property
    def scope(self) -> Scope:
        """The connection's scope: to wait for a reply, `reply.attach(exchange.scope)`."""
        return self.transport.scope

    @property
    def congested(self) -> bool:
        """The client is slower than the answer: wait for `writable`."""
        return self.transport.congested

    @property
    def answered(self) -> bool:
        """Whether the head of the final answer was sent: after that only `abort` can say that something went wrong."""
        return self._answered

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, or was aborted."""
        return self._finished or self._error is not None

    @property
    def body_complete(self) -> bool:
        """Whether the request has come to its end."""
        return self._decoder is None or self._decoder.done

    def hold_body(self, hold: bool) -> None:
        """Stop or go on reading the request's body (back-pressure)."""
        self.body_held = hold

    def take_whole_body(self) -> bytes | None:
        """The request's body, if its length is known and all of it has come with the head; else it comes piece by piece."""
        decoder = self._decoder
        transport = self.transport
        length = self.head.length
        if decoder is None or length <= 0 or len(transport.input) < length or decoder.received:
            return None
        pieces: list[bytes] = []
        transport.consume(decoder.feed(transport.input, 0, pieces))
        return b"".join(pieces)

    def proceed(self) -> None:
        """Send 100 Continue if the client waits for it (RFC 9110 section 10.1.1)."""
        if self._continue and not self._answered:
            self._continue = False
            self.transport.write(CONTINUE)

    def send_interim(self, status: int, block: bytes) -> None:
        """An informational response (1xx) before the final one. HTTP/1.0 clients do not get it."""
        if status == 100:
            self._continue = False
        if self.head.minor and not self._answered:
            self.transport.write(encode_response_head(status, block, None))

    def send_head(
        self, status: int, block: bytes, length: int, reason: str = "", *, dated: bool = False
    ) -> None:
        """The final head. `block`: validated lines without framing; `length`: bytes, `CHUNKED` or `UNTIL_CLOSE`.

        `dated`: the block has a Date already. An HTTP/1.0 client gets a body of unknown length until the close.
        """
        connection = self._connection
        self._answered = True
        bodiless = self.head.method == "HEAD" or status in (101, 204, 304)
        if length < 0 and self.head.minor == 0:
            length = UNTIL_CLOSE
        self._chunked = length == CHUNKED and not bodiless
        if (
            (length == UNTIL_CLOSE and not bodiless)
            or connection.left <= 0
            or not (self._decoder is None or self._decoder.done)
        ):
            self._close = True
        lines = b"" if dated else connection.server.date_line()
        if status == 101:
            pass  # the block says what the connection becomes
        elif self._close:
            lines += CLOSE_LINE
        elif self.head.minor == 0:
            lines += KEEP_ALIVE_LINE
        self.transport.write(encode_response_head(status, block, length, lines, reason))
        if connection.server.access_log is not None:
            connection.log(self.transport, self.request, status)

    def send(self, data: bytes) -> None:
        """A piece of the body."""
        if data and self.head.method != "HEAD":
            self.transport.write(encode_chunk(data) if self._chunked else data)

    def finish(self, trailers: Headers = NO_HEADERS) -> None:
        """The answer is complete."""
        if self._chunked:
            self.transport.write(encode_last_chunk(trailers))
        self._finished = True

    def relay(self, status: int, block: bytes, body: bytes, reason: str = "", *, dated: bool = False) -> None:
        """A whole answer from validated parts, in one write: `send_head`, `send` and `finish`."""
        connection = self._connection
        decoder = self._decoder
        if (
            self._close
            or connection.left <= 0
            or self.head.minor == 0
            or (decoder is not None and not decoder.done)
        ):
            self.send_head(status, block, len(body), reason, dated=dated)
            self.send(body)
        else:
            self._answered = True
            lines = b"" if dated else connection.server.date_line()
            if self.head.method == "HEAD":
                self.transport.write(encode_response_head(status, block, len(body), lines, reason))
            else:
                self.transport.write(encode_response_head(status, block, len(body), lines, reason) + body)
            if connection.server.access_log is not None:
                connection.log(self.transport, self.request, status)
        self._finished = True

    def respond(self, response: Response) -> None:
        """A whole answer at once."""
        if self._answered:
            self.abort(RuntimeError("an answer was begun already"))
            return
        server = self._connection.server
        self._answered = self._finished = True
        if self._connection.left <= 0 or not self.body_complete:
            self._close = True
        lines = server.date_line()
        if self._close:
            lines += CLOSE_LINE
        elif self.head.minor == 0:
            lines += KEEP_ALIVE_LINE
        self.transport.write(encode_response(response, lines, self.head.method, self.head.minor))
        self._connection.log(self.transport, self.request, response.status)

    def answer(self, answer: Any) -> Responder | None:
        """What a handler returned: send it, or return the responder that goes on to."""
        if isinstance(answer, Response):
            self.respond(answer)
            return None
        responder: Responder
        if isinstance(answer, StreamingResponse):
            self.send_head(
                answer.status, answer.headers.end_to_end, CHUNKED if answer.length is None else answer.length
            )
            responder = ChannelResponder(answer)
        elif isinstance(answer, Responder):
            responder = answer
        else:
            raise TypeError(
                f"{self.route!r} returned {answer!r}; a handler returns a Response, a StreamingResponse, "
                "a Responder or a coroutine of one"
            )
        responder.begin(self)
        return responder

    def abort(self, error: BaseException) -> None:
        """Something went wrong. Before the head the client gets a 502, after it the connection is reset."""
        if not self._answered:
            self.respond(text_response("the answer could not be produced\n", 502))
        else:
            self._error = error

    def switch(self, protocol: StreamProtocol) -> None:
        """After `send_head(101, …)`: the connection goes on as another protocol, which gets `connected` and what was read."""
        self._switched = protocol

    # -- what the connection tells --------------------------------------------------------------------------------------

    def begin(self, answer: Any) -> Outcome:
        """Call the handler, unless that was done or the body is to be gathered first."""
        if answer is None:
            return self._gather()
        if not isinstance(answer, Responder):
            return self._guard(self._start, answer)
        self._responder = answer
        decoder = self._decoder
        try:
            answer.begin(self)
            if decoder is None or decoder.done:
                answer.body_ended(self, NO_HEADERS)
        except Exception as error:
            self._failed(error)
        return self._outcome()

    def _gather(self) -> Outcome:
        limit = self._connection.server.limits.body_bytes
        if limit is not None and self.head.length > limit:
            return self._connection.refuse(
                self.transport, BadRequest(f"the body is larger than {limit} bytes", 413)
            )
        self.proceed()
        return self.received(self.transport)

    def _start(self, answer: Any) -> None:
        if hasattr(answer, "send") and hasattr(answer, "throw"):
            upload = self.request.stream if self.route.streams else None
            self._responder = FlowResponder(answer, upload)
            self._responder.begin(self)
        else:
            self._responder = self.answer(answer)
        decoder = self._decoder
        if self._responder is not None and (decoder is None or decoder.done):
            self._responder.body_ended(self, NO_HEADERS)

    def received(self, transport: Transport) -> Outcome:
        """More of the body (or what comes after it, which waits)."""
        decoder = self._decoder
        if decoder is None or decoder.done:
            return self._outcome()
        pieces: list[bytes] = []
        try:
            transport.consume(decoder.feed(transport.input, 0, pieces))
        except BadRequest as refusal:
            return self._refuse(refusal)
        if self._responder is not None:
            return self._guard(self._pass_on, pieces, decoder)
        self._body += pieces
        limit = self._connection.server.limits.body_bytes
        if limit is not None and decoder.received > limit:
            return self._refuse(BadRequest(f"the body is larger than {limit} bytes", 413))
        if not decoder.done:
            return self._outcome()
        self.request.body = b"".join(self._body)
        self.request.trailers = decoder.trailers
        self._body.clear()
        self._received = transport.scope.now
        self._connection.server.requests += 1
        return self._guard(self._call)

    def _call(self) -> None:
        self._start(self.route.call(self.request))

    def _pass_on(self, pieces: list[bytes], decoder: BodyDecoder) -> None:
        responder = self._responder
        assert responder is not None
        if pieces:
            responder.body(self, pieces)
        if decoder.done:
            responder.body_ended(self, decoder.trailers)

    def wakeup(self) -> Outcome:
        """For the responder."""
        responder = self._responder
        if responder is None:
            return UNCHANGED
        try:
            responder.wakeup(self)
        except Exception as error:
            self._failed(error)
        return self._outcome()

    def flushed(self) -> Outcome:
        """The output has drained."""
        self._sending = False
        if self._responder is None or self.finished:
            return self._outcome()
        return self._guard(self._responder.writable, self)

    def ended(self, transport: Transport) -> Outcome:
        """The client's FIN: with the request incomplete it has gone; else see the connection's rule 5."""
        if not self.body_complete:
            return Stop(ConnectionResetError("the client has gone in the middle of its request"))
        if self._connection.server.half_close:
            self._connection.left = 0
            return self._outcome()
        return Stop(ConnectionAbortedError("the client has gone"))

    def timeout(self, now: float) -> Outcome:
        """Whichever deadline it was: the responder's own, or a timeout class."""
        server = self._connection.server
        if self._sending:
            server.timed_out("response_sending")
            return Stop(TimeoutError("the client did not take the response in time"))
        if now >= self._class_deadline():
            if not self.body_complete:
                server.timed_out("body_receiving")
                return self._refuse(BadRequest("the body did not come in time", 408))
            server.timed_out("response_generation")
            self._error = TimeoutError("the answer was not produced in time")
            responder, self._responder = self._responder, None
            if responder is not None:
                responder.abandoned(self, self._error)
            if self._answered:
                return self._outcome()
            self._error = None
            self._guard(self.respond, text_response("the answer took too long\n", 503))
            return self._outcome()
        if self._responder is None:
            return self._outcome()
        return self._guard(self._responder.timeout, self)

    def drop(self, error: BaseException | None) -> None:
        """The connection is over."""
        responder, self._responder = self._responder, None
        if responder is not None and not self._finished:
            self._error = error or ConnectionAbortedError("the connection was closed")
            responder.abandoned(self, self._error)

    # -- how it goes on -----------------------------------------------------------------------------------------------

    def _guard(self, step: Any, *arguments: Any) -> Outcome:
        """Run a piece of the handler's code, and say how it goes on."""
        try:
            step(*arguments)
        except Exception as error:
            self._failed(error)
        return self._outcome()

    def _failed(self, error: Exception) -> None:
        """What the handler's code raises becomes a 500, or a reset when the answer has begun."""
        failure = self._connection.server.failed(self.request, error)
        responder, self._responder = self._responder, None
        if responder is not None:
            responder.abandoned(self, error)
        if self._answered:
            self._error = self._error or (None if self._finished else error)
        else:
            self.respond(failure)

    def _refuse(self, refusal: BadRequest) -> Outcome:
        self.drop(refusal)
        if self._answered:
            return Stop(refusal)
        return self._connection.refuse(self.transport, refusal)

    def _class_deadline(self) -> float:
        timeouts = self.timeouts
        decoder = self._decoder
        if decoder is not None and not decoder.done:
            return self._received + timeouts.body_receiving + decoder.received / timeouts.body_rate_min
        if self._answered:
            return NEVER
        return self._received + timeouts.response_generation

    def _outcome(self) -> Outcome:
        """Where this exchange stands, said as an outcome."""
        connection = self._connection
        transport = self.transport
        if self._error is not None:
            return Stop(self._error)
        if self._switched is not None:
            connection.exchange = None
            return self._switched.connected(transport)
        if self._finished:
            return self._over()
        decoder = self._decoder
        reading = decoder is not None and not decoder.done and not self.body_held
        due = self._class_deadline()
        responder = self._responder
        if responder is not None and responder.deadline < due:
            due = responder.deadline
        if transport.unsent > HIGH_WATERMARK:
            self._sending = True
            timeouts = self.timeouts
            due = min(
                due,
                transport.scope.now + timeouts.response_sending + transport.unsent / timeouts.body_rate_min,
            )
            return Timeout(connection, due, READ_AND_DRAIN if reading else ONLY_DRAIN)
        if reading:
            held = len(transport.input)
            return Timeout(connection, due, Bytes(held + 1) if held else ANYTHING)
        return Timeout(connection, due, SLEEP)

    def _over(self) -> Outcome:
        connection, decoder = self._connection, self._decoder
        if decoder is not None and not decoder.done:
            self.transport.linger = True
            self._close = True
        if self._close:
            connection.exchange = None
            return Stop()
        return connection.next(self.transport)
