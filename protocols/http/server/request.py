"""A request as a handler sees it.

Its head is what the codec has parsed, and its fields are split only on demand. Its body is complete
when the handler is called, unless the handler is marked `streaming`: then it comes through a channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeVar, overload
from urllib.parse import parse_qsl

import msgspec

from actors import Channel
from protocols.http.codec.head import RequestHead
from protocols.http.codec.headers import NO_HEADERS, Headers, HeadersLike
from protocols.http.codec.messages import checked_body, decode_text, validate_method, validate_target
from protocols.http.errors import BadContent, BadJson, UnexpectedJson

__all__ = ["HasPeer", "Request"]

T = TypeVar("T")

STREAM_CAPACITY: Final = 1 << 18
"""Bytes of a body that wait between a connection and a streaming handler."""
QUERY_FIELDS_MAX: Final = 1000
"""Fields of a query: each costs a string or two. Django 1,000, PHP 1,000."""


class HasPeer(Protocol):
    """What knows the other end's address: a transport. Asked for only if somebody wants it."""

    @property
    def peer(self) -> str: ...


_NO_PARAMS: Mapping[str, str] = MappingProxyType({})


class Request(msgspec.Struct, eq=False):
    """One request, as a handler gets it: its body is complete, unless the handler is marked `streaming`.

    The constructor checks nothing: it is for what a parser has checked. A test of a handler writes
    `Request.make("GET", "/x")`.
    """

    method: str
    target: str
    _head: RequestHead | None
    _peer: str | HasPeer = ""
    body: bytes = b""
    minor: int = 1
    params: Mapping[str, str] = _NO_PARAMS
    """What the router took from the path, percent-decoded."""
    trailers: Headers = NO_HEADERS
    _headers: Headers = NO_HEADERS
    _stream: Channel[bytes] | None = None

    @classmethod
    def make(
        cls,
        method: str,
        target: str,
        headers: HeadersLike = NO_HEADERS,
        body: bytes = b"",
        *,
        minor: int = 1,
        peer: str = "",
        params: Mapping[str, str] = _NO_PARAMS,
        trailers: Headers = NO_HEADERS,
    ) -> Request:
        """A request from its parts. Raises `ValueError` or `TypeError` for what cannot be sent."""
        method, target, body = validate_method(method), validate_target(target), checked_body(body)
        fields = headers if isinstance(headers, Headers) else Headers(headers)
        return cls(method, target, None, peer, body, minor, params, trailers, fields)

    @classmethod
    def from_head(
        cls, head: RequestHead, body: bytes = b"", peer: str | HasPeer = "", trailers: Headers = NO_HEADERS
    ) -> Request:
        """The request that a parsed head and its body make; nothing is checked or split again."""
        return cls(head.method, head.target, head, peer, body, head.minor, _NO_PARAMS, trailers)

    @property
    def peer(self) -> str:
        """The client's address, without the port."""
        peer = self._peer
        return peer if isinstance(peer, str) else peer.peer

    @property
    def stream(self) -> Channel[bytes]:
        """The body as it comes, for a handler that is marked `streaming`."""
        if self._stream is None:
            self._stream = Channel(STREAM_CAPACITY, weigh=len)
        return self._stream

    @property
    def streaming(self) -> bool:
        """Whether `stream` was looked at."""
        return self._stream is not None

    @property
    def headers(self) -> Headers:
        """The headers as they came."""
        head = self._head
        return self._headers if head is None else head.headers

    @property
    def version(self) -> str:
        """`"HTTP/1.1"` or `"HTTP/1.0"`."""
        return f"HTTP/1.{self.minor}"

    @property
    def path(self) -> str:
        """The target up to the query, percent-encoded as it came."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, list[str]]:
        """The query's fields, decoded; a name may come more than once. Raises `BadContent`, a `ValueError`,
        for more than 1,000; the client gets a 400 if it is not caught."""
        fields: dict[str, list[str]] = {}
        text = self.target.partition("?")[2]
        try:
            found = parse_qsl(text, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
        except ValueError:
            raise BadContent(f"the query has more than {QUERY_FIELDS_MAX} fields") from None
        for name, value in found:
            fields.setdefault(name, []).append(value)
        return fields

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, type: type[T]) -> T: ...
    def json(self, type: Any = Any) -> Any:
        """The body as JSON, validated as `type`. Raises `BadContent` that is a `msgspec.DecodeError`, and for
        JSON of another type a `msgspec.ValidationError`; the client gets a 400 if it is not caught."""
        try:
            return msgspec.json.decode(self.body, type=type)
        except msgspec.ValidationError as error:
            raise UnexpectedJson(str(error)) from error
        except msgspec.DecodeError as error:
            raise BadJson(str(error)) from error

    def text(self) -> str:
        """The body as text, by the charset of Content-Type or UTF-8. Raises `BadContent`, a `ValueError`, if
        it is not; the client gets a 400 if it is not caught."""
        try:
            return decode_text(self.headers, self.body)
        except ValueError as error:
            raise BadContent(f"the body is not text: {error}") from error

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target} {self.version} {len(self.body)} bytes of body>"
