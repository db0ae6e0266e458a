"""Every version of the producer's requests, understood by a real broker, whose answer is understood here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import pools
from actors import Loop
from protocols.kafka.connection.units import Call
from protocols.kafka.connection.wire import KafkaWire
from protocols.kafka.protocol import api
from protocols.kafka.protocol.schema import Request
from protocols.kafka.records.batch import append_record, seal
from tests.kafka_server import KafkaCluster

ID = "versions"
SECONDS_MAX = 20.0
TXN_TOPICS = [api.TxnTopic("versions", [0])]


def batch() -> bytes:
    records = bytearray()
    append_record(records, 0, 0, None, b"x")
    return seal(records, 0, 1, 1_700_000_000_000, 1_700_000_000_000)


def no_error(answer: Any) -> bool:
    return bool(answer.error == 0)


def written(answer: api.ProduceResponse) -> bool:
    return answer.topics[0].partitions[0].error == 0


def known(answer: api.MetadataResponse) -> bool:
    return answer.topics[0].error == 0 and answer.topics[0].partitions[0].leader == answer.brokers[0].node


def refused(answer: Any) -> bool:
    """By a coordinator that knows of no such producer: it has understood."""
    codes = [part.error for topic in getattr(answer, "topics", []) for part in topic.partitions]
    return bool({*codes, getattr(answer, "error", 0)} & {25, 49, 59})


ASKED: list[tuple[Request[Any], Callable[[Any], bool]]] = [
    (api.ApiVersions(), no_error),
    (api.Metadata([api.TopicName(name="versions")]), known),
    (api.InitProducerId(None, 1000), no_error),
    (api.FindCoordinator(ID, 0), no_error),
    (
        api.Produce(None, -1, 1000, [api.ProduceTopic("versions", [api.ProducePartition(0, batch())])]),
        written,
    ),
    (api.AddPartitionsToTxn(ID, 1, 0, TXN_TOPICS), refused),
    (api.AddOffsetsToTxn(ID, 1, 0, "group"), refused),
    (api.EndTxn(ID, 1, 0, True), refused),
    (
        api.TxnOffsetCommit(
            ID,
            "group",
            1,
            0,
            5,
            "member",
            None,
            [api.TxnOffsets("versions", [api.TxnOffset(0, 1, -1, None)])],
        ),
        refused,
    ),
]
CASES = [
    (request, version, look)
    for request, look in ASKED
    for version in range(request.api.oldest, request.api.newest + 1)
]


@pytest.mark.parametrize(
    ("request_", "version", "look"), CASES, ids=[f"{r.api.name}-{version}" for r, version, _ in CASES]
)
def test_a_request_in_one_version(
    kafka_broker: KafkaCluster, request_: Request[Any], version: int, look: Callable[[Any], bool]
) -> None:
    if "versions" not in kafka_broker.admin.list_topics(timeout=10).topics:
        kafka_broker.create_topic("versions")
    wires: list[KafkaWire] = []

    def wire() -> KafkaWire:
        wires.append(KafkaWire("me", None, set()))
        return wires[-1]

    with Loop() as loop:
        pool = loop.spawn(pools.pool(wire, [kafka_broker.addresses[0]], connections=1, pipeline=8))
        loop.run_until(pool.submit(Call(api.FindCoordinator(ID, 1))))
        wires[0].offered[request_.api.key] = (version, version)
        until = loop.time() + SECONDS_MAX
        answer = loop.run_until(pool.submit(Call(request_)))
        while 14 <= getattr(answer, "error", 0) <= 16 and loop.time() < until:
            answer = loop.run_until(pool.submit(Call(request_)))  # a coordinator is only being made
        assert look(answer), f"{request_} in version {version}: {answer}"
