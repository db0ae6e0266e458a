"""Sets."""

from __future__ import annotations

from protocols.redis.codec import Arg, encode
from protocols.redis.convert import as_set, flag
from protocols.redis.units import Command, Idempotent

__all__ = ["sadd", "scard", "sdiff", "sinter", "sismember", "smembers", "spop", "srem", "sunion"]


def sadd(key: Arg, *members: Arg) -> Command[int]:
    """Add members; how many are new."""
    return Command(encode("SADD", key, *members))


def srem(key: Arg, *members: Arg) -> Command[int]:
    """Remove members; how many there were."""
    return Command(encode("SREM", key, *members))


def spop(key: Arg) -> Command[bytes | None]:
    """Take any one; None if there is none."""
    return Command(encode("SPOP", key))


def smembers(key: Arg) -> Command[set[bytes]]:
    """All members."""
    return Idempotent(encode("SMEMBERS", key), as_set)


def sismember(key: Arg, member: Arg) -> Command[bool]:
    """Whether it is a member."""
    return Idempotent(encode("SISMEMBER", key, member), flag)


def scard(key: Arg) -> Command[int]:
    """How many members."""
    return Idempotent(encode("SCARD", key))


def sinter(*keys: Arg) -> Command[set[bytes]]:
    """Members of all."""
    return Idempotent(encode("SINTER", *keys), as_set)


def sunion(*keys: Arg) -> Command[set[bytes]]:
    """Members of any."""
    return Idempotent(encode("SUNION", *keys), as_set)


def sdiff(*keys: Arg) -> Command[set[bytes]]:
    """Members of the first and of no other."""
    return Idempotent(encode("SDIFF", *keys), as_set)
