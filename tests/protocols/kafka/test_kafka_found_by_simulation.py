"""What the simulation `kafka` has found, as small tests."""

from __future__ import annotations

import pytest

from protocols import kafka
from protocols.kafka.group_api import Heartbeat, HeartbeatResponse, OffsetCommit
from tests.protocols.kafka.fake_group import FakeGroup, committed

REBALANCE_IN_PROGRESS = 27
UNKNOWN_MEMBER = 25


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
    assert fake.consumer.assignment == (kafka.TopicPartition("t", 0),)
