"""The hash of a key is the one of Java's client; the numbers below were printed by its `Utils.murmur2`."""

from __future__ import annotations

import pytest

from protocols.kafka.producer.partitioner import murmur2, partition_for

JAVA = [
    ("", 275646681),
    ("a", 2731586172),
    ("ab", 316155434),
    ("abc", 479470107),
    ("abcd", 2971317748),
    ("user-7", 696778364),
    ("windlass", 834460825),
    ("a-little-bit-long-string", 3308985760),
    ("über", 2576701379),
    ("21", 3321034988),
    ("foobar", 3504634814),
]
JAVA_BYTES = [275646681, 3983499611, 1945074367, 3324477906, 2657001971, 3055513527, 3166833666, 2228243816]


@pytest.mark.parametrize(("key", "hashed"), JAVA)
def test_text_hashes_as_in_java(key: str, hashed: int) -> None:
    assert murmur2(key.encode()) == hashed


@pytest.mark.parametrize("size", range(8))
def test_bytes_hash_as_in_java_whatever_their_sign(size: int) -> None:
    assert murmur2(bytes([0xFF, 0, 0x80, 1, 0xFE, 7, 0xFF])[:size]) == JAVA_BYTES[size]


def test_the_partition_is_the_hash_without_its_sign_modulo_the_count() -> None:
    for key, hashed in JAVA:
        assert partition_for(key.encode(), 7) == (hashed & 0x7FFFFFFF) % 7
    long = b"k" * 1000
    assert partition_for(long, 5) == (murmur2(long) & 0x7FFFFFFF) % 5
