"""The requests that every client of Kafka needs, and those of a producer: what is asked and what is answered
(protocol guide, "The Messages"). Which versions are spoken reaches from Kafka 2.1 to the newest that means
something here.
"""

from __future__ import annotations

import enum
from typing import Annotated

from .schema import Api, Bool, Bytes, Int8, Int16, Int32, Int64, Message, Request, Str, Uuid, since

__all__ = [
    "AddOffsetsToTxn",
    "AddOffsetsToTxnResponse",
    "AddPartitionsToTxn",
    "AddPartitionsToTxnResponse",
    "ApiRange",
    "ApiVersions",
    "ApiVersionsResponse",
    "BrokerAddress",
    "EndTxn",
    "EndTxnResponse",
    "FindCoordinator",
    "FindCoordinatorResponse",
    "InitProducerId",
    "InitProducerIdResponse",
    "Keeper",
    "Metadata",
    "MetadataResponse",
    "PartitionMetadata",
    "Produce",
    "ProducePartition",
    "ProducePartitionResponse",
    "ProduceResponse",
    "ProduceTopic",
    "ProduceTopicResponse",
    "RecordError",
    "SaslAuthenticate",
    "SaslAuthenticateResponse",
    "SaslHandshake",
    "SaslHandshakeResponse",
    "TopicMetadata",
    "TopicName",
    "TxnOffset",
    "TxnOffsetCommit",
    "TxnOffsetCommitResponse",
    "TxnOffsets",
    "TxnPartitionError",
    "TxnTopic",
    "TxnTopicErrors",
]

# -- introduction ------------------------------------------------------------------------------------------


class ApiRange(Message):
    """Which versions of one request a broker speaks."""

    api: Int16
    oldest: Int16
    newest: Int16


class ApiVersionsResponse(Message):
    """What a broker speaks."""

    error: Int16
    apis: list[ApiRange]
    throttle_ms: Annotated[Int32, since(1)]


class ApiVersions(Request[ApiVersionsResponse]):
    """What do you speak? The first request on a connection; every broker answers it in version 0."""

    api = Api(18, "ApiVersions", 0, 3, 3, ApiVersionsResponse, plain_header=True)

    software_name: Annotated[Str, since(3)] = "windlass"
    software_version: Annotated[Str, since(3)] = "0"


class SaslHandshakeResponse(Message):
    """Whether the mechanism is known there, and which are."""

    error: Int16
    mechanisms: list[Str]


class SaslHandshake(Request[SaslHandshakeResponse]):
    """By what we shall prove who we are."""

    api = Api(17, "SaslHandshake", 1, 1, 1 << 15, SaslHandshakeResponse)

    mechanism: Str


class SaslAuthenticateResponse(Message):
    """The server's part of the exchange."""

    error: Int16
    message: Str | None
    token: Bytes
    lifetime_ms: Annotated[Int64, since(1)]


class SaslAuthenticate(Request[SaslAuthenticateResponse]):
    """Our part of the exchange."""

    api = Api(36, "SaslAuthenticate", 0, 2, 2, SaslAuthenticateResponse)

    token: Bytes


# -- metadata ----------------------------------------------------------------------------------------------


class BrokerAddress(Message):
    """Where a broker says that it can be reached."""

    node: Int32
    host: Str
    port: Int32
    rack: Str | None


class PartitionMetadata(Message):
    """Who leads a partition."""

    error: Int16
    index: Int32
    leader: Int32
    leader_epoch: Annotated[Int32, since(7, otherwise=-1)]
    replicas: list[Int32]
    in_sync: list[Int32]
    offline: Annotated[list[Int32], since(5)]


class TopicMetadata(Message):
    """A topic's partitions."""

    error: Int16
    name: Str | None
    id: Annotated[Uuid, since(10, otherwise=bytes(16))]
    internal: Bool
    partitions: list[PartitionMetadata]
    operations: Annotated[Int32, since(8)]


class MetadataResponse(Message):
    """The brokers, and the topics that were asked for."""

    throttle_ms: Int32
    brokers: list[BrokerAddress]
    cluster: Str | None
    controller: Int32
    topics: list[TopicMetadata]
    operations: Annotated[Int32, since(8, until=10)]


class TopicName(Message):
    """A topic, by its name."""

    id: Annotated[Uuid, since(10)] = bytes(16)
    name: Str | None = None


class Metadata(Request[MetadataResponse]):
    """Who leads what? `topics`: None asks for all."""

    api = Api(3, "Metadata", 5, 12, 9, MetadataResponse)

    topics: list[TopicName] | None
    create: Bool = False
    cluster_operations: Annotated[Bool, since(8, until=10)] = False
    topic_operations: Annotated[Bool, since(8)] = False


# -- producing ---------------------------------------------------------------------------------------------


class InitProducerIdResponse(Message):
    """A producer's identity."""

    throttle_ms: Int32
    error: Int16
    producer: Int64
    epoch: Int16


class InitProducerId(Request[InitProducerIdResponse]):
    """Who am I? Without `producer` a new identity; with one, the same with the next epoch."""

    api = Api(22, "InitProducerId", 0, 4, 2, InitProducerIdResponse)

    transactional: Str | None
    timeout_ms: Int32
    producer: Annotated[Int64, since(3)] = -1
    epoch: Annotated[Int16, since(3)] = -1


class RecordError(Message):
    """A record that was the reason why its batch was refused."""

    index: Int32
    message: Str | None


class ProducePartitionResponse(Message):
    """What became of a batch."""

    partition: Int32
    error: Int16
    offset: Int64
    timestamp_ms: Int64
    log_start: Annotated[Int64, since(5, otherwise=-1)]
    records: Annotated[list[RecordError], since(8)]
    message: Annotated[Str | None, since(8)]


class ProduceTopicResponse(Message):
    """What became of a topic's batches."""

    topic: Str
    partitions: list[ProducePartitionResponse]


class ProduceResponse(Message):
    """What became of the batches."""

    topics: list[ProduceTopicResponse]
    throttle_ms: Int32


class ProducePartition(Message):
    """A batch for a partition."""

    partition: Int32
    records: Bytes | None


class ProduceTopic(Message):
    """Batches for a topic's partitions."""

    topic: Str
    partitions: list[ProducePartition]


class Produce(Request[ProduceResponse]):
    """Batches to be written. With `acks` 0 there is no answer."""

    api = Api(0, "Produce", 7, 9, 9, ProduceResponse)

    transactional: Str | None
    acks: Int16
    timeout_ms: Int32
    topics: list[ProduceTopic]


# -- coordinators and transactions -------------------------------------------------------------------------


class Keeper(enum.IntEnum):
    """What a coordinator keeps the state of: `FindCoordinator.kind`."""

    GROUP = 0
    TRANSACTION = 1


class FindCoordinatorResponse(Message):
    """The broker that keeps a group's or a transactional producer's state."""

    throttle_ms: Int32
    error: Int16
    message: Str | None
    node: Int32
    host: Str
    port: Int32


class FindCoordinator(Request[FindCoordinatorResponse]):
    """Who keeps this one's state?"""

    api = Api(10, "FindCoordinator", 1, 3, 3, FindCoordinatorResponse)

    key: Str
    kind: Int8


class TxnPartitionError(Message):
    """Whether a partition has become part of the transaction."""

    partition: Int32
    error: Int16


class TxnTopicErrors(Message):
    """The same, of a topic's partitions."""

    topic: Str
    partitions: list[TxnPartitionError]


class TxnTopic(Message):
    """Partitions of a topic."""

    topic: Str
    partitions: list[Int32]


class AddPartitionsToTxnResponse(Message):
    """Which partitions have become part of the transaction."""

    throttle_ms: Int32
    topics: list[TxnTopicErrors]


class AddPartitionsToTxn(Request[AddPartitionsToTxnResponse]):
    """We are about to write to these."""

    api = Api(24, "AddPartitionsToTxn", 0, 3, 3, AddPartitionsToTxnResponse)

    transactional: Str
    producer: Int64
    epoch: Int16
    topics: list[TxnTopic]


class AddOffsetsToTxnResponse(Message):
    """Whether a group's offsets have become part of the transaction."""

    throttle_ms: Int32
    error: Int16


class AddOffsetsToTxn(Request[AddOffsetsToTxnResponse]):
    """We are about to commit offsets of this group."""

    api = Api(25, "AddOffsetsToTxn", 0, 3, 3, AddOffsetsToTxnResponse)

    transactional: Str
    producer: Int64
    epoch: Int16
    group: Str


class EndTxnResponse(Message):
    """Whether the transaction ends as was asked."""

    throttle_ms: Int32
    error: Int16


class EndTxn(Request[EndTxnResponse]):
    """Commit, or roll back."""

    api = Api(26, "EndTxn", 0, 3, 3, EndTxnResponse)

    transactional: Str
    producer: Int64
    epoch: Int16
    commit: Bool


class TxnOffset(Message):
    """Up to where a partition was read."""

    partition: Int32
    offset: Int64
    leader_epoch: Annotated[Int32, since(2)]
    metadata: Str | None


class TxnOffsets(Message):
    """The same, of a topic's partitions."""

    topic: Str
    partitions: list[TxnOffset]


class TxnOffsetCommitResponse(Message):
    """Which offsets were taken."""

    throttle_ms: Int32
    topics: list[TxnTopicErrors]


class TxnOffsetCommit(Request[TxnOffsetCommitResponse]):
    """Offsets that hold if the transaction is committed. The group's coordinator takes them."""

    api = Api(28, "TxnOffsetCommit", 0, 3, 3, TxnOffsetCommitResponse)

    transactional: Str
    group: Str
    producer: Int64
    epoch: Int16
    generation: Annotated[Int32, since(3)]
    member: Annotated[Str, since(3)]
    group_instance: Annotated[Str | None, since(3)]
    topics: list[TxnOffsets]
