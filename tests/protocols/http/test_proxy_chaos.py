"""Everything at once, in any order: clients that pipeline, stall and vanish, backends that answer in every
framing, early, in pieces, or not at all. Each seed is a story, and in each some things must hold."""

from __future__ import annotations

import random

import pytest

from actors.testing import FakeSocket
from protocols.http.codec.bodies import BodyDecoder, body_decoder
from protocols.http.codec.errors import BadRequest, BadResponse
from protocols.http.codec.head import UNTIL_CLOSE, RequestHead, parse_request_head, parse_response_head
from protocols.http.codec.limits import DEFAULT_LIMITS
from tests.protocols.http.benches import Client, ProxyBench

STORIES = 400
STEPS = 120
REFUSALS = (408, 502, 503, 504)


def right_body(target: str) -> bytes:
    """The only body that is right for a target."""
    return target.encode() * (int(target.split("/")[2]) // len(target) + 1)


class Backend:
    """One backend connection: parses what it gets by the strict parser, and answers as it pleases."""

    def __init__(self, sock: FakeSocket, rng: random.Random) -> None:
        self.sock = sock
        self.rng = rng
        self.got = bytearray()
        self.out = bytearray()
        self.head: RequestHead | None = None
        self.decoder: BodyDecoder | None = None
        self.closing = self.until_close = False
        self.dead = False

    def read(self) -> None:
        """Take requests in, and prepare their answers."""
        self.got += self.sock.delivered()
        while self.got and not self.closing:
            if self.head is None:
                self.head = parse_request_head(self.got, 0, DEFAULT_LIMITS)
                if self.head is None:
                    return
                del self.got[: self.head.end]
                self.decoder = body_decoder(self.head.length, DEFAULT_LIMITS, BadRequest)
                if self.rng.random() < 0.05:
                    self.answer(self.head, early=bool(self.head.length))
                    continue
            pieces: list[bytes] = []
            assert self.decoder is not None
            del self.got[: self.decoder.feed(self.got, 0, pieces)]
            if not self.decoder.done and self.head.length:
                return
            self.answer(self.head)

    def answer(self, head: RequestHead, *, early: bool = False) -> None:
        """In one of the framings."""
        rng = self.rng
        body = right_body(head.target)
        kind = rng.choice(("length", "length", "chunked", "close", "length and close"))
        if rng.random() < 0.2:
            self.out += b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        self.out += b"HTTP/1.1 200 OK\r\nX-Target: %b\r\n" % head.target.encode()
        if early or "close" in kind:
            self.closing = True
            self.out += b"Connection: close\r\n"
        if kind == "chunked":
            self.out += b"Transfer-Encoding: chunked\r\n\r\n"
        elif kind == "close":
            self.until_close = True
            self.out += b"\r\n"
        else:
            self.out += b"Content-Length: %d\r\n\r\n" % len(body)
        if head.method != "HEAD":
            if kind == "chunked":
                while body:
                    size = rng.randrange(1, 60_000)
                    self.out += b"%x\r\n%b\r\n" % (len(body[:size]), body[:size])
                    body = body[size:]
                self.out += b"0\r\n\r\n"
            else:
                self.out += body
        self.head = None

    def act(self) -> None:
        """Say some of it, or die."""
        if self.sock.closed or self.dead:
            return
        self.read()
        self.sock.room = self.rng.choice((None, None, 0, 1000, 100_000))
        count = self.rng.choice((1, 50, 5000, 300_000))
        self.sock.arrive(bytes(self.out[:count]))
        del self.out[:count]
        chance = self.rng.random()
        if chance < 0.01:
            self.dead = True  # its mere end could be that of the body
            (self.sock.reset if chance < 0.005 or self.until_close else self.sock.end)()
        self.end_if_said()

    def end_if_said(self) -> None:
        """What closes does so when all is said."""
        if self.closing and not self.out and not self.dead:
            self.dead = True
            self.sock.end()

    def finish(self) -> None:
        """Say all there is to say."""
        if self.sock.closed or self.dead:
            return
        self.sock.room = None
        self.read()
        self.sock.arrive(bytes(self.out))
        self.out.clear()
        self.end_if_said()


class Caller:
    """One client: some requests, one behind the other, perhaps ahead of the answers."""

    def __init__(self, bench: ProxyBench, rng: random.Random, number: int) -> None:
        self.rng = rng
        self.sock = Client(bench.kernel)
        bench.listener.backlog.append(self.sock)
        self.asked: list[tuple[str, str]] = []
        self.todo = bytearray()
        self.heard = bytearray()
        self.vanished = False
        version = rng.choice(("1.1", "1.1", "1.1", "1.0"))
        for turn in range(rng.randrange(1, 4) if version == "1.1" else 1):
            method = rng.choice(("GET", "HEAD", "PUT", "POST"))
            target = f"/{number}.{turn}/{rng.choice((1, 100, 20_000, 900_000))}"
            body = rng.randbytes(rng.choice((0, 5, 70_000, 500_000))) if method[0] == "P" else b""
            self.asked.append((method, target))
            self.todo += f"{method} {target} HTTP/{version}\r\nHost: a\r\n".encode()
            if body and version == "1.1" and rng.random() < 0.5:
                self.todo += b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            elif body:
                self.todo += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            else:
                self.todo += b"\r\n"

    def act(self) -> None:
        """Send some, take some, or go."""
        if self.sock.closed or self.vanished:
            return
        rng = self.rng
        count = rng.choice((1, 40, 3000, 200_000))
        self.sock.arrive(bytes(self.todo[:count]))
        del self.todo[:count]
        self.sock.room = rng.choice((None, None, 0, 1000, 100_000))
        self.heard += self.sock.delivered()
        chance = rng.random()
        if chance < 0.01:
            self.vanished = True
            (self.sock.reset if chance < 0.005 else self.sock.end)()

    def finish(self) -> None:
        """Send and take all."""
        if not self.sock.closed and not self.vanished:
            self.sock.arrive(bytes(self.todo))
            self.todo.clear()
        self.sock.room = None
        self.heard += self.sock.delivered()

    def check(self) -> None:
        """Every answer is well-formed and this client's own; what is cut off is seen to be."""
        start = 0
        for method, target in self.asked:
            head = None
            while head is None or head.status < 200:
                head = parse_response_head(self.heard, start, DEFAULT_LIMITS, method)
                if head is None:
                    assert self.sock.closed or self.vanished, "an answer is missing"
                    return
                start = head.end
            pieces: list[bytes] = []
            decoder = body_decoder(head.length, DEFAULT_LIMITS, BadResponse)
            start = decoder.feed(self.heard, start, pieces)
            if head.status == 200:
                assert head.headers.get("x-target") == target, "somebody else's answer"
                body = b"".join(pieces)
                whole = right_body(target) if method != "HEAD" else b""
                assert whole.startswith(body), "somebody else's body"
                if head.length == UNTIL_CLOSE and self.sock.closed and not self.sock.was_reset:
                    decoder.finish()  # as an old client does
                if head.length and not decoder.done:
                    assert self.vanished or self.sock.was_reset, "cut off, and it does not show"
                    return
                assert body == whole, "a shorter body that looks complete"
            else:
                assert head.status in REFUSALS
            if not head.keep_alive:
                return
        assert start == len(self.heard), "more than was asked for"


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", range(STORIES // 20))
def test_whatever_happens(seed: int) -> None:
    for story in range(seed * 20, seed * 20 + 20):
        tell(story)


def tell(story: int) -> None:
    rng = random.Random(story)
    bench = ProxyBench(
        connections=rng.choice((1, 2, 5)),
        pipeline=rng.choice((1, 1, 4)),
        proxy={"spool_max": rng.choice((1 << 30, 200_000))},
    )
    callers = [Caller(bench, rng, number) for number in range(rng.randrange(1, 6))]
    backends: dict[FakeSocket, Backend] = {}

    def meet() -> None:
        for sock in bench.sockets:
            if sock not in backends:
                sock.accept_connection()
                backends[sock] = Backend(sock, rng)

    for _ in range(STEPS):
        rng.choice(callers).act()
        meet()
        if backends:
            rng.choice(list(backends.values())).act()
        for _ in range(rng.randrange(3)):
            bench.loop.tick(0)
        if rng.random() < 0.03:
            bench.kernel.clock.advance(rng.choice((0.01, 0.3, 1.0, 1.0, 5.1)))
    for _ in range(60):
        for caller in callers:
            caller.finish()
        bench.run()
        meet()
        for backend in backends.values():
            backend.finish()
        bench.run()
        bench.kernel.clock.advance(0.3)
    for caller in callers:
        caller.finish()
        try:
            caller.check()
        except AssertionError as error:
            raise AssertionError(
                f"story {story}: {error}: {caller.asked}, {bytes(caller.heard[:300])!r}"
            ) from error
    now = bench.pool.statistics()
    told = f"story {story}: {now}"
    assert bench.loop.statistics().crashed == 0, told
    assert bench.add_up(), told
    assert (now.queued, now.in_flight, now.orphans) == (0, 0, 0), told
    assert bench.idle == now.connections, told
    alive = sum(not caller.sock.closed for caller in callers)
    assert bench.server.connections == alive, told
    assert bench.loop.machines == 2 + now.connections + alive, told
    assert bench.kernel.descriptors == 2 + now.connections + alive, told
    assert all(spool.closed for spool in bench.kernel.spools), told
