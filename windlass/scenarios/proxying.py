"""The reverse proxy between simulated clients and backends, with every fault.

Backends answer in every framing, early, slowly, after an interim answer. Each answer names the target that it
answers, and its body follows from the target, so that a client knows another's answer, and a cut one, at
once. No request that is not idempotent may be executed twice.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from actors import ANYTHING, Listener, Outcome, Stop, StreamProtocol, TcpAddress, Timeout, Transport
from actors.simulation import Faults, Host, World, scenario
from pools import Pool
from pools.simulation import watch
from protocols import http
from protocols.http.codec.bodies import BodyDecoder, body_decoder
from protocols.http.codec.errors import BadRequest
from protocols.http.codec.head import RequestHead, parse_request_head
from protocols.http.codec.limits import DEFAULT_LIMITS

from .callers import AGAIN, PROTOCOL, SWITCHING, body_for, client

__all__ = ["Origin", "proxy"]

PORT: Final = 8080
ORIGIN_PORT: Final = 9000
ORIGINS: Final = 2
CLIENTS: Final = 4
EARLY_CHANCE: Final = 0.02  # for each part of a request's body
IDLE_SECONDS: Final = 10.0
KEPT_SIZE: Final = 3000  # bytes of an answer that says how long its connection is kept

FAULTS: Final = Faults(
    lag=3.0,
    reset=1.5,
    half_close=1.0,
    vanish=0.4,
    forget=0.1,
    half_open=0.2,
    mute=0.3,
    partition=0.1,
    one_way=0.1,
    clog=0.7,
    short_reads=0.4,
    short_writes=0.4,
    full_buffers=0.4,
    refuse=0.4,
    slow_accept=0.3,
    resolve_failure=0.1,
    kill=0.4,
    crash=0.2,
    restart=0.2,
    jump=0.1,
    stall=0.4,
    slow_consumer=0.7,
)


class Echo(StreamProtocol):
    """What a backend's connection is after an upgrade: it says what it hears."""

    __slots__ = ()

    def received(self, transport: Transport) -> Outcome:
        """The same back."""
        transport.write(transport.take(len(transport.input)))
        return Timeout(self, transport.scope.now + IDLE_SECONDS, ANYTHING)

    def timeout(self, transport: Transport) -> Outcome:
        """Both sides are silent."""
        return Stop()


class Origin(StreamProtocol):
    """One connection to a backend: answers every request, as it pleases."""

    __slots__ = ("_decoder", "_done", "_head", "_host", "_later")

    def __init__(self, host: Host, done: set[str]) -> None:
        self._host = host
        self._done = done  # targets of POST that were executed
        self._head: RequestHead | None = None
        self._decoder: BodyDecoder | None = None
        self._later: list[tuple[float, bytes]] = []  # answers, and when they are ready

    def connected(self, transport: Transport) -> Outcome:
        """A proxy."""
        return Timeout(self, transport.scope.now + IDLE_SECONDS, ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        """Requests, or parts of one."""
        data, start = transport.input, 0
        while start < len(data):
            if self._head is None:
                head = parse_request_head(data, start, DEFAULT_LIMITS)
                if head is None:
                    break
                start = head.end
                self._head = head
                self._decoder = body_decoder(head.length, DEFAULT_LIMITS, BadRequest) if head.length else None
            if self._decoder is not None:
                start = self._decoder.feed(data, start, [])
                if not self._decoder.done:
                    if transport.scope.kernel.random().random() < EARLY_CHANCE:
                        return self._answer_early(transport)
                    break
            if self._head.upgrade == PROTOCOL:
                transport.input = data[start:]
                transport.write(SWITCHING)
                return Timeout(Echo(), transport.scope.now + IDLE_SECONDS, ANYTHING)
            self._answer(transport, self._head)
            self._head = None
        transport.input = data[start:]
        return self.timeout(transport)

    def _answer_early(self, transport: Transport) -> Outcome:
        """A refusal before the whole of the request has come; or a backend that dies instead."""
        if transport.scope.kernel.random().random() < 0.5:
            return Stop(ConnectionAbortedError("no more"))
        transport.write(b"HTTP/1.1 503 Early\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return Stop()

    def _answer(self, transport: Transport, head: RequestHead) -> None:
        if head.method == "POST":
            if head.target in self._done:
                self._host.world.fail(f"POST {head.target} was executed twice")
            self._done.add(head.target)
        random = transport.scope.kernel.random()
        body = body_for(head.target)
        kind = random.choice(("length", "length", "length", "chunked", "last"))
        out = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" if random.random() < 0.1 else b""
        out += b"HTTP/1.1 200 OK\r\nX-Target: %b\r\n" % head.target.encode()
        if kind == "last":
            out += b"Connection: close\r\n"
        elif len(body) == KEPT_SIZE:
            out += b"Keep-Alive: timeout=%d\r\n" % IDLE_SECONDS
        if kind == "chunked":
            middle = len(body) // 2 or len(body)
            pieces = [piece for piece in (body[:middle], body[middle:]) if piece]
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
            out += b"Transfer-Encoding: chunked\r\n\r\n" + (b"" if head.method == "HEAD" else chunks)
        else:
            out += b"Content-Length: %d\r\n\r\n" % len(body) + (b"" if head.method == "HEAD" else body)
        now = transport.scope.now
        takes = random.choice((0.0, 0.0, 0.003, 0.05)) if random.random() < 0.97 else 1.0
        ready = max(now + takes, self._later[-1][0] if self._later else 0.0)
        self._later.append((ready, out))
        if kind == "last":
            self._later.append((ready, b""))  # and no more

    def timeout(self, transport: Transport) -> Outcome:
        """An answer is ready, or no question has come for long."""
        now = transport.scope.now
        if not self._later:
            return Timeout(self, now + IDLE_SECONDS)
        while self._later and self._later[0][0] <= now:
            answer = self._later.pop(0)[1]
            if not answer:
                return Stop()
            transport.write(answer)
        return Timeout(self, self._later[0][0] if self._later else now + IDLE_SECONDS)


@scenario(seconds=3.0, faults=FAULTS)
def proxy(world: World) -> None:
    """The reverse proxy between clients and backends; no answer is another's, and none is cut unseen."""
    done: set[str] = set()
    answered: Counter[str] = Counter()  # by the clients' own account
    pools: list[Pool] = []  # one for each time that the proxy was booted

    def serve(host: Host) -> None:
        host.loop.spawn(Listener(f"0.0.0.0:{ORIGIN_PORT}", lambda: Origin(host, done)))

    def forward(host: Host) -> None:
        random = world.random("proxy")
        pool = http.pool(
            [f"http://origin{number}:{ORIGIN_PORT}" for number in range(ORIGINS)],
            connections=random.choice((1, 2, 5)),
            pipeline=random.choice((1, 1, 4)),
            queue=random.choice((4, 1024)),
            timeout=1.0,
            connect_timeout=0.5,
            body_timeout=2.0,
        )
        running = watch(host, host.loop.spawn(pool))
        pools.append(running)
        timeouts = http.Timeouts(
            idle=5.0, head_receiving=2.0, body_receiving=2.0, response_sending=5.0, body_rate_min=20_000.0
        )
        forwarding = http.proxy(running, spool_max=100_000, body_timeout=2.0, tunnel_idle=IDLE_SECONDS)
        host.loop.spawn(http.server(f"0.0.0.0:{PORT}", forwarding, timeouts=timeouts))

    def call(number: int) -> None:
        def program(host: Host) -> None:
            host.expect(
                host.loop.spawn(client(host, number, TcpAddress("proxy", PORT), answered)),
                f"client {number}",
                may_fail=False,
            )

        world.host(f"client{number}", program)

    for number in range(ORIGINS):
        world.host(f"origin{number}", serve, crashes=True)
    world.host("proxy", forward, crashes=True)
    for number in range(CLIENTS):
        call(number)

    def account() -> None:
        """Each answer that a client counts was a unit that succeeded, and none came twice."""
        succeeded = sum(pool.statistics().succeeded for pool in pools)
        world.check(answered.total() <= succeeded, f"{answered.total()} answers of {succeeded} units")
        twice = [asked for asked, times in answered.items() if times > 1 and AGAIN not in asked]
        world.check(not twice, f"answered twice: {twice}")

    world.at_rest(account)
