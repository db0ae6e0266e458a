"""A socket that is only buffers: the test plays the peer."""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import TYPE_CHECKING, Any

from actors.kernel import ERROR, HANGUP, READABLE, WRITABLE
from actors.net.addresses import Address

if TYPE_CHECKING:
    from .kernel import ManualKernel

__all__ = ["FakeSocket"]


class FakeSocket:
    """A connected, connecting or listening socket that is only buffers.

    The test plays the peer: `arrive`, `end`, `reset`; `delivered()` is what was sent to it. `room` limits how
    many bytes the next sends take (None: all of them). A connecting one waits for `accept()` or `refuse()`, a
    listening one hands out what is in `backlog`: sockets, or errors to raise.
    """

    def __init__(
        self, kernel: ManualKernel, address: Address | None = None, state: str = "connected"
    ) -> None:
        self.address = address
        self.backlog: deque[FakeSocket | OSError] = deque()
        self.room: int | None = None
        self.ended_here = False  # this side has shut down its output
        self._arrived = bytearray()
        self._delivered = bytearray()
        self._error = 0
        self._kernel = kernel
        self._peer_ended = False
        self._state = state
        self._fd = kernel.add(self)

    def __repr__(self) -> str:
        return f"<FakeSocket {self._fd} {self._state}, {len(self._arrived)} bytes to read>"

    # -- for the test ----------------------------------------------------------------------------------------

    def arrive(self, data: bytes) -> None:
        """The peer sends."""
        self._arrived += data

    def end(self) -> None:
        """The peer sends its end (FIN)."""
        self._peer_ended = True

    def reset(self) -> None:
        """The peer resets the connection (RST)."""
        self._error = errno.ECONNRESET
        self._peer_ended = True

    def delivered(self) -> bytes:
        """What the peer has been sent since the last call."""
        data = bytes(self._delivered)
        self._delivered.clear()
        return data

    def accept_connection(self) -> None:
        """The peer accepts what is connecting."""
        self._state = "connected"

    def refuse(self, code: int = errno.ECONNREFUSED) -> None:
        """What is connecting fails."""
        self._state = "connected"
        self.reset()
        self._error = code

    @property
    def closed(self) -> bool:
        """Whether this side has closed it."""
        return self._fd < 0

    def readiness(self) -> int:
        """What a poller would report."""
        if self._state == "connecting":
            return 0
        if self._state == "listening":
            return READABLE if self.backlog else 0
        mask = READABLE if self._arrived or self._peer_ended else 0
        if self.room != 0 or self._error:
            mask |= WRITABLE
        if self._error:
            mask |= ERROR
        return mask | HANGUP if self._error or (self._peer_ended and self.ended_here) else mask

    # -- what a socket has -----------------------------------------------------------------------------------

    def fileno(self) -> int:
        """The descriptor; -1 when closed."""
        return self._fd

    def recv(self, size: int) -> bytes:
        """What has arrived; then the error, or the end."""
        if self._arrived:
            data = bytes(self._arrived[:size])
            del self._arrived[:size]
            return data
        self._raise_error()
        if self._peer_ended:
            return b""
        raise BlockingIOError(errno.EAGAIN, "nothing has arrived")

    def send(self, data: bytes) -> int:
        """As many bytes as there is room for."""
        self._raise_error()
        if self._fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if self.ended_here:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        count = len(data) if self.room is None else min(self.room, len(data))
        if count == 0:
            raise BlockingIOError(errno.EAGAIN, "no room")
        self._delivered += data[:count]
        if self.room is not None:
            self.room -= count
        return count

    def sendmsg(self, pieces: list[bytes]) -> int:
        """As `send`."""
        return self.send(b"".join(pieces))

    def accept(self) -> tuple[FakeSocket, Any]:
        """The next one of `backlog`."""
        if not self.backlog:
            raise BlockingIOError(errno.EAGAIN, "no connection waits")
        arrived = self.backlog.popleft()
        if isinstance(arrived, OSError):
            raise arrived
        return arrived, ("192.0.2.1", 50000)

    def getsockopt(self, level: int, option: int) -> int:
        """The pending error."""
        error, self._error = self._error, 0
        return error

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Nothing to set."""

    def setblocking(self, flag: bool) -> None:
        """Never blocks anyway."""

    def getpeername(self) -> Any:
        """An address of the documentation range (RFC 5737)."""
        if self._state != "connected":
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return ("192.0.2.1", 50000)

    def getsockname(self) -> Any:
        """Its own address."""
        return ("127.0.0.1", getattr(self.address, "port", 0) or 40000)

    def shutdown(self, how: int) -> None:
        """End the output."""
        self.ended_here = True

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            self.ended_here = True
            self._kernel.remove(self._fd)
            self._fd = -1

    def _raise_error(self) -> None:
        if self._error:
            code, self._error = self._error, 0
            raise OSError(code, os.strerror(code))
