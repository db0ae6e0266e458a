"""The kernel seam: everything non-deterministic that the runtime uses comes through one object.

Poller, sockets, clock, name resolution, random numbers, temporary files. The real kernel is below; a test may
pass another one to `Loop(kernel=…)`. No other module calls `time`, `random`, `select` or makes a socket.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import select
import selectors
import socket
import stat
import tempfile
import time
from collections.abc import Callable
from typing import IO, Any, ClassVar, Final, Protocol

from .net.addresses import Address, TcpAddress, UnixAddress
from .net.resolver import ThreadedResolver

__all__ = [
    "ERROR",
    "HANGUP",
    "READABLE",
    "WRITABLE",
    "Kernel",
    "Poller",
    "SystemKernel",
    "Waker",
    "notice_silence",
]

READABLE: Final = 1  # the values of EPOLLIN, EPOLLOUT, EPOLLERR and EPOLLHUP
WRITABLE: Final = 4
ERROR: Final = 8
HANGUP: Final = 16


KEEPALIVE_PROBES: Final = 3
SECONDS_MAX: Final = 32_767.0  # what Linux takes between two probes: an end after nine hours will do


def notice_silence(sock: socket.socket, seconds: float) -> None:
    """Have the system give up a TCP connection whose other end has acknowledged nothing for `seconds`:
    neither data (TCP_USER_TIMEOUT, RFC 5482) nor, where nothing is sent, the keepalive probes that begin
    after half of that (RFC 1122 section 4.2.3.6). What a system has no option for is left as it is.
    """
    seconds = min(seconds, SECONDS_MAX)
    idle = max(1, round(seconds / 2))
    interval = max(1, round(seconds / 2 / KEEPALIVE_PROBES))
    options: list[tuple[int, str, int]] = [
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", idle),
        (socket.IPPROTO_TCP, "TCP_KEEPALIVE", idle),  # as macOS calls it
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", interval),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", KEEPALIVE_PROBES),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", max(1, round(seconds * 1000))),
    ]
    for level, name, value in options:
        option: int | None = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(level, option, value)


class Poller(Protocol):
    """What `select.epoll` offers, and no more than that."""

    def register(self, fd: int, eventmask: int) -> None: ...
    def modify(self, fd: int, eventmask: int) -> None: ...
    def unregister(self, fd: int) -> None: ...
    def poll(self, timeout: float = ...) -> list[tuple[int, int]]: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class Kernel(Protocol):
    """The seam. Sockets are non-blocking and have the methods of `socket.socket`."""

    def poller(self) -> Poller:
        """A new poller: level-triggered, as `select.epoll`."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def wall_clock(self) -> float:
        """Seconds since 1970, UTC."""

    def random(self) -> random.Random:
        """The source of jitter and of choices."""

    def listen(self, address: Address, *, backlog: int, reuse_port: bool) -> socket.socket:
        """A listening socket. `::` is every address of this host, by IPv6 and by IPv4, or by IPv4 alone where
        there is no IPv6. Raises `OSError` if the address is taken or not ours."""

    def unlisten(self, address: Address) -> None:
        """The listening socket of this address has been closed: remove what it leaves behind."""

    def connect(self, address: Address) -> tuple[socket.socket, bool]:
        """A socket whose connecting has begun, and whether it is done already. `address` is literal."""

    def resolve(self, address: TcpAddress, deliver: Callable[[list[TcpAddress] | Exception], None]) -> None:
        """Resolve a name without blocking; `deliver` is called once, perhaps from another thread."""

    def waker(self) -> Waker:
        """Something any thread can make readable."""

    def temporary_file(self, directory: str | None = None) -> IO[bytes]:
        """An unnamed temporary file in a directory, by default the system's for such. Raises `OSError`."""


class SelectorsPoller:
    """`selectors` in the shape of `select.epoll`, for systems without epoll."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    @staticmethod
    def _mask(eventmask: int) -> int:
        return (selectors.EVENT_READ if eventmask & READABLE else 0) | (
            selectors.EVENT_WRITE if eventmask & WRITABLE else 0
        )

    def register(self, fd: int, eventmask: int) -> None:
        """Watch a descriptor. A mask of 0 watches nothing (errors are then seen at the next read or
        write)."""
        if mask := self._mask(eventmask):
            self._selector.register(fd, mask)

    def modify(self, fd: int, eventmask: int) -> None:
        """Change what is watched."""
        self.unregister(fd)
        self.register(fd, eventmask)

    def unregister(self, fd: int) -> None:
        """Watch a descriptor no longer."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(fd)

    def poll(self, timeout: float = -1) -> list[tuple[int, int]]:
        """Wait at most `timeout` seconds (for ever if negative) and return what is ready."""
        return [
            (
                key.fd,
                (READABLE if mask & selectors.EVENT_READ else 0)
                | (WRITABLE if mask & selectors.EVENT_WRITE else 0),
            )
            for key, mask in self._selector.select(None if timeout < 0 else timeout)
        ]

    def fileno(self) -> int:
        """The poller's own descriptor; -1 where it has none."""
        fileno: Callable[[], int] | None = getattr(self._selector, "fileno", None)
        return -1 if fileno is None else fileno()

    def close(self) -> None:
        """Give the poller's descriptor back."""
        self._selector.close()


class Waker:
    """A descriptor that turns readable when any thread calls `wake`, until `clear`."""

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self._reader = self._writer = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._reader, self._writer = os.pipe()
            os.set_blocking(self._reader, False)
            os.set_blocking(self._writer, False)

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._reader

    def wake(self) -> None:
        """Make it readable. Never blocks and never fails because it is readable already."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"\1\0\0\0\0\0\0\0")

    def clear(self) -> None:
        """Make it unreadable again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)

    def close(self) -> None:
        """Give its descriptors back."""
        for fd in {self._reader, self._writer}:
            os.close(fd)


class SystemKernel:
    """The real one: epoll where there is one, the monotonic clock, the system's resolver and sockets."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)

    _resolver: ClassVar = ThreadedResolver()  # one for the process

    monotonic = staticmethod(time.monotonic)
    wall_clock = staticmethod(time.time)

    def poller(self) -> Poller:
        """epoll, or what `selectors` finds."""
        if hasattr(select, "epoll"):
            poller: Poller = select.epoll()
            return poller
        return SelectorsPoller()

    def random(self) -> random.Random:
        """One generator per kernel, seeded by the system unless a seed was given."""
        return self._random

    def listen(self, address: Address, *, backlog: int = 4096, reuse_port: bool = False) -> socket.socket:
        """A non-blocking listening socket. A Unix socket's stale file is replaced, a live one is not."""
        if isinstance(address, UnixAddress):
            return self._listen_unix(address.path, backlog)
        if address.host == "::" and not has_ipv6():
            address = TcpAddress("0.0.0.0", address.port)
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        if not address.literal:
            family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM | getattr(socket, "SOCK_CLOEXEC", 0))
        try:
            if address.host == "::":
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((address.host, address.port))
            sock.listen(backlog)
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE:
                raise OSError(
                    error.errno, f"{address} is in use by another program; choose another port"
                ) from None
            raise OSError(
                error.errno, f"cannot listen on {address}: {os.strerror(error.errno or 0)}"
            ) from None
        sock.setblocking(False)
        return sock

    @staticmethod
    def _listen_unix(path: str, backlog: int) -> socket.socket:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path).st_mode):
                probe = socket.socket(socket.AF_UNIX)
                try:
                    probe.connect(path)
                except ConnectionRefusedError:
                    os.unlink(path)  # left behind by a process that is gone
                else:
                    raise OSError(errno.EADDRINUSE, f"unix:{path} is in use by another program")
                finally:
                    probe.close()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | getattr(socket, "SOCK_CLOEXEC", 0))
        try:
            sock.bind(path)
            sock.listen(backlog)
        except OSError as error:
            sock.close()
            raise OSError(
                error.errno, f"cannot listen on unix:{path}: {os.strerror(error.errno or 0)}"
            ) from None
        sock.setblocking(False)
        return sock

    def unlisten(self, address: Address) -> None:
        """Remove the file of a Unix socket."""
        if isinstance(address, UnixAddress):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address.path)

    def connect(self, address: Address) -> tuple[socket.socket, bool]:
        """Begin to connect. Raises `OSError` if that fails at once."""
        target: Any
        if isinstance(address, UnixAddress):
            sock, target = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), address.path
        else:
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            sock, target = socket.socket(family, socket.SOCK_STREAM), (address.host, address.port)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        code = sock.connect_ex(target)
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            raise OSError(code, f"cannot connect to {address}: {os.strerror(code)}")
        return sock, code == 0

    def resolve(self, address: TcpAddress, deliver: Callable[[list[TcpAddress] | Exception], None]) -> None:
        """`getaddrinfo` on a small bounded thread pool: there is no other form of the system's resolver."""
        self._resolver.resolve(address, deliver)

    def waker(self) -> Waker:
        """An eventfd, or a pipe where there is none."""
        return Waker()

    def temporary_file(self, directory: str | None = None) -> IO[bytes]:
        """Unlinked already, unbuffered: its blocks go back when it is closed."""
        return tempfile.TemporaryFile(buffering=0, dir=directory)


def has_ipv6() -> bool:
    """Whether this system can listen by IPv6."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True
