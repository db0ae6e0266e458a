"""What the parent knows of its workers: processes, the slots they fill, and when a slot is filled again.

A slot has a set of listening sockets and one process that serves on them (`current`). While it is replaced it
has two: the `successor`, until that is ready, and then the `leaving` one, until its last answer is out.

A worker that is stopped, or that computes without end, says nothing any more. After `silence` seconds without
a word it gets a successor, which takes over the listening sockets and the connections that wait in their
queues; the silent one may come to its end as one that is replaced does, and is killed when it has not made it
in time. So a handler that only computes for long loses nothing. Where no successor can be started, the silent
one is killed after as long again, and counts as dead.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from actors.backoff import Backoff
from actors.options import check_counts, check_seconds
from actors.outcomes import NEVER

from .inheritance import BoundSockets
from .pipe import Pipe
from .worker import CUT_OFF, FAILED, TELL_SECONDS

__all__ = ["Limits", "Process", "Slot", "WorkerState", "explain"]

Verdict = Literal["fine", "replace", "kill"]
WorkerState = Literal["starting", "ready", "draining"]


class Limits(msgspec.Struct, frozen=True):
    """How often a slot's worker may die: at most `restarts_max` times within `window` seconds."""

    restarts_max: int
    window: float
    backoff: Backoff
    silence: float = NEVER  # seconds

    def __post_init__(self) -> None:
        check_counts(least=0, restarts_max=self.restarts_max)
        check_seconds(window=self.window)
        if not self.silence > TELL_SECONDS:
            raise ValueError(
                f"silence={self.silence}; write more than {TELL_SECONDS:g} seconds, which is how often a "
                "worker says something, or None to wait without a limit"
            )


class Process:
    """One forked worker."""

    __slots__ = (
        "due",
        "heard",
        "pid",
        "pipe",
        "reason",
        "slot",
        "snapshot",
        "started",
        "state",
        "status",
        "suspected",
    )

    def __init__(self, slot: Slot, pid: int, started: float, due: float) -> None:
        self.slot = slot
        self.pid = pid
        self.pipe: Pipe | None = None
        self.state: WorkerState = "starting"
        self.started = started
        self.due = due  # when it is killed, unless its state has changed (monotonic seconds)
        self.heard = started  # when it has said something last (monotonic seconds)
        self.suspected = False  # whether it was silent for so long that it got a successor
        self.snapshot: dict[str, Any] = {}
        self.reason = ""  # why it has failed, in its own words, or why it was killed
        self.status: int | None = None  # as `os.waitpid` tells; None while it lives

    def __repr__(self) -> str:
        return f"<Process {self.pid} of worker {self.slot.number}, {self.state}>"

    def hears(self, now: float) -> None:
        """It has said something."""
        self.heard = now
        if self.suspected:
            self.suspected = False
            self.reason = ""

    def verdict(self, now: float, silence: float) -> Verdict:
        """What its silence means."""
        silent = now - self.heard
        if self.state != "ready" or silent < silence:
            return "fine"
        if not self.suspected:
            return "replace"
        return "kill" if silent >= 2 * silence and self.slot.successor is None else "fine"


class Slot:
    """One of the N places. `number` counts from 1."""

    __slots__ = ("current", "due", "leaving", "number", "sockets", "successor", "_deaths")

    def __init__(self, number: int, sockets: BoundSockets) -> None:
        self.number = number
        self.sockets = sockets
        self.current: Process | None = None
        self.successor: Process | None = None
        self.leaving: Process | None = None
        self.due = 0.0  # when to start a worker (monotonic seconds); NEVER while there is one
        self._deaths: deque[float] = deque()

    def __repr__(self) -> str:
        return f"<Slot {self.number}: {', '.join(map(repr, self.processes())) or 'empty'}>"

    def processes(self) -> Iterator[Process]:
        """Those that live."""
        for process in (self.current, self.successor, self.leaving):
            if process is not None:
                yield process

    def promote(self) -> None:
        """The successor serves now."""
        self.leaving, self.current, self.successor = self.current, self.successor, None
        self.due = NEVER

    def forget(self, process: Process) -> None:
        """The process has ended."""
        if process is self.current:
            self.current = None
        elif process is self.successor:
            self.successor = None
        elif process is self.leaving:
            self.leaving = None

    def delay(self, now: float, limits: Limits, random: Any) -> float | None:
        """The worker has died: after how many seconds to start another; None if it dies too often."""
        deaths = self._deaths
        while deaths and deaths[0] <= now - limits.window:
            deaths.popleft()
        if len(deaths) >= limits.restarts_max:
            return None
        deaths.append(now)
        return limits.backoff.delay(len(deaths) - 1, random)


def explain(process: Process) -> str:
    """Why a process has ended, for people."""
    status = process.status or 0
    code = -(status & 0x7F) or status >> 8
    if process.reason:
        return process.reason
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    if code == CUT_OFF:
        return "the drain's deadline has passed with work left"
    return "it failed" if code == FAILED else f"it ended with status {code}"
