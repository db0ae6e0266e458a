r"""Heads of requests and responses: bytes in, facts out. The hot path of everything HTTP.

How it is fast without trusting anything:

1. One compiled pattern checks *every* byte of a head (`grammar`). A second one finds the six headers that
   decide framing and routing. The rest stays a block of validated bytes, which a proxy passes on and which is
   split only on demand (`Headers`).
2. What follows from those six headers is worked out once for each combination of them and remembered
   (`lru_cache`, bounded): connections repeat themselves.
3. Whatever the pattern does not take (an incomplete head, a rare form, nonsense) goes the slow way, line
   by line. Only the slow way says what is wrong, and it decides in the order of the bytes, so a head gets
   the same answer however it was cut into pieces. Each line is looked at once: a caller that got `None`
   passes as `scanned` the length of the buffer it had, and nothing is gone over twice.

Rules: RFC 9112 sections 2 to 6 and 11 (smuggling), RFC 9110 sections 5 to 7. Where they leave a choice, a
client's ambiguous message is refused, since what two programs read differently is how requests are smuggled.
From a backend is taken what the RFCs tell a recipient to take, and put in order before anybody sees it:
folded fields are unfolded, a Content-Length that is repeated stands once.
"""

from collections.abc import Callable
from functools import lru_cache

import msgspec
from msgspec.structs import force_setattr

from .errors import BadRequest, BadResponse, HttpError
from .grammar import (
    absolute_form,
    begins_request,
    host_line,
    is_authority,
    is_field_line,
    is_folded_line,
    is_host,
    is_length,
    is_token,
    length_line,
    quick_request,
    quick_response,
    request_line,
    special_of_request,
    special_of_response,
    status_line,
    unfold,
)
from .headers import HOP_BY_HOP, Headers, connection_options, forwardable
from .limits import Limits

__all__ = [
    "CHUNKED",
    "HOP_BY_HOP",
    "UNTIL_CLOSE",
    "RequestHead",
    "ResponseHead",
    "field_fault",
    "forwardable",
    "parse_request_head",
    "parse_response_head",
]

CHUNKED = -1
"""As a body's `length`: it comes in chunks."""
UNTIL_CLOSE = -2
"""As a response body's `length`: it ends where the connection does."""

LEADING_BLANK_LINES_MAX = 2
"""How many CRLF before a request are passed over (RFC 9112 section 2.2 asks for at least one)."""
CONNECTION_OPTIONS_MAX = 32
"""How many names Connection may list: each costs a proxy a look at every header."""
START_LINE_SLACK = 64
"""What a request line may have beside its target: method (the longest registered has 17) and version."""

_METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")}

_Special = tuple[tuple[bytes, bytes], ...]


class RequestHead(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A request's start line and what its headers say about routing and framing. Like any object that is one
    of a kind it can be a key: `Memo` keeps notes by it."""

    method: str
    target: str
    """In origin-form (`/path?query`), or `*`, or for CONNECT `host:port`. An absolute-form target was taken
    apart: its authority is in `host` and has replaced the Host line of `block` (RFC 9112 section 3.2.2)."""
    minor: int
    """0 for HTTP/1.0, 1 for HTTP/1.1 and what calls itself later (RFC 9110 section 6.2)."""
    block: bytes
    """The header lines, validated, without the blank one: `b"Host: x\\r\\nA: b\\r\\n"`."""
    end: int
    """Where the body begins in the buffer."""
    host: str
    """Who is asked, with the port if one was given; empty only in HTTP/1.0."""
    length: int
    """Bytes of body, 0 if there is none, or `CHUNKED`."""
    keep_alive: bool
    expect_continue: bool
    """The client waits for a 100 before it sends the body."""
    upgrade: str | None
    """The protocols asked for, if Connection lists the upgrade too."""
    connection: tuple[bytes, ...]
    """Names in Connection that `forwardable` must strip, beside those it always does."""
    _headers: Headers | None = None

    @property
    def headers(self) -> Headers:
        """All headers, split when first looked at."""
        headers = self._headers
        if headers is None:
            headers = Headers.from_block(self.block)
            force_setattr(
                self, "_headers", headers
            )  # it follows from `block`: nobody can tell the difference
        return headers

    def __repr__(self) -> str:
        return f"<RequestHead {self.method} {self.target} HTTP/1.{self.minor} {_framing_text(self)}>"


class ResponseHead(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A response's status line and what its headers, and the request's method, say about framing."""

    status: int
    reason: str
    minor: int
    """0 for HTTP/1.0, 1 for HTTP/1.1 and what calls itself later."""
    block: bytes
    """The header lines, validated, without the blank one."""
    end: int
    """Where the body begins in the buffer."""
    length: int
    """Bytes of body that follow, 0 if none do, `CHUNKED` or `UNTIL_CLOSE`."""
    keep_alive: bool
    upgrade: str | None
    """The protocol switched to, if Connection lists the upgrade too."""
    connection: tuple[bytes, ...]
    """Names in Connection that `forwardable` must strip, beside those it always does."""
    _headers: Headers | None = None

    @property
    def headers(self) -> Headers:
        """All headers, split when first looked at."""
        headers = self._headers
        if headers is None:
            headers = Headers.from_block(self.block)
            force_setattr(
                self, "_headers", headers
            )  # it follows from `block`: nobody can tell the difference
        return headers

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} HTTP/1.{self.minor} {_framing_text(self)}>"


def _framing_text(head: RequestHead | ResponseHead) -> str:
    length = {CHUNKED: "chunked", UNTIL_CLOSE: "until close"}.get(head.length, head.length)
    upgrade = f" upgrade={head.upgrade}" if head.upgrade else ""
    return f"length={length} {'keep-alive' if head.keep_alive else 'close'}{upgrade}"


def parse_request_head(
    buffer: bytes | bytearray, start: int, limits: Limits, scanned: int = 0
) -> RequestHead | None:
    """Parse the request head that begins at `start`; `None` if it is not complete yet.

    After a `None` pass the length the buffer had as `scanned`, then each byte is looked at once. Raises
    `BadRequest`, with the status to answer, as soon as the bytes can no longer become a valid head.
    """
    if not scanned:
        match = quick_request(buffer, start)
        if match is not None:
            verb, target, digit, lines, block = match.groups()
            method = _METHODS.get(verb)
            end = match.end()
            if (
                method is not None
                and end - start <= limits.head_bytes
                and len(target) <= limits.target_bytes
                and block.count(b"\n") <= limits.headers
            ):
                minor = 1 if digit == b"1" else 0
                host, length, keep_alive, expects, upgrade, connection = _request_framing(
                    tuple(special_of_request(lines)), minor
                )
                return RequestHead(
                    method, target.decode(), minor, block, end,
                    host, length, keep_alive, expects, upgrade, connection,
                )  # fmt: skip
    return _parse_request_slowly(buffer, start, limits, scanned)


def _parse_request_slowly(
    buffer: bytes | bytearray, start: int, limits: Limits, scanned: int
) -> RequestHead | None:
    begin = start
    while buffer.startswith(b"\r\n", begin) and begin - start < 2 * LEADING_BLANK_LINES_MAX:
        begin += 2
    first = bytes(buffer[begin : begin + 2])
    if first in (b"", b"\r"):
        return None
    if begins_request(first) is None:
        raise BadRequest("this does not begin like an HTTP request")
    line_max = min(limits.target_bytes + START_LINE_SLACK, limits.head_bytes)
    end = _scan(buffer, begin, limits, scanned, line_max, _check_request_line, BadRequest, folds=False)
    if end is None:
        return None
    line = request_line(buffer, begin)
    assert line is not None
    method = line[1].decode()
    target, authority = _resolve_target(method, line[2])
    minor = 0 if line[4] == b"0" else 1
    block = bytes(buffer[line.end() : end - 2])
    host, length, keep_alive, expects, upgrade, connection = _request_framing(
        tuple(special_of_request(b"\n" + block)), minor
    )
    if authority is not None:
        host = authority.decode()
        block = b"Host: %b\r\n%b" % (authority, host_line(b"", block))
    if method == "CONNECT":
        keep_alive = False  # what comes next may be the tunnel's already (RFC 9110 section 9.3.6)
    return RequestHead(
        method, target, minor, block, end, host, length, keep_alive, expects, upgrade, connection
    )


def _scan(
    buffer: bytes | bytearray,
    begin: int,
    limits: Limits,
    scanned: int,
    start_line_max: int,
    check_start_line: Callable[[bytes, Limits], None],
    refuse: Callable[[str, int], HttpError],
    *,
    folds: bool,
) -> int | None:
    """Check the complete lines of a head that were not `scanned` before; its end if it has one. `folds`: a
    field may go on in lines that begin with white space."""
    seen = max(begin, scanned)
    line_start = max(begin, buffer.rfind(b"\n", begin, seen) + 1)
    lines = buffer.count(b"\n", begin, line_start)
    while True:
        newline = buffer.find(b"\n", max(line_start, seen))
        stop = len(buffer) if newline < 0 else newline + 1
        if lines == 0 and stop - begin > start_line_max:
            raise refuse(f"the start line is longer than {start_line_max} bytes", 414)
        if stop - begin > limits.head_bytes:
            raise refuse(f"the head is larger than {limits.head_bytes} bytes", 431)
        if newline < 0:
            return None
        line = bytes(buffer[line_start:stop])
        if lines == 0:
            check_start_line(line, limits)
        elif line == b"\r\n":
            return stop
        elif lines > limits.headers:
            raise refuse(f"there are more than {limits.headers} headers", 431)
        elif is_field_line(line) is None and not (folds and lines > 1 and is_folded_line(line)):
            raise refuse(field_fault(line), 400)
        lines += 1
        line_start = stop


def _check_request_line(line: bytes, limits: Limits) -> None:
    parts = request_line(line)
    if parts is None:
        if not line.endswith(b"\r\n"):
            raise BadRequest("the request line ends in a bare LF")
        if b"#" in line:
            raise BadRequest("the target has a fragment, or a '#' in the wrong place")
        raise BadRequest("the request line is not 'METHOD target HTTP/1.1'")
    if parts[3] != b"1":
        raise BadRequest("only HTTP/1.1 and HTTP/1.0 are supported", 505)
    if len(parts[2]) > limits.target_bytes:
        raise BadRequest(f"the target is longer than {limits.target_bytes} bytes", 414)
    _resolve_target(parts[1].decode(), parts[2])


def _resolve_target(method: str, target: bytes) -> tuple[str, bytes | None]:
    """The target in origin-form and, if it named one, the authority (RFC 9112 section 3.2)."""
    if method == "CONNECT":
        if is_authority(target) is None:
            raise BadRequest("CONNECT needs a target of the form host:port")
        return target.decode(), target
    if target.startswith(b"/"):
        return target.decode(), None
    if target == b"*":
        if method != "OPTIONS":
            raise BadRequest("the target '*' is for OPTIONS only")
        return "*", None
    parts = absolute_form(target)
    if parts is None or is_host(parts[1]) is None:
        raise BadRequest("the target is neither a path nor an http URL with a proper host")
    path: bytes = parts[2] or b""
    if not path and method == "OPTIONS":
        return "*", parts[1]
    return (path if path.startswith(b"/") else b"/" + path).decode(), parts[1]


def field_fault(line: bytes) -> str:
    """What is wrong with a header line that is not valid, for a person (RFC 9112 section 5)."""
    name, colon, _ = line.partition(b":")
    if not line.endswith(b"\r\n"):
        return "a header line ends in a bare LF"
    if b"\r" in line[:-2]:
        return "a header line has a CR that is not followed by LF"
    if line[:1] in (b" ", b"\t"):
        return "a header line begins with white space: folded headers are not accepted"
    if not colon:
        return "a header line has no colon"
    if name.endswith((b" ", b"\t")):
        return "there is white space before a header's colon"
    if is_token(name) is None:
        return "a header's name is not a token"
    return "a header's value has a control character"


_Fields = dict[bytes, list[bytes]]


def _gather(special: _Special, refuse: Callable[[str], HttpError]) -> _Fields:
    fields: _Fields = {}
    for name, value in special:
        fields.setdefault(name.lower(), []).append(value.rstrip(b" \t"))
    if b"content_length" in fields or b"transfer_encoding" in fields:
        raise refuse("a framing header is spelled with an underscore, which some programs read as a hyphen")
    return fields


def _persistence(
    fields: _Fields, minor: int, refuse: Callable[[str], HttpError]
) -> tuple[bool, str | None, tuple[bytes, ...]]:
    """Whether the connection stays, the upgrade asked for, and what else Connection lists."""
    values = fields.get(b"connection")
    if values is None:
        return minor == 1, None, ()
    joined = b",".join(values).lower()
    if joined.count(b",") >= CONNECTION_OPTIONS_MAX:
        raise refuse(f"Connection lists more than {CONNECTION_OPTIONS_MAX} names")
    options = _elements(joined)
    if any(option and is_token(option) is None for option in options):
        raise refuse("Connection is not a list of names")
    keep_alive = b"close" not in options and (minor == 1 or b"keep-alive" in options)
    upgrade = None
    if minor == 1 and b"upgrade" in options:
        upgrade = b", ".join(fields.get(b"upgrade", ())).decode("latin-1") or None
    return keep_alive, upgrade, connection_options(joined)


def _elements(value: bytes) -> list[bytes]:
    return [element.strip(b" \t") for element in value.split(b",")]


@lru_cache(maxsize=256)
def _request_framing(
    special: _Special, minor: int
) -> tuple[str, int, bool, bool, str | None, tuple[bytes, ...]]:
    """Host, length, keep-alive, expect, upgrade and connection (RFC 9112 sections 3.2 and 6.3)."""
    fields = _gather(special, BadRequest)
    hosts = fields.get(b"host", [])
    if len(hosts) > 1:
        raise BadRequest("there is more than one Host header")
    if not hosts and minor == 1:
        raise BadRequest("the Host header is missing")
    if hosts and is_host(hosts[0]) is None:
        raise BadRequest("the Host header is not a host with an optional port")
    length = _request_length(fields, minor)
    expect = fields.get(b"expect", [])
    if minor == 1 and any(value.lower() != b"100-continue" for value in expect):
        raise BadRequest("the only expectation that can be met is 100-continue", 417)
    keep_alive, upgrade, connection = _persistence(fields, minor, BadRequest)
    host = hosts[0].decode() if hosts else ""
    return host, length, keep_alive, bool(expect and minor and length), upgrade, connection


def _request_length(fields: _Fields, minor: int) -> int:
    lengths = fields.get(b"content-length", [])
    if b"transfer-encoding" in fields:
        if lengths:
            raise BadRequest("Transfer-Encoding and Content-Length contradict each other")
        if minor == 0:
            raise BadRequest("HTTP/1.0 has no Transfer-Encoding")
        codings = _elements(b",".join(fields[b"transfer-encoding"]).lower())
        if codings[-1] != b"chunked" or b"" in codings:
            raise BadRequest("the last transfer coding of a request must be chunked")
        if codings.count(b"chunked") > 1:
            raise BadRequest("the body is chunked more than once")
        if len(codings) > 1:
            raise BadRequest("the only transfer coding that is supported is chunked", 501)
        return CHUNKED
    if not lengths:
        return 0
    if len(lengths) > 1:
        raise BadRequest("there is more than one Content-Length header")
    if is_length(lengths[0]) is None:
        raise BadRequest("Content-Length is not a plain number of at most 18 digits")
    return int(lengths[0])


def parse_response_head(
    buffer: bytes | bytearray, start: int, limits: Limits, method: str, scanned: int = 0
) -> ResponseHead | None:
    """Parse the response head at `start`, the answer to a `method` request; `None` if it is incomplete.

    `scanned` is as for `parse_request_head`. Raises `BadResponse` as soon as the bytes can no longer become
    a valid head. A 1xx is given as any other: with `length` 0, and the final response follows.
    """
    if not scanned:
        match = quick_response(buffer, start)
        if match is not None:
            digit, code, reason, lines, block = match.groups()
            end = match.end()
            if end - start <= limits.head_bytes and block.count(b"\n") <= limits.headers:
                return _response(code, reason, 1 if digit == b"1" else 0, lines, block, end, method)
    return _parse_response_slowly(buffer, start, limits, method, scanned)


def _parse_response_slowly(
    buffer: bytes | bytearray, start: int, limits: Limits, method: str, scanned: int
) -> ResponseHead | None:
    if not b"HTTP/".startswith(buffer[start : start + 5]):
        raise BadResponse("the backend's answer does not begin with HTTP/")

    def refuse(reason: str, _status: int) -> HttpError:
        return BadResponse(reason)

    end = _scan(buffer, start, limits, scanned, limits.head_bytes, _check_status_line, refuse, folds=True)
    if end is None:
        return None
    line = status_line(buffer, start)
    assert line is not None
    block = unfold(b" ", bytes(buffer[line.end() : end - 2]))
    minor = 0 if line[2] == b"0" else 1
    return _response(line[3], line[4], minor, b"\n" + block, block, end, method)


def _check_status_line(line: bytes, limits: Limits) -> None:
    parts = status_line(line)
    if parts is None:
        raise BadResponse("the status line is not 'HTTP/1.1 200 reason'")
    if parts[1] != b"1":
        raise BadResponse("the backend's answer is not HTTP/1.1 or HTTP/1.0")


def _response(
    code: bytes, reason: bytes | None, minor: int, lines: bytes, block: bytes, end: int, method: str
) -> ResponseHead:
    length, repeated, keep_alive, upgrade, connection = _response_framing(
        tuple(special_of_response(lines)), minor
    )
    if repeated:
        block = b"%bContent-Length: %d\r\n" % (length_line(b"", block), length)
    status = int(code)
    # RFC 9112 section 6.3, rules 1 and 2: these have no body, whatever their headers say.
    if status < 200 or status == 204:
        if length > 0 or length == CHUNKED:
            # Should a body follow after all, it must not be taken for the next response.
            if status < 200:
                raise BadResponse(f"a {status} response announces a body, which it cannot have")
            keep_alive = False
        length = 0
    elif status == 304 or method == "HEAD" or (method == "CONNECT" and status < 300):
        length = 0
    elif length == UNTIL_CLOSE:
        keep_alive = False
    text = "OK" if reason == b"OK" else reason.decode("latin-1") if reason else ""
    return ResponseHead(status, text, minor, block, end, length, keep_alive, upgrade, connection)


@lru_cache(maxsize=256)
def _response_framing(special: _Special, minor: int) -> tuple[int, bool, bool, str | None, tuple[bytes, ...]]:
    """Length (as for GET with 200) and whether it is repeated, keep-alive, upgrade and connection (RFC 9112
    section 6.3; RFC 9110 section 8.6)."""
    fields = _gather(special, BadResponse)
    length = UNTIL_CLOSE
    lengths = _elements(b",".join(fields[b"content-length"])) if b"content-length" in fields else []
    if b"transfer-encoding" in fields:
        if lengths:
            raise BadResponse("Transfer-Encoding and Content-Length contradict each other")
        if minor == 0:
            raise BadResponse("HTTP/1.0 has no Transfer-Encoding")
        if _elements(b",".join(fields[b"transfer-encoding"]).lower()) != [b"chunked"]:
            raise BadResponse("the only transfer coding that is supported is chunked, once")
        length = CHUNKED
    elif lengths:
        if len(set(lengths)) > 1:
            raise BadResponse("Content-Length has different values")
        if is_length(lengths[0]) is None:
            raise BadResponse("Content-Length is not a plain number of at most 18 digits")
        length = int(lengths[0])
    return length, len(lengths) > 1, *_persistence(fields, minor, BadResponse)
