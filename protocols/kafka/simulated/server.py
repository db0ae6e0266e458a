"""A broker's side of a connection, and what each request is answered with.

Rules:
1. Requests of a connection are answered in order, one at a time; one that waits (for replicas, for messages,
   for a group) holds up those behind it.
2. A batch is acknowledged when it is committed. If the leadership goes before that, the answer is
   NOT_LEADER_OR_FOLLOWER, and it may be in the log all the same: that is Kafka's way.
3. What is no request ends the connection. So does one of a version that is not spoken, but for ApiVersions,
   which is answered in version 0.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from actors import (
    ANYTHING,
    NEVER,
    SLEEP,
    UNCHANGED,
    Bytes,
    Continue,
    Outcome,
    Stop,
    StreamProtocol,
    Timeout,
    Transport,
)
from protocols.kafka.codes import Code
from protocols.kafka.errors import BadMessage
from protocols.kafka.protocol import api, fetch_api, group_api
from protocols.kafka.protocol.schema import Asked, Message, Request, decode_request, encode_answer

from .cluster import Partition, SimulatedKafka, View
from .groups import Group, Look
from .log import Entry

__all__ = ["Broker", "KafkaConnection"]

REQUEST_BYTES_MAX: Final = 16 << 20
NAMED_FIRST: Final = 4  # version of JoinGroup from which a member asks for its name first

_size = struct.Struct(">i")


class Broker:
    """Makes the protocol of each connection, as a `Listener` wants it: one boot of the broker `node`."""

    def __init__(self, cluster: SimulatedKafka, node: int) -> None:
        self.cluster = cluster
        self.node = node
        self.waiting: dict[KafkaConnection, None] = {}
        self._view: View | None = None
        self._look_at = 0.0  # when what it knows of the cluster is too old
        cluster.listening[node] = self.wake

    def __call__(self) -> KafkaConnection:
        return KafkaConnection(self)

    def __repr__(self) -> str:
        return f"<Broker {self.node}, {len(self.waiting)} wait>"

    def wake(self) -> None:
        """Something has changed: those that wait look again."""
        for connection in self.waiting:
            connection.transport.scope.wake()

    def view(self, now: float) -> View:
        """What this broker knows of the cluster."""
        if self._view is None or now >= self._look_at:
            self._view = self.cluster.view()
            self._look_at = now + self.cluster.late()
        return self._view

    # -- the cluster -----------------------------------------------------------------------------------------

    def versions(self, asked: Asked, request: Any, now: float) -> Message:
        """What is spoken here."""
        code = 0 if asked.request is not None else Code.UNSUPPORTED_VERSION
        ranges = [api.ApiRange(key, kind.api.oldest, kind.api.newest) for key, kind in REQUESTS.items()]
        return api.ApiVersionsResponse(code, ranges, 0)

    def metadata(self, asked: Asked, request: api.Metadata, now: float) -> Message:
        """Who leads what, as far as it is known here."""
        cluster = self.cluster
        names = None if request.topics is None else [topic.name or "" for topic in request.topics]
        missing = [name for name in names or () if name not in cluster.topics]
        if request.create and cluster.partitions:
            for name in missing:
                cluster.create(name, cluster.partitions)
                self._look_at = now
        view = self.view(now)
        topics = [self._topic(view, name) for name in (view.topics if names is None else names)]
        brokers = [api.BrokerAddress(node, host, port, None) for node, (host, port) in view.brokers.items()]
        return api.MetadataResponse(0, brokers, "simulated", min(view.brokers, default=-1), topics, 0)

    def _topic(self, view: View, name: str) -> api.TopicMetadata:
        known = view.topics.get(name)
        if known is None:
            return api.TopicMetadata(Code.UNKNOWN_TOPIC_OR_PARTITION, name, bytes(16), False, [], 0)
        partitions = [
            api.PartitionMetadata(
                Code.LEADER_NOT_AVAILABLE if entry.leader < 0 else 0,
                index,
                entry.leader,
                entry.epoch,
                list(entry.all),
                list(entry.in_sync),
                [],
            )
            for index, entry in enumerate(known)
        ]
        return api.TopicMetadata(0, name, view.ids[name], False, partitions, 0)

    def coordinator(self, asked: Asked, request: api.FindCoordinator, now: float) -> Message:
        """Who keeps a group's state. There are no transactions here."""
        node = self.cluster.coordinator(request.key) if request.kind == api.Keeper.GROUP else -1
        if node < 0:
            return api.FindCoordinatorResponse(0, Code.COORDINATOR_NOT_AVAILABLE, None, -1, "", -1)
        return api.FindCoordinatorResponse(0, 0, None, node, *self.cluster.addresses[node])

    # -- producing -------------------------------------------------------------------------------------------

    def identify(self, asked: Asked, request: api.InitProducerId, now: float) -> Message:
        """A producer's identity, or the next epoch of the one that it has."""
        if request.producer >= 0:
            return api.InitProducerIdResponse(0, 0, request.producer, request.epoch + 1)
        return api.InitProducerIdResponse(0, 0, self.cluster.identify(), 0)

    def produce(self, asked: Asked, request: api.Produce, now: float) -> Message | Look | None:
        """Append batches; answered when they are committed, or at once with `acks` 1."""
        written = [
            (topic.topic, part.partition, *self._append(topic.topic, part, now))
            for topic in request.topics
            for part in topic.partitions
        ]
        self.wake()
        if request.acks == 0:
            return None
        until = now + request.timeout_ms / 1000 if request.acks < 0 else now
        return partial(self._written, written, until, request.acks < 0)

    def _append(
        self, topic: str, part: api.ProducePartition, now: float
    ) -> tuple[Partition | None, int, Entry | int]:
        partition = self.cluster.partition(topic, part.partition)
        if partition is None:
            return None, 0, Code.UNKNOWN_TOPIC_OR_PARTITION
        data = part.records or b""
        if partition.leader != self.node:
            return partition, 0, Code.NOT_LEADER_OR_FOLLOWER
        if len(data) > self.cluster.batch_bytes:
            return partition, 0, Code.MESSAGE_TOO_LARGE
        entry = partition.log.append(data, partition.epoch)
        if isinstance(entry, Entry):
            partition.copy(entry.behind, now + self.cluster.late())
        return partition, partition.epoch, entry

    def _written(
        self,
        written: list[tuple[str, int, Partition | None, int, Entry | int]],
        until: float,
        replicated: bool,
        now: float,
    ) -> Message | float:
        due, waits = until, False
        topics: dict[str, list[api.ProducePartitionResponse]] = {}
        for topic, index, partition, epoch, entry in written:
            code, offset = (entry, -1) if isinstance(entry, int) else (0, entry.base)
            if partition is not None and isinstance(entry, Entry):
                due = min(due, partition.step(now))
                if partition.epoch != epoch:
                    code, offset = Code.NOT_LEADER_OR_FOLLOWER, -1
                elif replicated and partition.log.committed < entry.behind:
                    waits = True
                    code, offset = Code.REQUEST_TIMED_OUT, -1
            topics.setdefault(topic, []).append(
                api.ProducePartitionResponse(index, code, offset, -1, 0, [], None)
            )
        if waits and now < until:
            return due
        return api.ProduceResponse([api.ProduceTopicResponse(*parts) for parts in topics.items()], 0)

    # -- reading ---------------------------------------------------------------------------------------------

    def fetch(self, asked: Asked, request: fetch_api.Fetch, now: float) -> Message | Look:
        """Messages, as soon as there are enough or the time is over."""
        return partial(self._fetched, request, now + request.wait_ms / 1000)

    def _fetched(self, request: fetch_api.Fetch, until: float, now: float) -> Message | float:
        size, failed, due = 0, False, until
        topics = []
        for topic in request.topics:
            parts = []
            for part in topic.partitions:
                name = topic.topic or self.cluster.named(topic.id)
                answer, when = self._read(name, part, request.bytes_max - size, first=not size, now=now)
                parts.append(answer)
                size += len(answer.records or b"")
                failed = failed or answer.error != 0
                due = min(due, when)
            topics.append(fetch_api.FetchedTopic(topic.topic, topic.id, parts))
        if size < request.bytes_min and not failed and now < until:
            return due
        return fetch_api.FetchResponse(0, 0, 0, topics)

    def _read(
        self, topic: str, part: fetch_api.FetchPartition, room: int, *, first: bool, now: float
    ) -> tuple[fetch_api.FetchedPartition, float]:
        partition = self.cluster.partition(topic, part.partition)
        code = self._leads(partition, part.leader_epoch) if topic else Code.UNKNOWN_TOPIC_ID
        if partition is None or code:
            return fetch_api.FetchedPartition(part.partition, code, -1, -1, -1, None, -1, None), NEVER
        due = partition.step(now)
        log = partition.log
        if not 0 <= part.offset <= log.end:
            code, records = Code.OFFSET_OUT_OF_RANGE, b""
        else:
            records = log.read(part.offset, min(part.bytes_max, room))
            if len(records) > room and not first:
                records = b""
        return (
            fetch_api.FetchedPartition(
                part.partition, code, log.committed, log.committed, 0, None, -1, records
            ),
            due,
        )

    def _leads(self, partition: Partition | None, epoch: int) -> int:
        if partition is None:
            return Code.UNKNOWN_TOPIC_OR_PARTITION
        if partition.leader != self.node:
            return Code.NOT_LEADER_OR_FOLLOWER
        if 0 <= epoch != partition.epoch:
            return Code.FENCED_LEADER_EPOCH if epoch < partition.epoch else Code.UNKNOWN_LEADER_EPOCH
        return 0

    def offsets(self, asked: Asked, request: fetch_api.ListOffsets, now: float) -> Message:
        """Where partitions begin or end, or where a time is in them."""
        return fetch_api.ListOffsetsResponse(
            0,
            [
                fetch_api.ListedTopic(
                    topic.topic, [self._listed(topic.topic, part, now) for part in topic.partitions]
                )
                for topic in request.topics
            ],
        )

    def _listed(self, topic: str, part: fetch_api.OffsetPartition, now: float) -> fetch_api.ListedPartition:
        partition = self.cluster.partition(topic, part.partition)
        code = self._leads(partition, part.leader_epoch)
        if partition is None or code:
            return fetch_api.ListedPartition(part.partition, code, -1, -1, -1)
        partition.step(now)
        if part.timestamp_ms >= 0:
            record = partition.log.since(part.timestamp_ms)
            found = (-1, -1) if record is None else (record.timestamp, record.offset)
        else:
            found = (-1, partition.log.committed if part.timestamp_ms == fetch_api.END else 0)
        return fetch_api.ListedPartition(part.partition, 0, *found, partition.epoch)

    def epochs(self, asked: Asked, request: fetch_api.OffsetForLeaderEpoch, now: float) -> Message:
        """Where leader epochs end."""
        topics = [
            fetch_api.EndsOfEpochs(
                topic.topic, [self._epoch_end(topic.topic, part) for part in topic.partitions]
            )
            for topic in request.topics
        ]
        return fetch_api.OffsetForLeaderEpochResponse(0, topics)

    def _epoch_end(self, topic: str, part: fetch_api.EpochOf) -> fetch_api.EndOfEpoch:
        partition = self.cluster.partition(topic, part.partition)
        code = self._leads(partition, part.leader_epoch)
        if partition is None or code:
            return fetch_api.EndOfEpoch(code, part.partition, -1, -1)
        if part.epoch == partition.epoch:
            return fetch_api.EndOfEpoch(0, part.partition, part.epoch, partition.log.end)
        return fetch_api.EndOfEpoch(0, part.partition, *partition.log.end_of(part.epoch))

    # -- groups ----------------------------------------------------------------------------------------------

    def _group(self, name: str, now: float) -> Group | None:
        """The group, if this broker is its coordinator."""
        if self.cluster.coordinator(name) != self.node:
            return None
        group = self.cluster.group(name)
        if group is not None:
            group.load(self, now)
        return group

    def join(self, asked: Asked, request: group_api.JoinGroup, now: float) -> Message | Look:
        """Answered when all members are there."""
        group = self._group(request.group, now)
        if group is None:
            return group_api.JoinGroupResponse(0, Code.NOT_COORDINATOR, -1, "", "", "", [])
        answer = group.join(request, now, name_first=asked.version >= NAMED_FIRST)
        self.wake()
        return answer

    def sync(self, asked: Asked, request: group_api.SyncGroup, now: float) -> Message | Look:
        """Answered when the leader has decided."""
        group = self._group(request.group, now)
        if group is None:
            return group_api.SyncGroupResponse(0, Code.NOT_COORDINATOR, b"")
        answer = group.sync(request, now)
        self.wake()
        return answer

    def heartbeat(self, asked: Asked, request: group_api.Heartbeat, now: float) -> Message:
        """Whether the group is still the same."""
        group = self._group(request.group, now)
        code = (
            Code.NOT_COORDINATOR
            if group is None
            else group.heartbeat(request.member, request.generation, now)
        )
        return group_api.HeartbeatResponse(0, code)

    def leave(self, asked: Asked, request: group_api.LeaveGroup, now: float) -> Message:
        """A member goes."""
        group = self._group(request.group, now)
        code = Code.NOT_COORDINATOR if group is None else group.leave(request.member, now)
        self.wake()
        return group_api.LeaveGroupResponse(0, code)

    def commit(self, asked: Asked, request: group_api.OffsetCommit, now: float) -> Message:
        """Store offsets."""
        group = self._group(request.group, now)
        code = (
            Code.NOT_COORDINATOR
            if group is None
            else group.may_store(request.member, request.generation, now)
        )
        topics = []
        for topic in request.topics:
            for part in topic.partitions:
                if group is not None and not code:
                    group.offsets[topic.topic, part.partition] = part.offset
                    group.epochs[topic.topic, part.partition] = part.leader_epoch
            stored = [group_api.StoredError(part.partition, code) for part in topic.partitions]
            topics.append(group_api.StoredErrors(topic.topic, stored))
        return group_api.OffsetCommitResponse(0, topics)

    def committed(self, asked: Asked, request: group_api.OffsetFetch, now: float) -> Message:
        """What is stored."""
        group = self._group(request.group, now)
        if group is None:
            return group_api.OffsetFetchResponse(0, [], Code.NOT_COORDINATOR)
        topics = [
            group_api.StoredOffsets(
                topic.topic,
                [
                    group_api.StoredOffset(
                        index,
                        group.offsets.get((topic.topic, index), -1),
                        group.epochs.get((topic.topic, index), -1),
                        None,
                        0,
                    )
                    for index in topic.partitions
                ],
            )
            for topic in request.topics
        ]
        return group_api.OffsetFetchResponse(0, topics, 0)


Handler = Callable[[Broker, Asked, Any, float], "Message | Look | None"]
HANDLERS: Final[dict[type[Request[Any]], Handler]] = {
    api.ApiVersions: Broker.versions,
    api.FindCoordinator: Broker.coordinator,
    api.InitProducerId: Broker.identify,
    api.Metadata: Broker.metadata,
    api.Produce: Broker.produce,
    fetch_api.Fetch: Broker.fetch,
    fetch_api.ListOffsets: Broker.offsets,
    fetch_api.OffsetForLeaderEpoch: Broker.epochs,
    group_api.Heartbeat: Broker.heartbeat,
    group_api.JoinGroup: Broker.join,
    group_api.LeaveGroup: Broker.leave,
    group_api.OffsetCommit: Broker.commit,
    group_api.OffsetFetch: Broker.committed,
    group_api.SyncGroup: Broker.sync,
}
REQUESTS: Final = {kind.api.key: kind for kind in HANDLERS}


class KafkaConnection(StreamProtocol):
    """One client."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.transport: Transport
        self._asked: Asked | None = None  # what waits for its answer
        self._look: Look | None = None

    def __repr__(self) -> str:
        doing = "idle" if self._asked is None else f"waits for {self._asked.kind.api.name}"
        return f"<KafkaConnection to broker {self.broker.node}, {doing}>"

    def connected(self, transport: Transport) -> Outcome:
        """A client, who speaks first."""
        self.transport = transport
        return Continue(self, ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        """Requests: every whole one, unless one waits."""
        while True:
            data = transport.input
            if len(data) < 4:
                return Continue(self, Bytes(4))
            size = _size.unpack_from(data)[0]
            if not 8 <= size <= REQUEST_BYTES_MAX:
                return Stop(BadMessage(f"a request of {size} bytes"))
            if len(data) < 4 + size:
                return Continue(self, Bytes(4 + size))
            frame = transport.take(4 + size)[4:]
            try:
                due = self._request(decode_request(REQUESTS, bytes(frame)))
            except BadMessage as error:
                return Stop(error)
            if due is not None:
                return Timeout(self, due, SLEEP)

    def _request(self, asked: Asked) -> float | None:
        """Answer a request, or begin to wait: until when."""
        if asked.request is None and asked.kind is not api.ApiVersions:
            raise BadMessage(f"version {asked.version} of {asked.kind.api.name}")
        now = self.transport.scope.now
        answer = HANDLERS[asked.kind](self.broker, asked, asked.request, now)
        if not callable(answer):
            self._answer(asked, answer)
            return None
        self._asked, self._look = asked, answer
        self.broker.waiting[self] = None
        return self._look_again()

    def _look_again(self) -> float | None:
        """Whether what waits can be answered now. Until when it waits otherwise."""
        assert self._asked is not None
        assert self._look is not None
        found = self._look(self.transport.scope.now)
        if not isinstance(found, Message):
            return found
        asked, self._asked, self._look = self._asked, None, None
        self.broker.waiting.pop(self, None)
        self._answer(asked, found)
        if asked.kind is not fetch_api.Fetch:
            self.broker.wake()  # what has answered it concerns others
        return None

    def _answer(self, asked: Asked, answer: Message | None) -> None:
        if answer is not None:
            version = asked.version if asked.request is not None else 0
            self.transport.write(encode_answer(asked.kind, version, asked.correlation, answer))

    def wakeup(self, transport: Transport) -> Outcome:
        """Something has changed."""
        if self._look is None:
            return UNCHANGED
        due = self._look_again()
        return self.received(transport) if due is None else Timeout(self, due, SLEEP)

    timeout = wakeup

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """It waits no longer."""
        self.broker.waiting.pop(self, None)
