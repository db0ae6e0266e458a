"""Who reads what: pure decisions, and the words in which members of a group speak."""

from __future__ import annotations

import struct
from collections import Counter

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from hypothesis import given
from hypothesis import strategies as st

from protocols.kafka.errors import BadMessage
from protocols.kafka.group.assignors import (
    ASSIGNORS,
    GroupMember,
    TopicPartition,
    assign_range,
    assign_sticky,
    assignor_named,
    read_assignment,
    read_subscription,
    write_assignment,
    write_subscription,
)

Given = dict[str, list[TopicPartition]]


def parts(topic: str, *numbers: int) -> tuple[TopicPartition, ...]:
    return tuple(TopicPartition(topic, number) for number in numbers)


def settle(members: list[GroupMember], counts: dict[str, int]) -> tuple[Given, int]:
    """Rounds until everybody keeps what he has, as members do who give back and join again."""
    for rounds in range(1, 5):
        given = assign_sticky(members, counts)
        if all(set(member.owned) <= set(given[member.name]) for member in members) and rounds > 1:
            return given, rounds
        members = [
            GroupMember(member.name, member.topics, tuple(given[member.name]), rounds) for member in members
        ]
    raise AssertionError("it does not come to rest")


def test_range_gives_runs_per_topic() -> None:
    members = [GroupMember("b", ("t", "u")), GroupMember("a", ("t", "u")), GroupMember("c", ("t",))]
    assert assign_range(members, {"t": 7, "u": 1, "nobody's": 3}) == {
        "a": [*parts("t", 0, 1, 2), *parts("u", 0)],
        "b": [*parts("t", 3, 4)],
        "c": [*parts("t", 5, 6)],
    }


def test_range_orders_static_members_by_their_instance_and_before_others() -> None:
    members = [
        GroupMember("a", ("t",)),
        GroupMember("y", ("t",), instance="1"),
        GroupMember("x", ("t",), instance="2"),
    ]
    assert assign_range(members, {"t": 3}) == {
        "y": [*parts("t", 0)],
        "x": [*parts("t", 1)],
        "a": [*parts("t", 2)],
    }


def test_a_newcomer_gets_only_what_has_been_given_back() -> None:
    alone = GroupMember("a", ("t",), parts("t", 0, 1, 2, 3), 1)
    first = assign_sticky([alone, GroupMember("b", ("t",))], {"t": 4})
    assert first == {"a": [*parts("t", 0, 1)], "b": []}
    after = [GroupMember("a", ("t",), parts("t", 0, 1), 2), GroupMember("b", ("t",), (), 2)]
    assert assign_sticky(after, {"t": 4}) == {"a": [*parts("t", 0, 1)], "b": [*parts("t", 2, 3)]}


def test_what_a_leaver_had_is_shared_and_nothing_else_moves() -> None:
    members = [
        GroupMember("a", ("t",), parts("t", 0, 1), 5),
        GroupMember("b", ("t",), parts("t", 2, 3), 5),
    ]
    given = assign_sticky(members, {"t": 6})
    assert given == {"a": [*parts("t", 0, 1, 4)], "b": [*parts("t", 2, 3, 5)]}


def test_of_two_that_claim_the_same_the_later_generation_has_it() -> None:
    stale = GroupMember("a", ("t",), parts("t", 0, 1), 3)
    fresh = GroupMember("b", ("t",), parts("t", 0, 1), 4)
    given = assign_sticky([stale, fresh], {"t": 2})
    assert given == {"a": [*parts("t", 1)], "b": [*parts("t", 0)]}
    same = GroupMember("b", ("t",), parts("t", 0, 1), 3)
    given = assign_sticky([stale, same], {"t": 2})
    assert sorted([*given["a"], *given["b"]]) == [*parts("t", 0, 1)]


def test_partitions_and_topics_that_are_gone_or_not_wanted_are_nobodys() -> None:
    member = GroupMember("a", ("t",), (*parts("t", 0, 9), *parts("gone", 0), *parts("u", 0)), 1)
    assert assign_sticky([member], {"t": 1, "u": 1}) == {"a": [*parts("t", 0)]}
    assert assign_sticky([], {"t": 1}) == {}


topics = st.lists(st.sampled_from("tuv"), min_size=1, unique=True).map(tuple)
counts = st.fixed_dictionaries({"t": st.integers(0, 9), "u": st.integers(0, 5), "v": st.integers(0, 2)})


@pytest.mark.no_cover
@given(wanted=st.lists(topics, min_size=1, max_size=5), counts=counts, later=st.lists(topics, max_size=3))
def test_everything_wanted_is_given_once_balanced_and_moves_little(
    wanted: list[tuple[str, ...]], counts: dict[str, int], later: list[tuple[str, ...]]
) -> None:
    members = [GroupMember(f"m{index}", topics) for index, topics in enumerate(wanted)]
    given, _ = settle(members, counts)
    members = [
        GroupMember(member.name, member.topics, tuple(given[member.name]), 1) for member in members
    ] + [GroupMember(f"n{index}", topics) for index, topics in enumerate(later)]
    first = assign_sticky(members, counts)
    for member in members:
        for other in members:  # nothing is given to one while another has it
            assert other is member or not set(first[member.name]) & set(other.owned)
    given, rounds = settle(members, counts)
    assert rounds <= 3
    wants = {member.name: member.topics for member in members}
    once = Counter(partition for partitions in given.values() for partition in partitions)
    assert set(once.values()) <= {1}
    assert set(once) == {
        TopicPartition(topic, number)
        for topic, count in counts.items()
        if any(topic in topics for topics in wants.values())
        for number in range(count)
    }
    for name, partitions in given.items():
        for partition in partitions:
            assert partition.topic in wants[name]
            for other in given:
                assert partition.topic not in wants[other] or len(given[other]) + 1 >= len(partitions)


# -- words -------------------------------------------------------------------------------------------------


def test_what_a_member_says_of_itself_is_read_back() -> None:
    data = write_subscription(["u", "t"], parts("t", 1, 2), 7)
    assert read_subscription("a", data, "i") == GroupMember("a", ("t", "u"), parts("t", 1, 2), 7, "i")


def test_another_client_reads_what_is_said_here_and_the_other_way_round() -> None:
    theirs = ConsumerProtocolMemberMetadata.decode(write_subscription(["t"], parts("t", 1), 7))
    assert theirs.subscription == ["t"]
    told = ConsumerProtocolMemberMetadata(0, ["t", "u"], b"").encode()
    assert read_subscription("a", told) == GroupMember("a", ("t", "u"))
    given = ConsumerProtocolMemberAssignment.decode(write_assignment(parts("t", 1, 2)))
    assert given.assignment == [("t", [1, 2])]
    theirs = ConsumerProtocolMemberAssignment(0, [("t", [3])], b"").encode()
    assert read_assignment(theirs) == [*parts("t", 3)]


def test_older_members_tell_their_generation_in_the_user_data_and_newer_ones_say_more() -> None:
    data = write_subscription(["t"], parts("t", 1), 7)
    old = struct.pack(">h", 1) + data[2:-6]  # without generation and rack
    assert read_subscription("a", old) == GroupMember("a", ("t",), parts("t", 1), 7)
    assert read_subscription("a", struct.pack(">h", 9) + data[2:] + b"more").generation == 7


def test_nothing_assigned_is_nothing_to_read() -> None:
    assert read_assignment(b"") == []
    assert read_assignment(write_assignment([])) == []


def test_what_is_cut_short_is_a_protocol_error() -> None:
    said, given = write_subscription(["t"], parts("t", 1), 7), write_assignment(parts("t", 1))
    for cut in range(len(said)):
        with pytest.raises(BadMessage):
            read_subscription("a", said[:cut])
    for cut in range(1, len(given)):
        with pytest.raises(BadMessage):
            read_assignment(given[:cut])


def test_an_assignor_that_there_is_not() -> None:
    assert [assignor_named(name).eager for name in ASSIGNORS] == [False, True]
    with pytest.raises(ValueError, match="write one of cooperative-sticky, range"):
        assignor_named("sticky")
