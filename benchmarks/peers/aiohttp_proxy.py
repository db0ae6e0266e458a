"""A reverse proxy the way asyncio programs do it: aiohttp's server, its client and its pool, on uvloop.

python -m benchmarks.peers.aiohttp_proxy PORT BACKEND_URL CONNECTIONS
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import aiohttp
import uvloop
from aiohttp import web

HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
SESSION = web.AppKey("session", aiohttp.ClientSession)


def end_to_end(headers: aiohttp.typedefs.LooseHeaders) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP]


def make(backend: str, connections: int) -> web.Application:
    async def client(application: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=connections)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            application[SESSION] = session
            yield

    async def forward(request: web.Request) -> web.Response:
        async with application[SESSION].request(
            request.method,
            backend + request.raw_path,
            headers=end_to_end(request.headers),
            data=await request.read() if request.body_exists else None,
            allow_redirects=False,
        ) as answer:
            return web.Response(
                status=answer.status, headers=end_to_end(answer.headers), body=await answer.read()
            )

    application = web.Application()
    application.cleanup_ctx.append(client)
    application.router.add_route("*", "/{path:.*}", forward)
    return application


def main(port: int, backend: str, connections: int) -> None:
    application = make(backend, connections)
    web.run_app(
        application, host="127.0.0.1", port=port, access_log=None, print=None, loop=uvloop.new_event_loop()
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
