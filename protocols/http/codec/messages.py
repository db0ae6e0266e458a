"""A response as programs see it, and the way of messages to bytes.

Header names and values are checked when a message is made, never when it is sent: what is sent is either a
block that a parser validated or one that `Headers` did. Framing belongs to the encoder: it writes
Content-Length or Transfer-Encoding by the body it was given and leaves out whatever the headers say of it
(RFC 9112 section 6), so an answer of a backend can be handed on as it is.
"""

import re
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, overload

import msgspec

from .bodies import encode_chunk, encode_last_chunk
from .grammar import is_name, is_target
from .head import CHUNKED, ResponseHead
from .headers import NO_HEADERS, Headers, HeadersLike

__all__ = [
    "BODILESS",
    "CLOSE_LINE",
    "KEEP_ALIVE_LINE",
    "REASONS",
    "Response",
    "Writes",
    "checked_body",
    "date_line",
    "decode_text",
    "encode_request",
    "encode_request_head",
    "encode_response",
    "encode_response_head",
    "encode_valid_request",
    "json_response",
    "text_response",
    "validate_method",
    "validate_target",
    "write_response",
]

T = TypeVar("T")

REASONS: dict[int, str] = {int(status): status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",  # the names of RFC 9110, which Python 3.11 does not have yet
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
"""Status to reason phrase (RFC 9110 section 15)."""

CLOSE_LINE = b"Connection: close\r\n"
KEEP_ALIVE_LINE = b"Connection: keep-alive\r\n"

SHARED_MIN: Final = 1 << 16
"""Bytes of a body: a larger one is written by itself. Up to that, one send takes it with its head anyway."""

_STATUS_LINES = {status: f"HTTP/1.1 {status} {reason}\r\n".encode() for status, reason in REASONS.items()}
BODILESS = frozenset({204, 304})
"""Final statuses whose answer has no body and no length of one."""
_BODIED = {s: line for s, line in _STATUS_LINES.items() if s >= 200 and s not in (204, 205, 304)}
_LENGTHS_KEPT = 1024
_LENGTHS = [b"Content-Length: %d\r\n\r\n" % length for length in range(_LENGTHS_KEPT)]
_BODY_EXPECTED = frozenset({"POST", "PUT", "PATCH"})
_USUAL_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CHUNKED_END = b"Transfer-Encoding: chunked\r\n\r\n"

_charset = re.compile(r"(?i);[ \t]*charset=\"?([!#$%&'*+.^_`|~0-9a-z-]+)").search


def validate_method(method: str) -> str:
    """Return `method` if it is a token (RFC 9110 section 9.1), else raise `ValueError`."""
    if method not in _USUAL_METHODS and is_name(method) is None:
        raise ValueError(f"method {method!r} is not a token: use letters, as in 'GET'")
    return method


def validate_target(target: str) -> str:
    """Return `target` if it can stand in a request line, else raise `ValueError`."""
    if is_target(target) is None:
        raise ValueError(
            f"target {target!r} is not visible ASCII without '#': percent-encode it (urllib.parse.quote)"
        )
    return target


def decode_text(headers: Headers, body: bytes) -> str:
    """The body as text, by the charset of Content-Type or UTF-8. Raises `ValueError` if it is not."""
    found = _charset(headers.get("content-type") or "")
    name = found[1] if found else "utf-8"
    try:
        return body.decode(name)
    except LookupError:
        raise ValueError(f"the body's charset {name!r} is not known here: decode `body` yourself") from None


def checked_body(body: bytes | bytearray | memoryview) -> bytes:
    """A body as bytes. Raises `TypeError` for anything else."""
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    kind = type(body).__name__
    raise TypeError(f"a body is bytes, not {kind}: encode it, or use json_response or text_response")


class Writes(Protocol):
    """Where a message is written, piece by piece: a transport, or anything with this method."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""


class Response(msgspec.Struct, eq=False):
    """One response, with its whole body: what a handler returns and what a client gets.

    Raises `ValueError` or `TypeError` for a status, headers or a body that cannot be sent.
    """

    status: int = 200
    headers: Headers = NO_HEADERS
    body: bytes = b""
    trailers: Headers = NO_HEADERS
    reason: str = ""
    """The reason phrase as it was received; of what is sent here, it comes from `REASONS`."""

    if TYPE_CHECKING:

        def __init__(
            self,
            status: int = 200,
            headers: HeadersLike = NO_HEADERS,
            body: bytes = b"",
            trailers: Headers = NO_HEADERS,
            reason: str = "",
        ) -> None: ...

    def __post_init__(self) -> None:
        if not 100 <= self.status <= 999:
            raise ValueError(f"status {self.status!r} is not a number from 100 to 999")
        if self.headers.__class__ is not Headers:
            self.headers = Headers(self.headers)
        if self.body.__class__ is not bytes:
            self.body = checked_body(self.body)

    @classmethod
    def from_head(cls, head: ResponseHead, body: bytes = b"", trailers: Headers = NO_HEADERS) -> "Response":
        """The response that a parsed head and its body make."""
        return cls(head.status, head.headers, body, trailers, head.reason)

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, type: type[T]) -> T: ...
    def json(self, type: Any = Any) -> Any:
        """The body as JSON, validated as `type`. Raises `msgspec.DecodeError` if it is not that."""
        return msgspec.json.decode(self.body, type=type)

    def text(self) -> str:
        """The body as text, by the charset of Content-Type or UTF-8. Raises `ValueError` if it is not."""
        return decode_text(self.headers, self.body)

    def __repr__(self) -> str:
        return f"<Response {self.status} {len(self.body)} bytes of body>"


_JSON = Headers({"Content-Type": "application/json"})
_TEXT = Headers({"Content-Type": "text/plain; charset=utf-8"})


def json_response(obj: object, status: int = 200, headers: HeadersLike | None = None) -> Response:
    """A response with `obj` as JSON: whatever msgspec encodes. `headers` are added, or replace the type."""
    return Response(status, _JSON if headers is None else _JSON.with_(headers), msgspec.json.encode(obj))


def text_response(text: str, status: int = 200, headers: HeadersLike | None = None) -> Response:
    """A response with `text` as UTF-8. `headers` are added, or replace the type."""
    return Response(status, _TEXT if headers is None else _TEXT.with_(headers), text.encode())


def date_line(unix_seconds: float) -> bytes:
    """The Date header (RFC 9110 section 6.6.1): make it once a second and pass it in `lines`."""
    return b"Date: %b\r\n" % formatdate(unix_seconds, usegmt=True).encode()


@lru_cache(maxsize=256)
def _status_line(status: int, reason: str = "") -> bytes:
    line = None if reason else _STATUS_LINES.get(status)
    return line or f"HTTP/1.1 {status} {reason}\r\n".encode("latin-1")


def _framing(length: int | None) -> bytes:
    if length == CHUNKED:
        return _CHUNKED_END
    return b"\r\n" if length is None or length < 0 else b"Content-Length: %d\r\n\r\n" % length


def encode_response_head(
    status: int, block: bytes, length: int | None, lines: bytes = b"", reason: str = ""
) -> bytes:
    """A response's head, for a body that follows piece by piece.

    `block`: validated lines without framing (`Headers.end_to_end`, `forwardable(…, framing=True)`); `length`:
    bytes of body, `CHUNKED`, `UNTIL_CLOSE`, or None to say nothing (the answer to HEAD, when the block says
    it); `lines`: what the server adds (Date, Connection); `reason`: validated, else from `REASONS`. A 1xx,
    204 or 304 gets no framing whatever `length` is (RFC 9110 section 8.6), a 205 is empty (section 15.3.6).
    """
    if status < 200 or status in BODILESS:
        length = None
    elif status == 205:
        length = 0
    return b"%b%b%b%b" % (_status_line(status, reason), lines, block, _framing(length))


class Written(list[bytes]):
    """What is written, kept in pieces."""

    __slots__ = ()

    write = list.append


def encode_response(response: Response, lines: bytes = b"", method: str = "GET", minor: int = 1) -> bytes:
    """What `write_response` writes. Raises `ValueError` as it does."""
    written = Written()
    write_response(written, response, lines, method, minor)
    return b"".join(written)


def write_response(
    transport: Writes, response: Response, lines: bytes = b"", method: str = "GET", minor: int = 1
) -> None:
    """A whole response to a `method` request of HTTP/1.`minor`, head and body. `lines` are what the server
    adds: Date, Connection. The hot path of a server.

    HEAD gets the length but no body; 204 and 304 get neither. 205 has an empty one (RFC 9110 section 15.3.6).
    A 2xx to CONNECT begins a tunnel, which has no length (section 9.3.6). Trailers make the body chunked, and
    are left out for HTTP/1.0. A large body is not copied behind its head: all clients that are sent it share
    the bytes. Raises `ValueError` for a 1xx, which answers nothing, before anything is written.
    """
    status = response.status
    body = response.body
    headers = response.headers
    block = headers._answer_block
    if block is None:
        block = headers.answer_block
    status_line = _BODIED.get(status)
    if status_line is None:
        if status < 200:
            raise ValueError(f"{status} is not a final status: a handler answers with 200 or more")
        if status in BODILESS or status == 205:
            transport.write(encode_response_head(status, block, 0, lines))
            return
        status_line = _status_line(status)
    if response.trailers is not NO_HEADERS and minor == 1 and method != "CONNECT":
        transport.write(_encode_with_trailers(response, lines, block, method))
        return
    length = len(body)
    framing = _LENGTHS[length] if length < _LENGTHS_KEPT else _framing(length)
    if method != "GET":
        if method == "HEAD":
            body = b""
        elif method == "CONNECT" and status < 300:
            framing, body = _framing(None), b""
    if length > SHARED_MIN and body:
        transport.write(b"".join((status_line, lines, block, framing)))
        transport.write(body)
    else:
        transport.write(b"".join((status_line, lines, block, framing, body)))


def _encode_with_trailers(response: Response, lines: bytes, block: bytes, method: str) -> bytes:
    head = encode_response_head(response.status, block, CHUNKED, lines)
    end = encode_last_chunk(response.trailers)
    return head if method == "HEAD" else head + encode_chunk(response.body) + end


def encode_request_head(method: str, target: str, block: bytes, length: int | None) -> bytes:
    """A request's head. `block`: validated lines with Host and without framing; `length`: bytes of body,
    `CHUNKED`, or None for a request without one. Raises `ValueError` for a bad method or target."""
    line = f"{validate_method(method)} {validate_target(target)} HTTP/1.1\r\n".encode()
    return b"%b%b%b" % (line, block, _framing(length))


def encode_request(method: str, target: str, block: bytes, body: bytes = b"") -> bytes:
    """A whole request. An empty body is announced only where one is usual: POST, PUT, PATCH (RFC 9110
    section 8.6). Otherwise as `encode_request_head`."""
    return encode_valid_request(validate_method(method), validate_target(target), block, body)


def encode_valid_request(method: str, target: str, block: bytes, body: bytes) -> bytes:
    """As `encode_request`, of a method and a target that were validated before."""
    length = len(body) if body or method in _BODY_EXPECTED else None
    return b"%b%b%b%b" % (f"{method} {target} HTTP/1.1\r\n".encode(), block, _framing(length), body)
