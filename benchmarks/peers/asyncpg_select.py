"""The same selects through asyncpg's pool: microseconds of CPU per operation.

python -m benchmarks.peers.asyncpg_select URL key|fixed|mixed COUNT
"""

from __future__ import annotations

import asyncio
import sys
import time

import asyncpg

CALLERS = 64
CONNECTIONS = 8
BY_KEY = "select id, name, price from item where id = $1"
ROWS = {
    "fixed": "select id, price, id::bigint as big, price::float8 as real from item",
    "mixed": "select id, name, price, added from item",
}


async def by_key(pool: asyncpg.Pool, count: int) -> None:
    for number in range(count):
        row = await pool.fetchrow(BY_KEY, number % 1000)
        if row[0] != number % 1000:
            raise AssertionError(f"asked for {number % 1000}, got {row}")


async def all_rows(pool: asyncpg.Pool, what: str, count: int) -> None:
    for _ in range(count):
        rows = await pool.fetch(ROWS[what])
        if len(rows) != 1000:
            raise AssertionError(f"{len(rows)} rows")


async def main(url: str, what: str, count: int) -> float:
    async with asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:

        async def run(count: int) -> None:
            if what == "key":
                await asyncio.gather(*(by_key(pool, count // CALLERS) for _ in range(CALLERS)))
            else:
                await all_rows(pool, what, count)

        await run(10 * CALLERS if what == "key" else 3)
        before = time.process_time()
        await run(count)
        return time.process_time() - before


if __name__ == "__main__":
    print(asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))) / int(sys.argv[3]) * 1e6)
