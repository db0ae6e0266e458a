"""The usual way: `/report` keeps its database connection while it waits for the rates.

DATABASE=postgresql://... RATES=http://... uvicorn examples.outage.holding:app
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import asyncpg
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from .scenario import BALANCE, DATABASE_CONNECTIONS, DATABASE_SECONDS, RATES_SECONDS, RECORD

__all__ = ["app", "lifespan", "refused"]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One pool of each kind for all requests of this process."""
    size, timeout = DATABASE_CONNECTIONS, aiohttp.ClientTimeout(RATES_SECONDS)
    async with (
        asyncpg.create_pool(os.environ["DATABASE"], min_size=size, max_size=size) as app.state.database,
        aiohttp.ClientSession(os.environ["RATES"], timeout=timeout) as app.state.rates,
    ):
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/account/{id}")
async def account(id: int, request: Request) -> dict[str, float]:
    """Needs the database alone."""
    async with request.app.state.database.acquire(timeout=DATABASE_SECONDS) as connection:
        return {"balance": await connection.fetchval(BALANCE, id)}


@app.get("/report/{id}")
async def report(id: int, request: Request) -> dict[str, float]:
    """Needs the database before and after it has asked for the rates."""
    async with request.app.state.database.acquire(timeout=DATABASE_SECONDS) as connection:
        balance = await connection.fetchval(BALANCE, id)
        async with request.app.state.rates.get("/rates") as answer:  # the connection waits here, too
            rates = await answer.json()
        value = balance * rates["euro"]
        await connection.execute(RECORD, id, value)
        return {"value": value}


@app.exception_handler(TimeoutError)
async def refused(request: Request, error: TimeoutError) -> JSONResponse:
    """Something that was needed did not come in time."""
    return JSONResponse({"error": f"too late: {error}"}, 503, {"Retry-After": "1"})
