"""An asyncio task awaits a future of asyncio's own: microseconds of CPU for one.

python -m benchmarks.peers.asyncio_await settled|pending COUNT
"""

from __future__ import annotations

import asyncio
import sys
import time


async def settled(count: int) -> None:
    loop = asyncio.get_running_loop()
    for number in range(count):
        future: asyncio.Future[int] = loop.create_future()
        future.set_result(number)
        if await future != number:
            raise AssertionError(f"{future!r} is not {number}")


async def pending(count: int) -> None:
    loop = asyncio.get_running_loop()
    for number in range(count):
        future: asyncio.Future[int] = loop.create_future()
        loop.call_soon(future.set_result, number)
        if await future != number:
            raise AssertionError(f"{future!r} is not {number}")


async def main(kind: str, count: int) -> float:
    """Seconds of CPU."""
    before = time.process_time()
    await {"settled": settled, "pending": pending}[kind](count)
    return time.process_time() - before


if __name__ == "__main__":
    print(asyncio.run(main(sys.argv[1], int(sys.argv[2]))) / int(sys.argv[2]) * 1e6)
