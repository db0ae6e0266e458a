"""Other HTTP clients: microseconds of CPU per request, 32 tasks or threads, 32 connections.

python -m benchmarks.peers.http_client aiohttp|httpx asyncio|uvloop PORT SECONDS
python -m benchmarks.peers.http_client requests threads PORT SECONDS
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from benchmarks.clients.driving import AT_ONCE, check, drive_tasks, drive_threads, new_loop


async def by_aiohttp(url: str, seconds: float) -> float:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:

        async def ask() -> None:
            async with session.get(url) as response:
                check(response.status, await response.read())

        return await drive_tasks(ask, seconds)


async def by_httpx(url: str, seconds: float) -> float:
    import httpx

    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    async with httpx.AsyncClient(limits=limits) as client:

        async def ask() -> None:
            response = await client.get(url)
            check(response.status_code, response.content)

        return await drive_tasks(ask, seconds)


def by_requests(url: str, seconds: float) -> float:
    import requests

    def make() -> Callable[[], None]:
        session = requests.Session()

        def ask() -> None:
            response = session.get(url)
            check(response.status_code, response.content)

        return ask

    return drive_threads(make, seconds)


def main(who: str, host: str, port: int, seconds: float) -> float:
    url = f"http://127.0.0.1:{port}/"
    if who == "requests":
        return by_requests(url, seconds)
    client = {"aiohttp": by_aiohttp, "httpx": by_httpx}[who]
    with asyncio.Runner(loop_factory=lambda: new_loop(host)) as runner:
        return runner.run(client(url, seconds))


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
