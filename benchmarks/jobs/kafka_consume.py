"""Kafka: what it costs a member of a group to read a message of 100 bytes; the broker is on the other core.

`one`: message by message, as programs are written; `many`: what there is, up to 500 at a time.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.contest import Bound, Job, Options, Result, Sample, take_turns
from benchmarks.kafka import kafka
from benchmarks.machine import PEER_BIN
from benchmarks.programs import microseconds
from benchmarks.servers import Absent

__all__ = ["JOBS"]

OWN_LOOP = "windlass"
IN_ASYNCIO = "windlass in asyncio"
AIOKAFKA = "aiokafka"
CONFLUENT = "confluent-kafka (C)"
PER_SECOND = 100_000


def _own(what: str, where: str, port: int, count: int) -> Callable[[], Sample]:
    return lambda: microseconds("benchmarks.own.kafka_consume", what, where, port, count)


def _peer(client: str, what: str, port: int, count: int) -> Callable[[], Sample]:
    python = PEER_BIN / "python"
    return lambda: microseconds("benchmarks.peers.kafka_consume", client, what, port, count, python=python)


def _measure(what: str) -> Callable[[Options], Result]:
    def measure(options: Options) -> Result:
        count = int(PER_SECOND * options.seconds)
        try:
            with kafka() as port:
                microseconds("benchmarks.own.kafka", "stream", "loop", port, count)  # what is to be read
                return take_turns(
                    {
                        OWN_LOOP: _own(what, "loop", port, count),
                        IN_ASYNCIO: _own(what, "asyncio", port, count),
                        AIOKAFKA: _peer("aiokafka", what, port, count),
                        CONFLUENT: _peer("confluent", what, port, count),
                    },
                    options.rounds,
                )
        except Absent as reason:
            return Result(absent={"kafka": str(reason)})

    return measure


JOBS = (
    Job(
        name="kafka-consume",
        title="Kafka: messages of 100 bytes, read one by one",
        unit="µs",
        measure=_measure("one"),
        bounds=(
            Bound(IN_ASYNCIO, 0.5, 0.3, peer=AIOKAFKA),
            Bound(OWN_LOOP, 0.5, 0.3, peer=AIOKAFKA),
            Bound(IN_ASYNCIO, 4.0, 3.0, peer=CONFLUENT),
        ),
    ),
    Job(
        name="kafka-consume-many",
        title="Kafka: messages of 100 bytes, read up to 500 at a time",
        unit="µs",
        measure=_measure("many"),
        bounds=(
            Bound(IN_ASYNCIO, 0.95, 0.7, peer=AIOKAFKA),
            Bound(OWN_LOOP, 0.95, 0.7, peer=AIOKAFKA),
            Bound(IN_ASYNCIO, 4.0, 3.0, peer=CONFLUENT),
        ),
    ),
)
