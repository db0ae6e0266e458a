"""With Windlass: units of work for the database and for the rates. No connection can be kept.

DATABASE=postgresql://... RATES=http://... uvicorn examples.outage.submitting:app
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from actors import Loop, NoAnswer
from protocols import http, postgres

from .scenario import (
    BALANCE,
    DATABASE_CONNECTIONS,
    DATABASE_SECONDS,
    RATES_CONNECTIONS,
    RATES_SECONDS,
    RECORD,
)

__all__ = ["app"]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One pool of each kind for all requests of this process, on the thread and the loop that serve them."""
    database = postgres.pool(
        os.environ["DATABASE"], connections=DATABASE_CONNECTIONS, timeout=DATABASE_SECONDS
    )
    rates = http.pool(os.environ["RATES"], connections=RATES_CONNECTIONS, timeout=RATES_SECONDS)
    async with Loop.in_asyncio() as loop:
        app.state.database = loop.spawn(database)
        app.state.rates = loop.spawn(rates)
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/account/{id}")
async def account(id: int, request: Request) -> dict[str, float]:
    """Needs the database alone."""
    return {"balance": await request.app.state.database.submit(postgres.fetch_value(BALANCE, id))}


@app.get("/report/{id}")
async def report(id: int, request: Request) -> dict[str, float]:
    """Needs the database before and after it has asked for the rates."""
    database = request.app.state.database
    balance = await database.submit(postgres.fetch_value(BALANCE, id))
    rates = (await request.app.state.rates.submit(http.get("/rates"))).json()
    value = balance * rates["euro"]
    await database.submit(postgres.execute(RECORD, id, value))
    return {"value": value}


@app.exception_handler(NoAnswer)
async def refused(request: Request, error: NoAnswer) -> JSONResponse:
    """Something that was needed did not come in time, or not at all."""
    return JSONResponse({"error": f"too late: {error}"}, 503, {"Retry-After": "1"})
