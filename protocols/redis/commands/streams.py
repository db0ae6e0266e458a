"""Streams, and groups of consumers that share one. Reads that wait do it on connections of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protocols.redis.codec import Arg, Name, encode
from protocols.redis.convert import Entry, as_entries, as_streams, ok
from protocols.redis.units import Command, Idempotent, command

__all__ = ["xack", "xadd", "xdel", "xgroup_create", "xlen", "xrange", "xread", "xreadgroup", "xtrim"]

Positions = Mapping[Name, Arg]
"""By stream, the ID after which to read."""


def xadd(key: Arg, fields: Mapping[Name, Arg], *, id: Arg = "*", maxlen: int | None = None) -> Command[bytes]:
    """Append an entry; its ID. `maxlen`: drop the oldest beyond about so many."""
    trim: tuple[Arg, ...] = () if maxlen is None else ("MAXLEN", "~", maxlen)
    return Command(encode("XADD", key, *trim, id, *(part for pair in fields.items() for part in pair)))


def xlen(key: Arg) -> Command[int]:
    """How many entries."""
    return Idempotent(encode("XLEN", key))


def xrange(key: Arg, start: Arg = "-", end: Arg = "+", *, count: int | None = None) -> Command[list[Entry]]:
    """Entries from ID `start` to `end`, both included, at most `count`."""
    return Idempotent(encode("XRANGE", key, start, end, *_count(count)), as_entries)


def xdel(key: Arg, *ids: Arg) -> Command[int]:
    """Remove entries; how many there were."""
    return Command(encode("XDEL", key, *ids))


def xtrim(key: Arg, maxlen: int) -> Command[int]:
    """Drop the oldest beyond so many; how many that were."""
    return Command(encode("XTRIM", key, "MAXLEN", maxlen))


def xread(
    positions: Positions[Name], *, count: int | None = None, seconds: float | None = None
) -> Command[dict[bytes, list[Entry]]]:
    """Entries after an ID, by stream. `seconds`: wait for some (0: for ever); `{}` if none has come."""
    return _read("XREAD", *_count(count), *_block(seconds), "STREAMS", *positions, *positions.values())


def xreadgroup(
    group: Arg,
    consumer: Arg,
    positions: Positions[Name],
    *,
    count: int | None = None,
    seconds: float | None = None,
) -> Command[dict[bytes, list[Entry]]]:
    """As `xread`, for one consumer of a group: after `>`, entries that nobody has got yet."""
    who = ("XREADGROUP", "GROUP", group, consumer)
    return _read(*who, *_count(count), *_block(seconds), "STREAMS", *positions, *positions.values())


def xgroup_create(key: Arg, group: Arg, *, id: Arg = "$") -> Command[None]:
    """Make a group that begins after `id`, and the stream if there is none."""
    return Command(encode("XGROUP", "CREATE", key, group, id, "MKSTREAM"), ok)


def xack(key: Arg, group: Arg, *ids: Arg) -> Command[int]:
    """Entries are done with; how many were pending."""
    return Command(encode("XACK", key, group, *ids))


def _read(*arguments: Arg) -> Command[Any]:
    made = command(*arguments)
    made.convert = as_streams
    return made


def _count(count: int | None) -> tuple[Arg, ...]:
    return () if count is None else ("COUNT", count)


def _block(seconds: float | None) -> tuple[Arg, ...]:
    return () if seconds is None else ("BLOCK", round(seconds * 1000))
