"""RESP2 and RESP3, both ways: commands to bytes, bytes to values
(https://redis.io/docs/latest/develop/reference/protocol-spec/).

`hiredis` does both. Around it stands what a connection needs besides: limits, and one kind of error for all
that the protocol does not allow. Rules:
1. A reply is complete or not there: `Decoder.next` gives `NOTHING` until the last byte has come, wherever the
   input was cut.
2. An error reply is a value (a `RedisError`), at the top as well as inside an array.
3. A reply that is too large is `BadReply` before there is room made for it. Heads of such replies are looked
   for in the input before the parser gets it, and only where an element begins: `_walk` goes from one
   beginning to the next, over the contents of texts without looking into them. That is done only where
   something looks like such a head, and then it costs a step for each element, however long that is.
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

_head = re.compile(rb"[*~>]\d{8}|\|\d")
_later_head = re.compile(rb"\n(?:[*~>]\d{8}|\|\d)")  # every element before it ends with a line
LENGTHS: Final = b"$=!"  # what is followed by so many bytes
COUNTS: Final = b"*~>"  # what is followed by so many elements, for which room is made
BEHIND_MAX: Final = 1 << 20  # bytes that are kept to be walked over later, if need be
LINE_MAX: Final = 64  # bytes of a line that are enough to know what it says
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
            f"{wrong!r} is not a Redis argument; give str, bytes, int or float, and unpack sequences with *"
        ) from None


class Decoder:
    """Bytes in, values out. `limit`: bytes that one reply may have; what has come with the end of another one
    is not counted.
    """

    __slots__ = (
        "_behind",
        "_behind_bytes",
        "_feed",
        "_has_data",
        "_held",
        "_last",
        "_limit",
        "_line",
        "_line_ended",
        "_place",
        "_reader",
        "_skip",
        "begun",
        "next_unchecked",
        "rest",
    )

    def __init__(self, limit: int = REPLY_BYTES_MAX) -> None:
        self._reader = hiredis.Reader(replyError=RedisError, notEnoughData=NOTHING)
        self._feed = self._reader.feed
        self._has_data = self._reader.has_data  # False where an element ends, and behind the byte of its type
        self._limit = limit
        self._held = b""  # the end of the input, which may be half of a head
        self._place = 0  # in `rest`
        self._skip = 0  # bytes of a text that are still to come, behind what was walked over
        self._line = b""  # the beginning of a line that was not complete there
        self._behind: list[bytes] = []  # what the parser got after that
        self._behind_bytes = 0
        self._last = b""  # what it got last
        self._line_ended = True  # it ended with a line
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
        if self.begun:
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
        if self._has_data() or not self._line_ended:
            if self._keep_up(data):
                return
        elif self._skip or self._line or self._behind:
            self._begin()
        self._last = data
        if data:
            self._line_ended = data[-1:] == b"\n"
        if (b"*" in data or b">" in data or b"~" in data or b"|" in data) and suspicious(data):
            self._catch_up()
            place = self._walk(data)
            self._last = b""
            if place >= 0:
                self._hold_back(data, place)
                return
        self._feed(data)

    def _keep_up(self, data: bytes) -> bool:
        """The input goes on in the middle of an element: remember, or walk over, what came before. Whether
        this is the middle of a text.
        """
        if self._last:
            self._behind.append(self._last)
            self._behind_bytes += len(self._last)
            self._last = b""
            if self._behind_bytes > BEHIND_MAX:
                self._catch_up()
        if self._behind or self._skip < len(data):
            return False
        self._skip -= len(data)
        self._line_ended = not self._skip
        self._feed(data)
        return True

    def _begin(self) -> None:
        """An element begins with the next input."""
        self._skip = self._behind_bytes = 0
        self._line = b""
        self._behind.clear()

    def _catch_up(self) -> None:
        """Walk over what the parser got meanwhile, in which there is no head to be refused."""
        for data in self._behind:
            self._walk(data)
        self._behind.clear()
        self._behind_bytes = 0

    def _walk(self, data: bytes) -> int:
        """From element to element, to the end of it. Returns where one begins as no reply may; -1 for
        nowhere.
        """
        before = len(self._line)
        if before:
            data = self._line + data
            self._line = b""
        at, size, self._skip = self._skip, len(data), 0
        while at < size:
            kind = data[at]
            end = data.find(b"\r\n", at)
            if end < 0:
                line = data[at:]
                self._line = line if len(line) <= LINE_MAX else line[:LINE_MAX] + line[-1:]
                return -1
            if kind == ATTRIBUTE or (kind in COUNTS and count_of(data[at + 1 : end]) > ELEMENTS_MAX):
                return at - before
            begin, at = at, end + 2
            if kind in LENGTHS:
                length = count_of(data[begin + 1 : end])
                if length >= 0:
                    at += length + 2
        self._skip = at - size
        return -1

    def _hold_back(self, data: bytes, place: int) -> None:
        if place:
            self._feed(data[:place])
        self.rest = data
        self._place = place
        if not place and not self._has_data():
            self.more()

    def more(self) -> None:
        """Call it after `NOTHING`. Raises `BadReply` for what is held back: all before it was taken."""
        if self.rest:
            data, begin = self.rest, self._place
            if data[begin] == ATTRIBUTE:
                raise BadReply("a reply has attributes, which are not known here")
            raise BadReply(
                f"a reply has {data[begin + 1 : begin + 12]!r} elements or so; {ELEMENTS_MAX} are allowed"
            )
        if self._line_ended and not self._has_data():
            self._last = b""

    def next(self) -> Any:
        """The next reply, `NOTHING` if it is not complete. Raises `BadReply`."""
        try:
            value = self._reader.gets()
        except Exception as error:
            raise bad_reply(error) from error
        if value is NOTHING:
            self.more()
        else:
            self.begun = 0
        return value


def suspicious(data: bytes) -> bool:
    """Whether there is something that could be the head of a reply of too many elements, or of attributes."""
    return _head.match(data) is not None or _later_head.search(data) is not None


def count_of(digits: bytes) -> int:
    """A length, or a count; -1 for none, and for what is no number: the parser will say what is wrong."""
    return int(digits) if digits.isdigit() and len(digits) <= 20 else -1


def bad_reply(error: Exception) -> BadReply:
    """What a parser's exception means to a user."""
    return BadReply(f"this is not the Redis protocol: {error} (is it a Redis server?)")
