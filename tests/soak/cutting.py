"""A proxy between a client and a server that delays what passes, tears it into pieces, and cuts."""

from __future__ import annotations

import random
from collections import Counter

from actors import (
    ANYTHING,
    NEVER,
    UNCHANGED,
    Address,
    Connector,
    Continue,
    Outcome,
    Stop,
    StreamProtocol,
    Timeout,
    Transport,
)

CUT = 0.01  # of the pieces that pass
DELAY = 0.05  # of them, too


class Side(StreamProtocol):
    """One of the two connections of a passage: what it reads it passes on, late, in pieces, or not at all."""

    def __init__(self, rng: random.Random, cuts: Counter[str], server: Address | None) -> None:
        self.rng = rng
        self.cuts = cuts
        self.server = server
        self.other: Side | None = None
        self.transport: Transport | None = None
        self.held = b""
        self.gone = False
        self.until = NEVER

    def connected(self, transport: Transport) -> Outcome:
        self.transport = transport
        if self.server is not None:
            self.other = Side(self.rng, self.cuts, None)
            self.other.other = self
            transport.scope.spawn(Connector(self.server, self.other))
        elif self.other is not None:
            self.other.pass_on()
        return Continue(self, ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        self.held += transport.take(self.rng.choice([7, 100, 1 << 16]))
        fate = self.rng.random()
        if fate < CUT:
            self.cuts["cut"] += 1
            self.pass_on(self.rng.randrange(len(self.held) + 1))
            return Stop() if self.rng.random() < 0.5 else Stop(ConnectionResetError("cut"))
        if fate < CUT + DELAY or self.until != NEVER:
            self.cuts["delayed"] += 1
            if self.until == NEVER:
                self.until = transport.scope.now + self.rng.uniform(0.0005, 0.01)
            return Timeout(self, self.until, ANYTHING)
        self.pass_on()
        return Continue(self, ANYTHING)

    def pass_on(self, count: int = 1 << 30) -> None:
        if self.other is not None and self.other.transport is not None and self.held:
            self.other.transport.write(bytes(self.held[:count]))
            self.held = self.held[count:]

    def timeout(self, transport: Transport) -> Outcome:
        self.until = NEVER
        self.pass_on()
        return Continue(self, ANYTHING)

    def wakeup(self, transport: Transport) -> Outcome:
        return Stop() if self.gone else UNCHANGED

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        other, self.other = self.other, None
        if other is not None:
            other.gone, other.other = True, None
            if other.transport is not None:
                other.transport.scope.wake()
