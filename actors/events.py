"""What a person who runs the program wants to know, as structured log events.

Rules:
1. At most one line per cause per second; the next line of that cause says how many were `held_back`.
2. A log never reaches the traffic. A line that cannot be written, whatever its sink raises, is dropped and
   counted; the next one that is written says how many were lost (`lines_lost`).
3. Unless the program has configured structlog, lines go to standard output, as structlog would have it, each
   in one write.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import structlog

from .errors import Misuse
from .lines import LineLogger

__all__ = ["EventLog"]

CAUSES_MAX = 1024
LEVELS = ("info", "warning", "error")


class EventLog:
    """A throttled `structlog` logger. `cause` defaults to the event's name."""

    __slots__ = ("_bound", "_clock", "_interval", "_logger", "_lost_told", "_seen", "lost")

    def __init__(self, clock: Callable[[], float], interval: float = 1.0) -> None:
        self._clock = clock
        self._interval = interval  # seconds
        self._logger: Any = None  # None: structlog's
        self._bound: dict[str, Any] = {}
        self._seen: dict[str, list[float]] = {}  # cause -> [time of its last line, held back since]
        self.lost = 0  # lines that could not be written
        self._lost_told = 0

    def bind(self, **fields: Any) -> None:
        """Say this in every further line: who speaks, where several do."""
        self._bound |= fields

    def send_to(self, logger: Any) -> None:
        """Say everything to `logger` (`info`, `warning` and `error`, as structlog's) from now on. Raises
        `Misuse` if it has not these methods."""
        for level in LEVELS:
            if not callable(getattr(logger, level, None)):
                raise Misuse(f"{logger!r} has no method {level}(event, **fields); give a logger of structlog")
        self._logger = logger

    def info(self, event: str, *, cause: str | None = None, **fields: Any) -> None:
        """Something ordinary happened: started, stopped, reconnected."""
        self._emit("info", event, cause, fields)

    def warning(self, event: str, *, cause: str | None = None, **fields: Any) -> None:
        """Something the program copes with: an overflow, a lost connection."""
        self._emit("warning", event, cause, fields)

    def error(self, event: str, *, cause: str | None = None, **fields: Any) -> None:
        """Something a person must mend: a crash, a supervisor that gave up."""
        self._emit("error", event, cause, fields)

    def _emit(self, level: str, event: str, cause: str | None, fields: dict[str, Any]) -> None:
        cause = cause or event
        now = self._clock()
        seen = self._seen.get(cause)
        if seen is not None and now - seen[0] < self._interval:
            seen[1] += 1
            return
        if len(self._seen) >= CAUSES_MAX:
            self._seen.clear()
        self._seen[cause] = [now, 0]
        fields = self._bound | fields
        if seen is not None and seen[1]:
            fields["held_back"] = int(seen[1])
        lost = self.lost
        if lost > self._lost_told:
            fields["lines_lost"] = lost - self._lost_told
        try:
            failure = fields.pop("exc_info", None)
            if failure is not None:  # as text: a renderer that shows variables is slow, and shows secrets
                fields["stack"] = "".join(traceback.format_exception(failure)).rstrip()
            logger = structlogs() if self._logger is None else self._logger
            getattr(logger, level)(event, **fields)
        except Exception:
            self.lost = lost + 1
        else:
            self._lost_told = lost


def structlogs() -> Any:
    """The logger that structlog gives; while nobody has configured it, one that does not tear lines."""
    if structlog.is_configured():
        return structlog.get_logger("windlass")
    return structlog.wrap_logger(LineLogger())
