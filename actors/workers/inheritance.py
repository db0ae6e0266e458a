"""Listening sockets that are bound before the fork, and the kernel through which a worker gets them.

A machine in a worker listens as it does elsewhere: `http.server("127.0.0.1:8080", …)` asks the loop's kernel
for a listening socket of that address, and gets the one that the parent has bound for this worker's slot.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress

from actors.kernel import SystemKernel
from actors.net.addresses import Address, TcpAddress, UnixAddress, parse_address

__all__ = ["BoundSockets", "WorkerKernel", "bind"]

BoundSockets = dict[Address, socket.socket]
"""The sockets of one slot, by the address as it was asked for (its port may be 0)."""


def bind(listen: Iterable[Address | str], slots: int) -> list[BoundSockets]:
    """Bind every address once per slot. Raises `OSError` if one is taken, `ValueError` if one is no address.

    A Unix socket cannot be bound twice; its slots share one.
    """
    addresses = [parse_address(item) if isinstance(item, str) else item for item in listen]
    if len(set(addresses)) != len(addresses):
        raise ValueError("an address appears twice in listen=[…]; write each once")
    kernel = SystemKernel()
    bound: list[BoundSockets] = [{} for _ in range(slots)]
    try:
        for address in addresses:
            for sockets in bound:
                sockets[address] = _bind(kernel, address, bound[0].get(address))
    except BaseException:
        for sockets in bound:
            close(sockets)
        raise
    return bound


def _bind(kernel: SystemKernel, address: Address, first: socket.socket | None) -> socket.socket:
    if isinstance(address, UnixAddress):
        return kernel.listen(address) if first is None else first.dup()
    if first is not None:
        return kernel.listen(TcpAddress(address.host, first.getsockname()[1]), reuse_port=True)
    if address.port:
        # With SO_REUSEPORT a port may be shared with another program of the same user, and nobody would
        # notice that it gets half of the connections.
        kernel.listen(address, backlog=1).close()
    return kernel.listen(address, reuse_port=True)


def close(sockets: BoundSockets) -> None:
    """Close the sockets of a slot."""
    for sock in sockets.values():
        sock.close()


class WorkerKernel(SystemKernel):
    """The system's kernel, whose listening sockets are inherited."""

    def __init__(self, inherited: Mapping[Address, socket.socket]) -> None:
        super().__init__()
        self._inherited = dict(inherited)
        self._handed: dict[Address, socket.socket] = {}

    def listen(self, address: Address, *, backlog: int = 4096, reuse_port: bool = False) -> socket.socket:
        """A copy of the inherited socket, so that a listener that a supervisor starts again finds it again.

        Raises `OSError` if there is none: a socket bound here would keep the other workers from doing so.
        """
        inherited = self._inherited.get(address)
        if inherited is None:
            if reuse_port or (isinstance(address, TcpAddress) and address.port == 0):
                return super().listen(address, backlog=backlog, reuse_port=reuse_port)
            raise OSError(
                errno.EADDRNOTAVAIL,
                f"{address} is not shared by the workers; write serve(…, listen=[…, {str(address)!r}])",
            )
        handed = self._handed.get(address)
        if handed is not None and handed.fileno() >= 0:
            raise OSError(errno.EADDRINUSE, f"{address} has a listener already in this worker")
        self._handed[address] = sock = inherited.dup()
        return sock

    def unlisten(self, address: Address) -> None:
        """Leave the file of a Unix socket to the parent, for the next worker listens on it too."""
        if address not in self._inherited:
            super().unlisten(address)

    def release(self) -> None:
        """Keep no socket open that no listener uses: nobody here will listen any more."""
        for sock in self._inherited.values():
            with suppress(OSError):
                sock.close()
