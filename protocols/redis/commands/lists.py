"""Lists. Those that wait (`blpop`, …) do it on connections of their own."""

from __future__ import annotations

from typing import Any

from protocols.redis.codec import Arg, encode
from protocols.redis.convert import ok
from protocols.redis.units import Blocking, Command, Idempotent, command

__all__ = [
    "blmove",
    "blpop",
    "brpop",
    "lindex",
    "llen",
    "lmove",
    "lpop",
    "lpush",
    "lrange",
    "lrem",
    "ltrim",
    "rpop",
    "rpush",
]


def lpush(key: Arg, *values: Arg) -> Command[int]:
    """Put in front, one after the other; the list's length."""
    return Command(encode("LPUSH", key, *values))


def rpush(key: Arg, *values: Arg) -> Command[int]:
    """Put at the end; the list's length."""
    return Command(encode("RPUSH", key, *values))


def lpop(key: Arg) -> Command[bytes | None]:
    """Take the first, None if there is none."""
    return Command(encode("LPOP", key))


def rpop(key: Arg) -> Command[bytes | None]:
    """Take the last, None if there is none."""
    return Command(encode("RPOP", key))


def lmove(source: Arg, target: Arg, from_side: str = "RIGHT", to_side: str = "LEFT") -> Command[bytes | None]:
    """Move one from the `LEFT` or `RIGHT` side of a list to that of another; None if there is none."""
    return Command(encode("LMOVE", source, target, from_side, to_side))


def llen(key: Arg) -> Command[int]:
    """The list's length."""
    return Idempotent(encode("LLEN", key))


def lindex(key: Arg, index: int) -> Command[bytes | None]:
    """The one at that place, from the end if negative."""
    return Idempotent(encode("LINDEX", key, index))


def lrange(key: Arg, start: int = 0, end: int = -1) -> Command[list[bytes]]:
    """Those from `start` to `end`, both included."""
    return Idempotent(encode("LRANGE", key, start, end))


def lrem(key: Arg, value: Arg, count: int = 0) -> Command[int]:
    """Remove `count` equal ones (0: all; negative: from the end); how many there were."""
    return Command(encode("LREM", key, count, value))


def ltrim(key: Arg, start: int, end: int) -> Command[None]:
    """Keep those from `start` to `end`, both included."""
    return Command(encode("LTRIM", key, start, end), ok)


def blpop(*keys: Arg, seconds: float = 0) -> Command[tuple[bytes, bytes] | None]:
    """Wait for the first of the first list that has one: its key and value; None after `seconds` (0: never).

    If its asker goes away the connection is closed, so that nothing is taken from the list for nobody, unless
    that is under way already: where that matters use `blmove`.
    """
    return _waiting("BLPOP", *keys, seconds)


def brpop(*keys: Arg, seconds: float = 0) -> Command[tuple[bytes, bytes] | None]:
    """As `blpop`, the last."""
    return _waiting("BRPOP", *keys, seconds)


def blmove(
    source: Arg, target: Arg, from_side: str = "RIGHT", to_side: str = "LEFT", *, seconds: float = 0
) -> Command[bytes | None]:
    """As `lmove`, waiting for one; None after `seconds` (0: never)."""
    return Blocking(encode("BLMOVE", source, target, from_side, to_side, seconds), seconds)


def _waiting(*arguments: Arg) -> Command[Any]:
    made = command(*arguments)
    made.convert = _pair
    return made


def _pair(value: Any) -> tuple[bytes, bytes] | None:
    return None if value is None else (value[0], value[1])
