"""The client's side of one connection of a pool: requests out, responses in, in order.

Rules:
1. A response that is complete in the input settles its unit at once. A longer one is gathered, or goes
   through a channel whose receiver sets the pace: when the channel is full, nothing is read from the socket.
2. A response is cut where RFC 9112 section 6.3 says, and nothing else: what comes after the last one is a
   protocol error.
3. A truncated body is an error for its reader, never a shorter body. One that lasts until the close was
   truncated unless the close was a proper one: by TLS, with close_notify (RFC 9112 section 9.8).
4. An answer that is complete before its request is (an early refusal) ends the upload and the connection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from actors import (
    ANYTHING,
    LOW_WATERMARK,
    NEVER,
    SLEEP,
    Bytes,
    Channel,
    Expectation,
    Flush,
    Sleep,
    StreamProtocol,
)
from pools import ConnectionLost, Unit, Wire, Work
from protocols.http.codec.bodies import BodyDecoder, body_decoder, encode_chunk, encode_last_chunk
from protocols.http.codec.errors import BadResponse as Malformed
from protocols.http.codec.head import ResponseHead, parse_response_head
from protocols.http.codec.headers import NO_HEADERS, Headers
from protocols.http.codec.limits import Limits
from protocols.http.codec.memo import Memo, is_plain_response
from protocols.http.errors import BadResponse

__all__ = ["BodyChannel", "HttpUnit", "HttpWire", "KeptHeads", "Upload"]

KeptHeads = Memo[bytes, tuple[ResponseHead, float | None]]
"""Heads that came before, shared by a pool's connections, each with how many seconds its backend keeps an
idle connection, if the head says so."""

T = TypeVar("T")

STREAM_CAPACITY: Final = 1 << 18  # bytes of a response's body between the connection and its reader
SKIP_MAX: Final = 1 << 16  # bytes of an unwanted body that are read to save the connection; more closes it
READER_SECONDS: Final = 3600.0  # without a piece taken of a body that is full
BLANK_LINE: Final = b"\r\n\r\n"
DRAINED: Final = Flush(LOW_WATERMARK)
NO_LIMIT: Final = 1 << 62
KEPT_LESS: Final = 1.0  # seconds by which an idle connection is closed before its backend does so; as undici
INTERIM_MAX: Final = 64
"""Interim answers (1xx) before a final one. Each is passed on at once, however slow the client is; so
together they are no more than a connection's high watermark. Go's client took 5, and now as many as fit into
1 MiB of heads."""

_kept_for = re.compile(rb"(?i)(?:^|\n)keep-alive:[^\r]*?\btimeout[ \t]*=[ \t]*\"?([0-9]{1,9})").search
_speaks_tls = re.compile(rb"[\x14-\x17]\x03[\x00-\x04]").match


class BodyChannel(Channel[bytes]):
    """A body on its way through this process: a channel of bytes, with the trailers that came at its end."""

    __slots__ = ("trailers",)

    def __init__(self, capacity: int | None = None) -> None:
        super().__init__(STREAM_CAPACITY if capacity is None else capacity, weigh=len)
        self.trailers = NO_HEADERS


class Upload:
    """A request's body that comes through a channel. `length` in bytes, or None: chunked."""

    __slots__ = ("body", "length", "sent")

    def __init__(self, body: Channel[bytes], length: int | None = None) -> None:
        self.body = body
        self.length = length
        self.sent = 0

    def wrong_length(self) -> ValueError:
        """What is wrong when `sent` is not `length`."""
        return ValueError(
            f"the body has {self.sent} bytes or more, not the {self.length} that were announced"
        )


class Http:
    """Stands for HTTP where the type checker asks what a unit is for."""


class HttpUnit(Unit[T, Http]):
    """What the wire needs to know of a request, and what it tells it."""

    __slots__ = ()

    method: str
    upload: Upload | None = None
    streamed: bool = False
    """Whether the reply settles with the head, and a body that is not there yet goes through a channel."""

    def encode(self, host_line: bytes) -> bytes:
        """The request as bytes; of one with an upload, its head."""
        raise NotImplementedError

    def dropped(self) -> None:
        """The upload will not be read."""
        if self.upload is not None:
            self.upload.body.cancel()

    def whole(self, head: ResponseHead, body: bytes, trailers: Headers = NO_HEADERS) -> T:
        """What the reply settles with, from a complete response."""
        raise NotImplementedError

    def begun(self, head: ResponseHead, body: BodyChannel) -> T:
        """What the reply settles with, from a head whose body goes through a channel."""
        raise NotImplementedError

    def interim(self, head: ResponseHead) -> None:
        """A 1xx response came first. Ignored, unless it is passed on."""

    def switched(self, head: ResponseHead) -> tuple[T, StreamProtocol]:
        """101: what the reply settles with, and who takes the connection. Raises if it was not asked for."""
        raise BadResponse("the backend switches protocols unasked")


class HttpWire(Wire):
    """HTTP/1.1 over one connection of a pool."""

    __slots__ = (
        "_body_timeout",
        "_channel",
        "_decoder",
        "_head",
        "_heads",
        "_host_line",
        "_hosts",
        "_gather_max",
        "_interims",
        "_limits",
        "_pieces",
        "_scanned",
        "_skipped",
        "_upload",
    )

    takes = HttpUnit
    spares_behind = True

    def __init__(
        self,
        hosts: Mapping[str, bytes],
        limits: Limits,
        body_timeout: float,
        heads: KeptHeads,
    ) -> None:
        super().__init__()
        self._heads = heads
        self._hosts = hosts
        self._host_line = b""
        self._limits = limits
        self._gather_max = NO_LIMIT if limits.body_bytes is None else limits.body_bytes
        self._body_timeout = body_timeout
        self._scanned = 0
        self._head: ResponseHead | None = None  # of the response whose body is being received
        self._decoder: BodyDecoder | None = None
        self._pieces: list[bytes] = []
        self._skipped = 0  # bytes of this body that nobody wanted
        self._interims: tuple[Work[Any] | None, int] = (None, 0)  # how many came before whose final answer
        self._channel: BodyChannel | None = None
        self._upload: Upload | None = None

    def __repr__(self) -> str:
        receiving = (
            f"receiving {self._head!r} {self._decoder!r}" if self._head is not None else "between responses"
        )
        return f"<HttpWire {receiving}{', sending a body' if self._upload is not None else ''}>"

    def start(self) -> Expectation | None:
        """HTTP has no greeting."""
        self._host_line = self._hosts[str(self.connection.backend.address)]
        return super().start()

    # -- requests ----------------------------------------------------------------------------------------

    def send(self, work: Work[Any]) -> None:
        """Write the request; a body from a channel follows as it comes."""
        unit: HttpUnit[Any] = work.unit
        self.transport.write(unit.encode(self._host_line))
        upload = unit.upload
        if upload is not None:
            self._upload = upload
            self.writable = False
            upload.body.attach_receiver(self.transport.scope)
            self.connection.wake()

    def _pump(self) -> None:
        """Move the upload on."""
        upload = self._upload
        if upload is None:
            return
        body, transport = upload.body, self.transport
        while len(body) and not transport.congested:
            piece = body.take()
            upload.sent += len(piece)
            if upload.length is not None and upload.sent > upload.length:  # or it would be the next request
                self._break_off(upload.wrong_length())
                return
            transport.write(encode_chunk(piece) if upload.length is None else piece)
        if body.ended:
            self._end_upload(upload)

    def _end_upload(self, upload: Upload) -> None:
        error = upload.body.error
        if error is None and upload.length is not None and upload.sent != upload.length:
            error = upload.wrong_length()
        if error is not None:
            self._break_off(error)
            return
        if upload.length is None:
            self.transport.write(encode_last_chunk(getattr(upload.body, "trailers", NO_HEADERS)))
        self._upload = None
        self.writable = True

    def _break_off(self, error: BaseException) -> None:
        lost = ConnectionLost(
            "the request's body was not completed; the connection was closed in the middle of it"
        )
        lost.__cause__ = error
        self.connection.break_off(lost)

    def _waiting(self) -> Expectation:
        """What to read and what to be told, as things stand: the one place that says so once a body moves."""
        reading: Bytes | Sleep = ANYTHING
        if self._head is not None:
            if self._blocked:
                reading = SLEEP
            elif self.transport.input:  # a part of a chunk's line: the decoder needs more behind it
                reading = Bytes(len(self.transport.input) + 1)
        if self._upload is not None and len(self._upload.body):  # `_pump` has stopped for a full output
            return (reading, DRAINED)
        return reading

    @property
    def _blocked(self) -> bool:
        return self._channel is not None and not self._channel.writable

    # -- responses ---------------------------------------------------------------------------------------

    def received(self) -> Expectation | None:
        """Responses, or a part of one."""
        return self._read_heads() if self._head is None else self._read_body()

    # structure: complexity 18: hot loop; the jobs proxy-2x64 and asyncio-1x32, which settle many in one turn
    def _read_heads(self) -> Expectation | None:
        """Settle what is complete in the input. The hot path of a client."""
        transport = self.transport
        connection = self.connection
        data = transport.input
        heads = self._heads
        size = len(data)
        start = 0
        work = connection.current
        while start < size:
            if work is None:
                raise BadResponse(f"the backend sent {bytes(data[start : start + 64])!r} unasked")
            unit: HttpUnit[Any] = work.unit
            if data.startswith(heads.last, start) and unit.method != "HEAD":
                head, kept_for = heads.last_value
                start += len(heads.last)
            else:
                found = self._next_head(data, start, unit.method)
                if found is None:
                    transport.consume(start)
                    self._scanned = size - start
                    return None
                head, kept_for, start = found
            if kept_for is not None:
                self.keep_alive = kept_for
            self._scanned = 0
            if head.status < 200:
                if head.status == 101:
                    transport.consume(start)
                    return self._switch(work, head)
                self._interim(work, head)
                continue
            length = head.length
            end = start + length
            if length < 0 or end > size or length > self._gather_max:
                transport.consume(start)
                self._begin_body(work, head)
                return self._read_body()
            body: Any = data[start:end]
            if body.__class__ is bytearray:
                body = bytes(body)
            start = end
            reusable = head.keep_alive and self._upload is None
            if start == size:
                transport.input = b""
            elif not reusable:
                transport.consume(start)
            work = connection.settle(None if work.settled else unit.whole(head, body), reusable)
            if not reusable:
                return None
        transport.input = b""
        return None

    def _interim(self, work: Work[Any], head: ResponseHead) -> None:
        """A 1xx came first: one of not too many."""
        before, count = self._interims
        count = count + 1 if before is work else 1
        if count > INTERIM_MAX:
            raise BadResponse(f"the backend sent more than {INTERIM_MAX} interim answers and no final one")
        self._interims = (work, count)
        if not work.settled:
            unit: HttpUnit[Any] = work.unit
            unit.interim(head)

    def _next_head(
        self, data: bytes | bytearray, start: int, method: str
    ) -> tuple[ResponseHead, float | None, int] | None:
        """The head at `start`, one that came before or a new one, how long its connection may be idle, and
        its end; None if it is incomplete."""
        end = data.find(BLANK_LINE, start) + len(BLANK_LINE)
        kept = end >= len(BLANK_LINE) and method != "HEAD"  # whose answers are framed otherwise
        lines = bytes(data[start:end]) if kept else b""
        known = self._heads.find(lines)
        if known is not None:
            return *known, end
        head = self._parse(data, start, method)
        if head is None:
            return None
        seconds = seconds_kept(head.block)
        if kept and is_plain_response(lines):
            self._heads.keep(lines, (head, seconds))
        return head, seconds, head.end

    def _parse(self, data: bytes | bytearray, start: int, method: str) -> ResponseHead | None:
        """A head that is new. What is not HTTP is an error of the pool's from here on."""
        try:
            return parse_response_head(data, start, self._limits, method, self._scanned)
        except Malformed as error:
            if not _speaks_tls(data, start):
                raise BadResponse(error.reason) from None
            where = self.connection.backend.address
            raise BadResponse(
                f"{where} speaks TLS, but was contacted without it; write https://{where}"
            ) from None

    def _begin_body(self, work: Work[Any], head: ResponseHead) -> None:
        self._head = head
        self._decoder = body_decoder(head.length, self._limits, BadResponse)

    def _stream(self, work: Work[Any]) -> BodyChannel:
        """Settle with the head; the body follows."""
        assert self._head is not None
        unit: HttpUnit[Any] = work.unit
        self._channel = channel = BodyChannel()
        channel.attach_sender(self.transport.scope)
        self.connection.answer(unit.begun(self._head, channel))
        return channel

    def _read_body(self) -> Expectation | None:
        transport, decoder, channel = self.transport, self._decoder, self._channel
        assert decoder is not None
        assert self._head is not None
        pieces: list[bytes] = []
        transport.consume(decoder.feed(transport.input, 0, pieces))
        if channel is None:
            work = self.connection.current
            assert work is not None
            if work.unit.streamed and not work.settled:  # only now: what is no body is no answer either
                channel = self._stream(work)
        if channel is None:
            if not self._gather(pieces, decoder):
                return None
        elif channel.ended:
            return self._unwanted(decoder)
        elif pieces:
            channel.put(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if decoder.done or (
            transport.ended and not transport.input and not transport.cut_off and decoder.finish()
        ):
            return self._end_body(decoder)
        if self._blocked:
            # The reader's pace is not the backend's fault; but a forgotten body must not hold it for ever.
            self.deadline = transport.scope.now + READER_SECONDS
        elif transport.ended:
            self.connection.close(ConnectionResetError(self._cut_short(decoder)))
        elif pieces or self.deadline == NEVER:
            self.deadline = transport.scope.now + self._body_timeout
        return self._waiting()

    def _cut_short(self, decoder: BodyDecoder) -> str:
        if self.transport.cut_off and decoder.finish():
            return (
                "the connection was cut off (by a reset, or TLS without close_notify), and the body with it"
            )
        return "the backend closed the connection in the middle of a body"

    def _gather(self, pieces: list[bytes], decoder: BodyDecoder) -> bool:
        """Keep the pieces, or skip them if nobody waits; false if that was given up with the connection."""
        work = self.connection.current
        assert work is not None
        if not work.settled:
            if decoder.received > self._gather_max:
                limit = self._limits.body_bytes
                raise BadResponse(
                    f"the response's body is larger than {limit} bytes; raise Limits.body_bytes, or stream it"
                )
            self._pieces += pieces
            return True
        self._skipped += sum(map(len, pieces))
        if self._skipped <= SKIP_MAX and self._left(decoder) <= SKIP_MAX:
            return True
        self._forget()
        self.connection.finish(reusable=False)
        return False

    def _left(self, decoder: BodyDecoder) -> int:
        """How many bytes of the body are still to come; 0 if nobody knows."""
        assert self._head is not None
        return max(0, self._head.length - decoder.received)

    def _unwanted(self, decoder: BodyDecoder) -> Expectation | None:
        """The reader has gone: read a short rest for the connection's sake, close it over a long one."""
        if decoder.done:
            return self._end_body(decoder)
        if not 0 < self._left(decoder) <= SKIP_MAX:
            self._forget()
            self.connection.finish(reusable=False)
            return None
        self._channel = None
        self.deadline = self.transport.scope.now + self._body_timeout
        return self._waiting()

    def _end_body(self, decoder: BodyDecoder) -> Expectation:
        head, channel, pieces = self._head, self._channel, self._pieces
        assert head is not None
        connection = self.connection
        work = connection.current
        assert work is not None
        reusable = head.keep_alive and self._upload is None and not self.transport.ended
        self._forget()
        if channel is not None:
            channel.trailers = decoder.trailers
            channel.close()
        if work.settled:
            connection.settle(None, reusable)
        else:
            unit: HttpUnit[Any] = work.unit
            connection.settle(unit.whole(head, b"".join(pieces), decoder.trailers), reusable)
        return ANYTHING  # what is in the input already comes at once

    def _forget(self) -> None:
        self._head = self._decoder = self._channel = None
        self._pieces = []
        self._skipped = 0
        self.deadline = NEVER

    def _switch(self, work: Work[Any], head: ResponseHead) -> Expectation | None:
        if self._upload is not None:
            raise BadResponse("the backend switches protocols in the middle of a request")
        pool = self.connection.pool
        refusal = pool.tunnels.refusal(pool)
        if refusal is not None:
            self.connection.break_off(refusal)
            return None
        unit: HttpUnit[Any] = work.unit
        value, protocol = unit.switched(head)
        self.connection.answer(value)
        self.connection.hand_over(protocol)
        return None

    # -- what else happens -------------------------------------------------------------------------------

    def flushed(self) -> Expectation | None:
        """Room for more of the upload."""
        self._pump()
        return self._waiting()

    def wakeup(self) -> Expectation | None:
        """The upload has more, or the reader of the body has made room or has gone."""
        sending = self._upload is not None
        self._pump()
        if self._channel is not None and self._channel.writable:
            return self._read_body()
        return self._waiting() if sending else None

    def ended(self) -> Expectation | None:
        """The backend's end: the proper one of a body that lasts until then, or a truncation."""
        if self._decoder is None:
            return None
        if self._blocked:
            return self._waiting()  # what is left is read when there is room
        return self._read_body()

    def abandoned(self, work: Work[Any]) -> None:
        """The answer is not wanted: let its body go by."""
        if work is self.connection.current:
            self._pieces.clear()

    def closed(self, error: BaseException | None) -> None:
        """Tell the reader of a body that was cut off, and the source of one that was being sent."""
        channel, upload = self._channel, self._upload
        self._forget()
        self._upload = None
        self.transport.input = b""  # of no interest: there is nothing to linger for
        self.transport.take_output()  # nor to be sent: what has not left is taken back, or was given up
        if channel is not None:
            lost = ConnectionLost("the connection was lost in the middle of the response's body")
            lost.__cause__ = error
            channel.close(lost)
        if upload is not None:
            upload.body.cancel()


def seconds_kept(block: bytes) -> float | None:
    """How long a connection may be idle and still be used, by what a backend says of itself (Keep-Alive, RFC
    2068 section 19.7.1), less what a request takes to get there; None if it says nothing."""
    found = _kept_for(block)
    if found is None:
        return None
    seconds = float(found[1])
    return max(seconds - KEPT_LESS, seconds / 2)
