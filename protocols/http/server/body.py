"""The body of a request, on its way from the input to whoever wants it.

It owns how far the body has come (`states.BODY`), what of it was gathered, and the clock of the client that
sends it. That clock stands still while the responder holds the body back.
"""

from __future__ import annotations

from typing import Final

from actors import NEVER, SLEEP, Bytes, Sleep, Transport
from protocols.http.codec.bodies import body_decoder
from protocols.http.codec.errors import BadRequest
from protocols.http.codec.head import RequestHead
from protocols.http.codec.headers import Headers
from protocols.http.codec.limits import Limits

from .states import BODY, COMING, COMPLETE, HELD, HOLD, LAST, TAKE
from .timeouts import Timeouts

__all__ = ["RequestBody"]

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class RequestBody:
    """Of a request whose head has announced one. Made by the connection, asked and moved by the exchange."""

    __slots__ = (
        "_decoder",
        "_expected",
        "_gathered",
        "_held_since",
        "_length",
        "_limit",
        "_undecoded",
        "since",
        "state",
    )

    def __init__(self, head: RequestHead, limits: Limits, now: float) -> None:
        self._decoder = body_decoder(head.length, limits, BadRequest)
        self._length = head.length
        self._limit = limits.body_bytes
        self._gathered: list[bytes] | None = None  # for a handler that wants it whole
        self._undecoded = 0  # bytes of the input that the decoder needs more behind, to make sense of
        self._expected = head.expect_continue  # the client waits for a 100
        self._held_since = NEVER
        self.since = now
        """When its client began to send it, moved on by the time for which it was held back."""
        self.state = COMING

    def __repr__(self) -> str:
        return f"<RequestBody {self.state} {self._decoder!r}>"

    @property
    def complete(self) -> bool:
        """Whether all of it was read."""
        return self.state is COMPLETE

    @property
    def held(self) -> bool:
        """Whether nothing more of it is read for now."""
        return self.state is HELD

    @property
    def gathering(self) -> bool:
        """Whether the handler is called with all of it, and not before."""
        return self._gathered is not None

    @property
    def trailers(self) -> Headers:
        """What came after a chunked body."""
        return self._decoder.trailers

    @property
    def wanted(self) -> Bytes | Sleep:
        """What of the input it waits for."""
        return Bytes(self._undecoded + 1) if self.state is COMING else SLEEP

    def gather(self) -> None:
        """From now on its pieces are kept here. Raises `BadRequest` if it is announced too large."""
        self._gathered = []
        self._check(self._length)

    def gathered(self) -> bytes:
        """All that was kept; nothing more is."""
        whole, self._gathered = b"".join(self._gathered or ()), None
        return whole

    def feed(self, transport: Transport) -> list[bytes]:
        """Take what has come of it from the input, and return the pieces. Raises `BadRequest` for a body that
        is not well-formed, or that is gathered and larger than `Limits.body_bytes`."""
        decoder = self._decoder
        pieces: list[bytes] = []
        transport.consume(decoder.feed(transport.input, 0, pieces))
        self._undecoded = len(transport.input)
        if self._gathered is not None:
            self._gathered += pieces
            self._check(decoder.received)
        if decoder.done:
            self.state = BODY[self.state][LAST]
        return pieces

    def _check(self, size: int) -> None:
        limit = self._limit
        if limit is not None and size > limit:
            raise BadRequest(f"the body is larger than {limit} bytes", 413)

    def take_whole(self, transport: Transport) -> bytes | None:
        """All of it, if its length is known and all has come with the head; else None."""
        length = self._length
        if length <= 0 or len(transport.input) < length or self._decoder.received:
            return None
        return b"".join(self.feed(transport))

    def hold(self, hold: bool, now: float) -> None:
        """Stop reading it, or go on. Of a body that is complete there is nothing to hold."""
        if hold:
            if self.state is COMING:
                self.state = BODY[COMING][HOLD]
                self._held_since = now
        elif self.state is HELD:
            self.state = BODY[HELD][TAKE]
            self.since += now - self._held_since

    def invite(self, transport: Transport) -> None:
        """Send 100 Continue to a client that waits for it (RFC 9110 section 10.1.1)."""
        if self._expected:
            self._expected = False
            if not transport.input:  # it has not waited
                transport.write(CONTINUE)

    def invited(self) -> None:
        """A 100 was sent already."""
        self._expected = False

    def deadline(self, timeouts: Timeouts, answered: bool) -> float:
        """When the client, or the responder that holds the body back, has taken too long."""
        if self.state is COMING:
            return self.since + timeouts.body_receiving + self._decoder.received / timeouts.body_rate_min
        return NEVER if answered else self._held_since + timeouts.response_generation
