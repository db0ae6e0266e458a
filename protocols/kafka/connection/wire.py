"""A pool's connection to one broker: requests out, answers in, in order.

Rules:
1. A broker answers in the order of the requests. An answer with another correlation id than the first that is
   expected ends the connection, as does anything else that is not the protocol.
2. Versions are settled when the connection begins: each request goes out in the newest one that both sides
   speak, and one that the broker does not speak at all fails by itself, unsent.
3. An answer is read only when all of it has come, and never if it is larger than `answer_bytes`. That of a
   unit nobody waits for is dropped unread.
4. A broker that believes who we are for a limited time only (KIP-368) sees a new connection before that is
   over.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Any, Final

from actors import ANYTHING, NEVER, Address, Bytes, Expectation
from pools import Wire, Work
from protocols.kafka.errors import BadMessage
from protocols.kafka.protocol.schema import Request, decode, encode, version_for

from .handshake import Greeting, Offered, greet
from .sasl import Login

__all__ = ["ANSWER_BYTES", "KafkaWire"]

ANSWER_BYTES: Final = (
    100 << 20
)  # Java's client takes 2 GiB; brokers take requests of 100 MiB (socket.request.max.bytes)
GREETING_BYTES: Final = 1 << 20
RENEWED: Final = 0.85  # of the time for which we are believed, as Java's client does at the earliest
TLS_ALERT: Final = b"\x15\x03"

_size = struct.Struct(">i")


class KafkaWire(Wire):
    """Made by the cluster, one per connection. `client` is what the broker's logs and quotas call us.
    `doubts`, common to all connections: addresses that have closed one at the first request.
    """

    __slots__ = (
        "_answers",
        "_correlation",
        "_expected",
        "_greeting",
        "answer_bytes",
        "client",
        "doubts",
        "login",
        "offered",
    )

    def __init__(
        self, client: str, login: Login | None, doubts: set[Address], answer_bytes: int = ANSWER_BYTES
    ) -> None:
        super().__init__()
        self.client = client
        self.login = login
        self.doubts = doubts
        self.answer_bytes = answer_bytes
        self.offered: Offered = {}
        self._greeting: Greeting | None = None
        self._correlation = 0
        self._expected: deque[tuple[int, type[Request[Any]], int]] = deque()
        self._answers = 0  # since the greeting

    def __repr__(self) -> str:
        state = "greeting" if self._greeting is not None else f"{len(self.offered)} requests known"
        return f"<KafkaWire {state}, {len(self._expected)} answers expected>"

    # -- sending ---------------------------------------------------------------------------------------------

    def start(self) -> Expectation | None:
        """Begin the handshake."""
        address = self.connection.backend.address
        self._greeting = greet(self.login, address, doubtful=address in self.doubts)
        self._write(*next(self._greeting))
        return ANYTHING

    def send(self, work: Work[Any]) -> None:
        """The request. Raises `BrokerTooOld`, which fails this unit alone."""
        unit = work.unit
        request = unit.request
        version = version_for(request.api, self.offered, self.connection.backend.address, request.newest)
        self._write(request, version, unit.answered)
        if not unit.answered:
            self.connection.wake()

    def _write(self, request: Request[Any], version: int, answered: bool = True) -> None:
        self._correlation = correlation = (self._correlation + 1) & 0x7FFFFFFF
        self.transport.write(encode(request, version, correlation, self.client))
        if answered:
            self._expected.append((correlation, type(request), version))

    def wakeup(self) -> Expectation | None:
        """What has no answer is done when it is written and what was before it is."""
        connection = self.connection
        while (work := connection.current) is not None and not work.unit.answered:
            connection.settle(None)
        return None

    # -- receiving -------------------------------------------------------------------------------------------

    def received(self) -> Expectation | None:
        """Every whole answer."""
        data = self.transport.input
        at, size = 0, len(data)
        limit = GREETING_BYTES if self._greeting is not None else self.answer_bytes
        wanted = 4
        while size - at >= wanted:
            length = _size.unpack_from(data, at)[0]
            if not 4 <= length <= limit:
                raise self._not_kafka(bytes(data[at : at + 8]), length)
            end = at + 4 + length
            if end > size:
                wanted = 4 + length
                break
            self._answer(_size.unpack_from(data, at + 4)[0], bytes(memoryview(data)[at + 8 : end]))
            at = end
            if self.connection.over:
                return None
        if at:
            self.transport.consume(at)
        return ANYTHING if at == size else Bytes(wanted)

    def _answer(self, correlation: int, body: bytes) -> None:
        if not self._expected:
            raise BadMessage(f"{self.connection.backend.address} sent an answer that nothing had asked for")
        expected, request, version = self._expected.popleft()
        if correlation != expected:
            raise BadMessage(
                f"{self.connection.backend.address} answered request {correlation} where {expected} "
                "was to come"
            )
        if self._greeting is not None:
            self._greet(body)
            return
        self._answers += 1
        work = self.connection.current
        self.connection.settle(None if work is None or work.settled else decode(request, version, body))
        self.wakeup()

    def _greet(self, body: bytes) -> None:
        assert self._greeting is not None
        try:
            self._write(*self._greeting.send(body))
        except StopIteration as done:
            self._greeting = None
            self.doubts.discard(self.connection.backend.address)
            self.offered, lifetime = done.value
            if lifetime:
                self.deadline = self.connection.pool.loop.now + RENEWED * lifetime
            self.connection.ready()

    def _not_kafka(self, start: bytes, length: int) -> BadMessage:
        address = self.connection.backend.address
        if start.startswith(TLS_ALERT):
            return BadMessage(f"{address} answers with TLS: give the pool tls=ssl.create_default_context()")
        return BadMessage(
            f"{address} sent {start!r}, which would begin an answer of {length} bytes; is it a Kafka broker, "
            "and does that listener want TLS (tls=)?"
        )

    # -- the end ---------------------------------------------------------------------------------------------

    def ended(self) -> Expectation | None:
        """An end that says something about the listener."""
        address = self.connection.backend.address
        if self._greeting is not None:
            self.doubts.discard(address)
            raise BadMessage(
                f"{address} closed the connection during the handshake; is it a Kafka broker (2.1 or newer), "
                "and does that listener want TLS (tls=)?"
            )
        if not self._answers and self.login is None:
            self.doubts.add(address)
            self.connection.close(
                ConnectionResetError(f"{address} closed the connection at the first request")
            )
        return None

    def timeout(self) -> Expectation | None:
        """Our time is nearly over: whatever comes next goes over a new connection."""
        self.deadline = NEVER
        self.connection.retire()
        return None
