"""Records in the binary format of COPY (the statement's page, "Binary Format"). No I/O.

A record is a count and its values, each with its length in front: what a DataRow message holds. So records
that come out are read by the decoder that reads rows. A type of the server's own without a codec is refused;
of a type that somebody has added (an enum, say) a `str` is its label, and `bytes` are its binary form.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from protocols.postgres.errors import BadMessage, UnreadableValue
from protocols.postgres.messages import Column
from protocols.postgres.rows import compile_codecs
from protocols.postgres.types import CODECS, Codec
from protocols.postgres.types.scalars import encode_text

__all__ = [
    "HEADER",
    "TRAILER",
    "Gather",
    "compile_records",
    "gather_bytes",
    "record_decoder",
    "record_encoder",
    "records_in",
]

SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
HEADER: Final = SIGNATURE + bytes(8)  # no flags, no extension
TRAILER: Final = b"\xff\xff"
NULL: Final = b"\xff\xff\xff\xff"
ITEM_COST: Final = 16  # bytes that an item counts besides its own, lest many small ones hold up the loop
FIRST_ADDED: Final = 16384  # the OID from which types are not the server's own

Gather = Callable[[Iterator[Any], list[bytes], int], bool]
"""Appends to the parts until about so many bytes are there; whether the items have come to their end."""

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
            raise ValueError(f"{record!r:.80} is not a record of {count} values")
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

    return encode


def compile_records(columns: Sequence[Column]) -> Gather:
    """A function that takes records of these columns from an iterator until there are bytes enough: made from
    source, as the decoder of rows is, with one `struct` per stretch up to a column that varies. What does not
    fit that, such as a NULL where sizes are fixed, is `record_encoder`'s.
    """
    codecs = [codec_of(column) for column in columns]
    names: dict[str, Any] = {"slow": record_encoder(columns)}
    lines: list[str] = []
    pieces: list[str] = []
    form, values = "!h", [str(len(codecs))]

    def pack() -> None:
        nonlocal form, values
        name = f"pack{len(pieces)}"
        names[name] = struct.Struct(form).pack
        pieces.append(f"{name}({', '.join(values)})")
        form, values = "!", []

    for number, codec in enumerate(codecs):
        value, encode = f"v{number}", f"encode{number}"
        names[encode] = codec.encode
        if codec.code:
            form += "i" + (codec.code if codec.plain else f"{codec.size}s")
            values += [str(codec.size), value if codec.plain else f"{encode}({value})"]
            continue
        lines.append(f"if {value} is None: b{number} = b''; n{number} = -1")
        if codec.encode is encode_text:
            lines.append(f"elif {value}.__class__ is not str or zero in {value}: raise TypeError")
            lines.append(f"else: b{number} = {value}.encode(); n{number} = len(b{number})")
        else:
            lines.append(f"else: b{number} = {encode}({value}); n{number} = len(b{number})")
        form += "i"
        values.append(f"n{number}")
        pack()
        pieces.append(f"b{number}")
    if values:
        pack()
    targets = "".join(f"v{number}, " for number in range(len(codecs)))
    names["zero"] = "\0"
    source = "def gather(items, parts, room):\n    append = parts.append\n    for record in items:\n"
    source += "        try:\n            kind = record.__class__\n"
    source += "            if kind is not tuple and kind is not list: raise TypeError\n"
    source += f"            [{targets}] = record\n" + "".join(f"            {line}\n" for line in lines)
    whole = pieces[0] if len(pieces) == 1 else f"join(({', '.join(pieces)}))"
    source += f"            part = {whole}\n"
    source += "        except Exception:\n            part = slow(record)\n"
    source += f"        append(part)\n        room -= len(part) + {ITEM_COST}\n"
    source += "        if room <= 0: return False\n    return True\n"
    names["join"] = b"".join
    exec(source, names)
    gather: Gather = names["gather"]
    return gather


def gather_bytes(items: Iterator[Any], parts: list[bytes], room: int) -> bool:
    """The same, of data that is bytes as it is."""
    for item in items:
        part = bytes_of(item)
        parts.append(part)
        room -= len(part) + ITEM_COST
        if room <= 0:
            return False
    return True


def bytes_of(item: Any) -> bytes:
    """A piece of the data as it is."""
    if item.__class__ is bytes:
        return item
    if isinstance(item, bytearray | memoryview):
        return bytes(item)
    raise TypeError(f"a copy's data is bytes, not {item!r:.80}")


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
    decode = compile_codecs(tuple(map(codec_of, columns)))

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
