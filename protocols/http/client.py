"""The client's units: what `get`, `post`, … make and a pool of `HttpWire`s executes (RFC 9110, RFC 9112).

A unit is data. Which are safe to send twice follows from the method (RFC 9110 section 9.2.2): GET, HEAD, OPTIONS, PUT, DELETE
and TRACE are idempotent, unless their body comes from a channel, which can be read only once.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any, Final, TypeVar
from urllib.parse import urljoin, urlsplit

import msgspec

from actors import Address, Channel, TcpAddress, parse_address
from pools import Backend, Pool

from .errors import BadResponse
from .head import CHUNKED, ResponseHead
from .headers import NO_HEADERS, Headers, HeadersLike
from .limits import DEFAULT_LIMITS, Limits
from .messages import Response, encode_request, encode_request_head, validate_method, validate_target
from .wire import BodyChannel, HttpUnit, HttpWire, Upload

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

T = TypeVar("T")


class StreamedResponse:
    """A response whose body comes through `body`, a channel of bytes, no faster than it is read.

    `async for piece in response.body`. Leaving it unread holds the connection: `response.body.cancel()` gives it back.
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
        self.method = validate_method(method)
        self.target = validate_target(
            target if target.startswith("/") or target == "*" else bad_target(target)
        )
        fields = headers if isinstance(headers, Headers) else Headers(headers)
        self.block = fields.end_to_end
        self.upload = None if isinstance(body, bytes) else Upload(body, length)
        self.body = body if isinstance(body, bytes) else b""
        self.idempotent = method in IDEMPOTENT and self.upload is None
        self.pipelinable = self.idempotent
        self.size = len(self.body) + len(self.block)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.method} {self.target}>"

    def encode(self, host_line: bytes) -> bytes:
        """The request as bytes; of one with an upload, its head."""
        block = self.block if b"\nhost:" in b"\n" + self.block.lower() else host_line + self.block
        if self.upload is None:
            return encode_request(self.method, self.target, block, self.body)
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

    `target` is a path with its query, percent-encoded. `body`: bytes, or a channel of bytes that is sent as it fills (chunked,
    unless `length` in bytes is given). `json` is encoded by msgspec. Redirects are not followed, see `follow`. Raises
    `ValueError` for a bad method, target or header.
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
    """Submit the unit and follow at most `redirects` redirects to the same backend (RFC 9110 section 15.4).

    301, 302 and 303 turn a POST into a GET. Raises `BadResponse` for one redirect too many, or one that leads to another host.
    """
    response = await pool.submit(unit, timeout)
    for _ in range(redirects):
        location = response.headers.get("location")
        if response.status not in REDIRECTS or location is None:
            return response
        target = urlsplit(urljoin(unit.target, location))
        if target.netloc:
            raise BadResponse(f"a redirect leads away, to {location!r}; submit that to a pool of its own")
        changes = response.status == 303 or (response.status in (301, 302) and unit.method == "POST")
        path = target.path + (f"?{target.query}" if target.query else "")
        unit = Fetch(
            "GET" if changes else unit.method,
            path,
            Headers.from_block(unit.block),
            b"" if changes else unit.body,
        )
        response = await pool.submit(unit, timeout)
    if response.status in REDIRECTS and "location" in response.headers:
        raise BadResponse(
            f"more than {redirects} redirects; the last one leads to {response.headers.get('location')!r}"
        )
    return response


def pool(
    urls: str | Iterable[str],
    *,
    limits: Limits = DEFAULT_LIMITS,
    tls: ssl.SSLContext | None = None,
    body_timeout: float = 60.0,
    **options: Any,
) -> Pool:
    """A pool of HTTP connections, for `loop.spawn`. `urls`: one or several of `http://host:port`, `https://host`, `unix:/path`.

    `limits` bounds what a backend may send (`body_bytes` for gathered responses). `body_timeout`: seconds a response's
    body may stand still. The other options are those of `pools.Pool` (`connections`, `pipeline`, `queue`, `timeout` …).
    Raises `ValueError` for a URL that is not of that form.
    """
    targets = [parse_url(url, tls) for url in ([urls] if isinstance(urls, str) else urls)]
    hosts = {str(backend.address): host for backend, host in targets}
    heads: dict[bytes, ResponseHead] = {}
    return Pool(
        lambda: HttpWire(hosts, limits, body_timeout, heads), [backend for backend, _ in targets], **options
    )


def parse_url(url: str, tls: ssl.SSLContext | None = None) -> tuple[Backend, bytes]:
    """A backend's address, and the Host line for it."""
    if url.startswith("unix:"):
        return Backend(parse_address(url)), b"Host: localhost\r\n"
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError(f"backend {url!r} is not a URL like http://127.0.0.1:9001 or https://example.com")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(
            f"backend {url!r} has more than scheme, host and port; write {parts.scheme}://{parts.hostname}"
        )
    port = parts.port or PORTS[parts.scheme]
    address: Address = TcpAddress(parts.hostname, port)
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    host = name if port == PORTS[parts.scheme] else f"{name}:{port}"
    context = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
    return Backend(address, context, parts.hostname), f"Host: {host}\r\n".encode()


def bad_target(target: str) -> str:
    """Refuse a target that is no path."""
    raise ValueError(
        f"target {target!r} does not begin with a slash; the host is the pool's business, write the path"
    )
