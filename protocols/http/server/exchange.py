"""One request and its answer, while they take more than a moment.

A `Responder` acts on the exchange (`send_head`, `send`, `finish`, `respond`, `abort`, …), and the connection
tells it what happens. After each of its handlers the exchange says as an outcome where it stands.

Rules:
1. What a handler or a responder raises becomes a 500, or a reset when the answer has begun.
2. A body never differs from what its head announced: `send` and `finish` raise `ValueError` if it does, which
   resets the connection, so that a truncated body cannot be taken for a whole one.
3. Back-pressure both ways: `congested` and `writable` for the answer, `hold_body` for the request's body.
   While the responder holds the body, its time counts as response_generation and not as body_receiving.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from actors import (
    HIGH_WATERMARK,
    LOW_WATERMARK,
    NEVER,
    SLEEP,
    UNCHANGED,
    Bytes,
    Flush,
    Misuse,
    Outcome,
    Scope,
    Stop,
    StreamProtocol,
    Timeout,
    Transport,
)
from actors.errors import FAILURES
from protocols.http.codec.bodies import BodyDecoder, body_decoder, encode_chunk, encode_last_chunk
from protocols.http.codec.errors import BadRequest
from protocols.http.codec.head import CHUNKED, UNTIL_CLOSE, RequestHead
from protocols.http.codec.headers import NO_HEADERS, Headers
from protocols.http.codec.messages import (
    BODILESS,
    CLOSE_LINE,
    KEEP_ALIVE_LINE,
    SHARED_MIN,
    Response,
    encode_response_head,
    text_response,
    write_response,
)

from .request import Request
from .responders import ChannelResponder, FlowResponder, Responder, StreamingResponse, flow_of
from .timeouts import Sending

if TYPE_CHECKING:
    from .connection import ServerConnection
    from .routing import Route
    from .timeouts import Timeouts

__all__ = ["GATHER", "Exchange"]

GATHER: Final = object()
"""In place of an answer: the handler is called when the body is complete."""

UNKNOWN: Final = -1  # in place of the bytes that are left of a body whose length was not announced
DRAINED: Final = Flush(LOW_WATERMARK)
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Exchange:
    """One request and its answer. Made by the connection; a `Responder` acts on it, from inside its handlers.
    Whoever acts on it in somebody else's turn wakes the connection afterwards: `exchange.scope.wake()`."""

    __slots__ = (
        "_answered",
        "_bodiless",
        "_body",
        "_chunked",
        "_close",
        "_connection",
        "_continue",
        "_decoder",
        "_error",
        "_finished",
        "_held_since",
        "_left",
        "_received",
        "_responder",
        "_sending",
        "_silent_until",
        "_switched",
        "_undecoded",
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
        timeouts: Timeouts,
    ) -> None:
        self._connection = connection
        self.transport = transport
        self.head = head
        self.request = request
        self.route = route
        self.timeouts = timeouts
        self._responder: Responder | None = None
        self._decoder: BodyDecoder | None = None  # of the request's body
        if head.length:
            self._decoder = body_decoder(head.length, connection.server.limits, BadRequest)
            self._body: list[bytes] | None = None  # gathered for a handler that wants it whole
            self._undecoded = 0  # bytes of the input that the decoder needs more behind, to make sense of
            self._continue = head.expect_continue  # the client waits for a 100
        self._answered = False  # the final head is written; `_chunked`, `_bodiless` and `_left` are set
        self._finished = False  # and the last byte
        self._close = not head.keep_alive
        self._error: BaseException | None = None  # set by `abort`
        self._switched: StreamProtocol | None = None
        self._received = transport.scope.now  # when the request began; deadlines count from here
        self._held_since = NEVER  # since when the responder takes no more of the body
        self._sending: Sending | None = None  # the client is slower than the answer
        self._silent_until = NEVER  # after the client's FIN: when it is taken as gone if nothing happens

    def __repr__(self) -> str:
        state = "answering" if self.body_complete else "receiving the body"
        request = self.request
        return f"<Exchange {request.method} {request.target} {state} {self._responder or self.route!r}>"

    # -- what a responder uses -------------------------------------------------------------------------------

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
        """Whether the head of the final answer was sent: after that only `abort` can say that something went
        wrong."""
        return self._answered

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, or was aborted."""
        return self._finished or self._error is not None

    @property
    def body_complete(self) -> bool:
        """Whether the request has come to its end."""
        return self._decoder is None or self._decoder.done

    @property
    def body_held(self) -> bool:
        """Whether the responder takes no more of the request's body for now."""
        return self._held_since != NEVER

    def hold_body(self, hold: bool) -> None:
        """Stop or go on reading the request's body (back-pressure). The client's time to send it stands still
        meanwhile."""
        if hold != self.body_held:
            now = self.transport.scope.now
            if not hold:
                self._received += now - self._held_since
            self._held_since = now if hold else NEVER

    def take_whole_body(self) -> bytes | None:
        """The request's body, if its length is known and all of it has come with the head; else it comes
        piece by piece."""
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
        if self._decoder is not None and self._continue and not self._answered:
            self._continue = False
            if not self.transport.input:  # it has not waited
                self.transport.write(CONTINUE)

    def send_interim(self, status: int, block: bytes) -> None:
        """An informational response (1xx) before the final one. HTTP/1.0 clients do not get it, nor one that
        does not take what it has been sent: these are hints, and bounded like all that waits for a client."""
        if status == 100:
            self._continue = False
        if self.head.minor and not self._answered and not self.congested:
            self.transport.write(encode_response_head(status, block, None))

    def send_head(
        self, status: int, block: bytes, length: int, reason: str = "", *, dated: bool = False
    ) -> None:
        """The final head. `block`: validated lines without framing; `length`: bytes, `CHUNKED` or
        `UNTIL_CLOSE`.

        `dated`: the block has a Date already. An HTTP/1.0 client gets a body of unknown length until the
        close. Raises `Misuse` after another head, and for a 1xx that is not 101: that is for `send_interim`.
        """
        if self._answered or (status < 200 and status != 101):
            raise Misuse(
                f"{self!r} cannot send a head of {status} {'twice' if self._answered else 'as final'}"
            )
        connection = self._connection
        method = self.head.method
        tunnels = status == 101 or (method == "CONNECT" and status < 300)
        self._bodiless = method == "HEAD" or tunnels or status in BODILESS or status == 205
        if tunnels:
            length = UNTIL_CLOSE
        if length < 0 and self.head.minor == 0:
            length = UNTIL_CLOSE
        self._chunked = length == CHUNKED and not self._bodiless
        self._left = length if length >= 0 and not self._bodiless else UNKNOWN
        if length == UNTIL_CLOSE and not self._bodiless:
            self._close = True
        lines = self._connection_line() if status != 101 else b""  # the block says what it becomes
        if not dated:
            lines = connection.server.date_line() + lines
        self.transport.write(encode_response_head(status, block, length, lines, reason))
        self._answered = True
        if connection.server.access_log is not None:
            size = 0 if self._bodiless else max(length, -1)
            connection.server.report(self.transport, self.request, status, size, self._taken())

    def send(self, data: bytes) -> None:
        """A piece of the body; nothing is sent where there is none (HEAD, 204, 304). Raises `ValueError` for
        more than was announced, `Misuse` before the head or after the end."""
        if not self._answered or self._finished:
            raise Misuse("send() comes after send_head() and before finish()")
        if self._bodiless or not data:
            return
        if self._chunked:
            self.transport.write(encode_chunk(data))
            return
        if self._left != UNKNOWN:
            if len(data) > self._left:
                raise ValueError(f"the body is at least {len(data) - self._left} bytes longer than announced")
            self._left -= len(data)
        self.transport.write(data)

    def finish(self, trailers: Headers = NO_HEADERS) -> None:
        """The answer is complete. Trailers are sent if it is chunked. Raises `ValueError` if less than was
        announced was sent, `Misuse` before the head or a second time."""
        if not self._answered or self._finished:
            raise Misuse("finish() comes once, after send_head()")
        if self._left > 0:
            raise ValueError(f"the body is {self._left} bytes shorter than announced")
        if self._chunked:
            self.transport.write(encode_last_chunk(trailers))
        self._finished = True

    def respond(self, response: Response) -> None:
        """A whole answer at once. Raises `Misuse` after another head."""
        if self._answered:
            raise Misuse(f"{self!r} has an answer already")
        head = self.head
        server = self._connection.server
        lines = server.date_line() + self._connection_line()
        write_response(self.transport, response, lines, head.method, head.minor)
        self._answered = self._finished = True
        if server.access_log is not None:
            size = len(response.body)
            server.report(self.transport, self.request, response.status, size, self._taken())

    def relay(self, status: int, head: bytes, body: bytes, *, dated: bool = False) -> None:
        """A whole final answer in one write: `send_head`, `send` and `finish`. `head`: what
        `encode_response_head` makes, with the body's length. Raises `Misuse` after another head."""
        if self._answered:
            raise Misuse(f"{self!r} has an answer already")
        server = self._connection.server
        lines = self._connection_line()
        if not dated:
            lines = server.date_line() + lines
        if lines:
            first = head.index(b"\n") + 1
            head = head[:first] + lines + head[first:]
        if self.head.method == "HEAD" or status == 205:  # whose content, if there was any, ends here
            self.transport.write(head)
        elif len(body) <= SHARED_MIN:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)
        self._answered = self._finished = True
        if server.access_log is not None:
            server.report(self.transport, self.request, status, len(body), self._taken())

    def _taken(self) -> float:
        """Seconds from the request to its answer's head."""
        return self.transport.scope.now - self._received

    def answer(self, answer: Any) -> Responder | None:
        """What a handler returned: send it, or return the responder that goes on to."""
        if isinstance(answer, Response):
            self.respond(answer)
            return None
        responder: Responder
        if isinstance(answer, StreamingResponse):
            responder = ChannelResponder(answer)
        elif isinstance(answer, Responder):
            responder = answer
        else:
            raise TypeError(
                f"{self.route!r} returned {answer!r}; a handler returns a Response, a StreamingResponse, "
                "a Responder or an awaitable of one"
            )
        try:
            responder.begin(self)
        except FAILURES as error:
            responder.abandoned(self, error)
            raise
        return responder

    def abort(self, error: BaseException) -> None:
        """Something went wrong. Before the head the client gets a 502, after it the connection is reset,
        after the end nothing happens."""
        if not self._answered:
            self.respond(text_response("the answer could not be produced\n", 502))
        elif not self._finished:
            self._error = error

    def switch(self, protocol: StreamProtocol) -> None:
        """After `send_head(101, …)`: the connection goes on as another protocol, which gets `connected` and
        what was read."""
        self._switched = protocol

    def _connection_line(self) -> bytes:
        decoder = self._decoder
        if self._connection.left <= 0 or not (decoder is None or decoder.done):
            self._close = True
        return CLOSE_LINE if self._close else b"" if self.head.minor else KEEP_ALIVE_LINE

    # -- what the connection tells -----------------------------------------------------------------------

    def begin(self, answer: Any) -> Outcome:
        """Go on with what the handler has returned, or receive the body that it wants whole (`GATHER`)."""
        if isinstance(answer, Responder):  # a proxy's: the shortest way for the most frequent one
            self._responder = answer
            try:
                answer.begin(self)
                decoder = self._decoder
                if (decoder is None or decoder.done) and not self._finished and self._error is None:
                    answer.body_ended(self, self.request.trailers)
            except FAILURES as error:
                self._failed(error)
            return self._outcome()
        if answer is not GATHER:
            return self._guard(self._start, answer)
        limit = self._connection.server.limits.body_bytes
        if limit is not None and self.head.length > limit:
            return self._refuse(BadRequest(f"the body is larger than {limit} bytes", 413))
        self._body = []
        self.proceed()
        return self._outcome()

    def _start(self, answer: Any) -> None:
        streams = self.route.streams
        coroutine = flow_of(answer, streams)
        if coroutine is not None:
            # a handler that has run to make it has left its context in force
            context = None if self.route.own_context else self._connection.server.context.copy()
            self._responder = FlowResponder(coroutine, self.request if streams else None, context)
            self._responder.begin(self)
        else:
            self._responder = self.answer(answer)
        if not self._finished and self._responder is not None and self.body_complete and self._error is None:
            self._responder.body_ended(self, self.request.trailers)

    def received(self, transport: Transport) -> Outcome:
        """More of the body; or of what comes after it, which waits until this is answered."""
        connection = self._connection
        if connection.listening:
            connection.listening = False
            return self._outcome()
        decoder = self._decoder
        assert decoder is not None
        pieces: list[bytes] = []
        try:
            transport.consume(decoder.feed(transport.input, 0, pieces))
        except BadRequest as refusal:
            return self._refuse(refusal)
        self._undecoded = len(transport.input)
        if decoder.done:
            self.request.trailers = decoder.trailers
        if self._body is None:
            return self._guard(self._pass_on, pieces, decoder)
        self._body += pieces
        limit = connection.server.limits.body_bytes
        if limit is not None and decoder.received > limit:
            return self._refuse(BadRequest(f"the body is larger than {limit} bytes", 413))
        if not decoder.done:
            return self._outcome()
        self.request.body = b"".join(self._body)
        self._body = None
        self._received = transport.scope.now
        connection.server.requests += 1
        return self._guard(self._call)

    def _call(self) -> None:
        if self.route.own_context:
            self._connection.server.context.copy().run(self._call_here)
        else:
            self._call_here()

    def _call_here(self) -> None:
        self._start(self.route.call(self.request))

    def _pass_on(self, pieces: list[bytes], decoder: BodyDecoder) -> None:
        responder = self._responder
        assert responder is not None
        if pieces:
            responder.body(self, pieces)
        if decoder.done:
            self._received = self.transport.scope.now
            responder.body_ended(self, decoder.trailers)

    def wakeup(self) -> Outcome:
        """For the responder."""
        responder = self._responder
        if responder is None:
            return UNCHANGED
        try:
            responder.wakeup(self)
        except FAILURES as error:
            self._failed(error)
        return self._outcome()

    def flushed(self) -> Outcome:
        """The output has drained."""
        self._sending = None
        return self._outcome() if self._responder is None else self._guard(self._responder.writable, self)

    def ended(self) -> Outcome:
        """The client's FIN: with the request incomplete it has gone; else see the connection's rule 5."""
        connection = self._connection
        if connection.server.half_close and (self.body_complete or self.body_held):
            connection.listening = False
            return self._outcome()
        error = ConnectionAbortedError("the client has gone")
        self.drop(error)
        return Stop(error) if self._answered else Stop()  # earlier answers may still be on their way

    def timeout(self, now: float) -> Outcome:
        """Whichever deadline it was: a timeout class, or the responder's own."""
        server = self._connection.server
        sending = self._sending
        if sending is not None and now >= sending.due(self.transport):
            server.timed_out("response_sending")
            return Stop(TimeoutError("the client did not take the response in time"))
        if now >= self._silent_until:
            server.timed_out("idle")
            return Stop(
                TimeoutError(
                    "the client has closed its sending side, and its answer has made no progress since"
                )
            )
        if now >= self._class_deadline():
            if not self.body_complete and not self.body_held:
                server.timed_out("body_receiving")
                return self._refuse(BadRequest("the body did not come in time", 408))
            server.timed_out("response_generation")
            status = 503 if self._responder is None else self._responder.late_status
            self._abandon(TimeoutError("the answer was not produced in time"))
            return self._guard(self.respond, text_response("the answer took too long\n", status))
        if self._responder is None or now < self._responder.deadline:
            return self._outcome()
        return self._guard(self._responder.timeout, self)

    def drop(self, error: BaseException | None) -> None:
        """The connection is over, or the request is: the responder is told, unless it has finished."""
        if self._finished:
            return
        self._error = error or ConnectionAbortedError("the connection was closed")
        self._abandon(self._error)

    # -- how it goes on ----------------------------------------------------------------------------------

    def _guard(self, step: Callable[..., object], *arguments: Any) -> Outcome:
        """Run a piece of the handler's code; see rule 1."""
        try:
            step(*arguments)
        except FAILURES as error:
            self._failed(error)
        return self._outcome()

    def _failed(self, error: BaseException) -> None:
        failure = self._connection.server.failed(self.request, error)
        self._abandon(error)
        if not self._answered:
            self.respond(failure)
        elif not self._finished:
            self._error = self._error or error

    def _abandon(self, error: BaseException) -> None:
        responder, self._responder = self._responder, None
        if responder is not None:
            try:
                responder.abandoned(self, error)
            except FAILURES as failure:  # of a `finally` block, say
                self._connection.server.failed(self.request, failure)

    def _refuse(self, refusal: BadRequest) -> Outcome:
        self.drop(refusal)
        if self._answered:
            return Stop(refusal)
        return self._connection.refuse(self.transport, refusal, self.request)

    def _class_deadline(self) -> float:
        timeouts = self.timeouts
        decoder = self._decoder
        started = self._received
        if decoder is not None and not decoder.done:
            if self._held_since == NEVER:
                return started + timeouts.body_receiving + decoder.received / timeouts.body_rate_min
            started = self._held_since
        return NEVER if self._answered else started + timeouts.response_generation

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
        due = self._class_deadline()
        responder = self._responder
        if responder is not None and responder.deadline < due:
            due = responder.deadline
        if transport.ended and self._answered:
            # an answer that goes on, for a client that may have gone: only what is sent could show that
            self._silent_until = transport.scope.now + connection.server.idle
            due = min(due, self._silent_until)
        decoder = self._decoder
        reading = decoder is not None and not decoder.done and self._held_since == NEVER
        sending = self._sending is not None or transport.unsent > HIGH_WATERMARK
        if connection.listening and not reading and not sending:
            return UNCHANGED if transport.scope.deadline <= due else Timeout(connection, due)
        connection.listening = False
        wanted = Bytes(self._undecoded + 1) if reading else SLEEP
        if not sending:
            return Timeout(connection, due, wanted)
        if self._sending is None:
            self._sending = Sending(self.timeouts, transport)
        return Timeout(connection, min(due, self._sending.due(transport)), (wanted, DRAINED))

    def _over(self) -> Outcome:
        connection = self._connection
        decoder = self._decoder
        if decoder is not None and not decoder.done:
            self.transport.linger = True
            self._close = True
        if self._close:
            connection.left = 0
        return connection.next(self.transport, self.timeouts)
