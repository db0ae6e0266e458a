"""The forms in which PostgreSQL is shown to users run as they are written, on the port of a real server."""

from __future__ import annotations

import asyncio
import getpass
import re
from pathlib import Path
from typing import Any

import pytest

from actors import Loop, SystemKernel, TcpAddress
from protocols import postgres
from tests.protocols.postgres.servers import Server


@pytest.fixture(autouse=True)
def led_to_the_server(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    """Port 5432 is the test's server, and who runs the test is its superuser."""
    connect = SystemKernel.connect

    def connect_here(kernel: Any, address: Any) -> Any:
        assert address == TcpAddress("127.0.0.1", 5432)
        return connect(kernel, TcpAddress("127.0.0.1", server.port))

    monkeypatch.setattr(SystemKernel, "connect", connect_here)
    monkeypatch.setattr(getpass, "getuser", lambda: "postgres")


class InsufficientFunds(Exception):
    """The account has less than that."""


@postgres.transaction
async def transfer(tx: postgres.Transaction, source: int, target: int, amount: int) -> int:
    balance = await tx.fetch_value("select balance from accounts where id = $1 for update", source)
    if balance < amount:
        raise InsufficientFunds(source)  # rolls back, reaches the caller
    await tx.execute("update accounts set balance = balance - $2 where id = $1", source, amount)
    await tx.execute("update accounts set balance = balance + $2 where id = $1", target, amount)
    return balance - amount  # commits; what the reply settles with


def test_from_ordinary_threads() -> None:
    with Loop.in_thread() as loop:
        db = loop.spawn(postgres.pool("postgresql://127.0.0.1/test"))
        assert db.submit(postgres.fetch_value("select 1")).result(timeout=5) == 1
        table = "create table accounts (id int primary key, balance int)"
        for sql in ("drop table if exists accounts", table):
            db.submit(postgres.execute(sql)).result(timeout=5)
        insert = postgres.execute_many("insert into accounts values ($1, 100)", [(1,), (2,)])
        db.submit(insert).result(timeout=5)
        assert db.submit(transfer(1, 2, 50)).result(timeout=5) == 50
        with pytest.raises(InsufficientFunds):
            db.submit(transfer(1, 2, 51)).result(timeout=5)


def test_inside_asyncio() -> None:
    async def main() -> Any:
        async with Loop.in_asyncio() as loop:
            db = loop.spawn(postgres.pool("postgresql://127.0.0.1/test"))
            return await db.submit(postgres.fetch_value("select 1"))

    assert asyncio.run(main()) == 1


def test_the_page_runs() -> None:
    page = Path(__file__).parents[3] / "docs" / "postgres.md"
    blocks = re.findall(r"^```py\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 7
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        exec(block, namespace)
