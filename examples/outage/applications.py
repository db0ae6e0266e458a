"""The applications, each a process served by uvicorn, and the backend that they ask for rates."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from actors import Loop, sleep
from pools import PoolError
from protocols import http

from .scenario import QUICK_SECONDS

__all__ = ["Application", "NotStarted", "Rates"]

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 3.0


class NotStarted(Exception):
    """An application does not come up; the text says what it said."""


class Rates:
    """The HTTP backend: `GET /rates` answers after `delay` seconds."""

    def __init__(self, loop: Loop) -> None:
        self.delay = QUICK_SECONDS
        self.asked = 0
        server = loop.spawn(http.server("127.0.0.1:0", self._answer))
        self.url = f"http://{server.address}"

    async def _answer(self, request: http.Request) -> http.Response:
        self.asked += 1
        await sleep(self.delay)
        return http.json_response({"euro": 1.1})


class Application:
    """`with Application("holding", database_url, rates_url) as application:` it runs in between."""

    def __init__(self, name: str, database: str, rates: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = int(probe.getsockname()[1])
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self._command = [sys.executable, "-m", "uvicorn", f"examples.outage.{name}:app", "--port", str(port)]
        self._command += ["--no-access-log", "--log-level", "error"]
        self._environment = {**os.environ, "DATABASE": database, "RATES": rates}

    def __enter__(self) -> Self:
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:  # it waits for a connection that is held
            self._process.kill()
            self._process.wait()
        self._errors.close()

    async def ready(self, loop: Loop) -> None:
        """Wait until it answers. Raises `NotStarted`."""
        visitor = loop.spawn(http.pool(self.url, connections=1))
        until = loop.time() + START_SECONDS_MAX
        while True:
            try:
                answer = await visitor.submit(http.get("/account/1"), timeout=START_SECONDS_MAX)
                break
            except PoolError:
                if self._process.poll() is not None or loop.time() > until:
                    raise NotStarted(f"{self.name} does not start: {self._last_words()}") from None
                await sleep(0.05)
        visitor.drain()
        if answer.status != 200:
            raise NotStarted(f"{self.name} answers {answer.status}: {answer.text()} {self._last_words()}")

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"
