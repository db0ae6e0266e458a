"""The compressions of record batches, by name and by the code in a batch's attributes. No I/O.

Rules:
1. What is written here Java's client can read: LZ4 frames whose blocks stand alone, Snappy in the framing of
   xerial's library. What is read may also be Snappy without a framing, as the C client writes it.
2. Nothing is unpacked beyond `limit` bytes; a batch that would be larger, or is damaged, raises `BadMessage`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import cramjam

from protocols.kafka.errors import BadMessage

__all__ = ["CODECS", "UNPACKED_BYTES", "Codec", "codec_named", "unpack"]

UNPACKED_BYTES: Final = 256 << 20  # of one batch; brokers take requests of 100 MiB (socket.request.max.bytes)
GZIP: Final = 31  # zlib's window bits for a gzip header
SNAPPY_MAGIC: Final = b"\x82SNAPPY\x00"
SNAPPY_HEADER: Final = SNAPPY_MAGIC + struct.pack(">ii", 1, 1)  # its version, and the oldest that can read it
SNAPPY_BLOCK: Final = 32768  # bytes, as xerial's stream cuts them
FIRST_GUESS: Final = 8  # times the packed size; what is larger takes a second round
BLOCK_SIZE: Final = struct.Struct(">i")


class Codec(NamedTuple):
    """One compression: its code in a batch's attributes, and both ways through it."""

    code: int
    name: str
    compress: Callable[[bytes | bytearray], bytes | bytearray]
    decompress: Callable[[bytes, int], bytes]


def codec_named(name: str) -> Codec:
    """The codec of that name. Raises `ValueError` if there is none."""
    for codec in CODECS:
        if codec.name == name:
            return codec
    raise ValueError(f"compression={name!r}; write one of {', '.join(codec.name for codec in CODECS)}")


def unpack(code: int, data: bytes, limit: int = UNPACKED_BYTES) -> bytes:
    """What was compressed by the codec of that code. Raises `BadMessage`."""
    if code >= len(CODECS):
        raise BadMessage(f"a record batch with compression {code}, which is not known here")
    codec = CODECS[code]
    try:
        return codec.decompress(data, limit)
    except (zlib.error, cramjam.DecompressionError, struct.error) as error:
        raise BadMessage(f"a record batch whose {codec.name} cannot be unpacked: {error}") from error


def _same(data: bytes | bytearray) -> bytes | bytearray:
    return data


def _unpacked(data: bytes, limit: int) -> bytes:
    return data


def _gzip(data: bytes | bytearray) -> bytes:
    packer = zlib.compressobj(wbits=GZIP)
    return packer.compress(data) + packer.flush()


def _gunzip(data: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj(GZIP)
    out = unpacker.decompress(data, limit)
    if unpacker.unconsumed_tail:
        raise _too_large(limit)
    if not unpacker.eof:
        raise BadMessage("a record batch whose gzip is cut short")
    return out


def _snappy(data: bytes | bytearray) -> bytearray:
    out = bytearray(SNAPPY_HEADER)
    view = memoryview(data)
    for at in range(0, len(view), SNAPPY_BLOCK):
        block = bytes(cramjam.snappy.compress_raw(view[at : at + SNAPPY_BLOCK]))
        out += BLOCK_SIZE.pack(len(block))
        out += block
    return out


def _unsnappy(data: bytes, limit: int) -> bytes:
    if not data.startswith(SNAPPY_MAGIC):
        return _unsnappy_block(data, limit)
    blocks = []
    at = len(SNAPPY_HEADER)
    if at > len(data):
        raise BadMessage("a record batch whose Snappy is cut short")
    while at < len(data):
        (size,) = BLOCK_SIZE.unpack_from(data, at)
        at += 4
        if not 0 < size <= len(data) - at:
            raise BadMessage(f"a Snappy block of {size} bytes where {len(data) - at} are left")
        block = _unsnappy_block(data[at : at + size], limit)
        limit -= len(block)
        blocks.append(block)
        at += size
    return b"".join(blocks)


def _unsnappy_block(block: bytes, limit: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(block) > limit:
        raise _too_large(limit)
    return bytes(cramjam.snappy.decompress_raw(block))


def _lz4(data: bytes | bytearray) -> bytes:
    packer = cramjam.lz4.Compressor(content_checksum=False, block_linked=False)
    packer.compress(bytes(data))
    return bytes(packer.finish())


def _zstd(data: bytes | bytearray) -> bytes:
    return bytes(cramjam.zstd.compress(data))


def _into(module: Any) -> Callable[[bytes, int], bytes]:
    """Into a buffer that is made larger until everything fits, or the limit is reached."""

    def decompress(data: bytes, limit: int) -> bytes:
        size = min(limit, max(65536, FIRST_GUESS * len(data)))
        while True:
            out = bytearray(size)
            try:
                count = module.decompress_into(data, out)
            except cramjam.DecompressionError as error:
                if "whole buffer" not in str(error):
                    raise
                if size >= limit:
                    raise _too_large(limit) from None
                size = min(limit, FIRST_GUESS * size)
            else:
                return bytes(memoryview(out)[:count])

    return decompress


def _too_large(limit: int) -> BadMessage:
    return BadMessage(f"a record batch that unpacks to more than {limit} bytes")


CODECS: Final = (
    Codec(0, "none", _same, _unpacked),
    Codec(1, "gzip", _gzip, _gunzip),
    Codec(2, "snappy", _snappy, _unsnappy),
    Codec(3, "lz4", _lz4, _into(cramjam.lz4)),
    Codec(4, "zstd", _zstd, _into(cramjam.zstd)),
)
"""By code."""
