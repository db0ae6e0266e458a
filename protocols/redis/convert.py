"""What replies become where a command has a typed result; the same of RESP2 and RESP3."""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = [
    "Entry",
    "as_dict",
    "as_entries",
    "as_scored",
    "as_set",
    "as_streams",
    "flag",
    "maybe",
    "ok",
    "page",
]

T = TypeVar("T")

Entry = tuple[bytes, dict[bytes, bytes]]
"""Of a stream: its ID and its fields."""


def flag(value: Any) -> bool:
    """0 or 1, OK or nothing."""
    return bool(value)


def ok(value: Any) -> None:
    """Nothing but OK is ever answered."""
    if value != b"OK":
        raise ValueError("not OK")


def maybe(value: Any) -> float | None:
    """A number that RESP2 sends as text, or nothing."""
    return None if value is None else float(value)


def as_set(value: Any) -> set[bytes]:
    """The members."""
    return set(value)


def as_dict(value: Any) -> dict[bytes, Any]:
    """RESP3 sends maps, RESP2 keys and values in turns."""
    return value if isinstance(value, dict) else dict(zip(value[::2], value[1::2], strict=True))


def as_scored(value: Any) -> list[tuple[bytes, float]]:
    """Members with their scores: pairs, or in RESP2 in turns."""
    if value and not isinstance(value[0], list):
        value = zip(value[::2], value[1::2], strict=True)
    return [(member, float(score)) for member, score in value]


def as_entries(value: Any) -> list[Entry]:
    """Entries of a stream. One that was deleted meanwhile has no fields."""
    return [(entry, as_dict(fields or [])) for entry, fields in value]


def as_streams(value: Any) -> dict[bytes, list[Entry]]:
    """Entries by stream; none if the time was up."""
    if value is None:
        return {}
    pairs = value.items() if isinstance(value, dict) else value
    return {stream: as_entries(entries) for stream, entries in pairs}


def page(value: Any) -> tuple[int, list[bytes]]:
    """Where a scan goes on (0: it is over), and what it has found."""
    return int(value[0]), value[1]
