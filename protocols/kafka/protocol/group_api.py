"""The requests of a consumer to its group's coordinator: what is asked and what is answered (protocol guide,
"The Messages"), and what members of a group tell each other through it. Of the requests about membership the
later versions say nothing that is needed here.
"""

from __future__ import annotations

from typing import Annotated

from .schema import Api, Bool, Bytes, Int16, Int32, Int64, Message, Request, Str, since

__all__ = [
    "Assigned",
    "Assignment",
    "CommittedPartition",
    "CommittedTopic",
    "Heartbeat",
    "HeartbeatResponse",
    "JoinGroup",
    "JoinGroupResponse",
    "JoinedMember",
    "LeaveGroup",
    "LeaveGroupResponse",
    "OffsetCommit",
    "OffsetCommitResponse",
    "OffsetFetch",
    "OffsetFetchResponse",
    "OffsetTopicNames",
    "OfferedProtocol",
    "StoredError",
    "StoredErrors",
    "StoredOffset",
    "StoredOffsets",
    "Subscribed",
    "SyncGroup",
    "SyncGroupResponse",
    "TopicPartitions",
]

# -- membership --------------------------------------------------------------------------------------------


class JoinedMember(Message):
    """A member as the group's leader sees it."""

    member: Str
    instance: Annotated[Str | None, since(5)]
    metadata: Bytes


class JoinGroupResponse(Message):
    """A new generation of the group. Only its leader is told the members."""

    throttle_ms: Int32
    error: Int16
    generation: Int32
    protocol: Str
    leader: Str
    member: Str
    members: list[JoinedMember]


class OfferedProtocol(Message):
    """An assignor by name, and what it has to know of this member."""

    name: Str
    metadata: Bytes


class JoinGroup(Request[JoinGroupResponse]):
    """Take me in. Answered when all members are there."""

    api = Api(11, "JoinGroup", 2, 5, 6, JoinGroupResponse)

    group: Str
    session_ms: Int32
    rebalance_ms: Int32
    member: Str
    instance: Annotated[Str | None, since(5)]
    protocol_type: Str
    protocols: list[OfferedProtocol]


class SyncGroupResponse(Message):
    """What this member is to read."""

    throttle_ms: Int32
    error: Int16
    assignment: Bytes


class Assignment(Message):
    """What a member is to read."""

    member: Str
    assignment: Bytes


class SyncGroup(Request[SyncGroupResponse]):
    """What am I to read? The leader says it for all."""

    api = Api(14, "SyncGroup", 1, 3, 4, SyncGroupResponse)

    group: Str
    generation: Int32
    member: Str
    instance: Annotated[Str | None, since(3)]
    assignments: list[Assignment]


class HeartbeatResponse(Message):
    """Whether the group is still the same."""

    throttle_ms: Int32
    error: Int16


class Heartbeat(Request[HeartbeatResponse]):
    """I am still here."""

    api = Api(12, "Heartbeat", 1, 3, 4, HeartbeatResponse)

    group: Str
    generation: Int32
    member: Str
    instance: Annotated[Str | None, since(3)]


class LeaveGroupResponse(Message):
    """Whether we have left."""

    throttle_ms: Int32
    error: Int16


class LeaveGroup(Request[LeaveGroupResponse]):
    """Do without me from now on."""

    api = Api(13, "LeaveGroup", 1, 2, 4, LeaveGroupResponse)

    group: Str
    member: Str


# -- offsets -----------------------------------------------------------------------------------------------


class StoredError(Message):
    """Whether a partition's offset was stored."""

    partition: Int32
    error: Int16


class StoredErrors(Message):
    """The same, of a topic's partitions."""

    topic: Str
    partitions: list[StoredError]


class OffsetCommitResponse(Message):
    """Which offsets were stored."""

    throttle_ms: Annotated[Int32, since(3)]
    topics: list[StoredErrors]


class CommittedPartition(Message):
    """The offset that is to be read next."""

    partition: Int32
    offset: Int64
    leader_epoch: Annotated[Int32, since(6)]
    metadata: Str | None


class CommittedTopic(Message):
    """The same, of a topic's partitions."""

    topic: Str
    partitions: list[CommittedPartition]


class OffsetCommit(Request[OffsetCommitResponse]):
    """Store up to where we have come."""

    api = Api(8, "OffsetCommit", 2, 8, 8, OffsetCommitResponse)

    group: Str
    generation: Int32
    member: Str
    instance: Annotated[Str | None, since(7)]
    retention_ms: Annotated[Int64, since(2, until=4)]
    topics: list[CommittedTopic]


class StoredOffset(Message):
    """Up to where a partition was read; -1 if nothing is stored."""

    partition: Int32
    offset: Int64
    leader_epoch: Annotated[Int32, since(5, otherwise=-1)]
    metadata: Str | None
    error: Int16


class StoredOffsets(Message):
    """The same, of a topic's partitions."""

    topic: Str
    partitions: list[StoredOffset]


class OffsetFetchResponse(Message):
    """What is stored."""

    throttle_ms: Annotated[Int32, since(3)]
    topics: list[StoredOffsets]
    error: Int16


class OffsetTopicNames(Message):
    """Partitions of a topic."""

    topic: Str
    partitions: list[Int32]


class OffsetFetch(Request[OffsetFetchResponse]):
    """Up to where had the group come? `stable`: not while a transaction is still to be completed."""

    api = Api(9, "OffsetFetch", 2, 7, 6, OffsetFetchResponse)

    group: Str
    topics: list[OffsetTopicNames]
    stable: Annotated[Bool, since(7)]


# -- what members tell each other --------------------------------------------------------------------------


class TopicPartitions(Message):
    """Partitions of a topic."""

    topic: Str
    partitions: list[Int32]


class Subscribed(Message):
    """What a member wants to read, and what it reads already. Its version stands in front of it."""

    topics: list[Str]
    user_data: Bytes | None
    owned: Annotated[list[TopicPartitions], since(1)]
    generation: Annotated[Int32, since(2, otherwise=-1)]
    rack: Annotated[Str | None, since(3)] = None


class Assigned(Message):
    """What a member is to read. Its version stands in front of it."""

    topics: list[TopicPartitions]
    user_data: Bytes | None
