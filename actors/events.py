"""What a person who runs the program wants to know, as structured log events.

At most one line per cause per second; the next line of that cause says how many were held back.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import structlog

__all__ = ["EventLog"]

CAUSES_MAX = 1024


class EventLog:
    """A throttled `structlog` logger. `cause` defaults to the event's name."""

    __slots__ = ("_clock", "_interval", "_logger", "_seen")

    def __init__(self, clock: Callable[[], float], interval: float = 1.0) -> None:
        self._clock = clock
        self._interval = interval  # seconds
        self._logger = structlog.get_logger("windlass")
        self._seen: dict[str, list[float]] = {}  # cause -> [time of its last line, held back since]

    def bind(self, **fields: Any) -> None:
        """Say this in every further line: who speaks, where several do."""
        self._logger = self._logger.bind(**fields)

    def send_to(self, logger: Any) -> None:
        """Say everything to `logger` (`info`, `warning`, `error` and `bind`, as structlog's) from now on."""
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
        if seen is not None and seen[1]:
            fields["held_back"] = int(seen[1])
        failure = fields.pop("exc_info", None)
        if failure is not None:  # as text: a renderer that shows local variables is slow, and shows secrets
            fields["stack"] = "".join(traceback.format_exception(failure)).rstrip()
        if len(self._seen) >= CAUSES_MAX:
            self._seen.clear()
        self._seen[cause] = [now, 0]
        getattr(self._logger, level)(event, **fields)
