"""Every compression there and back, what others write, and what must not be unpacked."""

from __future__ import annotations

import zlib

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.kafka.errors import BadMessage
from protocols.kafka.records.compression import CODECS, Codec, codec_named, unpack

PACKING = CODECS[1:]
by_name = pytest.mark.parametrize("codec", PACKING, ids=lambda codec: codec.name)


@by_name
@given(data=st.binary(max_size=300))
def test_what_is_packed_is_unpacked(codec: Codec, data: bytes) -> None:
    assert unpack(codec.code, bytes(codec.compress(data))) == data
    assert unpack(codec.code, bytes(codec.compress(bytearray(data * 500)))) == data * 500


@by_name
def test_a_bomb_is_not_unpacked(codec: Codec) -> None:
    bomb = bytes(codec.compress(bytes(3_000_000)))
    assert len(unpack(codec.code, bomb, 3_000_000)) == 3_000_000
    with pytest.raises(BadMessage, match="more than"):
        unpack(codec.code, bomb, 2_999_999)


@by_name
def test_what_is_cut_short_or_garbled_is_no_message(codec: Codec) -> None:
    packed = bytes(codec.compress(b"some words, some words, and some more words " * 40))
    for cut in range(1, len(packed)):
        if codec.name == "snappy" and cut == 16:  # the framing's header with no block behind it
            continue
        with pytest.raises(BadMessage):
            unpack(codec.code, packed[:cut])
    with pytest.raises(BadMessage):
        unpack(codec.code, b"\xff" * 40)


def test_snappy_is_read_without_a_framing_too() -> None:
    assert unpack(2, bytes(cramjam.snappy.compress_raw(b"plain" * 100))) == b"plain" * 100


def test_snappy_blocks_share_one_limit() -> None:
    with pytest.raises(BadMessage, match="more than"):
        unpack(2, bytes(codec_named("snappy").compress(bytes(100_000))), 90_000)


def test_gzip_is_read_by_others() -> None:
    assert zlib.decompress(codec_named("gzip").compress(b"words"), 31) == b"words"


def test_names_and_codes_that_are_none() -> None:
    assert codec_named("none").compress(b"as it is") == b"as it is"
    assert unpack(0, b"as it is") == b"as it is"
    with pytest.raises(ValueError, match="write one of none, gzip, snappy, lz4, zstd"):
        codec_named("brotli")
    with pytest.raises(BadMessage, match="compression 7"):
        unpack(7, b"")
