"""Clients made of the runtime's streams: some check every byte of every answer, some vanish in the middle."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from actors import (
    ANYTHING,
    SLEEP,
    Connector,
    Continue,
    Loop,
    Outcome,
    Stop,
    StreamProtocol,
    Timeout,
    Transport,
)
from actors.net.addresses import Address

from .backend import expected

__all__ = ["Asker", "Question", "Tally", "Vanisher", "questions"]

PAUSE_SECONDS = 0.05  # after a refusal, so that a dead backend does not use up all questions
_head = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r]*\r\n((?:[^\r]+\r\n)*)\r\n").match
_length = re.compile(rb"(?i)content-length: ([0-9]+)\r\n").search


class Question(NamedTuple):
    """One request, and the only body that is right for it."""

    data: bytes
    answer: bytes


class Tally:
    """What has come of the questions."""

    def __init__(self) -> None:
        self.asked = 0
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.living = 0

    def __repr__(self) -> str:
        states = f"{dict(self.statuses)}, {len(self.wrong)} wrong, {self.living} living"
        return f"<Tally asked {self.asked}, {states}>"


def questions(count: int, rng: random.Random) -> Iterator[Question]:
    """Each with a body or a target of its own."""
    for number in range(count):
        method = rng.choice(("GET", "GET", "PUT", "POST"))
        target = f"/{method.lower()}/{number}/{rng.getrandbits(64):x}"
        body = b"" if method == "GET" else b"%d " % number + rng.randbytes(rng.choice((0, 10, 500, 3000)))
        yield Question(
            encode(method, target, body, chunked=rng.random() < 0.2), expected(method, target, body)
        )


def encode(method: str, target: str, body: bytes, *, chunked: bool = False) -> bytes:
    """A request as bytes."""
    head = f"{method} {target} HTTP/1.1\r\nHost: soak\r\n".encode()
    if not body:
        return head + b"\r\n"
    if chunked:
        half = len(body) // 2
        chunks = b"".join(
            b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:half], body[half:]) if piece
        )
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Asker(StreamProtocol):
    """Asks the next question when the last is answered, on one connection, until there are none."""

    def __init__(self, todo: Iterator[Question], tally: Tally) -> None:
        self.todo = todo
        self.tally = tally
        self.question: Question | None = None
        tally.living += 1

    def ask(self, transport: Transport) -> Outcome:
        """The next one."""
        self.question = next(self.todo, None)
        if self.question is None:
            return Stop()
        self.tally.asked += 1
        transport.write(self.question.data)
        return Continue(self, ANYTHING)

    connected = timeout = ask

    def received(self, transport: Transport) -> Outcome:
        """An answer, or a part of one."""
        data = bytes(transport.input)
        head = _head(data)
        if head is None:
            return Continue(self, None)
        length = _length(b"\r\n" + head[2])
        if length is None:
            return self.fail(transport, f"no length: {data[:200]!r}")
        size = head.end() + int(length[1])
        if len(data) < size:
            return Continue(self, None)
        if len(data) > size or self.question is None:
            return self.fail(transport, f"more than one answer: {data[:200]!r}")
        status = int(head[1])
        if status == 200 and data[head.end() :] != self.question.answer:
            return self.fail(transport, f"asked {self.question.data[:100]!r}, answered {data[:200]!r}")
        self.tally.statuses[status] += 1
        transport.consume(size)
        if b"Connection: close" in head[2]:
            return self.fail(transport, "closed though asked to stay")
        if status != 200:
            self.question = None
            return Timeout(self, transport.scope.now + PAUSE_SECONDS, SLEEP)
        return self.ask(transport)

    def fail(self, transport: Transport, what: str) -> Outcome:
        """Something that must not happen has."""
        self.tally.wrong.append(what)
        return Stop()

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """The end, by now without a question."""
        self.tally.living -= 1
        if self.question is not None:
            self.tally.wrong.append(f"asked {self.question.data[:100]!r}, connection ended: {error}")


class Vanisher(StreamProtocol):
    """Sends a part of a request, or all, takes a part of the answer, or none, and is gone: FIN or RST."""

    def __init__(self, rng: random.Random, number: int, gone: Callable[[], None]) -> None:
        method = rng.choice(("GET", "PUT", "POST"))
        target = rng.choice((f"/{number}", "/large/100000", "/large/3000000"))
        body = b"" if method == "GET" else rng.randbytes(rng.choice((10, 5000, 200_000)))
        data = encode(method, target, body, chunked=rng.random() < 0.5)
        whole = rng.random() < 0.7
        self.data = data if whole else data[: rng.randrange(len(data))]
        self.take = rng.choice((0, 1, 50, 70_000)) if whole else 0
        self.delay = rng.choice((0.0, 0.0, 0.001, 0.01))
        self.error = ConnectionAbortedError("vanishes") if rng.random() < 0.5 else None
        self.gone = gone

    def connected(self, transport: Transport) -> Outcome:
        """Send, and wait a little or for a part of the answer."""
        transport.write(self.data)
        return Timeout(self, transport.scope.now + (self.delay if not self.take else 0.5), ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        """The answer: enough of it?"""
        if self.take and len(transport.input) >= self.take:
            return self.vanish(transport)
        return Timeout(self, transport.scope.deadline, None)

    def vanish(self, transport: Transport) -> Outcome:
        """Go without a word."""
        transport.input = b""
        transport.take_output()
        return Stop(self.error)

    timeout = ended = vanish

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """Gone."""
        self.gone()


def dial(loop: Loop, address: Address, protocol: StreamProtocol) -> None:
    """Connect a client."""
    loop.spawn(Connector(address, protocol, timeout=10.0))
