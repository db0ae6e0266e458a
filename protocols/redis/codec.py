"""RESP2 and RESP3, both ways: commands to bytes, bytes to values
(https://redis.io/docs/latest/develop/reference/protocol-spec/).

`hiredis` does both. Around it stands what a connection needs besides: limits, and one kind of error for all
that the protocol does not allow. Rules:
1. A reply is complete or not there: `Decoder.next` gives `NOTHING` until the last byte has come, wherever the
   input was cut.
2. An error reply is a value (a `RedisError`), at the top as well as inside an array.
3. After `BadReply` nothing more can be read from the decoder: where the next reply begins nobody knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import hiredis
from hiredis import PushNotification

from .errors import BadReply, RedisError

__all__ = ["NOTHING", "Arg", "Decoder", "PushNotification", "encode"]

Arg = str | bytes | int | float | memoryview
"""What a command may be given. Text is sent as UTF-8, numbers as their decimal text."""

NOTHING: Final = object()  # no complete reply: none of the values that a server can send
REPLY_BYTES_MAX: Final = 1 << 30  # Redis itself keeps values under 512 MiB
ELEMENTS_MAX: Final = 1 << 24  # room is made for all of them when the first byte comes

_pack = hiredis.pack_command
_aggregate = re.compile(rb"[*%~>|](\d+)\r\n")


def encode(*arguments: Arg) -> bytes:
    """A command as bytes. Raises `TypeError` for what is no argument (None, a bool, a list)."""
    try:
        return _pack(arguments)  # type: ignore[arg-type, no-any-return]  # a tuple of any length is meant
    except TypeError:
        wrong = next(part for part in arguments if type(part) is bool or not isinstance(part, Arg))
        raise TypeError(
            f"{wrong!r} is no Redis argument; give str, bytes, int or float, and unpack sequences with *"
        ) from None


class Decoder:
    """Bytes in, values out. `limit`: bytes that one reply may have."""

    __slots__ = ("_begun", "_feed", "_limit", "_reader", "next_unchecked")

    def __init__(self, limit: int = REPLY_BYTES_MAX) -> None:
        self._reader = hiredis.Reader(replyError=RedisError, notEnoughData=NOTHING)
        self._feed = self._reader.feed
        self._limit = limit
        self._begun = 0  # bytes of the reply that is not complete
        self.next_unchecked: Callable[[], Any] = self._reader.gets
        """As `next`, with hiredis's own exceptions: for loops that have their own `try` around."""

    def __repr__(self) -> str:
        return f"<Decoder {self._begun} bytes of a reply>"

    def feed(self, data: bytes | bytearray) -> None:
        """More input. Raises `BadReply` for a reply that is too large."""
        if self._reader.has_data():
            self._begun += len(data)
            if self._begun > self._limit:
                raise BadReply(f"a reply is larger than {self._limit} bytes")
        else:
            self._begun = 0
            found = _aggregate.match(data)
            if found is not None and int(found[1]) > ELEMENTS_MAX:
                raise BadReply(f"a reply has {int(found[1])} elements; {ELEMENTS_MAX} are allowed")
        self._feed(data if data.__class__ is bytes else bytes(data))

    def next(self) -> Any:
        """The next reply, `NOTHING` if it is not complete. Raises `BadReply`."""
        try:
            return self._reader.gets()
        except Exception as error:
            raise bad_reply(error) from error


def bad_reply(error: Exception) -> BadReply:
    """What a parser's exception means to a user."""
    return BadReply(f"this is not the Redis protocol: {error}")
