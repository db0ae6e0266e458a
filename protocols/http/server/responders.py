"""Responders: how a request is answered when the answer is not there at once.

A responder is a small machine inside a connection's machine. The connection tells it what happens (a piece
of the body, a wakeup, room in the output, the client gone) and it acts on the `Exchange`. A plain function
that returns a `Response` needs none; a coroutine is driven by `FlowResponder`; whoever streams or proxies
derives one.
"""

from __future__ import annotations

from collections.abc import Coroutine
from contextvars import Context
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar, cast

from actors import NEVER, Channel, ChannelClosed
from actors.flows import UNFINISHED, Steps
from protocols.http.codec.head import CHUNKED
from protocols.http.codec.headers import NO_HEADERS, Headers, HeadersLike

from .request import Request

if TYPE_CHECKING:
    from .exchange import Exchange

__all__ = ["ChannelResponder", "FlowResponder", "Responder", "StreamingResponse", "flow_of"]


class Responder:
    """Answers one request, piece by piece. Handlers act on the exchange: `send_head`, `send`, `finish`,
    `abort`."""

    __slots__ = ()

    deadline: float = NEVER
    """When to call `timeout` (monotonic seconds). Read after every handler."""

    late_status: ClassVar[int] = 503
    """What the client gets when the answer's head is not there in time."""

    def begin(self, exchange: Exchange) -> None:
        """The head is there; a body may follow. Called once, first."""

    def body(self, exchange: Exchange, pieces: list[bytes]) -> None:
        """Pieces of the request's body. Call `exchange.hold_body(True)` to get no more for a while."""

    def body_ended(self, exchange: Exchange, trailers: Headers) -> None:
        """The request is complete."""

    def wakeup(self, exchange: Exchange) -> None:
        """Something that this responder waits for has happened, perhaps."""

    def writable(self, exchange: Exchange) -> None:
        """The output has drained: `exchange.congested` is false again."""

    def timeout(self, exchange: Exchange) -> None:
        """The deadline has passed."""

    def abandoned(self, exchange: Exchange, error: BaseException | None) -> None:
        """The client is gone, or the exchange was aborted. Nothing can be sent; release what is held."""


class StreamingResponse:
    """A response whose body comes through a channel of bytes. With `length` (bytes) it is not chunked; a body
    that turns out to differ from it resets the connection. Raises `ValueError` for a status that is not
    final."""

    __slots__ = ("body", "headers", "length", "status", "trailers")

    def __init__(
        self,
        status: int,
        headers: HeadersLike,
        body: Channel[bytes],
        length: int | None = None,
        trailers: Headers = NO_HEADERS,
    ) -> None:
        if not 200 <= status <= 999:
            raise ValueError(f"status {status!r} is not a number from 200 to 999")
        if length is not None and length < 0:
            raise ValueError(f"length={length}; write a number of bytes, or None if it is not known")
        self.status = status
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        self.body = body
        self.length = length
        self.trailers = trailers

    def __repr__(self) -> str:
        return f"<StreamingResponse {self.status} {self.body!r}>"


async def _awaited(answer: Any) -> Any:
    return await answer


async def _ready(answer: Any) -> Any:
    return answer


def flow_of(answer: Any, streams: bool) -> Coroutine[Any, Any, Any] | None:
    """The coroutine that a `FlowResponder` is needed for: what a handler has returned, if it is to be
    awaited or if its request's body goes on coming; else None."""
    if answer.__class__ is CoroutineType or (hasattr(answer, "send") and hasattr(answer, "throw")):
        return cast(Coroutine[Any, Any, Any], answer)
    if hasattr(answer, "__await__"):
        return _awaited(answer)
    return _ready(answer) if streams and isinstance(answer, StreamingResponse) else None


class FlowResponder(Responder):
    """Drives the coroutine of an `async def` handler, and sends what it returns.

    With a `request`, the body goes into its `stream`, no faster than it is taken from there. A client that
    waits for a 100 gets it when the handler has to wait after it has first used `request.stream`; who
    answers before that need not be sent the body.
    """

    __slots__ = ("_after", "_request", "_steps")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        request: Request | None = None,
        context: Context | None = None,
    ) -> None:
        self._steps: Steps[Any] = Steps(coroutine, context=context)
        self._request = request
        self._after: Responder | None = None  # streams the body of what the coroutine returned

    def __repr__(self) -> str:
        return f"<FlowResponder {self._after or self._steps!r}>"

    @property
    def deadline(self) -> float:  # type: ignore[override]
        """The coroutine's: a sleep's end, an inherited deadline."""
        return self._steps.due if self._after is None else NEVER

    def wakeup(self, exchange: Exchange) -> None:
        """Run to the next wait, or to the response."""
        if self._after is not None:
            self._after.wakeup(exchange)
        else:
            answer = self._steps.advance(exchange.scope)
            if answer is not UNFINISHED:
                self._after = exchange.answer(answer)
        request = self._request
        if request is not None and request.streaming:
            exchange.proceed()
            exchange.hold_body(not request.stream.writable)

    begin = timeout = wakeup

    def writable(self, exchange: Exchange) -> None:
        """The streamed body may go on."""
        if self._after is not None:
            self._after.writable(exchange)

    def body(self, exchange: Exchange, pieces: list[bytes]) -> None:
        """A streaming handler's request body goes into its channel."""
        if self._request is None or self._request.stream.ended:
            return  # nobody reads it
        upload = self._request.stream
        upload.attach_sender(exchange.scope)
        upload.put(b"".join(pieces))
        exchange.hold_body(not upload.writable)

    def body_ended(self, exchange: Exchange, trailers: Headers) -> None:
        """The end of the request's body."""
        if self._request is not None:
            self._request.stream.close()

    def abandoned(self, exchange: Exchange, error: BaseException | None) -> None:
        """The coroutine is closed: its `finally` blocks run, the reply it waits for is cancelled."""
        if self._request is not None:
            self._request.stream.close(error or ChannelClosed("the request was abandoned"))
        try:
            self._steps.close(exchange.scope)
        finally:
            if self._after is not None:
                self._after.abandoned(exchange, error)


class ChannelResponder(Responder):
    """Sends what comes through a channel, no faster than the client takes it."""

    __slots__ = ("_body", "_response")

    def __init__(self, response: StreamingResponse) -> None:
        self._body = response.body
        self._response = response

    def __repr__(self) -> str:
        return f"<ChannelResponder {self._body!r}>"

    def begin(self, exchange: Exchange) -> None:
        """Send the head, and what is there."""
        response = self._response
        length = CHUNKED if response.length is None else response.length
        exchange.send_head(response.status, response.headers.answer_block, length)
        self._body.attach_receiver(exchange.scope)
        self.wakeup(exchange)

    def wakeup(self, exchange: Exchange) -> None:
        """Move pieces while there are any and the output takes them."""
        body = self._body
        while len(body) and not exchange.congested:
            exchange.send(body.take())
        if body.ended:
            if body.error is not None:
                exchange.abort(body.error)  # a truncated body must never look like a complete one
            else:
                exchange.finish(self._response.trailers)

    writable = wakeup

    def abandoned(self, exchange: Exchange, error: BaseException | None) -> None:
        """Tell the sender."""
        self._body.cancel(error)
