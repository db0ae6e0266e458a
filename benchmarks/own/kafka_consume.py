"""Messages of 100 bytes read from a topic by a member of a group: microseconds of CPU each.

python -m benchmarks.own.kafka_consume one|many loop|asyncio PORT COUNT
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time

import structlog

from actors import Loop
from benchmarks.own.kafka import TOPIC
from protocols import kafka


def consumer(port: int) -> kafka.ConsumerOptions:
    """Nothing is stored, so every run begins at the beginning."""
    return kafka.consumer(
        f"127.0.0.1:{port}",
        TOPIC,
        group=f"windlass-{time.time_ns()}",
        auto_offset_reset="earliest",
        auto_commit=None,
    )


async def read(messages: kafka.Consumer, what: str, count: int) -> float:
    """Seconds of CPU."""
    await messages.subscribed
    before = time.process_time()
    left, size = count, 0
    if what == "many":
        while left > 0:
            for record in await messages.receive_many():
                size += len(record.value or b"")
                left -= 1
    else:
        async for record in messages:
            size += len(record.value or b"")
            left -= 1
            if not left:
                break
    spent = time.process_time() - before
    if size < 100 * count:
        raise AssertionError("other messages than were written")
    return spent


async def in_asyncio(what: str, port: int, count: int) -> float:
    """Seconds of CPU."""
    async with Loop.in_asyncio() as loop:
        messages = loop.spawn(consumer(port))
        spent = await read(messages, what, count)
        await messages.close()
    return spent


def on_our_loop(what: str, port: int, count: int) -> float:
    """Seconds of CPU."""
    with Loop() as loop:
        messages = loop.spawn(consumer(port))
        spent = loop.run_until(loop.spawn(read(messages, what, count)))
        loop.run_until(messages.close())
    return spent


def main(what: str, where: str, port: int, count: int) -> float:
    """Microseconds of CPU per message."""
    if where == "loop":
        seconds = on_our_loop(what, port, count)
    else:
        seconds = asyncio.run(in_asyncio(what, port, count))
    return seconds / count * 1e6


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    print(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
