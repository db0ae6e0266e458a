"""What the simulation `kafka` has found, as small tests."""

from __future__ import annotations

import pytest

from protocols import kafka
from protocols.kafka.protocol.api import ApiVersions
from protocols.kafka.protocol.fetch_api import Fetch, FetchedPartition, FetchedTopic, FetchResponse
from protocols.kafka.protocol.group_api import Heartbeat, HeartbeatResponse, OffsetCommit
from tests.protocols.kafka.fake_group import FakeGroup, committed
from tests.protocols.kafka.fake_kafka import HANG

NOT_LEADER = 6
REBALANCE_IN_PROGRESS = 27
UNKNOWN_MEMBER = 25
T0 = kafka.TopicPartition("t", 0)


def test_a_commit_that_waits_to_be_tried_again_when_everything_is_lost() -> None:
    fake = FakeGroup(auto_commit=None, heartbeat=3.0)
    fake.receive(1)
    fake.advance(2.95)
    fake.script(OffsetCommit, lambda node, request: committed(request, REBALANCE_IN_PROGRESS))
    fake.script(Heartbeat, HeartbeatResponse(0, UNKNOWN_MEMBER))
    reply = fake.consumer.commit()
    fake.advance(0.1)
    with pytest.raises(kafka.KafkaError, match="others"):
        reply.result()
    assert fake.consumer.assignment == (T0,)


def test_a_message_is_finished_though_its_partition_was_paused_meanwhile() -> None:
    fake = FakeGroup(messages=3, auto_commit=1.0, heartbeat=40.0)
    fake.receive(3)
    fake.consumer.pause(T0)
    fake.advance(1.0)
    assert fake.stored == {T0: 2}
    fake.reading(1)
    fake.advance(1.0)
    assert fake.stored == {T0: 3}


def test_a_broker_with_nothing_to_read_does_not_take_all_the_room_for_ever() -> None:
    fake = FakeGroup(messages=0, partitions=3, heartbeat=40.0, buffer_bytes=1000)

    def nothing(node: int, request: Fetch) -> FetchResponse:
        topics = [
            FetchedTopic(
                topic.topic,
                topic.id,
                [FetchedPartition(part.partition, 0, 0, 0, 0, None, -1, b"") for part in topic.partitions],
            )
            for topic in request.topics
        ]
        return FetchResponse(0, 0, 0, topics)

    fake.script(Fetch, *[nothing] * 9)
    fake.run()
    asked = [node for node, request in fake.seen if isinstance(request, Fetch)]
    assert asked in ([1, 2] * 5, [2, 1] * 5)


def test_a_broker_that_is_restarting_is_not_taken_for_something_else() -> None:
    fake = FakeGroup(heartbeat=40.0)

    def hang_up(node: int, request: ApiVersions) -> str:
        for sock in fake.kernel.sockets:
            if not sock.closed:
                sock.end()
        return HANG

    fake.script(ApiVersions, *[hang_up] * 2)
    fake.advance(2.0)
    assert fake.receive(1)[0].offset == 0


def test_what_is_being_given_back_cannot_be_resumed() -> None:
    fake = FakeGroup(assignor="range", auto_commit=100.0, heartbeat=3.0)
    fake.script(Fetch, None, *[lambda node, request: fake.fetched(request, error=NOT_LEADER)] * 20)
    fake.receive(2)
    fake.script(Heartbeat, HeartbeatResponse(0, REBALANCE_IN_PROGRESS))
    fake.script(OffsetCommit, HANG)
    fake.advance(3.0)
    assert fake.changes[-1].revoked == (T0,)
    fake.scripts[Fetch].clear()
    fake.consumer.resume(T0)
    waits = fake.reading(9)  # eight of them are there, or were
    fake.advance(5.0)
    assert fake.order()[-1] == "OffsetCommit"
    assert not waits.settled
    assert fake.consumer.statistics().delivered == 2


def test_what_was_stored_before_going_back_is_stored_again() -> None:
    fake = FakeGroup(auto_commit=1.0, heartbeat=40.0)
    first, *_ = fake.receive(10)
    waits = fake.reading(1)
    fake.advance(1.0)
    assert fake.stored == {T0: 10}
    waits.cancel()
    fake.consumer.seek(T0, 9)
    fake.consumer.commit(first)
    fake.run()
    assert fake.stored == {T0: 1}
    fake.advance(1.0)
    assert fake.stored == {T0: 9}
