"""Name resolution that does not block the loop.

The system's resolver only exists as a blocking call, so it runs on a few daemon threads; asking more than
`waiting_max` names at a time is refused. Literal addresses never come here. Answers are not cached: the
system (nscd, systemd-resolved) knows how long they live, `getaddrinfo` does not say.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable

from .addresses import TcpAddress
from .errors import ResolveError

__all__ = ["ThreadedResolver"]

Deliver = Callable[[list[TcpAddress] | Exception], None]


class ThreadedResolver:
    """`getaddrinfo` on at most `threads_max` threads, started when first needed."""

    def __init__(self, threads_max: int = 4, waiting_max: int = 256) -> None:
        self._waiting: queue.Queue[tuple[TcpAddress, Deliver]] = queue.Queue(waiting_max)
        self._threads_max = threads_max
        self._threads: list[threading.Thread] = []

    def __repr__(self) -> str:
        return f"<ThreadedResolver {len(self._threads)} threads, {self._waiting.qsize()} names waiting>"

    def resolve(self, address: TcpAddress, deliver: Deliver) -> None:
        """Call `deliver` once, from a thread, with the addresses in the system's order or with the error."""
        try:
            self._waiting.put_nowait((address, deliver))
        except queue.Full:
            deliver(
                ResolveError(
                    f"{self._waiting.maxsize} names are being resolved already; {address.host} must wait"
                )
            )
            return
        self._threads = [thread for thread in self._threads if thread.is_alive()]  # none survives a fork
        if len(self._threads) < self._threads_max:
            thread = threading.Thread(target=self._work, name="windlass-resolver", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while True:
            address, deliver = self._waiting.get()
            deliver(look_up(address))


def look_up(address: TcpAddress) -> list[TcpAddress] | Exception:
    """Every distinct address of the host, or the error as a value."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        return ResolveError(f"cannot resolve {address.host!r}: {error}")
    return list(dict.fromkeys(TcpAddress(str(entry[4][0]), address.port) for entry in found))
