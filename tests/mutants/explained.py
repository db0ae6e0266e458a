"""Mutants that survive and may: `explained.txt` says of each why.

# a reason, for all lines below it until the next one
pools/queues.py UnitQueue.take: before -> after
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["explained", "stale"]

FILE = Path(__file__).with_name("explained.txt")


def explained(text: str | None = None) -> dict[str, str]:
    """The reason of each, by its key."""
    reason = ""
    found = {}
    for line in (FILE.read_text() if text is None else text).splitlines():
        if line.startswith("#"):
            reason = line.removeprefix("#").strip()
        elif line.strip():
            if not reason:
                raise ValueError(f"no reason above {line!r} in {FILE.name}")
            found[line.strip()] = reason
    return found


def stale(sources: Iterable[str], keys: set[str]) -> list[str]:
    """Explained ones of these sources that are none any more."""
    return [key for key in explained() if key.startswith(tuple(sources)) and key not in keys]
