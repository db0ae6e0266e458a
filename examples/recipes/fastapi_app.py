"""FastAPI: pools opened in the lifespan, used in endpoints: uvicorn examples.recipes.fastapi_app:app"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from actors import DeadlineExceeded, Loop, NoAnswer, gather
from protocols import http

__all__ = ["app"]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One pool for all requests of this process, on the thread and the loop that serve them."""
    async with Loop.in_asyncio() as loop:
        app.state.backend = loop.spawn(http.pool(os.environ.get("BACKEND", "http://127.0.0.1:9001")))
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/profile/{number}")
async def profile(number: int, request: Request) -> dict[str, Any]:
    """Two requests at once, each with a second to be answered in."""
    backend = request.app.state.backend
    user, cart = await gather(
        backend.submit(http.get(f"/users/{number}"), timeout=1.0),
        backend.submit(http.get(f"/carts/{number}"), timeout=1.0),
    )
    return {"user": user.json(), "cart": cart.json()}


@app.exception_handler(NoAnswer)
async def refused(request: Request, error: NoAnswer) -> JSONResponse:
    """A backend that is slow or away is not this server's error."""
    return JSONResponse({"error": str(error)}, 504 if isinstance(error, DeadlineExceeded) else 503)
