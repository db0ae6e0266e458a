"""A toy protocol for the pool's tests: one line asks, one line answers; a server of it, in the same loop,
that obeys orders.

`sleep` is never answered, `hold` only when the test says so, `drop` closes the connection, `bye` answers and
announces that the connection ends, `garbage` breaks the protocol, `error …` is the backend's own error,
`echo`s come back as they are.
"""

from __future__ import annotations

from typing import Any

from actors import (
    Expectation,
)
from pools import BackendError, Unit, Wire, Work

__all__ = ["Ask", "LineWire", "Refused"]


class Refused(BackendError):
    """The toy backend's own error."""


class Ask(Unit[bytes]):
    """Send a line, get a line."""

    __slots__ = ("idempotent", "line", "pipelinable", "size")

    def __init__(
        self, line: bytes | str, *, idempotent: bool = False, pipelinable: bool = True, size: int = 0
    ) -> None:
        self.line = line.encode() if isinstance(line, str) else line
        self.idempotent = idempotent
        self.pipelinable = pipelinable
        self.size = size


class LineWire(Wire):
    """The client's side."""

    __slots__ = ()

    spares_behind = True

    def send(self, work: Work[Any]) -> None:
        self.transport.write(work.unit.line + b"\n")

    def received(self) -> Expectation | None:
        transport, member = self.transport, self.member
        *lines, rest = bytes(transport.input).split(b"\n")
        transport.input = rest
        for line in lines:
            if line == b"garbage":
                raise Refused("garbage")
            if line.startswith(b"error"):
                member.fail(Refused(line.decode()))
            elif line.startswith(b"bye"):
                member.settle(line, reusable=False)
                return None
            else:
                member.settle(line)
        return None
