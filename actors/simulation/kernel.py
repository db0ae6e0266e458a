"""The simulated kernel: what a loop gets instead of the system (see `actors.kernel`).

One belongs to one boot of one host. When the host is started again it gets a new one, and the old one is off:
its sockets are as good as gone.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from heapq import heappop, heappush
from typing import IO, TYPE_CHECKING, Any, Final

from actors.errors import ResolveError
from actors.kernel import ERROR, HANGUP, READABLE, Poller
from actors.net.addresses import Address, TcpAddress, UnixAddress

from .sockets import DatagramSocket, ListeningSocket, SimulatedSocket, StreamSocket

if TYPE_CHECKING:
    import random
    import socket

    from .hosts import Host

__all__ = ["SimulatedKernel", "SimulatedPoller"]

SEND_BUFFER: Final = 1 << 16  # bytes: small, so that it is full at times
RECEIVE_BUFFER: Final = 1 << 16
BACKLOG_MAX: Final = 128
RESOLVE_SECONDS: Final = 0.001
NO_LIMIT: Final = 1 << 30
EPOCH: Final = 1_767_225_600.0  # 2026-01-01


class SimulatedPoller:
    """Level-triggered, as epoll. It looks only at what has told of a change."""

    __slots__ = ("_candidates", "_kernel", "_watched")

    def __init__(self, kernel: SimulatedKernel) -> None:
        self._kernel = kernel
        self._watched: dict[int, tuple[SimulatedSocket, int]] = {}
        self._candidates: dict[int, None] = {}

    def __repr__(self) -> str:
        return f"<SimulatedPoller of {self._kernel.host.name}, {len(self._watched)} watched>"

    def register(self, fd: int, eventmask: int) -> None:
        """Watch a descriptor."""
        thing = self._kernel.things.get(fd)
        if thing is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if fd in self._watched:
            raise FileExistsError(errno.EEXIST, f"descriptor {fd} is registered already")
        self._watch(thing, fd, eventmask)

    def modify(self, fd: int, eventmask: int) -> None:
        """Change what is watched."""
        if fd not in self._watched:
            raise FileNotFoundError(errno.ENOENT, f"descriptor {fd} is not registered")
        self._watch(self._watched[fd][0], fd, eventmask)

    def unregister(self, fd: int) -> None:
        """Watch it no longer."""
        entry = self._watched.pop(fd, None)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, f"descriptor {fd} is not registered")
        entry[0].poller = None
        self._candidates.pop(fd, None)

    def _watch(self, thing: SimulatedSocket, fd: int, eventmask: int) -> None:
        thing.poller = self
        self._watched[fd] = thing, eventmask | ERROR | HANGUP
        self.touch(thing)

    def touch(self, thing: SimulatedSocket) -> None:
        """This one has changed."""
        fd = thing.fd
        if fd not in self._candidates and thing.readiness() & self._watched[fd][1]:
            self._candidates[fd] = None
            self._kernel.host.runnable()

    def closed(self, fd: int) -> None:
        """The descriptor is gone; epoll forgets it by itself."""
        if fd in self._watched:
            self.unregister(fd)

    @property
    def ready(self) -> bool:
        """Whether `poll` would return something."""
        return bool(self._candidates) and bool(self.poll(0))

    def poll(self, timeout: float = -1) -> list[tuple[int, int]]:
        """What is ready now. It never waits: the world lets time pass."""
        events = []
        for fd in list(self._candidates):
            thing, mask = self._watched[fd]
            ready = thing.readiness() & mask
            if ready:
                events.append((fd, ready))
            else:
                del self._candidates[fd]
        return events

    def fileno(self) -> int:
        """It has none."""
        return -1

    def close(self) -> None:
        """Watch nothing."""
        for fd in list(self._watched):
            self.unregister(fd)


class SimulatedWaker(SimulatedSocket):
    """A flag that is watched as a descriptor is."""

    __slots__ = ("_set",)

    def __init__(self, kernel: SimulatedKernel) -> None:
        super().__init__(kernel)
        self._set = False
        kernel.add(self)

    def readiness(self) -> int:
        """Readable while it is set."""
        return READABLE if self._set else 0

    def wake(self) -> None:
        """Set it."""
        self._set = True
        self.changed()

    def clear(self) -> None:
        """Take it back."""
        self._set = False


class MemoryFile(io.BytesIO):
    """A temporary file. Its kernel counts those that are open."""

    def __init__(self, kernel: SimulatedKernel) -> None:
        super().__init__()
        self._kernel = kernel
        kernel.files += 1

    def close(self) -> None:
        """Give the space back."""
        if not self.closed:
            self._kernel.files -= 1
        super().close()


class SimulatedKernel:
    """The `Kernel` of one boot of one host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.network = host.world.network
        self.things: dict[int, SimulatedSocket] = {}
        self.datagrams: dict[int, DatagramSocket] = {}
        self.files = 0  # temporary ones that are open
        self.off = False  # the machine has no power
        self.over = False  # the process is gone
        self.send_buffer = host.send_buffer
        self.receive_buffer = host.receive_buffer
        self.moves = 0  # calls that have moved something
        self.read_max = self.write_max = NO_LIMIT  # bytes per call: the least of these limits
        self.limits = {"read_max": [NO_LIMIT], "write_max": [NO_LIMIT]}
        self.buffers_full = self.refusing = self.resolve_failing = 0  # faults that are in force
        self.resolve_turn = 0
        self._listening: dict[str | int, ListeningSocket] = {}  # by path or port
        self._free: list[int] = []
        self._random = host.world.decisions.stream(f"host {host.name}")

    def __repr__(self) -> str:
        return f"<SimulatedKernel of {self.host.name}, {len(self.things)} descriptors>"

    # -- descriptors -----------------------------------------------------------------------------------------

    def add(self, thing: SimulatedSocket) -> None:
        """A descriptor for it: the lowest that is free, as a system does."""
        thing.fd = heappop(self._free) if self._free else 3 + len(self.things)
        self.things[thing.fd] = thing

    def remove(self, thing: SimulatedSocket) -> None:
        """Its descriptor is closed."""
        if thing.poller is not None:
            thing.poller.closed(thing.fd)
        if self.things.pop(thing.fd, None) is not None:
            heappush(self._free, thing.fd)

    def touch_all(self) -> None:
        """A fault that concerns every socket has begun or is over."""
        for thing in list(self.things.values()):
            thing.changed()

    # -- the seam --------------------------------------------------------------------------------------------

    def poller(self) -> Poller:
        """A new one."""
        self.polled = SimulatedPoller(self)
        return self.polled

    def monotonic(self) -> float:
        """The host's own clock."""
        return self.host.world.now + self.host.clock

    def wall_clock(self) -> float:
        """A day in 2026, if no fault has moved it."""
        return EPOCH + self.host.world.now + self.host.wall

    def random(self) -> random.Random:
        """A stream of the run's seed."""
        return self._random

    def listen(self, address: Address, *, backlog: int = 4096, reuse_port: bool = False) -> socket.socket:
        """A listening socket. Raises `OSError` if the address is taken or not this host's."""
        key: str | int
        if isinstance(address, UnixAddress):
            key = address.path
            sock = ListeningSocket(self, address.path, min(backlog, BACKLOG_MAX))
        else:
            names = ("0.0.0.0", "127.0.0.1", "localhost", "::", "::1", self.host.address, self.host.name)
            if address.host not in names:
                raise OSError(
                    errno.EADDRNOTAVAIL, f"cannot listen on {address}: it is not {self.host.name}'s"
                )
            key = address.port or next(port for port in range(49152, 65536) if port not in self._listening)
            sock = ListeningSocket(self, (address.host, key), min(backlog, BACKLOG_MAX))
        if key in self._listening:
            raise OSError(errno.EADDRINUSE, f"{address} is in use by another program; choose another port")
        self._listening[key] = sock
        self.add(sock)
        return sock  # type: ignore[return-value]  # it has the methods that the runtime uses

    def listening(self, name: Any) -> ListeningSocket | None:
        """Who listens on this path, or on the port of this address."""
        if isinstance(name, str):
            return self._listening.get(name)
        found = self._listening.get(name[1])
        if found is not None and found.address[0] in ("127.0.0.1", "::1", "localhost"):
            return found if name[0] in ("127.0.0.1", "::1") else None
        return found

    def listeners(self) -> list[ListeningSocket]:
        """Every listening socket."""
        return list(self._listening.values())

    def not_listening(self, sock: ListeningSocket) -> None:
        """It is closed."""
        self._listening = {key: other for key, other in self._listening.items() if other is not sock}

    def unlisten(self, address: Address) -> None:
        """A simulated path leaves nothing behind."""

    def connect(self, address: Address) -> tuple[socket.socket, bool]:
        """Begin to connect."""
        sock, done = self.network.connect(self, address)
        return sock, done  # type: ignore[return-value]  # it has the methods that the runtime uses

    def datagram(self, address: TcpAddress) -> DatagramSocket:
        """A socket for datagrams, bound to a port of this host. Raises `OSError` if the port is taken."""
        port = address.port or self.network.ephemeral_port()
        if port in self.datagrams:
            raise OSError(errno.EADDRINUSE, f"{address} is in use by another program; choose another port")
        sock = self.datagrams[port] = DatagramSocket(self, (self.host.address, port))
        self.add(sock)
        return sock

    def resolve(self, address: TcpAddress, deliver: Callable[[list[TcpAddress] | Exception], None]) -> None:
        """What the world's names say, a moment later."""
        world = self.host.world
        seconds = RESOLVE_SECONDS * (0.5 + self._random.random())
        world.schedule(world.now + seconds, self._resolved, (address, deliver))

    def _resolved(self, asked: tuple[TcpAddress, Callable[[list[TcpAddress] | Exception], None]]) -> None:
        address, deliver = asked
        if self.over:
            return
        found = self.network.resolve(address.host, address.port, self.resolve_turn)
        if self.resolve_failing or not found:
            deliver(ResolveError(f"cannot resolve {address.host!r}: no such host in this world"))
        else:
            deliver(found)

    def waker(self) -> Any:
        """A flag."""
        return SimulatedWaker(self)

    def temporary_file(self, directory: str | None = None) -> IO[bytes]:
        """In memory."""
        return MemoryFile(self)

    # -- the end ---------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """The process is gone: the system closes its descriptors."""
        self._watch_nothing()
        for thing in list(self.things.values()):
            thing.close()

    def power_off(self) -> None:
        """The machine is gone: nobody is told."""
        self._watch_nothing()
        self.off = True
        for thing in list(self.things.values()):
            if isinstance(thing, StreamSocket):
                thing.dead = thing.closed = True
        self.things.clear()
        self._listening.clear()
        self.datagrams.clear()

    def _watch_nothing(self) -> None:
        self.over = True
        for thing in self.things.values():
            thing.poller = None
