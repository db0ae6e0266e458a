"""Kafka's scalar types as bytes and back (protocol guide, "Protocol Primitive Types"; KIP-482 for the compact
ones). No I/O.

A reader takes `(data, at)` and gives `(value, where it ended)`; a writer appends to a `bytearray`. What is
cut short raises `IndexError`, `struct.error` or `BadMessage`, which `schema.decode` makes one of.
"""

from __future__ import annotations

import struct
from typing import Final

from protocols.kafka.errors import BadMessage

__all__ = [
    "read_bytes",
    "read_compact_bytes",
    "read_compact_string",
    "read_string",
    "read_varint",
    "skip_tags",
    "write_bytes",
    "write_compact_bytes",
    "write_compact_string",
    "write_string",
    "write_varint",
    "varint",
    "zigzag",
]

VARINT_BYTES_MAX: Final = 10
SHORT: Final = tuple(bytes((number,)) for number in range(128))  # varints of one byte

_int16 = struct.Struct(">h")
_int32 = struct.Struct(">i")


def varint(number: int) -> bytes:
    """An unsigned varint: seven bits per byte, the lowest first."""
    if number < 128:
        return SHORT[number]
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number: int) -> bytes:
    """A signed varint, as records have them: 0, -1, 1, -2, … are 0, 1, 2, 3, …"""
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def write_varint(out: bytearray, number: int) -> None:
    """Append an unsigned varint."""
    out += varint(number)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned varint."""
    number = shift = 0
    while shift < 7 * VARINT_BYTES_MAX:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
    raise BadMessage(f"a varint of more than {VARINT_BYTES_MAX} bytes")


def skip_tags(data: bytes, at: int) -> int:
    """Where a section of tagged fields ends; what is in it is of no use here."""
    count, at = read_varint(data, at)
    for _ in range(count):
        _, at = read_varint(data, at)
        size, at = read_varint(data, at)
        at += size
        if at > len(data):
            raise BadMessage("a tagged field that is longer than its message")
    return at


def _cut(data: bytes, at: int, size: int) -> tuple[bytes | None, int]:
    if size < 0:
        return None, at
    end = at + size
    if end > len(data):
        raise BadMessage(f"a value of {size} bytes in a message that has {len(data) - at} left")
    return data[at:end], end


def read_bytes(data: bytes, at: int) -> tuple[bytes | None, int]:
    """BYTES: a size of four bytes, -1 for null."""
    return _cut(data, at + 4, _int32.unpack_from(data, at)[0])


def read_compact_bytes(data: bytes, at: int) -> tuple[bytes | None, int]:
    """COMPACT_BYTES: a varint of the size and one, 0 for null."""
    size, at = read_varint(data, at)
    return _cut(data, at, size - 1)


def read_string(data: bytes, at: int) -> tuple[str | None, int]:
    """STRING: a size of two bytes, -1 for null."""
    value, at = _cut(data, at + 2, _int16.unpack_from(data, at)[0])
    return None if value is None else value.decode(), at


def read_compact_string(data: bytes, at: int) -> tuple[str | None, int]:
    """COMPACT_STRING: a varint of the size and one, 0 for null."""
    value, at = read_compact_bytes(data, at)
    return None if value is None else value.decode(), at


def write_bytes(out: bytearray, value: bytes | bytearray | None) -> None:
    """BYTES."""
    if value is None:
        out += b"\xff\xff\xff\xff"
    else:
        out += _int32.pack(len(value))
        out += value


def write_compact_bytes(out: bytearray, value: bytes | bytearray | None) -> None:
    """COMPACT_BYTES."""
    if value is None:
        out.append(0)
    else:
        out += varint(len(value) + 1)
        out += value


def write_string(out: bytearray, value: str | None) -> None:
    """STRING."""
    if value is None:
        out += b"\xff\xff"
    else:
        raw = value.encode()
        out += _int16.pack(len(raw))
        out += raw


def write_compact_string(out: bytearray, value: str | None) -> None:
    """COMPACT_STRING."""
    write_compact_bytes(out, None if value is None else value.encode())
