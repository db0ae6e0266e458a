"""Messages of 100 bytes read from a topic through other clients: microseconds of CPU each.

python benchmarks/peers/kafka_consume.py aiokafka|confluent one|many PORT COUNT
"""

from __future__ import annotations

import asyncio
import sys
import time

TOPIC = "produced"
MANY = 500


async def with_aiokafka(what: str, port: int, count: int) -> float:
    import aiokafka

    consumer = aiokafka.AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=f"127.0.0.1:{port}",
        group_id=f"aiokafka-{time.time_ns()}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    left, size = count, 0
    before = time.process_time()
    if what == "many":
        while left > 0:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=MANY)).values():
                for record in records:
                    size += len(record.value)
                    left -= 1
    else:
        async for record in consumer:
            size += len(record.value)
            left -= 1
            if not left:
                break
    spent = time.process_time() - before
    await consumer.stop()
    if size < 100 * count:
        raise AssertionError("other messages than were written")
    return spent


def with_confluent(what: str, port: int, count: int) -> float:
    import confluent_kafka

    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": f"127.0.0.1:{port}",
            "group.id": f"confluent-{time.time_ns()}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([TOPIC])
    before = time.process_time()
    left, size = count, 0
    while left > 0:
        found = consumer.consume(MANY, 1.0) if what == "many" else [consumer.poll(1.0)]
        for message in found:
            if message is not None and message.error() is None:
                size += len(message.value())
                left -= 1
    spent = time.process_time() - before
    consumer.close()
    if size < 100 * count:
        raise AssertionError("other messages than were written")
    return spent


if __name__ == "__main__":
    client, way, where, messages = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if client == "aiokafka":
        seconds = asyncio.run(with_aiokafka(way, where, messages))
    else:
        seconds = with_confluent(way, where, messages)
    print(seconds / messages * 1e6)
