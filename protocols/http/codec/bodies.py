r"""Bodies, in and out: what a head's `length` announced, taken from a buffer piece by piece.

A decoder keeps numbers, never bytes: what it cannot use yet stays in the caller's buffer. `feed` appends
payload to a list and says how far it came; `finish` is told that the connection ended and knows whether
that truncates the body (RFC 9112 section 8), so no caller can take an aborted body for a complete one.

Chunks are read strictly (RFC 9112 section 7.1): CRLF only, hexadecimal digits only, at most 16 of them,
extensions well-formed and bounded. Every laxness here has been used to smuggle a request. A backend smuggles
none: from it is taken what a recipient has to take, white space around what stands in a chunk's line, and
folded trailers.
"""

from .errors import BadRequest, BadResponse
from .grammar import (
    first_size,
    first_size_lenient,
    is_field_line,
    is_folded_line,
    next_size,
    next_size_lenient,
    unfold,
)
from .head import CHUNKED, UNTIL_CLOSE, field_fault
from .headers import NO_HEADERS, Headers
from .limits import Limits

__all__ = [
    "FORBIDDEN_TRAILERS",
    "LAST_CHUNK",
    "BodyDecoder",
    "ChunkedDecoder",
    "LengthDecoder",
    "body_decoder",
    "encode_chunk",
    "encode_last_chunk",
]

LAST_CHUNK = b"0\r\n\r\n"

FORBIDDEN_TRAILERS = frozenset(
    {
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "max-forwards",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "www-authenticate",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    }
)
"""What frames, routes, authenticates or says how to read a message comes too late in a trailer (RFC 9110
section 6.5.1). Such fields are dropped when received and refused when sent."""

_TRAILERS = -1
"""In place of bytes left of a chunk: the last chunk was read, trailers are next."""


class BodyDecoder:
    """What all decoders share: `feed` until `done`."""

    __slots__ = ("done", "received")

    def __init__(self) -> None:
        self.done = False
        """The body is complete; `feed` takes no more."""
        self.received = 0
        """Bytes of payload so far."""

    @property
    def trailers(self) -> Headers:
        """What came after a chunked body; of any other, nothing."""
        return NO_HEADERS

    def feed(self, buffer: bytes | bytearray, start: int, into: list[bytes]) -> int:
        """Append the payload found in `buffer` from `start` on to `into`; return the offset just past what
        was used up. The rest must be given again, with more behind it."""
        raise NotImplementedError

    def finish(self) -> bool:
        """The connection has ended: was that a proper end of the body? `done` if so."""
        return self.done


class LengthDecoder(BodyDecoder):
    """A body of `length` bytes, or one that lasts `UNTIL_CLOSE`."""

    __slots__ = ("_length",)

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length = length
        self.done = length == 0

    def feed(self, buffer: bytes | bytearray, start: int, into: list[bytes]) -> int:
        """Take what belongs to the body (see `BodyDecoder.feed`)."""
        stop = len(buffer)
        if self._length != UNTIL_CLOSE:
            stop = min(stop, start + self._length - self.received)
        if stop > start:
            into.append(bytes(memoryview(buffer)[start:stop]))
            self.received += stop - start
            self.done = self.received == self._length
        return stop

    def finish(self) -> bool:
        """An end is proper after `length` bytes, and always if the body lasts until then."""
        self.done = self.done or self._length == UNTIL_CLOSE
        return self.done

    def __repr__(self) -> str:
        length = "?" if self._length == UNTIL_CLOSE else self._length
        return f"<LengthDecoder {self.received}/{length}{' done' if self.done else ''}>"


class ChunkedDecoder(BodyDecoder):
    """A chunked body. `fault` is raised, with a reason, when it is not well-formed: `BadRequest` when a
    client sends it, `BadResponse` when a backend does, which is read more leniently."""

    __slots__ = (
        "_begun",
        "_fault",
        "_left",
        "_lenient",
        "_limits",
        "_size_line",
        "_trailer_bytes",
        "_trailer_lines",
        "_trailers",
    )

    def __init__(self, limits: Limits, fault: type[BadRequest] | type[BadResponse]) -> None:
        super().__init__()
        self._limits = limits
        self._fault = fault
        self._left = 0
        self._lenient = issubclass(fault, BadResponse)
        self._begun = False  # a chunk was read
        self._size_line = first_size_lenient if self._lenient else first_size
        self._trailer_bytes = 0
        self._trailer_lines: list[bytes] = []
        self._trailers = NO_HEADERS

    @property
    def trailers(self) -> Headers:
        """The trailer fields, without those that are forbidden there; none before all have come."""
        return self._trailers

    def feed(self, buffer: bytes | bytearray, start: int, into: list[bytes]) -> int:
        """Take whole lines and what there is of payload (see `BodyDecoder.feed`)."""
        if self.done:
            return start
        size = len(buffer)
        while self._left != _TRAILERS:
            left = self._left
            if left:
                stop = min(size, start + left)
                if stop > start:
                    into.append(bytes(memoryview(buffer)[start:stop]))
                    self.received += stop - start
                    self._left = left - (stop - start)
                    start = stop
                if self._left:
                    return start
            line = self._size_line(buffer, start)
            if line is None or line.end() - line.start(1) > self._limits.chunk_line_bytes:
                self._check_partial_size(buffer, start)
                return start
            start = line.end()
            if not self._begun:
                self._begun = True
                self._size_line = next_size_lenient if self._lenient else next_size
            self._left = int(line[1], 16) or _TRAILERS
        return self._feed_trailers(buffer, start)

    def _check_partial_size(self, buffer: bytes | bytearray, start: int) -> None:
        """Raise unless what is in the buffer can still become a size line."""
        head = bytes(buffer[start : start + self._limits.chunk_line_bytes + 3])
        if self._begun:
            if not head.startswith(b"\r\n"):
                if head in (b"", b"\r"):
                    return
                raise self._fault("a chunk is not followed by CRLF")
            head = head[2:]
        if head and head[:1] not in b"0123456789abcdefABCDEF":
            raise self._fault("a chunk's size is not hexadecimal")
        newline = head.find(b"\n")
        limit = self._limits.chunk_line_bytes
        if newline >= limit or (newline < 0 and len(head) >= limit):
            raise self._fault(f"a chunk's size line is longer than {limit} bytes")
        if newline >= 0:
            raise self._fault("a chunk's size line is not hexadecimal digits, extensions and CRLF")

    def _feed_trailers(self, buffer: bytes | bytearray, start: int) -> int:
        """Trailer lines are taken one at a time, so that none is looked at twice."""
        lines = self._trailer_lines
        while True:
            newline = buffer.find(b"\n", start)
            stop = len(buffer) if newline < 0 else newline + 1
            if self._trailer_bytes + stop - start > self._limits.trailer_bytes:
                raise self._fault(f"the trailers are larger than {self._limits.trailer_bytes} bytes")
            if newline < 0:
                return start
            line = bytes(buffer[start:stop])
            self._trailer_bytes += stop - start
            start = stop
            if line == b"\r\n":
                self.done = True
                self._trailers = _permitted(lines)
                return start
            if is_field_line(line) is None and not (lines and self._lenient and is_folded_line(line)):
                raise self._fault("in the trailers, " + field_fault(line))
            if len(lines) >= self._limits.trailers:
                raise self._fault(f"there are more than {self._limits.trailers} trailers")
            lines.append(line)

    def __repr__(self) -> str:
        if self.done:
            state = "done"
        else:
            state = "in trailers" if self._left == _TRAILERS else f"{self._left} left of this chunk"
        return f"<ChunkedDecoder {self.received} received, {state}>"


def _permitted(lines: list[bytes]) -> Headers:
    """Trailers from their lines, unfolded, without the forbidden ones."""
    if not lines:
        return NO_HEADERS
    fields = unfold(b" ", b"".join(lines)).splitlines(keepends=True)
    kept = [line for line in fields if line.partition(b":")[0].decode().lower() not in FORBIDDEN_TRAILERS]
    return Headers.from_block(b"".join(kept)) if kept else NO_HEADERS


def body_decoder(length: int, limits: Limits, fault: type[BadRequest] | type[BadResponse]) -> BodyDecoder:
    """The decoder for a head's `length`: a number of bytes, `CHUNKED` or `UNTIL_CLOSE`."""
    return ChunkedDecoder(limits, fault) if length == CHUNKED else LengthDecoder(length)


def encode_chunk(data: bytes) -> bytes:
    """`data` as one chunk; nothing for no data, since an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def encode_last_chunk(trailers: Headers = NO_HEADERS) -> bytes:
    """What ends a chunked body. `ValueError` for a trailer that may not be one (`FORBIDDEN_TRAILERS`)."""
    for name, _ in trailers:
        if name.lower() in FORBIDDEN_TRAILERS:
            raise ValueError(f"{name!r} may not be sent as a trailer: send it as a header, before the body")
    return b"0\r\n%b\r\n" % trailers.block
