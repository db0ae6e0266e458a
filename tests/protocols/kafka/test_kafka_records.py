"""Record batches: there and back, against an independent implementation, real brokers, and garbage."""

from __future__ import annotations

import struct
from typing import Any

import google_crc32c
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from protocols.kafka.errors import BadMessage
from protocols.kafka.records.batch import (
    ABORT,
    COMMIT,
    Batch,
    Record,
    append_record,
    batches,
    control_type,
    read_records,
    seal,
)
from protocols.kafka.records.compression import CODECS, Codec

NOW = 1_700_000_000_000
every_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
maybe_bytes = st.none() | st.binary(max_size=40)
headers = st.lists(st.tuples(st.text(max_size=8), maybe_bytes), max_size=4).map(tuple)
messages = st.lists(
    st.tuples(st.integers(-(2**40), 2**40), maybe_bytes, maybe_bytes, headers), min_size=1, max_size=20
)
Given = list[tuple[int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]]
LONG = b"v" * 20_000
PLAIN: Given = [
    (0, b"key", b"value", ()),
    (1, None, b"v" * 100, ()),
    (-5, b"k" * 100, None, (("name", b"it"), ("none", None))),
    (90_000, b"", b"", ()),
    (20_000_000_000, LONG, LONG, ()),
]


def batch_of(given: Given, codec: Codec = CODECS[0], **options: Any) -> bytes:
    out = bytearray()
    for index, (delta, key, value, more) in enumerate(given):
        append_record(out, index, delta, key, value, more)
    latest = NOW + max(delta for delta, *_ in given)
    return seal(codec.compress(out), codec.code, len(given), NOW, latest, **options)


def at_offset(data: bytes, base: int) -> bytes:
    """As a broker stores it; the offset is outside of the checksum."""
    return struct.pack(">q", base) + data[8:]


def with_checksum(data: bytes) -> bytes:
    return data[:17] + struct.pack(">I", google_crc32c.value(data[21:])) + data[21:]


def changed(data: bytes, at: int, form: str, value: int) -> bytes:
    """A header's field set to something else, with the right checksum."""
    new = struct.pack(form, value)
    return with_checksum(data[:at] + new + data[at + len(new) :])


def read(data: bytes, first: int = 0) -> list[Record]:
    return [record for batch in batches(data) for record in read_records(batch, "t", 3, first)]


def as_given(records: list[Record]) -> Given:
    return [(record.timestamp - NOW, record.key, record.value, record.headers) for record in records]


@every_codec
@given(given=messages)
def test_what_is_written_is_read(codec: Codec, given: Given) -> None:
    records = read(batch_of(given, codec))
    assert as_given(records) == given
    assert [record.offset for record in records] == list(range(len(given)))
    assert {(record.topic, record.partition) for record in records} == {("t", 3)}


@every_codec
def test_another_client_reads_what_is_written_here(codec: Codec) -> None:
    data = batch_of(PLAIN, codec, producer_id=7, producer_epoch=2, first_sequence=9, transactional=True)
    theirs = MemoryRecords(data).next_batch()
    assert theirs.validate_crc()
    assert (theirs.producer_id, theirs.producer_epoch, theirs.base_sequence) == (7, 2, 9)
    assert theirs.is_transactional
    assert not theirs.is_control_batch
    assert [
        (record.timestamp - NOW, record.key, record.value, tuple(record.headers)) for record in theirs
    ] == PLAIN


@every_codec
def test_what_another_client_writes_is_read_here(codec: Codec) -> None:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec.code,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )
    for index, (delta, key, value, more) in enumerate(PLAIN):
        builder.append(index, NOW + delta, key, value, list(more))
    assert as_given(read(bytes(builder.build()))) == PLAIN


def test_a_batch_is_sealed_again_with_another_sequence() -> None:
    out = bytearray()
    append_record(out, 0, 0, None, b"v")
    first, second = (seal(out, 0, 1, NOW, NOW, 5, 1, sequence) for sequence in (10, 11))
    (one,), (two,) = batches(first), batches(second)
    assert (one.base_sequence, two.base_sequence) == (10, 11)
    assert (one.producer_id, one.producer_epoch) == (5, 1)
    assert one.payload == two.payload


def test_several_batches_and_the_part_that_a_broker_has_cut() -> None:
    one, two = batch_of(PLAIN[:2]), at_offset(batch_of(PLAIN[:3]), 100)
    for cut in range(len(two)):
        assert [record.offset for record in read(one + two[:cut])] == [0, 1]
    assert [record.offset for record in read(one + two)] == [0, 1, 100, 101, 102]


def test_reading_begins_in_the_middle_of_a_batch() -> None:
    assert [record.offset for record in read(at_offset(batch_of(PLAIN), 10), first=12)] == [12, 13, 14]
    assert read(at_offset(batch_of(PLAIN), 10), first=15) == []


def test_a_batch_of_very_many_records() -> None:
    out = bytearray()
    for delta in range(20_000):
        append_record(out, delta, delta, None, b"%d" % delta)
    data = at_offset(seal(out, 0, 20_000, NOW, NOW), 7)
    records = read(data)
    assert [record.offset for record in records] == list(range(7, 20_007))
    assert [record.value for record in records] == [b"%d" % delta for delta in range(20_000)]
    sparse = read(changed(data, 23, ">i", 20_001))  # the last one was removed
    assert sparse == records


def test_a_compacted_batch_has_gaps() -> None:
    out = bytearray()
    for delta in (1, 7, 90):
        append_record(out, delta, 0, b"k", b"v")
    data = changed(seal(out, 0, 3, NOW, NOW), 23, ">i", 120)
    assert [record.offset for record in read(data)] == [1, 7, 90]
    (batch,) = batches(data)
    assert batch.last_offset == 120
    empty = changed(seal(b"", 0, 1, NOW, NOW), 57, ">i", 0)
    assert read(empty) == []


def test_the_brokers_time_goes_for_all_if_the_topic_says_so() -> None:
    data = changed(batch_of(PLAIN), 21, ">h", 1 << 3)
    assert {record.timestamp for record in read(data)} == {NOW + 20_000_000_000}


def control(kind: int, *, key: bytes | None = None) -> Batch:
    out = bytearray()
    append_record(out, 0, 0, struct.pack(">hh", 0, kind) if key is None else key, b"\0" * 6)
    (batch,) = batches(changed(seal(out, 0, 1, NOW, NOW, 4, 0), 21, ">h", 0x30))
    return batch


def test_control_batches_end_transactions() -> None:
    assert (control_type(control(ABORT)), control_type(control(COMMIT))) == (ABORT, COMMIT)
    assert control(ABORT).control
    assert control(ABORT).transactional
    with pytest.raises(BadMessage, match="without saying how"):
        control_type(control(ABORT, key=b""))


# -- what is no batch --------------------------------------------------------------------------------------


def test_every_changed_bit_is_noticed() -> None:
    data = batch_of(PLAIN[:3])
    for at in range(16, len(data)):
        garbled = data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]
        with pytest.raises(BadMessage):
            read(garbled)


def test_sizes_that_do_not_fit() -> None:
    data = batch_of(PLAIN[:3])
    for garbled in (
        changed(data, 57, ">i", 4),  # more records than the header's last offset allows
        changed(data, 57, ">i", 2),  # bytes are left over
        changed(changed(data, 57, ">i", 3), 23, ">i", -1),
        data[:8] + struct.pack(">i", 40) + data[12:],
        changed(changed(data, 23, ">i", 9), 57, ">i", 9),
    ):
        with pytest.raises(BadMessage):
            read(with_checksum(garbled))


def test_an_offset_behind_the_batchs_end() -> None:
    out = bytearray()
    append_record(out, 5, 0, None, None)
    with pytest.raises(BadMessage, match="behind its end"):
        read(changed(seal(out, 0, 1, NOW, NOW), 23, ">i", 3))


@given(payload=st.binary(max_size=60), count=st.integers(0, 5))
def test_garbage_as_records_is_a_protocol_error_or_records(payload: bytes, count: int) -> None:
    try:
        read(changed(changed(seal(payload, 0, 1, NOW, NOW), 57, ">i", count), 23, ">i", max(count - 1, 0)))
    except BadMessage:
        pass


@every_codec
def test_a_payload_cut_at_any_point_is_a_protocol_error(codec: Codec) -> None:
    out = bytearray()
    for index, (delta, key, value, more) in enumerate(PLAIN[:4]):
        append_record(out, index, delta, key, value, more)
    for cut in range(len(out)):
        with pytest.raises(BadMessage):
            read(seal(codec.compress(bytes(out[:cut])), codec.code, 4, NOW, NOW))


def test_old_formats_say_what_to_do() -> None:
    data = batch_of(PLAIN[:1])
    with pytest.raises(BadMessage, match=r"before Kafka 0\.11 has to be written again"):
        read(data[:16] + b"\x01" + data[17:])


def test_a_number_that_never_ends() -> None:
    with pytest.raises(BadMessage, match="64 bits"):
        read(seal(b"\xff" * 30, 0, 1, NOW, NOW))
