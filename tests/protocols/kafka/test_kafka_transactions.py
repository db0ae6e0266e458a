"""Transactions of a producer, on a real broker: seen as a whole, or not at all."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions

from actors import Loop, Misuse
from protocols import kafka
from tests.kafka_server import KafkaCluster, kcat


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


def run(loop: Loop, steps: Coroutine[Any, Any, Any]) -> Any:
    return loop.run_until(loop.spawn(steps))


def committed(cluster: KafkaCluster, topic: str) -> list[str]:
    """What a reader of committed records sees."""
    level = ("-X", "isolation.level=read_committed")
    return kcat("-b", cluster.bootstrap(), "-C", "-t", topic, "-e", "-q", *level).decode().splitlines()


def test_a_transaction_is_seen_when_it_is_committed(kafka_broker: KafkaCluster, loop: Loop) -> None:
    topic = kafka_broker.create_topic("tx-committed", 3)
    pool = loop.spawn(kafka.pool(kafka_broker.bootstrap(), transactional_id="committed"))

    async def twice() -> None:
        for part in ("a", "b"):
            async with pool.transaction() as tx:
                for number in range(10):
                    tx.send(kafka.message(topic, f"{part}{number}".encode()))

    run(loop, twice())
    assert sorted(committed(kafka_broker, topic)) == sorted(f"{p}{n}" for p in "ab" for n in range(10))
    assert pool.statistics().succeeded == 20


def test_one_that_an_error_left_is_rolled_back(kafka_broker: KafkaCluster, loop: Loop) -> None:
    topic = kafka_broker.create_topic("tx-aborted", 1)
    pool = loop.spawn(kafka.pool(kafka_broker.bootstrap(), transactional_id="aborted"))

    last: Any = None

    async def fails() -> None:
        nonlocal last
        async with pool.transaction() as tx:
            await tx.send(kafka.message(topic, b"written, but for nothing"))
            last = tx.send(kafka.message(topic, b"not even sent"))
            raise RuntimeError("of its own")

    async def steps() -> None:
        with pytest.raises(RuntimeError, match="of its own"):
            await fails()
        assert isinstance(last.error, kafka.TransactionAborted)
        async with pool.transaction() as tx:
            tx.send(kafka.message(topic, b"stays"))

    run(loop, steps())
    assert committed(kafka_broker, topic) == ["stays"]


def test_one_of_which_a_part_fails_is_rolled_back(kafka_broker: KafkaCluster, loop: Loop) -> None:
    topic = kafka_broker.create_topic("tx-part", 1, **{"max.message.bytes": "1000"})
    pool = loop.spawn(kafka.pool(kafka_broker.bootstrap(), transactional_id="part"))

    async def fails() -> None:
        async with pool.transaction() as tx:
            await tx.send(kafka.message(topic, b"small"))
            tx.send(kafka.message(topic, b"x" * 5000))

    async def steps() -> None:
        with pytest.raises(kafka.TransactionAborted, match="MESSAGE_TOO_LARGE"):
            await fails()
        async with pool.transaction() as tx:
            tx.send(kafka.message(topic, b"stays"))

    run(loop, steps())
    assert committed(kafka_broker, topic) == ["stays"]


def test_another_with_the_same_id_shuts_this_one_out(kafka_broker: KafkaCluster, loop: Loop) -> None:
    topic = kafka_broker.create_topic("tx-fenced", 1)
    first, second = (
        loop.spawn(kafka.pool(kafka_broker.bootstrap(), transactional_id="fenced")) for _ in range(2)
    )

    async def overtaken() -> None:
        async with first.transaction() as tx:
            await tx.send(kafka.message(topic, b"lost"))
            async with second.transaction() as other:
                await other.send(kafka.message(topic, b"2"))

    async def steps() -> None:
        async with first.transaction() as tx:
            tx.send(kafka.message(topic, b"1"))
        with pytest.raises(kafka.ProducerFenced, match="its own"):
            await overtaken()
        with pytest.raises(kafka.ProducerFenced):
            async with first.transaction():
                raise AssertionError("never begun")
        async with second.transaction() as tx:
            tx.send(kafka.message(topic, b"3"))

    run(loop, steps())
    assert committed(kafka_broker, topic) == ["1", "2", "3"]


def test_an_empty_one_and_what_is_misuse(kafka_broker: KafkaCluster, loop: Loop) -> None:
    topic = kafka_broker.create_topic("tx-empty", 1)
    pool = loop.spawn(kafka.pool(kafka_broker.bootstrap(), transactional_id="empty"))

    async def steps() -> None:
        async with pool.transaction():
            pass  # nothing in it: nothing to tell
        with pytest.raises(Misuse, match="no transaction is open"):
            pool.submit(kafka.message(topic, b"x"))
        async with pool.transaction() as tx:
            with pytest.raises(Misuse, match="one at a time"):
                async with pool.transaction():
                    pass
            await pool.submit(kafka.message(topic, b"by the pool"))
        with pytest.raises(Misuse, match="not open"):
            tx.send(kafka.message(topic, b"x"))

    run(loop, steps())
    assert committed(kafka_broker, topic) == ["by the pool"]


def test_offsets_are_stored_with_the_epoch_of_their_leader(kafka_broker: KafkaCluster, loop: Loop) -> None:
    topic = kafka_broker.create_topic("tx-epochs", 1)
    kcat("-b", kafka_broker.bootstrap(), "-P", "-t", topic, data=b"1\n2\n3\n")
    options: Any = {"auto_offset_reset": "earliest", "auto_commit": None}
    reader = loop.spawn(kafka.consumer(kafka_broker.bootstrap(), topic, group="epochs", **options))
    pool = loop.spawn(kafka.pool(kafka_broker.bootstrap(), transactional_id="epochs"))

    async def steps() -> None:
        read = 0
        while read < 3:
            read += len(await reader.receive_many())
        async with pool.transaction() as tx:
            tx.commit_offsets(reader.membership, reader.positions())

    run(loop, steps())
    found: list[Any] = []
    while not found:  # until the coordinator has completed the transaction
        asked = kafka_broker.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions("epochs")])
        found = asked["epochs"].result(30).topic_partitions
    (stored,) = found
    assert (stored.topic, stored.offset, stored.leader_epoch) == (topic, 3, 0)
