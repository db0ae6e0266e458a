"""The other direction of the protocol: what a client sends, read; what a server says, written
(PostgreSQL documentation, section 55.7). No I/O.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from protocols.postgres.errors import BadMessage, PostgresError
from protocols.postgres.messages import Column, message
from protocols.postgres.rows import BINARY
from protocols.postgres.types import CODECS

__all__ = [
    "Bound",
    "command_complete",
    "data_row",
    "error_response",
    "parameter_description",
    "read_bind",
    "read_parse",
    "read_startup",
    "read_text",
    "ready",
    "row_description",
]

STARTUP_MAX: Final = 10_000  # bytes, as the server's own limit

_short = struct.Struct("!h")
_int = struct.Struct("!i")


class Bound(NamedTuple):
    """A Bind message: the statement's name, its parameters' formats and bytes (None: NULL), and the formats
    that the result is to have."""

    name: bytes
    formats: tuple[int, ...]
    values: tuple[bytes | None, ...]
    results: tuple[int, ...]


def read_startup(data: bytes | bytearray) -> tuple[int, bytes, int] | None:
    """The first message, which has no kind: its code, its body, and where it ends; None if it is not
    complete. Raises `BadMessage`."""
    if len(data) < 8:
        return None
    length, code = struct.unpack_from("!ii", data)
    if not 8 <= length <= STARTUP_MAX:
        raise BadMessage(f"a start-up message of {length} bytes")
    return (code, bytes(data[8:length]), length) if len(data) >= length else None


def read_text(body: bytes, at: int = 0) -> tuple[bytes, int]:
    """A string that ends with NUL, and where it ends. Raises `BadMessage`."""
    end = body.find(0, at)
    if end < 0:
        raise BadMessage("a string that has no end")
    return body[at:end], end + 1


def read_parse(body: bytes) -> tuple[bytes, str]:
    """A Parse message: name and SQL. What types the client has in mind is its own business."""
    name, at = read_text(body)
    sql, _ = read_text(body, at)
    return name, sql.decode(errors="replace")


def read_bind(body: bytes) -> Bound:
    """A Bind message. Raises `BadMessage`."""
    _, at = read_text(body)
    name, at = read_text(body, at)
    try:
        formats, at = _shorts(body, at)
        (count,) = _short.unpack_from(body, at)
        at += 2
        values: list[bytes | None] = []
        for _ in range(count):
            (length,) = _int.unpack_from(body, at)
            at += 4
            values.append(None if length < 0 else body[at : at + length])
            at += max(length, 0)
        results, at = _shorts(body, at)
    except struct.error as error:
        raise BadMessage(f"a Bind message that cannot be read: {error}") from None
    if at != len(body):
        raise BadMessage("a Bind message with something behind it")
    return Bound(name, formats, tuple(values), results)


def _shorts(body: bytes, at: int) -> tuple[tuple[int, ...], int]:
    (count,) = _short.unpack_from(body, at)
    return struct.unpack_from(f"!{count}h", body, at + 2), at + 2 + 2 * count


# -- what a server says --------------------------------------------------------------------------------------


def error_response(error: PostgresError, kind: bytes = b"E") -> bytes:
    """ErrorResponse, or with `kind` N a notice."""
    fields = b"".join(f"{name}{value}\0".encode() for name, value in error.fields.items())
    return message(kind, fields + b"\0")


def parameter_description(types: Sequence[int]) -> bytes:
    """ParameterDescription."""
    return message(b"t", struct.pack(f"!h{len(types)}I", len(types), *types))


def row_description(columns: Sequence[Column], formats: Sequence[int] = ()) -> bytes:
    """RowDescription; NoData for a statement without rows."""
    if not columns:
        return message(b"n")
    parts = [
        column.name.encode() + b"\0" + struct.pack("!ihIhih", 0, 0, column.type, -1, -1, BINARY)
        for column in columns
    ]
    return message(b"T", _short.pack(len(columns)) + b"".join(parts))


def data_row(columns: Sequence[Column], row: Sequence[Any]) -> bytes:
    """DataRow, in binary."""
    parts = [_short.pack(len(row))]
    for column, value in zip(columns, row, strict=True):
        data = None if value is None else CODECS[column.type].encode(value)
        parts.append(b"\xff\xff\xff\xff" if data is None else _int.pack(len(data)) + data)
    return message(b"D", b"".join(parts))


def command_complete(tag: bytes) -> bytes:
    """CommandComplete."""
    return message(b"C", tag + b"\0")


def ready(status: bytes) -> bytes:
    """ReadyForQuery: I idle, T in a transaction, E in one that has failed."""
    return message(b"Z", status)
