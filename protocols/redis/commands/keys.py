"""Keys: what there is, and for how long."""

from __future__ import annotations

from protocols.redis.codec import Arg, encode
from protocols.redis.convert import flag, ok, page
from protocols.redis.units import Command, Idempotent

__all__ = ["delete", "exists", "expire", "key_type", "persist", "pttl", "rename", "scan", "touch", "unlink"]


def delete(*keys: Arg) -> Command[int]:
    """Remove keys; how many there were."""
    return Command(encode("DEL", *keys))


def unlink(*keys: Arg) -> Command[int]:
    """Remove keys, and give their memory back in the background; how many there were."""
    return Command(encode("UNLINK", *keys))


def exists(*keys: Arg) -> Command[int]:
    """How many of these keys there are."""
    return Idempotent(encode("EXISTS", *keys))


def expire(key: Arg, seconds: float) -> Command[bool]:
    """Have it expire; whether there is such a key."""
    return Command(encode("PEXPIRE", key, round(seconds * 1000)), flag)


def persist(key: Arg) -> Command[bool]:
    """Have it stay; whether it would have expired."""
    return Command(encode("PERSIST", key), flag)


def pttl(key: Arg) -> Command[int]:
    """Milliseconds until it expires; -1 if it does not, -2 if there is no such key."""
    return Idempotent(encode("PTTL", key))


def rename(key: Arg, new: Arg) -> Command[None]:
    """Rename a key, over one that may be there."""
    return Command(encode("RENAME", key, new), ok)


def touch(*keys: Arg) -> Command[int]:
    """Mark keys as used now; how many there are."""
    return Command(encode("TOUCH", *keys))


def key_type(key: Arg) -> Command[bytes]:
    """`string`, `hash`, `list`, `set`, `zset`, `stream`, or `none`."""
    return Idempotent(encode("TYPE", key))


def scan(cursor: int = 0, *, match: Arg = "*", count: int = 100) -> Command[tuple[int, list[bytes]]]:
    """Some keys, and the cursor to go on with; 0: that was all. A key may come twice."""
    return Idempotent(encode("SCAN", cursor, "MATCH", match, "COUNT", count), page)
