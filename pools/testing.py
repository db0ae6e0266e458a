"""For tests of wires and pools: a pool on a kernel without sockets, its peers played by the test, and a toy
protocol.

`Bench` spawns a pool of any wire on `actors.testing.ManualKernel`; the test accepts and refuses connections,
reads what was sent on each, answers, ends, resets, and lets time pass. `LineWire` and `Ask` are the smallest
protocol that has everything: one line asks, one line answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors import ANYTHING, Expectation, Loop, Reply
from actors.testing import FakeSocket, ManualKernel

from .errors import BackendError
from .pool import Pool
from .units import Unit, Work
from .wires import Wire

__all__ = ["Ask", "Bench", "LineWire", "Refused"]


class Refused(BackendError):
    """The toy backend's own error."""


class Ask(Unit[bytes]):
    """Send a line, get a line."""

    __slots__ = ("idempotent", "line", "pipelinable", "size")

    def __init__(
        self, line: str, *, idempotent: bool = False, pipelinable: bool = True, size: int = 0
    ) -> None:
        self.line = line.encode("ascii")
        self.idempotent = idempotent
        self.pipelinable = pipelinable
        self.size = size

    def __repr__(self) -> str:
        return f"Ask({self.line.decode()!r})"


class LineWire(Wire):
    """Answers that begin with `error` are the backend's error, with `bye` the last of the connection, with
    `head` the first part of an answer that ends with a line `tail`; `garbage` breaks the protocol. With
    `greeting` the server must say that first."""

    __slots__ = ("greeting",)

    spares_behind = True

    def __init__(self, greeting: bytes = b"") -> None:
        super().__init__()
        self.greeting = greeting

    def start(self) -> Expectation | None:
        """Wait for the greeting, if there is one."""
        if not self.greeting:
            self.member.ready()
        return ANYTHING

    def send(self, work: Work[Any]) -> None:
        """One line."""
        unit = work.unit
        assert isinstance(unit, Ask)
        self.transport.write(unit.line + b"\n")

    def received(self) -> Expectation | None:
        """Whole lines."""
        *lines, rest = bytes(self.transport.input).split(b"\n")
        self.transport.input = rest
        for line in lines:
            if not self._line(line):
                break
        return None

    def _line(self, line: bytes) -> bool:
        member = self.member
        if self.greeting:
            if line != self.greeting:
                raise Refused(f"greeted with {line!r}")
            self.greeting = b""
            member.ready()
        elif line == b"garbage":
            raise Refused("garbage")
        elif line.startswith(b"bye"):
            member.settle(line, reusable=False)
            return False
        elif line.startswith(b"error"):
            member.fail(Refused(line.decode()))
        elif line.startswith(b"head"):
            member.answer(line)
        elif line == b"tail":
            member.finish()
        else:
            member.settle(line)
        return True


class Bench:
    """A pool of `wire` on a manual kernel. `options` are the pool's."""

    def __init__(
        self,
        wire: Callable[[], Wire] = LineWire,
        backends: tuple[str, ...] = ("192.0.2.7:7000",),
        *,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.kernel = ManualKernel(seed=seed)
        self.loop = Loop(kernel=self.kernel)
        self.pool: Pool = self.loop.spawn(Pool(wire, backends, **options))

    def __repr__(self) -> str:
        return f"<Bench {self.pool!r}>"

    @property
    def sockets(self) -> list[FakeSocket]:
        """One per connection, in the order in which they were begun."""
        return self.kernel.sockets

    def run(self, ticks: int = 4) -> None:
        """Let the loop do what there is to do."""
        for _ in range(ticks):
            self.loop.tick(0)

    def advance(self, seconds: float) -> None:
        """Let time pass, and the loop notice."""
        self.kernel.clock.advance(seconds)
        self.run()

    def submit(self, unit: Unit[Any] | str, **options: Any) -> Reply[Any]:
        """Submit to the pool; a string becomes an `Ask`."""
        return self.pool.submit(Ask(unit) if isinstance(unit, str) else unit, **options)

    def accept(self) -> None:
        """Every backend accepts what is connecting."""
        self.run()
        for sock in self.sockets:
            sock.accept_connection()
        self.run()

    def refuse(self) -> None:
        """Every backend refuses what is connecting."""
        self.run()
        for sock in self.sockets:
            if not sock.closed and sock.readiness() == 0:
                sock.refuse()
        self.run()

    def sent(self, index: int = -1) -> list[str]:
        """The lines that a connection has sent since the last call."""
        self.run()
        return self.sockets[index].delivered().decode().splitlines()

    def answer(self, *lines: str, index: int = -1) -> None:
        """A backend answers on a connection."""
        for line in lines:
            self.sockets[index].arrive(line.encode() + b"\n")
        self.run()

    def end(self, index: int = -1) -> None:
        """A backend closes a connection (FIN)."""
        self.sockets[index].end()
        self.run()

    def reset(self, index: int = -1) -> None:
        """A backend resets a connection (RST)."""
        self.sockets[index].reset()
        self.run()

    def add_up(self) -> bool:
        """Whether every unit that was submitted is accounted for."""
        now = self.pool.statistics()
        return now.submitted == now.succeeded + sum(now.failed.values()) + now.queued + now.in_flight
