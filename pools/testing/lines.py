"""The smallest protocol that has everything: one line asks, one line answers."""

from __future__ import annotations

from typing import Any

from actors import ANYTHING, Expectation
from pools.errors import BackendError
from pools.units import Unit, Work
from pools.wires import Wire

__all__ = ["Ask", "LineWire", "Refused"]


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
            self.connection.ready()
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
        connection = self.connection
        if self.greeting:
            if line != self.greeting:
                raise Refused(f"greeted with {line!r}")
            self.greeting = b""
            connection.ready()
        elif line == b"garbage":
            raise Refused("garbage")
        elif line.startswith(b"bye"):
            connection.settle(line, reusable=False)
            return False
        elif line.startswith(b"error"):
            connection.fail(Refused(line.decode(errors="replace")))
        elif line.startswith(b"head"):
            connection.answer(line)
        elif line == b"tail":
            connection.finish()
        else:
            connection.settle(line)
        return True
