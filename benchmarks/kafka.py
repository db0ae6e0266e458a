"""A Kafka broker to measure against: made anew in a temporary folder, on the load's core, gone after it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.machine import LOAD_CORES, ROOT
from benchmarks.servers import Absent, Server, free_port, program

__all__ = ["PARTITIONS", "kafka"]

PARTITIONS = 6
START_SECONDS_MAX = 120.0  # of a JVM on a busy machine
POM = ROOT / "tests" / "servers" / "kafka" / "pom.xml"
JARS = ROOT / "build" / "kafka-jars"
JVM = ("-Xmx512m", "-Xms256m", "-XX:+UseSerialGC", "-XX:-UsePerfData")
PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
log.dirs={folder}/data
num.partitions={partitions}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.enable=false
"""
LOGGING = """
log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.SimpleLayout
"""


@contextmanager
def kafka() -> Iterator[int]:
    """The port of a running broker; topics are made by asking for them. Raises `Absent`."""
    java = program("java", "apt-get install default-jre-headless maven")
    gather_jars()
    folder = Path(tempfile.mkdtemp(prefix="windlass-bench-kafka-"))

    def command(port: int) -> Sequence[str]:
        (folder / "data").mkdir()
        (folder / "data" / "meta.properties").write_text(
            "version=1\ncluster.id=WindlassBenchKafkaAAAA\nnode.id=1\ndirectory.id=WindlassBenchKafkaDir1\n"
        )
        (folder / "log4j.properties").write_text(LOGGING)
        (folder / "server.properties").write_text(
            PROPERTIES.format(port=port, controller=free_port(), folder=folder, partitions=PARTITIONS)
        )
        logging = f"-Dlog4j.configuration=file:{folder}/log4j.properties"
        return [java, *JVM, logging, "-cp", f"{JARS}/*", "kafka.Kafka", f"{folder}/server.properties"]

    try:
        with Server("kafka", command, LOAD_CORES, start_seconds_max=START_SECONDS_MAX) as server:
            yield server.port
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def gather_jars() -> None:
    """The same jars as the tests use, by Maven if they are not there yet."""
    if JARS.is_dir():
        return
    maven = program("mvn", "apt-get install maven")
    JARS.parent.mkdir(exist_ok=True)
    gathered = Path(tempfile.mkdtemp(prefix="kafka-jars-", dir=JARS.parent))
    done = subprocess.run(
        [maven, "-q", "-B", "-f", POM, "dependency:copy-dependencies", f"-DoutputDirectory={gathered}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(gathered)
        raise Absent(f"Maven cannot gather the broker's jars: {done.stdout.strip().splitlines()[-1:]}")
    gathered.rename(JARS)
