"""Record batches, version 2 (Kafka 0.11 and newer): records to bytes and back. No I/O.

A batch is a header of 61 bytes and its records, which may be compressed together. Offsets and timestamps of
records are told as differences to the first one's, all numbers in them as zigzag varints.

Rules:
1. `append_record` appends one record to a buffer; `seal` puts the header in front of what was gathered (and
   compressed), so that a batch can be sealed again with another sequence number without being packed again.
2. `batches` cuts what a broker has sent at the batches' ends and checks each one's CRC-32C. What is behind
   the last whole batch is left out: a broker may cut there.
3. `read_records` reads a whole batch in one loop, which is long on purpose: it is where a consumer's time
   goes. A compacted topic has gaps in its offsets, so the count of records says nothing about them.
4. What is no such batch (cut short, a wrong checksum, sizes that do not fit) raises `BadMessage`; older
   message formats raise it too, with what to do.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

import google_crc32c
import msgspec

from protocols.kafka.errors import BadMessage
from protocols.kafka.protocol.primitives import zigzag

from .compression import UNPACKED_BYTES, unpack

__all__ = [
    "ABORT",
    "COMMIT",
    "HEADER_BYTES",
    "Batch",
    "Record",
    "append_record",
    "batches",
    "control_type",
    "read_records",
    "record_pieces",
    "seal",
    "whole_batches",
]

HEADER_BYTES: Final = 61
PIECE: Final = 10_000  # records that are made of bytes at a time
MAGIC: Final = 2
COMPRESSION: Final = 0b111  # attributes
LOG_APPEND_TIME: Final = 1 << 3
TRANSACTIONAL: Final = 1 << 4
CONTROL: Final = 1 << 5
ABORT: Final = 0  # what a control record says of a transaction
COMMIT: Final = 1
BEFORE_CRC: Final = 17  # base offset, size, leader epoch, magic; the checksum covers what is behind itself
CHECKED_FROM: Final = 21

_front = struct.Struct(">qiibI")
_rest = struct.Struct(">hiqqqhii")
_header = struct.Struct(">qiibIhiqqqhii")
_size = struct.Struct(">i")
_first = struct.Struct(">qi")
_control = struct.Struct(">hh")

Header = tuple[str, bytes | None]


class Record(msgspec.Struct, frozen=True, gc=False):
    """One message as it was read. `timestamp`: milliseconds since 1970, the producer's or the broker's as the
    topic says. `headers`: names and values, in order.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()


class Batch(msgspec.Struct, frozen=True, gc=False):
    """One batch: what its header says, and its records as they came."""

    base_offset: int
    last_offset: int
    leader_epoch: int
    attributes: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    count: int
    payload: bytes

    @property
    def control(self) -> bool:
        """Whether it ends a transaction instead of holding messages."""
        return bool(self.attributes & CONTROL)

    @property
    def transactional(self) -> bool:
        """Whether it belongs to a transaction."""
        return bool(self.attributes & TRANSACTIONAL)

    def records(self, limit: int = UNPACKED_BYTES) -> bytes:
        """The records, unpacked. Raises `BadMessage`."""
        code = self.attributes & COMPRESSION
        return unpack(code, self.payload, limit) if code else self.payload


# -- writing -----------------------------------------------------------------------------------------------


VARINTS: Final = tuple(zigzag(number) for number in range(16384))
NULL: Final = zigzag(-1)


def append_record(
    out: bytearray,
    offset_delta: int,
    timestamp_delta: int,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[Header] = (),
) -> None:
    """Append one record to those of a batch that is being gathered."""
    known = VARINTS
    body = known[timestamp_delta] if 0 <= timestamp_delta < 16384 else zigzag(timestamp_delta)
    body = b"\0" + body + (known[offset_delta] if offset_delta < 16384 else zigzag(offset_delta))
    if key is None:
        body += NULL
    else:
        body += (known[len(key)] if len(key) < 16384 else zigzag(len(key))) + key
    if value is None:
        body += NULL
    else:
        body += (known[len(value)] if len(value) < 16384 else zigzag(len(value))) + value
    body += _headers(headers) if headers else b"\0"
    out += known[len(body)] if len(body) < 16384 else zigzag(len(body))
    out += body


def _headers(headers: Sequence[Header]) -> bytes:
    parts = [zigzag(len(headers))]
    for name, value in headers:
        coded = name.encode()
        parts += (zigzag(len(coded)), coded)
        parts += (NULL,) if value is None else (zigzag(len(value)), value)
    return b"".join(parts)


def seal(
    payload: bytes | bytearray,
    compression: int,
    count: int,
    first_ms: int,
    last_ms: int,
    producer_id: int = -1,
    producer_epoch: int = -1,
    first_sequence: int = -1,
    transactional: bool = False,
) -> bytes:
    """A whole batch: `count` records that were appended to `payload`, which was then compressed by the codec
    of the code `compression`. `first_ms` is what the records' timestamps are told from, `last_ms` the latest.
    """
    rest = _rest.pack(
        compression | TRANSACTIONAL if transactional else compression,
        count - 1,
        first_ms,
        last_ms,
        producer_id,
        producer_epoch,
        first_sequence,
        count,
    )
    checked = rest + payload
    return _front.pack(0, len(checked) + 9, -1, MAGIC, google_crc32c.value(checked)) + checked


# -- reading -----------------------------------------------------------------------------------------------


def batches(data: bytes) -> Iterator[Batch]:
    """The whole batches in what a broker has sent for one partition. Raises `BadMessage`."""
    at, size = 0, len(data)
    while size - at >= BEFORE_CRC:
        length = _size.unpack_from(data, at + 8)[0]
        _check(data[at + 16], length)
        end = at + 12 + length
        if end > size:
            return
        (
            base,
            _,
            epoch,
            _,
            crc,
            attributes,
            last,
            first_ms,
            last_ms,
            producer,
            producer_epoch,
            sequence,
            count,
        ) = _header.unpack_from(data, at)
        if google_crc32c.value(data[at + CHECKED_FROM : end]) != crc:
            raise BadMessage(f"the record batch at offset {base} has a wrong checksum")
        if last < 0 or not 0 <= count <= last + 1:
            raise BadMessage(f"the record batch at offset {base} says {count} records up to {base}+{last}")
        payload = data[at + HEADER_BYTES : end]
        yield Batch(
            *(
                base,
                base + last,
                epoch,
                attributes,
                first_ms,
                last_ms,
                producer,
                producer_epoch,
                sequence,
                count,
            ),
            payload,
        )
        at = end


def whole_batches(data: bytes, epochs: list[tuple[int, int]]) -> tuple[int, int]:
    """How many bytes of it are whole batches, and the offset behind the last of them; checksums are not
    looked at. Where a greater leader epoch than the last of `epochs` begins is appended to them: offset and
    epoch. Raises `BadMessage`.
    """
    at = behind = 0
    size = len(data)
    known = epochs[-1][1] if epochs else -1
    while size - at >= BEFORE_CRC:
        base, length = _first.unpack_from(data, at)
        _check(data[at + 16], length)
        end = at + 12 + length
        if end > size:
            break
        epoch = _size.unpack_from(data, at + 12)[0]
        if epoch > known:
            epochs.append((base, epoch))
            known = epoch
        behind = base + 1 + _size.unpack_from(data, at + 23)[0]
        at = end
    return at, behind


def _check(magic: int, length: int) -> None:
    if magic != MAGIC:
        raise BadMessage(
            f"a message format of version {magic} where {MAGIC} is read; what was written before Kafka 0.11 "
            "has to be written again"
        )
    if length < HEADER_BYTES - 12:
        raise BadMessage(f"a record batch of {length} bytes, which is less than its header")


def read_records(batch: Batch, topic: str, partition: int, first: int = 0) -> list[Record]:
    """The records of a batch from offset `first` on. Raises `BadMessage`."""
    records: list[Record] = []
    for piece in record_pieces(batch, topic, partition, first):
        records = records + piece if records else piece
    return records


def record_pieces(batch: Batch, topic: str, partition: int, first: int = 0) -> Iterator[list[Record]]:
    """The same, at most `PIECE` at a time: a megabyte that was compressed can hold millions. Raises
    `BadMessage`.
    """
    data = batch.records()
    at = start = 0
    try:
        while start < batch.count:
            stop = min(start + PIECE, batch.count)
            records, at = _read(batch, data, topic, partition, at, start, stop)
            start = stop
            if start == batch.count and at != len(data):
                break
            yield records if first <= batch.base_offset else [r for r in records if r.offset >= first]
    except (IndexError, UnicodeDecodeError) as error:
        raise _unreadable(batch, "is cut short") from error
    if at != len(data):
        raise _unreadable(batch, f"has {len(data) - at} bytes behind its records")


def _read(
    batch: Batch, data: bytes, topic: str, partition: int, at: int, start: int, stop: int
) -> tuple[list[Record], int]:
    """Records `start` to `stop` of a batch, from `at` on, and where they end. The hot path of a consumer: one
    long function, on purpose, in which a number of one or two bytes costs no call."""
    make, long = Record, _varint
    base, base_ms = batch.base_offset, batch.base_timestamp
    out: list[Record] = []
    append = out.append
    two_bytes_from = three_bytes_from = base
    if batch.last_offset - base + 1 == batch.count:  # no gaps: offsets are known, and only passed over
        two_bytes_from, three_bytes_from = base + 64, base + 8192
    for offset in range(base + start, base + stop):
        size = data[at]
        if size < 128:
            at += 1
        elif (high := data[at + 1]) < 128:
            size += (high << 7) - 128
            at += 2
        else:
            size, at = long(data, at)
        end = at + (size >> 1)
        delta = data[at + 1]  # behind the attributes, of which there are none
        if delta < 128:
            at += 2
        elif (high := data[at + 2]) < 128:
            delta += (high << 7) - 128
            at += 3
        else:
            delta, at = long(data, at + 1)
        timestamp = base_ms + (~(delta >> 1) if delta & 1 else delta >> 1)
        if offset < two_bytes_from:
            at += 1
        elif offset < three_bytes_from:
            at += 2
        else:
            delta, at = long(data, at)
            offset = base + (delta >> 1)
        size = data[at]
        if size < 128:
            at += 1
        elif (high := data[at + 1]) < 128:
            size += (high << 7) - 128
            at += 2
        else:
            size, at = long(data, at)
        if size & 1:
            key = None
        else:
            key = data[at : (at := at + (size >> 1))]
        size = data[at]
        if size < 128:
            at += 1
        elif (high := data[at + 1]) < 128:
            size += (high << 7) - 128
            at += 2
        else:
            size, at = long(data, at)
        if size & 1:
            value = None
        else:
            value = data[at : (at := at + (size >> 1))]
        if data[at]:
            headers, at = _read_headers(data, at)
            append(make(topic, partition, offset, timestamp, key, value, headers))
        else:
            at += 1
            append(make(topic, partition, offset, timestamp, key, value))
        if at != end:
            raise _unreadable(batch, "has sizes that do not fit")
    if out and out[-1].offset > batch.last_offset:
        raise _unreadable(batch, f"holds offset {out[-1].offset}, which is behind its end")
    if batch.attributes & LOG_APPEND_TIME:
        stamped = batch.max_timestamp
        out = [msgspec.structs.replace(record, timestamp=stamped) for record in out]
    return out, at


def _read_headers(data: bytes, at: int) -> tuple[tuple[Header, ...], int]:
    count, at = _varint(data, at)
    headers: list[Header] = []
    for _ in range(count >> 1):
        size, at = _varint(data, at)
        name = data[at : (at := at + (size >> 1))].decode()
        size, at = _varint(data, at)
        headers.append((name, None if size & 1 else data[at : (at := at + (size >> 1))]))
        if at > len(data):
            raise IndexError
    return tuple(headers), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A varint as it stands, zigzag not undone."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise BadMessage("a number of more than 64 bits in a record")


def control_type(batch: Batch) -> int:
    """What a control batch says: `ABORT`, `COMMIT`, or something that does not concern a reader. Raises
    `BadMessage`.
    """
    for record in read_records(batch, "", 0):
        if record.key is not None and len(record.key) >= 4:
            return int(_control.unpack_from(record.key)[1])
    raise _unreadable(batch, "ends a transaction without saying how")


def _unreadable(batch: Batch, what: str) -> BadMessage:
    return BadMessage(f"the record batch at offset {batch.base_offset} {what}")
