"""A pool of HTTP connections, and a proxy in front of it, on a kernel without sockets: the tests play the
clients and the backends, byte by byte, and see what each was sent.
Every step ends at rest: no loop spins."""

from __future__ import annotations

import io
import socket
from typing import IO, Any

from actors import Channel, Loop
from actors.testing import FakeSocket, ManualKernel
from pools.testing import Bench
from protocols import http

__all__ = ["HttpBench", "ProxyBench", "body_of", "settle"]

TICKS_MAX = 300
BACKEND = "http://192.0.2.7"


def settle(loop: Loop, kernel: ManualKernel) -> None:
    """Tick until there is nothing to do at this time."""
    for _ in range(TICKS_MAX):
        loop.tick(0)
        late = loop.timers.next_deadline() <= kernel.clock.now
        if not (loop.woken or loop.dirty or late or loop.poller.poll(0)):
            return
    raise AssertionError(f"{loop!r} does not come to rest within {TICKS_MAX} ticks: it spins")


def body_of(channel: Channel[bytes]) -> bytes:
    """What waits in a channel."""
    pieces = []
    while len(channel):
        pieces.append(channel.take())
    return b"".join(pieces)


class Client(FakeSocket):
    """A client's connection, as the server has it."""

    was_reset = False
    """Whether the server has closed it so that the client sees a reset."""

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        """Notes what resets."""
        self.was_reset = self.was_reset or option == socket.SO_LINGER


class Spooled(io.BytesIO):
    """A temporary file that remembers how large it was."""

    size_max = 0

    def write(self, data: Any) -> int:
        """Notes the size."""
        written = super().write(data)
        self.size_max = max(self.size_max, self.tell())
        return written


class SpoolKernel(ManualKernel):
    """A manual kernel that remembers its temporary files."""

    def __init__(self) -> None:
        super().__init__()
        self.spools: list[Spooled] = []

    def temporary_file(self, directory: str | None = None) -> IO[bytes]:
        """In memory, and in `spools`."""
        self.spools.append(Spooled())
        return self.spools[-1]


class HttpBench(Bench):
    """A pool of `HttpWire`s."""

    kernel: SpoolKernel

    def __init__(self, urls: str | list[str] = BACKEND, **options: Any) -> None:
        self.kernel = SpoolKernel()
        self.loop = Loop(kernel=self.kernel)
        self.pool = self.loop.spawn(http.pool(urls, **options))

    def run(self, ticks: int = 0) -> None:
        """Until nothing is left to do."""
        settle(self.loop, self.kernel)

    def open(self, unit: Any, **options: Any) -> Any:
        """Submit a unit and have its connection accepted."""
        reply = self.pool.submit(unit, **options)
        self.accept()
        return reply

    def got(self, index: int = -1) -> bytes:
        """What a backend was sent since the last call."""
        self.run()
        return self.sockets[index].delivered()

    def say(self, data: bytes, index: int = -1, *, step: int = 0) -> None:
        """A backend sends: whole, or `step` bytes at a time."""
        for start in range(0, len(data), step or len(data) or 1):
            if self.sockets[index].closed:
                return
            self.sockets[index].arrive(data[start : start + (step or len(data))])
            self.run()

    @property
    def idle(self) -> int:
        """How many connections are idle."""
        return sum(backend.idle for backend in self.pool.statistics().backends)


class ProxyBench(HttpBench):
    """A proxy in front of the pool. `proxy` are its options, `server` the server's, the rest the pool's."""

    def __init__(
        self,
        urls: str | list[str] = BACKEND,
        *,
        proxy: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(urls, **options)
        handler = http.proxy(self.pool, **(proxy or {}))
        self.server = self.loop.spawn(http.server("127.0.0.1:80", handler, **(server or {})))
        self.listener = self.kernel.sockets.pop()

    def client(self, data: bytes = b"", *, step: int = 0) -> Client:
        """A client connects and sends."""
        sock = Client(self.kernel)
        self.listener.backlog.append(sock)
        self.run()
        self.tell(sock, data, step=step)
        return sock

    def tell(self, sock: FakeSocket, data: bytes, *, step: int = 0) -> None:
        """A client sends: whole, or `step` bytes at a time."""
        for start in range(0, len(data), step or len(data) or 1):
            if sock.closed:
                return
            sock.arrive(data[start : start + (step or len(data))])
            self.run()

    def ask(self, data: bytes, *, step: int = 0) -> Client:
        """A client connects and sends, and the backend accepts what is opened for it."""
        sock = self.client(data, step=step)
        self.accept()
        return sock

    def heard(self, sock: FakeSocket) -> bytes:
        """What a client was sent since the last call."""
        self.run()
        return sock.delivered()
