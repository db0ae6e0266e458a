"""Messages of protocol 3.0 as bytes and values (PostgreSQL documentation, section 55.7). No I/O.

A message is one byte that names its kind, four bytes of length that count themselves, and a body. The parsers
take whole bodies; cutting them out of a stream is `next_message`, which says None until one is complete.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from .errors import BadMessage, PostgresError

__all__ = [
    "COPY_DONE",
    "DESCRIBE_PORTAL",
    "DESCRIBE_SIZE_MAX",
    "EXECUTE",
    "FLUSH",
    "SSL_REQUEST",
    "SYNC",
    "TERMINATE",
    "Column",
    "cancel_request",
    "check_status",
    "close_statement",
    "copy_data",
    "copy_fail",
    "describe",
    "message",
    "next_message",
    "parse",
    "read_columns",
    "read_error",
    "read_notification",
    "read_parameters",
    "read_status",
    "rows_of",
    "simple_query",
    "startup",
]

PROTOCOL: Final = 196608  # 3.0
DESCRIBE_SIZE_MAX: Final = 1 << 20  # bytes: 1,664 columns is the server's own limit

REASON_MAX: Final = 400  # characters

_header = struct.Struct("!ci")
_column = struct.Struct("!ihihih")
_count = struct.Struct("!h")


def message(kind: bytes, body: bytes = b"") -> bytes:
    """One message."""
    return _header.pack(kind, len(body) + 4) + body


SYNC: Final = message(b"S")
FLUSH: Final = message(b"H")
DESCRIBE_PORTAL: Final = message(b"D", b"P\0")  # the unnamed one
EXECUTE: Final = message(b"E", b"\0\0\0\0\0")  # of the unnamed portal, all rows
TERMINATE: Final = message(b"X")
COPY_DONE: Final = message(b"c")
SSL_REQUEST: Final = struct.pack("!ii", 8, 80877103)


def text(value: str) -> bytes:
    """A string as it stands in a message. Raises `ValueError` for one that holds a NUL."""
    if "\0" in value:
        raise ValueError(f"{value[:40]!r} holds a NUL character, which PostgreSQL's text cannot")
    return value.encode() + b"\0"


def startup(parameters: Mapping[str, str]) -> bytes:
    """StartupMessage."""
    body = struct.pack("!i", PROTOCOL)
    body += b"".join(text(name) + text(value) for name, value in parameters.items()) + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def cancel_request(process: int, secret: int) -> bytes:
    """CancelRequest, for a connection of its own."""
    return struct.pack("!iiiI", 16, 80877102, process, secret)


def parse(name: bytes, sql: str, types: Iterable[int] = ()) -> bytes:
    """Parse: a statement of this name; types that are 0 or not given are the server's to find."""
    types = tuple(types)
    body = name + b"\0" + text(sql) + struct.pack(f"!H{len(types)}I", len(types), *types)
    return message(b"P", body)


def describe(name: bytes) -> bytes:
    """Describe a statement."""
    return message(b"D", b"S" + name + b"\0")


def close_statement(name: bytes) -> bytes:
    """Close a statement."""
    return message(b"C", b"S" + name + b"\0")


def simple_query(sql: str) -> bytes:
    """Query: one statement without parameters, with a Sync of its own."""
    return message(b"Q", text(sql))


def copy_data(data: bytes) -> bytes:
    """CopyData: a part of what is copied."""
    return message(b"d", data)


def copy_fail(reason: str) -> bytes:
    """CopyFail: there will be no more, and what came is to be forgotten."""
    return message(b"f", text(reason.replace("\0", "")[:REASON_MAX]))


def next_message(data: bytes, start: int, size_max: int) -> tuple[int, int] | None:
    """Kind and end of the message at `start`, None if it is not complete. Raises `BadMessage`."""
    if len(data) < start + 5:
        return None
    length = int.from_bytes(data[start + 1 : start + 5])
    if not 4 <= length <= size_max:
        raise BadMessage(
            f"a message {bytes(data[start : start + 1])!r} of {length} bytes (at most {size_max}); is this a "
            "PostgreSQL server?"
        )
    end = start + 1 + length
    return (data[start], end) if end <= len(data) else None


class Column(NamedTuple):
    """One column of a result: its name and the OID of its type."""

    name: str
    type: int


def read_columns(body: bytes) -> tuple[Column, ...]:
    """RowDescription. Raises `BadMessage`."""
    columns = []
    try:
        (count,) = _count.unpack_from(body)
        at = 2
        for _ in range(count):
            end = body.index(0, at)
            name = body[at:end].decode()
            _, _, oid, _, _, _ = _column.unpack_from(body, end + 1)
            columns.append(Column(name, oid & 0xFFFFFFFF))
            at = end + 1 + _column.size
    except (struct.error, ValueError) as error:
        raise BadMessage(f"a description of columns that cannot be read: {error}") from None
    if at != len(body):
        raise BadMessage("a description of columns with something behind it")
    return tuple(columns)


def read_parameters(body: bytes) -> tuple[int, ...]:
    """ParameterDescription: the OIDs of a statement's parameters. Raises `BadMessage`."""
    if len(body) < 2 or (len(body) - 2) % 4:
        raise BadMessage("a description of parameters that cannot be read")
    types = struct.unpack(f"!{(len(body) - 2) // 4}I", body[2:])
    if len(types) & 0xFFFF != int.from_bytes(body[:2]):  # a server counts more than it can say
        raise BadMessage("a description of parameters that miscounts them")
    return types


def read_error(body: bytes) -> PostgresError:
    """ErrorResponse or NoticeResponse: fields by their letters. Raises `BadMessage`."""
    if not body.endswith(b"\0"):
        raise BadMessage("an error that has no end")
    fields = {
        field[:1].decode("ascii", "replace"): field[1:].decode(errors="replace")
        for field in body.split(b"\0")
        if field
    }
    return PostgresError(fields)


def read_status(body: bytes) -> tuple[str, str]:
    """ParameterStatus: a setting and its value. Raises `BadMessage`."""
    parts = body.split(b"\0")
    if len(parts) != 3 or parts[2]:
        raise BadMessage("a setting that cannot be read")
    return parts[0].decode(errors="replace"), parts[1].decode(errors="replace")


def check_status(body: bytes) -> None:
    """ParameterStatus, of which one setting matters here. Raises `BadMessage` if text is no longer UTF-8."""
    name, value = read_status(body)
    if name == "client_encoding" and value.upper() not in ("UTF8", "UNICODE"):
        raise BadMessage(
            f"the session's client_encoding was set to {value}; text is UTF-8 here, which the server turns "
            "into what its database has: leave client_encoding as it is"
        )


def read_notification(body: bytes) -> tuple[str, str, int]:
    """NotificationResponse: channel, payload, and the process that has notified. Raises `BadMessage`."""
    parts = body[4:].split(b"\0")
    if len(parts) != 3 or parts[2]:
        raise BadMessage("a notification that cannot be read")
    try:
        return parts[0].decode(), parts[1].decode(), int.from_bytes(body[:4])
    except UnicodeDecodeError:
        raise BadMessage("a notification that is not UTF-8") from None


def rows_of(tag: bytes) -> int:
    """How many rows a command's tag counts: `INSERT 0 3` is 3; 0 for one that counts none."""
    last = tag.rpartition(b" ")[2]
    return int(last) if last.isdigit() and len(last) < 20 else 0
