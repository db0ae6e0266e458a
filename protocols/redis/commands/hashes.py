"""Hashes: fields with values."""

from __future__ import annotations

from collections.abc import Mapping

from protocols.redis.codec import Arg, Name, encode
from protocols.redis.convert import as_dict, flag
from protocols.redis.units import Command, Idempotent

__all__ = [
    "hdel",
    "hexists",
    "hget",
    "hgetall",
    "hincrby",
    "hkeys",
    "hlen",
    "hmget",
    "hset",
    "hsetnx",
    "hvals",
]


def hget(key: Arg, field: Arg) -> Command[bytes | None]:
    """The field's value, None if there is none."""
    return Idempotent(encode("HGET", key, field))


def hset(key: Arg, values: Mapping[Name, Arg]) -> Command[int]:
    """Set fields; how many of them are new."""
    return Command(encode("HSET", key, *(part for pair in values.items() for part in pair)))


def hsetnx(key: Arg, field: Arg, value: Arg) -> Command[bool]:
    """Set a field that is not there; whether it was set."""
    return Command(encode("HSETNX", key, field, value), flag)


def hmget(key: Arg, *fields: Arg) -> Command[list[bytes | None]]:
    """The fields' values, None for each there is none of."""
    return Idempotent(encode("HMGET", key, *fields))


def hgetall(key: Arg) -> Command[dict[bytes, bytes]]:
    """All fields."""
    return Idempotent(encode("HGETALL", key), as_dict)


def hdel(key: Arg, *fields: Arg) -> Command[int]:
    """Remove fields; how many there were."""
    return Command(encode("HDEL", key, *fields))


def hexists(key: Arg, field: Arg) -> Command[bool]:
    """Whether there is such a field."""
    return Idempotent(encode("HEXISTS", key, field), flag)


def hincrby(key: Arg, field: Arg, amount: int = 1) -> Command[int]:
    """Add to a field's number; the sum."""
    return Command(encode("HINCRBY", key, field, amount))


def hkeys(key: Arg) -> Command[list[bytes]]:
    """The fields' names."""
    return Idempotent(encode("HKEYS", key))


def hvals(key: Arg) -> Command[list[bytes]]:
    """The fields' values."""
    return Idempotent(encode("HVALS", key))


def hlen(key: Arg) -> Command[int]:
    """How many fields."""
    return Idempotent(encode("HLEN", key))
