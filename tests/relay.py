"""What stands between a client and a server: forwards, forgets, or leads somewhere else."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

__all__ = ["Relay"]


class Relay:
    """`with Relay(port) as relay:` forwards what connects to `relay.port` to that port of 127.0.0.1.

    `target` may be another from some moment on, for what connects then. What was silenced keeps its sockets
    open and forwards nothing, as a NAT does that has forgotten a connection.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.mute = False  # whether new connections lead nowhere as well
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        self._silent: set[socket.socket] = set()

    def silence(self) -> None:
        """Nothing passes on the connections that there are."""
        self._silent.update(self._sockets)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection(("127.0.0.1", self.target))
                self._sockets += (here, there)
                if self.mute:
                    self._silent.update((here, there))
                for source, sink in ((here, there), (there, here)):
                    threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if source not in self._silent:
                    sink.sendall(data)
        if source not in self._silent:
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
