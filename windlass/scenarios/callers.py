"""Clients of HTTP for the scenarios: they know which answer is theirs, and that all of it has come.

Some send ahead, some send slowly, some go before they have their answer, some ask for a tunnel.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from actors import (
    ANYTHING,
    NEVER,
    Address,
    Connector,
    Outcome,
    Reply,
    Stop,
    StreamProtocol,
    Timeout,
    Transport,
    sleep,
)
from actors.simulation import Host
from actors.simulation.decisions import Stream
from protocols.http.codec.bodies import BodyDecoder, body_decoder
from protocols.http.codec.errors import BadResponse
from protocols.http.codec.head import ResponseHead, parse_response_head
from protocols.http.codec.limits import DEFAULT_LIMITS

__all__ = ["AGAIN", "PROTOCOL", "SWITCHING", "Caller", "Visitor", "body_for", "client"]

CONNECTIONS: Final = 5  # of each client, one after the other
PATIENCE: Final = 3.0  # seconds, that a client waits for an answer
OVER_SECONDS: Final = 20.0  # in which a connection is over, however slowly all of its answers come
DRIP_SECONDS: Final = 0.01  # between the pieces of a request that is sent slowly
DRIP_PIECES: Final = 8
SIZES: Final = (1, 100, 3000, 20_000, 150_000)  # bytes of an answer
AGAIN: Final = "/again/"  # asked for by everybody: heads that are the same, byte for byte
REFUSALS: Final = (408, 502, 503, 504)
PROTOCOL: Final = "echo"  # what tunnels are asked for
ASK_TUNNEL: Final = b"GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
SWITCHING: Final = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
TUNNEL_BYTES: Final = 20_000
TUNNEL_PIECES: Final = 4

Asked = tuple[str, str, bytes]
"""A method, a target, and the request as bytes."""


def body_for(target: str) -> bytes:
    """The only body that is right for a target, which ends with its size."""
    size = int(target.rpartition("/")[2])
    return (target.encode() * (size // len(target) + 1))[:size]


class Caller(StreamProtocol):
    """One connection of a client: some requests, perhaps ahead of the answers, each of which it checks."""

    __slots__ = (
        "_answered",
        "_asked",
        "_body",
        "_decoder",
        "_done",
        "_due",
        "_head",
        "_host",
        "_leaves",
        "_piece",
        "_sent",
        "_unsent",
    )

    def __init__(
        self, host: Host, asked: list[Asked], random: Stream, done: Reply[int], answered: Counter[str]
    ) -> None:
        self._host = host
        self._answered = answered
        self._asked = asked  # what was answered is taken off
        self._sent = len(asked) if random.random() < 0.4 else 1
        self._done = done
        self._due = NEVER  # when it gives up
        self._leaves = random.uniform(0.0, 0.1) if random.random() < 0.1 else NEVER  # seconds, then a time
        self._unsent = b""
        self._piece = random.random() < 0.2  # whether it sends slowly
        self._head: ResponseHead | None = None
        self._decoder: BodyDecoder | None = None
        self._body: list[bytes] = []

    def connected(self, transport: Transport) -> Outcome:
        """Ask."""
        now = transport.scope.now
        self._leaves += now
        self._due = now + PATIENCE
        self._ask(transport, b"".join(request for _, _, request in self._asked[: self._sent]))
        return self._wait(transport, first=True)

    def _ask(self, transport: Transport, request: bytes) -> None:
        if self._piece:
            self._unsent += request
        else:
            transport.write(request)

    def _wait(self, transport: Transport, *, first: bool = False) -> Outcome:
        due = min(self._due, self._leaves)
        if self._unsent:
            due = min(due, transport.scope.now + DRIP_SECONDS)
        return Timeout(self, due, ANYTHING if first else None)

    def timeout(self, transport: Transport) -> Outcome:
        """Send on, or go: one who leaves early closes as if he had all, or resets."""
        now = transport.scope.now
        if now >= self._due or now >= self._leaves:
            return Stop() if now >= self._leaves and self._sent == 1 else Stop(TimeoutError("no patience"))
        size = max(1, len(self._unsent) // DRIP_PIECES)
        transport.write(self._unsent[:size])
        self._unsent = self._unsent[size:]
        return self._wait(transport)

    def received(self, transport: Transport) -> Outcome:
        """Answers, or parts of one."""
        data, start = transport.input, 0
        while start < len(data):
            if not self._asked:
                return self._wrong(f"{bytes(data[start : start + 64])!r}, more than was asked for")
            method, target, _ = self._asked[0]
            if self._head is None:
                head = parse_response_head(data, start, DEFAULT_LIMITS, method)
                if head is None:
                    break
                start = head.end
                if head.status < 200:
                    continue
                self._head, self._body = head, []
                self._decoder = body_decoder(head.length, DEFAULT_LIMITS, BadResponse)
            assert self._decoder is not None
            if self._head.length:
                start = self._decoder.feed(data, start, self._body)
                if not self._decoder.done:
                    break
            self._check(method, target, self._head)
            self._asked.pop(0)
            if not self._head.keep_alive or not self._asked:
                return Stop()
            self._head = None
            if self._sent == 1:
                self._ask(transport, self._asked[0][2])
        transport.input = data[start:]
        self._due = transport.scope.now + PATIENCE
        return self._wait(transport)

    def _check(self, method: str, target: str, head: ResponseHead) -> None:
        self._host.world.count(f"status {head.status}")
        if head.status == 200:
            self._answered[f"{method} {target}"] += 1
            if head.headers.get("x-target") != target:
                self._wrong(f"the answer to {head.headers.get('x-target')}")
            elif method != "HEAD" and b"".join(self._body) != body_for(target):
                self._wrong(f"a body of {sum(map(len, self._body))} bytes that is not the right one")
        elif head.status not in REFUSALS:
            self._wrong(f"status {head.status}")

    def _wrong(self, what: str) -> Outcome:
        asked = self._asked[0][:2] if self._asked else "nothing"
        self._host.world.fail(f"{self._host.name} asked for {asked} and got {what}")
        return Stop()

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """The connection is over; what was not answered never will be."""
        self._done.settle(len(self._asked))


class Visitor(StreamProtocol):
    """Asks for a tunnel, and says something through it that must come back."""

    __slots__ = ("_done", "_heard", "_host", "_said", "_switched", "_text")

    def __init__(self, host: Host, random: Stream, done: Reply[int]) -> None:
        self._host = host
        self._text = random.randbytes(TUNNEL_BYTES)
        self._done = done
        self._switched = False
        self._said = self._heard = 0  # bytes

    def connected(self, transport: Transport) -> Outcome:
        """Ask, and say the first piece already."""
        transport.write(ASK_TUNNEL)
        self._say(transport)
        return Timeout(self, transport.scope.now + PATIENCE, ANYTHING)

    def _say(self, transport: Transport) -> None:
        piece = self._text[self._said : self._said + TUNNEL_BYTES // TUNNEL_PIECES]
        self._said += len(piece)
        transport.write(piece)

    def received(self, transport: Transport) -> Outcome:
        """The switch, then what was said."""
        deadline = transport.scope.now + PATIENCE
        if not self._switched:
            head = parse_response_head(transport.input, 0, DEFAULT_LIMITS, "GET")
            if head is None:
                return Timeout(self, deadline)
            self._host.world.count(f"status {head.status}")
            if head.status != 101:
                if head.status not in REFUSALS:
                    self._host.world.fail(
                        f"{self._host.name} asked for a tunnel and got status {head.status}"
                    )
                return Stop()
            self._switched = True
            transport.consume(head.end)
        heard = transport.take(len(transport.input))
        if heard != self._text[self._heard : self._heard + len(heard)] or self._heard > self._said:
            self._host.world.fail(f"{self._host.name} heard through its tunnel what it has not said")
        self._heard += len(heard)
        if self._heard == TUNNEL_BYTES:
            self._host.world.count("tunnel through")
            return Stop()
        if self._heard == self._said:
            self._say(transport)
        return Timeout(self, deadline, ANYTHING)

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """The tunnel is over."""
        self._done.settle(TUNNEL_BYTES - self._heard)


def questions(number: int, turn: int, random: Stream) -> list[Asked]:
    """Some requests, as bytes."""
    asked = []
    for count in range(random.randrange(1, 5)):
        method = random.choice(("GET", "GET", "GET", "HEAD", "PUT", "POST"))
        if method[0] != "P" and random.random() < 0.4:
            target = f"{AGAIN}{random.choice(SIZES)}"
        else:
            target = f"/{number}.{turn}.{count}/{random.choice(SIZES)}"
        body = random.randbytes(random.choice((0, 5, 30_000, 100_000))) if method[0] == "P" else b""
        head = f"{method} {target} HTTP/1.1\r\nHost: a\r\n"
        if method[0] != "P":
            request = f"{head}\r\n".encode()
        elif body and random.random() < 0.5:
            request = f"{head}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode()
            request += body + b"\r\n0\r\n\r\n"
        else:
            request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        asked.append((method, target, request))
    return asked


async def client(host: Host, number: int, server: Address, answered: Counter[str]) -> None:
    """Some connections, one after the other. `answered`: what has been, and how often."""
    random = host.world.random(f"client {number}")
    for turn in range(CONNECTIONS):
        await sleep(random.expovariate(1 / 0.3))
        done: Reply[int] = Reply()
        caller: StreamProtocol
        if random.random() < 0.1:
            caller = Visitor(host, random, done)
        else:
            caller = Caller(host, questions(number, turn, random), random, done, answered)
        host.loop.spawn(Connector(server, caller, timeout=2.0))
        what = f"connection {turn} of {host.name}"
        await host.expect(done, what, kind=int, within=OVER_SECONDS, may_fail=False)
