"""An HTTP pool used from a host: microseconds of CPU per request.

python -m benchmarks.own.http_client asyncio|uvloop|threads PORT SECONDS PIPELINE [COUNT]

It ends after so many seconds, and after so many requests if their count is given.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable
from typing import Any

from actors import Loop
from benchmarks.clients.driving import AT_ONCE, check, drive_tasks, drive_threads, new_loop
from protocols import http


def pool(port: int, pipeline: int) -> Any:
    """As many connections as tasks, or, where they are deep enough, one."""
    connections = max(1, AT_ONCE // pipeline)
    return http.pool(f"http://127.0.0.1:{port}", connections=connections, pipeline=pipeline)


async def from_tasks(port: int, seconds: float, pipeline: int, count_max: float) -> float:
    async with Loop.in_asyncio() as loop:
        backend = loop.spawn(pool(port, pipeline))

        async def ask() -> None:
            response = await backend.submit(http.get("/"))
            check(response.status, response.body)

        return await drive_tasks(ask, seconds, count_max)


def from_threads(port: int, seconds: float, pipeline: int, count_max: float) -> float:
    with Loop.in_thread() as loop:
        backend = loop.spawn(pool(port, pipeline))

        def ask() -> None:
            response = backend.submit(http.get("/")).result(timeout=5)
            check(response.status, response.body)

        def make() -> Callable[[], None]:
            return ask

        return drive_threads(make, seconds, count_max)


def main(host: str, port: int, seconds: float, pipeline: int, count_max: float) -> float:
    if host == "threads":
        return from_threads(port, seconds, pipeline, count_max)
    with asyncio.Runner(loop_factory=lambda: new_loop(host)) as runner:
        return runner.run(from_tasks(port, seconds, pipeline, count_max))


if __name__ == "__main__":
    count = float(sys.argv[5]) if len(sys.argv) > 5 else math.inf
    print(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), count))
