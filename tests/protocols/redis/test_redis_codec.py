"""RESP at every split point, round trips, limits, and bytes that are not the protocol."""

from __future__ import annotations

import math
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.redis import codec
from protocols.redis.codec import ELEMENTS_MAX, NOTHING, Decoder, PushNotification, encode
from protocols.redis.errors import BadReply, RedisError

REPLIES: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", b"OK"),
    (b"-WRONGTYPE Operation\r\n", RedisError("WRONGTYPE Operation")),
    (b":-42\r\n", -42),
    (b"$5\r\nhe\r\nl\r\n", b"he\r\nl"),
    (b"$0\r\n\r\n", b""),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"*0\r\n", []),
    (b"*3\r\n:1\r\n*1\r\n$1\r\na\r\n-ERR x\r\n", [1, [b"a"], RedisError("ERR x")]),
    (b"_\r\n", None),
    (b"#t\r\n", True),
    (b"#f\r\n", False),
    (b",1.5\r\n", 1.5),
    (b",inf\r\n", math.inf),
    (b"%2\r\n+a\r\n:1\r\n+b\r\n%0\r\n", {b"a": 1, b"b": {}}),
    (b"~2\r\n+a\r\n+b\r\n", [b"a", b"b"]),
    (b"=7\r\ntxt:abc\r\n", b"abc"),
]
WHOLE = b"".join(data for data, _ in REPLIES)


def same(one: Any, other: Any) -> bool:
    """Equal, errors by their text."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, RedisError):
        return isinstance(other, RedisError) and str(one) == str(other)
    return type(one) is type(other) and bool(one == other)


def read(pieces: list[bytes]) -> list[Any]:
    decoder = Decoder()
    values = []
    for piece in pieces:
        decoder.feed(piece)
        while (value := decoder.next()) is not NOTHING:
            values.append(value)
    return values


@pytest.mark.parametrize(("data", "value"), REPLIES, ids=lambda part: repr(part)[:20])
def test_a_reply_byte_by_byte(data: bytes, value: Any) -> None:
    decoder = Decoder()
    for place in range(len(data) - 1):
        decoder.feed(data[place : place + 1])
        assert decoder.next() is NOTHING
    decoder.feed(data[-1:])
    assert same(decoder.next(), value)
    assert decoder.next() is NOTHING


def test_every_split_point_gives_the_same() -> None:
    expected = [value for _, value in REPLIES]
    for place in range(len(WHOLE) + 1):
        assert same(read([WHOLE[:place], WHOLE[place:]]), expected), place
    assert same(read([WHOLE[place : place + 1] for place in range(len(WHOLE))]), expected)


def test_a_push_is_told_from_an_array() -> None:
    (push,) = read([b">2\r\n+message\r\n+x\r\n"])
    assert isinstance(push, PushNotification)
    assert read([b"*1\r\n+x\r\n"]) == [[b"x"]]


def test_input_may_be_a_bytearray() -> None:
    decoder = Decoder()
    decoder.feed(bytearray(b"+OK\r\n"))
    assert decoder.next() == b"OK"
    assert "Decoder" in repr(decoder)


arguments = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        st.integers(),
        st.floats(allow_nan=False),
    ),
    min_size=1,
    max_size=8,
)


@given(arguments)
def test_a_command_reads_back_as_its_arguments(parts: list[Any]) -> None:
    (read_back,) = read([encode(*parts)])
    for part, text in zip(parts, read_back, strict=True):
        if isinstance(part, float):
            assert float(text) == part
        elif isinstance(part, int):
            assert int(text) == part
        else:
            assert text == (part.encode() if isinstance(part, str) else part)


@pytest.mark.parametrize("wrong", [None, True, [1], {"a": 1}, object()])
def test_what_is_no_argument_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(TypeError, match="not a Redis argument; give str"):
        encode("SET", "key", wrong)


def test_a_number_that_python_does_not_write_is_refused() -> None:
    for number in (10**5000, -(10**5000)):
        with pytest.raises(ValueError, match="bits; 4096 are allowed"):
            encode("SET", "key", number)


def test_a_number_keeps_its_precision_and_memory_needs_no_copy() -> None:
    assert read([encode("A", 0.1, 1e300, 2**70, memoryview(b"x"))]) == [
        [b"A", b"0.1", b"1e+300", str(2**70).encode(), b"x"]
    ]


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400 Bad Request\r\n", b"\x15\x03\x01", b":abc\r\n", b"$-7\r\n", b"%1\r\n*0\r\n+a\r\n"]
)
def test_what_is_not_the_protocol(data: bytes) -> None:
    with pytest.raises(BadReply, match="not the Redis protocol"):
        read([data])


def test_a_reply_has_a_limit() -> None:
    decoder = Decoder(limit=100)
    decoder.feed(b"+OK\r\n$1000\r\n")
    assert decoder.next() == b"OK"
    assert decoder.next() is NOTHING
    decoder.feed(b"x" * 60)
    with pytest.raises(BadReply, match="larger than 100 bytes"):
        decoder.feed(b"x" * 60)


def test_room_is_not_made_for_more_elements_than_can_come() -> None:
    with pytest.raises(BadReply, match="elements"):
        Decoder().feed(b"*%d\r\n" % (ELEMENTS_MAX + 1))


def test_a_busy_connection_is_not_one_large_reply() -> None:
    """Every input ends in the middle of a reply, so that there never is a moment without one."""
    decoder = Decoder(limit=100)
    decoder.feed(b"$5\r\nab")
    for _ in range(50):
        decoder.feed(b"cde\r\n$5\r\nab")
        assert decoder.next() == b"abcde"
        assert decoder.next() is NOTHING


TOO_MANY = [b"*%d\r\n" % (ELEMENTS_MAX + 1), b"~4294967295\r\n", b">99999999\r\n:1\r\n"]
BEFORE = [b"", b"+OK\r\n", b"*2\r\n+a\r\n$3\r\nabc\r\n", b"$9\r\n*99999999\r\n", b"$3\r\n>\r\n\r\n"]


@pytest.mark.parametrize("head", TOO_MANY)
@pytest.mark.parametrize("before", BEFORE)
def test_no_reply_may_have_too_many_elements_wherever_it_begins(before: bytes, head: bytes) -> None:
    data = before + head
    for place in range(len(data)):
        with pytest.raises(BadReply, match="elements"):
            read([data[:place], data[place:]])


@pytest.mark.parametrize(
    "text", [b"*99999999", b"a>99999999999*99999999*99999999", b"~16777217\r\n*4294967295\r\n"]
)
def test_what_only_looks_like_it_is_text(text: bytes) -> None:
    values = [text, [text, text], {text: text}, b"end"]
    bulk = b"$%d\r\n%b\r\n" % (len(text), text)
    data = bulk + b"*2\r\n" + bulk * 2 + b"%1\r\n" + bulk * 2 + b"+end\r\n"
    for place in range(len(data) + 1):
        assert read([piece for piece in (data[:place], data[place:]) if piece]) == values
    assert read([data[place : place + 1] for place in range(len(data))]) == values


@pytest.mark.parametrize("before", [b"", b"+OK\r\n", b"*1\r\n$8\r\n|1\r\n:1\r\n\r\n"])
def test_attributes_are_not_taken_for_the_reply(before: bytes) -> None:
    data = before + b"|1\r\n+ttl\r\n:3600\r\n$3\r\nabc\r\n"
    for place in range(len(data)):
        with pytest.raises(BadReply, match="attributes"):
            read([data[:place], data[place:]])


def test_what_only_looks_like_attributes_is_text() -> None:
    text = b"|1\r\n|22\r\nand|3\r\n\n|4\r"
    data = b"*2\r\n" + b"$%d\r\n%b\r\n" % (len(text), text) * 2 + b"+end\r\n"
    for place in range(len(data) + 1):
        assert read([piece for piece in (data[:place], data[place:]) if piece]) == [[text, text], b"end"]


def test_as_many_as_are_allowed_are() -> None:
    decoder = Decoder()
    decoder.feed(b"*%d\r\n:1\r\n" % ELEMENTS_MAX)
    assert decoder.next() is NOTHING


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_give_values_or_a_protocol_error(data: bytes, place: int) -> None:
    try:
        read([data[:place], data[place:]])
    except BadReply:
        pass


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=3))
def test_one_bad_spot_gives_values_or_a_protocol_error(place: int, spot: bytes) -> None:
    try:
        read([WHOLE[:place] + spot + WHOLE[place + len(spot) :]])
    except BadReply:
        pass


def test_the_code_is_the_first_word() -> None:
    assert RedisError("WRONGTYPE Operation against").code == "WRONGTYPE"
    assert RedisError("ERR").code == "ERR"


# -- what a reply's contents may cost ------------------------------------------------------------------------


class CountingReader:
    """hiredis's reader; counts how often it is called."""

    calls = 0

    def __init__(self, **options: Any) -> None:
        self._reader = hiredis_reader(**options)
        self.has_data = self._reader.has_data

    def feed(self, data: bytes) -> None:
        CountingReader.calls += 1
        self._reader.feed(data)

    def gets(self) -> Any:
        CountingReader.calls += 1
        return self._reader.gets()


hiredis_reader = hiredis.Reader
MIB = 1 << 20
HOSTILE = [
    b"\n|1\r\n",
    b"\r\n|1\r\n",
    b"\r\n*99999999\r\n",
    b"\n~00000001\r\n",
    b"\r\n$9999999\r\n",
    b"|",
    b"\r\n",
]


def chunks(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("size", [32768, 1 << 16, 5000, MIB])
@pytest.mark.parametrize("shape", ["alone", "behind others", "clean first", "many small"])
def test_no_text_makes_more_work_than_another(
    text: bytes, size: int, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many calls of the parser as for as many letters x, however the reply is cut."""

    def reply(text: bytes) -> tuple[bytes, Any]:
        value = (text * (MIB // len(text) + 1))[:MIB]
        if shape == "alone":
            return b"$%d\r\n%b\r\n" % (MIB, value), value
        if shape == "behind others":
            return b"*11\r\n" + b"$3\r\nabc\r\n" * 10 + b"$%d\r\n%b\r\n" % (MIB, value), [b"abc"] * 10 + [
                value
            ]
        if shape == "clean first":
            value = b"x" * (MIB // 2) + value
            return b"$%d\r\n%b\r\n" % (len(value), value), value
        parts = chunks(value, 1000)
        return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts), parts

    monkeypatch.setattr(hiredis, "Reader", CountingReader)
    counts = []
    for part in (b"x", text):
        data, expected = reply(part)
        CountingReader.calls = 0
        assert read(chunks(data, size)) == [expected]
        counts.append(CountingReader.calls)
    assert counts[1] <= counts[0] + 2, counts


@pytest.mark.parametrize("kept", [0, 1, 2, 1 << 20])
@pytest.mark.parametrize("place", [1, 2, 5, 31, 100])
def test_a_head_is_found_behind_any_text(place: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attributes of a reply, after a text that is full of what looks like them."""
    monkeypatch.setattr(codec, "BEHIND_MAX", kept)
    text = b"\n|1\r\n" * 50
    data = b"*2\r\n$%d\r\n%b\r\n$1\r\nx\r\n" % (len(text), text)
    with pytest.raises(BadReply, match="attributes"):
        read(chunks(data * 3 + b"|1\r\n+a\r\n:1\r\n+x\r\n", place))


@pytest.mark.parametrize("head", [b"|1\r\n+a\r\n:1\r\n", b"*4294967295\r\n"])
def test_nor_may_a_reply_have_such_a_part(head: bytes) -> None:
    data = b"*2\r\n$1\r\na\r\n" + head + b"+x\r\n"
    for place in range(1, len(data)):
        with pytest.raises(BadReply):
            read([data[:place], data[place:]])


def test_a_reply_has_a_limit_wherever_it_is_cut() -> None:
    decoder = Decoder(limit=100)
    decoder.feed(b"*99\r\n")
    for _ in range(10):
        assert decoder.next() is NOTHING
        decoder.feed(b"$3\r\nabc\r\n")
    with pytest.raises(BadReply, match="larger than 100 bytes"):
        decoder.feed(b"$3\r\nabc\r\n")


values = st.recursive(
    st.sampled_from([b"", b"abc", b"\r\n|1\r\n", b"$5\r\nhello", b"\n*99999999\r\n", b"\n", b"x" * 100]),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=12,
)


def packed(value: Any) -> bytes:
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(packed, value))
    return b"$%d\r\n%b\r\n" % (len(value), value)


@given(
    st.lists(values, min_size=1, max_size=6),
    st.lists(st.integers(1, 60), min_size=1, max_size=30),
    st.booleans(),
)
def test_texts_are_texts_and_attributes_are_found(
    replies: list[Any], sizes: list[int], attribute: bool
) -> None:
    data = b"".join(map(packed, replies)) + (b"|1\r\n+a\r\n+b\r\n:7\r\n" if attribute else b"")
    pieces, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(data[at : at + size])
        at, turn = at + size, turn + 1
    decoder, found = Decoder(), []
    try:
        for piece in pieces:
            decoder.feed(piece)
            while (value := decoder.next()) is not NOTHING:
                found.append(value)
    except BadReply:
        assert attribute
    else:
        assert not attribute
    assert found == replies
