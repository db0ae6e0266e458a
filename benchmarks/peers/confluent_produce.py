"""Messages of 100 bytes through confluent-kafka, whose work is done in C: microseconds of CPU each.

python benchmarks/peers/confluent_produce.py stream PORT COUNT
"""

from __future__ import annotations

import sys
import time
from typing import Any

import confluent_kafka

ON_THE_WAY = 10_000
SHARE = 1_000
TOPIC = "produced"
VALUE = b"x" * 100


def main(port: int, count: int) -> float:
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": f"127.0.0.1:{port}",
            "enable.idempotence": True,
        }
    )
    acknowledged = 0

    def told(error: Any, message: Any) -> None:
        nonlocal acknowledged
        if error is not None:
            raise AssertionError(error)
        acknowledged += 1

    producer.produce(TOPIC, VALUE)
    producer.flush()
    before = time.process_time()
    for sent in range(0, count // SHARE * SHARE, SHARE):
        for _ in range(SHARE):
            producer.produce(TOPIC, VALUE, on_delivery=told)
        producer.poll(0)
        while sent + SHARE - acknowledged > ON_THE_WAY:
            producer.poll(0.01)
    producer.flush()
    spent = time.process_time() - before
    if acknowledged != count // SHARE * SHARE:
        raise AssertionError(f"{acknowledged} of {count} messages were acknowledged")
    return spent


if __name__ == "__main__":
    messages = int(sys.argv[3])
    print(main(int(sys.argv[2]), messages) / messages * 1e6)
