"""Consumers against real brokers and the mock cluster, beside members that are other clients."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import confluent_kafka
import pytest
import structlog

from actors import ChannelClosed, Loop, Misuse
from actors.testing import run_until
from pools import PoolClosed
from protocols import kafka
from protocols.kafka import TopicPartition
from tests.kafka_server import KafkaCluster, MockKafka, kcat

numbers = count()
Rows = list[tuple[int, int, bytes | None]]


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


def fresh(name: str) -> str:
    """Names of topics and groups that no other test uses."""
    return f"{name}-{next(numbers)}"


def write(bootstrap: str, topic: str, *values: bytes, partition: int | None = None) -> None:
    where = () if partition is None else ("-p", str(partition))
    kcat("-b", bootstrap, "-P", "-t", topic, *where, data=b"".join(value + b"\n" for value in values))


def written(bootstrap: str, topic: str, count: int, partition: int | None = None) -> list[bytes]:
    values = [b"%d" % number for number in range(count)]
    write(bootstrap, topic, *values, partition=partition)
    return values


def receive(loop: Loop, consumer: kafka.Consumer, count: int) -> list[kafka.Record]:
    async def some() -> list[kafka.Record]:
        return [await consumer.receive() for _ in range(count)]

    return loop.run_until(loop.spawn(some()))


def values(records: list[kafka.Record]) -> list[bytes | None]:
    return sorted((record.value for record in records), key=lambda value: value or b"")


class Sharing:
    """What members of a group have read, each by its own flow."""

    def __init__(self, loop: Loop, bootstrap: str, topic: str, **options: Any) -> None:
        self.loop, self.bootstrap, self.topic = loop, bootstrap, topic
        self.options = {"group": fresh("g"), "auto_offset_reset": "earliest", "heartbeat": 0.05, **options}
        self.got: list[tuple[int, kafka.Record]] = []
        self.changes: list[tuple[int, kafka.Rebalance]] = []

    def join(self, who: int, **options: Any) -> kafka.Consumer:
        def changed(change: kafka.Rebalance) -> None:
            self.changes.append((who, change))

        member = self.loop.spawn(
            kafka.consumer(self.bootstrap, self.topic, on_rebalance=changed, **{**self.options, **options})
        )

        async def read() -> None:
            async for record in member:
                self.got.append((who, record))

        self.loop.spawn(read())
        return member

    def values(self) -> list[bytes | None]:
        return sorted(record.value or b"" for _, record in self.got)


# -- reading -----------------------------------------------------------------------------------------------


def test_everything_is_read_in_order_without_a_group(loop: Loop, any_kafka: KafkaCluster | MockKafka) -> None:
    topic = any_kafka.create_topic(fresh("all"), 4)
    for partition in range(4):
        written(any_kafka.bootstrap(), topic, 50, partition)
    clicks = loop.spawn(kafka.consumer(any_kafka.bootstrap(), topic, auto_offset_reset="earliest"))
    records = receive(loop, clicks, 200)
    for partition in range(4):
        mine = [record for record in records if record.partition == partition]
        assert [record.value for record in mine] == [b"%d" % number for number in range(50)]
        assert [record.offset for record in mine] == list(range(50))
    assert {record.topic for record in records} == {topic}
    assert clicks.statistics().delivered == 200
    assert clicks.statistics().state == "alone"
    with pytest.raises(Misuse, match="group="):
        clicks.commit()
    loop.run_until(clicks.close())
    assert loop.machines == 0


def test_latest_reads_what_comes_and_earliest_what_is_there(loop: Loop, kafka_broker: KafkaCluster) -> None:
    topic = kafka_broker.create_topic(fresh("latest"))
    write(kafka_broker.bootstrap(), topic, b"before")
    late = loop.spawn(kafka.consumer(kafka_broker.bootstrap(), topic))
    early = loop.spawn(kafka.consumer(kafka_broker.bootstrap(), topic, auto_offset_reset="earliest"))
    loop.run_until(late.subscribed)
    write(kafka_broker.bootstrap(), topic, b"after")
    assert [record.value for record in receive(loop, late, 1)] == [b"after"]
    assert [record.value for record in receive(loop, early, 2)] == [b"before", b"after"]


def test_keys_headers_and_timestamps_as_another_client_wrote_them(
    loop: Loop, any_kafka: KafkaCluster | MockKafka
) -> None:
    topic = any_kafka.create_topic(fresh("fields"), 4)
    producer = confluent_kafka.Producer({"bootstrap.servers": any_kafka.bootstrap()})
    producer.produce(topic, b"v", b"k", 2, headers=[("a", b"1"), ("b", None)], timestamp=1_700_000_000_123)
    producer.produce(topic, None, b"k", 2)
    producer.flush()
    clicks = loop.spawn(kafka.consumer(any_kafka.bootstrap(), topic, auto_offset_reset="earliest"))
    first, second = receive(loop, clicks, 2)
    assert first == kafka.Record(topic, 2, 0, 1_700_000_000_123, b"k", b"v", (("a", b"1"), ("b", None)))
    assert (second.key, second.value, second.headers) == (b"k", None, ())


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_every_compression_of_another_client(
    loop: Loop, kafka_broker: KafkaCluster, compression: str
) -> None:
    topic = kafka_broker.create_topic(fresh(compression))
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": kafka_broker.bootstrap(), "compression.type": compression, "linger.ms": 50}
    )
    sent = [b"some words %d " % number * 50 for number in range(100)]
    for value in sent:
        producer.produce(topic, value)
    producer.flush()
    clicks = loop.spawn(kafka.consumer(kafka_broker.bootstrap(), topic, auto_offset_reset="earliest"))
    assert [record.value for record in receive(loop, clicks, 100)] == sent


def test_named_partitions_from_named_offsets(loop: Loop, kafka_broker: KafkaCluster) -> None:
    topic = kafka_broker.create_topic(fresh("manual"), 3)
    for partition in range(3):
        written(kafka_broker.bootstrap(), topic, 5, partition)
    group = fresh("g")
    chosen: Any = {(topic, 0): 3, (topic, 2): None}
    options: Any = {"partitions": chosen, "group": group, "auto_offset_reset": "earliest"}
    clicks = loop.spawn(kafka.consumer(kafka_broker.bootstrap(), **options))
    records = receive(loop, clicks, 7)
    assert sorted((record.partition, record.offset) for record in records) == [
        (0, 3),
        (0, 4),
        *((2, offset) for offset in range(5)),
    ]
    loop.run_until(clicks.commit())
    again = loop.spawn(
        kafka.consumer(kafka_broker.bootstrap(), **options | {"partitions": {(topic, 2): None}})
    )
    loop.run_until(again.subscribed)
    assert again.positions() == {TopicPartition(topic, 2): 5}


def test_seek_pause_and_resume(loop: Loop, kafka_broker: KafkaCluster) -> None:
    topic = kafka_broker.create_topic(fresh("seek"), 2)
    for partition in range(2):
        written(kafka_broker.bootstrap(), topic, 10, partition)
    clicks = loop.spawn(kafka.consumer(kafka_broker.bootstrap(), topic, auto_offset_reset="earliest"))
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    loop.run_until(clicks.subscribed)
    assert set(clicks.assignment) == {zero, one}
    clicks.pause(one)
    assert {record.partition for record in receive(loop, clicks, 10)} == {0}
    clicks.seek(zero, 8)
    assert [record.offset for record in receive(loop, clicks, 2)] == [8, 9]
    clicks.resume(one)
    assert [(record.partition, record.offset) for record in receive(loop, clicks, 3)] == [
        (1, 0),
        (1, 1),
        (1, 2),
    ]
    clicks.pause(one)  # in the middle of what was read ahead
    clicks.seek(zero, 9)
    assert [(record.partition, record.offset) for record in receive(loop, clicks, 1)] == [(0, 9)]
    clicks.resume(one)
    assert [(record.partition, record.offset) for record in receive(loop, clicks, 1)] == [(1, 3)]
    with pytest.raises(Misuse, match="not read here"):
        clicks.seek(TopicPartition(topic, 7), 0)


def test_a_slow_reader_bounds_what_is_read_ahead(loop: Loop, kafka_broker: KafkaCluster) -> None:
    topic = kafka_broker.create_topic(fresh("slow"))
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka_broker.bootstrap(), "batch.size": 4000})
    sent = [b"%06d" % number + bytes(1000) for number in range(300)]
    for value in sent:
        producer.produce(topic, value)
    producer.flush()
    clicks = loop.spawn(
        kafka.consumer(
            kafka_broker.bootstrap(),
            topic,
            auto_offset_reset="earliest",
            partition_bytes=10_000,
            buffer_bytes=20_000,
        )
    )
    run_until(loop, lambda: clicks.statistics().buffered_bytes >= 10_000)
    with pytest.raises(AssertionError, match="not come true"):
        run_until(loop, lambda: clicks.statistics().buffered_bytes > 25_000, seconds=0.2)
    assert [record.value for record in receive(loop, clicks, 300)] == sent


def test_in_asyncio_by_batches(kafka_broker: KafkaCluster) -> None:
    topic = kafka_broker.create_topic(fresh("asyncio"))
    sent = written(kafka_broker.bootstrap(), topic, 100)

    async def main() -> list[bytes | None]:
        got: list[bytes | None] = []
        async with Loop.in_asyncio() as loop:
            clicks = loop.spawn(kafka.consumer(kafka_broker.bootstrap(), topic, auto_offset_reset="earliest"))
            while len(got) < 100:
                many = await clicks.receive_many(30)
                assert 1 <= len(many) <= 30
                got += [record.value for record in many]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(clicks.receive(), 0.01)
            await clicks.close()
            with pytest.raises(ChannelClosed):
                await clicks.receive()
        return got

    assert asyncio.run(main()) == sent


def test_from_a_thread(kafka_broker: KafkaCluster) -> None:
    topic = kafka_broker.create_topic(fresh("thread"))
    sent = written(kafka_broker.bootstrap(), topic, 10)
    with Loop.in_thread() as loop:
        options: Any = {"group": fresh("g"), "auto_offset_reset": "earliest"}
        clicks = loop.spawn(kafka.consumer(kafka_broker.bootstrap(), topic, **options))
        got = [loop.spawn(clicks.receive()).result(timeout=10)]
        while len(got) < 10:
            got += loop.spawn(clicks.receive_many()).result(timeout=10)
        assert [record.value for record in got] == sent

        async def finish() -> None:
            await clicks.commit()
            await clicks.close()

        loop.spawn(finish()).result(timeout=10)


def test_of_a_transaction_only_what_is_committed(loop: Loop, kafka_broker: KafkaCluster) -> None:
    topic = kafka_broker.create_topic(fresh("txn"))
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": kafka_broker.bootstrap(), "transactional.id": fresh("id")}
    )
    producer.init_transactions()
    for number in range(6):
        producer.begin_transaction()
        producer.produce(topic, b"%d" % number)
        producer.flush()
        if number % 2:
            producer.abort_transaction()
        else:
            producer.commit_transaction()
    options: Any = {"auto_offset_reset": "earliest", "group": fresh("g")}
    committed = loop.spawn(kafka.consumer(kafka_broker.bootstrap(), topic, **options))
    everything = loop.spawn(
        kafka.consumer(
            kafka_broker.bootstrap(), topic, auto_offset_reset="earliest", isolation="read_uncommitted"
        )
    )
    assert values(receive(loop, committed, 3)) == [b"0", b"2", b"4"]
    assert values(receive(loop, everything, 6)) == [b"%d" % number for number in range(6)]
    write(kafka_broker.bootstrap(), topic, b"last")
    assert [record.offset for record in receive(loop, committed, 1)] == [12]


# -- groups ------------------------------------------------------------------------------------------------


def test_what_is_finished_is_stored_and_the_next_one_goes_on_there(
    loop: Loop, kafka_broker: KafkaCluster
) -> None:
    topic = kafka_broker.create_topic(fresh("stored"), 4)
    written(kafka_broker.bootstrap(), topic, 10, 0)
    options: Any = {"group": fresh("g"), "auto_offset_reset": "earliest"}
    first = loop.spawn(kafka.consumer(kafka_broker.bootstrap(), topic, **options))
    assert len(receive(loop, first, 4)) == 4
    loop.run_until(first.close())  # all four are finished, it says
    second = loop.spawn(kafka.consumer(kafka_broker.bootstrap(), topic, **options | {"auto_commit": None}))
    records = receive(loop, second, 3)
    assert [record.offset for record in records] == [4, 5, 6]
    loop.run_until(second.commit(records[0]))
    loop.run_until(second.close())
    third = loop.spawn(kafka.consumer(kafka_broker.bootstrap(), topic, **options | {"auto_commit": 0.01}))
    assert [record.offset for record in receive(loop, third, 3)] == [5, 6, 7]
    run_until(loop, lambda: third.statistics().commits >= 1)
    loop.drain(10.0)  # the reader is at 7, and never says that it has finished it
    loop.run()
    with Loop() as later:
        fourth = later.spawn(kafka.consumer(kafka_broker.bootstrap(), topic, **options))
        assert receive(later, fourth, 1)[0].offset == 7


def test_a_member_of_the_mock_clusters_group(loop: Loop, mock_kafka: MockKafka) -> None:
    topic = mock_kafka.create_topic(fresh("mocked"))
    written(mock_kafka.bootstrap(), topic, 10, 0)
    options: Any = {"group": fresh("g"), "auto_offset_reset": "earliest"}
    clicks = loop.spawn(kafka.consumer(mock_kafka.bootstrap(), topic, **options))
    assert [record.offset for record in receive(loop, clicks, 10)] == list(range(10))
    loop.run_until(clicks.close())
    assert clicks.statistics().commits == 1


@pytest.mark.parametrize("assignor", ["cooperative-sticky", "range"])
def test_members_share_the_partitions_and_hand_them_over(
    loop: Loop, kafka_broker: KafkaCluster, assignor: str
) -> None:
    topic = kafka_broker.create_topic(fresh("shared"), 4)
    shared = Sharing(loop, kafka_broker.bootstrap(), topic, assignor=assignor)
    one = shared.join(1)
    run_until(loop, lambda: len(one.assignment) == 4)
    two = shared.join(2)
    run_until(loop, lambda: len(one.assignment) == len(two.assignment) == 2)
    assert not set(one.assignment) & set(two.assignment)
    for partition in range(4):
        written(kafka_broker.bootstrap(), topic, 20, partition)
    run_until(loop, lambda: len(shared.got) >= 80)
    assert {who for who, _ in shared.got} == {1, 2}
    loop.run_until(one.close())
    run_until(loop, lambda: len(two.assignment) == 4)
    for partition in range(4):
        written(kafka_broker.bootstrap(), topic, 5, partition)
    run_until(loop, lambda: len(shared.got) >= 100)
    assert len(shared.got) == 100  # nothing twice: what was finished was stored before it was given back
    seen = {(record.partition, record.offset) for _, record in shared.got}
    assert len(seen) == 100
    revoked = [change.revoked for who, change in shared.changes if who == 1 and change.revoked]
    assert len(revoked[0]) == (2 if assignor == "cooperative-sticky" else 4)
    loop.run_until(two.close())


@pytest.mark.parametrize("assignor", ["cooperative-sticky", "range"])
def test_a_member_of_another_client_shares_with_ours(
    loop: Loop, kafka_broker: KafkaCluster, assignor: str
) -> None:
    topic = kafka_broker.create_topic(fresh("mixed"), 4)
    shared = Sharing(loop, kafka_broker.bootstrap(), topic, assignor=assignor)
    ours = shared.join(1)
    run_until(loop, lambda: len(ours.assignment) == 4)
    theirs = Theirs(kafka_broker.bootstrap(), topic, shared.options["group"], assignor)
    with theirs:
        run_until(loop, lambda: len(ours.assignment) == len(theirs.assignment) == 2, seconds=20)
        assert {partition for _, partition in ours.assignment}.isdisjoint(theirs.assignment)
        more = shared.join(2)  # with a third, ours or theirs leads as it happens
        run_until(
            loop,
            lambda: sorted((len(ours.assignment), len(more.assignment), len(theirs.assignment))) == [1, 1, 2],
        )
        for partition in range(4):
            written(kafka_broker.bootstrap(), topic, 10, partition)
        run_until(loop, lambda: len(shared.got) + len(theirs.got) >= 40)
    seen = {(record.partition, record.offset) for _, record in shared.got} | set(theirs.got)
    assert len(seen) == 40
    run_until(loop, lambda: len(ours.assignment) == len(more.assignment) == 2)


class Theirs:
    """A member that is confluent-kafka's, in a thread of its own."""

    def __init__(self, bootstrap: str, topic: str, group: str, assignor: str) -> None:
        self.got: list[tuple[int, int]] = []
        self.assignment: set[int] = set()
        self._client = confluent_kafka.Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "partition.assignment.strategy": assignor,
                "heartbeat.interval.ms": 50,
                "session.timeout.ms": 6000,
            }
        )
        self._topic = topic
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._client.subscribe([self._topic])
        while not self._over.is_set():
            message = self._client.poll(0.05)
            self.assignment = {part.partition for part in self._client.assignment()}
            if message is not None and message.error() is None:
                self.got.append((message.partition(), message.offset()))
        self._client.close()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()


def test_rewinding_goes_back_to_what_is_stored(loop: Loop, kafka_broker: KafkaCluster) -> None:
    topic = kafka_broker.create_topic(fresh("rewound"))
    written(kafka_broker.bootstrap(), topic, 10)
    options: Any = {"group": fresh("g"), "auto_offset_reset": "earliest", "auto_commit": None}
    clicks = loop.spawn(kafka.consumer(kafka_broker.bootstrap(), topic, **options))
    loop.run_until(clicks.commit(receive(loop, clicks, 3)[-1]))
    assert [record.offset for record in receive(loop, clicks, 4)] == [3, 4, 5, 6]
    clicks.rewind()
    assert [record.offset for record in receive(loop, clicks, 4)] == [3, 4, 5, 6]


def test_a_static_member_comes_back_to_what_it_had(loop: Loop, kafka_broker: KafkaCluster) -> None:
    topic = kafka_broker.create_topic(fresh("static"), 2)
    shared = Sharing(loop, kafka_broker.bootstrap(), topic)
    one, two = shared.join(1, instance="one"), shared.join(2, instance="two")
    run_until(loop, lambda: len(one.assignment) == len(two.assignment) == 1)
    had, generation = one.assignment, two.statistics().generation
    loop.run_until(one.close())
    back = shared.join(3, instance="one")
    run_until(loop, lambda: back.assignment == had)
    assert two.statistics().generation == generation  # nobody else noticed
    with structlog.testing.capture_logs() as logs:
        imposter = shared.join(4, instance="two")
        run_until(loop, lambda: len(imposter.assignment) == 1 and two.closed.settled)
    assert [entry["event"] for entry in logs].count("consumer failed") == 1
    assert "FENCED_INSTANCE_ID (another member has the same" in str(logs)


def test_new_partitions_are_noticed(loop: Loop, kafka_broker: KafkaCluster) -> None:
    topic = kafka_broker.create_topic(fresh("grown"), 1)
    shared = Sharing(loop, kafka_broker.bootstrap(), topic, metadata_age=0.2)
    one = shared.join(1)
    run_until(loop, lambda: len(one.assignment) == 1)
    more = [confluent_kafka.admin.NewPartitions(topic, 3)]
    for done in kafka_broker.admin.create_partitions(more).values():
        done.result(10)
    run_until(loop, lambda: len(one.assignment) == 3)


def test_who_was_silent_for_too_long_has_lost_its_partitions(loop: Loop, kafka_broker: KafkaCluster) -> None:
    topic = kafka_broker.create_topic(fresh("lost"), 2)
    shared = Sharing(loop, kafka_broker.bootstrap(), topic, session_timeout=0.3)
    one = shared.join(1)
    run_until(loop, lambda: len(one.assignment) == 2)
    with Loop() as elsewhere:  # while this one turns, the other stands still
        shared.loop = elsewhere
        two = shared.join(2)
        run_until(elsewhere, lambda: len(two.assignment) == 2)
        elsewhere.run_until(two.close())
    run_until(loop, lambda: any(change.lost for _, change in shared.changes))
    run_until(loop, lambda: len(one.assignment) == 2)


def test_a_topic_that_is_not_there_yet(loop: Loop, kafka_broker: KafkaCluster) -> None:
    topic = fresh("later")
    with structlog.testing.capture_logs() as logs:
        shared = Sharing(loop, kafka_broker.bootstrap(), topic)
        one = shared.join(1)
        run_until(loop, lambda: one.statistics().generation >= 1)
        kafka_broker.create_topic(topic, 2)
        run_until(loop, lambda: len(one.assignment) == 2)
    said = [entry for entry in logs if entry["event"] == "topic cannot be read"]
    assert 1 <= len(said) <= 3
    assert "create the topic" in said[0]["error"]


# -- trouble -----------------------------------------------------------------------------------------------


def test_a_wrong_address_a_wrong_password_and_a_listener_that_wants_one(
    loop: Loop, kafka_broker: KafkaCluster, free_port: Callable[[], int]
) -> None:
    with structlog.testing.capture_logs() as logs:
        nobody = loop.spawn(kafka.consumer(f"127.0.0.1:{free_port()}", "t"))
        run_until(loop, lambda: logs)
        assert "Connection refused" in logs[0]["error"]
        nobody.close()
    topic = kafka_broker.create_topic(fresh("secured"))
    wrong: Any = {"sasl": "PLAIN", "user": "walter", "password": "wrong"}
    with structlog.testing.capture_logs() as logs:
        refused = loop.spawn(kafka.consumer(kafka_broker.bootstrap("SASL"), topic, **wrong))
        with pytest.raises(kafka.AuthenticationFailed):
            receive(loop, refused, 1)
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["consumer failed"]


def test_an_offset_that_is_gone(loop: Loop, kafka_broker: KafkaCluster) -> None:
    topic = kafka_broker.create_topic(fresh("gone"))
    written(kafka_broker.bootstrap(), topic, 5)
    chosen: Any = {(topic, 0): 100}
    options: Any = {"partitions": chosen, "auto_offset_reset": "earliest"}
    with structlog.testing.capture_logs() as logs:
        clicks = loop.spawn(kafka.consumer(kafka_broker.bootstrap(), **options))
        assert receive(loop, clicks, 1)[0].offset == 0
    assert [entry["event"] for entry in logs] == ["offset out of range"]
    strict = loop.spawn(kafka.consumer(kafka_broker.bootstrap(), **options | {"auto_offset_reset": "none"}))
    with pytest.raises(kafka.NoOffset, match="offset 100 no longer exists; seek"):
        receive(loop, strict, 1)
    nowhere = loop.spawn(
        kafka.consumer(kafka_broker.bootstrap(), topic, group=fresh("g"), auto_offset_reset="none")
    )
    with pytest.raises(kafka.NoOffset, match="nothing is stored"):
        receive(loop, nowhere, 1)


def test_a_group_that_assigns_in_another_way(loop: Loop, kafka_broker: KafkaCluster) -> None:
    topic = kafka_broker.create_topic(fresh("other"))
    shared = Sharing(loop, kafka_broker.bootstrap(), topic, assignor="range")
    one = shared.join(1)
    run_until(loop, lambda: len(one.assignment) == 1)
    other = loop.spawn(kafka.consumer(kafka_broker.bootstrap(), topic, group=shared.options["group"]))
    with pytest.raises(kafka.KafkaError, match="INCONSISTENT_GROUP_PROTOCOL"):
        receive(loop, other, 1)


def test_a_broker_is_killed_and_its_partitions_are_read_on(loop: Loop, kafka_cluster: KafkaCluster) -> None:
    topic = kafka_cluster.create_topic(fresh("moving"), 3)
    shared = Sharing(loop, kafka_cluster.bootstrap(), topic, metadata_age=1.0)
    one, two = shared.join(1), shared.join(2)
    run_until(loop, lambda: len(one.assignment) + len(two.assignment) == 3, seconds=30)
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": kafka_cluster.bootstrap(), "enable.idempotence": True, "log_level": 0}
    )
    sent = [b"%05d" % number for number in range(300)]

    def send(values: list[bytes]) -> None:
        for number, value in enumerate(values):
            producer.produce(topic, value, partition=number % 3)
        assert producer.flush(60) == 0

    send(sent[:100])
    run_until(loop, lambda: len(shared.got) >= 100, seconds=30)
    broker = kafka_cluster.leader(topic)
    broker.kill()
    try:
        sending = threading.Thread(target=send, args=(sent[100:],))
        sending.start()
        run_until(loop, lambda: not sending.is_alive(), seconds=60)
        run_until(loop, lambda: len(set(shared.values())) == 300, seconds=60)
    finally:
        broker.start()
        broker.wait()
    assert set(shared.values()) == set(sent)
    for partition in range(3):
        offsets = {record.offset for _, record in shared.got if record.partition == partition}
        assert offsets == set(range(len(offsets)))
    loop.run_until(one.close())
    loop.run_until(two.close())


# -- use ---------------------------------------------------------------------------------------------------


def test_what_makes_no_sense_is_refused_where_it_is_written() -> None:
    for options, match in (
        ({}, "name topics"),
        ({"partitions": {("t", 0): 0}, "topics": ("t",)}, "one of the two"),
        ({"topics": ("t",), "auto_offset_reset": "first"}, "earliest, latest, none"),
        ({"topics": ("t",), "isolation": "none"}, "read_committed, read_uncommitted"),
        ({"topics": ("t",), "assignor": "sticky"}, "cooperative-sticky, range"),
        ({"topics": ("t",), "buffer_bytes": 0}, "buffer_bytes=0; write 1 or more"),
        ({"topics": ("t",), "heartbeat": 50.0}, "not less than session_timeout"),
    ):
        topics = options.pop("topics", ())
        with pytest.raises(ValueError, match=match):
            kafka.consumer("127.0.0.1:9092", *topics, **options)


def test_a_description_can_be_spawned_twice() -> None:
    spec = kafka.consumer("127.0.0.1:9", "t", group="g")
    assert spec == kafka.consumer("127.0.0.1:9", "t", group="g")
    with Loop() as loop:
        one, other = loop.spawn(spec), loop.spawn(spec)
        assert one is not other
        assert repr(one) == "<Consumer of t in g, joining>"


def test_a_loop_that_is_closed_ends_its_readers(kafka_broker: KafkaCluster) -> None:
    topic = kafka_broker.create_topic(fresh("closed"))
    with Loop() as loop:
        clicks = loop.spawn(kafka.consumer(kafka_broker.bootstrap(), topic, group=fresh("g")))
        loop.run_until(clicks.subscribed)
        assert "stable" in repr(clicks)
        commit = clicks.commit()
    assert isinstance(commit.error, PoolClosed)
    assert clicks.closed.settled
