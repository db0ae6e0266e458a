"""What the simulation `kafka` has found, as small tests."""

from __future__ import annotations

import pytest

from protocols import kafka
from protocols.kafka.group_api import Heartbeat, HeartbeatResponse, OffsetCommit
from tests.protocols.kafka.fake_group import FakeGroup, committed

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
