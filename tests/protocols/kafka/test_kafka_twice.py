"""What a broker is asked again after an answer was lost: done twice, with another client's write of the same
kind in between, it answers as the second time alone would, and changes nothing. On the simulated cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protocols import kafka
from protocols.kafka.protocol import api, fetch_api, group_api
from protocols.kafka.protocol.schema import Asked, Message, Request
from protocols.kafka.records.batch import append_record, seal
from protocols.kafka.simulated import Broker, SimulatedKafka
from protocols.kafka.simulated.server import HANDLERS

NODE = 1


class Served:
    """One broker, a topic, and a group that has stored something. `ask` is what a connection would do."""

    def __init__(self) -> None:
        self.cluster = SimulatedKafka({NODE: "broker:9092"}, {"t": 1}, lag=0.0)
        self.broker = Broker(self.cluster, NODE)
        self.write(b"before")
        self.commit(1)

    def ask(self, request: Request[Any]) -> Message:
        answer = HANDLERS[type(request)](self.broker, Asked(type(request), 0, 0, "me", request), request, 0.0)
        while callable(answer):
            found = answer(0.0)
            assert isinstance(found, Message), "it waits"
            answer = found
        assert answer is not None
        return answer

    def write(self, value: bytes) -> None:
        out = bytearray()
        append_record(out, 0, 0, None, value)
        data = seal(out, 0, 1, 1000, 1000, -1, -1, -1)
        self.ask(api.Produce(None, 1, 0, [api.ProduceTopic("t", [api.ProducePartition(0, data)])]))

    def commit(self, offset: int) -> None:
        stored = group_api.CommittedTopic("t", [group_api.CommittedPartition(0, offset, -1, None)])
        self.ask(group_api.OffsetCommit("g", -1, "", None, -1, [stored]))

    def state(self) -> Any:
        logs = [partition.log.records() for partition in self.cluster.topics.get("t", ())]
        return logs, dict(self.cluster.ids), dict(self.cluster.group("g").offsets)  # type: ignore[union-attr]


PART = fetch_api.FetchPartition(0, -1, 0, -1, -1, 1 << 20)
READS: dict[str, Request[Any]] = {
    "ApiVersions": api.ApiVersions(),
    "Metadata": api.Metadata([api.TopicName(bytes(16), "t")]),
    "FindCoordinator": api.FindCoordinator("g", 0),
    "Fetch": fetch_api.Fetch(
        -1, 0, 0, 1 << 20, 0, 0, -1, [fetch_api.FetchTopic("t", fetch_api.NO_ID, [PART])], [], ""
    ),
    "ListOffsets": fetch_api.ListOffsets(
        -1, 0, [fetch_api.OffsetTopic("t", [fetch_api.OffsetPartition(0, -1, -1)])]
    ),
    "OffsetForLeaderEpoch": fetch_api.OffsetForLeaderEpoch(
        -1, [fetch_api.EpochsOf("t", [fetch_api.EpochOf(0, -1, 0)])]
    ),
    "OffsetFetch": group_api.OffsetFetch("g", [group_api.OffsetTopicNames("t", [0])], False),
}
MEANWHILE: dict[str, Callable[[Served], object]] = {
    "a message": lambda served: served.write(b"meanwhile"),
    "an offset": lambda served: served.commit(7),
    "an unclean election": lambda served: served.cluster.lose("t", 0, 0),
    "a topic made anew": lambda served: (served.cluster.delete("t"), served.cluster.create("t", 2)),
    "more partitions": lambda served: served.cluster.create("t", 3),
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_what_is_asked_again_changes_nothing(name: str, meanwhile: str) -> None:
    twice, once = Served(), Served()
    before = twice.state()
    twice.ask(READS[name])
    assert twice.state() == before
    for served in (twice, once):
        MEANWHILE[meanwhile](served)
    assert twice.ask(READS[name]) == once.ask(READS[name])
    assert twice.state() == once.state()


def test_an_identity_that_is_asked_for_again_is_another_and_nobodys() -> None:
    served = Served()
    lost, other, found = (served.ask(api.InitProducerId(None, 0)) for _ in range(3))
    identities = {answer.producer for answer in (lost, other, found)}  # type: ignore[attr-defined]
    assert len(identities) == 3


def test_a_message_is_sent_again_only_as_what_the_broker_knows() -> None:
    """Its batch is numbered, so the second time is none; without a number it is not sent again."""
    served = Served()
    out = bytearray()
    append_record(out, 0, 0, None, b"mine")
    numbered = seal(out, 0, 1, 1000, 1000, 5, 0, 0)
    produce = api.Produce(None, 1, 0, [api.ProduceTopic("t", [api.ProducePartition(0, numbered)])])
    first = served.ask(produce)
    served.write(b"meanwhile")
    assert served.ask(produce) == first
    values = [record.value for record in served.cluster.topics["t"][0].log.records()]
    assert values == [b"before", b"mine", b"meanwhile"]
    assert kafka.pool("broker:9092").idempotent
    assert not kafka.pool("broker:9092", acks=1).idempotent
