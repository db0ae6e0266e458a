"""The select by key through psycopg_pool (asyncio, the C implementation): microseconds of CPU per operation.

python -m benchmarks.peers.psycopg_select URL default|autocommit COUNT

By default leaving the pool's block commits; `autocommit` spares that and is what psycopg can do at its best.
"""

from __future__ import annotations

import asyncio
import sys
import time

from psycopg_pool import AsyncConnectionPool

CALLERS = 64
CONNECTIONS = 8
BY_KEY = "select id, name, price from item where id = %s"


async def by_key(pool: AsyncConnectionPool, count: int) -> None:
    for number in range(count):
        async with pool.connection() as connection:
            cursor = await connection.execute(BY_KEY, (number % 1000,))
            row = await cursor.fetchone()
        if row is None or row[0] != number % 1000:
            raise AssertionError(f"asked for {number % 1000}, got {row}")


async def main(url: str, mode: str, count: int) -> float:
    pool = AsyncConnectionPool(
        url,
        min_size=CONNECTIONS,
        max_size=CONNECTIONS,
        open=False,
        kwargs={"autocommit": mode == "autocommit"},
    )
    async with pool:
        await asyncio.gather(*(by_key(pool, 10) for _ in range(CALLERS)))
        before = time.process_time()
        await asyncio.gather(*(by_key(pool, count // CALLERS) for _ in range(CALLERS)))
        return time.process_time() - before


if __name__ == "__main__":
    print(asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))) / int(sys.argv[3]) * 1e6)
