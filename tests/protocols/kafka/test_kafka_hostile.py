"""Brokers that answer what no broker would: every message settles all the same, nothing crashes or grows."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.testing import FakeSocket
from protocols import kafka
from protocols.kafka.protocol import api, fetch_api, group_api
from tests.protocols.kafka.fake_group import FakeGroup
from tests.protocols.kafka.fake_kafka import Connection, FakeKafka, written

Answerer = Callable[[type[Any], bytes], bytes]

INT8 = st.integers(-128, 127)
INT16 = st.integers(-(1 << 15), (1 << 15) - 1)
INT32 = st.one_of(st.integers(-2, 3), st.integers(-(1 << 31), (1 << 31) - 1))
INT64 = st.one_of(st.integers(-2, 3), st.integers(-(1 << 63), (1 << 63) - 1))
TEXT = st.sampled_from(["", "t", "192.0.2.1", "\0", "x" * 300, "a.b..c", "ü"])


class Hostile(FakeKafka):
    """Its answers pass through `twist` on their way."""

    def __init__(self, twist: Answerer | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.twist = twist

    def _serve(self) -> bool:
        twist, usual = self.twist, Connection.answer
        if twist is None:
            return super()._serve()

        def twisted(self: Connection, kind: Any, version: int, correlation: int, answer: Any) -> bytes:
            return twist(kind, usual(self, kind, version, correlation, answer))

        try:
            Connection.answer = twisted  # type: ignore[method-assign]
            return super()._serve()
        finally:
            Connection.answer = usual  # type: ignore[method-assign]

    def comes_to_an_end(self, *replies: Any) -> None:
        """Everything settles; afterwards the producer works with good brokers."""
        self.advance(40)
        assert all(reply.settled for reply in replies)
        assert self.add_up()
        self.twist = None
        self.scripts.clear()
        self.reset(1)
        self.advance(20)
        (again,) = self.send(b"again")
        self.advance(20)
        assert again.error is None
        assert self.loop.statistics().crashed == 0
        assert not self.pool.waiting


def garbling(data: st.DataObject, victims: Any) -> Answerer:
    """A twist: the first few answers to one kind of request are not what they were."""
    victim = data.draw(st.sampled_from(victims))
    left = data.draw(st.integers(1, 4))

    def twist(kind: Any, frame: bytes) -> bytes:
        nonlocal left
        if kind is not victim or left == 0:
            return frame
        left -= 1
        how = data.draw(st.sampled_from(["flip", "cut", "body", "add", "size"]))
        at = data.draw(st.integers(0, len(frame) - 1))
        if how == "flip":
            return frame[:at] + bytes([frame[at] ^ data.draw(st.integers(1, 255))]) + frame[at + 1 :]
        if how == "cut":
            return frame[:at]
        if how == "body":  # well framed, and nothing behind the correlation id is as it should be
            body = data.draw(st.binary(max_size=80))
            return struct.pack(">i", 4 + len(body)) + frame[4:8] + body
        if how == "add":
            return frame + data.draw(st.binary(min_size=1, max_size=20))
        return struct.pack(">i", data.draw(INT32)) + frame[4:]

    return twist


@pytest.mark.no_cover
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_garbled_answers(data: st.DataObject) -> None:
    fake = Hostile(garbling(data, [api.ApiVersions, api.Metadata, api.InitProducerId, api.Produce]))
    replies = fake.send(b"one", b"two")
    fake.advance(1)
    fake.comes_to_an_end(*replies, *fake.send(b"three"))


READING = [
    *(group_api.JoinGroup, group_api.SyncGroup, group_api.Heartbeat, group_api.OffsetFetch),
    *(group_api.OffsetCommit, fetch_api.ListOffsets, fetch_api.Fetch, api.FindCoordinator, api.Metadata),
]


class HostileGroup(Hostile, FakeGroup):
    """The same, with a consumer in a group."""


@pytest.mark.no_cover
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_garbled_answers_for_a_consumer(data: st.DataObject) -> None:
    fake = HostileGroup(garbling(data, READING))
    reading = fake.reading(10)
    fake.advance(100)
    if reading.settled and reading.error is None:
        offsets = [record.offset for record in reading.result()]
        assert offsets == sorted(set(offsets))
    closed = fake.consumer.close()
    fake.advance(100)
    assert closed.settled
    assert fake.loop.statistics().crashed == 0


BROKERS = st.lists(st.builds(api.BrokerAddress, INT32, TEXT, INT32, st.none()), max_size=3)
PARTITIONS = st.lists(
    st.builds(api.PartitionMetadata, INT16, INT32, INT32, INT32, st.just([]), st.just([]), st.just([])),
    max_size=4,
)
TOPICS = st.lists(
    st.builds(
        api.TopicMetadata,
        st.one_of(st.just(0), INT16),
        TEXT,
        st.just(bytes(16)),
        st.booleans(),
        PARTITIONS,
        INT32,
    ),
    max_size=3,
)
METADATA = st.builds(api.MetadataResponse, INT32, BROKERS, st.none(), INT32, TOPICS, INT32)
IDENTITY = st.builds(api.InitProducerIdResponse, INT32, st.one_of(st.just(0), INT16), INT64, INT16)
ERRORS = st.lists(st.builds(api.RecordError, INT32, st.one_of(st.none(), TEXT)), max_size=2)
PRODUCED = st.builds(
    api.ProduceResponse,
    st.lists(
        st.builds(
            api.ProduceTopicResponse,
            TEXT,
            st.lists(
                st.builds(
                    api.ProducePartitionResponse,
                    st.integers(0, 1),
                    st.one_of(st.integers(-1, 120), INT16),
                    INT64,
                    INT64,
                    INT64,
                    ERRORS,
                    st.none(),
                ),
                max_size=3,
            ),
        ),
        max_size=3,
    ),
    INT32,
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(METADATA, min_size=1, max_size=3), st.lists(IDENTITY, max_size=2), st.lists(PRODUCED, max_size=3)
)
def test_answers_that_make_no_sense(metadata: Any, identities: Any, produced: Any) -> None:
    fake = Hostile()
    fake.script(api.Metadata, *metadata)
    fake.script(api.InitProducerId, *identities)
    fake.script(api.Produce, *produced)
    replies = fake.send(b"one", b"two", key=b"k")
    fake.advance(1)
    fake.comes_to_an_end(*replies, *fake.send(b"three"))


def test_a_topic_that_is_made_anew_with_fewer_partitions() -> None:
    fake = FakeKafka(topics={"t": [1, 1, 1]})
    fake.send(*[b"x" * 1000] * 100)
    fake.run()
    fake.down.add(1)
    fake.reset(1)
    fake.advance(1)
    early = [fake.send(b"x", key=b"%d" % number)[0] for number in range(20)]
    (named,) = fake.send(b"x", partition=2)
    fake.advance(1)
    fake.topics["t"] = [1]
    fake.down.clear()
    fake.advance(5)
    late = fake.send(b"free") + [fake.send(b"x", key=b"%d" % number)[0] for number in range(20)]
    fake.advance(1)
    assert {reply.result().partition for reply in early + late} == {0}
    assert isinstance(named.error, kafka.NoSuchTopic)
    assert fake.add_up()


@pytest.mark.no_cover
def test_a_topic_of_a_hundred_thousand_partitions() -> None:
    fake = FakeKafka(nodes=2, topics={"t": [1 + number % 2 for number in range(100_000)]})
    replies = (
        fake.send(*[b"x"] * 100, key=b"user-7") + fake.send(b"x", b"y") + fake.send(b"z", partition=99_999)
    )
    fake.run()
    assert all(reply.result().offset >= 0 for reply in replies)
    assert replies[-1].result().partition == 99_999


@pytest.mark.parametrize(
    ("node", "host", "port"),
    [(1, "", 9092), (1, "\0", 9092), (1, "x" * 300, 9092), (1, "192.0.2.1", 99999), (1, "192.0.2.1", -1)],
)
def test_a_broker_at_an_address_that_is_none(node: int, host: str, port: int) -> None:
    fake = Hostile()
    answer = fake.metadata(["t"])
    answer.brokers[0] = api.BrokerAddress(node, host, port, None)
    fake.script(api.Metadata, *[answer] * 10)
    (reply,) = fake.send(b"x", timeout=0.5)
    fake.comes_to_an_end(reply)


def test_an_identity_that_is_none_is_not_taken() -> None:
    fake = FakeKafka()
    fake.script(api.InitProducerId, api.InitProducerIdResponse(0, 0, -1, -1))
    (reply,) = fake.send(b"x")
    fake.advance(5)
    assert reply.error is None
    assert all(fake.sequences)
    assert [producer for producer, _, _ in fake.sequences] == [7001]


def test_an_answer_for_another_partition_is_none() -> None:
    fake = Hostile()
    other = api.ProduceTopicResponse("u", [written(0, 0, 77), written(1, 0, 78)])
    fake.script(api.Produce, api.ProduceResponse([other], 0))
    (reply,) = fake.send(b"x")
    fake.advance(5)
    assert reply.result().offset == 0
    fake.comes_to_an_end(reply)


def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    fake = FakeKafka()
    fake.send(b"x")
    fake.run()
    sockets: list[FakeSocket] = [sock for sock in fake.kernel.sockets if not sock.closed]
    for sock in sockets:
        sock.arrive(struct.pack(">ii", 4, 12345))
    fake.run()
    assert all(sock.closed for sock in sockets)
    (reply,) = fake.send(b"y")
    fake.advance(5)
    assert reply.error is None


def test_an_answer_without_an_end_is_not_gathered() -> None:
    fake = FakeKafka()
    fake.run()
    (sock,) = [sock for sock in fake.kernel.sockets if not sock.closed]
    (reply,) = fake.send(b"x", timeout=2.0)
    fake.script(api.Produce, struct.pack(">ii", (100 << 20) + 1, 1))
    fake.advance(1)
    assert fake.loop.statistics().crashed == 0
    fake.advance(5)
    assert reply.settled
    assert isinstance(reply.error, kafka.BadMessage | type(None)) or "written" in str(reply.error)
    assert sock is not None
