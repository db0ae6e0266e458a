"""A kernel whose clock stands still, whose poller never blocks, whose names are scripted and whose sockets
are buffers."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

from actors.errors import ResolveError
from actors.kernel import ERROR, HANGUP, READABLE, Poller, SystemKernel
from actors.net.addresses import Address, TcpAddress

from .clock import ManualClock
from .sockets import FakeSocket

if TYPE_CHECKING:
    import random
    import socket

__all__ = ["ManualKernel"]


class _ManualWaker:
    def __init__(self, kernel: ManualKernel) -> None:
        self._set = False
        self._kernel = kernel
        self._fd = kernel.add(self)

    def fileno(self) -> int:
        return self._fd

    def readiness(self) -> int:
        return READABLE if self._set else 0

    def wake(self) -> None:
        self._set = True

    def clear(self) -> None:
        self._set = False

    def close(self) -> None:
        self._kernel.remove(self._fd)


class _ManualPoller:
    """Level-triggered, like the real one, over what the kernel's sockets say. Never blocks."""

    def __init__(self, kernel: ManualKernel) -> None:
        self._kernel = kernel
        self.watched: dict[int, int] = {}

    def register(self, fd: int, eventmask: int) -> None:
        if fd in self.watched:
            raise FileExistsError(errno.EEXIST, f"descriptor {fd} is registered already")
        self.watched[fd] = eventmask

    def modify(self, fd: int, eventmask: int) -> None:
        if fd not in self.watched:
            raise FileNotFoundError(errno.ENOENT, f"descriptor {fd} is not registered")
        self.watched[fd] = eventmask

    def unregister(self, fd: int) -> None:
        if self.watched.pop(fd, None) is None:
            raise FileNotFoundError(errno.ENOENT, f"descriptor {fd} is not registered")

    def poll(self, timeout: float = -1) -> list[tuple[int, int]]:
        events = []
        for fd, mask in sorted(self.watched.items()):
            ready = self._kernel.readiness(fd) & (mask | ERROR | HANGUP)
            if ready:
                events.append((fd, ready))
        return events

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.watched.clear()


class ManualKernel:
    """A kernel for `Loop(kernel=…)`. `sockets` are those that were connected or that listen, in order;
    `names` maps a host to its addresses, to an error, or to None for an answer that never comes."""

    def __init__(self, *, seed: int = 0, now: float = 1000.0) -> None:
        self.clock = ManualClock(now)
        self.names: dict[str, list[str] | Exception | None] = {}
        self.sockets: list[FakeSocket] = []
        self.unreachable: dict[Address, OSError] = {}  # what `connect` and `listen` raise at once
        self._random = SystemKernel(seed).random()
        self._open: dict[int, FakeSocket | _ManualWaker] = {}

    def add(self, thing: FakeSocket | _ManualWaker) -> int:
        """A descriptor for it: the lowest that is free, as a system does."""
        fd = next(fd for fd in range(10, 11 + len(self._open)) if fd not in self._open)
        self._open[fd] = thing
        return fd

    def remove(self, fd: int) -> None:
        """The descriptor is closed. Watching it ends by itself only in real epoll, so nobody may rely on
        that."""
        del self._open[fd]

    def readiness(self, fd: int) -> int:
        """What is ready on a descriptor."""
        thing = self._open.get(fd)
        return 0 if thing is None else thing.readiness()

    @property
    def descriptors(self) -> int:
        """How many are open."""
        return len(self._open)

    def poller(self) -> Poller:
        """One that never blocks."""
        return _ManualPoller(self)

    def monotonic(self) -> float:
        """The manual clock's time."""
        return self.clock.now

    def wall_clock(self) -> float:
        """A fixed day in 2026, and the manual clock's seconds."""
        return 1_767_225_600.0 + self.clock.now

    def random(self) -> random.Random:
        """Seeded."""
        return self._random

    def listen(self, address: Address, *, backlog: int = 4096, reuse_port: bool = False) -> socket.socket:
        """A listening fake socket."""
        return self._socket(address, "listening")

    def unlisten(self, address: Address) -> None:
        """A fake socket leaves nothing behind."""

    def connect(self, address: Address) -> tuple[socket.socket, bool]:
        """A connecting fake socket: go on with its `accept_connection()` or `refuse()`."""
        return self._socket(address, "connecting"), False

    def _socket(self, address: Address, state: str) -> socket.socket:
        if address in self.unreachable:
            raise self.unreachable[address]
        sock = FakeSocket(self, address, state)
        self.sockets.append(sock)
        return sock  # type: ignore[return-value]  # it has the methods that the runtime uses

    def resolve(self, address: TcpAddress, deliver: Callable[[list[TcpAddress] | Exception], None]) -> None:
        """What `names` says, at once."""
        found = self.names.get(address.host, ResolveError(f"cannot resolve {address.host!r}: not in names"))
        if isinstance(found, Exception):
            deliver(found)
        elif found is not None:
            deliver([TcpAddress(host, address.port) for host in found])

    def waker(self) -> Any:
        """A flag."""
        return _ManualWaker(self)

    def temporary_file(self, directory: str | None = None) -> IO[bytes]:
        """In memory."""
        return io.BytesIO()
