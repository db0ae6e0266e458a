"""Records in the binary format of COPY (the statement's page, "Binary Format"). No I/O.

A record is a count and its values, each with its length in front: what a DataRow message holds. So records
that come out are read by the decoder that reads rows. A type of the server's own without a codec is refused;
of a type that somebody has added (an enum, say) a `str` is its label, and `bytes` are its binary form.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from .errors import BadMessage, UnreadableValue
from .messages import Column
from .rows import compile_codecs
from .types import CODECS, Codec
from .types.scalars import encode_text

__all__ = ["HEADER", "TRAILER", "record_decoder", "record_encoder", "records_in"]

SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
HEADER: Final = SIGNATURE + bytes(8)  # no flags, no extension
TRAILER: Final = b"\xff\xff"
NULL: Final = b"\xff\xff\xff\xff"
FIRST_ADDED: Final = 16384  # the OID from which types are not the server's own

_length = struct.Struct("!i").pack


def encode_added(value: Any) -> bytes:
    """A value of a type that somebody has added."""
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else encode_text(value)


def decode_added(data: bytes) -> str:
    """The same, read: text, if it is text."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UnreadableValue("a value whose binary form is not known here: cast it to text")
    return text


ADDED: Final = Codec("of an added type", decode_added, encode_added)


def codec_of(column: Column) -> Codec:
    """How a column is coded. Raises `UnreadableValue` if nobody here knows."""
    codec = CODECS.get(column.type)
    if codec is not None:
        return codec
    if column.type >= FIRST_ADDED:
        return ADDED
    raise UnreadableValue(
        f"column {column.name} has type {column.type}, whose binary form is not known here: copy it as text"
    )


def record_encoder(columns: Sequence[Column]) -> Callable[[Any], bytes]:
    """Encodes one record of these columns. It raises `ValueError` for one that does not fit."""
    codecs = [codec_of(column) for column in columns]
    count = len(codecs)
    head = struct.pack("!h", count)

    def encode(record: Any) -> bytes:
        if isinstance(record, str | bytes) or len(record) != count:
            raise ValueError(f"{record!r:.80} is no record of {count} values")
        parts = [head]
        for column, codec, value in zip(columns, codecs, record, strict=True):
            if value is None:
                parts.append(NULL)
                continue
            try:
                encoded = codec.encode(value)
            except Exception as error:
                raise ValueError(
                    f"column {column.name} is {codec.name}; {value!r:.80} does not fit: {error}"
                ) from error
            parts.append(_length(len(encoded)))
            parts.append(encoded)
        return b"".join(parts)

    if not count or not all(codec.plain for codec in codecs):
        return encode
    pack = struct.Struct("!h" + "".join(f"i{codec.code}" for codec in codecs)).pack
    sizes = [codec.size for codec in codecs]

    def encode_plain(record: Any) -> bytes:
        try:
            return pack(count, *[part for pair in zip(sizes, record, strict=True) for part in pair])
        except (struct.error, ValueError, TypeError):
            return encode(record)  # a None, or what it can say more about

    return encode_plain


def records_in(body: bytes, first: bool) -> bytes:
    """What of a CopyData message is a record: the first may begin with the format's header, the last is its
    trailer. Raises `BadMessage`.
    """
    if first:
        start = len(SIGNATURE)
        if not body.startswith(SIGNATURE) or len(body) < start + 8 or body[start : start + 4] != bytes(4):
            raise BadMessage("a copy in a binary format that is not known here")
        body = body[start + 8 + int.from_bytes(body[start + 4 : start + 8]) :]
    return b"" if body == TRAILER else body


def record_decoder(columns: Sequence[Column]) -> Callable[[bytes], list[tuple[Any, ...]]]:
    """Decodes records that stand as DataRow messages, one behind the other. It raises `UnreadableValue`."""
    decode = compile_codecs([codec_of(column) for column in columns])

    def decode_all(data: bytes) -> list[tuple[Any, ...]]:
        records: list[tuple[Any, ...]] = []
        try:
            end = decode(data, 0, len(data), records)
        except (BadMessage, UnreadableValue):
            raise
        except Exception as error:
            raise UnreadableValue(f"a value that cannot be read: {error}") from error
        if end != len(data):
            raise BadMessage("records that are cut short")
        return records

    return decode_all
