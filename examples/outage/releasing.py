"""The usual way, repaired by hand: `/report` gives its connection back before it waits.

DATABASE=postgresql://... RATES=http://... uvicorn examples.outage.releasing:app
"""

from __future__ import annotations

from fastapi import FastAPI, Request

from .holding import account, lifespan, refused
from .scenario import BALANCE, DATABASE_SECONDS, RECORD

__all__ = ["app"]

app = FastAPI(lifespan=lifespan, exception_handlers={TimeoutError: refused})
app.get("/account/{id}")(account)


@app.get("/report/{id}")
async def report(id: int, request: Request) -> dict[str, float]:
    """Needs the database before and after it has asked for the rates."""
    database = request.app.state.database
    async with database.acquire(timeout=DATABASE_SECONDS) as connection:
        balance = await connection.fetchval(BALANCE, id)
    async with request.app.state.rates.get("/rates") as answer:
        rates = await answer.json()
    value = balance * rates["euro"]
    async with database.acquire(timeout=DATABASE_SECONDS) as connection:
        await connection.execute(RECORD, id, value)
    return {"value": value}
