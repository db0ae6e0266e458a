"""RESP2 and RESP3, both ways: commands to bytes, bytes to values
(https://redis.io/docs/latest/develop/reference/protocol-spec/).

`hiredis` does both. Around it stands what a connection needs besides: limits, and one kind of error for all
that the protocol does not allow. Rules:
1. A reply is complete or not there: `Decoder.next` gives `NOTHING` until the last byte has come, wherever the
   input was cut.
2. An error reply is a value (a `RedisError`), at the top as well as inside an array.
3. A reply that is too large is `BadReply` before there is room made for it. Where later replies of an input
   begin is seen only when those before them were taken, so a spot that could be the head of such a reply is
   held back until then (`more`). Inside of a reply nothing is held against it: it may be text.
4. Attributes, which RESP3 allows in front of a reply, are `BadReply`: hiredis would take one for the reply
   itself, and the reply for the next one's. No server sends them, but to DEBUG PROTOCOL.
5. After `BadReply` nothing more can be read from the decoder: where the next reply begins nobody knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import hiredis
from hiredis import PushNotification

from .errors import BadReply, RedisError

__all__ = ["NOTHING", "Arg", "Name", "Decoder", "PushNotification", "encode"]

Arg = str | bytes | int | float | memoryview
"""What a command may be given. Text is sent as UTF-8, numbers as their decimal text."""

Name = TypeVar("Name", str, bytes)
"""What the fields of a mapping are called: all text, or all bytes."""

NOTHING: Final = object()  # no complete reply: none of the values that a server can send
REPLY_BYTES_MAX: Final = 1 << 30  # Redis itself keeps values under 512 MiB
ELEMENTS_MAX: Final = 1 << 24  # room is made for all of them when the first byte comes

_pack = hiredis.pack_command
INT_BITS_MAX: Final = 4096  # of a number as an argument: Python refuses to write much longer ones as text

_head = re.compile(rb"(?:[*~>](\d{8,})|\|\d{1,20}\r\n)")
_later_head = re.compile(rb"\n(?:[*~>](\d{8,})|\|\d{1,20}\r\n)")  # every reply before it ends with a line
_unfinished = re.compile(rb"(?:\A|\n)([*~>|]\d{0,20}\r?)\Z")
ATTRIBUTE: Final = ord("|")
HEAD_BYTES_MAX: Final = 23  # of which `_unfinished` has not seen the end


def encode(*arguments: Arg) -> bytes:
    """A command as bytes. Raises `TypeError` for what is no argument (None, a bool, a list), `ValueError`
    for a number of more than a thousand digits.
    """
    for part in arguments:
        if part.__class__ is int and part.bit_length() > INT_BITS_MAX:
            raise ValueError(f"a number of {part.bit_length()} bits; {INT_BITS_MAX} are allowed")
    try:
        return _pack(arguments)  # type: ignore[arg-type, no-any-return]  # a tuple of any length is meant
    except TypeError:
        wrong = next(part for part in arguments if type(part) is bool or not isinstance(part, Arg))
        raise TypeError(
            f"{wrong!r} is no Redis argument; give str, bytes, int or float, and unpack sequences with *"
        ) from None


class Decoder:
    """Bytes in, values out. `limit`: bytes that one reply may have; what has come with the end of another one
    is not counted.
    """

    __slots__ = ("_feed", "_held", "_limit", "_place", "_reader", "begun", "next_unchecked", "rest")

    def __init__(self, limit: int = REPLY_BYTES_MAX) -> None:
        self._reader = hiredis.Reader(replyError=RedisError, notEnoughData=NOTHING)
        self._feed = self._reader.feed
        self._limit = limit
        self._held = b""  # the end of the input, which may be half of a head
        self._place = 0  # in `rest`
        self.begun = 0
        """Bytes of the reply that is not complete. Who uses `next_unchecked` sets it to 0 after a value."""
        self.rest = b""
        """Input that is held back: call `more` after `NOTHING`."""
        self.next_unchecked: Callable[[], Any] = self._reader.gets
        """As `next`, with hiredis's own exceptions and without `more`: for loops that see to that."""

    def __repr__(self) -> str:
        return f"<Decoder {self.begun} bytes of a reply>"

    def feed(self, data: bytes | bytearray) -> None:
        """More input. Raises `BadReply` for a reply that is too large."""
        if self._reader.has_data():
            self.begun += len(data)
            if self.begun > self._limit:
                raise BadReply(f"a reply is larger than {self._limit} bytes")
        else:
            self.begun = len(data)
        if data.__class__ is not bytes:
            data = bytes(data)
        if self._held or self.rest:
            data = self.rest[self._place :] + self._held + data
            self._held = self.rest = b""
        if data[-1:] != b"\n":
            unfinished = _unfinished.search(data, max(0, len(data) - HEAD_BYTES_MAX))
            if unfinished is not None:
                place = unfinished.start(1)
                data, self._held = data[:place], data[place:]
        if b"*" in data or b">" in data or b"~" in data or b"|" in data:
            place = suspect(data, 0)
            if place < len(data):
                self._hold_back(data, place)
                return
        self._feed(data)

    def _hold_back(self, data: bytes, place: int) -> None:
        if place:
            self._feed(data[:place])
        self.rest = data
        self._place = place
        if not place and not self._reader.has_data():
            self.more()

    def more(self) -> bool:
        """All replies before the spot were taken: go on there. False if there is none. Raises `BadReply`."""
        data, begin = self.rest, self._place
        if not data:
            return False
        if not self._reader.has_data():
            if data[begin] == ATTRIBUTE:
                raise BadReply("a reply has attributes, which are not known here")
            raise BadReply(
                f"a reply has {data[begin + 1 : begin + 12]!r} elements or so; {ELEMENTS_MAX} are allowed"
            )
        self._place = end = suspect(data, begin + 1)
        if end == len(data):
            self.rest = b""
        self._feed(data[begin:end])
        return True

    def next(self) -> Any:
        """The next reply, `NOTHING` if it is not complete. Raises `BadReply`."""
        while True:
            try:
                value = self._reader.gets()
            except Exception as error:
                raise bad_reply(error) from error
            if value is not NOTHING:
                self.begun = 0
                return value
            if not self.more():
                return NOTHING


def suspect(data: bytes, begin: int) -> int:
    """The first spot from there on that looks like the head of a reply of too many elements, or of
    attributes; else the end.
    """
    found = _head.match(data) if begin == 0 else None
    if found is not None and is_refused(found):
        return 0
    heads = _later_head.finditer(data, begin)
    return next((head.start() + 1 for head in heads if is_refused(head)), len(data))


def is_refused(head: re.Match[bytes]) -> bool:
    """Whether no reply may begin like that."""
    return head[1] is None or int(head[1][:20]) > ELEMENTS_MAX


def bad_reply(error: Exception) -> BadReply:
    """What a parser's exception means to a user."""
    return BadReply(f"this is not the Redis protocol: {error} (is it a Redis server?)")
