"""A small Kafka cluster as machines, for tests and simulations:

    cluster = SimulatedKafka({1: "127.0.0.1:9092"}, {"events": 4})
    loop.spawn(Listener("127.0.0.1:9092", Broker(cluster, 1)))

It knows what producers and consumer groups ask: sequences of idempotent producers, leaders that move,
replicas that are late, groups that are balanced. It knows no transactions, and believes everybody.
"""

from __future__ import annotations

from .cluster import SimulatedKafka
from .server import Broker

__all__ = ["Broker", "SimulatedKafka"]
