"""Strings and numbers."""

from __future__ import annotations

from collections.abc import Mapping

from protocols.redis.codec import Arg, Name, encode
from protocols.redis.convert import flag, ok
from protocols.redis.units import Command, Idempotent

__all__ = [
    "append",
    "decrby",
    "get",
    "getdel",
    "getex",
    "getrange",
    "incrby",
    "incrbyfloat",
    "mget",
    "mset",
    "set",
    "set_get",
    "setrange",
    "strlen",
]


def get(key: Arg) -> Command[bytes | None]:
    """The value, None if there is none."""
    if key.__class__ is str:  # the hottest of all: written out, it takes two thirds of the time
        key = key.encode()
    if key.__class__ is bytes:
        return Idempotent(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key))
    return Idempotent(encode("GET", key))


def set(
    key: Arg,
    value: Arg,
    *,
    ex: float | None = None,
    nx: bool = False,
    xx: bool = False,
    keep_ttl: bool = False,
) -> Command[bool]:
    """Set the value, to expire after `ex` seconds. `nx`: only if there is none; `xx`: only if there is one.
    Whether it was set.
    """
    if ex is None and not (nx or xx or keep_ttl):
        return Command(encode("SET", key, value), flag)
    options: list[Arg] = [] if ex is None else ["PX", round(ex * 1000)]
    options += [name for name, wanted in (("NX", nx), ("XX", xx), ("KEEPTTL", keep_ttl)) if wanted]
    return Command(encode("SET", key, value, *options), flag)


def set_get(key: Arg, value: Arg) -> Command[bytes | None]:
    """Set the value; the one before."""
    return Command(encode("SET", key, value, "GET"))


def mget(*keys: Arg) -> Command[list[bytes | None]]:
    """The values, None for each there is none of."""
    return Idempotent(encode("MGET", *keys))


def mset(values: Mapping[Name, Arg]) -> Command[None]:
    """Set several at once."""
    return Command(encode("MSET", *(part for pair in values.items() for part in pair)), ok)


def getdel(key: Arg) -> Command[bytes | None]:
    """Remove it; the value it had."""
    return Command(encode("GETDEL", key))


def getex(key: Arg, ex: float) -> Command[bytes | None]:
    """The value, which expires in `ex` seconds from now on."""
    return Command(encode("GETEX", key, "PX", round(ex * 1000)))


def incrby(key: Arg, amount: int = 1) -> Command[int]:
    """Add to the number; the sum."""
    return Command(encode("INCRBY", key, amount))


def decrby(key: Arg, amount: int = 1) -> Command[int]:
    """Take from the number; the difference."""
    return Command(encode("DECRBY", key, amount))


def incrbyfloat(key: Arg, amount: float) -> Command[float]:
    """Add to the number; the sum."""
    return Command(encode("INCRBYFLOAT", key, amount), float)


def append(key: Arg, value: Arg) -> Command[int]:
    """Append to the value; its length in bytes."""
    return Command(encode("APPEND", key, value))


def strlen(key: Arg) -> Command[int]:
    """The value's length in bytes."""
    return Idempotent(encode("STRLEN", key))


def getrange(key: Arg, start: int, end: int) -> Command[bytes]:
    """Bytes `start` to `end`, both included; negative ones count from the end."""
    return Idempotent(encode("GETRANGE", key, start, end))


def setrange(key: Arg, offset: int, value: Arg) -> Command[int]:
    """Write over the value from `offset` on; its length in bytes."""
    return Command(encode("SETRANGE", key, offset, value))
