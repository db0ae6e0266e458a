"""Listeners: accept connections and spawn a stream with a protocol for each.

A listener survives the process running out of descriptors (`EMFILE`): it pauses, logs, and goes on. At its
cap it stops accepting, so that further connections wait in the kernel's queue, until one of its own has
ended.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import Final, Self

import msgspec

from actors.errors import LoopFull
from actors.kernel import READABLE
from actors.machine import Machine
from actors.outcomes import UNCHANGED, Continue, Outcome, Stop, Timeout
from actors.scope import Scope
from actors.telling import told

from .addresses import Address, TcpAddress, parse_address
from .streams import Stream, StreamOwner, StreamProtocol
from .tls import TlsStream

__all__ = ["Listener", "ListenerStatistics"]

ACCEPTS_MAX: Final = 128  # per tick, so that a flood of connections leaves room for those that are there
PAUSE_SECONDS: Final = 0.5  # after EMFILE; nginx pauses for 0.5 s too
OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class ListenerStatistics(msgspec.Struct, frozen=True):
    """A snapshot of a listener."""

    address: str
    connections: int
    connections_max: int
    accepted: int
    pauses: int


class Listener(StreamOwner, Machine["Listener"]):
    """`factory` makes one protocol per connection. `tls` is a server-side `ssl.SSLContext`; it may be set
    anew at any time, for the connections that come from then on."""

    __slots__ = (
        "_accepted",
        "_factory",
        "_paused",
        "_pauses",
        "_requested",
        "_scope",
        "_sock",
        "address",
        "backlog",
        "connections",
        "connections_max",
        "reuse_port",
        "tls",
    )

    def __init__(
        self,
        address: Address | str,
        factory: Callable[[], StreamProtocol],
        *,
        connections_max: int = 10_000,
        backlog: int = 4096,
        reuse_port: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if connections_max < 1:
            raise ValueError(f"connections_max={connections_max}; write 1 or more")
        self.address = parse_address(address) if isinstance(address, str) else address
        self.connections = 0
        self.connections_max = connections_max
        self.backlog = backlog
        self.reuse_port = reuse_port
        self._factory = factory
        self.tls = tls
        self._sock: socket.socket | None = None
        self._paused = False
        self._accepted = self._pauses = 0

    def __repr__(self) -> str:
        state = "closed" if self._sock is None else "paused" if self._paused else "open"
        return f"<Listener {self.address} {state}, {self.connections}/{self.connections_max} connections>"

    def handle(self, scope: Scope) -> Self:
        """Spawning gives the listener: its `address` tells the port that the system chose."""
        return self

    @property
    def token(self) -> int:
        """The machine's token."""
        return self._scope.token

    def start(self, scope: Scope) -> Outcome:
        """Bind and listen. Raises `OSError` if the address is taken."""
        self._scope = scope
        self._sock = scope.kernel.listen(self.address, backlog=self.backlog, reuse_port=self.reuse_port)
        if isinstance(self.address, TcpAddress):
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
            self.address = TcpAddress(self.address.host, self._sock.getsockname()[1])
        scope.register(self._sock.fileno(), READABLE)
        scope.loop.log.info("listening", cause=f"listening {self.address}", address=str(self.address))
        return Continue(self)

    def ready(self, scope: Scope, events: int) -> Outcome:
        """Accept what waits."""
        sock = self._sock
        assert sock is not None
        for _ in range(ACCEPTS_MAX):
            if self.connections >= self.connections_max:
                return self._pause(scope, "connection limit reached")
            try:
                connection, _address = sock.accept()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno in OUT_OF_DESCRIPTORS:
                    self._pause(scope, f"cannot accept: {os.strerror(error.errno or 0)}")
                    return Timeout(self, scope.now + PAUSE_SECONDS)
                continue  # the connection was aborted while it waited
            connection.setblocking(False)
            self._spawn(scope, connection)
        return UNCHANGED

    def _spawn(self, scope: Scope, connection: socket.socket) -> None:
        loop = scope.loop
        stream: Stream | None = None
        try:
            stream = self._stream(connection)
            self.connections += 1
            self._accepted += 1
            loop.spawn(stream)
        except Exception as error:
            full = isinstance(error, LoopFull)
            if stream is None or full:  # it has not started, so that its end tells nobody
                connection.close()
                self.connections -= full
            if full:
                loop.log.warning("connection refused: the loop is full", slots=loop.statistics().slots)
            else:
                loop.log.error("connection refused by its protocol", error=told(error), exc_info=error)

    def _stream(self, connection: socket.socket) -> Stream:
        if self.tls is None:
            return Stream(connection, self._factory(), self)
        return TlsStream(connection, self._factory(), self, context=self.tls, server_side=True)

    def _pause(self, scope: Scope, reason: str) -> Outcome:
        assert self._sock is not None
        self._paused = True
        self._pauses += 1
        scope.unregister(self._sock.fileno())
        scope.loop.log.warning(
            "listener paused",
            cause=f"listener paused {self.address}",
            address=str(self.address),
            reason=reason,
            connections=self.connections,
        )
        return Continue(self)

    def _resume(self, scope: Scope) -> Outcome:
        if self._paused and self._sock is not None:
            self._paused = False
            scope.register(self._sock.fileno(), READABLE)
        return Continue(self)

    def wakeup(self, scope: Scope) -> Outcome:
        """A connection has ended while the listener was at its cap."""
        return self._resume(scope) if self.connections < self.connections_max else UNCHANGED

    def timeout(self, scope: Scope) -> Outcome:
        """The pause after `EMFILE` is over."""
        return self._resume(scope)

    def stream_stopped(self, stream: Stream) -> None:
        """One of its connections has ended."""
        self.connections -= 1
        if self._paused:
            self._scope.wake()

    def draining(self, scope: Scope) -> Outcome:
        """Accept nothing more. Connections that are there are asked by the loop themselves."""
        return Stop()

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """Close the listening socket."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
            scope.kernel.unlisten(self.address)
            scope.loop.log.info(
                "no longer listening", cause=f"closed {self.address}", address=str(self.address)
            )

    def statistics(self) -> ListenerStatistics:
        """How many connections there are and were."""
        return ListenerStatistics(
            address=str(self.address),
            connections=self.connections,
            accepted=self._accepted,
            connections_max=self.connections_max,
            pauses=self._pauses,
        )
