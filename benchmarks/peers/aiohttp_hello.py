"""Hello by aiohttp's server on uvloop: `python -m benchmarks.peers.aiohttp_hello PORT`."""

from __future__ import annotations

import sys

import uvloop
from aiohttp import web


async def hello(request: web.Request) -> web.Response:
    return web.Response(body=b"Hello World!", content_type="text/plain")


def main(port: int) -> None:
    application = web.Application()
    application.router.add_get("/", hello)
    web.run_app(
        application, host="127.0.0.1", port=port, access_log=None, print=None, loop=uvloop.new_event_loop()
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
