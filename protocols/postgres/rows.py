"""Rows: how the DataRow messages of one statement become tuples, compiled once per list of types. No I/O.

`compile_rows` makes a function `(data, at, size, rows) -> at`: it reads whole DataRow messages from `data`
as long as one follows another, appends a tuple per row, and gives back where it stopped. Three ways, the
faster first:

1. A run of rows whose columns all have fixed sizes and no NULL is regular: `struct.iter_unpack` reads it at
   once. A run is told by the first byte of each row and the last byte of each length, which a NULL changes.
2. A row without NULL: one `struct` per stretch of fixed columns, up to the length of the next column that
   varies. The function is made from source, for there is no other way to have no loop over the columns in
   it.
3. Anything else, column by column. What is not a row at all raises `BadMessage` here.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from .errors import BadMessage, UnreadableValue
from .messages import Column
from .types import CODECS, Codec
from .types.scalars import EPOCHS, MICROSECOND, Decode, decode_text

__all__ = ["BINARY", "TEXT", "RowDecoder", "compile_codecs", "compile_rows", "formats_of", "skip_rows"]

RowDecoder = Callable[[bytes, int, int, list[Any]], int]

TEXT: Final = 0
BINARY: Final = 1
DATA_ROW: Final = 68
RUN_MIN: Final = 8  # rows: fewer are not worth looking for a run
RUN_MAX: Final = 1024
DECODERS_MAX: Final = 512  # of different columns
IRREGULAR: Final = 64  # rows that are read one by one after a run has ended, before the next is looked for

AS_TEXT: Final = Codec("text", decode_text, str.encode)

_int = struct.Struct("!i")


def formats_of(columns: Sequence[Column]) -> tuple[int, ...]:
    """In which format to ask for each column: binary where there is a codec, else text."""
    return tuple(BINARY if column.type in CODECS else TEXT for column in columns)


def compile_rows(columns: Sequence[Column], formats: Sequence[int]) -> RowDecoder:
    """The decoder of rows with these columns, sent in these formats. Raises `UnreadableValue` for a column in
    binary whose type is not known.
    """
    return compile_codecs(tuple(map(codec_of, columns, formats)))


@functools.lru_cache(DECODERS_MAX)
def compile_codecs(codecs: tuple[Codec, ...]) -> RowDecoder:
    """The decoder of rows whose columns are coded so. All connections share it."""
    one_by_one = compile_slow([codec.decode for codec in codecs])
    if not codecs:
        return one_by_one
    single = compile_single(codecs, one_by_one)
    if all(codec.code for codec in codecs):
        return compile_runs(codecs, single)
    return single


def codec_of(column: Column, form: int) -> Codec:
    """How one column is read."""
    if form == TEXT:
        return AS_TEXT
    codec = CODECS.get(column.type)
    if codec is None:
        raise UnreadableValue(
            f"column {column.name} has changed to type {column.type}, which is not known: cast it"
        )
    return codec


def row_end(data: bytes, at: int, size: int) -> int:
    """Where the row at `at` ends; 0 if it is not complete. Raises `BadMessage`."""
    if size - at < 7:
        return 0
    length = int.from_bytes(data[at + 1 : at + 5])
    if not 6 <= length < 1 << 30:
        raise BadMessage(f"a row of {length} bytes")
    end = at + 1 + length
    return end if end <= size else 0


def skip_rows(data: bytes, at: int, size: int, rows: list[Any]) -> int:
    """For rows that nobody wants."""
    while at < size and data[at] == DATA_ROW:
        end = row_end(data, at, size)
        if not end:
            break
        at = end
    return at


def compile_slow(decoders: Sequence[Decode]) -> RowDecoder:
    """Column by column, NULLs and all."""
    count = len(decoders)

    def decode(data: bytes, at: int, size: int, rows: list[Any]) -> int:
        while at < size and data[at] == DATA_ROW:
            end = row_end(data, at, size)
            if not end:
                break
            if int.from_bytes(data[at + 5 : at + 7]) != count:
                raise BadMessage(f"a row that has not the {count} columns that were described")
            place = at + 7
            row: list[Any] = []
            for decoder in decoders:
                if place + 4 > end:
                    raise BadMessage("a row that ends too early")
                (length,) = _int.unpack_from(data, place)
                place += 4
                if length < 0:
                    row.append(None)
                    continue
                if place + length > end:
                    raise BadMessage("a value that is longer than its row")
                row.append(decoder(data[place : place + length]))
                place += length
            if place != end:
                raise BadMessage("a row with something behind its last column")
            rows.append(tuple(row))
            at = end
        return at

    return decode


def compile_single(codecs: Sequence[Codec], slow: RowDecoder) -> RowDecoder:
    """Row by row: fixed columns together, up to the next one that varies."""
    names: dict[str, Any] = {"slow": slow, "struct_error": struct.error}
    lines: list[str] = []
    checks = [f"k == {len(codecs)}"]
    targets = ["n", "k"]
    form = "!xih"
    reads = 0
    at = "at"

    def read() -> None:
        nonlocal form, targets, reads, at
        reader = struct.Struct(form)
        names[f"read{reads}"] = reader.unpack_from
        lines.append(f"{', '.join(targets)}, = read{reads}(data, {at})")
        if not reads:
            lines.append("end = at + 1 + n")
            lines.append("if end > size: return at")
        if checks:
            lines.append(f"if not ({' and '.join(checks)}): raise struct_error")
        lines.append(f"p = {at} + {reader.size}")
        at = "p"
        form, targets = "!", []
        checks.clear()
        reads += 1

    for number, codec in enumerate(codecs):
        form += "i"
        targets.append(f"l{number}")
        if codec.code:
            form += "q" if codec.decode in EPOCHS else codec.code
            targets.append(f"v{number}")
            checks.append(f"l{number} == {codec.size}")
            continue
        checks.append(f"l{number} >= 0")
        read()
        lines.append(f"q = p + l{number}")
        value = "data[p:q]"
        lines.append(
            f"v{number} = {value}.decode()" if codec.decode is decode_text else f"v{number} = {value}"
        )
        lines.append("p = q")
    if targets:
        read()
    values = []
    for number, codec in enumerate(codecs):
        if codec.plain or codec.code == "?" or codec.decode in (decode_text, bytes):
            values.append(f"v{number}")
        elif codec.decode in EPOCHS:  # as it does, written out for what has an end
            names |= {f"epoch{number}": EPOCHS[codec.decode], "microsecond": MICROSECOND}
            values.append(f"epoch{number} + v{number} * microsecond")
        else:
            names[f"convert{number}"] = codec.decode
            values.append(f"convert{number}(v{number})")
    lines += ["if p != end: raise struct_error", f"append(({', '.join(values)},))", "at = end"]
    source = "def decode(data, at, size, rows):\n    append = rows.append\n"
    source += "    while at < size and data[at] == 68:\n        try:\n"
    source += "".join(f"            {line}\n" for line in lines)
    # a NULL, or an incomplete row, or none at all; or a moment that is infinite, or out of reach
    source += "        except (struct_error, OverflowError):\n"
    source += "            before = at\n            at = one(data, at, size, rows, slow)\n"
    source += "            if at == before: return at\n    return at\n"
    names["one"] = one_row
    exec(source, names)
    decoder: RowDecoder = names["decode"]
    return decoder


def one_row(data: bytes, at: int, size: int, rows: list[Any], slow: RowDecoder) -> int:
    """The slow way, for this row alone."""
    return slow(data, at, row_end(data, at, size), rows)


def compile_runs(codecs: Sequence[Codec], single: RowDecoder) -> RowDecoder:
    """Runs of regular rows at once, the rest row by row."""
    form = struct.Struct("!7x" + "".join(f"4x{codec.code}" for codec in codecs))
    row = form.size
    unpack = form.iter_unpack
    expected = [(0, b"D"), (4, bytes(((row - 1) & 0xFF,)))]
    expected.append((6, bytes((len(codecs) & 0xFF,))))
    place = 7
    for codec in codecs:
        expected.append((place + 3, bytes((codec.size,))))
        place += 4 + codec.size
    converts = [
        (number, codec.decode)
        for number, codec in enumerate(codecs)
        if not (codec.plain or codec.code == "?")
    ]

    def decode(data: bytes, at: int, size: int, rows: list[Any]) -> int:
        while size - at >= RUN_MIN * row:
            count = min((size - at) // row, RUN_MAX)
            run = data[at : at + count * row]
            for offset, byte in expected:
                bytes_there = run[offset::row]
                regular = len(bytes_there) - len(bytes_there.lstrip(byte))
                if regular < count:
                    count = regular
            if count:
                values = unpack(run[: count * row])
                if converts:
                    turned: list[Any] = list(zip(*values, strict=True))
                    for number, convert in converts:
                        turned[number] = map(convert, turned[number])
                    values = zip(*turned, strict=True)
                rows += values
                at += count * row
            if at >= size or data[at] != DATA_ROW:
                return at
            before = at
            at = single(data, at, min(size, at + IRREGULAR * row), rows)
            if at == before:
                break
        return single(data, at, size, rows)

    return decode
