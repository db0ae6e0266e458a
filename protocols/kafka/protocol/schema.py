"""Requests and responses as classes whose annotations are the wire format, compiled once per version. No I/O.

    class Topic(Message):                                    # a part of others
        name: Str
        partitions: list[Int32]

    class ListResponse(Message):
        throttle_ms: Int32
        error: Int16
        topics: list[Topic]
        leader_epoch: Annotated[Int32, since(9, otherwise=-1)]  # absent before: read as -1

    class ListRequest(Request[ListResponse]):
        api = Api(2, "ListOffsets", oldest=4, newest=9, flexible=6, response=ListResponse)
        replica: Int32
        rack: Annotated[Str | None, since(7, until=8)] = None   # null allowed; not in the newest

    frame = encode(ListRequest(-1), version=9, correlation=1, client="me")    # with its size in front
    answer = decode(ListRequest, 9, body)                    # body: what follows the correlation id

Rules:
1. Fields stand in the class in the order of the wire. The types are the names below (`Int32`, `Str`, …),
   other messages, `list[…]` of these, and `… | None` where null is allowed. A field that the version has
   not is read as `otherwise`, or 0, None or an empty list; it is not sent, whatever it holds.
2. From the version `flexible` on, strings, bytes and arrays are compact and every structure ends with tagged
   fields (KIP-482). None are sent, and those that come are skipped.
3. What is no such message (cut short, null where there is none) raises `BadMessage`. A count or a size beyond
   what has come is refused before anything is made of it. What stands behind the end is left out, as Java's
   client does: there are brokers that end an answer twice.
4. `oldest` to `newest` is what this client speaks; `version_for` picks the newest that the broker does too.
5. A broker's side is the same the other way round: `decode_request` and `encode_answer`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, ClassVar, Final, Generic, NamedTuple, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as hints_of

import msgspec

from protocols.kafka.errors import BadMessage, BrokerTooOld

from . import primitives

__all__ = [
    "Api",
    "Asked",
    "Bool",
    "Bytes",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "Message",
    "Request",
    "Str",
    "Uuid",
    "decode",
    "decode_request",
    "encode",
    "encode_answer",
    "since",
    "version_for",
]

R = TypeVar("R", bound="Message")

Reader = Callable[[bytes, int], tuple[Any, int]]
Writer = Callable[[bytearray, Any], None]

NEVER: Final = 1 << 15


class Fixed(NamedTuple):
    """A type of fixed size: its code in `struct`."""

    code: str


class Varying(NamedTuple):
    """A type that carries its size: how it is read and written, and how where it is compact."""

    read: Reader
    write: Writer
    read_compact: Reader
    write_compact: Writer


class since(NamedTuple):  # noqa: N801 - reads as a word: `Annotated[Int32, since(9)]`
    """In which versions a field is there: from the first, up to and with `until`. What it is otherwise."""

    first: int
    until: int = NEVER
    otherwise: Any = None


Bool = Annotated[bool, Fixed("?")]
Int8 = Annotated[int, Fixed("b")]
Int16 = Annotated[int, Fixed("h")]
Int32 = Annotated[int, Fixed("i")]
Int64 = Annotated[int, Fixed("q")]
Uuid = Annotated[bytes, Fixed("16s")]
Str = Annotated[
    str,
    Varying(
        primitives.read_string,
        primitives.write_string,
        primitives.read_compact_string,
        primitives.write_compact_string,
    ),
]
Bytes = Annotated[
    bytes,
    Varying(
        primitives.read_bytes,
        primitives.write_bytes,
        primitives.read_compact_bytes,
        primitives.write_compact_bytes,
    ),
]


class Message(msgspec.Struct, gc=False):
    """Derive from it: a structure of the protocol."""


class Api(NamedTuple):
    """One request of the protocol: its key and name, the versions that are spoken here, the first flexible
    one, and what answers it.
    """

    key: int
    name: str
    oldest: int
    newest: int
    flexible: int
    response: type[Message]
    plain_header: bool = False  # its answer's header is never flexible: ApiVersions alone


class Request(Message, Generic[R], gc=False):
    """Derive from it: a message that is answered with an `R`."""

    api: ClassVar[Api]

    @property
    def newest(self) -> int:
        """The newest version in which it can be said: that of its kind, unless it lacks what that needs."""
        return self.api.newest


class Asked(NamedTuple):
    """A request as a broker sees it. `request` is None where its version is not spoken here."""

    kind: type[Request[Any]]
    version: int
    correlation: int
    client: str | None
    request: Request[Any] | None


def version_for(api: Api, offered: Mapping[int, tuple[int, int]], broker: object, newest: int = NEVER) -> int:
    """The newest version that both sides speak, and in which this request can be said (`newest`); `offered`
    is what the broker says of itself. Raises `BrokerTooOld`.
    """
    lowest, highest = offered.get(api.key, (0, -1))
    version = min(highest, api.newest, newest)
    if version < max(lowest, api.oldest):
        has = f"only versions {lowest} to {highest}" if highest >= 0 else "none"
        raise BrokerTooOld(
            f"{broker} speaks {has} of {api.name}, and {api.oldest} to {api.newest} are supported here; use "
            "a broker of Kafka 2.1 or newer"
        )
    return version


def encode(request: Request[Any], version: int, correlation: int, client: str | None) -> bytes:
    """The request as it is sent, its size in front."""
    api = request.api
    out = bytearray(4)
    out += HEADER.pack(api.key, version, correlation)
    primitives.write_string(out, client)
    flexible = version >= api.flexible
    if flexible:
        out.append(0)
    writer(type(request), version, flexible)(out, request)
    SIZE.pack_into(out, 0, len(out) - 4)
    return bytes(out)


def decode(request: type[Request[R]], version: int, data: bytes) -> R:
    """The answer to a request: `data` is what follows the correlation id. Raises `BadMessage`."""
    api = request.api
    flexible = version >= api.flexible
    try:
        at = primitives.skip_tags(data, 0) if flexible and not api.plain_header else 0
        answer: R = reader(api.response, version, flexible)(data, at)[0]
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise BadMessage(
            f"an answer to {api.name} (version {version}) that cannot be read: {error}"
        ) from error
    return answer


def decode_request(known: Mapping[int, type[Request[Any]]], data: bytes) -> Asked:
    """A request: `data` is what follows its size, `known` the requests by their keys. Raises `BadMessage`."""
    try:
        key, version, correlation = HEADER.unpack_from(data)
        kind = known.get(key)
        if kind is None:
            raise BadMessage(f"a request of key {key}, which is not known here")
        client, at = primitives.read_string(data, HEADER.size)
        if not kind.api.oldest <= version <= kind.api.newest:
            return Asked(kind, version, correlation, client, None)
        flexible = version >= kind.api.flexible
        at = primitives.skip_tags(data, at) if flexible else at
        request = reader(kind, version, flexible)(data, at)[0]
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise BadMessage(f"a request that cannot be read: {error}") from error
    return Asked(kind, version, correlation, client, request)


def encode_answer(request: type[Request[R]], version: int, correlation: int, answer: R) -> bytes:
    """The answer to such a request as it is sent, its size in front."""
    api = request.api
    flexible = version >= api.flexible
    out = bytearray(SIZE.pack(0) + SIZE.pack(correlation))
    if flexible and not api.plain_header:
        out.append(0)
    writer(type(answer), version, flexible)(out, answer)
    SIZE.pack_into(out, 0, len(out) - 4)
    return bytes(out)


HEADER: Final = struct.Struct(">hhi")
SIZE: Final = struct.Struct(">i")


# -- compiling ---------------------------------------------------------------------------------------------


class Field(NamedTuple):
    """One field as its annotation says."""

    name: str
    kind: Any  # Fixed, Varying, a message, or ("list", of what Field)
    nullable: bool
    versions: since

    @property
    def absent(self) -> Any:
        """What it is read as in a version that has not got it."""
        if self.versions.otherwise is not None or self.nullable:
            return self.versions.otherwise
        return [] if isinstance(self.kind, tuple) else 0


ALWAYS: Final = since(0)


@cache
def fields_of(message: type[Message]) -> tuple[Field, ...]:
    """The fields of a message, in the order of the wire."""
    hints = hints_of(message, include_extras=True)
    return tuple(_field(name, hints[name]) for name in message.__struct_fields__)


def _field(name: str, hint: Any) -> Field:
    versions, nullable, kind = ALWAYS, False, None
    while True:
        origin = get_origin(hint)
        if origin is Annotated:
            hint, *extras = get_args(hint)
            for extra in extras:
                if isinstance(extra, since):
                    versions = extra
                else:
                    kind = extra
        elif origin is Union or origin is UnionType:
            (hint,) = (part for part in get_args(hint) if part is not type(None))
            nullable = True
        elif origin is list:
            return Field(name, ("list", _field(name, get_args(hint)[0])), nullable, versions)
        else:
            return Field(name, kind or hint, nullable, versions)


def _present(field: Field, version: int) -> bool:
    return field.versions.first <= version <= field.versions.until


@cache
def reader(message: type[Message], version: int, flexible: bool) -> Reader:
    """A function `(data, at) -> (message, end)`, made from source: there is no loop over the fields in it."""
    names: dict[str, Any] = {"make": message, "missing": _missing, "skip_tags": primitives.skip_tags}
    lines: list[str] = []
    run: list[Field] = []

    def finish_run() -> None:
        if run:
            form = struct.Struct(">" + "".join(field.kind.code for field in run))
            names[f"unpack_{run[0].name}"] = form.unpack_from
            lines.append(f"{', '.join(f'f_{field.name}' for field in run)}, = unpack_{run[0].name}(data, at)")
            lines.append(f"at += {form.size}")
            run.clear()

    for field in fields_of(message):
        if not _present(field, version):
            lines.append(f"f_{field.name} = {field.absent!r}")
        elif isinstance(field.kind, Fixed):
            run.append(field)
        else:
            finish_run()
            names[f"read_{field.name}"] = _reader_of(field, version, flexible)
            lines.append(f"f_{field.name}, at = read_{field.name}(data, at)")
            if not field.nullable:
                full_name = f"{message.__name__}.{field.name}"
                lines.append(f"if f_{field.name} is None: raise missing({full_name!r})")
    finish_run()
    if flexible:
        lines.append("at = at + 1 if data[at] == 0 else skip_tags(data, at)")
    lines.append(f"return make({', '.join(f'f_{name}' for name in message.__struct_fields__)}), at")
    made: Reader = _made("read", "data, at", lines, names)
    return made


@cache
def writer(message: type[Message], version: int, flexible: bool) -> Writer:
    """A function `(out, message)`, made from source likewise."""
    names: dict[str, Any] = {}
    lines: list[str] = []
    run: list[Field] = []

    def finish_run() -> None:
        if run:
            names[f"pack_{run[0].name}"] = struct.Struct(">" + "".join(field.kind.code for field in run)).pack
            lines.append(f"out += pack_{run[0].name}({', '.join(f'm.{field.name}' for field in run)})")
            run.clear()

    for field in fields_of(message):
        if not _present(field, version):
            continue
        if isinstance(field.kind, Fixed):
            run.append(field)
        else:
            finish_run()
            names[f"write_{field.name}"] = _writer_of(field, version, flexible)
            lines.append(f"write_{field.name}(out, m.{field.name})")
    finish_run()
    if flexible:
        lines.append("out.append(0)")
    made: Writer = _made("write", "out, m", lines or ["pass"], names)
    return made


def _made(name: str, parameters: str, lines: list[str], names: dict[str, Any]) -> Any:
    exec(f"def {name}({parameters}):\n" + "".join(f"    {line}\n" for line in lines), names)
    return names[name]


def _missing(name: str) -> BadMessage:
    return BadMessage(f"null for {name}, which must be there")


def _reader_of(field: Field, version: int, flexible: bool) -> Reader:
    kind = field.kind
    if isinstance(kind, Fixed):
        return _fixed_reader(kind)
    if isinstance(kind, Varying):
        return kind.read_compact if flexible else kind.read
    if isinstance(kind, tuple):
        return _list_reader(kind[1], version, flexible)
    return reader(kind, version, flexible)


def _fixed_reader(kind: Fixed) -> Reader:
    form = struct.Struct(">" + kind.code)
    return lambda data, at: (form.unpack_from(data, at)[0], at + form.size)


def _list_reader(item: Field, version: int, flexible: bool) -> Reader:
    read_item = _reader_of(item, version, flexible)

    def read(data: bytes, at: int) -> tuple[list[Any] | None, int]:
        if flexible:
            count, at = primitives.read_varint(data, at)
            count -= 1
        else:
            count = SIZE.unpack_from(data, at)[0]
            at += 4
        if count < 0:
            return None, at
        if count > len(data) - at:
            raise BadMessage(f"{count} times {item.name} in a message that has {len(data) - at} bytes left")
        items = []
        for _ in range(count):
            value, at = read_item(data, at)
            if value is None and not item.nullable:
                raise _missing(item.name)
            items.append(value)
        return items, at

    return read


def _writer_of(field: Field, version: int, flexible: bool) -> Writer:
    kind = field.kind
    if isinstance(kind, Fixed):
        form = struct.Struct(">" + kind.code)
        return lambda out, value: out.extend(form.pack(value))
    if isinstance(kind, Varying):
        return kind.write_compact if flexible else kind.write
    if isinstance(kind, tuple):
        return _list_writer(kind[1], version, flexible)
    return writer(kind, version, flexible)


def _list_writer(item: Field, version: int, flexible: bool) -> Writer:
    write_item = _writer_of(item, version, flexible)

    def write(out: bytearray, items: list[Any] | None) -> None:
        count = -1 if items is None else len(items)
        out += primitives.varint(count + 1) if flexible else SIZE.pack(count)
        for value in items or ():
            write_item(out, value)

    return write
