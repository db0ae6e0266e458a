"""The requests of a consumer to the leaders of partitions: what is asked and what is answered (protocol
guide, "The Messages").
"""

from __future__ import annotations

from typing import Annotated, Final

from .schema import Api, Bytes, Int8, Int16, Int32, Int64, Message, Request, Str, Uuid, since

__all__ = [
    "BEGINNING",
    "END",
    "NO_ID",
    "AbortedTransaction",
    "EndOfEpoch",
    "EndsOfEpochs",
    "EpochOf",
    "EpochsOf",
    "Fetch",
    "FetchPartition",
    "FetchResponse",
    "FetchTopic",
    "FetchedPartition",
    "FetchedTopic",
    "ForgottenTopic",
    "ListOffsets",
    "ListOffsetsResponse",
    "ListedPartition",
    "ListedTopic",
    "OffsetForLeaderEpoch",
    "OffsetForLeaderEpochResponse",
    "OffsetPartition",
    "OffsetTopic",
]

NO_ID: Final = bytes(16)  # of a topic, where brokers are older than ids
BEGINNING: Final = -2  # what to ask ListOffsets for instead of a time
END: Final = -1  # likewise
BY_NAME: Final = 12  # the last version of Fetch that names topics; a name may be another topic's by now

# -- messages ----------------------------------------------------------------------------------------------


class AbortedTransaction(Message):
    """What this producer wrote from this offset on was rolled back, up to the marker that says so."""

    producer: Int64
    first_offset: Int64


class FetchedPartition(Message):
    """Batches of a partition. A reader of what is committed gets none behind `last_stable`."""

    partition: Int32
    error: Int16
    high_watermark: Int64
    last_stable: Int64
    log_start: Annotated[Int64, since(5, otherwise=-1)]
    aborted: list[AbortedTransaction] | None
    preferred_replica: Annotated[Int32, since(11, otherwise=-1)]
    records: Bytes | None


class FetchedTopic(Message):
    """The same, of a topic's partitions."""

    topic: Annotated[Str, since(0, until=BY_NAME, otherwise="")]
    id: Annotated[Uuid, since(BY_NAME + 1, otherwise=NO_ID)]
    partitions: list[FetchedPartition]


class FetchResponse(Message):
    """Batches from one broker."""

    throttle_ms: Int32
    error: Annotated[Int16, since(7)]
    session: Annotated[Int32, since(7)]
    topics: list[FetchedTopic]


class FetchPartition(Message):
    """From where a partition is read, and how much at most."""

    partition: Int32
    leader_epoch: Annotated[Int32, since(9)]
    offset: Int64
    last_epoch: Annotated[Int32, since(12)]
    log_start: Annotated[Int64, since(5)]
    bytes_max: Int32


class FetchTopic(Message):
    """The same, of a topic's partitions."""

    topic: Annotated[Str, since(0, until=BY_NAME, otherwise="")]
    id: Annotated[Uuid, since(BY_NAME + 1, otherwise=NO_ID)]
    partitions: list[FetchPartition]


class ForgottenTopic(Message):
    """Partitions that are no longer read; only where there is a session."""

    topic: Str
    partitions: list[Int32]


class Fetch(Request[FetchResponse]):
    """Messages, as soon as there are `bytes_min` bytes of them or `wait_ms` have passed. `isolation` 1: only
    what is committed.
    """

    api = Api(1, "Fetch", 4, 13, 12, FetchResponse)

    replica: Int32
    wait_ms: Int32
    bytes_min: Int32
    bytes_max: Int32
    isolation: Int8
    session: Annotated[Int32, since(7)]
    session_epoch: Annotated[Int32, since(7)]
    topics: list[FetchTopic]
    forgotten: Annotated[list[ForgottenTopic], since(7)]
    rack: Annotated[Str, since(11)]

    @property
    def newest(self) -> int:
        """By id only where every topic's is known."""
        return BY_NAME if any(topic.id == NO_ID for topic in self.topics) else self.api.newest


# -- offsets -----------------------------------------------------------------------------------------------


class ListedPartition(Message):
    """The offset that was asked for; -1 where there is none."""

    partition: Int32
    error: Int16
    timestamp_ms: Int64
    offset: Int64
    leader_epoch: Annotated[Int32, since(4, otherwise=-1)]


class ListedTopic(Message):
    """The same, of a topic's partitions."""

    topic: Str
    partitions: list[ListedPartition]


class ListOffsetsResponse(Message):
    """Offsets of partitions."""

    throttle_ms: Int32
    topics: list[ListedTopic]


class OffsetPartition(Message):
    """Which offset is asked for: the first of this time (ms) or later; or `BEGINNING`, `END`."""

    partition: Int32
    leader_epoch: Annotated[Int32, since(4)]
    timestamp_ms: Int64


class OffsetTopic(Message):
    """The same, of a topic's partitions."""

    topic: Str
    partitions: list[OffsetPartition]


class ListOffsets(Request[ListOffsetsResponse]):
    """Where do partitions begin or end?"""

    api = Api(2, "ListOffsets", 2, 6, 6, ListOffsetsResponse)

    replica: Int32
    isolation: Int8
    topics: list[OffsetTopic]


# -- epochs ------------------------------------------------------------------------------------------------


class EndOfEpoch(Message):
    """The greatest epoch in the leader's log that is not above the one that was asked for, and the offset
    behind it; -1 and -1 if there is none.
    """

    error: Int16
    partition: Int32
    epoch: Int32
    end: Int64


class EndsOfEpochs(Message):
    """The same, of a topic's partitions."""

    topic: Str
    partitions: list[EndOfEpoch]


class OffsetForLeaderEpochResponse(Message):
    """Where epochs end."""

    throttle_ms: Int32
    topics: list[EndsOfEpochs]


class EpochOf(Message):
    """Which epoch is asked for, and in which one we believe the leader to be."""

    partition: Int32
    leader_epoch: Int32
    epoch: Int32


class EpochsOf(Message):
    """The same, of a topic's partitions."""

    topic: Str
    partitions: list[EpochOf]


class OffsetForLeaderEpoch(Request[OffsetForLeaderEpochResponse]):
    """Where does an epoch end in your log? Before version 3 it takes the rights of a broker (KIP-320)."""

    api = Api(23, "OffsetForLeaderEpoch", 3, 4, 4, OffsetForLeaderEpochResponse)

    replica: Int32
    topics: list[EpochsOf]
