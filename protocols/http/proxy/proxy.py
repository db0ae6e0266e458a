"""The reverse proxy: a handler that forwards requests to a pool and its answers to the client (RFC 9110
section 7.6).

Rules:
1. Framing is never forwarded, always made again; so are the fields that concern one connection.
2. Nothing that the client says of itself (Forwarded, X-Forwarded-*, X-Real-IP) is believed, unless it is a
   trusted proxy.
3. A slow client holds no connection to a backend. Its request's body is gathered before one is taken, up to a
   size; a larger one streams, and must make progress. Of its answer, what it has not taken goes to a spool.
4. A small answer costs one unit and one write. A long one streams: up to the high watermark in memory, then
   through the spool; when that takes no more, the backend is held back.
5. A truncated answer is an abort, never a clean end.
6. A failure before the answer's head: 502 for a bad or dead backend, 503 with Retry-After if the request was
   not sent because everything is busy, 504 for a deadline, which counts from the last of the request's body.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import msgspec

import actors
from actors import NEVER, Misuse, NotSettled, Reply, Spec
from actors.errors import FAILURES
from actors.options import check_counts, check_seconds
from pools import Pool, PoolClosed, QueueFull
from protocols.http.client.units import IDEMPOTENT
from protocols.http.client.wire import BodyChannel, HttpUnit, Upload
from protocols.http.codec.bodies import FORBIDDEN_TRAILERS, encode_chunk, encode_last_chunk
from protocols.http.codec.errors import BadRequest
from protocols.http.codec.head import CHUNKED, UNTIL_CLOSE, RequestHead, ResponseHead
from protocols.http.codec.headers import NO_HEADERS, Headers, forwardable, plain_name
from protocols.http.codec.memo import Memo
from protocols.http.codec.messages import Response, encode_response_head, text_response
from protocols.http.errors import BadResponse
from protocols.http.server.exchange import Exchange
from protocols.http.server.request import Request
from protocols.http.server.responders import Responder

from .gathering import Gathered
from .spool import Spool, Spools
from .tunnels import TunnelEnd, tunnel

__all__ = ["Forward", "Proxy", "proxy"]

GATHER: Final = 1 << 20  # bytes; nginx gathers all of a body, and takes no more than 1 MiB by default
BODY_TIMEOUT_SECONDS: Final = 60.0  # as nginx's client_body_timeout and proxy_read_timeout
SPOOL_MAX: Final = 1 << 30  # bytes per response; nginx's proxy_max_temp_file_size is 1 GiB too
SPOOL_TOTAL: Final = 4 << 30  # bytes
ALLOW: Final = {"Allow": "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"}
TUNNEL_IDLE_SECONDS: Final = 600.0  # nginx 60, HAProxy's examples an hour
CACHED_BLOCK_MAX: Final = 1024  # bytes
IDENTITY: Final = (b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")
HEARSAY: Final = (b"forwarded", b"x-forwarded-*", b"x-real-ip")
"""What a stranger may not say: of these, what the proxy knows itself, it says itself (`IDENTITY`)."""
UPGRADE_REQUIRED: Final = 426
MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
ANNOUNCED: Final = frozenset({"POST", "PUT", "PATCH"})  # also with an empty body (RFC 9110 section 8.6)

RequestNote = tuple[str, bytes, bool]
"""Of a head that came before: for a client at which address, what was made of it, and whether that may be
sent twice and before others are answered."""
ResponseNote = tuple[bytes, bool]
"""Of a head that came before: what was made of it, and whether there is a Date in that."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

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
    """A handler that forwards every request to `pool`: `http.server(address, http.proxy(pool))`.

    `timeout`: seconds for a backend's answer (the pool's default if None), counted from the last of the
    request's body. `name` stands in Via. `trusted`: networks (`"10.0.0.0/8"`) whose X-Forwarded-* and
    Forwarded are kept and added to. `secure`: clients connect by TLS. `body_max`: bytes that a client may
    send as a body, else 413. `gather`: bytes of a body that are gathered before a connection is taken for it;
    a larger one streams. Either must make progress within `body_timeout` seconds, at `Timeouts.body_rate_min`
    bytes a second at least, else 408. `spool_max`: bytes that one response's spool may take
    on disk, `spool_total`: all of this proxy's together, in `spool_directory` (None: the system's for
    temporary files). `tunnel_idle`: seconds an upgraded connection may be silent. Raises `ValueError` for a
    name or a network that is invalid, and `Misuse` for a pool that was not spawned.
    """

    streams = True  # called with the head, see `streaming`
    own_context = False  # it sets no context variables

    def __init__(
        self,
        pool: Pool,
        *,
        timeout: float | None = None,
        name: str = "windlass",
        trusted: Iterable[str] = (),
        secure: bool = False,
        body_max: int | None = None,
        gather: int = GATHER,
        body_timeout: float = BODY_TIMEOUT_SECONDS,
        spool_max: int = SPOOL_MAX,
        spool_total: int = SPOOL_TOTAL,
        spool_directory: str | None = None,
        tunnel_idle: float = TUNNEL_IDLE_SECONDS,
    ) -> None:
        if isinstance(pool, Spec):
            raise Misuse("this is the description of a pool; write http.proxy(loop.spawn(http.pool(...)))")
        if _is_name(name) is None:
            raise ValueError(f"name={name!r} is not valid in Via; write a token, such as 'windlass'")
        if timeout is not None:
            check_seconds(zero=True, timeout=timeout)
        if body_max is not None:
            check_counts(least=0, body_max=body_max)
        check_counts(least=0, gather=gather, spool_max=spool_max, spool_total=spool_total)
        check_seconds(body_timeout=body_timeout, tunnel_idle=tunnel_idle)
        self.pool = pool
        self.timeout = timeout
        self.name = name.encode("ascii")
        self.body_max = body_max
        self.gather = gather
        self.body_timeout = body_timeout
        self.spools = Spools(spool_total, spool_directory)
        self.spool_max = spool_max
        self.tunnel_idle = tunnel_idle
        self._proto = "https" if secure else "http"
        self._trusted = [as_seen(ipaddress.ip_network(network)) for network in trusted]
        # Clients and backends repeat themselves. What was made of a whole head is noted by it,
        # for as long as a server and a pool may keep the head; the others are pure functions.
        self.requests: Memo[RequestHead, RequestNote] = Memo()
        self.responses: Memo[ResponseHead, ResponseNote] = Memo()
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

    def request_block(self, head: RequestHead, peer: str, expects: bool) -> bytes:
        """What goes to the backend of a request's header lines, with what a proxy adds; framing left out.
        `expects`: whether the client's wish for a 100 is passed on."""
        make = self._make_request_block if len(head.block) > CACHED_BLOCK_MAX else self._small_request_block
        return make(head.block, head.connection, peer, head.host, head.minor, expects)

    def _make_request_block(
        self, block: bytes, connection: tuple[bytes, ...], peer: str, host: str, minor: int, expects: bool
    ) -> bytes:
        met = () if expects else (b"expect",)  # by this proxy, or by nobody: HTTP/1.0 has no interim answers
        trusted = self._is_trusted(peer)
        kept = forwardable(block, connection, *(IDENTITY if trusted else HEARSAY), *met, framing=True)
        before = Headers.from_block(block) if trusted else NO_HEADERS
        return b"%b%bVia: 1.%d %b\r\n" % (kept, self._identity(before, peer, host), minor, self.name)

    def _identity(self, before: Headers, peer: str, host: str) -> bytes:
        """Who asks: added to what came before, if that is to be believed (RFC 7239)."""
        peer = peer.partition("%")[0]  # a zone means something on this host alone (RFC 4007 section 6)
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
        make = self._make_response_block if len(head.block) > CACHED_BLOCK_MAX else self._small_response_block
        block, dated = make(head.block, head.connection, head.minor, framing)
        if head.status == UPGRADE_REQUIRED:  # which says what is to be asked for (RFC 9110 section 15.5.22)
            block += upgrade_lines(", ".join(head.headers.get_all("upgrade")))
        return block, dated

    def response_head(self, head: ResponseHead) -> tuple[bytes, bool]:
        """The head that goes to the client with a whole answer, and whether there is a Date in it."""
        block, dated = self.response_block(head, framing=True)
        raw = encode_response_head(head.status, block, head.length, reason=head.reason)
        if len(head.block) <= CACHED_BLOCK_MAX:
            self.responses.keep(head, (raw, dated))
        return raw, dated

    def _make_response_block(
        self, block: bytes, connection: tuple[bytes, ...], minor: int, framing: bool
    ) -> tuple[bytes, bool]:
        kept = forwardable(block, connection, framing=framing)
        return b"%bVia: 1.%d %b\r\n" % (kept, minor, self.name), _has_date(kept) is not None

    def refusal(self, error: BaseException) -> Response:
        """The answer to a client whose unit has failed."""
        queued = getattr(error, "stage", None) == "queued"  # there was no connection to send it on
        if queued or isinstance(error, QueueFull | PoolClosed):
            return text_response("the backends are busy; try again\n", 503, {"Retry-After": "1"})
        if isinstance(error, actors.DeadlineExceeded):
            return text_response("the backend did not answer in time\n", 504)
        return text_response("the backend could not be reached or gave no proper answer\n", 502)


class ProxyResponder(Responder):
    """One request on its way to a backend, and its answer on the way back."""

    __slots__ = (
        "_backend_end",
        "_body",
        "_client_end",
        "_complete",
        "_counts",
        "_gathered",
        "_head",
        "_listed",
        "_proxy",
        "_reply",
        "_size",
        "_spool",
        "_trailers",
        "_upload",
        "deadline",
    )

    late_status = 504

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._reply: Reply[Any] | None = None  # until the answer's head is there
        self._upload: BodyChannel | None = None  # the request's body, while it streams
        self._gathered: Gathered | None = None  # what has come of it before
        self._body: BodyChannel | None = None  # the answer's
        self._spool: Spool | None = None
        self._client_end: TunnelEnd | None = None
        self.deadline = NEVER  # of a request's body: see `timeout`

    def __repr__(self) -> str:
        if self._reply is not None:
            doing = "waiting for the backend"
        elif self._body is None and self._gathered is not None:
            doing = f"gathering {self._gathered!r}"
        else:
            doing = f"passing on {self._body!r} {self._spool or ''}"
        return f"<ProxyResponder {doing}>"

    def begin(self, exchange: Exchange) -> None:
        """Submit the request, or gather its body first."""
        proxy, head, transport = self._proxy, exchange.head, exchange.transport
        notes = proxy.requests
        note = notes.last_value if notes.last is head else notes.find(head)
        peer = transport.peer
        if note is not None and note[0] == peer:
            _, raw, plain = note
            unit = Forward(head.method, raw, len(raw), plain, plain, exchange)
        else:
            if self._refused(exchange):
                return
            if head.length:
                self._begin_body(exchange, peer)
                return
            raw = self._make(head, peer, False)
            raw += b"Content-Length: 0\r\n\r\n" if head.method in ANNOUNCED else b"\r\n"
            end = None if self._client_end is None else self._backend_end
            plain = end is None and head.method in IDEMPOTENT
            if end is None and len(head.block) <= CACHED_BLOCK_MAX:
                proxy.requests.keep(head, (peer, raw, plain))
            unit = Forward(head.method, raw, len(raw), plain, plain, exchange, None, end)
        self._reply = reply = proxy.pool.submit(unit, proxy.timeout)
        reply.attach(transport.scope)

    def _refused(self, exchange: Exchange) -> bool:
        """Whether it goes no further, and was answered here."""
        proxy, head = self._proxy, exchange.head
        if proxy.body_max is not None and head.length > proxy.body_max:
            exchange.respond(text_response(f"the body is larger than {proxy.body_max} bytes\n", 413))
        elif head.method in ("OPTIONS", "TRACE") and spend_forward(head.block)[1] < 0:
            last = text_response("this is the last hop\n", 405, ALLOW)
            exchange.respond(Response(200) if head.method == "OPTIONS" else last)
        elif asks_for_tunnel(head):
            refusal = proxy.pool.tunnels.refusal(proxy.pool)
            if refusal is None:
                self._client_end, self._backend_end = tunnel(proxy.tunnel_idle)
                return False
            exchange.respond(proxy.refusal(refusal))
        else:
            return False
        return True

    def _make(self, head: RequestHead, peer: str, expects: bool) -> bytes:
        """The head as it goes on, but for its framing and the blank line."""
        block = self._proxy.request_block(head, peer, expects)
        if self._client_end is not None:
            block += upgrade_lines(head.upgrade or "")
        if head.method in ("OPTIONS", "TRACE"):
            block = spend_forward(block)[0]
        return b"%b %b HTTP/1.1\r\n%b" % (head.method.encode(), head.target.encode(), block)

    def _submit(self, exchange: Exchange, raw: bytes, upload: Upload | None) -> None:
        """Of a request with a body."""
        proxy, method = self._proxy, exchange.head.method
        end = None if self._client_end is None else self._backend_end
        plain = upload is None and end is None and method in IDEMPOTENT
        unit = Forward(method, raw, len(raw), plain, plain, exchange, upload, end)
        self._reply = reply = proxy.pool.submit(unit, proxy.timeout)
        reply.attach(exchange.scope)

    # -- the request's body ------------------------------------------------------------------------------

    def _begin_body(self, exchange: Exchange, peer: str) -> None:
        """One that is there already goes with its head. A client that waits for a 100 before it sends much is
        the backend's to answer; others may send, and theirs is gathered."""
        proxy, head = self._proxy, exchange.head
        body = exchange.take_whole_body()
        if body is not None:
            raw = self._make(head, peer, False)
            self._submit(exchange, b"%bContent-Length: %d\r\n\r\n%b" % (raw, head.length, body), None)
            return
        gathers = proxy.gather > 0 and not (head.expect_continue and not 0 < head.length <= proxy.gather)
        self._head = self._make(head, peer, head.expect_continue and not gathers)
        self._complete = False
        self._size = 0
        self._watch(exchange)
        self._trailers = NO_HEADERS
        if gathers:
            self._gathered = Gathered(exchange.scope.loop, proxy.spools, proxy.gather)
            exchange.proceed()
        else:
            self._begin_stream(exchange)

    def _begin_stream(self, exchange: Exchange) -> None:
        """Take a connection: what was gathered goes first, what comes later at the backend's pace."""
        length = exchange.head.length
        self._upload = BodyChannel()
        self._upload.attach_sender(exchange.scope)
        if length == CHUNKED:
            head, upload = b"%bTransfer-Encoding: chunked\r\n\r\n", Upload(self._upload)
        else:
            head, upload = b"%%bContent-Length: %d\r\n\r\n" % length, Upload(self._upload, length)
        self._submit(exchange, head % self._head, upload)
        self._feed(exchange)

    def body(self, exchange: Exchange, pieces: list[bytes]) -> None:
        """Gather it, or pass it on at the backend's pace."""
        upload, gathered = self._upload, self._gathered
        if upload.ended if upload is not None else gathered is None:
            return  # the answer came first: what still arrives is dropped
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._size += len(piece)
        body_max = self._proxy.body_max
        if body_max is not None and self._size > body_max:
            self._refuse_body(exchange, f"the body is larger than {body_max} bytes", 413)
        elif upload is not None:
            upload.put(piece)
            self._feed(exchange)
            self._move_deadline(exchange)
        elif gathered is not None and not gathered.put(piece) and not exchange.body_complete:
            self._begin_stream(exchange)

    def body_ended(self, exchange: Exchange, trailers: Headers) -> None:
        """The request is complete."""
        upload, gathered = self._upload, self._gathered
        if upload is None and gathered is None:
            return
        self._complete = True
        self._trailers = onward(trailers, exchange.head.connection)
        if upload is not None:
            self._feed(exchange)
            self._move_deadline(exchange)
        elif gathered is not None and not gathered.spooled:
            self._gathered = None
            self.deadline = NEVER
            self._submit(exchange, self._head + self._framed(exchange.head.length, gathered.take()), None)
        else:
            self._begin_stream(exchange)

    def _framed(self, length: int, body: bytes) -> bytes:
        """A gathered body, as its client has framed it."""
        if length == CHUNKED:
            chunks = encode_chunk(body) + encode_last_chunk(self._trailers)
            return b"Transfer-Encoding: chunked\r\n\r\n" + chunks
        return b"Content-Length: %d\r\n\r\n%b" % (length, body)

    def _feed(self, exchange: Exchange) -> None:
        """Move on what was gathered, and have the client send more if the backend takes more."""
        upload, gathered = self._upload, self._gathered
        assert upload is not None
        if gathered is not None:
            while len(gathered) and upload.writable and not upload.ended:
                upload.put(gathered.take())
            if upload.ended or not len(gathered):
                self._forget_gathered()
        if self._complete:
            if self._gathered is None and not upload.ended:
                upload.trailers = self._trailers
                upload.close()
            self.deadline = NEVER
            return
        hold = not upload.writable
        exchange.hold_body(hold)
        if hold or upload.ended:
            self.deadline = NEVER
        elif self.deadline == NEVER:
            self._watch(exchange)

    def _forget_gathered(self) -> None:
        gathered, self._gathered = self._gathered, None
        if gathered is not None:
            gathered.close()

    def _watch(self, exchange: Exchange) -> None:
        """See from now on that the body makes progress."""
        self._counts = (-1, self._size)
        self.deadline = exchange.scope.now + self._proxy.body_timeout / 2

    def timeout(self, exchange: Exchange) -> None:
        """Twice in `body_timeout`: has as much of the body come in this time as must?"""
        timeout = self._proxy.body_timeout
        before, last = self._counts
        if before >= 0 and self._size - before < max(1.0, exchange.timeouts.body_rate_min * timeout):
            self._refuse_body(exchange, "the body did not come in time", 408)
        else:
            self._counts = (last, self._size)
            self.deadline = exchange.scope.now + timeout / 2

    def _refuse_body(self, exchange: Exchange, reason: str, status: int) -> None:
        error = BadRequest(reason, status)
        answered = exchange.answered
        self.abandoned(exchange, error)
        self.deadline = NEVER
        if answered:
            exchange.abort(error)
        else:
            exchange.respond(text_response(f"{reason}\n", status))

    def _move_deadline(self, exchange: Exchange) -> None:
        """How long a client takes to send its body is not the backend's doing."""
        if self._reply is not None:
            proxy = self._proxy
            timeout = proxy.pool.timeout_default if proxy.timeout is None else proxy.timeout
            self._reply.deadline = max(self._reply.deadline, exchange.scope.now + timeout)

    # -- the answer --------------------------------------------------------------------------------------

    def wakeup(self, exchange: Exchange) -> None:
        """The answer, more of it, or room for more of the request."""
        if self._upload is not None and (exchange.body_held or self._gathered is not None):
            self._feed(exchange)
        reply = self._reply
        if reply is not None:
            try:
                head, body, channel = reply.result()
            except NotSettled:
                return
            except FAILURES as error:
                self._reply = None
                self._forget_gathered()
                exchange.respond(self._proxy.refusal(error))
                return
            self._reply = None
            if self._gathered is not None and channel is None:
                self._forget_gathered()
            notes = self._proxy.responses
            note = notes.last_value if notes.last is head else notes.find(head)
            if note is not None and channel is None:
                exchange.relay(head.status, note[0], body, dated=note[1])  # as `_relay` did before
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
        self._forget_gathered()
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
            self._listed = head.connection
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
                self._spool = spool = self._proxy.spools.open(exchange.scope.loop, self._proxy.spool_max)
            if spool is None or not spool.takes_more():
                return  # the backend is held back
            spool.put(channel.take())
        if channel.ended and not (spool is not None and len(spool)):
            exchange.finish(onward(channel.trailers, self._listed))
            self._forget_gathered()
            if spool is not None:
                spool.close()

    def _switch(self, exchange: Exchange, head: ResponseHead) -> None:
        end = self._client_end
        assert end is not None
        block = forwardable(head.block, head.connection, framing=True)
        block += upgrade_lines(head.upgrade or exchange.head.upgrade or "")
        exchange.send_head(101, block, UNTIL_CLOSE, head.reason, dated=True)
        exchange.switch(end)


def as_seen(network: Network) -> Network:
    """A network in the form in which its clients are seen: of IPv4-mapped addresses, that of IPv4."""
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(MAPPED):
        host = network.network_address.ipv4_mapped
        return ipaddress.ip_network(f"{host}/{network.prefixlen - MAPPED.prefixlen}")
    return network


def asks_for_tunnel(head: RequestHead) -> bool:
    """Whether the connection is to become one of another protocol; a tunnel of h2c would hide requests."""
    return head.upgrade is not None and _is_h2c(head.upgrade) is None


def upgrade_lines(protocols: str) -> bytes:
    """What asks for, or grants, another protocol."""
    return b"Connection: upgrade\r\nUpgrade: %b\r\n" % protocols.encode("latin-1") if protocols else b""


def onward(trailers: Headers, connection: tuple[bytes, ...]) -> Headers:
    """The trailers that may travel on: not those that concern one connection (RFC 9110 section 7.6.1), nor
    those that come too late there (section 6.5.1), in any spelling."""
    if not trailers.block:
        return trailers
    return Headers(
        [
            (name, value)
            for name, value in trailers
            if name.lower().encode() not in connection
            and plain_name(name) not in FORBIDDEN_TRAILERS
            and not plain_name(name).startswith("x-forwarded-")
        ]
    )


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


proxy = Proxy
