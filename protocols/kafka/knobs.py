"""The knobs of Kafka, and of what it stands on: see `actors.knobs`."""

from __future__ import annotations

from typing import Final

from actors.knobs import Knob, backoff, same
from pools.knobs import KNOBS as POOLS

__all__ = ["KNOBS"]

KNOBS: Final[tuple[Knob, ...]] = (
    *POOLS,
    Knob(
        "protocols.kafka.producer.accumulator.SMALL",
        (0, 100),
        also={"protocols.kafka.producer.producer.SMALL": same},
    ),
    Knob("protocols.kafka.retrying.PAUSE", (0.05,), (2.0,), make=backoff),
    Knob("protocols.kafka.cluster.PIPELINE", (1, 2), (100,)),
    Knob("protocols.kafka.consumer.watch.MISSING_SECONDS", (0.05,), (3.0,)),
    Knob("protocols.kafka.consumer.watch.STRANGE_MAX", (3,), (100,)),
    Knob("protocols.kafka.consumer.consumer.FINISH_SECONDS", (0.01,), (4.0,)),
    Knob("protocols.kafka.producer.sender.REQUESTS", (1, 2)),
    Knob("protocols.kafka.producer.sender.REQUEST_BYTES", (1, 2000), (1 << 24,)),
    Knob("protocols.kafka.consumer.fetcher.BRIEFLY", (0.001,), (0.2,)),
    Knob("protocols.kafka.producer.partitioner.KEY_BYTES_REMEMBERED", (0, 4), (1 << 16,)),
    Knob("protocols.kafka.producer.topics.MISSING_MAX", (0, 1), (10_000,)),
    Knob("protocols.kafka.producer.producer.TOPIC_PATIENCE", (3.0,), (20.0,)),
    Knob("protocols.kafka.producer.producer.PARTITION_PATIENCE", (0.05,), (5.0,)),
    Knob("protocols.kafka.producer.producer.SWEEP_SECONDS", (0.0,), (1e-4,)),
    Knob("protocols.kafka.consumer.positions.EPOCHS_MAX", (1, 2), (1000,)),
    Knob("protocols.kafka.consumer.positions.ENOUGH", (1, 2), (10_000,)),
    Knob("protocols.kafka.records.batch.PIECE", (1, 2), (1_000_000,)),
    Knob("protocols.kafka.producer.topics.STICKY_BYTES", (1, 100), (1 << 20,)),
    Knob("protocols.kafka.producer.transactions.PAUSE", (0.02,), (2.0,), make=backoff),
)
