"""Exactly once from topic to topic: a worker that consumes, transforms and produces in transactions is killed
(kill -9) at random moments and started again; an independent reader of what is committed sees the result of
each input once.
"""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.kafka_server import KafkaCluster, kcat, read_all

ROOT = Path(__file__).parent.parent.parent
SECONDS_MAX = 60.0  # until everything is done
SILENCE_SECONDS = 3.0


class Worker:
    """One process of `tests.soak.kafka_worker`."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.kafka_worker", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,  # or select would not see what is read ahead
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout

    def work(self, transactions: int, seconds: float) -> None:
        """Wait for so many, or until it has been silent for so long: the other one has it all."""
        while transactions and select.select([self.output], [], [], seconds)[0]:
            line = self.output.readline()
            assert line, "the worker has ended by itself"
            transactions -= line.strip().isdigit()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.output.close()


@pytest.mark.parametrize(
    ("brokers", "kind"),
    [("kafka_broker", "static"), ("kafka_broker", "dynamic"), ("kafka_cluster", "dynamic")],
)
def test_each_input_has_one_result(
    request: pytest.FixtureRequest, brokers: str, kind: str, full_size: bool, rng: random.Random
) -> None:
    if brokers == "kafka_cluster" and not full_size:
        pytest.skip("the cluster of three only at full size")
    cluster: KafkaCluster = request.getfixturevalue(brokers)
    kills, at_a_time = (30, 200) if full_size else (3, 100)
    source = cluster.create_topic(f"inputs-{kind}", 3)
    target = cluster.create_topic(f"results-{kind}", 3)
    names = ["one"] if kind == "static" else ["one", "two"]
    workers = {name: Worker(cluster.bootstrap(), source, target, name, kind) for name in names}
    given: list[bytes] = []
    pause = threading.Event()
    try:
        for _ in range(kills):
            fresh = [b"%06d" % number for number in range(len(given), len(given) + at_a_time)]
            given += fresh
            lines = b"".join(b"%b:%b\n" % (value, value) for value in fresh)
            kcat("-b", cluster.bootstrap(), "-P", "-t", source, "-K", ":", data=lines)
            name = rng.choice(names)
            workers[name].work(rng.randrange(1, 20), SILENCE_SECONDS)
            pause.wait(rng.uniform(0, 0.02))
            workers[name].kill()
            workers[name] = Worker(cluster.bootstrap(), source, target, name, kind)
        for _ in range(int(SECONDS_MAX / 0.1)):
            if len(committed(cluster, target)) >= len(given):
                break
            pause.wait(0.1)
    finally:
        for worker in workers.values():
            worker.kill()
    assert sorted(committed(cluster, target)) == [b"result of " + value for value in given]
    everything = ["isolation.level=read_uncommitted"]
    written = read_all(cluster.bootstrap(), target, options=everything, least=len(given))
    print(f"{kills} kills, {len(given)} inputs, {len(written)} results written")  # noqa: T201
    assert len(written) > len(given) or not full_size  # some kill came in the middle: the test bites


def committed(cluster: KafkaCluster, topic: str) -> list[bytes]:
    return read_all(cluster.bootstrap(), topic, options=["isolation.level=read_committed"])
