"""aiohttp: pools opened with the application, used in handlers: python -m examples.recipes.aiohttp_app"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from aiohttp import web

from actors import Loop, gather
from pools import Pool
from protocols import http

__all__ = ["application"]

BACKEND = web.AppKey("backend", Pool)


async def pools(app: web.Application) -> AsyncIterator[None]:
    """A clean-up context: what follows `yield` runs when the application stops."""
    async with Loop.in_asyncio() as loop:
        app[BACKEND] = loop.spawn(http.pool(os.environ.get("BACKEND", "http://127.0.0.1:9001")))
        yield


async def profile(request: web.Request) -> web.Response:
    """Two requests at once."""
    backend, number = request.app[BACKEND], request.match_info["number"]
    user, cart = await gather(
        backend.submit(http.get(f"/users/{number}"), timeout=1.0),
        backend.submit(http.get(f"/carts/{number}"), timeout=1.0),
    )
    return web.json_response({"user": user.json(), "cart": cart.json()})


async def download(request: web.Request) -> web.StreamResponse:
    """A body of any size is passed on as it comes, no faster than the client takes it."""
    answer = await request.app[BACKEND].submit(http.stream("GET", "/download"))
    response = web.StreamResponse(status=answer.status)
    await response.prepare(request)
    try:
        async for piece in answer.body:
            await response.write(piece)
    finally:
        answer.body.cancel()  # if the client has gone: gives the connection back
    await response.write_eof()
    return response


def application() -> web.Application:
    """The application, for `web.run_app`."""
    app = web.Application()
    app.cleanup_ctx.append(pools)
    app.router.add_get("/profile/{number}", profile)
    app.router.add_get("/download", download)
    return app


if __name__ == "__main__":
    web.run_app(application(), host="127.0.0.1", port=8080)
