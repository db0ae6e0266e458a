"""The client's units: what `get`, `post`, … make and a pool of `HttpWire`s executes (RFC 9110, RFC 9112).

A unit is data. Which are safe to send twice follows from the method (RFC 9110 section 9.2.2): GET, HEAD,
OPTIONS, PUT, DELETE and TRACE are idempotent, unless their body comes from a channel, which can be read only
once.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

import msgspec
from msgspec.structs import force_setattr

from actors import Address, Channel, Scope, TcpAddress, parse_address
from actors.options import check_counts, check_seconds
from pools import Backend, Endpoint, Pool, PoolOptions
from pools.endpoints import system_trust
from protocols.http.codec.head import CHUNKED, ResponseHead
from protocols.http.codec.headers import NO_HEADERS, Headers, HeadersLike
from protocols.http.codec.limits import DEFAULT_LIMITS, Limits
from protocols.http.codec.messages import (
    Response,
    encode_request_head,
    encode_valid_request,
    validate_method,
    validate_target,
)
from protocols.http.errors import BadResponse

from .wire import BodyChannel, Http, HttpUnit, HttpWire, KeptHeads, Upload

__all__ = [
    "Fetch",
    "Stream",
    "StreamedResponse",
    "delete",
    "follow",
    "get",
    "head",
    "options",
    "patch",
    "pool",
    "post",
    "put",
    "request",
    "stream",
]

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
PORTS: Final = {"http": 80, "https": 443}

HERE: Final = "here.invalid"
"""In place of the host, which is not known, in the base that redirects are relative to."""

T = TypeVar("T")

_secrets = re.compile(r"^((?:[^/?#@]*:)?//|).*@", re.DOTALL)

_not_ascii = re.compile(r"[\x80-\xff]")
_is_hostname = re.compile(r"[0-9A-Za-z._~:%-]+").fullmatch


class StreamedResponse:
    """A response whose body comes through `body`, a channel of bytes, no faster than it is read.

    `async for piece in response.body`. Leaving it unread holds the connection: `response.body.cancel()` gives
    it back.
    """

    __slots__ = ("body", "headers", "reason", "status")

    def __init__(self, head: ResponseHead, body: BodyChannel) -> None:
        self.status = head.status
        self.reason = head.reason
        self.headers = head.headers
        self.body = body

    def __repr__(self) -> str:
        return f"<StreamedResponse {self.status} {self.body!r}>"


class _Request(HttpUnit[T]):
    """Shared by both: a request as it will be encoded."""

    __slots__ = ("block", "body", "idempotent", "method", "pipelinable", "size", "target", "upload")

    def __init__(
        self,
        method: str,
        target: str,
        headers: HeadersLike = NO_HEADERS,
        body: bytes | Channel[bytes] = b"",
        length: int | None = None,
    ) -> None:
        if method == "CONNECT":
            raise ValueError("CONNECT makes a tunnel, which a pool cannot use again")
        self.method = validate_method(method)
        self.target = validate_target(
            target if target.startswith("/") or target == "*" else bad_target(target)
        )
        fields = headers if isinstance(headers, Headers) else Headers(headers)
        if fields is not NO_HEADERS and len(fields.get_all("host")) > 1:
            raise ValueError("more than one Host header; give one, or none to name the pool's backend")
        self.block = fields.end_to_end
        if type(body) is bytes and length is None:  # nearly always
            self.body, self.upload = body, None
        else:
            self.body, self.upload = as_body(body, length)
        self.idempotent = method in IDEMPOTENT and self.upload is None
        self.pipelinable = self.idempotent
        self.size = len(self.body) + len(self.block)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.method} {self.target}>"

    def encode(self, host_line: bytes) -> bytes:
        """The request as bytes; of one with an upload, its head."""
        block = self.block
        if not block or b"\nhost:" not in b"\n" + block.lower():
            block = host_line + block
        if self.upload is None:
            return encode_valid_request(self.method, self.target, block, self.body)
        length = CHUNKED if self.upload.length is None else self.upload.length
        return encode_request_head(self.method, self.target, block, length)


class Fetch(_Request[Response]):
    """A request whose response is gathered in memory, up to the pool's `Limits.body_bytes`."""

    __slots__ = ()

    def whole(self, head: ResponseHead, body: bytes, trailers: Headers = NO_HEADERS) -> Response:
        """The response."""
        return Response.from_head(head, body, trailers)


class Stream(_Request[StreamedResponse]):
    """A request whose response settles with its head; the body follows through a channel."""

    __slots__ = ()

    streamed = True

    def begun(self, head: ResponseHead, body: BodyChannel) -> StreamedResponse:
        """The response, with its body to come."""
        return StreamedResponse(head, body)

    def whole(self, head: ResponseHead, body: bytes, trailers: Headers = NO_HEADERS) -> StreamedResponse:
        """The response, with a body that is there already."""
        channel = BodyChannel()
        channel.trailers = trailers
        if body:
            channel.put(body)
        channel.close()
        return StreamedResponse(head, channel)


def request(
    method: str,
    target: str,
    *,
    headers: HeadersLike = NO_HEADERS,
    body: bytes | Channel[bytes] = b"",
    json: Any = msgspec.UNSET,
    length: int | None = None,
) -> Fetch:
    """A unit: one request with a gathered response.

    `target` is a path with its query, percent-encoded. `body`: bytes, or a channel of bytes that is sent as
    it fills (chunked, unless `length` in bytes is given). `json` is encoded by msgspec. Redirects are not
    followed, see `follow`. Raises `ValueError` or `TypeError` for a method, target, header or body that
    cannot be sent.
    """
    if json is not msgspec.UNSET:
        if body:
            raise ValueError("give body= or json=, not both")
        fields = headers if isinstance(headers, Headers) else Headers(headers)
        headers = fields if "content-type" in fields else fields.with_({"Content-Type": "application/json"})
        body = msgspec.json.encode(json)
    return Fetch(method, target, headers, body, length)


def get(target: str, *, headers: HeadersLike = NO_HEADERS) -> Fetch:
    """`request("GET", …)`."""
    return Fetch("GET", target, headers)


def head(target: str, *, headers: HeadersLike = NO_HEADERS) -> Fetch:
    """`request("HEAD", …)`."""
    return Fetch("HEAD", target, headers)


def options(target: str, *, headers: HeadersLike = NO_HEADERS) -> Fetch:
    """`request("OPTIONS", …)`."""
    return Fetch("OPTIONS", target, headers)


def delete(target: str, *, headers: HeadersLike = NO_HEADERS) -> Fetch:
    """`request("DELETE", …)`."""
    return Fetch("DELETE", target, headers)


def post(
    target: str,
    *,
    headers: HeadersLike = NO_HEADERS,
    body: bytes | Channel[bytes] = b"",
    json: Any = msgspec.UNSET,
    length: int | None = None,
) -> Fetch:
    """`request("POST", …)`."""
    return request("POST", target, headers=headers, body=body, json=json, length=length)


def put(
    target: str,
    *,
    headers: HeadersLike = NO_HEADERS,
    body: bytes | Channel[bytes] = b"",
    json: Any = msgspec.UNSET,
    length: int | None = None,
) -> Fetch:
    """`request("PUT", …)`."""
    return request("PUT", target, headers=headers, body=body, json=json, length=length)


def patch(
    target: str,
    *,
    headers: HeadersLike = NO_HEADERS,
    body: bytes | Channel[bytes] = b"",
    json: Any = msgspec.UNSET,
    length: int | None = None,
) -> Fetch:
    """`request("PATCH", …)`."""
    return request("PATCH", target, headers=headers, body=body, json=json, length=length)


def stream(
    method: str,
    target: str,
    *,
    headers: HeadersLike = NO_HEADERS,
    body: bytes | Channel[bytes] = b"",
    length: int | None = None,
) -> Stream:
    """A unit that settles with the response's head; its body comes through `response.body` as it arrives."""
    return Stream(method, target, headers, body, length)


async def follow(pool: Pool, unit: Fetch, *, redirects: int = 5, timeout: float | None = None) -> Response:
    """Submit the unit and follow at most `redirects` redirects to the same pool (RFC 9110 section 15.4).

    301, 302 and 303 turn a POST into a GET. Raises `BadResponse` for one redirect too many, for one that
    leads to another host, and for one that asks for a body again which came from a channel.
    """
    check_counts(least=0, redirects=redirects)
    for left in range(redirects, -1, -1):
        response = await pool.submit(unit, timeout)
        location = response.headers.get("location")
        if response.status not in REDIRECTS or location is None:
            return response
        if not left:
            raise BadResponse(f"more than {redirects} redirects; the last one leads to {location!r}")
        unit = redirected(pool, unit, response.status, location)
    raise AssertionError("the last turn returns or raises")


def redirected(pool: Pool, unit: Fetch, status: int, location: str) -> Fetch:
    """What a redirect asks for: a reference to be resolved (RFC 3986 section 5.2.2), in which bytes that are
    not ASCII are taken for what they would be percent-encoded."""
    base = f"{scheme_of(pool.backends[0])}://{HERE}"
    reference = _not_ascii.sub(lambda found: f"%{ord(found[0]):02X}", location)
    try:
        parts = urlsplit(urljoin(base + unit.target, reference))
    except ValueError as error:
        raise BadResponse(f"a redirect leads to {location!r}, which is not a valid URL: {error}") from error
    if parts.netloc != HERE and not any(leads_to(parts, backend) for backend in pool.backends):
        raise BadResponse(f"a redirect leads to another host, {location!r}; submit that to its own pool")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = Headers.from_block(unit.block)
    becomes_get = status == 303 or (status in (301, 302) and unit.method == "POST")
    try:
        if becomes_get:
            headers = headers.without("content-type", "content-encoding", "content-language", "expect")
            return Fetch("HEAD" if unit.method == "HEAD" else "GET", path, headers)
        if unit.upload is not None:
            raise BadResponse(
                "a redirect asks for the body again, which came from a channel; give it as bytes"
            )
        return Fetch(unit.method, path, headers, unit.body)
    except ValueError as error:
        raise BadResponse(
            f"a redirect leads to {location!r}, which is not a valid target: {error}"
        ) from error


def scheme_of(backend: Backend) -> str:
    """How this backend is spoken to."""
    return "http" if backend.endpoint.tls is None else "https"


def leads_to(parts: SplitResult, backend: Backend) -> bool:
    """Whether a URL is one of this backend."""
    address = backend.address
    try:
        port = parts.port or PORTS.get(parts.scheme)
    except ValueError:
        return False
    return (
        isinstance(address, TcpAddress)
        and parts.scheme == scheme_of(backend)
        and (parts.hostname, port) == (address.host, address.port)
    )


class HttpPoolOptions(PoolOptions[Pool[Http]], frozen=True, kw_only=True):
    """What `http.pool` takes besides the options of every pool."""

    limits: Limits = DEFAULT_LIMITS
    """What a backend may send; `body_bytes` is for gathered responses."""
    tls: ssl.SSLContext | None = None
    """For https. None: the system's certificates, with names checked."""
    body_timeout: float = 60.0
    """Seconds that a response's body may stand still."""


class HttpPoolSpec(HttpPoolOptions, frozen=True):
    """A pool of HTTP connections, for `loop.spawn`. `urls`: one or several of `http://host:port`,
    `https://host`, `unix:/path`.

    Raises `ValueError` for a URL that is not of that form, and for an option that makes no sense.
    """

    urls: str | Iterable[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seconds(body_timeout=self.body_timeout)
        force_setattr(self, "urls", (self.urls,) if isinstance(self.urls, str) else tuple(self.urls))
        if not self._targets():
            raise ValueError("a pool without backends; name at least one URL")

    def _targets(self) -> list[tuple[Endpoint, bytes]]:
        return [parse_url(url, self.tls) for url in self.urls]

    def make(self, scope: Scope) -> Pool[Http]:
        """As `actors.Spec`."""
        targets = self._targets()
        hosts = {str(endpoint.address): host for endpoint, host in targets}
        heads = KeptHeads()
        return Pool(
            self,
            lambda: HttpWire(hosts, self.limits, self.body_timeout, heads),
            [endpoint for endpoint, _ in targets],
            scope,
        )


pool = HttpPoolSpec


def parse_url(url: str, tls: ssl.SSLContext | None = None) -> tuple[Endpoint, bytes]:
    """A backend's address, and the Host line for it."""
    if url.startswith("unix:"):
        return Endpoint(parse_address(url)), b"Host: localhost\r\n"
    shown = discreet(url)
    try:
        parts = urlsplit(url)
    except ValueError:  # whose own words may show what should not be
        raise ValueError(f"backend {shown!r} is not a URL like http://127.0.0.1:9001") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError(f"backend {shown!r} is not a URL like http://127.0.0.1:9001 or https://example.com")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        meant = f"{parts.scheme}://{authority_of(url)}"
        raise ValueError(f"backend {shown!r} has more than scheme, host and port; write {meant}")
    if _is_hostname(parts.hostname) is None:
        raise ValueError(f"backend {shown!r} has a host that is not ASCII letters, digits, dots and hyphens")
    try:
        port = PORTS[parts.scheme] if parts.port is None else parts.port
    except ValueError:
        port = 0
    if not port:
        raise ValueError(f"backend {shown!r} has a port that is not a number from 1 to 65535")
    # A zone tells which of this host's links is meant, and nothing to anybody else (RFC 6874 section 4).
    asked, _, zone = parts.hostname.replace("%25", "%").partition("%")
    address: Address = TcpAddress(f"{asked}%{zone}" if zone else asked, port)
    name = f"[{asked}]" if ":" in asked else asked
    host = name if port == PORTS[parts.scheme] else f"{name}:{port}"
    context = (tls or system_trust()) if parts.scheme == "https" else None
    return Endpoint(address, context, asked), f"Host: {host}\r\n".encode()


def authority_of(url: str) -> str:
    """Host and port of a URL, or of one without its scheme; not what is before and behind them."""
    rest = url.partition("://")[2] or url
    return re.split(r"[/?#]", rest.rpartition("@")[2].lstrip("/"), maxsplit=1)[0]


def discreet(url: str) -> str:
    """A URL that may be shown: what stands before the host, a password perhaps, is left out."""
    return _secrets.sub(r"\1…@", url)


def as_body(body: bytes | Channel[bytes], length: int | None) -> tuple[bytes, Upload | None]:
    """A request's body: bytes, or what comes from a channel. Raises `TypeError` or `ValueError`."""
    if isinstance(body, Channel):
        if length is not None and length < 0:
            raise ValueError(f"length={length}; write the body's bytes, or None to send it in chunks")
        return b"", Upload(body, length)
    if length is not None:
        raise ValueError("length= is for a body from a channel; the length of bytes is known")
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body), None
    raise TypeError(
        f"a body is bytes or a channel of bytes, not {type(body).__name__}: encode it, or use json="
    )


def bad_target(target: str) -> str:
    """Refuse a target that is not a path."""
    raise ValueError(
        f"target {target!r} does not begin with a slash; the pool knows the host, so write only the path"
    )
