"""Messages as bytes and back: every one, in every version; and what is no message."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.kafka import BadMessage
from protocols.kafka.errors import BrokerTooOld
from protocols.kafka.protocol import api, fetch_api, group_api
from protocols.kafka.protocol.primitives import read_varint, skip_tags, varint, write_varint, zigzag
from protocols.kafka.protocol.schema import (
    Api,
    Bool,
    Bytes,
    Fixed,
    Int8,
    Int16,
    Int32,
    Int64,
    Message,
    Request,
    Str,
    Uuid,
    Varying,
    decode,
    encode,
    fields_of,
    reader,
    since,
    version_for,
    writer,
)

REQUESTS = sorted(
    {
        kind
        for module in (api, fetch_api, group_api)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Request) and kind is not Request
    },
    key=lambda kind: kind.__name__,
)
VERSIONS = [
    (kind, version)
    for kind in REQUESTS
    for version in sorted({kind.api.oldest, kind.api.flexible - 1, kind.api.flexible, kind.api.newest})
    if kind.api.oldest <= version <= kind.api.newest
]
LIMITS = {"b": 1 << 7, "h": 1 << 15, "i": 1 << 31, "q": 1 << 63}


def values_of(kind: Any, nullable: bool, version: int) -> st.SearchStrategy[Any]:
    """Anything that a field of that kind may hold."""
    made: st.SearchStrategy[Any]
    if isinstance(kind, Fixed):
        if kind.code == "?":
            made = st.booleans()
        elif kind.code == "16s":
            made = st.binary(min_size=16, max_size=16)
        else:
            limit = LIMITS[kind.code]
            made = st.integers(-limit, limit - 1)
    elif isinstance(kind, Varying):
        made = st.text(max_size=200) if kind.read.__name__.endswith("string") else st.binary(max_size=200)
    elif isinstance(kind, tuple):
        made = st.lists(values_of(kind[1].kind, kind[1].nullable, version), max_size=3)
    else:
        made = messages_of(kind, version)
    return st.none() | made if nullable else made


def messages_of(kind: type[Message], version: int) -> st.SearchStrategy[Message]:
    """Any message of that kind, as it can be in that version."""
    fields = {
        field.name: values_of(field.kind, field.nullable, version)
        if field.versions.first <= version <= field.versions.until
        else st.just(field.absent)
        for field in fields_of(kind)
    }
    return st.builds(kind, **fields)


@pytest.mark.parametrize(("kind", "version"), VERSIONS, ids=lambda part: getattr(part, "__name__", str(part)))
def test_every_message_comes_back_and_no_part_of_it_does(kind: type[Request[Any]], version: int) -> None:
    flexible = version >= kind.api.flexible

    @settings(max_examples=5, deadline=None)
    @given(st.data())
    def look(data: st.DataObject) -> None:
        request = data.draw(messages_of(kind, version))
        out = bytearray()
        writer(kind, version, flexible)(out, request)
        assert reader(kind, version, flexible)(bytes(out), 0) == (request, len(out))
        answer = data.draw(messages_of(kind.api.response, version))
        out = bytearray(b"\0" if flexible and not kind.api.plain_header else b"")
        writer(type(answer), version, flexible)(out, answer)
        body = bytes(out)
        assert decode(kind, version, body) == answer
        for end in range(len(body)):
            with pytest.raises(BadMessage):
                decode(kind, version, body[:end])

    look()


@given(st.sampled_from(VERSIONS), st.binary(max_size=300))
def test_noise_is_read_or_refused_and_nothing_else(
    which: tuple[type[Request[Any]], int], noise: bytes
) -> None:
    try:
        decode(*which, noise)
    except BadMessage:
        pass


class Inner(Message):
    """A part."""

    name: Str
    flag: Bool


class Answer(Message):
    """Every type there is."""

    small: Int8
    id: Uuid
    data: Bytes
    maybe: Annotated[Str | None, since(1)]
    inner: list[Inner] | None
    late: Annotated[list[Int64], since(2)]
    old: Annotated[Int16, since(0, until=1, otherwise=-1)]


class Ask(Request[Answer]):
    """A question."""

    api = Api(99, "Ask", 0, 2, 2, Answer)

    number: Int32
    name: Str | None = None


def test_bytes_as_the_protocol_guide_describes_them() -> None:
    assert encode(Ask(7, "x"), 0, 3, "me") == bytes.fromhex(
        "00000013 0063 0000 00000003 0002 6d65 00000007 0001 78".replace(" ", "")
    )
    assert encode(Ask(7), 2, 3, None) == bytes.fromhex(
        "00000011 0063 0002 00000003 ffff 00 00000007 00 00".replace(" ", "")
    )
    old = b"\x01" + bytes(16) + b"\0\0\0\x02hi" + b"\xff\xff\xff\xff" + b"\0\x05"
    assert decode(Ask, 0, old) == Answer(1, bytes(16), b"hi", None, None, [], 5)
    new = b"\0\xff" + bytes(16) + b"\x03hi" + b"\x02a" + b"\x02\x02b\x01\0" + b"\x02" + bytes(7) + b"\x09\0"
    assert decode(Ask, 2, new) == Answer(-1, bytes(16), b"hi", "a", [Inner("b", True)], [9], -1)


def test_tagged_fields_are_skipped() -> None:
    tags = b"\x02\0\x03abc\x07\0"
    plain = b"\x01" + bytes(16) + b"\x01" + b"\0\0\x01"
    assert decode(Ask, 2, tags + plain + tags) == Answer(1, bytes(16), b"", None, None, [], -1)
    with pytest.raises(BadMessage, match="longer"):
        decode(Ask, 2, b"\x01\0\x05ab")
    assert skip_tags(b"\0", 0) == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"\0\x01" + bytes(16) + b"\0", "null for Answer.data"),
        (b"\0\x01" + bytes(16) + b"\xff\xff\xff\xff\x0f", "bytes left|has .* left"),
        (b"\0\x01" + bytes(16) + b"\x01" + b"\0" + b"\xff\xff\xff\xff\x0f", "times inner"),
        (b"\0\x01" + bytes(16) + b"\x03\xff\xfe" + b"\x03\xff\xfe", "cannot be read"),
        (b"\0\x01" + bytes(16) + b"\xff" * 20, "varint"),
        (b"", "cannot be read"),
    ],
)
def test_what_is_no_answer(body: bytes, says: str) -> None:
    with pytest.raises(BadMessage, match=says):
        decode(Ask, 2, body)


def test_the_newest_version_that_both_sides_speak() -> None:
    assert version_for(Ask.api, {99: (0, 9)}, "b") == 2
    assert version_for(Ask.api, {99: (1, 1)}, "b") == 1
    with pytest.raises(BrokerTooOld, match="b speaks only versions 3 to 4 of Ask, and 0 to 2"):
        version_for(Ask.api, {99: (3, 4)}, "b")
    with pytest.raises(BrokerTooOld, match="speaks none of Ask"):
        version_for(Ask.api, {}, "b")


@given(st.integers(0, (1 << 63) - 1))
def test_varints(number: int) -> None:
    out = bytearray(b"x")
    write_varint(out, number)
    assert read_varint(bytes(out), 1) == (number, len(out))
    assert varint(2 * number) == zigzag(number)
    assert varint(2 * number + 1) == zigzag(-number - 1)
