"""Which type is coded how: by OID, all in binary. What is not in the table is read as text; as a parameter
it is coded as what it is made of (a domain over one of these, an array of such), if the server says so, else
it is a `str`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from . import scalars
from .composed import Range, array, multirange_of, range_of
from .infinity import INFINITY, Infinity
from .scalars import Decode, Encode

__all__ = [
    "CODECS",
    "INFINITY",
    "LOOK_UP",
    "MADE_OF",
    "Codec",
    "Infinity",
    "Range",
    "codecs_of",
    "encode_unknown",
]


class Codec(msgspec.Struct, frozen=True):
    """How a type is written and read. `code`: the letter by which `struct` reads it, empty if its size
    varies; `size` in bytes then. `convert`: what to do with what `struct` has read, None for nothing.
    """

    name: str
    decode: Decode
    encode: Encode
    code: str = ""
    size: int = -1
    plain: bool = False  # `struct` alone does it, both ways
    as_text: bool = False  # not in binary


def _plain(name: str, code: str) -> Codec:
    decode, encode = scalars.number(code)
    return Codec(name, decode, encode, code, struct.calcsize("!" + code), True)


def _fixed(name: str, size: int, decode: Decode, encode: Encode) -> Codec:
    return Codec(name, decode, encode, f"{size}s", size)


TEXT: Final = (scalars.decode_text, scalars.encode_text)
INET: Final = (scalars.decode_inet, scalars.encode_inet)

_SCALARS: Final[Mapping[int, Codec]] = {
    16: Codec("boolean", scalars.number("?")[0], scalars.encode_bool, "?", 1),
    17: Codec("bytea", bytes, scalars.encode_bytes),
    19: Codec("name", *TEXT),
    20: _plain("bigint", "q"),
    21: _plain("smallint", "h"),
    23: _plain("integer", "i"),
    25: Codec("text", *TEXT),
    26: _plain("oid", "I"),
    114: Codec("json", scalars.decode_json, scalars.encode_json),
    650: Codec("cidr", *INET),
    700: _plain("real", "f"),
    701: _plain("double precision", "d"),
    705: Codec("unknown", *TEXT),
    869: Codec("inet", *INET),
    1042: Codec("character", *TEXT),
    1043: Codec("character varying", *TEXT),
    1082: _fixed("date", 4, scalars.decode_date, scalars.encode_date),
    1083: _fixed("time", 8, scalars.decode_time, scalars.encode_time),
    1114: _fixed("timestamp", 8, scalars.decode_timestamp, scalars.encode_timestamp),
    1184: _fixed("timestamptz", 8, scalars.decode_timestamptz, scalars.encode_timestamptz),
    1186: _fixed("interval", 16, scalars.decode_interval, scalars.encode_interval),
    1266: _fixed("timetz", 12, scalars.decode_timetz, scalars.encode_timetz),
    1700: Codec("numeric", scalars.decode_numeric, scalars.encode_numeric),
    2278: Codec("void", scalars.decode_void, scalars.encode_text),
    2950: _fixed("uuid", 16, scalars.decode_uuid, scalars.encode_uuid),
    3802: Codec("jsonb", scalars.decode_jsonb, scalars.encode_jsonb),
}

_RANGES: Final = {3904: 23, 3906: 1700, 3908: 1114, 3910: 1184, 3912: 1082, 3926: 20}

_MULTIRANGES: Final = {4451: 3904, 4532: 3906, 4533: 3908, 4534: 3910, 4535: 3912, 4536: 3926}

_ARRAYS: Final = {
    199: 114, 651: 650, 1000: 16, 1001: 17, 1003: 19, 1005: 21, 1007: 23, 1009: 25, 1014: 1042, 1015: 1043,
    1016: 20, 1021: 700, 1022: 701, 1028: 26, 1041: 869, 1115: 1114, 1182: 1082, 1183: 1083, 1185: 1184,
    1187: 1186, 1231: 1700, 1270: 1266, 2951: 2950, 3807: 3802, 3905: 3904, 3907: 3906, 3909: 3908,
    3911: 3910, 3913: 3912, 3927: 3926,
}  # fmt: skip


def _table() -> dict[int, Codec]:
    codecs = dict(_SCALARS)
    for oid, bound in _RANGES.items():
        codec = codecs[bound]
        codecs[oid] = Codec(f"range of {codec.name}", *range_of(codec.decode, codec.encode))
    for oid, bound in _MULTIRANGES.items():
        codec = codecs[bound]
        name = codec.name.removeprefix("range of ")
        codecs[oid] = Codec(f"multirange of {name}", *multirange_of(codec.decode, codec.encode))
    for oid, element in _ARRAYS.items():
        codec = codecs[element]
        codecs[oid] = Codec(f"{codec.name}[]", *array(element, codec.decode, codec.encode))
    return codecs


CODECS: Final = _table()


def encode_unknown(value: Any) -> bytes:
    """A parameter of a type that nobody here knows (an enum, `money`, an extension's …): its text."""
    if not isinstance(value, str):
        raise TypeError("write a str, as the server writes a value of this type")
    return scalars.encode_text(value)


def list_as_text(value: Any) -> bytes:
    """An array of such: a list of `str` and None, of lists for several dimensions; or its text."""
    if isinstance(value, str):
        return scalars.encode_text(value)
    if not isinstance(value, list | tuple):
        raise TypeError("write a list of str")
    return b"{" + b",".join(map(_item_as_text, value)) + b"}"


def _item_as_text(value: Any) -> bytes:
    if value is None:
        return b"NULL"
    if isinstance(value, list | tuple):
        return list_as_text(value)
    return b'"' + encode_unknown(value).replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


# -- types that somebody has added -------------------------------------------------------------------

LOOK_UP: Final = """with recursive asked as (
    select unnest($1::oid[]) as oid
    union
    select case when t.typtype = 'd' then t.typbasetype else t.typelem end
    from asked join pg_catalog.pg_type t on t.oid = asked.oid
    where t.typtype = 'd' or exists (
        select 1 from pg_catalog.pg_type e where e.oid = t.typelem and e.typarray = t.oid and e.typdelim = ','
    )
)
select t.oid, t.typname::text, t.typtype = 'd', case when t.typtype = 'd' then t.typbasetype else coalesce(
    (select e.oid from pg_catalog.pg_type e
     where e.oid = t.typelem and e.typarray = t.oid and e.typdelim = ','), 0) end
from asked join pg_catalog.pg_type t on t.oid = asked.oid"""
"""What types are made of: OID, name, whether a domain, and of what it or its elements are (0: of nothing)."""

MADE_OF: Final = (26, 25, 16, 26)
"""The types of its columns."""


def codecs_of(asked: Iterable[int], found: Iterable[tuple[int, str, bool, int]]) -> dict[int, Codec]:
    """Codecs of types by what `LOOK_UP` has found: a domain is coded as what it is a domain over, an array
    as its elements are. What leads to no codec of ours goes as text.
    """
    made = {oid: (name, domain, of) for oid, name, domain, of in found}

    def codec_of(oid: int) -> Codec:
        if oid in CODECS:
            return CODECS[oid]
        name, domain, of = made.get(oid, (f"of type {oid}", False, 0))
        if not of:
            return Codec(name, scalars.decode_text, encode_unknown, as_text=True)
        inner = codec_of(of)
        if domain:
            return Codec(name, inner.decode, inner.encode, as_text=inner.as_text)
        if inner.as_text:
            return Codec(name, scalars.decode_text, list_as_text, as_text=True)
        return Codec(name, *array(of, inner.decode, inner.encode))

    return {oid: codec_of(oid) for oid in asked}
