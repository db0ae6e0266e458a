"""Programs under test: started as a person starts them, read line by line, never left behind."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 30.0  # for anything to happen


class Running:
    """A process with its standard error (or output) as lines."""

    def __init__(self, *arguments: str, output: str = "stderr") -> None:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"}, **pipes
        )
        stream = getattr(self.process, output)
        self._fd: int = stream.fileno()
        self._output = output
        self.text = ""

    def until(self, words: str) -> str:
        """Read until these words have come; everything read so far."""
        deadline = time.monotonic() + SECONDS_MAX
        while words not in self.text:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._fd, 1 << 16) if ready else b""
            assert data, f"ended or hung without saying {words!r}: {self.text}"
            self.text += data.decode()
        return self.text

    def line(self, words: str) -> str:
        """The first line with these words."""
        while not any(words in line for line in self.text.split("\n")[:-1]):
            self.until(words)
            if not self.text.endswith("\n"):
                self.text += os.read(self._fd, 1 << 16).decode()
        return next(line for line in self.text.split("\n") if words in line)

    def finish(self) -> tuple[int, str, str]:
        """Wait for the end: status, standard output, standard error (what was read already included)."""
        out, err = self.process.communicate(timeout=SECONDS_MAX)
        texts = {"stdout": out.decode(), "stderr": err.decode()}
        texts[self._output] = self.text + texts[self._output]
        return self.process.returncode, texts["stdout"], texts["stderr"]

    def children(self) -> list[int]:
        """The processes it has started."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        if not path.exists():
            pytest.skip("this system does not list a process's children in /proc")
        return [int(pid) for pid in path.read_text().split()]


class HeldBackend:
    """A backend that answers when the test says so."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(SECONDS_MAX)
        self._connections: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def receive(self) -> bytes:
        """Wait for a request on a new connection, and return its head."""
        connection, _ = self._listener.accept()
        connection.settimeout(SECONDS_MAX)
        self._connections.append(connection)
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(1 << 16)
        return data

    def answer(self, body: bytes) -> None:
        """Answer the request that came last."""
        self._connections[-1].sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def hang_up(self) -> None:
        """Close the connection of the last request, so that the next one comes on a new one."""
        self._connections.pop().close()

    def close(self) -> None:
        """Away with it."""
        for sock in (self._listener, *self._connections):
            sock.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """`start("-m", "windlass", "proxy", ...)`."""
    started: list[Running] = []

    def run(*arguments: str, output: str = "stderr") -> Running:
        started.append(Running(*arguments, output=output))
        return started[-1]

    yield run
    for running in started:
        running.process.send_signal(signal.SIGTERM)
        try:
            running.process.communicate(timeout=3.0)
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.communicate()


@pytest.fixture
def held_backend() -> Iterator[HeldBackend]:
    backend = HeldBackend()
    yield backend
    backend.close()
