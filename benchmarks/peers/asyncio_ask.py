"""A message through an `asyncio.Queue`, its answer through a future: microseconds of CPU per ask.

python -m benchmarks.peers.asyncio_ask COUNT
"""

from __future__ import annotations

import asyncio
import sys
import time


async def answer(queue: asyncio.Queue[tuple[int, asyncio.Future[int]]]) -> None:
    while True:
        number, future = await queue.get()
        future.set_result(number + 1)


async def ask(count: int) -> float:
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[int, asyncio.Future[int]]] = asyncio.Queue(1000)
    answering = asyncio.create_task(answer(queue))
    before = time.process_time()
    for number in range(count):
        future: asyncio.Future[int] = loop.create_future()
        await queue.put((number, future))
        await future
    spent = time.process_time() - before
    answering.cancel()
    return spent


if __name__ == "__main__":
    count = int(sys.argv[1])
    print(asyncio.run(ask(count)) / count * 1e6)
