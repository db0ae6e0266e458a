"""What looks alike and is not: one's own time that is over and another producer, a partition that has just
been added and one that is not there, a slip of the caller and an end of the consumer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protocols import kafka
from protocols.kafka import TopicPartition
from protocols.kafka.group.state import Membership
from protocols.kafka.protocol import api
from tests.protocols.kafka.fake_group import FakeGroup
from tests.protocols.kafka.fake_kafka import FakeKafka, refusing, txn_errors

PART = TopicPartition("t", 0)
FENCED, OLD_EPOCH = 90, 47


class Coordinated(FakeKafka):
    """A coordinator that compares epochs, as a real one does: only who knows the current one goes on."""

    def __init__(self) -> None:
        self.refused = 0  # the code that requests of an old epoch get, once it is not 0
        super().__init__(nodes=1, transactional_id="mover", transaction_timeout=7)

    def usual(self, node: int, kind: Any, request: Any) -> Any:
        if kind is api.InitProducerId and request.producer >= 0 and request.epoch != self.epoch:
            return api.InitProducerIdResponse(0, FENCED, -1, -1)
        old = hasattr(request, "epoch") and request.epoch != self.epoch
        if kind is api.EndTxn and old:
            return api.EndTxnResponse(0, self.refused)
        if kind is api.AddPartitionsToTxn and old:
            return api.AddPartitionsToTxnResponse(0, txn_errors(request.topics, self.refused))
        if kind is api.AddOffsetsToTxn and old:
            return api.AddOffsetsToTxnResponse(0, self.refused)
        return super().usual(node, kind, request)

    def raise_epoch(self, by: int, code: int) -> None:
        self.epoch += by
        self.refused = code

    def transaction(self, between: Callable[[], object], *, late: bool = False) -> Any:
        async def steps() -> None:
            async with self.pool.transaction() as tx:
                await tx.send(kafka.message("t", b"1"))
                between()
                if late:
                    tx.send(kafka.message("t", b"2"))

        reply = self.loop.spawn(steps())
        self.advance(5)
        return reply


@pytest.mark.parametrize("code", [FENCED, OLD_EPOCH])
@pytest.mark.parametrize("late", [False, True])
def test_a_transaction_whose_time_was_over_says_so_and_the_next_one_goes_on(code: int, late: bool) -> None:
    cluster = Coordinated()
    if late:
        cluster.script(api.Produce, None, refusing(OLD_EPOCH))
    ended = cluster.transaction(lambda: cluster.raise_epoch(1, code), late=late)
    assert isinstance(ended.error, kafka.TransactionAborted)
    assert "longer than transaction_timeout=7 s" in str(ended.error)
    assert cluster.pool.fenced is None
    again = cluster.transaction(lambda: None)
    assert again.error is None
    assert [request.commit for request in cluster.asked(api.EndTxn)][-1] is True


@pytest.mark.parametrize("code", [FENCED, OLD_EPOCH])
def test_another_producer_is_still_another_producer(code: int) -> None:
    cluster = Coordinated()
    ended = cluster.transaction(lambda: cluster.raise_epoch(2, code))
    assert isinstance(ended.error, kafka.ProducerFenced)
    before = cluster.epoch
    again = cluster.transaction(lambda: None)
    assert isinstance(again.error, kafka.ProducerFenced)
    assert cluster.epoch == before  # nobody was shut out


def test_who_had_nothing_open_cannot_have_run_out_of_time() -> None:
    cluster = Coordinated()
    assert cluster.transaction(lambda: None).error is None
    cluster.raise_epoch(1, FENCED)  # another has begun meanwhile
    before = cluster.epoch
    ended = cluster.transaction(lambda: None)
    assert ended.error is not None
    assert isinstance(cluster.pool.fenced, kafka.ProducerFenced)
    assert cluster.epoch == before


# -- partitions ----------------------------------------------------------------------------------------------


def test_a_partition_that_was_just_added_is_looked_for() -> None:
    cluster = FakeKafka()
    cluster.send(b"a")
    cluster.run()
    (late,) = cluster.send(b"b", partition=1)
    cluster.run()
    assert not late.settled  # what is known may be old, and so may be what a broker says
    cluster.topics["t"] = [1, 1]
    cluster.advance(0.5)
    assert late.result().partition == 1
    (never,) = cluster.send(b"c", partition=7)
    cluster.advance(3)
    assert isinstance(never.error, kafka.NoSuchTopic)
    assert "has 2 partitions" in str(never.error)
    assert cluster.add_up()


# -- callers -------------------------------------------------------------------------------------------------

WRONG: list[tuple[Callable[[Any], object], type[Exception], str]] = [
    (lambda c: c.seek(PART, "x"), TypeError, "offset='x'; write a whole number"),
    (lambda c: c.seek(PART, 1.5), TypeError, "whole number"),
    (lambda c: c.seek(PART, None), TypeError, "whole number"),
    (lambda c: c.seek(PART, True), TypeError, "whole number"),
    (lambda c: c.seek(PART, -1), ValueError, "write 0 or more"),
    (lambda c: c.seek(PART, 1 << 63), ValueError, "or less"),
    (lambda c: c.seek(0, 1), TypeError, "not a partition; write TopicPartition"),
    (lambda c: c.seek("t", 1), TypeError, "not a partition"),
    (lambda c: c.seek(("t", "0"), 1), TypeError, "partition='0'"),
    (lambda c: c.seek((b"t", 0), 1), TypeError, "topic=b't'; write a string"),
    (lambda c: c.pause(0), TypeError, "not a partition"),
    (lambda c: c.resume(None), TypeError, "not a partition"),
    (lambda c: c.commit("x"), TypeError, "not a record"),
    (lambda c: c.commit(PART), TypeError, "not a record"),
]


@pytest.mark.parametrize(("use", "kind", "words"), WRONG)
def test_a_slip_is_the_callers_and_the_consumer_goes_on(
    use: Callable[[Any], object], kind: type[Exception], words: str
) -> None:
    group = FakeGroup(messages=10)
    assert [record.offset for record in group.receive(2)] == [0, 1]
    with pytest.raises(kind, match=words):
        use(group.consumer)
    group.advance(1)
    assert [record.offset for record in group.receive(2)] == [2, 3]


@pytest.mark.parametrize(("limit", "kind"), [("x", TypeError), (0, ValueError), (-1, ValueError)])
def test_how_many_is_a_number(limit: Any, kind: type[Exception]) -> None:
    group = FakeGroup(messages=10)
    reply = group.loop.spawn(group.consumer.receive_many(limit))
    group.run()
    assert isinstance(reply.error, kind)
    assert [record.offset for record in group.receive(2)] == [0, 1]


@pytest.mark.parametrize(
    ("member", "offsets", "words"),
    [
        ("g", {PART: 1}, "not a membership"),
        (Membership("g"), {PART: "1"}, "offset='1'"),
        (Membership("g"), {"t": 1}, "not a partition"),
        (Membership("g"), [PART], "not a mapping"),
    ],
)
def test_offsets_of_a_transaction(member: Any, offsets: Any, words: str) -> None:
    cluster = FakeKafka(transactional_id="mover")
    seen: list[BaseException] = []

    async def steps() -> None:
        async with cluster.pool.transaction() as tx:
            try:
                tx.commit_offsets(member, offsets)
            except TypeError as error:
                seen.append(error)
            tx.send(kafka.message("t", b"1"))

    reply = cluster.loop.spawn(steps())
    cluster.run()
    assert words in str(seen[0])
    assert reply.error is None
    assert cluster.values() == [b"1"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"linger": "x"}, "linger='x'"),
        ({"timeout": None}, "timeout=None"),
        ({"batch_bytes": 1.5}, "batch_bytes=1.5; write a whole number"),
        ({"transactional_id": 7}, "transactional_id=7; write a string"),
        ({"transaction_timeout": "60", "transactional_id": "x"}, "transaction_timeout='60'"),
        ({"client": 5}, "client=5"),
        ({"request_timeout": "x"}, "request_timeout='x'"),
    ],
)
def test_options_of_a_producer(options: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        kafka.pool("127.0.0.1:9092", **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"topics": (b"t",)}, "topic=b't'"),
        ({"group": 5}, "group=5"),
        ({"instance": b"x", "group": "g"}, "instance=b'x'"),
        ({"topics": (), "partitions": {("t", "0"): 0}}, "partition='0'"),
        ({"topics": (), "partitions": {("t", 0): "x"}}, "offset='x'"),
        ({"fetch_wait": "x"}, "fetch_wait='x'"),
        ({"buffer_bytes": "x"}, "buffer_bytes='x'"),
        ({"heartbeat": None}, None),
    ],
)
def test_options_of_a_consumer(options: dict[str, Any], words: str | None) -> None:
    topics = options.pop("topics", ("t",))
    with pytest.raises(TypeError, match=words):
        kafka.consumer("127.0.0.1:9092", *topics, **options)
