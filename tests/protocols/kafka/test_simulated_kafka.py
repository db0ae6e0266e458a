"""The simulated cluster: what a real one answers, to the byte where others' clients read it."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import confluent_kafka
import pytest

from actors import Listener, Loop
from actors.testing import Driver, run_until
from actors.testing.conformance import check_protocol
from actors.testing.events import EXPIRE
from protocols import kafka
from protocols.kafka.errors import BadMessage
from protocols.kafka.protocol import api, fetch_api, group_api
from protocols.kafka.protocol.schema import Message, Request, decode, decode_request, encode, encode_answer
from protocols.kafka.records.batch import append_record, batches, read_records, seal
from protocols.kafka.simulated import Broker, SimulatedKafka
from protocols.kafka.simulated.server import REQUESTS

R = TypeVar("R", bound=Message)


def batch_of(
    *values: bytes, producer: int = -1, epoch: int = -1, sequence: int = -1, at: int = 1000
) -> bytes:
    out = bytearray()
    for number, value in enumerate(values):
        append_record(out, number, 0, None, value)
    return seal(out, 0, len(values), at, at, producer, epoch, sequence)


class Client:
    """A connection to a broker; time is the test's."""

    def __init__(self, cluster: SimulatedKafka, node: int = 1) -> None:
        self.cluster = cluster
        self.driver = Driver(Broker(cluster, node)())
        self.asked: tuple[type[Request[Any]], int] = (api.Metadata, 0)

    def send(self, request: Request[Any], version: int | None = None) -> Client:
        """Ask, without waiting for the answer."""
        version = request.newest if version is None else version
        self.asked = type(request), version
        self.driver.receive(encode(request, version, 7, "me"))
        return self

    def answer(self) -> Any:
        """What has been answered; None if nothing has."""
        data = self.driver.sent()
        kind, version = self.asked
        return decode(kind, version, data[8:]) if data else None

    def ask(self, request: Request[R], version: int | None = None) -> R:
        """Ask, and the answer."""
        answer: R = self.send(request, version).answer()
        return answer

    def produce(self, data: bytes, *, topic: str = "t", partition: int = 0, acks: int = -1) -> Any:
        """The first partition's answer."""
        asked = self.send(produce(data, topic=topic, partition=partition, acks=acks)).answer()
        return asked and asked.topics[0].partitions[0]

    def fetch(self, offset: int = 0, *, epoch: int = -1, wait: int = 0, limit: int = 1 << 20) -> Any:
        """The first partition's answer."""
        answer = self.send(fetch(offset, epoch=epoch, wait=wait, limit=limit)).answer()
        return answer and answer.topics[0].partitions[0]


def produce(data: bytes, *, topic: str = "t", partition: int = 0, acks: int = -1) -> api.Produce:
    return api.Produce(None, acks, 5000, [api.ProduceTopic(topic, [api.ProducePartition(partition, data)])])


def fetch(
    offset: int, *, epoch: int = -1, wait: int = 0, limit: int = 1 << 20, topic: str = "t"
) -> fetch_api.Fetch:
    part = fetch_api.FetchPartition(0, epoch, offset, -1, -1, limit)
    return fetch_api.Fetch(
        -1, wait, 1, limit, 0, 0, -1, [fetch_api.FetchTopic(topic, fetch_api.NO_ID, [part])], [], ""
    )


def cluster(**options: Any) -> SimulatedKafka:
    return SimulatedKafka({node: f"broker{node}:9092" for node in (1, 2, 3)}, {"t": 1}, **options)


def values(data: bytes | None) -> list[bytes | None]:
    return [record.value for batch in batches(data or b"") for record in read_records(batch, "t", 0)]


# -- both directions of the schema -------------------------------------------------------------------------


REQUESTS_SENT: list[Request[Any]] = [
    api.ApiVersions(),
    api.Metadata([api.TopicName(name="t")]),
    api.InitProducerId(None, 0),
    api.FindCoordinator("g", 0),
    group_api.JoinGroup("g", 1, 2, "m", "i", "consumer", [group_api.OfferedProtocol("range", b"me")]),
    group_api.SyncGroup("g", 1, "m", None, [group_api.Assignment("m", b"what")]),
    group_api.Heartbeat("g", 1, "m", None),
    group_api.LeaveGroup("g", "m"),
    group_api.OffsetFetch("g", [group_api.OffsetTopicNames("t", [0, 1])], True),
]


@pytest.mark.parametrize("request_", REQUESTS_SENT, ids=lambda request: request.api.name)
def test_a_broker_reads_what_a_client_writes_in_every_version(request_: Request[Any]) -> None:
    for version in range(request_.api.oldest, request_.api.newest + 1):
        frame = encode(request_, version, 5, "me")
        asked = decode_request(REQUESTS, frame[4:])
        assert asked[:4] == (type(request_), version, 5, "me")
        assert asked.request is not None
        assert encode(asked.request, version, 5, "me") == frame
        for size in range(len(frame) - 4):
            with pytest.raises(BadMessage):
                decode_request(REQUESTS, frame[4 : 4 + size])


def test_an_answer_has_its_size_and_correlation_in_front() -> None:
    answer = group_api.HeartbeatResponse(0, 27)
    data = encode_answer(group_api.Heartbeat, 3, 9, answer)
    assert struct.unpack_from(">ii", data) == (len(data) - 4, 9)
    assert decode(group_api.Heartbeat, 3, data[8:]) == answer


def test_what_is_not_known() -> None:
    with pytest.raises(BadMessage, match="key 999"):
        decode_request(REQUESTS, struct.pack(">hhih", 999, 0, 1, -1))
    client = Client(cluster())
    client.send(api.ApiVersions(), 0)
    assert {entry.api for entry in client.answer().apis} == REQUESTS.keys()
    client.driver.receive(struct.pack(">ihhih", 10, 18, 99, 3, -1))
    assert client.driver.sent()[8:10] == b"\0\x23"
    client.driver.receive(struct.pack(">ihhih", 10, 3, 99, 3, -1))
    assert not client.driver.alive


@pytest.mark.parametrize("said", [b"\0\0\0\1", b"GET / HTTP/1.1\r\n\r\n", struct.pack(">ihhi", 8, 3, 9, 1)])
def test_what_is_no_request_ends_the_connection(said: bytes) -> None:
    driver = Driver(Broker(cluster(), 1)())
    assert driver.receive(said).sent() == b""
    assert not driver.alive


def test_a_connection_keeps_the_kits_rules() -> None:
    def connection() -> Any:
        return Broker(cluster(lag=0.0), 1)()

    written = encode(produce(batch_of(b"a")), 9, 2, "me")
    check_protocol(
        connection,
        [
            [
                (encode(api.ApiVersions(), 3, 1, "me"), None),
                (written, None),
                (encode(fetch(1, wait=500), 12, 3, "me") + encode(fetch(0), 12, 4, "me"), b""),
                EXPIRE,
            ]
        ],
        clones=False,
        lingers=True,
    )


# -- logs --------------------------------------------------------------------------------------------------


def test_messages_are_written_and_read() -> None:
    client = Client(cluster())
    assert client.produce(batch_of(b"a", b"b")).offset == 0
    assert client.produce(batch_of(b"c")).offset == 2
    assert values(client.fetch(0).records) == [b"a", b"b", b"c"]
    assert values(client.fetch(1, limit=1).records) == [b"a", b"b"]  # whole batches, and one at least
    assert client.fetch(3).records == b""
    assert client.fetch(4).error == 1
    assert client.fetch(0, epoch=1).error == 75
    assert client.produce(b"nonsense").error == 2
    assert client.produce(batch_of(b"a"), topic="no").error == 3
    assert client.produce(batch_of(b"a"), partition=1).error == 3
    assert client.produce(batch_of(b"d"), acks=0) is None
    assert client.fetch(3).high_watermark == 4


def test_a_batch_too_large() -> None:
    assert Client(cluster(batch_bytes=100)).produce(batch_of(b"x" * 100)).error == 10


def test_an_idempotent_producers_batch_is_taken_once() -> None:
    client = Client(cluster())
    assert client.ask(api.InitProducerId(None, 0)).producer == 1
    assert client.ask(api.InitProducerId(None, 0, 1, 4)).epoch == 5
    for sequence in range(6):
        made = batch_of(b"a", producer=1, epoch=0, sequence=sequence)
        assert [client.produce(made).offset for _ in range(2)] == [sequence, sequence]
    assert client.produce(batch_of(b"a", producer=1, epoch=0, sequence=0)).error == 45  # long ago
    assert client.produce(batch_of(b"a", producer=1, epoch=0, sequence=7)).error == 45
    assert client.produce(batch_of(b"a", producer=1, epoch=1, sequence=6)).error == 45
    assert client.produce(batch_of(b"a", producer=1, epoch=1, sequence=0)).offset == 6
    assert client.produce(batch_of(b"a", producer=1, epoch=0, sequence=6)).error == 47
    assert client.produce(batch_of(b"a", producer=2, epoch=0, sequence=9)).offset == 7  # not known at all


def late() -> Client:
    """A cluster whose replicas are a second late."""
    return Client(cluster(lag=1.0))


def test_it_is_acknowledged_when_the_replicas_have_it() -> None:
    client = late()
    reader = Client(client.cluster)
    assert client.produce(batch_of(b"a")) is None
    assert reader.fetch(0).records == b""
    client.driver.advance(1.0)
    assert client.answer().topics[0].partitions[0].offset == 0
    assert values(reader.fetch(0).records) == [b"a"]
    assert client.produce(batch_of(b"b"), acks=1).offset == 1
    assert reader.fetch(1).records == b""


def test_replicas_that_never_follow() -> None:
    client = late()
    client.cluster.lag = 60.0
    client.send(produce(batch_of(b"a")))
    client.driver.advance(5.0)
    assert client.answer().topics[0].partitions[0].error == 7


class Last(random.Random):
    """Chance that takes the last, and the most."""

    def choice(self, seq: Any) -> Any:
        return seq[-1]

    def uniform(self, a: float, b: float) -> float:
        return b


@pytest.mark.parametrize(("source", "leader", "end"), [(None, 2, 0), (Last(), 3, 1)])
def test_who_loses_the_leadership_may_have_written(source: Any, leader: int, end: int) -> None:
    client = Client(cluster(lag=1.0, source=source))
    (partition,) = client.cluster.topics["t"]
    client.send(produce(batch_of(b"a")))
    client.cluster.move("t", 0)
    client.driver.wake()
    assert client.answer().topics[0].partitions[0].error == 6
    assert (partition.leader, partition.epoch, partition.log.end) == (leader, 1, end)
    assert client.produce(batch_of(b"b")).error == 6
    assert client.fetch(0).error == 6


def test_without_any_replica_the_leader_alone_will_do_and_is_waited_for() -> None:
    client = late()
    (partition,) = client.cluster.topics["t"]
    client.send(produce(batch_of(b"a")))
    client.cluster.stop(2)
    client.cluster.stop(3)
    client.driver.wake()
    assert client.answer().topics[0].partitions[0].offset == 0
    client.cluster.stop(1)
    client.cluster.start(2)
    assert (partition.leader, partition.in_sync) == (-1, {1})
    told = Client(client.cluster, 2).ask(api.Metadata([api.TopicName(name="t")]))
    assert [broker.node for broker in told.brokers] == [2]
    assert told.topics[0].partitions[0].error == 5
    client.cluster.start(1)
    assert (partition.leader, partition.in_sync, partition.log.end) == (1, {1, 2}, 1)


def test_a_long_poll_ends_with_a_message_or_with_its_time() -> None:
    shared = cluster()
    broker = Broker(shared, 1)
    reader, writer = Client(shared), Client(shared)
    reader.driver, writer.driver = Driver(broker()), Driver(broker())
    assert reader.fetch(0, wait=500) is None
    reader.driver.advance(0.5)
    assert reader.answer().topics[0].partitions[0].records == b""
    assert reader.fetch(0, wait=500) is None
    writer.produce(batch_of(b"a"))
    reader.driver.wake()
    assert values(reader.answer().topics[0].partitions[0].records) == [b"a"]


def test_offsets_of_the_beginning_the_end_and_of_times() -> None:
    client = Client(cluster())
    client.produce(batch_of(b"a", at=1000))
    client.produce(batch_of(b"b", at=2000))

    def listed(timestamp: int, epoch: int = -1) -> tuple[int, int]:
        part = fetch_api.OffsetPartition(0, epoch, timestamp)
        answer = client.ask(fetch_api.ListOffsets(-1, 0, [fetch_api.OffsetTopic("t", [part])]))
        found = answer.topics[0].partitions[0]
        return found.error, found.offset

    assert [listed(at)[1] for at in (-2, -1, 0, 1001, 2001)] == [0, 2, 0, 1, -1]
    assert listed(-1, epoch=3) == (75, -1)


def test_topics_are_made_by_asking_where_that_is_allowed() -> None:
    client = Client(cluster(partitions=2))
    asked = [api.TopicName(name="new"), api.TopicName(name="no/name")]
    assert [topic.error for topic in client.ask(api.Metadata(asked)).topics] == [3, 3]
    told = client.ask(api.Metadata(asked, create=True)).topics
    assert [(topic.error, len(topic.partitions)) for topic in told] == [(0, 2), (3, 0)]
    assert {topic.name for topic in client.ask(api.Metadata(None)).topics} == {"t", "new"}


def test_what_a_broker_says_of_the_cluster_may_be_old() -> None:
    client = late()
    asked = api.Metadata([api.TopicName(name="t")])
    assert client.ask(asked).topics[0].partitions[0].leader == 1
    client.cluster.stop(1)
    assert client.ask(asked).topics[0].partitions[0].leader == 1
    client.driver.advance(1.0)
    assert client.ask(asked).topics[0].partitions[0].leader in (2, 3)


# -- groups ------------------------------------------------------------------------------------------------


def join(member: str = "", *, offers: str = "range", said: bytes = b"me") -> group_api.JoinGroup:
    protocols = [group_api.OfferedProtocol(offers, said)] if offers else []
    return group_api.JoinGroup("g", 2000, 1000, member, None, "consumer", protocols)


def sync(generation: int, member: str, **given: bytes) -> group_api.SyncGroup:
    assignments = [group_api.Assignment(name.replace("_", "-"), what) for name, what in given.items()]
    return group_api.SyncGroup("g", generation, member, None, assignments)


def beat(generation: int, member: str) -> group_api.Heartbeat:
    return group_api.Heartbeat("g", generation, member, None)


class Members:
    """Two clients of one coordinator, on one clock."""

    def __init__(self, **options: Any) -> None:
        self.cluster = cluster(**options)
        self.node = self.cluster.coordinator("g")
        broker = Broker(self.cluster, self.node)
        self.first, self.second = Client(self.cluster), Client(self.cluster)
        self.first.driver, self.second.driver = Driver(broker()), Driver(broker())

    def advance(self, seconds: float) -> None:
        """Both wait."""
        for client in (self.first, self.second):
            client.driver.advance(seconds)

    def look(self) -> None:
        """Something has changed."""
        for client in (self.first, self.second):
            client.driver.wake()

    def balance(self) -> tuple[str, str]:
        """Both are members of generation 2, and have synced."""
        first = self.first.ask(join(self.first.ask(join()).member))
        assert (first.error, first.generation, first.leader) == (0, 1, first.member)
        self.first.ask(sync(1, first.member))
        named = self.second.ask(join())
        assert named.error == 79
        assert self.second.send(join(named.member)).answer() is None
        assert self.first.ask(beat(1, first.member)).error == 27
        led = self.first.ask(join(first.member))
        assert (led.generation, led.protocol) == (2, "range")
        assert [member.member for member in led.members] == [first.member, named.member]
        self.second.driver.wake()
        followed = self.second.answer()
        assert (followed.generation, followed.leader, followed.members) == (2, first.member, [])
        self.second.send(sync(2, named.member))
        assert self.second.answer() is None
        given = {first.member.replace("-", "_"): b"one", named.member.replace("-", "_"): b"two"}
        assert self.first.ask(sync(2, first.member, **given)).assignment == b"one"
        self.second.driver.wake()
        assert self.second.answer().assignment == b"two"
        return first.member, named.member


def test_two_members_share() -> None:
    group = Members()
    first, second = group.balance()
    assert group.first.ask(beat(2, first)).error == 0
    assert group.second.ask(sync(2, second)).assignment == b"two"  # asked again
    assert group.second.ask(join(second)).generation == 2  # nothing has changed
    assert group.first.ask(beat(1, first)).error == 22
    assert group.first.ask(beat(2, "nobody")).error == 25
    assert group.first.ask(join("nobody")).error == 25
    assert group.first.ask(join("", offers="sticky")).error == 23
    assert group.first.ask(join("", offers="")).error == 23
    assert group.second.ask(group_api.LeaveGroup("g", second)).error == 0
    assert group.second.ask(group_api.LeaveGroup("g", second)).error == 25
    assert group.first.ask(beat(2, first)).error == 27


def test_who_is_not_heard_of_is_out() -> None:
    group = Members()
    first, _ = group.balance()
    group.advance(1.5)
    assert group.first.ask(beat(2, first)).error == 0
    group.advance(1.0)
    assert group.first.ask(beat(2, first)).error == 27
    assert len(group.first.ask(join(first)).members) == 1


def test_who_does_not_join_in_time_is_out() -> None:
    group = Members()
    first, second = group.balance()
    assert group.second.send(join(second, said=b"changed")).answer() is None
    group.advance(0.9)
    assert group.second.answer() is None
    group.advance(0.1)
    assert group.second.answer().leader == second
    assert group.first.ask(beat(3, first)).error == 25


def test_a_first_member_waits_for_others() -> None:
    group = Members(join_seconds=0.5)
    name = group.first.ask(join()).member
    assert group.first.send(join(name)).answer() is None
    group.advance(0.5)
    assert group.first.answer().generation == 1


def test_another_join_takes_the_place_of_the_one_before() -> None:
    group = Members(join_seconds=0.5)
    name = group.first.ask(join()).member
    group.first.send(join(name))
    group.second.send(join(name))
    group.first.driver.wake()
    assert group.first.answer().error == 27
    group.advance(0.5)
    assert group.second.answer().error == 0


def commit(generation: int, member: str, offset: int) -> group_api.OffsetCommit:
    topic = group_api.CommittedTopic("t", [group_api.CommittedPartition(0, offset, -1, None)])
    return group_api.OffsetCommit("g", generation, member, None, -1, [topic])


def stored(client: Client) -> tuple[int, int]:
    answer = client.ask(group_api.OffsetFetch("g", [group_api.OffsetTopicNames("t", [0])], False))
    return (answer.error, answer.topics[0].partitions[0].offset if answer.topics else -1)


def test_offsets_are_stored_for_members_only() -> None:
    group = Members()

    def code(generation: int, member: str, offset: int) -> int:
        return group.first.ask(commit(generation, member, offset)).topics[0].partitions[0].error

    assert stored(group.first) == (0, -1)
    assert code(-1, "", 1) == 0  # there is no member
    first, second = group.balance()
    assert [code(2, first, 2), code(1, first, 3), code(2, "nobody", 4), code(-1, "", 5)] == [0, 22, 25, 25]
    assert stored(group.second) == (0, 2)
    group.second.send(join(second, said=b"changed"))
    group.first.ask(join(first))
    assert code(3, first, 6) == 27


def test_another_coordinator_knows_what_was_stored() -> None:
    group = Members()
    first, second = group.balance()
    group.first.ask(commit(2, first, 9))
    group.second.send(join(second, said=b"changed"))
    assert group.second.answer() is None
    group.cluster.stop(group.node)
    group.look()
    assert group.second.answer().error == 16
    told = group.first.ask(api.FindCoordinator("g", 0))
    assert (told.error, told.host) == (0, f"broker{told.node}")
    assert told.node != group.node
    requests: list[Request[Any]] = [beat(2, first), join(first), sync(2, first)]
    for asked in (*requests, group_api.LeaveGroup("g", first)):
        assert group.first.send(asked).answer().error == 16
    assert group.first.ask(commit(2, first, 9)).topics[0].partitions[0].error == 16
    assert stored(group.first) == (16, -1)
    other = Client(group.cluster, told.node)
    assert stored(other) == (0, 9)
    assert other.ask(beat(2, first)).error == 0  # the round that had begun was not stored
    assert other.ask(api.FindCoordinator("x", 1)).error == 15


# -- believed by clients -----------------------------------------------------------------------------------


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


def served(loop: Loop, **options: Any) -> str:
    """Three brokers on real sockets; the first one's address."""
    made = SimulatedKafka(dict.fromkeys((1, 2, 3), "127.0.0.1:1"), {"t": 4}, lag=0.002, **options)
    for node in made.addresses:
        listener = loop.spawn(Listener("127.0.0.1:0", Broker(made, node)))
        made.advertise(node, str(listener.address))
    return "{}:{}".format(*made.addresses[1])


def test_a_producer_and_a_group_of_ours_cannot_tell_the_difference(loop: Loop) -> None:
    bootstrap = served(loop)
    pool = loop.spawn(kafka.pool(bootstrap, compression="gzip", timeout=5))
    readers = [
        loop.spawn(kafka.consumer(bootstrap, "t", group="g", auto_offset_reset="earliest", fetch_wait=0.05))
        for _ in range(2)
    ]
    heard: set[bytes | None] = set()

    async def read(consumer: kafka.Consumer) -> None:
        async for record in consumer:
            heard.add(record.value)

    for consumer in readers:
        loop.spawn(read(consumer))
    sent = [pool.submit(kafka.message("t", b"%d" % number, key=b"%d" % number)) for number in range(50)]
    run_until(loop, lambda: len(heard) == 50)
    assert all(reply.error is None for reply in sent)
    closed = [consumer.close() for consumer in readers]
    run_until(loop, lambda: all(reply.settled for reply in closed))


def in_thread(loop: Loop, function: Callable[[], Any]) -> Any:
    """Run what blocks, while the loop serves it."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()), daemon=True)
    thread.start()
    run_until(loop, lambda: not thread.is_alive(), seconds=30, ticks=1_000_000)
    assert found, "it has failed"
    return found[0]


def test_another_client_believes_it(loop: Loop) -> None:
    bootstrap = served(loop)
    common = {"bootstrap.servers": bootstrap}

    def talk() -> tuple[int, set[bytes | None]]:
        producer = confluent_kafka.Producer(
            {**common, "enable.idempotence": True, "compression.type": "lz4", "linger.ms": 1}
        )
        for number in range(50):
            producer.produce("t", b"%d" % number, key=b"%d" % number)
        left = producer.flush(10)
        consumer = confluent_kafka.Consumer(
            {**common, "group.id": "g", "auto.offset.reset": "earliest", "fetch.wait.max.ms": 20}
        )
        consumer.subscribe(["t"])
        heard: set[bytes | None] = set()
        for _ in range(200):
            message = consumer.poll(0.2)
            if message is not None and not message.error():
                heard.add(message.value())
            if len(heard) == 50:
                break
        consumer.close()
        return left, heard

    left, heard = in_thread(loop, talk)
    assert left == 0
    assert heard == {b"%d" % number for number in range(50)}
