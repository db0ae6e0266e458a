"""Some kilobytes that hold many thousands of messages: they are made a few at a time."""

from __future__ import annotations

import random
import tracemalloc
from functools import cache

import pytest

from protocols.kafka.consumer.positions import Position, ReadAhead
from protocols.kafka.group.assignors import TopicPartition
from protocols.kafka.records.batch import append_record, batches, read_records, seal
from protocols.kafka.records.compression import codec_named

MESSAGES = 60_000


@cache
def bomb() -> bytes:
    """A batch of `MESSAGES` empty messages, in some kilobytes."""
    records = bytearray()
    for number in range(MESSAGES):
        append_record(records, number, 0, None, None)
    codec = codec_named("zstd")
    return seal(codec.compress(records), codec.code, MESSAGES, 0, 0)


@pytest.mark.no_cover
def test_it_is_read_piece_by_piece() -> None:
    ahead = ReadAhead()
    position = Position(TopicPartition("t", 0), random.Random(0), 5)
    data = bomb()
    assert ahead.add(position, data)
    seen = position.delivered
    tracemalloc.start()
    while (taken := ahead.take()) is not None:
        _, records, behind = taken
        assert [records[0].offset, records[-1].offset + 1] == [seen, behind]
        assert len(records) == behind - seen
        seen = position.delivered = behind
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == MESSAGES
    assert peak < 100 * MESSAGES  # an object for each at once takes more
    assert (len(ahead), ahead.weight) == (0, 0)


@pytest.mark.no_cover
def test_it_is_the_same_at_once() -> None:
    (batch,) = batches(bomb())
    assert [record.offset for record in read_records(batch, "t", 0)] == list(range(MESSAGES))
    assert len(read_records(batch, "t", 0, MESSAGES - 3)) == 3
