"""Messages of 100 bytes: microseconds of CPU each.

python -m benchmarks.own.kafka stream|callers loop|asyncio PORT COUNT
"""

from __future__ import annotations

import asyncio
import sys
import time

from actors import Loop, Reply, settle_all
from protocols import kafka

CALLERS = 64
ON_THE_WAY = 10_000
SHARE = 1_000  # submitted in one go
TOPIC = "produced"
VALUE = b"x" * 100


async def stream(pool: kafka.KafkaPool, count: int) -> None:
    """All of them, never more than so many on their way."""
    waiting: list[Reply[kafka.RecordMetadata]] = []
    for _ in range(count // SHARE):
        shares = [pool.submit(kafka.message(TOPIC, VALUE)) for _ in range(SHARE)]
        waiting += shares
        if len(waiting) >= ON_THE_WAY:
            for reply in waiting[:SHARE]:
                await reply
            del waiting[:SHARE]
        else:
            await shares[0]
    for reply in waiting:
        await reply


async def call(pool: kafka.KafkaPool, count: int) -> None:
    """One caller, one message after the other."""
    for _ in range(count):
        await pool.submit(kafka.message(TOPIC, VALUE))


def on_our_loop(what: str, port: int, count: int) -> float:
    """Seconds of CPU."""
    with Loop() as loop:
        pool = loop.spawn(kafka.pool(f"127.0.0.1:{port}"))
        loop.run_until(loop.spawn(call(pool, 10)))
        before = time.process_time()
        if what == "stream":
            loop.run_until(loop.spawn(stream(pool, count)))
        else:
            flows = [loop.spawn(call(pool, count // CALLERS)) for _ in range(CALLERS)]
            loop.run_until(settle_all(*flows))
        return time.process_time() - before


async def in_asyncio(what: str, port: int, count: int) -> float:
    """Seconds of CPU."""
    async with Loop.in_asyncio() as loop:
        pool = loop.spawn(kafka.pool(f"127.0.0.1:{port}"))
        await call(pool, 10)
        before = time.process_time()
        if what == "stream":
            await stream(pool, count)
        else:
            await asyncio.gather(*[call(pool, count // CALLERS) for _ in range(CALLERS)])
        return time.process_time() - before


def main(what: str, where: str, port: int, count: int) -> float:
    """Microseconds of CPU per message."""
    if where == "loop":
        seconds = on_our_loop(what, port, count)
    else:
        seconds = asyncio.run(in_asyncio(what, port, count))
    return seconds / count * 1e6


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
