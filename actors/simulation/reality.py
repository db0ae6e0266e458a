"""The same scenarios on the real kernel, over loopback: what holds in the simulation must hold there, too.

Rules:
1. A `RealWorld` is a world whose time is the real one and whose hosts are loops on the real kernel, driven in
   turns in one thread. A host listens on a port that the system chooses; the others are led there.
2. Of the faults those happen that can be made from inside a process (`REAL_KINDS`).
3. Nothing is the same twice here, so a seed decides only what is tried, not what happens.
"""

from __future__ import annotations

import errno
import os
import random
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from actors.errors import ResolveError
from actors.kernel import Poller, SystemKernel
from actors.net.addresses import Address, TcpAddress, UnixAddress

from .faults import CALM, Faults
from .kernel import NO_LIMIT
from .world import World

if TYPE_CHECKING:
    from .hosts import Host

__all__ = ["REAL_KINDS", "RealWorld"]

REAL_KINDS: Final = (
    "short_reads",
    "short_writes",
    "full_buffers",
    "refuse",
    "slow_accept",
    "resolve_failure",
    "resolve_change",
    "kill",
    "crash",
    "restart",
    "stall",
)
LOOPBACK: Final = "127.0.0.1"
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER for 0 seconds
BLOCKED: Final = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


class RealSocket(socket.socket):
    """A socket of the system, with the faults that its kernel makes."""

    kernel: RealKernel
    hidden = 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        """A few bytes at a time, if so."""
        self.kernel.moves += 1
        return super().recv(min(size, self.kernel.read_max), flags)

    def send(self, data: Any, flags: int = 0) -> int:
        """A few bytes at a time, or none, if so."""
        kernel = self.kernel
        kernel.moves += 1
        if kernel.buffers_full:
            raise BLOCKED
        return super().send(memoryview(data)[: kernel.write_max], flags)

    def sendmsg(self, buffers: Any, *more: Any) -> int:
        """As `send`."""
        return self.send(b"".join(buffers))

    def accept(self) -> tuple[RealSocket, Any]:
        """Of the same kernel."""
        self.kernel.moves += 1
        if self.hidden:
            raise BLOCKED
        found, address = super().accept()
        return self.kernel.adopt(found), address

    def close(self) -> None:
        """And not the kernel's any more."""
        self.kernel.open.pop(self, None)
        super().close()

    def changed(self) -> None:
        """The system's poller is level-triggered by itself."""


class RealPoller:
    """The system's, with what a host asks its poller."""

    ready = False  # the world polls the pollers themselves

    def __init__(self, poller: Poller) -> None:
        self.register = poller.register
        self.modify = poller.modify
        self.unregister = poller.unregister
        self.poll = poller.poll
        self.fileno = poller.fileno
        self.close = poller.close


class RealKernel(SystemKernel):
    """The system's, as one boot of one host sees it."""

    def __init__(self, host: Host, ports: dict[tuple[str, int], int]) -> None:
        super().__init__()
        self.host = host
        self.open: dict[RealSocket, None] = {}
        self.files = 0
        self.moves = 0
        self.off = self.over = False
        self.read_max = self.write_max = NO_LIMIT
        self.limits = {"read_max": [NO_LIMIT], "write_max": [NO_LIMIT]}
        self.buffers_full = self.refusing = self.resolve_failing = self.resolve_turn = 0
        self._ports = ports
        self._stream = host.world.decisions.stream(f"host {host.name}")

    @property
    def things(self) -> dict[int, Any]:
        """As the simulated kernel's: the notifier's, and the sockets that are open."""
        return {-1: "the notifier's"} | {sock.fileno(): sock for sock in self.open}

    def adopt(self, sock: socket.socket) -> RealSocket:
        """The same descriptor, with faults."""
        adopted = RealSocket(fileno=sock.detach())
        adopted.kernel = self
        adopted.setblocking(False)
        self.open[adopted] = None
        return adopted

    def poller(self) -> Poller:
        """A new one."""
        self.polled = RealPoller(super().poller())
        return self.polled

    def random(self) -> random.Random:
        """A stream of the run's seed."""
        return self._stream

    def listen(self, address: Address, *, backlog: int = 4096, reuse_port: bool = False) -> socket.socket:
        """On a port that the system chooses; the others find it by the one that was asked for."""
        if isinstance(address, UnixAddress):
            raise OSError(errno.EAFNOSUPPORT, "no Unix sockets here: the hosts share one file system")
        key = (self.host.address, address.port)
        sock = self.adopt(super().listen(TcpAddress(LOOPBACK, 0), backlog=backlog))
        self._ports[key] = sock.getsockname()[1]
        return sock

    def connect(self, address: Address) -> tuple[socket.socket, bool]:
        """To where the host listens that has this address."""
        assert isinstance(address, TcpAddress)
        own = address.host == LOOPBACK
        port = self._ports.get((self.host.address if own else address.host, address.port))
        target = self.host.world.network.hosts.get(address.host, self.host)
        if port is None or target.kernel.refusing or not target.up:
            raise OSError(errno.ECONNREFUSED, f"cannot connect to {address}: Connection refused")
        sock, done = super().connect(TcpAddress(LOOPBACK, port))
        return self.adopt(sock), done

    def resolve(self, address: TcpAddress, deliver: Callable[[list[TcpAddress] | Exception], None]) -> None:
        """What the world's names say."""
        found = self.host.world.network.resolve(address.host, address.port, self.resolve_turn)
        if self.resolve_failing or not found:
            deliver(ResolveError(f"cannot resolve {address.host!r}: no such host in this world"))
        else:
            deliver(found)

    def listeners(self) -> list[RealSocket]:
        """Every listening socket."""
        return [sock for sock in self.open if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]

    def touch_all(self) -> None:
        """The system's poller is level-triggered by itself."""

    def kill(self) -> None:
        """The process is gone: its descriptors are closed."""
        self.over = True
        for sock in list(self.open):
            sock.close()

    def power_off(self) -> None:
        """The nearest to it: everything is reset."""
        for sock in self.open:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.kill()


class RealWorld(World):
    """A world in real time, on the real kernel."""

    def __init__(self, seed: int = 0, faults: Faults = CALM) -> None:
        rates = {kind: rate for kind, rate in faults.rates().items() if kind in REAL_KINDS}
        super().__init__(seed, Faults(**rates))
        self._begun = time.monotonic()
        self._ports: dict[tuple[str, int], int] = {}

    def kernel(self, host: Host) -> Any:
        """The system's."""
        host.clock = self._begun
        return RealKernel(host, self._ports)

    def _run_until(self, until: float) -> None:
        events = self._events
        while True:
            self.now = time.monotonic() - self._begun
            while events and events[0][0] <= self.now:
                self._next_event()
                self.now = time.monotonic() - self._begun
            if self.now >= until:
                return
            self._wait(min(until, self.next_event) - self.now)

    def _wait(self, seconds: float) -> None:
        poll = select.poll()
        hosts = {}
        for host in self.hosts.values():
            if host.up and host.stalled_until <= self.now and not host.loop.closed:
                hosts[host.loop.fileno()] = host
                poll.register(host.loop.fileno(), select.POLLIN)
        for fd, _ in poll.poll(max(0.0, seconds * 1000)):
            hosts[fd].runnable()
