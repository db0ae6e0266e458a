"""A server under measurement: a process on its own core, whose CPU time and resident memory `/proc` tells.

Both are summed over the process and its descendants, so that supervisors with workers are counted whole.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from benchmarks.machine import ROOT, SERVER_CORES, run_on

__all__ = ["Absent", "Cpu", "Server", "free_port", "program"]

START_SECONDS_MAX = 15.0
STOP_SECONDS_MAX = 5.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Absent(Exception):
    """Something to measure, or to measure with, is not here; the text says what and how to get it."""


class Cpu(NamedTuple):
    """CPU time in seconds."""

    user: float
    system: float


def program(name: str | Path, install: str) -> str:
    """The path of a program; raises `Absent` with the line that installs it."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if path is None:
        raise Absent(f"{Path(name).name} is not installed: {install}")
    return path


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _stat(pid: int | str) -> list[str]:
    # The command may hold spaces and parentheses; after the last one come plain fields, the state first.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _tree(root: int) -> Iterator[list[str]]:
    """The stat fields of a process and of all that descend from it."""
    stats: dict[int, list[str]] = {}
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stats[int(entry)] = stat = _stat(entry)
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(stat[1]), []).append(int(entry))
    family = [root]
    for pid in family:
        family += children.get(pid, [])
    return (stats[pid] for pid in family if pid in stats)


class Server:
    """A process that listens on `port`, started by `with`, gone after it."""

    def __init__(
        self,
        name: str,
        command: Callable[[int], Sequence[str]],
        cores: set[int] = SERVER_CORES,
        *,
        start_seconds_max: float = START_SECONDS_MAX,
    ) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = command
        self._cores = cores
        self._start_seconds_max = start_seconds_max

    def __enter__(self) -> Self:
        command = self._command(self.port)
        self._errors = tempfile.TemporaryFile()
        with run_on(self._cores):
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                start_new_session=True,
            )
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _wait_until_it_listens(self) -> None:
        until = time.monotonic() + self._start_seconds_max
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
                return
            except OSError:
                if self._process.poll() is not None:
                    raise Absent(f"did not start: {self.last_words()}") from None
                time.sleep(0.02)
        raise Absent(f"does not listen after {self._start_seconds_max:.0f} s: {self.last_words()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(STOP_SECONDS_MAX)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self._errors.close()

    def last_words(self) -> str:
        """The last line it printed."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip().replace(f"{ROOT}/", "") if lines else "it said nothing"

    def cpu(self) -> Cpu:
        """CPU time it has used up to now."""
        times = [(int(stat[11]), int(stat[12])) for stat in _tree(self._process.pid)]
        return Cpu(*(sum(column) / TICKS_PER_SECOND for column in zip(*times, strict=True)))

    def resident_bytes(self) -> int:
        """Memory it occupies now."""
        return sum(int(stat[21]) for stat in _tree(self._process.pid)) * resource.getpagesize()
