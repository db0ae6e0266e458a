"""Arrays, ranges and multiranges: types made of others, in binary (`array_send`, `range_send`,
`multirange_send`). No I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import prod
from typing import Any, Final, Generic, TypeVar

import msgspec

from protocols.postgres.errors import UnreadableValue

from .scalars import Decode, Encode

__all__ = ["Range", "array", "multirange_of", "range_of"]

T = TypeVar("T")

DIMENSIONS_MAX: Final = 6  # the server's own limit
EMPTY: Final = 0x01
LOWER_INCLUDED: Final = 0x02
UPPER_INCLUDED: Final = 0x04
LOWER_INFINITE: Final = 0x08
UPPER_INFINITE: Final = 0x10

_head = struct.Struct("!iiI")
_pair = struct.Struct("!ii")
_int = struct.Struct("!i")
NULL: Final = b"\xff\xff\xff\xff"


class Range(msgspec.Struct, Generic[T], frozen=True):
    """A range. A bound of None is infinite; `lower_included` and `upper_included` say whether a bound
    belongs to it.
    """

    lower: T | None = None
    upper: T | None = None
    lower_included: bool = True
    upper_included: bool = False
    empty: bool = False

    def __str__(self) -> str:
        if self.empty:
            return "empty"
        lower = "" if self.lower is None else self.lower
        upper = "" if self.upper is None else self.upper
        return f"{'(['[self.lower_included]}{lower},{upper}{')]'[self.upper_included]}"


def array(element: int, decode_element: Decode, encode_element: Encode) -> tuple[Decode, Encode]:
    """The codec of arrays of this element: lists, of lists if it has several dimensions."""

    def decode(data: bytes) -> Any:
        try:
            dimensions, _, _ = _head.unpack_from(data)
            if not 0 <= dimensions <= DIMENSIONS_MAX:
                raise UnreadableValue(f"an array of {dimensions} dimensions")
            sizes = [_pair.unpack_from(data, 12 + 8 * number)[0] for number in range(dimensions)]
            if not dimensions:
                return []
            if min(sizes) < 1 or prod(sizes) > len(data) // 4:
                raise UnreadableValue("an array that miscounts its elements")
            return nested(sizes, elements(data, 12 + 8 * dimensions))
        except struct.error:
            raise UnreadableValue("an array that is cut short") from None

    def elements(data: bytes, at: int) -> Iterator[Any]:
        while True:
            (length,) = _int.unpack_from(data, at)
            at += 4
            if length < 0:
                yield None
            else:
                yield decode_element(data[at : at + length])
                at += length

    def encode(value: Any) -> bytes:
        if not isinstance(value, list | tuple):
            raise TypeError("write a list")
        sizes, flat = flattened(value)
        parts = [_head.pack(len(sizes), int(None in flat), element)]
        parts += [_pair.pack(size, 1) for size in sizes]
        for item in flat:
            if item is None:
                parts.append(NULL)
            else:
                encoded = encode_element(item)
                parts += (_int.pack(len(encoded)), encoded)
        return b"".join(parts)

    return decode, encode


def nested(sizes: list[int], items: Iterator[Any]) -> list[Any]:
    """The next items, as lists of these sizes."""
    if len(sizes) == 1:
        return [next(items) for _ in range(sizes[0])]
    return [nested(sizes[1:], items) for _ in range(sizes[0])]


def flattened(value: list[Any] | tuple[Any, ...]) -> tuple[list[int], list[Any]]:
    """Sizes of the dimensions, and all items in order. Raises `ValueError` if it is no rectangle."""
    sizes: list[int] = []
    flat: list[Any] = list(value)
    if not flat:
        return sizes, flat
    sizes.append(len(flat))
    while isinstance(flat[0], list | tuple):
        size = len(flat[0])
        if len(sizes) == DIMENSIONS_MAX:
            raise ValueError(f"an array has at most {DIMENSIONS_MAX} dimensions")
        if not all(isinstance(part, list | tuple) and len(part) == size for part in flat):
            raise ValueError("an array's rows are equally long")
        flat = [item for part in flat for item in part]
        if not flat:
            return [], flat
        sizes.append(size)
    return sizes, flat


def range_of(decode_bound: Decode, encode_bound: Encode) -> tuple[Decode, Encode]:
    """The codec of ranges of this type."""

    def decode(data: bytes) -> Range[Any]:
        if not data:
            raise UnreadableValue("a range of no bytes")
        flags = data[0]
        if flags & EMPTY:
            return Range(empty=True, lower_included=False)
        bounds: list[Any] = []
        at = 1
        for infinite in (LOWER_INFINITE, UPPER_INFINITE):
            if flags & infinite:
                bounds.append(None)
                continue
            length = int.from_bytes(data[at : at + 4])
            bounds.append(decode_bound(data[at + 4 : at + 4 + length]))
            at += 4 + length
        return Range(bounds[0], bounds[1], bool(flags & LOWER_INCLUDED), bool(flags & UPPER_INCLUDED))

    def encode(value: Any) -> bytes:
        if not isinstance(value, Range):
            raise TypeError("write a postgres.Range")
        if value.empty:
            return bytes((EMPTY,))
        flags = 0
        parts = []
        for bound, included, infinite in (
            (value.lower, LOWER_INCLUDED * value.lower_included, LOWER_INFINITE),
            (value.upper, UPPER_INCLUDED * value.upper_included, UPPER_INFINITE),
        ):
            if bound is None:
                flags |= infinite
            else:
                flags |= included
                encoded = encode_bound(bound)
                parts += [_int.pack(len(encoded)), encoded]
        return b"".join((bytes((flags,)), *parts))

    return decode, encode


def multirange_of(decode_range: Decode, encode_range: Encode) -> tuple[Decode, Encode]:
    """The codec of multiranges of this kind of range: lists of `Range`."""

    def decode(data: bytes) -> list[Range[Any]]:
        try:
            (count,) = _int.unpack_from(data)
            at = 4
            ranges = []
            for _ in range(count):
                (length,) = _int.unpack_from(data, at)
                ranges.append(decode_range(data[at + 4 : at + 4 + length]))
                at += 4 + length
        except struct.error:
            raise UnreadableValue("a multirange that is cut short") from None
        return ranges

    def encode(value: Any) -> bytes:
        if not isinstance(value, list | tuple):
            raise TypeError("write a list of postgres.Range")
        parts = [_int.pack(len(value))]
        for item in value:
            encoded = encode_range(item)
            parts += (_int.pack(len(encoded)), encoded)
        return b"".join(parts)

    return decode, encode
