"""A real redis-server for tests: on a free port and a Unix socket, without files, always stopped."""

from __future__ import annotations

import socket
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

START_SECONDS_MAX = 10.0


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class RedisServer:
    """`with RedisServer(program, folder, "--requirepass", "secret") as server:`;
    it can be stopped and started again on the same port.
    """

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        self.port = unused_port()
        self.path = folder / "redis.sock"
        self._command = [
            *(program, "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.path)),
            *("--save", "", "--appendonly", "no", "--dir", str(folder), "--enable-debug-command", "yes"),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Run it, and wait until it accepts connections."""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        pause = threading.Event()
        for _ in range(int(START_SECONDS_MAX / 0.01)):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
                return
            except OSError:
                assert self._process.poll() is None, f"{self._command} ended"
                pause.wait(0.01)
        raise AssertionError(f"{self._command} does not accept connections")

    def stop(self) -> None:
        """Kill it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(START_SECONDS_MAX)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
