"""Selects through our pool: microseconds of CPU per operation.

    python -m benchmarks.own.postgres URL key|fixed|mixed loop|asyncio COUNT

`key`: one row by its key, 64 callers on 8 connections; the others 1,000 rows, one caller.
"""

from __future__ import annotations

import asyncio
import sys
import time

from actors import Loop, settle_all
from pools import Pool
from protocols import postgres

CALLERS = 64
CONNECTIONS = 8
BY_KEY = "select id, name, price from item where id = $1"
ROWS = {
    "fixed": "select id, price, id::bigint as big, price::float8 as real from item",
    "mixed": "select id, name, price, added from item",
}


async def by_key(pool: Pool, count: int) -> None:
    for number in range(count):
        row = await pool.submit(postgres.fetch_one(BY_KEY, number % 1000))
        if row is None or row[0] != number % 1000:
            raise AssertionError(f"asked for {number % 1000}, got {row}")


async def all_rows(pool: Pool, what: str, count: int) -> None:
    for _ in range(count):
        rows = await pool.submit(postgres.query(ROWS[what]))
        if len(rows) != 1000:
            raise AssertionError(f"{len(rows)} rows")


def in_loop(url: str, what: str, count: int) -> float:
    """Seconds of CPU on our own loop."""
    with Loop() as loop:
        pool = loop.spawn(postgres.pool(url, connections=CONNECTIONS, pipeline=CALLERS // CONNECTIONS))

        def run(count: int) -> None:
            if what == "key":
                flows = [loop.spawn(by_key(pool, count // CALLERS)) for _ in range(CALLERS)]
            else:
                flows = [loop.spawn(all_rows(pool, what, count))]
            for done in loop.run_until(settle_all(*flows)):
                if done is not None:
                    raise done

        run(10 * CALLERS if what == "key" else 3)
        before = time.process_time()
        run(count)
        return time.process_time() - before


async def in_asyncio(url: str, what: str, count: int) -> float:
    """Seconds of CPU inside asyncio."""
    async with Loop.in_asyncio() as loop:
        pool = loop.spawn(postgres.pool(url, connections=CONNECTIONS, pipeline=CALLERS // CONNECTIONS))

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
    url, what, where, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    spent = in_loop(url, what, count) if where == "loop" else asyncio.run(in_asyncio(url, what, count))
    print(spent / count * 1e6)
