"""Fake brokers that keep a group and serve what is to be read, on `fake_kafka`'s kernel without sockets."""

from __future__ import annotations

from typing import Any

from actors import Reply
from protocols import kafka
from protocols.kafka import TopicPartition
from protocols.kafka.protocol import fetch_api, group_api
from protocols.kafka.protocol.schema import Request
from protocols.kafka.records.batch import append_record, seal
from tests.protocols.kafka import fake_kafka
from tests.protocols.kafka.fake_kafka import HANG, Answer, FakeKafka

for module in (fetch_api, group_api):
    for kind in vars(module).values():
        if isinstance(kind, type) and issubclass(kind, Request) and kind is not Request:
            fake_kafka.REQUESTS[kind.api.key] = kind


class FakeGroup(FakeKafka):
    """Broker 1 coordinates. `messages` is what each partition holds; a fetch at its end has no answer."""

    def __init__(self, messages: int = 10, *, nodes: int = 2, partitions: int = 1, **options: Any) -> None:
        leaders = [1 + number % nodes for number in range(partitions)]
        self.generation = 0
        self.stored: dict[TopicPartition, int] = {}
        self.messages = messages
        self.changes: list[kafka.Rebalance] = []
        super().__init__(nodes, {"t": leaders})
        told = {"on_rebalance": self.changes.append}
        given = {"group": "g", "auto_offset_reset": "earliest", **told, **options}
        self.consumer = self.loop.spawn(kafka.consumer("192.0.2.1:9092", "t", **given))

    def receive(self, count: int = 1) -> list[kafka.Record]:
        """The next messages, which must be there."""
        reply: Reply[list[kafka.Record]] = self.reading(count)
        self.run()
        return reply.result()

    def reading(self, count: int = 1) -> Reply[list[kafka.Record]]:
        """A flow that waits for the next messages."""

        async def some() -> list[kafka.Record]:
            return [await self.consumer.receive() for _ in range(count)]

        return self.loop.spawn(some())

    def order(self) -> list[str]:
        """What was asked of the group's coordinator, in order."""
        kinds = (group_api.JoinGroup, group_api.SyncGroup, group_api.Heartbeat, group_api.LeaveGroup)
        offsets = (group_api.OffsetCommit, group_api.OffsetFetch)
        return [type(request).__name__ for _, request in self.seen if isinstance(request, kinds + offsets)]

    def usual(self, node: int, kind: type[Request[Any]], request: Any) -> Answer:
        """What a broker answers."""
        if kind is group_api.JoinGroup:
            self.generation += 1
            member = request.member or "member"
            offered = request.protocols[0]
            joined = [group_api.JoinedMember(member, None, offered.metadata)]
            return group_api.JoinGroupResponse(0, 0, self.generation, offered.name, member, member, joined)
        if kind is group_api.SyncGroup:
            given = request.assignments[0].assignment if request.assignments else b""
            return group_api.SyncGroupResponse(0, 0, given)
        if kind is group_api.Heartbeat:
            return group_api.HeartbeatResponse(0, 0)
        if kind is group_api.LeaveGroup:
            return group_api.LeaveGroupResponse(0, 0)
        if kind is group_api.OffsetCommit:
            for topic in request.topics:
                for part in topic.partitions:
                    self.stored[TopicPartition(topic.topic, part.partition)] = part.offset
            return committed(request)
        if kind is group_api.OffsetFetch:
            return self.fetched_offsets(request)
        if kind is fetch_api.ListOffsets:
            return self.listed(request)
        if kind is fetch_api.Fetch:
            return self.fetched(request)
        return super().usual(node, kind, request)

    def fetched_offsets(self, request: Any, error: int = 0, part_error: int = 0) -> Answer:
        """What is stored."""
        topics = [
            group_api.StoredOffsets(
                topic.topic,
                [
                    group_api.StoredOffset(
                        number, self.stored.get(TopicPartition(topic.topic, number), -1), -1, None, part_error
                    )
                    for number in topic.partitions
                ],
            )
            for topic in request.topics
        ]
        return group_api.OffsetFetchResponse(0, topics, error)

    def listed(self, request: Any, error: int = 0) -> Answer:
        """Where partitions begin and end."""
        topics = [
            fetch_api.ListedTopic(
                topic.topic,
                [
                    fetch_api.ListedPartition(
                        part.partition, error, -1, 0 if part.timestamp_ms == -2 else self.messages, 0
                    )
                    for part in topic.partitions
                ],
            )
            for topic in request.topics
        ]
        return fetch_api.ListOffsetsResponse(0, topics)

    def fetched(self, request: Any, error: int = 0, records: bytes | None = None) -> Answer:
        """Messages from the offsets that are asked for, up to the end."""
        topics, found = [], False
        for topic in request.topics:
            parts = []
            for part in topic.partitions:
                data = batch(part.offset, self.messages) if records is None else records
                found = found or bool(data) or bool(error)
                parts.append(fetch_api.FetchedPartition(part.partition, error, -1, -1, 0, None, -1, data))
            topics.append(fetch_api.FetchedTopic(topic.topic, topic.id, parts))
        return fetch_api.FetchResponse(0, 0, 0, topics) if found else HANG


def batch(first: int, behind: int) -> bytes:
    """The messages of these offsets; nothing if there are none."""
    out = bytearray()
    for offset in range(first, behind):
        append_record(out, offset - first, 0, None, b"%d" % offset)
    if not out:
        return b""
    data = seal(out, 0, behind - first, 0, 0)
    return first.to_bytes(8, "big") + data[8:]


def committed(request: Any, error: int = 0) -> Answer:
    """The answer to a commit."""
    return group_api.OffsetCommitResponse(
        0,
        [
            group_api.StoredErrors(
                topic.topic, [group_api.StoredError(part.partition, error) for part in topic.partitions]
            )
            for topic in request.topics
        ],
    )
