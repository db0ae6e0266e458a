"""Kafka whose topics are deleted and created again, grow, lose what was committed, and change leaders, under
a producer and readers that know them: by id, by epoch, by number, by offset.

In the end a reader has heard everything that is in the log which is there by then, wherever it had been; what
it hears was sent. A producer that writes to a partition that was just added is not told that it is missing.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from actors import Listener, sleep
from actors.simulation import Faults, Host, World, scenario
from protocols import kafka
from protocols.kafka import TopicPartition
from protocols.kafka.simulated import Broker, SimulatedKafka

__all__ = ["topics"]

PORT: Final = 9092
NODES: Final = (1, 2, 3)
TOPIC: Final = "changing"
SECONDS: Final = 3.0
PATIENCE: Final = 3.0
GROWN_MAX: Final = 5  # partitions

FAULTS: Final = Faults(
    lag=1.0, reset=0.5, half_close=0.2, clog=0.2, short_reads=0.2, short_writes=0.2, stall=0.1
)


class Truth:
    """What was sent, and what each reader has heard."""

    def __init__(self, world: World, cluster: SimulatedKafka) -> None:
        self.world = world
        self.cluster = cluster
        self.random = world.random("truth")
        self.sent: set[bytes] = set()
        self.heard: dict[str, set[bytes]] = {}

    def happen(self) -> None:
        """Something that makes untrue what was known."""
        cluster, random = self.cluster, self.random
        partitions = cluster.topics[TOPIC]
        index = random.randrange(len(partitions))
        what = random.choice(("anew", "lose", "lose", "grow", "move"))
        if what == "anew":
            cluster.delete(TOPIC)
            cluster.create(TOPIC, random.randrange(1, 3))
        elif what == "lose":
            end = partitions[index].log.end
            cluster.lose(TOPIC, index, random.randrange(end + 1))
        elif what == "grow":
            cluster.create(TOPIC, min(len(partitions) + 1, GROWN_MAX))
        else:
            cluster.move(TOPIC, index)
        self.world.note(f"{what} {index}")
        if self.world.now < SECONDS:
            self.world.at(self.world.now + random.uniform(0.1, 1.0), self.happen)

    def caught_up(self, reader: str) -> bool:
        """Whether a reader has heard everything that is there."""
        heard = self.heard[reader]
        return all(
            record.value in heard
            for index, partition in enumerate(self.cluster.topics[TOPIC])
            for record in partition.log.records(TOPIC, index)
        )


async def produce(host: Host, pool: kafka.KafkaPool, truth: Truth) -> None:
    """Messages, to any partition or to a certain one."""
    random = host.world.random("producer")
    number = 0
    while host.world.now < SECONDS + 1.0:
        for _ in range(random.randrange(1, 8)):
            number += 1
            value = b"message %d" % number
            truth.sent.add(value)
            count = len(truth.cluster.topics[TOPIC])
            chosen = random.randrange(count) if random.random() < 0.5 else None
            reply = pool.submit(kafka.message(TOPIC, value, partition=chosen), PATIENCE)
            what = f"{value.decode()} to {'any' if chosen is None else chosen} of {count}"
            host.expect(reply, what, within=PATIENCE, may_fail=partial(gone, truth, chosen))
        await sleep(random.expovariate(1 / 0.1))


def gone(truth: Truth, chosen: int | None, error: BaseException) -> bool:
    """Whether the partition is gone: the topic was created again with fewer."""
    return isinstance(error, kafka.NoSuchTopic) and len(truth.cluster.topics[TOPIC]) <= (chosen or 0)


async def read(host: Host, consumer: kafka.Consumer, truth: Truth) -> None:
    """Read on; sometimes hold a partition for a while, and find out later what came of it."""
    random = host.world.random(host.name)
    heard = truth.heard[host.name]
    async for record in consumer:
        value = record.value or b""
        host.world.check(value in truth.sent, f"{host.name} has received {value!r}, which was never sent")
        heard.add(value)
        host.world.count("heard")
        key = TopicPartition(record.topic, record.partition)
        if random.random() < 0.02 and key in consumer.assignment:
            consumer.pause(key)
            host.world.at(host.world.now + random.uniform(0.1, 1.0), partial(resume, consumer, key))


def resume(consumer: kafka.Consumer, key: TopicPartition) -> None:
    """Read this one again, if it is still read at all."""
    if key in consumer.assignment:
        consumer.resume(key)


@scenario(seconds=SECONDS, faults=FAULTS, settle=40.0)
def topics(world: World) -> None:
    """Kafka whose topics are created again, cut off and grown; readers receive all that is there."""
    random = world.random("topics")
    cluster = SimulatedKafka(
        {node: f"broker{node}:{PORT}" for node in NODES},
        {TOPIC: random.randrange(1, 3)},
        lag=random.choice((0.0, 0.01)),
        source=world.random("cluster"),
    )
    truth = Truth(world, cluster)
    bootstrap = ",".join(f"broker{node}:{PORT}" for node in NODES)
    options: dict[str, Any] = {"connect_timeout": 0.5, "request_timeout": 1.0}

    def serve(node: int, host: Host) -> None:
        host.loop.spawn(Listener(f"0.0.0.0:{PORT}", Broker(cluster, node)))

    def send(host: Host) -> None:
        pool = host.loop.spawn(
            kafka.pool(
                bootstrap,
                linger=random.choice((0.0, 0.02)),
                batch_bytes=random.choice((1, 256 << 10)),
                metadata_age=random.choice((0.2, 300.0)),
                **options,
            )
        )
        host.expect(host.loop.spawn(produce(host, pool, truth)), "the producer", may_fail=False)

    def hear(host: Host) -> None:
        consumer = kafka.consumer(
            bootstrap,
            TOPIC,
            auto_offset_reset="earliest",
            fetch_wait=random.choice((0.02, 0.2)),
            partition_bytes=random.choice((300, 1 << 20)),
            metadata_age=random.choice((0.2, 2.0)),
            **options,
        )
        truth.heard[host.name] = set()
        host.loop.spawn(read(host, host.loop.spawn(consumer), truth))

    for node in NODES:
        world.host(f"broker{node}", partial(serve, node))
    world.host("producer", send)
    for number in range(2):
        name = f"reader{number}"
        world.host(name, hear)
        world.eventually(f"{name} has heard everything", partial(truth.caught_up, name))
    world.at(random.uniform(0.3, 1.0), truth.happen)
