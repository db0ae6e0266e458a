"""Membership in a group without brokers: every error code in every state, and a clock that stands."""

from __future__ import annotations

import random
from itertools import chain
from typing import Any

import pytest

from pools import ConnectionLost
from protocols.kafka.errors import CODES, BadMessage, KafkaError, error_of
from protocols.kafka.group.assignors import (
    TopicPartition,
    read_assignment,
    read_subscription,
    write_assignment,
)
from protocols.kafka.group.assignors import write_subscription as subscription
from protocols.kafka.group.state import CODE_EVENTS, TABLE, Event, Group, GroupSettings, Membership, State
from protocols.kafka.protocol.group_api import (
    Heartbeat,
    HeartbeatResponse,
    JoinedMember,
    JoinGroup,
    JoinGroupResponse,
    LeaveGroup,
    SyncGroup,
    SyncGroupResponse,
)

NOW = 1000.0
COUNTS = {"t": 4}
T = [TopicPartition("t", number) for number in range(4)]
STATES = [State.JOINING, State.SYNCING, State.STABLE]


def make(**options: Any) -> Group:
    return Group(GroupSettings("g", ("t",), **options), random.Random(1))


def joined(
    error: int = 0, *, leader: str = "other", members: Any = (), protocol: str = ""
) -> JoinGroupResponse:
    protocol = protocol or "cooperative-sticky"
    return JoinGroupResponse(0, error, 5, protocol, leader, "me", list(members))


def synced(error: int = 0, given: Any = T) -> SyncGroupResponse:
    return SyncGroupResponse(0, error, write_assignment(given))


def member_in(state: State, **options: Any) -> Group:
    group = make(**options)
    if state is not State.JOINING:
        assert group.answered(joined(), NOW) is Event.JOINED
    if state is State.STABLE:
        assert group.answered(synced(), NOW) is Event.SYNCED
        group.held = tuple(group.assignment)
        group.due = NOW
    assert group.state is state
    return group


ANSWERS: dict[State, Any] = {
    State.JOINING: joined,
    State.SYNCING: synced,
    State.STABLE: lambda error: HeartbeatResponse(0, error),
}


def test_joining_syncing_and_beating() -> None:
    group = make(instance="i", session_timeout=30, rebalance_timeout=20, heartbeat=3)
    asked = group.request(NOW, {})
    assert isinstance(asked, JoinGroup)
    assert (asked.group, asked.member, asked.instance, asked.protocol_type) == ("g", "", "i", "consumer")
    assert (asked.session_ms, asked.rebalance_ms) == (30_000, 20_000)
    assert [protocol.name for protocol in asked.protocols] == ["cooperative-sticky"]
    assert group.answered(joined(), NOW) is Event.JOINED
    asked = group.request(NOW, {})  # only a leader needs to know how many partitions there are
    assert isinstance(asked, SyncGroup)
    assert (asked.generation, asked.member, asked.assignments) == (5, "me", [])
    assert group.answered(synced(), NOW) is Event.SYNCED
    assert group.assignment == T
    assert group.membership == Membership("g", 5, "me", "i")
    assert group.request(NOW + 2.9, {}) is None
    asked = group.request(NOW + 3, {})
    assert isinstance(asked, Heartbeat)
    assert (asked.generation, asked.member) == (5, "me")
    assert group.request(NOW + 3.1, {}) is None
    assert group.answered(HeartbeatResponse(0, 0), NOW + 3.2) is Event.BEATEN
    assert group.due == NOW + 6.2
    assert "stable, generation 5" in repr(group)


def test_a_leader_decides_for_all_when_it_knows_the_topics() -> None:
    group = make()
    others = [
        JoinedMember("me", None, subscription(["t"])),
        JoinedMember("you", None, subscription(["t", "u"])),
    ]
    group.answered(joined(leader="me", members=others), NOW)
    assert group.leading
    assert group.topics == {"t", "u"}
    assert group.request(NOW, {"t": 4}) is None
    asked = group.request(NOW, {"t": 4, "u": 0})
    assert isinstance(asked, SyncGroup)
    given = {entry.member: read_assignment(entry.assignment) for entry in asked.assignments}
    assert sorted(chain(*given.values())) == T
    assert {len(partitions) for partitions in given.values()} == {2}


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.value)
@pytest.mark.parametrize("code", [*CODES, 9999])
def test_every_error_in_every_state(state: State, code: int) -> None:
    group = member_in(state)
    event = group.answered(ANSWERS[state](code), NOW)
    if code in CODE_EVENTS and CODE_EVENTS[code] in TABLE[state]:
        expected = CODE_EVENTS[code]
    elif code in CODES and CODES[code].retriable:
        expected = Event.PAUSED
    else:
        expected = Event.FAILED
    assert event is expected
    assert group.state is TABLE[state][event]
    if event is Event.FAILED:
        assert isinstance(group.error, KafkaError)
        assert group.error.code == code
        assert group.request(NOW + 1e9, COUNTS) is None
    elif event in (Event.PAUSED, Event.MOVED):
        assert NOW < group.due <= NOW + 1
        assert group.request(NOW, COUNTS) is None
    if event is Event.EXPELLED:
        assert (group.generation, group.held, group.member != "") == (
            -1,
            (),
            code == 22 and state != State.JOINING,
        )


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.value)
def test_no_answer_means_that_the_coordinator_may_be_another(state: State) -> None:
    group = member_in(state)
    assert group.failed(ConnectionLost("gone"), NOW) is Event.MOVED
    assert group.state is (State.STABLE if state is State.STABLE else State.JOINING)
    first = group.due - NOW
    assert 0 < first <= 0.1
    for _ in range(9):
        group.failed(ConnectionLost("gone"), NOW)
    assert 0.5 <= group.due - NOW <= 1.0
    assert group.failed(error_of(30), NOW) is Event.FAILED


def test_a_name_is_taken_and_the_group_joined_with_it() -> None:
    group = make()
    assert group.answered(joined(79), NOW) is Event.NAMED
    asked = group.request(NOW, COUNTS)
    assert isinstance(asked, JoinGroup)
    assert asked.member == "me"
    assert group.answered(joined(79), NOW) is Event.NAMED  # a second time, it is not to spin
    assert group.due > NOW


def test_a_rebalance_gives_back_and_joins_again_with_what_is_kept() -> None:
    group = member_in(State.STABLE)
    assert group.answered(HeartbeatResponse(0, 27), NOW) is Event.REBALANCE
    assert group.state is State.REVOKING
    assert group.request(NOW, COUNTS) is None
    assert group.revoked() is Event.REVOKED
    asked = group.request(NOW, COUNTS)
    assert isinstance(asked, JoinGroup)
    said = read_subscription("me", asked.protocols[0].metadata)
    assert (said.owned, said.generation) == (tuple(T), 5)


def test_an_eager_member_says_that_it_has_nothing() -> None:
    group = member_in(State.STABLE, assignors=("cooperative-sticky", "range"))
    assert group.eager
    group.rebalance(NOW)
    group.revoked()
    asked = group.request(NOW, COUNTS)
    assert isinstance(asked, JoinGroup)
    assert [protocol.name for protocol in asked.protocols] == ["cooperative-sticky", "range"]
    assert read_subscription("me", asked.protocols[1].metadata).owned == ()


def test_who_was_expelled_joins_as_somebody_new() -> None:
    group = member_in(State.STABLE)
    group.answered(HeartbeatResponse(0, 25), NOW)
    asked = group.request(NOW, COUNTS)
    assert isinstance(asked, JoinGroup)
    assert asked.member == ""
    assert read_subscription("me", asked.protocols[0].metadata).owned == ()


def test_leaving_is_told_by_who_is_known_and_not_static() -> None:
    asked = member_in(State.STABLE).leave()
    assert isinstance(asked, LeaveGroup)
    assert (asked.group, asked.member) == ("g", "me")
    assert make().leave() is None
    static = member_in(State.STABLE, instance="i")
    assert static.leave() is None
    assert static.state is State.ENDED
    assert static.leave() is None


def test_what_makes_no_sense_ends_it() -> None:
    group = make()
    assert group.answered(joined(protocol="roundrobin"), NOW) is Event.FAILED
    assert "'roundrobin', which was not offered" in str(group.error)
    group = make()
    garbled = [JoinedMember("me", None, b"\0")]
    assert group.answered(joined(leader="me", members=garbled), NOW) is Event.FAILED
    assert isinstance(group.error, BadMessage)
    group = member_in(State.SYNCING)
    answer = SyncGroupResponse(0, 0, b"\0")
    assert group.answered(answer, NOW) is Event.FAILED


def test_what_the_table_does_not_know_changes_nothing() -> None:
    group = make()
    with pytest.raises(ValueError, match=r"REVOKED while State\.JOINING"):
        group.revoked()
    assert group.state is State.JOINING
    assert set(TABLE) == set(State)
