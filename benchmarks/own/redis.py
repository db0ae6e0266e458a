"""GET by 64 concurrent callers: microseconds of CPU per operation.

python -m benchmarks.own.redis loop|asyncio PORT COUNT
"""

from __future__ import annotations

import asyncio
import sys
import time

from actors import Loop, settle_all
from protocols import redis

CALLERS = 64


async def call(pool: redis.RedisPool, count: int) -> None:
    """One caller, one operation after the other."""
    for _ in range(count):
        if await pool.submit(redis.get("key")) != b"value":
            raise AssertionError("another's answer")


def on_our_loop(port: int, count: int) -> float:
    """Seconds of CPU."""
    with Loop() as loop:
        pool = loop.spawn(redis.pool(f"redis://127.0.0.1:{port}", connections=1))
        loop.run_until(pool.submit(redis.set("key", "value")))
        before = time.process_time()
        flows = [loop.spawn(call(pool, count // CALLERS)) for _ in range(CALLERS)]
        loop.run_until(settle_all(*flows))
        return time.process_time() - before


async def in_asyncio(port: int, count: int) -> float:
    """Seconds of CPU."""
    async with Loop.in_asyncio() as loop:
        pool = loop.spawn(redis.pool(f"redis://127.0.0.1:{port}", connections=1))
        await pool.submit(redis.set("key", "value"))
        before = time.process_time()
        await asyncio.gather(*[call(pool, count // CALLERS) for _ in range(CALLERS)])
        return time.process_time() - before


def main(where: str, port: int, count: int) -> float:
    """Microseconds of CPU per operation."""
    seconds = on_our_loop(port, count) if where == "loop" else asyncio.run(in_asyncio(port, count))
    return seconds / count * 1e6


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
