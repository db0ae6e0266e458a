"""Consumers against fake brokers: heartbeats by a clock that stands, and whatever a broker may answer."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from actors import ChannelClosed, DeadlineExceeded, Misuse
from pools import PoolClosed
from protocols import kafka
from protocols.kafka import TopicPartition
from protocols.kafka.protocol import api
from protocols.kafka.protocol.fetch_api import Fetch, ListOffsets
from protocols.kafka.protocol.group_api import (
    Heartbeat,
    HeartbeatResponse,
    JoinGroup,
    LeaveGroup,
    OffsetCommit,
    OffsetFetch,
    SyncGroup,
)
from tests.protocols.kafka.fake_group import FakeGroup, batch, committed
from tests.protocols.kafka.fake_kafka import HANG, RESET

T0 = TopicPartition("t", 0)
PATIENCE = 11.0  # with a fetch at the end of a partition, which the fake broker never answers
BEGINNING = ["JoinGroup", "SyncGroup", "OffsetFetch"]


def offsets(records: list[kafka.Record]) -> list[int]:
    return [record.offset for record in records]


def failing(code: int) -> Any:
    return lambda node, request: committed(request, code)


# -- the group ---------------------------------------------------------------------------------------------


def test_from_joining_to_leaving() -> None:
    fake = FakeGroup()
    assert offsets(fake.receive(3)) == [0, 1, 2]
    assert fake.order() == BEGINNING
    assert fake.consumer.subscribed.settled
    assert fake.changes == [kafka.Rebalance(assigned=(T0,))]
    closed = fake.consumer.close()
    fake.run()
    assert closed.settled
    assert fake.order() == [*BEGINNING, "OffsetCommit", "LeaveGroup"]
    assert fake.stored == {T0: 3}


def test_it_says_that_it_is_there_and_stores_what_is_finished_by_the_clock() -> None:
    fake = FakeGroup(heartbeat=3.0, auto_commit=5.0)
    fake.receive(4)
    fake.advance(2.9)
    assert fake.order() == BEGINNING
    fake.advance(0.1)
    assert fake.order() == [*BEGINNING, "Heartbeat"]
    fake.advance(2.0)
    assert fake.stored == {T0: 3}  # the fourth is still being worked on
    fake.advance(4.0)
    assert fake.order() == [*BEGINNING, "Heartbeat", "OffsetCommit", "Heartbeat", "Heartbeat"]
    fake.advance(100.0)
    assert fake.order().count("OffsetCommit") == 1  # nothing new is finished


@pytest.mark.parametrize("assignor", ["range", "cooperative-sticky"])
def test_what_is_finished_is_stored_before_it_is_given_back(assignor: str) -> None:
    fake = FakeGroup(assignor=assignor)
    fake.receive(4)
    fake.script(Heartbeat, HeartbeatResponse(0, 27))
    fake.advance(3.0)
    if assignor == "range":  # everything is given back, and read again from what is stored
        assert fake.order()[3:] == ["Heartbeat", "OffsetCommit", *BEGINNING]
        assert fake.stored == {T0: 3}
        assert fake.changes[1:] == [kafka.Rebalance(revoked=(T0,)), kafka.Rebalance(assigned=(T0,))]
        fake.advance(PATIENCE)
        assert offsets(fake.receive(2)) == [3, 4]
    else:
        assert fake.order()[3:] == ["Heartbeat", "JoinGroup", "SyncGroup"]
        assert fake.changes == [kafka.Rebalance(assigned=(T0,))]
        assert offsets(fake.receive(2)) == [4, 5]
    assert fake.consumer.statistics().rebalances == 2


def test_who_is_expelled_has_lost_everything_and_stores_nothing() -> None:
    fake = FakeGroup()
    fake.receive(4)
    fake.script(Heartbeat, HeartbeatResponse(0, 25))
    with structlog.testing.capture_logs() as logs:
        fake.advance(3.0)
    assert fake.order()[3:] == ["Heartbeat", *BEGINNING]
    assert fake.changes[1:] == [kafka.Rebalance(lost=(T0,)), kafka.Rebalance(assigned=(T0,))]
    assert "partitions lost" in [entry["event"] for entry in logs]
    fake.advance(PATIENCE)
    assert offsets(fake.receive(1)) == [0]


@pytest.mark.parametrize("code", [25, 27])
def test_a_transaction_over_what_is_taken_away_meanwhile_is_one_of_the_old_generation(code: int) -> None:
    fake = FakeGroup(assignor="range", auto_commit=None)
    fake.receive(4)
    before = fake.consumer.membership
    fake.script(Heartbeat, HeartbeatResponse(0, code))
    fake.advance(3.0)
    assert fake.consumer.statistics().generation == before.generation + 1
    assert fake.consumer.membership == before  # which the broker refuses
    assert fake.consumer.positions() == {T0: 4}
    fake.advance(PATIENCE)
    assert offsets(fake.receive(1)) == [0]
    assert fake.consumer.membership.generation == before.generation + 1


def test_the_coordinator_moves() -> None:
    fake = FakeGroup()
    fake.receive(1)
    fake.script(Heartbeat, HeartbeatResponse(0, 16))
    fake.advance(3.5)
    assert len(fake.asked(api.FindCoordinator)) == 2
    assert fake.order()[3:] == ["Heartbeat", "Heartbeat"]
    assert offsets(fake.receive(2)) == [1, 2]


def test_no_coordinator_is_asked_for_again_and_told_of_rarely() -> None:
    fake = FakeGroup()
    gone = api.FindCoordinatorResponse(0, 15, None, -1, "", -1)
    fake.script(api.FindCoordinator, *[gone] * 10)
    with structlog.testing.capture_logs() as logs:
        fake.advance(10.0)
    assert [entry["failures"] for entry in logs if entry["event"] == "no coordinator"] == [4, 8]
    assert offsets(fake.receive(1)) == [0]
    refused = FakeGroup()
    refused.script(api.FindCoordinator, api.FindCoordinatorResponse(0, 30, None, -1, "", -1))
    reply = refused.reading()
    refused.run()
    assert "give this user an ACL for the group" in str(reply.error)


def test_leaving_while_it_joins() -> None:
    fake = FakeGroup()
    fake.receive(1)
    fake.script(Heartbeat, HeartbeatResponse(0, 27))
    fake.script(JoinGroup, HANG)  # another member lets everybody wait
    fake.advance(3.0)
    closed = fake.consumer.close()
    fake.run()
    assert closed.settled
    assert len(fake.asked(LeaveGroup)) == 1


def test_new_partitions_of_a_topic_make_the_leader_decide_anew() -> None:
    fake = FakeGroup(metadata_age=10.0)
    fake.receive(1)
    fake.topics["t"] = [1, 2]
    fake.advance(10.5)
    assert set(fake.consumer.assignment) == {T0, TopicPartition("t", 1)}


def test_partitions_that_come_while_the_leader_decides_are_not_forgotten() -> None:
    fake = FakeGroup(metadata_age=10.0, heartbeat=3.0)
    fake.receive(1)
    fake.topics["t"] = [1, 2]
    fake.script(SyncGroup, HANG)
    fake.advance(10.5)  # two are known, and the leader has decided, but its answer is late
    fake.topics["t"] = [1, 2, 1]
    fake.advance(100.0)
    assert len(fake.consumer.assignment) == 3


# -- commits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [14, 15, 16, 27])
def test_a_commit_is_tried_again_while_that_can_help(code: int) -> None:
    fake = FakeGroup(auto_commit=None)
    records = fake.receive(2)
    fake.script(OffsetCommit, failing(code), failing(code), RESET)
    reply = fake.consumer.commit(*records)
    fake.advance(2.0)
    assert reply.settled
    assert reply.error is None
    assert fake.stored == {T0: 2}
    assert fake.consumer.statistics().commits == 1


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (22, "given the partitions to other members"),
        (25, "to other members"),
        (28, "offset.metadata"),
        (30, "ACL"),
    ],
)
def test_a_commit_that_is_refused_says_why(code: int, text: str) -> None:
    fake = FakeGroup(auto_commit=None)
    fake.receive(2)
    fake.script(OffsetCommit, failing(code))
    reply = fake.consumer.commit()
    fake.run()
    assert isinstance(reply.error, kafka.KafkaError)
    assert reply.error.code == code
    assert text in str(reply.error)
    assert fake.consumer.statistics().commits_failed == 1


def test_commits_go_together_and_the_later_one_wins() -> None:
    fake = FakeGroup(auto_commit=None)
    first, second = fake.receive(2)
    fake.script(OffsetCommit, lambda node, request: committed(request))
    replies = [fake.consumer.commit(first)]
    fake.loop.tick(0)
    replies += [fake.consumer.commit(first), fake.consumer.commit(second)]
    fake.run()
    assert all(reply.error is None for reply in replies)
    assert [request.topics[0].partitions[0].offset for request in fake.asked(OffsetCommit)] == [1, 2]


def test_a_commit_has_its_time() -> None:
    fake = FakeGroup(auto_commit=None, request_timeout=2.0, heartbeat=40.0)
    fake.receive(2)
    fake.script(OffsetCommit, *[failing(14)] * 50)
    reply = fake.consumer.commit()
    fake.advance(4.0)
    assert isinstance(reply.error, DeadlineExceeded)
    assert "not stored within 2 s" in str(reply.error)


def test_what_is_not_held_any_more_is_not_stored() -> None:
    fake = FakeGroup(auto_commit=None)
    records = fake.receive(2)
    fake.script(Heartbeat, HeartbeatResponse(0, 25))
    fake.script(JoinGroup, HANG)
    fake.advance(3.0)
    reply = fake.consumer.commit(*records)
    fake.run()
    assert isinstance(reply.error, kafka.KafkaError)
    assert reply.error.name == "ILLEGAL_GENERATION"
    assert fake.asked(OffsetCommit) == []


def test_what_could_not_be_stored_by_itself_is_told_of() -> None:
    fake = FakeGroup(auto_commit=1.0)
    fake.receive(2)
    fake.script(OffsetCommit, failing(28))
    with structlog.testing.capture_logs() as logs:
        fake.advance(1.0)
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["offsets not stored"]
    fake.advance(1.0)
    assert fake.stored == {T0: 1}


# -- where to begin ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [14, 16, 88])
def test_stored_offsets_are_asked_for_until_they_are_told(code: int) -> None:
    for whole in (True, False):
        fake = FakeGroup()
        fake.stored[T0] = 7

        def refuse(node: int, request: Any, fake: FakeGroup = fake, whole: bool = whole) -> Any:
            return fake.fetched_offsets(request, code if whole else 0, 0 if whole else code)

        fake.script(OffsetFetch, refuse, refuse, RESET)
        fake.advance(2.0)
        assert offsets(fake.receive(1)) == [7]


def test_stored_offsets_that_may_not_be_seen() -> None:
    fake = FakeGroup()
    fake.script(OffsetFetch, lambda node, request: fake.fetched_offsets(request, 30))
    reply = fake.reading()
    fake.run()
    assert isinstance(reply.error, kafka.KafkaError)
    assert reply.error.name == "GROUP_AUTHORIZATION_FAILED"


@pytest.mark.parametrize("answer", [6, 78, RESET])
def test_where_a_partition_begins_is_asked_until_it_is_told(answer: Any) -> None:
    fake = FakeGroup()
    refuse = answer if answer == RESET else lambda node, request: fake.listed(request, answer)
    fake.script(ListOffsets, refuse, refuse)
    fake.advance(2.0)
    assert offsets(fake.receive(1)) == [0]
    assert len(fake.asked(ListOffsets)) == 3


def test_the_end_is_where_it_begins_by_default() -> None:
    fake = FakeGroup(messages=5, auto_offset_reset="latest")
    fake.run()
    assert fake.consumer.positions() == {T0: 5}


# -- messages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [3, 5, 6, 9, 56, 74, 75, 78])
def test_a_leader_that_is_none_is_looked_for(code: int) -> None:
    fake = FakeGroup()
    refuse = [lambda node, request: fake.fetched(request, code)] * 4
    fake.script(Fetch, *refuse)
    with structlog.testing.capture_logs() as logs:
        fake.advance(5.0)
    assert offsets(fake.receive(2)) == [0, 1]
    told = [entry["failures"] for entry in logs if entry["event"] == "partition cannot be read"]
    assert told == [2, 4] or told == [2]  # at most one line a second


def test_brokers_that_hang_up_and_answers_that_are_late() -> None:
    fake = FakeGroup(request_timeout=2.0, heartbeat=40.0)
    fake.script(Fetch, RESET, HANG)
    with structlog.testing.capture_logs() as logs:
        fake.advance(5.0)
    assert offsets(fake.receive(1)) == [0]
    assert "fetch failed" in [entry["event"] for entry in logs]


def test_an_error_for_all_of_a_fetch() -> None:
    fake = FakeGroup()
    fake.script(Fetch, api_error := Fetch.api.response(0, 70, 0, []), api_error)
    fake.advance(2.0)
    assert offsets(fake.receive(1)) == [0]


def test_no_right_to_read_ends_it() -> None:
    fake = FakeGroup()
    fake.script(Fetch, lambda node, request: fake.fetched(request, 29))
    with structlog.testing.capture_logs() as logs:
        reply = fake.reading()
        fake.run()
    assert "TOPIC_AUTHORIZATION_FAILED (give this user an ACL for the topic)" in str(reply.error)
    assert [entry["event"] for entry in logs].count("consumer failed") == 1
    with pytest.raises(kafka.KafkaError):
        fake.receive()
    assert fake.consumer.closed.settled


@pytest.mark.parametrize("kind", [Fetch, ListOffsets, JoinGroup, OffsetFetch, api.FindCoordinator, Heartbeat])
def test_a_broker_that_does_not_speak_what_is_needed_ends_it(kind: Any) -> None:
    fake = FakeGroup()
    del fake.versions[kind.api.key]
    reply = fake.reading(20)
    fake.advance(3.0)
    assert isinstance(reply.error, kafka.BrokerTooOld)
    assert kind.api.name in str(reply.error)


def test_a_rebalance_function_that_fails_ends_it_with_that_cause() -> None:
    fake = FakeGroup()
    other = fake.loop.spawn(
        kafka.consumer("192.0.2.1:9092", "t", group="h", on_rebalance=lambda change: 1 / 0)
    )
    fake.run()
    assert isinstance(other.subscribed.error, PoolClosed)
    assert isinstance(other.subscribed.error.__cause__, ZeroDivisionError)


def test_damaged_messages_end_it_without_a_word_of_them() -> None:
    good = batch(0, 3)
    for damaged in (good[:-1] + b"\xff", good[:16] + b"\x01" + good[17:], good[:8] + bytes(4) + good[12:]):
        fake = FakeGroup()
        fake.script(
            Fetch, lambda node, request, fake=fake, damaged=damaged: fake.fetched(request, 0, damaged)
        )
        reply = fake.reading()
        fake.run()
        assert isinstance(reply.error, kafka.BadMessage)


def test_part_of_a_batch_is_asked_for_again() -> None:
    fake = FakeGroup()
    fake.script(Fetch, lambda node, request: fake.fetched(request, 0, batch(0, 9)[:-5]))
    assert offsets(fake.receive(10)) == list(range(10))
    assert [request.topics[0].partitions[0].offset for request in fake.asked(Fetch)] == [0, 0, 10]


def test_partitions_of_several_brokers_are_asked_for_there() -> None:
    fake = FakeGroup(partitions=4)
    assert len(fake.receive(40)) == 40
    asked = {
        (node, part.partition)
        for node, fetch in fake.seen
        if isinstance(fetch, Fetch)
        for topic in fetch.topics
        for part in topic.partitions
    }
    assert asked == {(1, 0), (2, 1), (1, 2), (2, 3)}


# -- the end -----------------------------------------------------------------------------------------------


def test_a_drain_lets_the_reader_finish_what_it_is_at() -> None:
    fake = FakeGroup()
    fake.receive(3)
    fake.loop.drain(30.0)
    fake.run()
    assert fake.asked(OffsetCommit) == []
    reply = fake.reading()  # back for more: the third is finished
    fake.run()
    assert isinstance(reply.error, ChannelClosed)
    assert fake.stored == {T0: 3}
    assert fake.consumer.closed.settled


def test_a_drain_does_not_wait_long_for_a_reader_that_is_gone() -> None:
    fake = FakeGroup()
    fake.receive(3)
    fake.loop.drain(30.0)
    fake.advance(1.0)
    assert fake.stored == {T0: 2}
    assert fake.consumer.closed.settled


def test_a_reader_that_waits_hears_of_a_kill() -> None:
    fake = FakeGroup(messages=0)
    reply = fake.reading()
    fake.run()
    fake.loop.kill(fake.consumer._scope.token)
    fake.run()
    assert isinstance(reply.error, PoolClosed)


def test_there_is_one_reader() -> None:
    fake = FakeGroup(messages=3)
    fake.receive(3)
    first, second = fake.reading(), fake.reading()
    fake.run()
    assert not first.settled
    assert isinstance(second.error, Misuse)
    assert "a consumer of its own" in str(second.error)
    first.cancel()
    fake.run()
    third = fake.reading()
    fake.run()
    assert not third.settled  # it waits in place of the first
    fake.consumer.seek(T0, 1)
    fake.advance(PATIENCE)
    assert offsets(third.result()) == [1]
    assert offsets(fake.receive(1)) == [2]


def test_positions_know_their_leader_epochs() -> None:
    fake = FakeGroup()
    fake.receive(4)
    position = fake.consumer.positions()[T0]
    assert (position, position.leader_epoch) == (4, 0)
    fake.consumer.seek(T0, 2)
    assert fake.consumer.positions()[T0].leader_epoch == -1  # nobody has told
