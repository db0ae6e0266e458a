"""Which partition a message goes to: the one that Java's client chooses for the same key. No I/O.

MurmurHash2 (32 bits, Austin Appleby's, with the seed that Kafka gives it) of the key, without its sign,
modulo the count of partitions. So producers in both languages can write one topic and keep the order per key.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

__all__ = ["murmur2", "partition_for"]

SEED: Final = 0x9747B28C
MULTIPLIER: Final = 0x5BD1E995
MASK: Final = 0xFFFFFFFF
KEYS_REMEMBERED: Final = 8192
KEY_BYTES_REMEMBERED: Final = 128


def murmur2(key: bytes) -> int:
    """The hash, from 0 to 2³² - 1."""
    size = len(key)
    hashed = SEED ^ size
    for block in struct.unpack_from(f"<{size >> 2}I", key):
        block = block * MULTIPLIER & MASK
        block = (block ^ block >> 24) * MULTIPLIER & MASK
        hashed = hashed * MULTIPLIER & MASK ^ block
    rest = size & 3
    if rest:
        hashed = (hashed ^ int.from_bytes(key[size - rest :], "little")) * MULTIPLIER & MASK
    hashed = (hashed ^ hashed >> 13) * MULTIPLIER & MASK
    return hashed ^ hashed >> 15


_remembered = lru_cache(KEYS_REMEMBERED)(murmur2)


def partition_for(key: bytes, count: int) -> int:
    """Where a message with that key goes in a topic of `count` partitions."""
    hashed = _remembered(key) if len(key) <= KEY_BYTES_REMEMBERED else murmur2(key)
    return (hashed & 0x7FFFFFFF) % count
