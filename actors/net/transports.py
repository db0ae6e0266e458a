"""Transports: an input and an output buffer, and nothing else. A protocol never sees a socket.

So TCP, Unix sockets, TLS, an in-memory pair and a test are the same to it.

Rules:
1. `input` is what has arrived and was not consumed; the protocol reads it in place and calls `consume`.
2. `write` only gathers. The loop flushes once at the end of the tick.
3. Above the high watermark the transport is `congested`; who feeds it stops, and goes on when `Flush` is met.
4. What a protocol expects is data: `Bytes`, `Delimiter`, `Flush`, `Sleep`, or a pair of one to read and one
   `Flush`, for reading and flushing are independent of each other (full duplex).

Expectations as data are those of rotor-stream (https://github.com/tailhook/rotor-stream).
"""

from __future__ import annotations

from typing import Final

import msgspec

from actors.scope import Scope
from actors.telling import told

__all__ = [
    "ANYTHING",
    "HIGH_WATERMARK",
    "LOW_WATERMARK",
    "SLEEP",
    "Bytes",
    "Delimiter",
    "Expectation",
    "Flush",
    "Sleep",
    "Transport",
    "bytes_like",
]

# Go's bufio writes at 4 KiB, node's streams at 16 KiB; a proxy that streams bodies wants more per system call
HIGH_WATERMARK: Final = 1 << 20  # bytes
LOW_WATERMARK: Final = 1 << 18  # bytes


class Bytes(msgspec.Struct, frozen=True, gc=False):
    """Call `received` when at least `count` bytes are in the input."""

    count: int = 1


class Delimiter(msgspec.Struct, frozen=True, gc=False):
    """Call `received` when `delimiter` is in the input; stop with `DelimiterNotFound` if it is not in the
    first `limit` bytes."""

    delimiter: bytes
    limit: int = 65536


class Flush(msgspec.Struct, frozen=True, gc=False):
    """Call `flushed` when at most `below` bytes of output are left. Nothing is read meanwhile unless a pair
    says what."""

    below: int = 0


class Sleep(msgspec.Struct, frozen=True, gc=False):
    """Read nothing: wait for a wakeup or the deadline. The end of the input is still noticed, and told to
    `ended`."""


ANYTHING: Final = Bytes(1)
SLEEP: Final = Sleep()

Expectation = Bytes | Delimiter | Flush | Sleep | tuple[Bytes | Delimiter | Sleep, Flush]


class Transport:
    """The two buffers. By itself it is an in-memory one: `feed` puts input in, `take_output` takes the output
    out."""

    __slots__ = ("_ending", "cut_off", "ended", "input", "linger", "moved", "output", "scope", "unsent")

    def __init__(self, scope: Scope | None = None) -> None:
        self.scope: Scope = scope  # type: ignore[assignment]  # a bare one in a test has none
        self.input: bytes | bytearray = b""
        self.output: list[bytes] | None = None  # None when empty: an idle connection holds no list
        self.unsent = 0  # bytes in `output`
        self.moved = 0.0  # when some of the output was last taken, and not all of it (monotonic seconds)
        self.ended = False  # the peer sends nothing more
        self.cut_off = False  # it was lost: what lasts until the end may lack its last part
        self.linger = False  # set it if the peer may still be sending when this side closes
        self._ending = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self.input)} bytes in, {self.unsent} bytes out>"

    @property
    def congested(self) -> bool:
        """Whether more output waits than the high watermark: stop feeding until `Flush(LOW_WATERMARK)` is
        met."""
        return self.unsent > HIGH_WATERMARK

    @property
    def asleep(self) -> bool:
        """Whether nobody wants input at present: only a stream knows."""
        return False

    @property
    def peer(self) -> str:
        """The other end's address as text, without the port; empty where there is none."""
        return ""

    def write(self, data: bytes) -> None:
        """Gather output. It leaves at the end of the tick. Raises `TypeError` for what is no bytes."""
        if data.__class__ is not bytes:
            data = bytes_like(data)
        if self.output is None:
            self.output = [data]
            self.unsent += len(data)
            self.touched()
        else:
            self.output.append(data)
            self.unsent += len(data)

    def end(self) -> None:
        """Nothing more will be written: send the end (FIN) after what is gathered. Input may still come."""
        if not self._ending:
            self._ending = True
            self.touched()

    def consume(self, count: int) -> None:
        """Drop the first `count` bytes of the input."""
        data = self.input
        if count >= len(data):
            self.input = b""
        elif isinstance(data, bytearray):
            del data[:count]
        else:
            self.input = bytearray(memoryview(data)[count:])

    def take(self, count: int) -> bytes:
        """The first `count` bytes of the input (or all, if there are fewer), consumed."""
        data = self.input
        if count >= len(data):
            self.input = b""
            return data if isinstance(data, bytes) else bytes(data)
        piece = bytes(memoryview(data)[:count])
        self.consume(count)
        return piece

    def feed(self, data: bytes) -> None:
        """Append to the input."""
        if not self.input:
            self.input = data
        elif isinstance(self.input, bytearray):
            self.input += data
        else:
            self.input = bytearray(self.input) + data

    def take_output(self) -> bytes:
        """What was written, and forget it. Only for whoever carries the output away."""
        output, self.output = self.output, None
        self.unsent = 0
        return b"".join(output) if output else b""

    def touched(self) -> None:
        """Output has come into an empty buffer, or the end was asked for: see that `flush` is called."""

    def flush(self) -> None:
        """Carry the output away."""


def bytes_like(data: object) -> bytes:
    """What may be written instead of bytes: a bytearray or a memoryview, which nobody changes any more.
    Raises `TypeError` for anything else."""
    if isinstance(data, memoryview) and not (data.contiguous and data.itemsize == 1):
        return bytes(data)
    if isinstance(data, bytes | bytearray | memoryview):
        return data  # type: ignore[return-value]  # whoever sends it takes each of them
    raise TypeError(f"write() of {told(data)[:200]}; it takes bytes, so encode text: text.encode()")
