"""A service on several processes, as tests see it: told by signals, read by its events, asked over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

__all__ = ["SECONDS_MAX", "Service", "Upload", "ask"]

ROOT = Path(__file__).parent.parent.parent
PROGRAM = Path(__file__).parent / "workers_program.py"
SECONDS_MAX = 60.0  # for anything that is waited for
TRIES_MAX = 400


class Service:
    """The program with these options, or another one; its events, and clients for it."""

    def __init__(self, *command: str, **options: Any) -> None:
        options.setdefault("workers", 2)
        options.setdefault("listen", ["127.0.0.1:0"])
        self.process = subprocess.Popen(
            [sys.executable, *(command or (str(PROGRAM), json.dumps(options)))],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.seen: list[dict[str, Any]] = []
        self.text = b""  # on standard error, what is no event
        self._buffer = b""
        self._unread: list[dict[str, Any]] = []
        self.port = 0
        self.opened: list[Any] = []  # to be closed at the end

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for connection in self.opened:
            connection.close()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(SECONDS_MAX)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(SECONDS_MAX)
        assert self.process.stdout
        assert self.process.stderr
        self.process.stdout.close()
        self.process.stderr.close()

    def ready(self, count: int = 2) -> Self:
        """Wait until so many workers are."""
        for _ in range(count):
            self.event("worker ready")
        address = next(line["address"] for line in self.seen if line["event"] == "listening")
        if not address.startswith("unix:"):
            self.port = int(address.rpartition(":")[2])
        return self

    def _read(self) -> bool:
        assert self.process.stderr
        fd = self.process.stderr.fileno()
        if not select.select([fd], [], [], SECONDS_MAX)[0]:
            raise AssertionError(f"nothing more is said after {self.seen[-5:]} {self.text!r}")
        data = os.read(fd, 1 << 16)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            if line.startswith(b"{"):
                self._unread.append(json.loads(line))
            else:
                self.text += line + b"\n"
        return bool(data)

    def event(self, event: str, **fields: Any) -> dict[str, Any]:
        """The next event of this name and with these fields; those before it are skipped."""
        while True:
            while self._unread:
                line = self._unread.pop(0)
                self.seen.append(line)
                if line["event"] == event and all(line.get(name) == value for name, value in fields.items()):
                    return line
            assert self._read(), f"it has ended without {event!r}: {self.seen[-5:]} {self.text.decode()}"

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end of all processes, which is that of their standard error; the exit status."""
        while self._read():
            pass
        self.seen += self._unread
        return self.process.wait(SECONDS_MAX)

    def report(self) -> dict[str, Any]:
        """What it has printed at its end."""
        assert self.process.stdout
        told: dict[str, Any] = json.loads(self.process.stdout.read())
        return told

    def statistics(self) -> dict[str, Any]:
        """By SIGUSR1."""
        self.signal(signal.SIGUSR1)
        return self.event("statistics")

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS_MAX)
        connection.connect()
        self.opened.append(connection)
        return connection

    def one_connection_per_worker(self, count: int = 2) -> dict[int, http.client.HTTPConnection]:
        """By the worker's pid."""
        found: dict[int, http.client.HTTPConnection] = {}
        for _ in range(TRIES_MAX):
            connection = self.connect()
            pid = ask(connection)
            if pid in found:
                connection.close()
            found.setdefault(pid, connection)
            if len(found) == count:
                return found
        raise AssertionError(f"only {len(found)} workers answer")


def ask(connection: http.client.HTTPConnection, path: str = "/") -> int:
    """The pid of who answers."""
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 200
    return int(response.read())


class Upload:
    """A request that is under way until `finish`."""

    def __init__(self, service: Service) -> None:
        self.sock = socket.create_connection(("127.0.0.1", service.port), timeout=SECONDS_MAX)
        service.opened.append(self.sock)
        # The answer to the first request shows that the second one has arrived, for they come in one segment.
        self.sock.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab"
        )
        self.pid = int(self.response().read())

    def response(self) -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(self.sock)
        response.begin()
        return response

    def finish(self) -> http.client.HTTPResponse:
        """Send the rest; the answer."""
        self.sock.sendall(b"cd")
        return self.response()

    def lost(self) -> bool:
        """Whether the connection is gone without an answer."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionError:
            return True
