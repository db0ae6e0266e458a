"""Kafka: what it costs the client to have a message of 100 bytes written; the broker is on the other core.

Everybody waits for all replicas and has the broker tell what it has already (idempotence), and gathers
batches as it does by default. `stream`: up to 10,000 messages on their way, all acknowledged. `callers`: 64
tasks that each wait for their message before the next.
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
STREAM_PER_SECOND = 60_000
CALLERS_PER_SECOND = 6_000


def _own(what: str, where: str, port: int, count: int) -> Callable[[], Sample]:
    return lambda: microseconds("benchmarks.own.kafka", what, where, port, count)


def _peer(client: str, what: str, port: int, count: int) -> Callable[[], Sample]:
    python = PEER_BIN / "python"
    return lambda: microseconds(f"benchmarks.peers.{client}_produce", what, port, count, python=python)


def _stream(options: Options) -> Result:
    count = int(STREAM_PER_SECOND * options.seconds)
    try:
        with kafka() as port:
            return take_turns(
                {
                    OWN_LOOP: _own("stream", "loop", port, count),
                    IN_ASYNCIO: _own("stream", "asyncio", port, count),
                    AIOKAFKA: _peer("aiokafka", "stream", port, count // 4),
                    CONFLUENT: _peer("confluent", "stream", port, count),
                },
                options.rounds,
            )
    except Absent as reason:
        return Result(absent={"kafka": str(reason)})


def _callers(options: Options) -> Result:
    count = int(CALLERS_PER_SECOND * options.seconds)
    try:
        with kafka() as port:
            return take_turns(
                {
                    OWN_LOOP: _own("callers", "loop", port, count),
                    IN_ASYNCIO: _own("callers", "asyncio", port, count),
                    AIOKAFKA: _peer("aiokafka", "callers", port, count // 2),
                },
                options.rounds,
            )
    except Absent as reason:
        return Result(absent={"kafka": str(reason)})


JOBS = (
    Job(
        name="kafka-produce",
        title="Kafka: messages of 100 bytes, many on their way",
        unit="µs",
        measure=_stream,
        bounds=(
            Bound(IN_ASYNCIO, 0.35, 0.25, peer=AIOKAFKA),
            Bound(IN_ASYNCIO, 4.0, 3.0, peer=CONFLUENT),
            Bound(OWN_LOOP, 0.35, 0.25, peer=AIOKAFKA),
        ),
    ),
    Job(
        name="kafka-produce-callers",
        title="Kafka: messages of 100 bytes, 64 callers that each wait for theirs",
        unit="µs",
        measure=_callers,
        bounds=(Bound(IN_ASYNCIO, 0.8, 0.5, peer=AIOKAFKA),),
    ),
)
