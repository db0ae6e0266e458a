"""Binary forms of scalar types (PostgreSQL's `*_send` and `*_recv` functions). No I/O.

A decoder takes the bytes of one value that is not NULL; an encoder takes one Python value and gives its
bytes, or raises `TypeError`, `ValueError`, `OverflowError` or `struct.error` for one that does not fit.
Dates and timestamps that are infinite are `INFINITY` and `-INFINITY`, both ways; intervals count a month as
30 days and a year as 365, as psycopg and asyncpg do.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import math
import struct
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Final

import msgspec

from protocols.postgres.errors import UnreadableValue

from .infinity import INFINITY, Infinity

__all__ = [
    "EPOCHS",
    "MICROSECOND",
    "Decode",
    "Encode",
    "decode_date",
    "decode_inet",
    "decode_interval",
    "decode_json",
    "decode_jsonb",
    "decode_numeric",
    "decode_text",
    "decode_time",
    "decode_timestamp",
    "decode_timestamptz",
    "decode_timetz",
    "decode_uuid",
    "decode_void",
    "encode_bool",
    "encode_bytes",
    "encode_date",
    "encode_inet",
    "encode_interval",
    "encode_json",
    "encode_jsonb",
    "encode_numeric",
    "encode_text",
    "encode_time",
    "encode_timestamp",
    "encode_timestamptz",
    "encode_timetz",
    "encode_uuid",
    "number",
]

Decode = Callable[[bytes], Any]
Encode = Callable[[Any], bytes]

UTC: Final = datetime.UTC
EPOCH: Final = datetime.datetime(2000, 1, 1)
EPOCH_UTC: Final = datetime.datetime(2000, 1, 1, tzinfo=UTC)
EPOCH_DAY: Final = datetime.date(2000, 1, 1).toordinal()
DAY: Final = 86_400_000_000  # microseconds
MICROSECOND: Final = datetime.timedelta(microseconds=1)
INFINITY_64: Final = (1 << 63) - 1
INFINITY_32: Final = (1 << 31) - 1
FAMILY_4: Final = 2
FAMILY_6: Final = 3
NUMERIC_NAN: Final = 0xC000
NUMERIC_INFINITY: Final = 0xD000
NUMERIC_MINUS_INFINITY: Final = 0xF000
DIGITS_MAX: Final = 131072  # before the point; 16,383 after it: the server's own limits

_long = struct.Struct("!q")
_int = struct.Struct("!i")
_interval = struct.Struct("!qii")
_timetz = struct.Struct("!qi")
_numeric = struct.Struct("!HhHH")


def number(code: str) -> tuple[Decode, Encode]:
    """A type that `struct` knows by this letter."""
    form = struct.Struct("!" + code)
    unpack = form.unpack

    def decode(data: bytes) -> Any:
        return unpack(data)[0]

    return decode, form.pack


def encode_bool(value: Any) -> bytes:
    """A bool, and nothing that is merely true."""
    if value is True:
        return b"\1"
    if value is False:
        return b"\0"
    raise TypeError("write True or False")


def decode_text(data: bytes) -> str:
    """Text, which is UTF-8 on every connection of ours."""
    return str(data, "utf-8")


def encode_text(value: Any) -> bytes:
    """A `str`."""
    if not isinstance(value, str):
        raise TypeError("write a str")
    if "\0" in value:
        raise ValueError("PostgreSQL's text cannot hold a NUL character")
    return value.encode()


def encode_bytes(value: Any) -> bytes:
    """Anything bytes-like."""
    if isinstance(value, str | int):
        raise TypeError("write bytes")
    return bytes(value)


def decode_void(data: bytes) -> None:
    """What a function returns that returns nothing."""


def decode_json(data: bytes) -> Any:
    """What msgspec makes of it. The server's `json` may hold halves of a surrogate pair, which msgspec does
    not read: they are in the `str` as they are.
    """
    try:
        return msgspec.json.decode(data)
    except msgspec.ValidationError:  # a number out of range
        raise
    except msgspec.DecodeError as error:
        try:
            return json.loads(data)
        except ValueError:
            raise error from None


def encode_json(value: Any) -> bytes:
    """Anything that msgspec encodes, but no NaN and no infinity, which it would make null."""
    data = msgspec.json.encode(value)
    if b"null" in data and any(map(is_no_number, leaves(msgspec.to_builtins(value)))):
        raise ValueError("JSON has no NaN and no infinity; write None, or a str")
    return data


def is_no_number(value: Any) -> bool:
    """NaN, or infinite."""
    return isinstance(value, float) and not math.isfinite(value)


def leaves(value: Any) -> Iterator[Any]:
    """Everything in lists and dicts, however deep."""
    found = [value]
    while found:
        value = found.pop()
        if isinstance(value, dict):
            found += value.values()
        elif isinstance(value, list | tuple):
            found += value
        else:
            yield value


def decode_jsonb(data: bytes) -> Any:
    """Version 1: the text of it."""
    if data[:1] != b"\1":
        raise UnreadableValue(f"jsonb of an unknown version {data[:1]!r}; cast it to json")
    return decode_json(data[1:])


def encode_jsonb(value: Any) -> bytes:
    """Anything that msgspec encodes."""
    return b"\1" + encode_json(value)


def decode_uuid(data: bytes) -> uuid.UUID:
    """16 bytes."""
    return uuid.UUID(bytes=data)


def encode_uuid(value: Any) -> bytes:
    """A UUID, or the text of one."""
    return (value if isinstance(value, uuid.UUID) else uuid.UUID(value)).bytes


# -- dates and times ------------------------------------------------------------------------------


def decode_date(data: bytes) -> datetime.date | Infinity:
    """Days since 2000."""
    (days,) = _int.unpack(data)
    try:
        return datetime.date.fromordinal(days + EPOCH_DAY)
    except (ValueError, OverflowError):
        if days == INFINITY_32:
            return INFINITY
        if days == -INFINITY_32 - 1:
            return -INFINITY
        raise unreadable("date", days, "days") from None


def encode_date(value: Any) -> bytes:
    """A `date`."""
    if isinstance(value, Infinity):
        return _int.pack(value.of(INFINITY_32))
    if isinstance(value, datetime.datetime) or not isinstance(value, datetime.date):
        raise TypeError("write a datetime.date")
    return _int.pack(value.toordinal() - EPOCH_DAY)


def moment(epoch: datetime.datetime) -> Callable[[bytes], datetime.datetime | Infinity]:
    """Microseconds since 2000."""

    def decode(data: bytes) -> datetime.datetime | Infinity:
        count: int = _long.unpack(data)[0]
        try:
            return epoch + count * MICROSECOND
        except OverflowError:
            if count == INFINITY_64:
                return INFINITY
            if count == -INFINITY_64 - 1:
                return -INFINITY
            raise unreadable("timestamp", count, "microseconds") from None

    return decode


decode_timestamp = moment(EPOCH)
decode_timestamptz = moment(EPOCH_UTC)
EPOCHS: Final[dict[Decode, datetime.datetime]] = {decode_timestamp: EPOCH, decode_timestamptz: EPOCH_UTC}
"""From when on these two count."""


def unreadable(kind: str, count: int, unit: str) -> UnreadableValue:
    """A time that is out of Python's reach."""
    return UnreadableValue(f"a {kind} {count} {unit} from 2000, which Python cannot hold: cast it to text")


def micros(span: datetime.timedelta) -> int:
    """A timedelta in whole microseconds."""
    return span.days * DAY + span.seconds * 1_000_000 + span.microseconds


def encode_timestamp(value: Any) -> bytes:
    """A `datetime` without a zone."""
    if isinstance(value, Infinity):
        return _long.pack(value.of(INFINITY_64))
    if not isinstance(value, datetime.datetime) or value.tzinfo is not None:
        raise TypeError("write a datetime.datetime without tzinfo (timestamptz takes one with)")
    return _long.pack(micros(value - EPOCH))


def encode_timestamptz(value: Any) -> bytes:
    """A `datetime` with a zone."""
    if isinstance(value, Infinity):
        return _long.pack(value.of(INFINITY_64))
    if not isinstance(value, datetime.datetime) or value.tzinfo is None:
        raise TypeError("write a datetime.datetime with tzinfo: without one, the moment is not defined")
    return _long.pack(micros(value - EPOCH_UTC))


def decode_time(data: bytes) -> datetime.time:
    """Microseconds since midnight; 24:00 is `time.max`, there being nothing closer."""
    (count,) = _long.unpack(data)
    if not 0 <= count < DAY:
        if count == DAY:
            return datetime.time.max
        raise UnreadableValue(f"a time of {count} microseconds, which Python cannot hold: cast it to text")
    seconds, micro = divmod(count, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return datetime.time(hour, minute, second, micro)


def encode_time(value: Any) -> bytes:
    """A `time` without a zone."""
    if not isinstance(value, datetime.time) or value.tzinfo is not None:
        raise TypeError("write a datetime.time without tzinfo")
    return _long.pack(since_midnight(value))


def since_midnight(value: datetime.time) -> int:
    """In microseconds."""
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond


def decode_timetz(data: bytes) -> datetime.time:
    """The same, and seconds west of UTC."""
    _, west = _timetz.unpack(data)
    try:
        zone = datetime.timezone(datetime.timedelta(seconds=-west))
    except ValueError:
        raise UnreadableValue(f"a time zone {west} seconds west of UTC: cast it to text") from None
    return decode_time(data[:8]).replace(tzinfo=zone)


def encode_timetz(value: Any) -> bytes:
    """A `time` with a zone of fixed offset."""
    offset = value.utcoffset() if isinstance(value, datetime.time) else None
    if offset is None:
        raise TypeError("write a datetime.time with a tzinfo of fixed offset")
    return _timetz.pack(since_midnight(value), -int(offset.total_seconds()))


def decode_interval(data: bytes) -> datetime.timedelta:
    """Microseconds, days, months."""
    micro, days, months = _interval.unpack(data)
    years, months = (
        divmod(months, 12) if months >= 0 else (-(-months // 12), -(-months % 12))
    )  # towards zero, as the server does
    try:
        return datetime.timedelta(days=days + months * 30 + years * 365, microseconds=micro)
    except OverflowError:
        raise UnreadableValue("an interval that Python cannot hold: cast it to text") from None


def encode_interval(value: Any) -> bytes:
    """A `timedelta`."""
    if not isinstance(value, datetime.timedelta):
        raise TypeError("write a datetime.timedelta")
    return _interval.pack(value.seconds * 1_000_000 + value.microseconds, value.days, 0)


# -- numeric --------------------------------------------------------------------------------------

SPECIAL: Final = {
    NUMERIC_NAN: Decimal("NaN"),
    NUMERIC_INFINITY: Decimal("Infinity"),
    NUMERIC_MINUS_INFINITY: Decimal("-Infinity"),
}


def decode_numeric(data: bytes) -> Decimal:
    """Digits to the base of 10,000, the weight of the first, a sign, and how many decimals to show."""
    count, weight, sign, scale = _numeric.unpack_from(data)
    if sign in SPECIAL:
        return SPECIAL[sign]
    if len(data) != 8 + 2 * count or sign not in (0, 0x4000):
        raise UnreadableValue("a numeric that miscounts its digits")
    groups = struct.unpack_from(f"!{count}H", data, 8)
    if count > LARGE or weight > LARGE or scale > 4 * LARGE:
        return long_numeric(groups, 4 * (count - 1 - weight), "-" if sign else "", scale)
    whole = 0
    for group in groups:
        whole = whole * 10000 + group
    # `whole` has 4 * (count - 1 - weight) decimals; show as many as `scale` says
    decimals = 4 * (count - 1 - weight)
    if decimals > scale:
        whole //= 10 ** (decimals - scale)
    else:
        whole *= 10 ** (scale - decimals)
    return Decimal((1 if sign else 0, tuple(map(int, str(whole))), -scale))


LARGE: Final = 64  # groups: more are read as text, which takes no time that grows with the square


def long_numeric(groups: tuple[int, ...], decimals: int, sign: str, scale: int) -> Decimal:
    """Groups of four digits, of which so many are `decimals`."""
    text = "".join([f"{group:04d}" for group in groups])
    if decimals > scale:
        text = text[: scale - decimals]
    else:
        text += "0" * (scale - decimals)
    return Decimal(f"{sign}{text or 0}E-{scale}")


def encode_numeric(value: Any) -> bytes:
    """A Decimal, an int, or a float by its shortest digits."""
    if isinstance(value, bool) or not isinstance(value, Decimal | int | float):
        raise TypeError("write a Decimal, an int or a float")
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    sign, digits, exponent = number.as_tuple()
    if isinstance(exponent, str):
        flag = NUMERIC_NAN if exponent in "nN" else NUMERIC_MINUS_INFINITY if sign else NUMERIC_INFINITY
        return _numeric.pack(0, 0, flag, 0)
    if exponent < -16383 or len(digits) + exponent > DIGITS_MAX:
        raise ValueError("a numeric has at most 131,072 digits before the point and 16,383 after it")
    scale = max(0, -exponent)
    text = "".join(map(str, digits)) + "0" * max(0, exponent)
    text += "0" * (-scale % 4)  # the last group is whole
    text = text.zfill(-(-len(text) // 4) * 4)
    groups = [int(text[at : at + 4]) for at in range(0, len(text), 4)]
    weight = len(groups) - 1 - (scale + 3) // 4
    while groups and not groups[0]:
        del groups[0]
        weight -= 1
    while groups and not groups[-1]:
        del groups[-1]
    if not groups:
        weight = 0
    flag = 0x4000 if sign and groups else 0
    return _numeric.pack(len(groups), weight, flag, scale) + struct.pack(f"!{len(groups)}H", *groups)


# -- inet -----------------------------------------------------------------------------------------


def decode_inet(data: bytes) -> Any:
    """inet: an address, or an interface if it has a mask; cidr: a network."""
    if len(data) < 4 or len(data) != 4 + data[3]:
        raise UnreadableValue("an inet that miscounts its bytes")
    bits, is_network, packed = data[1], data[2], data[4:]
    try:
        address = ipaddress.ip_address(packed)
        if is_network:
            return ipaddress.ip_network((packed, bits))
        return address if bits == address.max_prefixlen else ipaddress.ip_interface((packed, bits))
    except ValueError as error:
        raise UnreadableValue(f"not a valid inet value: {error}") from None


def encode_inet(value: Any) -> bytes:
    """An address, interface or network of `ipaddress`, or the text of one."""
    if isinstance(value, str):
        value = ipaddress.ip_interface(value)
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        packed, bits, is_network = value.network_address.packed, value.prefixlen, 1
    elif isinstance(value, ipaddress.IPv4Interface | ipaddress.IPv6Interface):
        packed, bits, is_network = value.packed, value.network.prefixlen, 0
    elif isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
        packed, bits, is_network = value.packed, value.max_prefixlen, 0
    else:
        raise TypeError("write an address of the ipaddress module, or a str")
    family = FAMILY_4 if len(packed) == 4 else FAMILY_6
    return bytes((family, bits, is_network, len(packed))) + packed
