"""What the tests of hosts share: the hosts, a backend whose answers can be held back, and counting."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from actors import Channel, Loop, Reply, SystemKernel
from protocols import http
from protocols.http.server.responders import StreamingResponse

__all__ = ["HOSTS", "Backend", "CountingKernel", "backend_and_pool", "descriptors", "pump", "run_in"]

SECONDS_MAX = 60.0
HOSTS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}


def run_in(host: str, main: Callable[[], Awaitable[Any]]) -> Any:
    """Run `main()` as this host's program; one that hangs fails."""

    async def bounded() -> Any:
        with anyio.fail_after(SECONDS_MAX):
            return await main()

    return anyio.run(bounded, **HOSTS[host])


def descriptors() -> set[str]:
    """The descriptors that this process has open, and what they are."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except OSError:
            pass  # that of the listing itself
    return found


async def pump(turns: int = 50) -> None:
    """Let the host's tasks, and ours, take some turns."""
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()


class Backend:
    """A server in a loop: `/x` answers its target, `/held…` when `release` is called, `/pieces` in three
    pieces."""

    def __init__(self, loop: Any) -> None:
        self.asked: list[str] = []
        self.held: list[Reply[None]] = []
        self.server = loop.spawn(http.server("127.0.0.1:0", self.answer))
        self.url = f"http://{self.server.address}"

    async def answer(self, request: http.Request) -> Any:
        self.asked.append(request.path)
        if request.path == "/pieces":
            body: Channel[bytes] = Channel(16)
            for piece in (b"one ", b"two ", b"three"):
                body.put(piece)
            body.close()
            return StreamingResponse(200, {}, body)
        if request.path.startswith("/held"):
            reply: Reply[None] = Reply()
            self.held.append(reply)
            await reply
        return http.text_response(request.path)

    def release(self) -> None:
        """Answer what is held back."""
        held, self.held = self.held, []
        for reply in held:
            reply.settle(None)

    async def until_asked(self, path: str) -> None:
        """Wait until a request for it has arrived."""
        while path not in self.asked:
            await anyio.lowlevel.checkpoint()

    async def until_held(self, count: int) -> None:
        """Wait until so many requests have arrived that are held back."""
        while len(self.held) < count:
            await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def backend_and_pool(**options: Any) -> AsyncIterator[tuple[Backend, Any, Any]]:
    """A backend in a loop of its own, and a pool of it in another one: `(backend, pool, the pool's loop)`."""
    kernel = options.pop("kernel", None)
    drain = options.pop("drain", 5.0)
    async with Loop.in_anyio(drain=0.0) as serving:
        backend = Backend(serving)
        async with Loop.in_anyio(kernel=kernel, drain=drain) as loop:
            yield backend, loop.spawn(http.pool(backend.url, **options)), loop


class _CountingSocket(socket.socket):
    sends = 0

    def send(self, data: Any, *flags: int) -> int:
        self.sends += 1
        return super().send(data, *flags)

    def sendmsg(self, *arguments: Any) -> int:
        self.sends += 1
        return super().sendmsg(*arguments)


class CountingKernel(SystemKernel):
    """Counts what is written to connections."""

    def __init__(self) -> None:
        super().__init__()
        self.sockets: list[_CountingSocket] = []

    def connect(self, address: Any) -> tuple[socket.socket, bool]:
        sock, done = super().connect(address)
        counting = _CountingSocket(fileno=sock.detach())
        self.sockets.append(counting)
        return counting, done

    @property
    def sends(self) -> int:
        return sum(sock.sends for sock in self.sockets)
