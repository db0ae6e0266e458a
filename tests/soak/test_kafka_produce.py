"""Nothing lost, nothing doubled: messages while brokers are stopped, killed and hung and leaders move, held
against what an independent client reads."""

from __future__ import annotations

import random
import signal
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from actors import Loop
from actors.testing import run_until
from protocols import kafka
from tests.kafka_server import KafkaBroker, KafkaCluster, read_all

KEYS = 50
PARTITIONS = 6
HANG_SECONDS = 4.0  # longer than the controller is patient with a broker
SECONDS_MAX = 900.0


def restart(broker: KafkaBroker) -> None:
    broker.restart()


def crash(broker: KafkaBroker) -> None:
    broker.restart(signal.SIGKILL)


def hang(broker: KafkaBroker) -> None:
    broker.pause()
    try:
        threading.Event().wait(HANG_SECONDS)
    finally:
        broker.resume()


class Trouble(threading.Thread):
    """One thing that happens to a broker, beside the loop."""

    def __init__(self, what: Callable[[KafkaBroker], None], broker: KafkaBroker) -> None:
        super().__init__()
        self.what = what
        self.broker = broker
        self.start()

    def run(self) -> None:
        self.what(self.broker)

    @property
    def over(self) -> bool:
        return not self.is_alive()


class Producing:
    """Submits numbered messages, some at a time, and notes what was acknowledged."""

    def __init__(self, pool: kafka.KafkaPool, topic: str, rng: random.Random) -> None:
        self.pool = pool
        self.topic = topic
        self.rng = rng
        self.numbers: dict[int, int] = defaultdict(int)
        self.acknowledged: dict[tuple[int, int], str] = {}
        self.failed: list[BaseException] = []
        self.submitted = 0

    @property
    def settled(self) -> int:
        return len(self.acknowledged) + len(self.failed)

    def submit(self, count: int) -> None:
        for _ in range(count):
            key = self.rng.randrange(KEYS)
            text = f"{key} {self.numbers[key]}"
            self.numbers[key] += 1
            self.submitted += 1
            unit = kafka.message(self.topic, text.encode(), key=b"%d" % key)
            self.pool.submit(unit).when_settled(self.note(text))

    def note(self, text: str) -> Callable[[Any], None]:
        def settled(reply: Any) -> None:
            if reply.error is not None:
                self.failed.append(reply.error)
            else:
                place = reply.result()
                self.acknowledged[place.partition, place.offset] = text

        return settled


def produce_through(loop: Loop, work: Producing, messages: int, troubles: list[Any]) -> None:
    """All messages, with one trouble after the other: a share of them before each, a share while it lasts."""
    share = messages // (2 * len(troubles))
    for what, broker in troubles:
        work.submit(share)
        run_until(loop, lambda: work.settled == work.submitted, seconds=SECONDS_MAX, ticks=1 << 30)
        trouble = Trouble(what, broker())
        work.submit(share // 2)  # at once, so that some are on their way
        while not trouble.over:
            work.submit(1 + share // 500)
            loop.tick(0.02)
        trouble.join()
    work.submit(max(0, messages - work.submitted))
    run_until(loop, lambda: work.settled == work.submitted, seconds=SECONDS_MAX, ticks=1 << 30)


def test_nothing_is_lost_and_nothing_doubled(
    kafka_cluster: KafkaCluster, rng: random.Random, full_size: bool
) -> None:
    messages = 200_000 if full_size else 2_000
    rounds = 5 if full_size else 1
    cluster = kafka_cluster
    topic = cluster.create_topic("soak", PARTITIONS)
    with Loop() as loop:
        pool = loop.spawn(kafka.pool(cluster.bootstrap(), timeout=120.0, request_timeout=2.0))
        work = Producing(pool, topic, rng)

        def leader() -> KafkaBroker:
            return cluster.leader(topic, rng.randrange(PARTITIONS))

        troubles = [(what, leader) for _ in range(rounds) for what in (restart, crash, hang)]
        produce_through(loop, work, messages, troubles)
        told = pool.statistics()
    assert not work.failed
    assert told.retried > 0, "nothing has happened that is worth a proof"
    held_against_what_is_read(cluster, topic, work)


def held_against_what_is_read(cluster: KafkaCluster, topic: str, work: Producing) -> None:
    lines = read_all(cluster.bootstrap(), topic, "%p %o %s\n", least=len(work.acknowledged))
    read = [line.decode().split(" ", 2) for line in lines]
    found = {(int(partition), int(offset)): text for partition, offset, text in read}
    assert found == work.acknowledged
    assert len(found) == len(set(found.values())), "doubled"
    order: dict[str, list[int]] = defaultdict(list)
    for place in sorted(found):
        key, number = found[place].split(" ")
        order[key].append(int(number))
    assert all(numbers == list(range(len(numbers))) for numbers in order.values())


@pytest.mark.parametrize("idempotent", [True, False])
def test_idempotence_is_what_keeps_messages_from_being_doubled(
    kafka_cluster: KafkaCluster, rng: random.Random, idempotent: bool
) -> None:
    cluster = kafka_cluster
    topic = cluster.create_topic(f"doubled-{idempotent}", 1, 1)
    with Loop() as loop:
        pool = loop.spawn(
            kafka.pool(cluster.bootstrap(), timeout=60.0, request_timeout=0.3, idempotent=idempotent)
        )
        work = Producing(pool, topic, rng)
        work.submit(100)
        run_until(loop, lambda: work.settled == 100, seconds=SECONDS_MAX)
        leader = cluster.leader(topic)
        leader.pause()
        try:
            work.submit(100)  # the broker has them, and does not say so
            run_until(loop, lambda: pool.statistics().retried > 0, seconds=SECONDS_MAX)
        finally:
            leader.resume()
        run_until(loop, lambda: work.settled == 200, seconds=SECONDS_MAX, ticks=1 << 30)
    assert not work.failed
    # The first sending may be executed after the second, which was acknowledged.
    read = read_all(cluster.bootstrap(), topic, least=200 if idempotent else 201)
    assert len(set(read)) == 200
    assert (len(read) == 200) == idempotent
