"""Setting and moving a timeout in asyncio, which is `call_later` and `cancel`: microseconds of CPU for one.

python -m benchmarks.peers.asyncio_timers COUNT
"""

from __future__ import annotations

import asyncio
import sys
import time


def expired() -> None:
    raise AssertionError("no timer of this program lives that long")


async def move(count: int) -> float:
    """One timeout per connection, 1,000 connections: each move cancels the timer and sets another."""
    loop = asyncio.get_running_loop()
    timers = [loop.call_later(60.0, expired) for _ in range(1000)]
    spent = 0.0
    for _ in range(count // 1000):
        before = time.process_time()
        for index in range(1000):
            timers[index].cancel()
            timers[index] = loop.call_later(60.0, expired)
        await asyncio.sleep(0)  # the loop clears cancelled timers away in its turns; that belongs to the cost
        spent += time.process_time() - before
    return spent


if __name__ == "__main__":
    count = int(sys.argv[1])
    print(asyncio.run(move(count)) / count * 1e6)
