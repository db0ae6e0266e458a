"""Names as they stand in a statement: quoted, so that whatever they hold is a name and no more. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

__all__ = ["channel", "column_list", "quoted", "table"]

NAME_BYTES_MAX: Final = 63  # the server cuts longer ones off (NAMEDATALEN)


def quoted(name: str) -> str:
    """An identifier in double quotes. Raises `ValueError` for one that there cannot be."""
    if not name or "\0" in name:
        raise ValueError(
            f"{name!r} is not a name: names in PostgreSQL have at least one character and no NUL"
        )
    return '"' + name.replace('"', '""') + '"'


def table(name: str | Sequence[str]) -> str:
    """A table by its name, or by its schema and its name."""
    parts = (name,) if isinstance(name, str) else tuple(name)
    if not parts:
        raise ValueError("no table is named; write its name, or (schema, name)")
    return ".".join(map(quoted, parts))


def column_list(names: Iterable[str]) -> str:
    """Columns in parentheses, nothing for none."""
    if isinstance(names, str):
        raise TypeError(f"columns={names!r}; write a list of names")
    listed = ", ".join(map(quoted, names))
    return f" ({listed})" if listed else ""


def channel(name: str) -> str:
    """The name of a channel of notifications, as it is. Raises `ValueError` for one that the server would cut
    off.
    """
    if len(name.encode()) > NAME_BYTES_MAX:
        raise ValueError(f"the channel {name[:20]!r}… is longer than {NAME_BYTES_MAX} bytes")
    quoted(name)
    return name
