"""The knobs of Kafka, and of what it stands on: see `actors.knobs`."""

from __future__ import annotations

from typing import Final

from actors.knobs import Knob, backoff, same
from pools.knobs import KNOBS as POOLS

__all__ = ["KNOBS"]

KNOBS: Final[tuple[Knob, ...]] = (
    *POOLS,
    Knob("protocols.kafka.batches.SMALL", (0, 100), also={"protocols.kafka.producer.SMALL": same}),
    Knob("protocols.kafka.cluster.PAUSE", (0.05,), (2.0,), make=backoff),
    Knob("protocols.kafka.cluster.PIPELINE", (1, 2), (100,)),
    Knob("protocols.kafka.committing.PAUSE", (0.05,), (2.0,), make=backoff),
    Knob("protocols.kafka.consumer.MISSING_SECONDS", (0.05,), (3.0,)),
    Knob("protocols.kafka.consumer.STRANGE_MAX", (3,), (100,)),
    Knob("protocols.kafka.consumer.FINISH_SECONDS", (0.01,), (4.0,)),
    Knob("protocols.kafka.delivery.PAUSE", (0.05,), (2.0,), make=backoff),
    Knob("protocols.kafka.delivery.REQUESTS", (1, 2)),
    Knob("protocols.kafka.delivery.REQUEST_BYTES", (1, 2000), (1 << 24,)),
    Knob("protocols.kafka.fetching.PAUSE", (0.05,), (2.0,), make=backoff),
    Knob("protocols.kafka.fetching.BRIEFLY", (0.001,), (0.2,)),
    Knob("protocols.kafka.group.PAUSE", (0.05,), (2.0,), make=backoff),
    Knob("protocols.kafka.member.PAUSE", (0.05,), (2.0,), make=backoff),
    Knob("protocols.kafka.partitioner.KEY_BYTES_REMEMBERED", (0, 4), (1 << 16,)),
    Knob("protocols.kafka.producer.MISSING_MAX", (0, 1), (10_000,)),
    Knob("protocols.kafka.producer.TOPIC_PATIENCE", (0.2,), (20.0,)),
    Knob("protocols.kafka.producer.PARTITION_PATIENCE", (0.05,), (5.0,)),
    Knob("protocols.kafka.producer.SWEEP_SECONDS", (0.0,), (1e-4,)),
    Knob("protocols.kafka.reading.EPOCHS_MAX", (1, 2), (1000,)),
    Knob("protocols.kafka.reading.ENOUGH", (1, 2), (10_000,)),
    Knob("protocols.kafka.records.PIECE", (1, 2), (1_000_000,)),
    Knob("protocols.kafka.routing.STICKY_BYTES", (1, 100), (1 << 20,)),
    Knob("protocols.kafka.transactions.PAUSE", (0.02,), (2.0,), make=backoff),
)
