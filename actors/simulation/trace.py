"""The trace of a run: one line per event, hashed as they come, the last ones kept to be read.

Two runs are the same if their hashes are. A line must hold nothing that differs between processes: no `id`,
no real time.
"""

from __future__ import annotations

from collections import deque
from hashlib import blake2b
from typing import Final

__all__ = ["Trace"]

BATCH: Final = 512  # lines that are hashed at a time
KEPT: Final = 200


class Trace:
    """Takes lines; gives their hash and the last of them."""

    __slots__ = ("_digest", "_lines", "_tail", "lines")

    def __init__(self, kept: int = KEPT) -> None:
        self._digest = blake2b(digest_size=16)
        self._lines: list[str] = []
        self._tail: deque[str] = deque(maxlen=kept)
        self.lines = 0

    def __repr__(self) -> str:
        return f"<Trace of {self.lines + len(self._lines)} lines>"

    def add(self, line: str) -> None:
        """One event."""
        self._lines.append(line)
        if len(self._lines) >= BATCH:
            self._take_in()

    def tail(self, count: int = KEPT) -> list[str]:
        """The last lines."""
        self._take_in()
        return list(self._tail)[-count:]

    def hash(self) -> str:
        """Of all lines so far."""
        self._take_in()
        return self._digest.hexdigest()

    def _take_in(self) -> None:
        if self._lines:
            self._digest.update("\n".join(self._lines).encode() + b"\n")
            self._tail.extend(self._lines)
            self.lines += len(self._lines)
            self._lines.clear()
