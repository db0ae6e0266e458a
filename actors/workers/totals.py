"""Statistics of several workers as one: numbers are added, records are added field by field.

What a worker has *done* counts for ever. What it *has* at the moment (`GAUGES`: open connections, queued
units) ends with it, however it ended, and counts only while it lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = ["GAUGES", "add_up", "done", "flat"]

GAUGES: Final = frozenset(
    {"connections", "connections_max", "in_flight", "machines", "members", "orphans", "queued", "slots"}
)
KEYS: Final = ("address", "name")  # what tells the records of a list apart


def add_up(snapshots: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum. Of what is no number (a state, a text) the latest is kept."""
    total: dict[str, Any] = {}
    for snapshot in snapshots:
        for name, value in snapshot.items():
            total[name] = _add(total[name], value) if name in total else value
    return total


def _add(total: Any, value: Any) -> Any:
    if isinstance(total, Mapping) and isinstance(value, Mapping):
        return add_up([total, value])
    if isinstance(total, list) and isinstance(value, list):
        return _merge(total + value)
    if _is_number(total) and _is_number(value):
        return total + value
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _merge(records: list[Any]) -> list[Any]:
    """Records about the same thing are added; what is no such record stays beside the others."""
    merged: dict[Any, Any] = {}
    for position, record in enumerate(records):
        key: Any = position
        if isinstance(record, Mapping):
            key = next((str(record[name]) for name in KEYS if name in record), position)
        merged[key] = _add(merged[key], record) if key in merged else record
    return list(merged.values())


def done(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """What still counts when the worker has gone."""
    return {name: _done(value) for name, value in snapshot.items() if name not in GAUGES}


def _done(value: Any) -> Any:
    if isinstance(value, Mapping):
        return done(value)
    return [_done(item) for item in value] if isinstance(value, list) else value


def flat(statistics: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Numbers by their dotted names, as the fields of one line."""
    fields: dict[str, Any] = {}
    for name, value in statistics.items():
        if isinstance(value, Mapping):
            fields |= flat(value, f"{prefix}{name}.")
        elif _is_number(value):
            fields[prefix + name] = value
    return fields
