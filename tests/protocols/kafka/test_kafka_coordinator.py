"""Transactions against a fake coordinator: what becomes of them when it moves, is late, refuses, is gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

import pools
from actors import DeadlineExceeded, deadline
from protocols import kafka
from protocols.kafka import TopicPartition
from protocols.kafka.group.state import Membership
from protocols.kafka.protocol import api
from tests.protocols.kafka.fake_kafka import HANG, LOSE, RESET, FakeKafka, refusing, txn_errors

MEMBER = Membership("readers", 3, "member-1", None)


def fake(**options: Any) -> FakeKafka:
    return FakeKafka(nodes=2, transactional_id="mover", **options)


def sending(cluster: FakeKafka, *values: bytes) -> Callable[[], Awaitable[None]]:
    async def steps() -> None:
        async with cluster.pool.transaction() as tx:
            for value in values:
                tx.send(kafka.message("t", value))

    return steps


def ends(cluster: FakeKafka) -> list[bool]:
    """How transactions were ended."""
    return [request.commit for request in cluster.asked(api.EndTxn)]


def test_a_transaction_from_its_beginning_to_its_end() -> None:
    cluster = fake()
    done = cluster.loop.spawn(sending(cluster, b"1", b"2")())
    cluster.run()
    assert done.error is None
    order = [type(request).__name__ for _, request in cluster.seen if not isinstance(request, api.Metadata)]
    assert [name for name in order if name != "ApiVersions"] == [
        "FindCoordinator",
        "InitProducerId",
        "AddPartitionsToTxn",
        "Produce",
        "EndTxn",
    ]
    assert ends(cluster) == [True]
    (produce,) = cluster.asked(api.Produce)
    assert produce.transactional == "mover"
    again = cluster.loop.spawn(sending(cluster, b"3")())
    cluster.run()
    assert again.error is None
    assert len(cluster.asked(api.InitProducerId)) == 1
    assert len(cluster.asked(api.AddPartitionsToTxn)) == 2
    assert cluster.values() == [b"1", b"2", b"3"]


def test_a_coordinator_that_moves_is_found_and_one_that_is_busy_waited_for() -> None:
    cluster = fake()
    cluster.script(
        api.FindCoordinator, api.FindCoordinatorResponse(0, 15, "starting", -1, "", -1), RESET, None
    )
    cluster.script(api.InitProducerId, api.InitProducerIdResponse(0, 51, -1, -1), RESET)
    cluster.script(
        api.AddPartitionsToTxn,
        lambda node, request: api.AddPartitionsToTxnResponse(0, txn_errors(request.topics, 16)),
        lambda node, request: api.AddPartitionsToTxnResponse(0, txn_errors(request.topics, 51)),
    )
    cluster.script(api.EndTxn, api.EndTxnResponse(0, 14), api.EndTxnResponse(0, 16), LOSE)
    done = cluster.loop.spawn(sending(cluster, b"1")())
    cluster.advance(20)
    assert done.error is None
    assert cluster.values() == [b"1"]
    assert ends(cluster) == [True] * 4
    assert len(cluster.asked(api.FindCoordinator)) >= 4


def test_an_end_without_an_answer_may_be_either_and_the_next_begins_anew() -> None:
    cluster = fake(timeout=5.0, request_timeout=1.0)
    cluster.script(api.EndTxn, *[HANG] * 20)
    done = cluster.loop.spawn(sending(cluster, b"1")())
    cluster.advance(10)
    assert isinstance(done.error, pools.DeadlineExceeded)
    assert "may have been executed" in str(done.error)
    cluster.scripts.clear()
    again = cluster.loop.spawn(sending(cluster, b"2")())
    cluster.advance(1)
    assert again.error is None
    first, second = cluster.asked(api.InitProducerId)
    assert (first.epoch, second.producer, second.epoch) == (-1, 8000, 0)
    assert cluster.values() == [b"1", b"2"]


@pytest.mark.parametrize("code", [47, 48, 90])
def test_one_that_the_coordinator_had_ended_before(code: int) -> None:
    cluster = fake()
    cluster.script(api.EndTxn, api.EndTxnResponse(0, code))
    done = cluster.loop.spawn(sending(cluster, b"1")())
    cluster.run()
    assert isinstance(done.error, kafka.TransactionAborted)
    assert "transaction_timeout=60" in str(done.error)
    again = cluster.loop.spawn(sending(cluster, b"2")())
    cluster.run()
    assert again.error is None
    assert len(cluster.asked(api.InitProducerId)) == 2


def test_a_refusal_of_the_end_is_the_error() -> None:
    cluster = fake()
    cluster.script(api.EndTxn, api.EndTxnResponse(0, 53))
    done = cluster.loop.spawn(sending(cluster, b"1")())
    cluster.run()
    assert isinstance(done.error, kafka.KafkaError)
    assert done.error.name == "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"


def test_who_is_fenced_stays_so() -> None:
    cluster = fake()
    cluster.script(api.EndTxn, api.EndTxnResponse(0, 90))
    refused = api.InitProducerIdResponse(0, 90, -1, -1)
    cluster.script(api.InitProducerId, None, refused, refused)
    done = cluster.loop.spawn(sending(cluster, b"1")())
    cluster.run()
    assert isinstance(done.error, kafka.ProducerFenced)
    asked = len(cluster.seen)
    again = cluster.loop.spawn(sending(cluster, b"2")())
    cluster.run()
    assert isinstance(again.error, kafka.ProducerFenced)
    assert "its own" in str(again.error)
    assert len(cluster.seen) == asked


def test_a_partition_that_may_not_be_part_of_it_rolls_it_back() -> None:
    cluster = fake()
    cluster.script(
        api.AddPartitionsToTxn,
        lambda node, request: api.AddPartitionsToTxnResponse(0, txn_errors(request.topics, 29)),
    )
    done = cluster.loop.spawn(sending(cluster, b"1", b"2")())
    cluster.run()
    assert isinstance(done.error, kafka.TransactionAborted)
    assert "TOPIC_AUTHORIZATION_FAILED" in str(done.error)
    assert ends(cluster) == [False]
    assert cluster.values() == []
    again = cluster.loop.spawn(sending(cluster, b"3")())
    cluster.run()
    assert again.error is None
    assert cluster.pool.statistics().failed == {"KafkaError": 2}


def test_a_batch_whose_fate_is_not_known_rolls_it_back_and_takes_the_next_epoch() -> None:
    cluster = fake(timeout=3.0, request_timeout=1.0)
    cluster.script(api.Produce, *[HANG] * 3)
    done = cluster.loop.spawn(sending(cluster, b"1")())
    cluster.advance(8)
    assert isinstance(done.error, kafka.TransactionAborted)
    assert "may have been written" in str(done.error)
    assert ends(cluster) == [False]
    cluster.scripts.clear()
    again = cluster.loop.spawn(sending(cluster, b"2")())
    cluster.advance(1)
    assert again.error is None
    assert [request.epoch for request in cluster.asked(api.InitProducerId)] == [-1, 0]


def test_a_sequence_that_the_broker_has_lost_rolls_it_back() -> None:
    cluster = fake()
    cluster.script(api.Produce, refusing(45))
    done = cluster.loop.spawn(sending(cluster, b"1")())
    cluster.run()
    assert isinstance(done.error, kafka.TransactionAborted)
    assert ends(cluster) == [False]
    assert cluster.epoch == 1


def test_offsets_are_committed_with_it() -> None:
    cluster = fake()

    async def steps() -> None:
        async with cluster.pool.transaction() as tx:
            reached = kafka.Offset(7, leader_epoch=3)
            await tx.commit_offsets(MEMBER, {TopicPartition("in", 0): 5, TopicPartition("in", 1): reached})
            tx.commit_offsets(MEMBER, {TopicPartition("in", 0): 6})

    done = cluster.loop.spawn(steps())
    cluster.run()
    assert done.error is None
    assert len(cluster.asked(api.AddOffsetsToTxn)) == 1
    first, second = cluster.asked(api.TxnOffsetCommit)
    assert (first.group, first.generation, first.member, first.group_instance) == (
        "readers",
        3,
        "member-1",
        None,
    )
    parts = first.topics[0].partitions
    assert [(part.partition, part.offset, part.leader_epoch) for part in parts] == [(0, 5, -1), (1, 7, 3)]
    assert [(part.partition, part.offset) for part in second.topics[0].partitions] == [(0, 6)]
    assert ends(cluster) == [True]


def storing(
    cluster: FakeKafka, *given: dict[tuple[str, int], int]
) -> Callable[[], Coroutine[Any, Any, None]]:
    async def steps() -> None:
        async with cluster.pool.transaction() as tx:
            for offsets in given:
                tx.commit_offsets(MEMBER, {TopicPartition(*key): offset for key, offset in offsets.items()})

    return steps


def stored(cluster: FakeKafka) -> list[int]:
    """Which offsets were to be stored, in order."""
    return [
        part.offset
        for request in cluster.asked(api.TxnOffsetCommit)
        for topic in request.topics
        for part in topic.partitions
    ]


@pytest.mark.parametrize("kind", [api.EndTxn, api.TxnOffsetCommit])
@pytest.mark.parametrize("lost", [LOSE, RESET])
def test_what_is_executed_again_later_is_shut_out_of_the_next_one(kind: Any, lost: str) -> None:
    cluster = fake()
    cluster.script(kind, lost)
    for offset in (1, 2, 3):
        done = cluster.loop.spawn(storing(cluster, {("clicks", 0): offset})())
        cluster.advance(1)
        assert done.error is None
    epochs = [request.epoch for request in cluster.asked(api.EndTxn)]
    assert epochs[-3:] == [0, 1, 1]
    assert len(cluster.asked(api.InitProducerId)) == 2
    assert all(ends(cluster))


def test_offsets_that_could_not_be_stored_are_shut_out_of_the_next_one() -> None:
    cluster = fake(timeout=5.0, request_timeout=1.0)
    cluster.script(api.TxnOffsetCommit, *[HANG] * 20)
    done = cluster.loop.spawn(storing(cluster, {("clicks", 0): 1})())
    cluster.advance(10)
    assert isinstance(done.error, kafka.TransactionAborted)
    cluster.scripts.clear()
    again = cluster.loop.spawn(storing(cluster, {("clicks", 0): 1})())
    cluster.advance(1)
    assert again.error is None
    assert ends(cluster) == [False, True]
    assert [request.epoch for request in cluster.asked(api.EndTxn)] == [0, 1]


def test_later_offsets_are_stored_after_earlier_ones() -> None:
    cluster = fake()
    cluster.script(
        api.TxnOffsetCommit,
        lambda node, request: api.TxnOffsetCommitResponse(0, txn_errors(request.topics, 14)),
    )
    done = cluster.loop.spawn(storing(cluster, {("clicks", 0): 50}, {("clicks", 0): 60})())
    cluster.advance(1)
    assert done.error is None
    assert stored(cluster) == [50, 50, 60]


def test_offsets_that_earlier_ones_may_replace_later_roll_it_back() -> None:
    cluster = fake()
    cluster.script(api.TxnOffsetCommit, RESET)
    done = cluster.loop.spawn(storing(cluster, {("clicks", 0): 50}, {("clicks", 0): 60})())
    cluster.advance(1)
    assert isinstance(done.error, kafka.TransactionAborted)
    assert "executed late" in str(done.error)
    assert ends(cluster) == [False]
    again = cluster.loop.spawn(storing(cluster, {("clicks", 0): 60})())
    cluster.advance(1)
    assert again.error is None


def test_offsets_of_other_partitions_are_in_nobodys_way() -> None:
    cluster = fake()
    cluster.script(api.TxnOffsetCommit, RESET)
    done = cluster.loop.spawn(storing(cluster, {("clicks", 0): 50}, {("clicks", 1): 60})())
    cluster.advance(1)
    assert done.error is None
    assert stored(cluster) == [50, 50, 60]


def test_offsets_of_a_member_that_was_expelled_roll_it_back() -> None:
    cluster = fake()
    cluster.script(
        api.TxnOffsetCommit,
        lambda node, request: api.TxnOffsetCommitResponse(0, txn_errors(request.topics, 22)),
    )

    async def steps() -> None:
        async with cluster.pool.transaction() as tx:
            tx.send(kafka.message("t", b"1"))
            tx.commit_offsets(MEMBER, {TopicPartition("in", 0): 5})

    done = cluster.loop.spawn(steps())
    cluster.run()
    assert isinstance(done.error, kafka.TransactionAborted)
    assert "ILLEGAL_GENERATION" in str(done.error)
    assert ends(cluster) == [False]


def test_who_waits_for_the_end_may_go_and_the_end_comes() -> None:
    cluster = fake()
    cluster.script(api.EndTxn, HANG)

    async def steps() -> None:
        with deadline(1.0):
            async with cluster.pool.transaction() as tx:
                await tx.send(kafka.message("t", b"1"))

    done = cluster.loop.spawn(steps())
    cluster.advance(2)
    assert isinstance(done.error, DeadlineExceeded)  # the block's own, not the transaction's
    again = cluster.loop.spawn(sending(cluster, b"2")())
    cluster.advance(1)
    assert not again.settled
    cluster.advance(20)
    assert again.error is None
    assert ends(cluster) == [True, True, True]
    assert cluster.values() == [b"1", b"2"]


def test_a_block_that_was_not_entered_is_in_nobodys_way() -> None:
    cluster = fake()
    cluster.script(api.InitProducerId, HANG)
    waiting = cluster.loop.spawn(sending(cluster, b"1")())
    cluster.run()
    waiting.cancel()
    cluster.run()
    again = cluster.loop.spawn(sending(cluster, b"2")())
    cluster.advance(30)
    assert again.error is None
    assert cluster.values() == [b"2"]
    assert ends(cluster) == [True]


def test_a_block_that_is_cancelled_is_rolled_back() -> None:
    cluster = fake()
    stuck = cluster.loop.spawn(_never())

    async def steps() -> None:
        async with cluster.pool.transaction() as tx:
            await tx.send(kafka.message("t", b"1"))
            await stuck

    done = cluster.loop.spawn(steps())
    cluster.run()
    done.cancel()
    cluster.run()
    assert ends(cluster) == [False]
    assert cluster.pool.open is None


async def _never() -> None:
    from actors import Reply

    await Reply()


def test_what_cannot_begin_says_why() -> None:
    cluster = fake()
    cluster.versions[22] = (9, 9)
    done = cluster.loop.spawn(sending(cluster, b"1")())
    cluster.run()
    assert isinstance(done.error, kafka.BrokerTooOld)
    assert cluster.pool.open is None
    with pytest.raises(ValueError, match="acks"):
        kafka.pool("h", transactional_id="x", acks=1)


def test_a_drain_waits_for_the_end() -> None:
    cluster = fake()
    cluster.script(api.EndTxn, RESET)
    done = cluster.loop.spawn(sending(cluster, b"1")())
    cluster.run()
    cluster.pool.drain()
    cluster.advance(1)
    assert done.error is None
    assert cluster.loop.machines == 0


def test_a_pool_that_is_stopped_settles_what_waits_for_the_end() -> None:
    cluster = fake()
    cluster.script(api.EndTxn, HANG)
    done = cluster.loop.spawn(sending(cluster, b"1")())
    cluster.run()
    cluster.loop.kill(cluster.pool.token)
    cluster.run()
    assert isinstance(done.error, pools.PoolError)
    assert cluster.loop.machines == 0


def test_what_they_say_of_themselves() -> None:
    cluster = fake()
    told: list[str] = []

    async def steps() -> None:
        async with cluster.pool.transaction() as tx:
            told.append(repr(tx))
            tx.send(kafka.message("t", b"x" * 2_000_000))
            told.append(repr(tx))
        raise AssertionError("was committed")

    done = cluster.loop.spawn(steps())
    cluster.run()
    assert isinstance(done.error, kafka.TransactionAborted)
    assert told[0] == "<Transaction open>"
    assert told[1].startswith("<Transaction open, failed: t: MESSAGE_TOO_LARGE")
