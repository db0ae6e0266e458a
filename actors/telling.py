"""Telling of what went wrong: to tell of an error must never be a second one."""

from __future__ import annotations

from typing import Any

__all__ = ["told", "words_of"]


def told(thing: Any) -> str:
    """`repr(thing)`, for a log line or the words of an error: one that raises itself is named instead."""
    try:
        return repr(thing)
    except Exception as error:
        return f"<{type(thing).__name__}, whose repr raises {type(error).__name__}>"


def words_of(error: BaseException | None) -> str:
    """What an error says, or its name if it says nothing; `None` for none."""
    try:
        return str(error) or type(error).__name__
    except Exception:
        return told(error)
