"""One request and its answer, while they take more than a moment.

A `Responder` acts on the exchange (`send_head`, `send`, `finish`, `respond`, `abort`, …), and the connection
tells the exchange what happens. Afterwards the connection looks where the exchange stands: it reads `state`,
`body` and `due`, and turns them into an outcome. The exchange knows nothing of its connection.

Rules:
1. What a handler or a responder raises becomes a 500, or a reset when the answer has begun.
2. A body never differs from what its head announced: `send` and `finish` raise `ValueError` if it does, which
   resets the connection, so that a truncated body cannot be taken for a whole one.
3. Back-pressure both ways: `congested` and `writable` for the answer, `hold_body` for the request's body.
   While the responder holds the body, its time counts as response_generation and not as body_receiving.
4. `states.ANSWER` holds every step an answer can take. Another one raises `Misuse` and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from actors import NEVER, Misuse, Scope, StreamProtocol, Transport
from actors.errors import FAILURES
from protocols.http.codec.bodies import encode_chunk, encode_last_chunk
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

from .body import RequestBody
from .request import Request
from .responders import ChannelResponder, FlowResponder, Responder, StreamingResponse, flow_of
from .shared import Shared
from .states import (
    ANSWER,
    DONE,
    DUE,
    FAILED,
    FINISHED,
    GIVEN_UP,
    HEAD_SENT,
    SENT_WHOLE,
    SWITCH,
    next_state,
)

if TYPE_CHECKING:
    from .routing import Route
    from .timeouts import Timeouts

__all__ = ["Exchange"]

UNKNOWN: Final = -1  # in place of the bytes that are left of a body whose length was not announced


class Exchange:
    """One request and its answer. Made by the connection; a `Responder` acts on it, from inside its handlers.
    Whoever acts on it in somebody else's turn wakes the connection afterwards: `exchange.scope.wake()`."""

    __slots__ = (
        "_bodiless",
        "_chunked",
        "_left",
        "_received",
        "_responder",
        "_shared",
        "body",
        "closes",
        "error",
        "head",
        "request",
        "route",
        "state",
        "successor",
        "timeouts",
        "transport",
    )

    _bodiless: bool  # these three say how the answer's body is framed, from the head on
    _chunked: bool
    _left: int
    error: BaseException
    """Why the answer is BROKEN, once it is."""
    successor: StreamProtocol
    """Whose the connection is after an UPGRADE."""

    def __init__(
        self,
        shared: Shared,
        transport: Transport,
        head: RequestHead,
        request: Request,
        route: Route,
        timeouts: Timeouts,
        last: bool,
    ) -> None:
        self._shared = shared
        self.transport = transport
        self.head = head
        self.request = request
        self.route = route
        self.timeouts = timeouts
        self._responder: Responder | None = None
        self._received = now = transport.scope.now  # the answer's time counts from here
        self.body = RequestBody(head, shared.limits, now) if head.length else None
        self.state = DUE
        self.closes = last or not head.keep_alive
        """Whether the connection ends with this answer."""

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
        return self.state is not DUE and self.state is not GIVEN_UP

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, or was aborted."""
        return not ANSWER[self.state]

    @property
    def body_complete(self) -> bool:
        """Whether the request has come to its end."""
        return self.body is None or self.body.complete

    @property
    def body_held(self) -> bool:
        """Whether the responder takes no more of the request's body for now."""
        return self.body is not None and self.body.held

    def hold_body(self, hold: bool) -> None:
        """Stop or go on reading the request's body (back-pressure). The client's time to send it stands still
        meanwhile."""
        if self.body is not None:
            self.body.hold(hold, self.transport.scope.now)

    def take_whole_body(self) -> bytes | None:
        """The request's body, if its length is known and all of it has come with the head; else it comes
        piece by piece."""
        return None if self.body is None else self.body.take_whole(self.transport)

    def proceed(self) -> None:
        """Send 100 Continue if the client waits for it (RFC 9110 section 10.1.1)."""
        if self.body is not None and self.state is DUE:
            self.body.invite(self.transport)

    def send_interim(self, status: int, block: bytes) -> None:
        """An informational response (1xx) before the final one. HTTP/1.0 clients do not get it, nor one that
        does not take what it has been sent: these are hints, and bounded like all that waits for a client."""
        if status == 100 and self.body is not None:
            self.body.invited()
        if self.head.minor and self.state is DUE and not self.congested:
            self.transport.write(encode_response_head(status, block, None))

    def send_head(
        self, status: int, block: bytes, length: int, reason: str = "", *, dated: bool = False
    ) -> None:
        """The final head. `block`: validated lines without framing; `length`: bytes, `CHUNKED` or
        `UNTIL_CLOSE`.

        `dated`: the block has a Date already. An HTTP/1.0 client gets a body of unknown length until the
        close. Raises `Misuse` after another head, and for a 1xx that is not 101: that is for `send_interim`.
        """
        if status < 200 and status != 101:
            raise Misuse(f"{self!r} cannot send a head of {status} as final")
        after = self._after(HEAD_SENT)
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
            self.closes = True
        lines = self._connection_line() if status != 101 else b""  # the block says what it becomes
        shared = self._shared
        if not dated:
            lines = shared.date_line() + lines
        self.transport.write(encode_response_head(status, block, length, lines, reason))
        self.state = after
        if shared.access_log is not None:
            self._report(status, 0 if self._bodiless else max(length, -1))

    def send(self, data: bytes) -> None:
        """A piece of the body; nothing is sent where there is none (HEAD, 204, 304). Raises `ValueError` for
        more than was announced, `Misuse` before the head or after the end."""
        if FINISHED not in ANSWER[self.state]:
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
        if FINISHED not in ANSWER[self.state]:
            raise Misuse("finish() comes once, after send_head()")
        if self._left > 0:
            raise ValueError(f"the body is {self._left} bytes shorter than announced")
        if self._chunked:
            self.transport.write(encode_last_chunk(trailers))
        self.state = self._after(FINISHED)

    def respond(self, response: Response) -> None:
        """A whole answer at once. Raises `Misuse` after another head."""
        after = self._after(SENT_WHOLE)
        head = self.head
        shared = self._shared
        lines = shared.date_line() + self._connection_line()
        write_response(self.transport, response, lines, head.method, head.minor)
        self.state = after
        if shared.access_log is not None:
            self._report(response.status, len(response.body))

    def relay(self, status: int, head: bytes, body: bytes, *, dated: bool = False) -> None:
        """A whole final answer in one write: `send_head`, `send` and `finish`. `head`: what
        `encode_response_head` makes, with the body's length. Raises `Misuse` after another head."""
        try:
            after = ANSWER[self.state][SENT_WHOLE]
        except KeyError:
            after = next_state(ANSWER, self.state, SENT_WHOLE, self)  # raises, and says why
        lines = self._connection_line()
        if not dated:
            lines = self._shared.date_line() + lines
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
        self.state = after
        if self._shared.access_log is not None:
            self._report(status, len(body))

    def abort(self, error: BaseException) -> None:
        """Something went wrong. Before the head the client gets a 502, after it the connection is reset,
        after the end nothing happens."""
        if self.state is DUE:
            self.respond(text_response("the answer could not be produced\n", 502))
        else:
            self._fail(error)

    def switch(self, protocol: StreamProtocol) -> None:
        """After `send_head(101, …)`: the connection goes on as another protocol, which gets `connected` and
        what was read. Raises `Misuse` before the head."""
        self.state = self._after(SWITCH)
        self.successor = protocol

    def _after(self, event: str) -> str:
        return ANSWER[self.state].get(event) or next_state(ANSWER, self.state, event, self)

    def _fail(self, error: BaseException) -> None:
        """The answer comes to no good end, unless it has come to one already."""
        after = ANSWER[self.state].get(FAILED)
        if after is not None:
            self.state = after
            self.error = error

    def _connection_line(self) -> bytes:
        if self.body is not None and not self.body.complete:
            self.closes = True
        return CLOSE_LINE if self.closes else b"" if self.head.minor else KEEP_ALIVE_LINE

    def _report(self, status: int, size: int) -> None:
        """To the access log, with the seconds from the request to its answer's head."""
        body = self.body
        since = self._received if body is None or body.complete else body.since
        self._shared.report(self.transport, self.request, status, size, self.transport.scope.now - since)

    # -- what the connection tells: each step may run code of the handler, see rule 1 --------------------

    def close_after(self) -> None:
        """The connection ends with this answer."""
        self.closes = True

    def gather(self) -> None:
        """Receive the body that the handler wants whole. Raises `BadRequest` if it is announced too large."""
        if self.body is not None:
            self.body.gather()
            self.proceed()

    def begin(self, answer: Any) -> None:
        """Go on with what the handler has returned."""
        try:
            if isinstance(answer, Responder):  # a proxy's: the shortest way for the most frequent one
                self._responder = answer
                answer.begin(self)
                if self.body is None and self.state is DUE:
                    answer.body_ended(self, NO_HEADERS)
                    return
            else:
                self._start(answer)
            self._go_on()
        except FAILURES as error:
            self._failed(error)

    def _start(self, answer: Any) -> None:
        streams = self.route.streams
        coroutine = flow_of(answer, streams)
        if coroutine is None:
            self._responder = self.answer(answer)
            return
        # a handler that has run to make it has left its context in force
        context = None if self.route.own_context else self._shared.context.copy()
        self._responder = FlowResponder(coroutine, self.request if streams else None, context)
        self._responder.begin(self)

    def _go_on(self) -> None:
        """The responder has begun: tell it if the request is complete already."""
        responder = self._responder
        if responder is not None and ANSWER[self.state] and (self.body is None or self.body.complete):
            responder.body_ended(self, self.request.trailers)

    def answer(self, answer: Any) -> Responder | None:
        """What a handler returned: send it, or return the responder that goes on to. Raises `TypeError` for
        what is not an answer."""
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

    def received(self, body: RequestBody) -> None:
        """More of the body is in the input. Raises `BadRequest` for a body that is refused."""
        gathering = body.gathering
        pieces = body.feed(self.transport)
        if body.complete:
            self.request.trailers = body.trailers
            self._received = self.transport.scope.now
        if not gathering:
            self._guard(self._pass_on, pieces, body)
        elif body.complete:
            self.request.body = body.gathered()
            self._shared.called()
            self._guard(self._call)

    def _call(self) -> None:
        if self.route.own_context:
            self._shared.context.copy().run(self._call_here)
        else:
            self._call_here()

    def _call_here(self) -> None:
        self._start(self.route.call(self.request))
        self._go_on()

    def _pass_on(self, pieces: list[bytes], body: RequestBody) -> None:
        responder = self._responder
        if responder is None:
            return
        if pieces:
            responder.body(self, pieces)
        if body.complete:
            responder.body_ended(self, body.trailers)

    def wakeup(self) -> None:
        """For the responder."""
        responder = self._responder
        if responder is not None:
            try:
                responder.wakeup(self)
            except FAILURES as error:
                self._failed(error)

    def writable(self) -> None:
        """The output has drained."""
        if self._responder is not None:
            self._guard(self._responder.writable, self)

    @property
    def class_due(self) -> float:
        """When the timeout class that counts now is over: body_receiving or response_generation."""
        body = self.body
        if body is not None and not body.complete:
            return body.deadline(self.timeouts, self.answered)
        return self._received + self.timeouts.response_generation if self.state is DUE else NEVER

    @property
    def due(self) -> float:
        """The first of the deadlines: the class's, or the responder's own."""
        if self.body is None and self.state is DUE:  # as `class_due` says, but for a call
            due = self._received + self.timeouts.response_generation
        else:
            due = self.class_due
        responder = self._responder
        return due if responder is None or responder.deadline >= due else responder.deadline

    def late(self) -> None:
        """The answer was not produced in time."""
        status = 503 if self._responder is None else self._responder.late_status
        self._abandon(TimeoutError("the answer was not produced in time"))
        self._guard(self.respond, text_response("the answer took too long\n", status))

    def timeout(self, now: float) -> None:
        """The responder's own deadline, if it was that."""
        if self._responder is not None and now >= self._responder.deadline:
            self._guard(self._responder.timeout, self)

    def drop(self, error: BaseException | None) -> None:
        """The connection is over, or the request is: the responder is told, unless it has finished."""
        if self.state is not DONE:
            error = error or ConnectionAbortedError("the connection was closed")
            self._fail(error)
            self._abandon(error)

    def _guard(self, step: Callable[..., object], *arguments: Any) -> None:
        try:
            step(*arguments)
        except FAILURES as error:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        failure = self._shared.failed(self.request, error)
        self._abandon(error)
        if self.state is DUE:
            self.respond(failure)
        else:
            self._fail(error)

    def _abandon(self, error: BaseException) -> None:
        responder, self._responder = self._responder, None
        if responder is not None:
            try:
                responder.abandoned(self, error)
            except FAILURES as failure:  # of a `finally` block, say
                self._shared.failed(self.request, failure)
