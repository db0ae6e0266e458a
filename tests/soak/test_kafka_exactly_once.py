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
SECONDS_MAX = 60.0  # without a word from a worker


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

    def work(self, lines: int) -> int:
        """Wait for so many transactions; the number of inputs in them."""
        done = 0
        said: list[bytes] = []
        while lines:
            assert select.select([self.output], [], [], SECONDS_MAX)[0], b"".join(said).decode()
            line = self.output.readline()
            assert line, b"".join(said).decode()
            said.append(line)
            if line.strip().isdigit():
                done += int(line)
                lines -= 1
        return done

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.output.close()


@pytest.mark.parametrize("brokers", ["kafka_broker", "kafka_cluster"])
def test_each_input_has_one_result(
    request: pytest.FixtureRequest, brokers: str, full_size: bool, rng: random.Random
) -> None:
    if brokers == "kafka_cluster" and not full_size:
        pytest.skip("the cluster of three only at full size")
    cluster: KafkaCluster = request.getfixturevalue(brokers)
    kills, inputs = (30, 6000) if full_size else (3, 300)
    source = cluster.create_topic("inputs", 3)
    target = cluster.create_topic("results", 3)
    given = [b"%06d" % number for number in range(inputs)]
    kcat(
        "-b",
        cluster.bootstrap(),
        "-P",
        "-t",
        source,
        "-K",
        ":",
        data=b"".join(b"%b:%b\n" % (v, v) for v in given),
    )
    pause = threading.Event()
    for _ in range(kills):
        worker = Worker(cluster.bootstrap(), source, target, "worker")
        worker.work(rng.randrange(1, 20))
        pause.wait(rng.uniform(0, 0.02))
        worker.kill()
    worker = Worker(cluster.bootstrap(), source, target, "worker")
    try:
        for _ in range(int(SECONDS_MAX / 0.1)):
            if len(committed(cluster, target)) >= inputs:
                break
            pause.wait(0.1)
    finally:
        worker.kill()
    assert sorted(committed(cluster, target)) == [b"result of " + value for value in given]
    written = read_all(cluster.bootstrap(), target, options=["isolation.level=read_uncommitted"])
    print(f"{kills} kills, {inputs} inputs, {len(written)} results written")  # noqa: T201
    assert len(written) > inputs or not full_size  # some kill came in the middle: the test bites


def committed(cluster: KafkaCluster, topic: str) -> list[bytes]:
    return read_all(cluster.bootstrap(), topic, options=["isolation.level=read_committed"])
