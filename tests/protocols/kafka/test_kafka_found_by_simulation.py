"""What the simulation `kafka` has found, as small tests."""

from __future__ import annotations

from typing import Any

import pytest

from protocols import kafka
from protocols.kafka.protocol.api import ApiVersions
from protocols.kafka.protocol.fetch_api import Fetch, FetchedPartition, FetchedTopic, FetchResponse
from protocols.kafka.protocol.group_api import Heartbeat, HeartbeatResponse, OffsetCommit
from tests.protocols.kafka.fake_group import FakeGroup, committed
from tests.protocols.kafka.fake_kafka import HANG, RESET

NOT_LEADER = 6
LOADING = 14
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
    with pytest.raises(kafka.KafkaError, match="other members"):
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


def doubted(**options: Any) -> tuple[FakeGroup, list[kafka.Record]]:
    """All ten are stored; a commit before, of the first four, has had no answer and may still be executed."""
    fake = FakeGroup(auto_commit=1.0, heartbeat=40.0, **options)
    records = fake.receive(5)
    fake.script(OffsetCommit, RESET)
    fake.advance(1.9)
    (first, repeat) = fake.asked(OffsetCommit)
    assert places(first) == places(repeat) == {T0: 4}
    fake.receive(5)
    waits = fake.reading(1)
    fake.advance(1.0)
    waits.cancel()
    assert fake.stored == {T0: 10}
    return fake, records


def places(commit: OffsetCommit) -> dict[kafka.TopicPartition, int]:
    """What a commit stores."""
    return {
        kafka.TopicPartition(topic.topic, part.partition): part.offset
        for topic in commit.topics
        for part in topic.partitions
    }


def test_a_commit_that_is_executed_after_its_repeat_takes_nothing_back_for_long() -> None:
    fake, _ = doubted()
    for _ in range(3):  # however late it comes
        fake.stored[T0] = 4
        fake.advance(1.0)
        assert fake.stored == {T0: 10}


def test_a_commit_that_is_executed_late_takes_nothing_back_at_the_end() -> None:
    fake, _ = doubted()
    fake.stored[T0] = 4
    closed = fake.consumer.close()
    fake.advance(0.1)
    assert closed.settled
    assert fake.stored == {T0: 10}
    assert fake.order()[-2:] == ["OffsetCommit", "LeaveGroup"]


def test_a_commit_that_is_executed_late_takes_nothing_back_from_who_reads_on() -> None:
    fake, _ = doubted(assignor="range")
    fake.stored[T0] = 4
    fake.script(Heartbeat, HeartbeatResponse(0, REBALANCE_IN_PROGRESS))
    fake.advance(0.05)
    asked = len(fake.order())
    fake.advance(38.0)
    assert fake.changes[1].revoked == (T0,)
    assert "OffsetCommit" in fake.order()[asked : fake.order().index("JoinGroup", asked)]
    assert fake.stored == {T0: 10}


def test_a_generation_that_refuses_what_is_late_ends_the_doubt() -> None:
    fake, _ = doubted()
    fake.script(Heartbeat, HeartbeatResponse(0, REBALANCE_IN_PROGRESS))
    fake.advance(37.0)
    fake.stored[T0] = 4  # it came just before
    fake.advance(3.0)
    commits = fake.asked(OffsetCommit)
    assert commits[-1].generation == 2
    assert fake.stored == {T0: 10}
    fake.advance(30.0)
    assert len(fake.asked(OffsetCommit)) == len(commits)


@pytest.mark.parametrize("answer", [REBALANCE_IN_PROGRESS, LOADING])
def test_a_commit_that_was_answered_is_not_repeated_for_ever(answer: int) -> None:
    fake = FakeGroup(auto_commit=1.0, heartbeat=40.0)
    fake.script(OffsetCommit, lambda node, request: committed(request, answer))
    fake.receive(5)
    fake.advance(10.0)
    assert fake.stored == {T0: 4}
    assert len(fake.asked(OffsetCommit)) == 2


def test_who_goes_back_on_purpose_is_not_led_forward_by_a_doubt() -> None:
    fake, records = doubted()
    fake.consumer.seek(T0, 3)
    fake.script(OffsetCommit, *[lambda node, request: committed(request, LOADING)] * 5)
    stored = fake.consumer.commit(records[2])
    fake.advance(1.5)  # what is doubted is due while this is under way
    assert not stored.settled
    fake.advance(6.0)
    assert stored.error is None
    assert fake.stored == {T0: 3}


def test_what_the_program_stores_itself_is_left_to_it() -> None:
    fake = FakeGroup(auto_commit=None, heartbeat=40.0)
    records = fake.receive(5)
    fake.script(OffsetCommit, RESET)
    stored = fake.consumer.commit(records[3])
    fake.advance(30.0)
    assert stored.error is None
    assert len(fake.asked(OffsetCommit)) == 2
