"""Processes as machines: started with the spawn, their lines of output are values, gone with the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from actors import READABLE, UNCHANGED, Machine, Outcome, Reply, Scope, Stop

__all__ = ["Program", "ProgramEnded"]

END_SECONDS_MAX: Final = 5.0  # for a program to end by itself before it is killed
LINE_MAX: Final = 1 << 20  # bytes


class ProgramEnded(Exception):
    """One of the demo's programs has ended by itself; what it had to say is above."""


class Program(Machine["Program"]):
    """One of the demo's programs. `first` settles with its first line, `received` gets the others."""

    def __init__(self, role: str, *arguments: str, received: Callable[[Any], object] | None = None) -> None:
        self.role = role
        self.first: Reply[Any] = Reply()
        self.ended: Reply[None] = Reply()
        self._arguments: Sequence[str] = arguments
        self._received = received
        self._buffer = b""
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        pid = "not started" if self._process is None else self._process.pid
        return f"<Program {self.role} {pid}>"

    def handle(self, scope: Scope) -> Program:
        """Spawning gives the program itself."""
        return self

    def start(self, scope: Scope) -> Outcome:
        """Start the process, out of reach of the terminal's Ctrl-C."""
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "windlass.demo", self.role, *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        scope.register(process.stdout.fileno(), READABLE)
        return UNCHANGED

    def ready(self, scope: Scope, events: int) -> Outcome:
        """Lines, or the end."""
        assert self._process is not None
        assert self._process.stdout is not None
        data = os.read(self._process.stdout.fileno(), 1 << 16)
        if not data:
            return Stop()
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        assert len(self._buffer) < LINE_MAX, "a line of output without end"
        for line in lines:
            value = msgspec.json.decode(line)
            if not self.first.settle(value) and self._received is not None:
                self._received(value)
        return UNCHANGED

    def end(self) -> None:
        """Ask it to end, by ending its input; `ended` settles when it has."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self) -> None:
        """Have it die at once, as a process does that runs out of memory."""
        if self._process is not None:
            self._process.kill()

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """Leave no process behind."""
        self.end()
        process = self._process
        if process is None:
            return
        try:
            process.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self.first.fail(ProgramEnded(f"the program {self.role!r} ended with status {process.returncode}"))
        self.ended.settle(None)
