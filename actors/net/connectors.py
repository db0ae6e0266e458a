"""Connectors: resolve, connect, then become the stream.

The addresses of a name are tried one after the other, each with its share of the time that is left. A
protocol whose connection never came about gets `stopped` with the error and a transport that leads nowhere.

A TCP connect to a port of this machine on which nobody listens can reach itself, if the kernel chooses that
very port for it (RFC 9293 section 3.5, simultaneous open). That is no connection: it is refused.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections import deque

from actors.kernel import WRITABLE, notice_silence
from actors.machine import Machine
from actors.outcomes import NEVER, UNCHANGED, Outcome, Stop, Timeout
from actors.scope import Scope

from .addresses import Address, TcpAddress
from .streams import RESET, Stream, StreamOwner, StreamProtocol
from .tls import TlsStream
from .transports import Transport

__all__ = ["Connector"]


class Connector(Machine[int]):
    """Connects within `timeout` seconds (name resolution, connecting and, with `tls`, the handshake
    together). `lost_after`: after how many seconds without any sign of life the system gives a TCP connection
    up (see `kernel.notice_silence`); 0: as the system has it.
    """

    __slots__ = (
        "_addresses",
        "_deadline",
        "_owner",
        "_protocol",
        "_resolved",
        "_sock",
        "_tls",
        "address",
        "lost_after",
        "server_hostname",
        "timeout_seconds",
    )

    drain_phase = None  # whoever wants the connection ends it

    def __init__(
        self,
        address: Address,
        protocol: StreamProtocol,
        *,
        timeout: float = 5.0,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        owner: StreamOwner | None = None,
        lost_after: float = 0.0,
    ) -> None:
        self.address = address
        self.lost_after = lost_after
        self.timeout_seconds = timeout
        self.server_hostname = server_hostname or (address.host if isinstance(address, TcpAddress) else None)
        self._protocol = protocol
        self._tls = tls
        self._owner = owner
        self._sock: socket.socket | None = None
        self._addresses: list[Address] = []
        self._resolved: deque[list[TcpAddress] | Exception] = deque(maxlen=1)
        self._deadline = 0.0

    def __repr__(self) -> str:
        doing = "resolving" if self._sock is None else "connecting to"
        return f"<Connector {doing} {self.address} for {self._protocol!r}>"

    def start(self, scope: Scope) -> Outcome:
        """Resolve the name, if it is one, and begin."""
        self._deadline = scope.now + self.timeout_seconds
        if isinstance(self.address, TcpAddress) and not self.address.literal:
            wake = scope.loop.notifier.wake
            token = scope.token

            def deliver(result: list[TcpAddress] | Exception) -> None:
                self._resolved.append(result)
                wake(token)

            scope.kernel.resolve(self.address, deliver)
            return Timeout(self, self._deadline)
        self._addresses = [self.address]
        return self._next(scope, None)

    def wakeup(self, scope: Scope) -> Outcome:
        """The name is resolved, perhaps."""
        if not self._resolved or self._sock is not None:
            return UNCHANGED
        resolved = self._resolved.popleft()
        if isinstance(resolved, Exception):
            return Stop(resolved)
        self._addresses = list(resolved)
        return self._next(scope, None)

    def ready(self, scope: Scope, events: int) -> Outcome:
        """Connected, or refused."""
        assert self._sock is not None
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            return self._next(scope, OSError(code, f"cannot connect to {self.address}: {os.strerror(code)}"))
        try:
            self._sock.getpeername()
        except OSError:  # an event for the socket that had this descriptor before
            return UNCHANGED
        return self._connected(scope)

    def timeout(self, scope: Scope) -> Outcome:
        """This address has had its time."""
        doing = "resolved" if self._sock is None else "connected"
        error = TimeoutError(f"{self.address} was not {doing} within {self.timeout_seconds:g} s")
        return self._next(scope, error) if scope.now < self._deadline else Stop(error)

    def _next(self, scope: Scope, error: OSError | None) -> Outcome:
        self._drop_socket(scope)
        while self._addresses:
            address = self._addresses.pop(0)
            try:
                self._sock, done = scope.kernel.connect(address)
                if self.lost_after and isinstance(address, TcpAddress):
                    notice_silence(self._sock, self.lost_after)
            except OSError as failure:
                error = failure
                continue
            if done:
                return self._connected(scope)
            scope.register(self._sock.fileno(), WRITABLE)
            share = (self._deadline - scope.now) / (1 + len(self._addresses))
            return Timeout(self, scope.now + share)
        return Stop(error or OSError(f"{self.address} has no address"))

    def _connected(self, scope: Scope) -> Outcome:
        sock = self._sock
        assert sock is not None
        if isinstance(self.address, TcpAddress) and sock.getsockname() == sock.getpeername():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)  # frees the port for its owner
            text = f"cannot connect to {self.address}: nothing listens there"
            return self._next(scope, ConnectionRefusedError(errno.ECONNREFUSED, text))
        stream: Stream
        if self._tls is None:
            stream = Stream(sock, self._protocol, self._owner)
        else:
            stream = TlsStream(
                sock,
                self._protocol,
                self._owner,
                context=self._tls,
                server_hostname=self.server_hostname,
                handshake_deadline=self._deadline,
            )
        self._sock = None
        scope.unregister(sock.fileno())
        scope.machine = stream  # becomes the stream, whose start sets the deadline it wants
        scope.deadline = NEVER
        return stream.start(scope)

    def draining(self, scope: Scope) -> Outcome:
        """Nothing is lost yet."""
        return Stop()

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """Not connected: tell the protocol why."""
        self._drop_socket(scope)
        self._protocol.stopped(Transport(scope), error or ConnectionAbortedError("connecting was given up"))

    def handle(self, scope: Scope) -> int:
        """The token, which stays the same when the connector becomes the stream."""
        return scope.token

    def _drop_socket(self, scope: Scope) -> None:
        if self._sock is not None:
            scope.unregister(self._sock.fileno())
            self._sock.close()
            self._sock = None
