"""What `on_rebalance` raises is why its consumer ends, in good order."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from pools import PoolClosed
from protocols import kafka
from protocols.kafka import TopicPartition
from protocols.kafka.protocol import group_api
from tests.protocols.kafka.fake_group import FakeGroup

REBALANCE = 27


class Unprepared(Exception):
    """Of the caller's own."""


class Raising:
    """Fails when it is told of this."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.told: list[kafka.Rebalance] = []

    def __call__(self, change: kafka.Rebalance) -> None:
        self.told.append(change)
        if getattr(change, self.what):
            raise Unprepared(self.what)


def ended(fake: FakeGroup, reply: Any, logs: list[Any]) -> None:
    """In good order, with the caller's error."""
    assert isinstance(reply.error, PoolClosed)
    assert isinstance(reply.error.__cause__, Unprepared)
    assert fake.consumer.closed.settled
    events = [entry["event"] for entry in logs]
    assert events.count("consumer failed") == 1
    assert "machine crashed" not in events


@pytest.mark.parametrize("assignor", ["range", "cooperative-sticky"])
def test_a_consumer_that_is_not_prepared_for_its_partitions(assignor: str) -> None:
    with capture_logs() as logs:
        fake = FakeGroup(on_rebalance=Raising("assigned"), assignor=assignor)
        reply = fake.reading()
        fake.advance(1)
    ended(fake, reply, logs)
    assert fake.order()[-1] == "LeaveGroup"  # the others need not wait for the session to time out


def test_a_consumer_that_cannot_give_its_partitions_back_has_stored_what_is_finished() -> None:
    told = Raising("revoked")
    with capture_logs() as logs:
        fake = FakeGroup(on_rebalance=told, assignor="range", auto_commit=60.0)
        fake.receive(3)
        reply = fake.reading(20)
        fake.run()
        fake.script(group_api.Heartbeat, group_api.HeartbeatResponse(0, REBALANCE))
        fake.advance(5)
    assert [bool(change.revoked) for change in told.told] == [False, True]
    ended(fake, reply, logs)
    assert fake.stored[TopicPartition("t", 0)] > 3
    assert fake.order()[-1] == "LeaveGroup"


def test_a_consumer_that_has_lost_its_partitions() -> None:
    with capture_logs() as logs:
        fake = FakeGroup(on_rebalance=Raising("lost"))
        fake.receive(3)
        reply = fake.reading(20)
        fake.run()
        fake.script(group_api.Heartbeat, group_api.HeartbeatResponse(0, 25))
        fake.advance(5)
    ended(fake, reply, logs)
