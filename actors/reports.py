"""What a loop tells of itself."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["DeadLetter", "LoopStatistics"]


class LoopStatistics(msgspec.Struct, frozen=True):
    """A snapshot of what a loop has done."""

    machines: int
    slots: int
    spawned: int
    stopped: int
    crashed: int
    ticks: int
    events: int
    wakeups: int
    timeouts: int
    dead_letters: int
    log_lines_lost: int = 0


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that reached nobody: to whom it was sent, and what it was."""

    token: int
    message: Any
