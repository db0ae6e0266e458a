"""Responders: how a request is answered when the answer is not there at once.

A responder is a small machine inside a connection's machine. The connection tells it what happens (a piece of the
body, a wakeup, room in the output, the client gone) and it acts on the `Exchange`. A plain function that returns a
`Response` needs none; a coroutine is driven by `FlowResponder`; whoever streams or proxies derives one.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from actors import NEVER, Channel, ChannelClosed
from actors.flows import UNFINISHED, Steps

from .headers import NO_HEADERS, Headers, HeadersLike
from .messages import Response

if TYPE_CHECKING:
    from .connections import Exchange

__all__ = ["ChannelResponder", "FlowResponder", "Responder", "StreamingResponse"]


class Responder:
    """Answers one request, piece by piece. Handlers act on the exchange: `send_head`, `send`, `finish`, `abort`."""

    __slots__ = ()

    deadline: float = NEVER
    """When to call `timeout` (monotonic seconds). Read after every handler."""

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
    """A response whose body comes through a channel of bytes. With `length` (bytes) it is not chunked."""

    __slots__ = ("body", "headers", "length", "status", "trailers")

    def __init__(
        self,
        status: int,
        headers: HeadersLike,
        body: Channel[bytes],
        length: int | None = None,
        trailers: Headers = NO_HEADERS,
    ) -> None:
        self.status = status
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        self.body = body
        self.length = length
        self.trailers = trailers


class FlowResponder(Responder):
    """Drives the coroutine of an `async def` handler, and sends what it returns."""

    __slots__ = ("_after", "_steps", "_upload")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], upload: Channel[bytes] | None = None) -> None:
        self._steps: Steps[Any] = Steps(coroutine)
        self._upload = upload  # the request's body, for a handler that streams
        self._after: Responder | None = None  # streams the body of what the coroutine returned

    def __repr__(self) -> str:
        return f"<FlowResponder {self._steps!r}>"

    @property
    def deadline(self) -> float:  # type: ignore[override]
        """The coroutine's: a sleep's end, an inherited deadline."""
        return self._steps.due if self._after is None else NEVER

    def begin(self, exchange: Exchange) -> None:
        """Run to the first wait."""
        if self._upload is not None:
            self._upload.attach_sender(exchange.scope)
        self.wakeup(exchange)

    def wakeup(self, exchange: Exchange) -> None:
        """Run to the next wait, or to the response."""
        if self._upload is not None and exchange.body_held:
            exchange.hold_body(not self._upload.writable)
        if self._after is not None:
            self._after.wakeup(exchange)
            return
        answer = self._steps.advance(exchange.scope)
        if answer is not UNFINISHED:
            self._after = exchange.answer(answer)

    timeout = wakeup

    def writable(self, exchange: Exchange) -> None:
        """The streamed body may go on."""
        if self._after is not None:
            self._after.writable(exchange)

    def body(self, exchange: Exchange, pieces: list[bytes]) -> None:
        """A streaming handler's request body goes into its channel."""
        upload = self._upload
        if upload is None or upload.ended:
            return  # nobody reads it
        upload.put(b"".join(pieces))
        exchange.hold_body(not upload.writable)

    def body_ended(self, exchange: Exchange, trailers: Headers) -> None:
        """The end of the request's body."""
        if self._upload is not None:
            self._upload.close()

    def abandoned(self, exchange: Exchange, error: BaseException | None) -> None:
        """The coroutine is closed: its `finally` blocks run, the reply it waits for is cancelled."""
        if self._upload is not None:
            self._upload.close(error or ChannelClosed("the request was abandoned"))
        self._steps.close(exchange.scope)
        if self._after is not None:
            self._after.abandoned(exchange, error)


class ChannelResponder(Responder):
    """Sends what comes through a channel, no faster than the client takes it."""

    __slots__ = ("_body", "_trailers")

    def __init__(self, response: StreamingResponse) -> None:
        self._body = response.body
        self._trailers = response.trailers

    def __repr__(self) -> str:
        return f"<ChannelResponder {self._body!r}>"

    def begin(self, exchange: Exchange) -> None:
        """Send what is there."""
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
                exchange.finish(self._trailers)

    writable = wakeup

    def abandoned(self, exchange: Exchange, error: BaseException | None) -> None:
        """Tell the sender."""
        self._body.cancel(error)
