"""Messages of 100 bytes through aiokafka: microseconds of CPU each.

python benchmarks/peers/aiokafka_produce.py stream|callers PORT COUNT
"""

from __future__ import annotations

import asyncio
import sys
import time

import aiokafka

CALLERS = 64
ON_THE_WAY = 10_000
SHARE = 1_000
TOPIC = "produced"
VALUE = b"x" * 100


async def stream(producer: aiokafka.AIOKafkaProducer, count: int) -> None:
    waiting = []
    for _ in range(count // SHARE):
        waiting += [await producer.send(TOPIC, VALUE) for _ in range(SHARE)]
        if len(waiting) >= ON_THE_WAY:
            for future in waiting[:SHARE]:
                await future
            del waiting[:SHARE]
    for future in waiting:
        await future


async def call(producer: aiokafka.AIOKafkaProducer, count: int) -> None:
    for _ in range(count):
        await producer.send_and_wait(TOPIC, VALUE)


async def main(what: str, port: int, count: int) -> float:
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=f"127.0.0.1:{port}",
        acks="all",
        enable_idempotence=True,
    )
    await producer.start()
    await call(producer, 10)
    before = time.process_time()
    if what == "stream":
        await stream(producer, count)
    else:
        await asyncio.gather(*[call(producer, count // CALLERS) for _ in range(CALLERS)])
    spent = time.process_time() - before
    await producer.stop()
    return spent


if __name__ == "__main__":
    messages = int(sys.argv[3])
    print(asyncio.run(main(sys.argv[1], int(sys.argv[2]), messages)) / messages * 1e6)
