"""The reverse proxy: a handler that forwards requests to a pool and its answers to the client (RFC 9110
section 7.6).

Rules:
1. Framing is never forwarded, always made anew; so are the fields that concern one connection.
2. Nothing that the client says of itself (Forwarded, X-Forwarded-*) is believed, unless it is a trusted
   proxy.
3. A small answer costs one unit and one write. A long one streams: up to the high watermark in memory; what a
   slow client has not taken beyond that goes to a spool, so that it does not hold the backend's connection.
4. A truncated answer is an abort, never a clean end.
5. A failure before the answer's head: 502 for a bad or dead backend, 503 with Retry-After for a full queue,
   504 for a deadline, which counts from the last of the request's body.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import msgspec

from actors import NotSettled, Reply
from pools import DeadlineExceeded, Pool, PoolClosed, QueueFull

from .client import IDEMPOTENT
from .connections import Exchange
from .errors import BadRequest, BadResponse
from .head import CHUNKED, UNTIL_CLOSE, ResponseHead
from .headers import NO_HEADERS, Headers, forwardable
from .messages import Request, Response, encode_response_head, text_response
from .responders import Responder
from .spool import Spool
from .tunnels import TunnelEnd, tunnel
from .wire import BodyChannel, HttpUnit, Upload

__all__ = ["Forward", "Proxy", "proxy"]

SPOOL_MAX: Final = 1 << 30  # bytes per response; nginx's proxy_max_temp_file_size is 1 GiB too
ALLOW: Final = {"Allow": "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"}
TUNNEL_IDLE_SECONDS: Final = 600.0  # nginx 60, HAProxy's examples an hour
CACHED_BLOCK_MAX: Final = 1024  # bytes
IDENTITY: Final = (b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")
ANNOUNCED: Final = frozenset({"POST", "PUT", "PATCH"})  # also with an empty body (RFC 9110 section 8.6)

_has_date = re.compile(rb"(?i)(?:^|\n)date:").search
_max_forwards = re.compile(rb"(?i)(?:^|\n)max-forwards:[ \t]*([0-9]{1,9})[ \t]*\r").search
_is_name = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_is_h2c = re.compile(r"(?i)(?:^|[, \t])h2c?(?:$|[, \t])").search
_quoted = re.compile(r"[^!#$%&\'*+\-.^_`|~0-9A-Za-z]").search


class Forward(
    HttpUnit[tuple[ResponseHead, bytes, BodyChannel | None]], msgspec.Struct, frozen=True, eq=False
):
    """A request to be forwarded: its head (or all of it) as bytes already."""

    method: str
    raw: bytes
    size: int
    idempotent: bool
    pipelinable: bool
    exchange: Exchange
    upload: Upload | None = None
    end: TunnelEnd | None = None
    """The backend's end of a tunnel, if an upgrade is asked for."""

    streamed = True

    def __repr__(self) -> str:
        return f"<Forward {self.raw[:64].partition(b' HTTP/')[0].decode('latin-1')}>"

    def encode(self, host_line: bytes) -> bytes:
        """As it was made. A client of HTTP/1.0 need not name a host, a backend must be told one."""
        if self.exchange.head.host:
            return self.raw
        line, _, rest = self.raw.partition(b"\r\n")
        return b"%b\r\n%b%b" % (line, host_line, rest)

    def whole(
        self, head: ResponseHead, body: bytes, trailers: Headers = NO_HEADERS
    ) -> tuple[ResponseHead, bytes, BodyChannel | None]:
        """A small answer."""
        return head, body, None

    def begun(self, head: ResponseHead, body: BodyChannel) -> tuple[ResponseHead, bytes, BodyChannel | None]:
        """A long answer's head."""
        return head, b"", body

    def interim(self, head: ResponseHead) -> None:
        """1xx are passed on."""
        if not self.exchange.finished:
            block = forwardable(head.block, head.connection, framing=True)
            self.exchange.send_interim(head.status, block)

    def switched(self, head: ResponseHead) -> tuple[tuple[ResponseHead, bytes, None], TunnelEnd]:
        """The backend's end takes its connection."""
        if self.end is None:
            raise BadResponse("the backend switches protocols unasked")
        return (head, b"", None), self.end


class Proxy:
    """The handler. `http.server(address, http.proxy(pool))`."""

    streams = True  # called with the head, see `streaming`

    def __init__(
        self,
        pool: Pool,
        *,
        timeout: float | None = None,
        name: str = "windlass",
        trusted: Iterable[str] = (),
        secure: bool = False,
        body_max: int | None = None,
        spool_max: int = SPOOL_MAX,
        tunnel_idle: float = TUNNEL_IDLE_SECONDS,
    ) -> None:
        if _is_name(name) is None:
            raise ValueError(f"name={name!r} cannot stand in Via; write a token, such as 'windlass'")
        self.pool = pool
        self.timeout = timeout
        self.name = name.encode("ascii")
        self.body_max = body_max
        self.spool_max = spool_max
        self.tunnel_idle = tunnel_idle
        self._proto = "https" if secure else "http"
        self._trusted = [ipaddress.ip_network(network) for network in trusted]
        # Clients and backends repeat themselves. These are pure functions, bounded in number and size; what
        # is made of a whole head is noted with the head, which a server and a pool keep for some time.
        self.mark = object()
        self._small_request_block = lru_cache(maxsize=512)(self._make_request_block)
        self._small_response_block = lru_cache(maxsize=512)(self._make_response_block)

    def __repr__(self) -> str:
        return f"<Proxy to {self.pool!r}>"

    def __call__(self, request: Request) -> Responder | Response:
        """Forward one request."""
        if request.method == "CONNECT":
            return text_response("CONNECT is for forward proxies\n", 501)
        return ProxyResponder(self)

    # -- heads, as pure functions ------------------------------------------------------------------------

    def request_block(
        self, block: bytes, connection: tuple[bytes, ...], peer: str, host: str, minor: int
    ) -> bytes:
        """What goes to the backend of a request's header lines, with what a proxy adds; framing left out."""
        if len(block) <= CACHED_BLOCK_MAX:
            return self._small_request_block(block, connection, peer, host, minor)
        return self._make_request_block(block, connection, peer, host, minor)

    def _make_request_block(
        self, block: bytes, connection: tuple[bytes, ...], peer: str, host: str, minor: int
    ) -> bytes:
        unmet = () if minor else (b"expect",)  # HTTP/1.0 has no interim answers (RFC 9110 section 10.1.1)
        kept = forwardable(block, connection, *IDENTITY, *unmet, framing=True)
        before = Headers.from_block(block) if self._is_trusted(peer) else NO_HEADERS
        return b"%b%bVia: 1.%d %b\r\n" % (kept, self._identity(before, peer, host), minor, self.name)

    def _identity(self, before: Headers, peer: str, host: str) -> bytes:
        """Who asks: added to what came before, if that is to be believed (RFC 7239)."""
        node = f'"[{peer}]"' if ":" in peer else peer or "unknown"
        element = f"for={node};proto={self._proto}{f';host={quoted(host)}' if host else ''}"
        chain = ", ".join([*before.get_all("x-forwarded-for"), peer or "unknown"])
        lines = f"X-Forwarded-For: {chain}\r\n"
        lines += f"X-Forwarded-Proto: {before.get('x-forwarded-proto', self._proto)}\r\n"
        asked = before.get("x-forwarded-host", host)
        if asked:
            lines += f"X-Forwarded-Host: {asked}\r\n"
        lines += f"Forwarded: {', '.join([*before.get_all('forwarded'), element])}\r\n"
        return lines.encode("latin-1")

    def _is_trusted(self, peer: str) -> bool:
        if not self._trusted or not peer:
            return False
        address = ipaddress.ip_address(peer)
        return any(address in network for network in self._trusted)

    def response_block(self, head: ResponseHead, framing: bool) -> tuple[bytes, bool]:
        """What goes to the client of a response's header lines, and whether there is a Date among them."""
        if len(head.block) <= CACHED_BLOCK_MAX:
            return self._small_response_block(head.block, head.connection, head.minor, framing)
        return self._make_response_block(head.block, head.connection, head.minor, framing)

    def response_head(self, head: ResponseHead) -> tuple[bytes, bool]:
        """The head that goes to the client with a whole answer, and whether there is a Date in it."""
        block, dated = self.response_block(head, framing=True)
        raw = encode_response_head(head.status, block, head.length, reason=head.reason)
        head.forwarded = self.mark, raw, dated
        return raw, dated

    def _make_response_block(
        self, block: bytes, connection: tuple[bytes, ...], minor: int, framing: bool
    ) -> tuple[bytes, bool]:
        kept = forwardable(block, connection, framing=framing)
        return b"%bVia: 1.%d %b\r\n" % (kept, minor, self.name), _has_date(kept) is not None

    def refusal(self, error: BaseException) -> Response:
        """The answer to a client whose unit has failed."""
        if isinstance(error, QueueFull | PoolClosed):
            return text_response("the backends are busy; try again\n", 503, {"Retry-After": "1"})
        if isinstance(error, DeadlineExceeded):
            return text_response("the backend did not answer in time\n", 504)
        return text_response("the backend could not be reached or gave no proper answer\n", 502)


class ProxyResponder(Responder):
    """One request on its way to a backend, and its answer on the way back."""

    __slots__ = ("_body", "_client_end", "_proxy", "_reply", "_spool", "_upload", "_uploaded")

    late_status = 504

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._reply: Reply[Any] | None = None  # until the answer's head is there
        self._upload: BodyChannel | None = None  # the request's body, while it comes
        self._uploaded = 0  # bytes of it
        self._body: BodyChannel | None = None  # the answer's
        self._spool: Spool | None = None
        self._client_end: TunnelEnd | None = None

    def __repr__(self) -> str:
        doing = (
            "waiting for the backend"
            if self._reply is not None
            else f"passing on {self._body!r} {self._spool or ''}"
        )
        return f"<ProxyResponder {doing}>"

    def begin(self, exchange: Exchange) -> None:
        """Submit the request."""
        proxy, head, transport = self._proxy, exchange.head, exchange.transport
        note = head.forwarded
        peer = transport.peer
        upload = end = None
        if note is not None and note[0] is proxy.mark and note[1] == peer:
            raw = note[2]
        else:
            made = self._make(exchange, peer)
            if made is None:
                return
            raw, upload, end = made
        plain = upload is None and end is None and head.method in IDEMPOTENT
        unit = Forward(head.method, raw, len(raw), plain, plain, exchange, upload, end)
        self._reply = reply = proxy.pool.submit(unit, proxy.timeout)
        reply.attach(transport.scope)

    def _make(self, exchange: Exchange, peer: str) -> tuple[bytes, Upload | None, TunnelEnd | None] | None:
        """The request as it goes on, with the body that comes and the backend's end of a tunnel; None if it
        was answered here."""
        proxy, head = self._proxy, exchange.head
        block = proxy.request_block(head.block, head.connection, peer, head.host, head.minor)
        end = upload = None
        framing = b"\r\n"
        if head.length:
            if proxy.body_max is not None and head.length > proxy.body_max:
                exchange.respond(text_response(f"the body is larger than {proxy.body_max} bytes\n", 413))
                return None
            framing, upload = self._request_body(exchange)
        elif head.method in ANNOUNCED:
            framing = b"Content-Length: 0\r\n\r\n"
        if head.upgrade is not None and _is_h2c(head.upgrade) is None:  # an h2c tunnel would hide requests
            self._client_end, end = tunnel(proxy.tunnel_idle)
            block += b"Connection: upgrade\r\nUpgrade: %b\r\n" % head.upgrade.encode("latin-1")
        method = head.method
        if method == "OPTIONS" or method == "TRACE":
            block, left = spend_forward(block)
            if left < 0:
                last = text_response("this is the last hop\n", 405, ALLOW)
                exchange.respond(Response(200) if method == "OPTIONS" else last)
                return None
        raw = b"%b %b HTTP/1.1\r\n%b%b" % (method.encode(), head.target.encode(), block, framing)
        if not head.length and end is None:
            head.forwarded = proxy.mark, peer, raw
        return raw, upload, end

    def _request_body(self, exchange: Exchange) -> tuple[bytes, Upload | None]:
        """The end of the head, with a small body that is there already; others come through a channel."""
        length = exchange.head.length
        body = exchange.take_whole_body()
        if body is not None:
            return b"Content-Length: %d\r\n\r\n%b" % (length, body), None
        self._upload = BodyChannel()
        self._upload.attach_sender(exchange.scope)
        if length == CHUNKED:
            return b"Transfer-Encoding: chunked\r\n\r\n", Upload(self._upload)
        return b"Content-Length: %d\r\n\r\n" % length, Upload(self._upload, length)

    # -- the request's body ------------------------------------------------------------------------------

    def body(self, exchange: Exchange, pieces: list[bytes]) -> None:
        """On to the backend, at its pace."""
        upload = self._upload
        if upload is None or upload.ended:
            return  # the answer came first: what still arrives is dropped
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._uploaded += len(piece)
        body_max = self._proxy.body_max
        if body_max is not None and self._uploaded > body_max:
            self._refuse_body(exchange, body_max)
            return
        upload.put(piece)
        exchange.hold_body(not upload.writable)
        self._move_deadline(exchange)

    def _refuse_body(self, exchange: Exchange, body_max: int) -> None:
        error = BadRequest(f"the body is larger than {body_max} bytes", 413)
        answered = exchange.answered
        self.abandoned(exchange, error)
        if answered:
            exchange.abort(error)
        else:
            exchange.respond(text_response(f"{error.reason}\n", 413))

    def body_ended(self, exchange: Exchange, trailers: Headers) -> None:
        """The request is complete."""
        if self._upload is not None and not self._upload.ended:
            self._upload.trailers = trailers
            self._upload.close()
            self._move_deadline(exchange)

    def _move_deadline(self, exchange: Exchange) -> None:
        """How long a client takes to send its body is not the backend's doing."""
        if self._reply is not None:
            proxy = self._proxy
            timeout = proxy.pool.timeout_default if proxy.timeout is None else proxy.timeout
            self._reply.deadline = max(self._reply.deadline, exchange.scope.now + timeout)

    # -- the answer --------------------------------------------------------------------------------------

    def wakeup(self, exchange: Exchange) -> None:
        """The answer, more of it, or room for more of the request."""
        if self._upload is not None and exchange.body_held:
            exchange.hold_body(not self._upload.writable)
        reply = self._reply
        if reply is not None:
            try:
                head, body, channel = reply.result()
            except NotSettled:
                return
            except Exception as error:
                self._reply = None
                exchange.respond(self._proxy.refusal(error))
                return
            self._reply = None
            note = head.forwarded
            if note is not None and channel is None and note[0] is self._proxy.mark:
                exchange.relay(head.status, note[1], body, dated=note[2])  # as `_relay` did before
            else:
                self._relay(exchange, head, body, channel)
        elif self._body is not None:
            self._move(exchange)

    def writable(self, exchange: Exchange) -> None:
        """The client has taken some."""
        if self._body is not None:
            self._move(exchange)

    def abandoned(self, exchange: Exchange, error: BaseException | None) -> None:
        """The client has gone: lose interest. The wire is the pool's business."""
        reply = self._reply
        if reply is not None and not reply.cancel() and reply.error is None:
            self._body = reply.result()[
                2
            ]  # answered in this very moment: a long body is on its way to nobody
        if self._upload is not None:
            self._upload.close(error or ConnectionAbortedError("the client has gone"))
        if self._body is not None:
            self._body.cancel()
        if self._spool is not None:
            self._spool.close()
        if self._client_end is not None:
            self._client_end.abandon()

    def _relay(
        self, exchange: Exchange, head: ResponseHead, body: bytes, channel: BodyChannel | None
    ) -> None:
        if head.status == 101:
            self._switch(exchange, head)
            return
        proxy = self._proxy
        if exchange.head.method == "HEAD" or head.status == 304:
            # its Content-Length tells of a body that does not follow
            block, dated = proxy.response_block(head, framing=False)
            exchange.send_head(head.status, block, UNTIL_CLOSE, head.reason, dated=dated)
            exchange.finish()
        elif channel is None:
            raw, dated = proxy.response_head(head)
            exchange.relay(head.status, raw, body, dated=dated)
        else:
            block, dated = proxy.response_block(head, framing=True)
            length = CHUNKED if head.length == UNTIL_CLOSE else head.length
            exchange.send_head(head.status, block, length, head.reason, dated=dated)
            self._body = channel
            channel.attach_receiver(exchange.scope)
            self._move(exchange)

    def _move(self, exchange: Exchange) -> None:
        """Client as fast as it takes it, spool for the rest, backend as fast as the spool takes it."""
        channel, spool = self._body, self._spool
        assert channel is not None
        if channel.error is not None:
            exchange.abort(channel.error)
            return
        while spool is not None and len(spool) and not exchange.congested:
            exchange.send(spool.take())
        while len(channel):
            if not exchange.congested and not (spool is not None and len(spool)):
                exchange.send(channel.take())
                continue
            if spool is None:
                try:
                    self._spool = spool = Spool(exchange.scope.kernel, self._proxy.spool_max)
                except OSError:
                    return  # no file to be had: the backend is held back instead
            if spool.full:
                return
            spool.put(channel.take())
        if channel.ended and not (spool is not None and len(spool)):
            exchange.finish(channel.trailers)
            if spool is not None:
                spool.close()

    def _switch(self, exchange: Exchange, head: ResponseHead) -> None:
        end = self._client_end
        assert end is not None
        block = forwardable(head.block, head.connection, framing=True)
        upgrade = b"Connection: upgrade\r\nUpgrade: %b\r\n" % (
            head.upgrade or exchange.head.upgrade or ""
        ).encode("latin-1")
        exchange.send_head(101, block + upgrade, UNTIL_CLOSE, head.reason, dated=True)
        exchange.switch(end)


def spend_forward(block: bytes) -> tuple[bytes, int]:
    """The block with Max-Forwards one lower, and what is left of it: -1 if it may go no further (RFC 9110
    section 7.6.2)."""
    found = _max_forwards(block)
    if found is None:
        return block, 0
    left = int(found[1]) - 1
    return block[: found.start(1)] + b"%d" % max(left, 0) + block[found.end(1) :], left


def quoted(host: str) -> str:
    """A value of Forwarded (RFC 7239 section 4): a token, or quoted."""
    return f'"{host}"' if _quoted(host) else host


def proxy(
    pool: Pool,
    *,
    timeout: float | None = None,
    name: str = "windlass",
    trusted: Iterable[str] = (),
    secure: bool = False,
    body_max: int | None = None,
    spool_max: int = SPOOL_MAX,
    tunnel_idle: float = TUNNEL_IDLE_SECONDS,
) -> Proxy:
    """A handler that forwards every request to `pool`.

    `timeout`: seconds for a backend's answer (the pool's default if None), counted from the last of the
    request's body. `name` stands in Via. `trusted`: networks (`"10.0.0.0/8"`) whose X-Forwarded-* and
    Forwarded are kept and added to. `secure`: the clients come by TLS. `body_max`: bytes that a client may
    send as a body, else 413. `spool_max`: bytes that one response's spool may take on disk. `tunnel_idle`:
    seconds an upgraded connection may be silent. Raises `ValueError` for a name or a network that is none.
    """
    return Proxy(
        pool,
        timeout=timeout,
        name=name,
        trusted=trusted,
        secure=secure,
        body_max=body_max,
        spool_max=spool_max,
        tunnel_idle=tunnel_idle,
    )
