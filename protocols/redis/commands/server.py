"""The server itself, and messages to subscribers."""

from __future__ import annotations

from protocols.redis.codec import Arg, encode
from protocols.redis.convert import ok
from protocols.redis.units import Command, Idempotent

__all__ = ["dbsize", "echo", "flushdb", "info", "ping", "publish"]


def ping() -> Command[bytes]:
    """`PONG`."""
    return Idempotent(encode("PING"))


def echo(message: Arg) -> Command[bytes]:
    """The same again."""
    return Idempotent(encode("ECHO", message))


def publish(channel: Arg, message: Arg) -> Command[int]:
    """Send to whoever subscribes to the channel now; how many that are."""
    return Command(encode("PUBLISH", channel, message))


def dbsize() -> Command[int]:
    """How many keys."""
    return Idempotent(encode("DBSIZE"))


def flushdb() -> Command[None]:
    """Remove all keys of the database."""
    return Command(encode("FLUSHDB"), ok)


def info(section: str = "default") -> Command[dict[str, str]]:
    """What the server tells of itself."""
    return Idempotent(encode("INFO", section), _fields)


def _fields(value: bytes) -> dict[str, str]:
    lines = value.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))
