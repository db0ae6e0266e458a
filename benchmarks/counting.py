"""Counts the instructions that a program of Windlass executes, by valgrind.

The count is that of user mode. It is the same however busy the machine is: what is left of chance is how many
answers of another process arrive at once.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.servers import Absent, free_port, program

__all__ = ["Counter"]

VALGRIND = ("--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
START_SECONDS_MAX = 300.0  # a program is some twenty times slower here


class Counter:
    """Runs programs with the packages of a folder, and counts. Use it in a `with`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        valgrind = program("valgrind", "apt-get install valgrind")
        self._said = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [valgrind, *VALGRIND, sys.executable, "-m", "benchmarks.own.forks"],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(self._folder), "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()  # which ends its input, and so the process
        self._said.close()

    def of_program(self, module: str, *arguments: str | int) -> int:
        """The instructions of `python -m module arguments`, from the end of the imports on."""
        return self._count(self._begin(module, *arguments))

    def of_server(self, drive: Callable[[int], object], module: str, *arguments: str) -> int:
        """As `of_program`, of a server that is asked to end when `drive` has: that is called with the port,
        which stands for PORT in the arguments.
        """
        port = free_port()
        pid = self._begin(module, *(word.replace("PORT", str(port)) for word in arguments))
        try:
            self._wait_until_it_listens(port)
            drive(port)
        finally:
            os.kill(pid, signal.SIGTERM)
        return self._count(pid)

    def _begin(self, module: str, *arguments: str | int) -> int:
        assert self._process.stdin
        with suppress(BrokenPipeError):  # then there is no answer, but last words
            print(json.dumps([module, *map(str, arguments)]), file=self._process.stdin, flush=True)
        return int(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout
        if not (answer := self._process.stdout.readline()):
            raise Absent(self._last_words())
        return answer

    def _count(self, pid: int) -> int:
        if int(self._answer()):
            raise Absent(self._last_words())
        self._said.seek(0)
        found = re.search(rf"=={pid}== I\s+refs:\s+([\d,]+)", self._said.read().decode(errors="replace"))
        if not found:
            raise Absent(self._last_words())
        return int(found[1].replace(",", ""))

    def _wait_until_it_listens(self, port: int) -> None:
        until = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS_MAX).close()
                return
            except OSError:
                time.sleep(0.1)
        raise Absent(f"does not listen after {START_SECONDS_MAX:.0f} s: {self._last_words()}")

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").splitlines()
        own = [line for line in lines if line.strip() and not line.startswith(("==", "--"))]
        return own[-1].strip() if own else "it said nothing"
