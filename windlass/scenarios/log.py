"""Events through Kafka: producers and a group of consumers on three brokers that fall, stall and give up
their leaderships.

What was acknowledged is in the log, once; what is there besides was reported as perhaps written, never as
certainly not. A producer's messages of one key stand in the order in which they were submitted. The group
hears each message, in order per partition, stores no offset beyond what was heard, and comes to the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from actors import Listener, Reply, sleep
from actors.simulation import Faults, Host, World, scenario
from pools import Cancelled
from pools.simulation import account
from pools.testing import Account
from protocols import kafka
from protocols.kafka.records.batch import Record
from protocols.kafka.simulated import Broker, SimulatedKafka

__all__ = ["events"]

PORT: Final = 9092
NODES: Final = (1, 2, 3)
PARTITIONS: Final = 4
GROWN: Final = 6  # partitions, in some runs
TOPIC: Final = "events"
GROUP: Final = "readers"
PRODUCERS: Final = 2
CONSUMERS: Final = 2
TURNS: Final = 30  # of each producer
KEYS: Final = 5
PATIENCE: Final = 1.0
EXPELLED: Final = ("UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS")
QUEUE_BYTES: Final = 8000  # about sixteen messages
LOOK_SECONDS: Final = 0.1  # between two looks of the controller
LEAVE_SECONDS: Final = 5.0  # in which a consumer must have left its group
GONE_SECONDS: Final = 0.3  # a broker that stands still for longer is taken for gone

FAULTS: Final = Faults(
    lag=4.0,
    reset=2.0,
    half_close=1.0,
    vanish=0.3,
    forget=0.1,
    half_open=0.2,
    mute=0.3,
    partition=0.2,
    one_way=0.1,
    clog=0.7,
    short_reads=0.3,
    short_writes=0.3,
    full_buffers=0.3,
    refuse=0.3,
    slow_accept=0.2,
    resolve_failure=0.2,
    kill=0.5,
    crash=0.2,
    restart=0.1,
    jump=0.1,
    stall=0.4,
    slow_consumer=0.3,
)


class Ledger:
    """What was submitted, what the callers were told, what the consumers have received."""

    def __init__(self, world: World, cluster: SimulatedKafka) -> None:
        self.world = world
        self.cluster = cluster
        self.submitted: dict[bytes, bytes | None] = {}  # values and their keys, in order
        self.told: dict[bytes, tuple[int, int]] = {}  # where it is
        self.unsent: set[bytes] = set()
        self.heard: Counter[tuple[int, int]] = Counter()
        self.stored: dict[tuple[str, int], int] = {}

    def answered(self, value: bytes, reply: Reply[kafka.RecordMetadata]) -> None:
        """A message has settled."""
        error = reply.error
        if error is None:
            self.told[value] = (reply.result().partition, reply.result().offset)
        elif not isinstance(error, Cancelled) and "may have been written" not in str(error):
            self.unsent.add(value)

    def check_stored(self) -> None:
        """No offset is stored beyond what was heard."""
        group = self.cluster.groups.get(GROUP)
        if group is None or group.offsets == self.stored:
            return
        for (topic, partition), offset in group.offsets.items():
            for skipped in range(self.stored.get((topic, partition), 0), offset):
                self.world.check(
                    (partition, skipped) in self.heard,
                    f"{topic}/{partition} is stored up to {offset}, but no consumer has received {skipped}",
                )
        self.stored = dict(group.offsets)

    def check_log(self) -> None:
        """Hold what is there against what was told."""
        world, places = self.world, {}
        last: dict[tuple[bytes, ...], bytes] = {}
        order = {value: number for number, value in enumerate(self.submitted)}
        for index, partition in enumerate(self.cluster.topics.get(TOPIC, ())):
            for record in partition.log.records(TOPIC, index):
                value = record.value or b""
                world.check(value not in places, f"{value.decode()} is in the log twice")
                world.check(self.submitted.get(value) == record.key, f"{value!r} is nothing that was sent")
                places[value] = (index, record.offset)
                if record.key is None:
                    continue
                line = (*value.split(b".")[:2], record.key, b"%d" % index)  # of one boot of a producer
                before = last.setdefault(line, value)
                world.check(order[before] <= order[value], f"{value!r} stands behind {before!r}")
                last[line] = value
        lost = [value for value, place in self.told.items() if places.get(value) != place]
        world.check(not lost, f"acknowledged, and not there: {lost}")
        false = sorted(self.unsent & places.keys())
        world.check(not false, f"said not to be written, and there: {false}")

    def caught_up(self) -> bool:
        """Whether everything was heard, and is stored."""
        group = self.cluster.groups.get(GROUP)
        for index, partition in enumerate(self.cluster.topics.get(TOPIC, ())):
            end = partition.log.end
            if group is None or group.offsets.get((TOPIC, index), 0) != end:
                return False
            if any((index, offset) not in self.heard for offset in range(end)):
                return False
        return True


async def produce(host: Host, asks: Account, ledger: Ledger, name: str) -> None:
    """Messages, several at a time; sometimes interest is lost."""
    random = host.world.random(f"producer {name}")
    for turn in range(TURNS):
        replies = []
        for number in range(random.randrange(1, 8)):
            value = f"{name}.{host.boots}.{turn}.{number}".encode()
            key = b"%d" % random.randrange(KEYS) if random.random() < 0.8 else None
            ledger.submitted[value] = key
            patience = PATIENCE * random.uniform(0.2, 2.0)
            unit = kafka.message(TOPIC, value, key=key)
            reply = asks.submit(unit, value.decode(), timeout=patience, kind=kafka.RecordMetadata)
            reply.when_settled(partial(ledger.answered, value))
            replies.append(reply)
        await sleep(random.expovariate(1 / 0.08))
        for reply in replies:
            if random.random() < 0.05:
                reply.cancel()


class Reading:
    """What one consumer hears: of its partitions alone, in order from where each was given to it."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self.world = world
        self.ledger = ledger
        self.last: dict[int, int | None] = {}  # by partition that is its own

    def changed(self, change: kafka.Rebalance) -> None:
        """Partitions come and go."""
        for key in (*change.revoked, *change.lost):
            self.last.pop(key.partition, None)
        for key in change.assigned:
            self.last[key.partition] = None

    def heard(self, record: Record) -> None:
        """A message."""
        name = f"{record.partition}/{record.offset}"
        self.world.check(record.partition in self.last, f"{name} was delivered to who does not own it")
        last = self.last[record.partition]
        self.world.check(last is None or record.offset == last + 1, f"{name} came after {last}")
        self.last[record.partition] = record.offset
        place = (record.partition, record.offset)
        self.world.count("heard" if place not in self.ledger.heard else "heard again")
        self.ledger.heard[place] += 1


def given_away(error: BaseException) -> bool:
    """Whether the group has given the partition to another, and told the one who stores late."""
    return isinstance(error, kafka.KafkaError) and error.name in EXPELLED


async def consume(host: Host, make: Callable[[Reading], kafka.ConsumerOptions], ledger: Ledger) -> None:
    """Read to the end; sometimes go back, hold, store, or leave and come again."""
    world = host.world
    random = world.random(f"consumer {host.name}")
    while not host.loop.draining:
        reading = Reading(world, ledger)
        consumer = host.loop.spawn(make(reading))
        async for record in consumer:
            reading.heard(record)
            chance = random.random()
            key = kafka.TopicPartition(record.topic, record.partition)
            if chance < 0.1:
                await sleep(random.expovariate(1 / 0.02))
            elif chance < 0.12:
                consumer.seek(key, max(0, record.offset - 3))
                reading.last[record.partition] = None
            elif chance < 0.14:
                consumer.pause(key)
                await sleep(random.expovariate(1 / 0.05))
                if key in consumer.assignment:
                    consumer.resume(key)
            elif chance < 0.17:
                what = f"{key} stored up to {record.offset}"
                host.expect(consumer.commit(record), what, may_fail=given_away)
            elif chance < 0.18:
                host.expect(consumer.close(), f"{host.name} leaves", within=LEAVE_SECONDS, may_fail=False)
                break


def control(
    world: World, cluster: SimulatedKafka, hosts: dict[int, Host], until: float
) -> Callable[[], None]:
    """What a controller does: it notices who is gone and who is back, and moves leaderships."""
    random = world.random("controller")
    boots = {node: host.boots for node, host in hosts.items()}

    def look() -> None:
        for node, host in hosts.items():
            there = host.up and host.stalled_until < world.now + GONE_SECONDS
            if node in cluster.up and (not there or host.boots != boots[node]):
                cluster.stop(node)
            if there and node not in cluster.up:
                boots[node] = host.boots
                cluster.start(node)
        if world.now < until and random.random() < 0.1:
            cluster.move(TOPIC, random.randrange(PARTITIONS))
        world.at(world.now + LOOK_SECONDS, look)

    return look


@scenario(seconds=4.0, faults=FAULTS, settle=40.0)
def events(world: World) -> None:
    """Producers and a group of readers on Kafka brokers that come and go; nothing is lost or doubled."""
    random = world.random("events")
    missing, grows = random.random() < 0.2, random.random() < 0.3
    cluster = SimulatedKafka(
        {node: f"broker{node}:{PORT}" for node in NODES},
        {} if missing else {TOPIC: PARTITIONS},
        lag=random.choice((0.0, 0.01, 0.1)),
        batch_bytes=random.choice((300, 1 << 20)),
        join_seconds=0.05,
        source=world.random("cluster"),
    )
    ledger = Ledger(world, cluster)
    bootstrap = ",".join(f"broker{node}:{PORT}" for node in NODES)

    def serve(node: int, host: Host) -> None:
        host.loop.spawn(Listener(f"0.0.0.0:{PORT}", Broker(cluster, node)))

    def send(name: str, host: Host) -> None:
        pool = host.loop.spawn(
            kafka.pool(
                bootstrap,
                linger=random.choice((0.0, 0.02)),
                batch_bytes=random.choice((500, 256 << 10)),
                queue_bytes=QUEUE_BYTES,
                compression=random.choice(("none", "lz4")),
                connect_timeout=0.5,
                request_timeout=random.choice((0.5, 1.0)),
                metadata_age=random.choice((1.0, 300.0)),
            )
        )
        host.always(lambda: check_pool(world, pool))
        producing = host.loop.spawn(produce(host, account(host, pool), ledger, name))
        host.expect(producing, f"producer {name}", may_fail=False)
        boot = host.boots
        world.eventually(f"{host.name} is at rest", lambda: host.boots != boot or not pool.waiting)

    def make(reading: Reading) -> kafka.ConsumerOptions:
        return kafka.consumer(
            bootstrap,
            TOPIC,
            group=GROUP,
            assignor=assignor,
            auto_offset_reset="earliest",
            auto_commit=random.choice((0.1, 0.5)),
            on_rebalance=reading.changed,
            session_timeout=2.0,
            heartbeat=0.3,
            rebalance_timeout=1.5,
            fetch_wait=random.choice((0.05, 0.3)),
            partition_bytes=random.choice((300, 1 << 20)),
            buffer_bytes=random.choice((1000, 64 << 20)),
            connect_timeout=0.5,
            request_timeout=1.0,
            metadata_age=1.0 if grows else 300.0,
        )

    def read(host: Host) -> None:
        host.loop.spawn(consume(host, make, ledger))

    assignor = random.choice(("range", "cooperative-sticky"))
    brokers = {node: world.host(f"broker{node}", partial(serve, node), crashes=True) for node in NODES}
    for number in range(PRODUCERS):
        world.host(f"producer{number}", partial(send, str(number)), crashes=number == 0)
    for number in range(CONSUMERS):
        world.host(f"consumer{number}", read, crashes=number == 0)
    world.at(LOOK_SECONDS, control(world, cluster, brokers, until=4.0))
    if missing:
        world.at(0.3, lambda: cluster.create(TOPIC, PARTITIONS))
    if grows:
        world.at(2.0, lambda: cluster.create(TOPIC, GROWN))
    world.always(ledger.check_stored)
    world.eventually("everything was read", ledger.caught_up)
    world.at_rest(ledger.check_log)


def check_pool(world: World, pool: kafka.KafkaPool) -> None:
    """What waits is bounded, and adds up."""
    now: Any = pool.statistics()
    world.check(now.held_bytes <= QUEUE_BYTES, f"{now.held_bytes} bytes wait")
    world.check(
        now.submitted == now.succeeded + sum(now.failed.values()) + now.waiting, f"it does not add up: {now}"
    )
    world.check(now.waiting >= 0, f"{now.waiting} messages wait")
    world.check(bool(now.waiting) == bool(now.held_bytes), f"{now.waiting} wait, with {now.held_bytes} bytes")
