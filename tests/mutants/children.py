"""Child processes, some at a time, each with limits: of CPU time, of memory, and of patience."""

from __future__ import annotations

import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

__all__ = ["FAILED", "Children", "Ended", "Tell"]

Tell = Callable[[str], None]
Body = Callable[[Tell], int]

MEMORY_MAX = 4 << 30  # bytes of address space: a mutant that fills a list without end ends here
PATIENCE = 20.0  # times the CPU time that a child may take: the machine may be busy with others
PATIENCE_SECONDS = 60.0  # and these, for what only waits
TOLD_MAX = 4000  # bytes
FAILED = 70  # the exit status of a child whose body has raised


@dataclass
class Ended:
    """How a child has ended: its exit status, -signal, or None if it took too long; and what it has told."""

    key: Any
    status: int | None
    told: str
    seconds: float


@dataclass
class _Child:
    key: Any
    pid: int
    pidfd: int
    pipe: int
    begun: float
    until: float


class Children:
    """Starts them as there is room, at most `jobs` at a time; `all` gives what has ended."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._waiting: list[tuple[Any, Body, float]] = []
        self._running: dict[int, _Child] = {}

    def start(self, key: Any, body: Body, seconds: float = 600.0) -> None:
        """Run `body` in a child, when its turn comes; it may take `seconds` of CPU time. What it returns is
        the exit status (below 64), what it tells is read.
        """
        self._waiting.append((key, body, seconds))

    def all(self) -> Iterator[Ended]:
        """Each, as it ends. More may be started meanwhile."""
        while self._waiting or self._running:
            while self._waiting and len(self._running) < self.jobs:
                self._fork(*self._waiting.pop(0))
            yield from self._ended()

    def _fork(self, key: Any, body: Body, seconds: float) -> None:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            in_child(body, writing, max(1, round(seconds)))
        os.close(writing)
        os.set_blocking(reading, False)
        now = time.monotonic()
        until = now + PATIENCE_SECONDS + PATIENCE * seconds
        self._running[pid] = _Child(key, pid, os.pidfd_open(pid), reading, now, until)

    def _ended(self) -> Iterator[Ended]:
        poll = select.poll()
        for child in self._running.values():
            poll.register(child.pidfd, select.POLLIN)
        now = time.monotonic()
        first = min(child.until for child in self._running.values())
        ready = {descriptor for descriptor, _ in poll.poll(max(0.0, min(first - now, 1.0)) * 1000)}
        for child in list(self._running.values()):
            late = time.monotonic() >= child.until
            if child.pidfd in ready or late:
                yield self._end(child, late and child.pidfd not in ready)

    def _end(self, child: _Child, late: bool) -> Ended:
        try:
            os.killpg(child.pid, signal.SIGKILL)  # with whatever it has started
        except ProcessLookupError:
            pass
        _, status = os.waitpid(child.pid, 0)
        try:
            told = os.read(child.pipe, 1 << 16).decode(errors="replace")
        except BlockingIOError:
            told = ""
        os.close(child.pipe)
        os.close(child.pidfd)
        del self._running[child.pid]
        code = None if late else os.waitstatus_to_exitcode(status)
        return Ended(child.key, code, told, time.monotonic() - child.begun)


def in_child(body: Body, writing: int, seconds: int) -> NoReturn:
    """Never comes back."""

    def tell(what: str) -> None:
        os.write(writing, what.encode(errors="replace")[-TOLD_MAX:])

    status = FAILED
    try:
        os.setpgid(0, 0)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
        status = body(tell)
    except BaseException:
        tell(traceback.format_exc())
    finally:
        os._exit(status)
