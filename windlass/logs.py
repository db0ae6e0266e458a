"""What a program says about itself: events on standard error, for people or as JSON lines for programs."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import structlog

from actors.lines import LineLogger, write_line

__all__ = ["configure_logs", "tell"]


def configure_logs(*, json: bool = False, level: int = logging.INFO, also: Sequence[Any] = ()) -> None:
    """Events from `level` on: lines to read (coloured on a terminal), or one JSON object per line. `also`:
    processors that go first."""
    shared: list[Any] = [*also, structlog.processors.add_log_level]
    if json:
        shared += [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ]
    else:
        shared += [
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(
                colors=wants_colours(),
                # As Python prints them: the prettier ones show what is in variables, secrets among it.
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: LineLogger("stderr"),
        cache_logger_on_first_use=True,
    )


def wants_colours() -> bool:
    """Whether standard error is a terminal whose user wants colours (no-color.org, terminfo's `dumb`)."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def tell(text: str) -> None:
    """Write this to standard error; drop it if it cannot be written."""
    with suppress(OSError):
        write_line(sys.stderr, text)
