"""What parent and worker say to each other: one JSON object per line over a pair of connected sockets.

Nothing here blocks: what the other side does not take waits in a buffer, and is dropped with a side that
takes nothing at all (`WAITING_MAX`). Snapshots are cumulative, so one that is lost is made good by the next.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Self

import msgspec

from actors.kernel import READABLE, WRITABLE
from actors.machine import Machine
from actors.outcomes import UNCHANGED, Outcome, Stop
from actors.scope import Scope

__all__ = ["Drain", "Failed", "Halt", "Order", "Pipe", "Ready", "Report", "Snapshot", "Tell"]

READ_SIZE: Final = 1 << 16
LINE_MAX: Final = 1 << 20  # bytes of one message
WAITING_MAX: Final = 1 << 20  # bytes that the other side has not taken


class Drain(msgspec.Struct, frozen=True, tag=True):
    """To a worker: as `Loop.drain`."""

    seconds: float
    patience: float = 0.0


class Halt(msgspec.Struct, frozen=True, tag=True):
    """To a worker: stop where you are."""


class Tell(msgspec.Struct, frozen=True, tag=True):
    """To a worker: send a snapshot now."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """From a worker: `main` has returned, and what it spawned accepts connections."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """From a worker: it ends because of this."""

    reason: str


class Snapshot(msgspec.Struct, frozen=True, tag=True):
    """From a worker: what it has done so far. `asked`: in answer to `Tell`."""

    statistics: dict[str, Any]
    asked: bool = False


Order = Drain | Halt | Tell
Report = Ready | Failed | Snapshot


class Pipe(Machine["Pipe"]):
    """One end. `kind` is what is received (`Order` or `Report`); `ended` is called at the other side's end.

    The socket is closed by `close`, not by the machine's stop: a worker's last words follow its loop's end.
    """

    __slots__ = ("_decoder", "_ended", "_input", "_output", "_received", "_scope", "sock")

    drain_phase = None  # it is there to the end

    def __init__(
        self,
        sock: socket.socket,
        kind: Any,
        received: Callable[[Any], object],
        ended: Callable[[], object],
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)
        self._received = received
        self._ended = ended
        self._input = bytearray()
        self._output = bytearray()
        self._scope: Scope | None = None

    def __repr__(self) -> str:
        return f"<Pipe fd {self.sock.fileno()}, {len(self._output)} bytes to send>"

    def handle(self, scope: Scope) -> Self:
        """Spawning gives the pipe itself."""
        return self

    def start(self, scope: Scope) -> Outcome:
        """Watch the socket."""
        self._scope = scope
        scope.register(self.sock.fileno(), READABLE)
        return UNCHANGED

    def ready(self, scope: Scope, events: int) -> Outcome:
        """Lines, room for more of ours, or the end."""
        if events & WRITABLE:
            self._send()
        if events & ~WRITABLE and self._read() == b"":
            self._ended()
            return Stop()
        return UNCHANGED

    def _read(self) -> bytes | None:
        """What has come; nothing at the end, None if more may come."""
        try:
            data = self.sock.recv(READ_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        if len(self._input) + len(data) > LINE_MAX:
            return b""
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            self._received(self._decoder.decode(line))
        return data

    def read_rest(self) -> None:
        """The other side has ended: hear what it had said before."""
        while self._read():
            pass
        if self._scope is not None and self._scope.alive:
            self._scope.loop.kill(self._scope.token)

    def send(self, message: Order | Report) -> None:
        """Say this, now or as soon as it is taken. To one who has gone, or listens no more, it is lost."""
        if len(self._output) < WAITING_MAX:
            self._output += msgspec.json.encode(message) + b"\n"
            self._send()

    def _send(self) -> None:
        try:
            del self._output[: self.sock.send(self._output)]
        except BlockingIOError:
            pass
        except OSError:  # the end is told by reading
            self._output.clear()
        if self._scope is not None and self._scope.alive:
            self._scope.modify(self.sock.fileno(), READABLE | WRITABLE if self._output else READABLE)

    def finish(self, message: Report, seconds: float) -> None:
        """After the loop's end: say this as the last thing, waiting at most so long until it is taken."""
        self.sock.settimeout(seconds)
        with suppress(OSError):
            self.sock.sendall(self._output + msgspec.json.encode(message) + b"\n")

    def close(self) -> None:
        """Give the socket back."""
        self.sock.close()
