"""The forms in which Windlass is shown to users run as they are written, ports included: whoever connects to
6379 is led to the test's Redis, and so on.
"""

from __future__ import annotations

import contextlib
import getpass
import io
from collections.abc import Iterator
from typing import Any

import pytest

from actors import Loop, SystemKernel, TcpAddress
from protocols import http, redis
from tests.protocols.postgres.servers import Server
from tests.redis_server import RedisServer

COMPOSE = """
# compose two backends behind one endpoint
from actors import Loop, gather
from protocols import http

loop = Loop()
users = loop.spawn(http.pool("http://127.0.0.1:9001", connections=8))
carts = loop.spawn(http.pool("http://127.0.0.1:9002", connections=8))

async def profile(request: http.Request) -> http.Response:
    user, cart = await gather(
        users.submit(http.get("/users/7"), timeout=0.5),
        carts.submit(http.get("/carts/7"), timeout=0.5),
    )
    return http.json_response({"user": user.json(), "cart": cart.json()})

loop.spawn(http.server("127.0.0.1:8080", profile))
loop.run()
"""

IN_ASYNCIO = """
# inside an asyncio (or uvloop) program, on the same thread
import asyncio
from actors import Loop
from protocols import redis

async def main():
    async with Loop.in_asyncio() as loop:
        cache = loop.spawn(redis.pool("redis://127.0.0.1:6379"))
        print(await cache.submit(redis.get("key")))

asyncio.run(main())
"""

FROM_THREADS = """
# from ordinary threads (Django, Flask, a script)
with Loop.in_thread() as loop:
    db = loop.spawn(postgres.pool("postgresql://127.0.0.1/test"))
    print(db.submit(postgres.fetch_value("select 1")).result(timeout=1))
"""

SEVERAL_EXCHANGES = """
# a unit of work with several exchanges: it holds one connection, and can wait on nothing else
@postgres.transaction
async def transfer(tx: postgres.Transaction, source: int, target: int, amount: int) -> int:
    balance = await tx.fetch_value(
        "select balance from accounts where id = $1 for update", source)
    if balance < amount:
        raise InsufficientFunds(source)            # rolls back, reaches the caller
    await tx.execute("update accounts set balance = balance - $2 where id = $1", source, amount)
    await tx.execute("update accounts set balance = balance + $2 where id = $1", target, amount)
    return balance - amount                        # commits; what the reply settles with

db.submit(transfer(1, 2, 50))
"""


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Ports as the programs name them, and as they are. Who runs the test is PostgreSQL's superuser."""
    ports: dict[int, int] = {}
    connect, listen = SystemKernel.connect, SystemKernel.listen

    def connect_here(kernel: Any, address: Any) -> Any:
        return connect(kernel, TcpAddress("127.0.0.1", ports.get(address.port, address.port)))

    def listen_here(kernel: Any, address: Any, **options: Any) -> Any:
        sock = listen(kernel, TcpAddress("127.0.0.1", 0), **options)
        ports[address.port] = sock.getsockname()[1]
        return sock

    monkeypatch.setattr(SystemKernel, "connect", connect_here)
    monkeypatch.setattr(SystemKernel, "listen", listen_here)
    monkeypatch.setattr(getpass, "getuser", lambda: "postgres")
    return ports


@pytest.fixture
def background() -> Iterator[Any]:
    """A loop beside the program's."""
    with Loop.in_thread(drain=0.0) as loop:
        yield loop


def run(program: str, **names: Any) -> tuple[str, dict[str, Any]]:
    """What it prints, and the names it has then."""
    namespace = {"__name__": "program", **names}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "program", "exec"), namespace)
    return printed.getvalue(), namespace


def test_two_backends_behind_one_endpoint(
    network: dict[int, int], background: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = []

    def visited(loop: Loop) -> None:
        with loop:
            visitor = loop.spawn(http.pool("http://127.0.0.1:8080"))
            answers.append(loop.run_until(visitor.submit(http.get("/"))).json())

    for port in (9001, 9002):
        background.spawn(http.server(f"127.0.0.1:{port}", lambda request: http.json_response(request.path)))
    monkeypatch.setattr(Loop, "run", visited)
    run(COMPOSE)
    assert answers == [{"user": "/users/7", "cart": "/carts/7"}]


def test_inside_asyncio(network: dict[int, int], background: Any, redis_server: RedisServer) -> None:
    network[6379] = redis_server.port
    cache = background.spawn(redis.pool(redis_server.url))
    assert cache.submit(redis.set("key", "found")).result(timeout=20)
    assert run(IN_ASYNCIO)[0] == "b'found'\n"


def test_from_ordinary_threads(network: dict[int, int], postgres_server: Server) -> None:
    network[5432] = postgres_server.port
    printed, _ = run("from actors import Loop\nfrom protocols import postgres\n" + FROM_THREADS)
    assert printed == "1\n"


def test_a_unit_of_several_exchanges(
    network: dict[int, int], background: Any, postgres_server: Server
) -> None:
    from protocols import postgres

    class InsufficientFunds(Exception):
        pass

    db = background.spawn(postgres.pool(postgres_server.url, connections=1))  # one after the other

    def ask(unit: Any) -> Any:
        return db.submit(unit).result(timeout=20)

    ask(postgres.execute("drop table if exists accounts"))
    ask(postgres.execute("create table accounts (id int primary key, balance int)"))
    ask(postgres.execute_many("insert into accounts values ($1, 100)", [(1,), (2,)]))
    names = {"postgres": postgres, "db": db, "InsufficientFunds": InsufficientFunds}
    transfer = run(SEVERAL_EXCHANGES, **names)[1]["transfer"]
    assert ask(transfer(2, 1, 10)) == 140  # after the program's own
    with pytest.raises(InsufficientFunds):
        ask(transfer(1, 2, 61))
    assert ask(postgres.query("select id, balance from accounts order by id")) == [(1, 60), (2, 140)]
