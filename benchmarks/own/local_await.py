"""An asyncio task awaits a reply that something on its own thread settles: microseconds of CPU for one.

    python -m benchmarks.own.local_await settled|pending COUNT

`settled`: before it is awaited. `pending`: in the next turn of asyncio.
"""

from __future__ import annotations

import asyncio
import sys
import time

from actors import Loop, Reply


async def settled(count: int) -> None:
    for number in range(count):
        reply: Reply[int] = Reply()
        reply.settle(number)
        if await reply != number:
            raise AssertionError(f"{reply!r} is not {number}")


async def pending(count: int) -> None:
    call_soon = asyncio.get_running_loop().call_soon
    for number in range(count):
        reply: Reply[int] = Reply()
        call_soon(reply.settle, number)
        if await reply != number:
            raise AssertionError(f"{reply!r} is not {number}")


async def main(kind: str, count: int) -> float:
    """Seconds of CPU."""
    async with Loop.in_asyncio():
        before = time.process_time()
        await {"settled": settled, "pending": pending}[kind](count)
        return time.process_time() - before


if __name__ == "__main__":
    print(asyncio.run(main(sys.argv[1], int(sys.argv[2]))) / int(sys.argv[2]) * 1e6)
