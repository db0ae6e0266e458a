"""Redis in front of PostgreSQL, with both servers, and without either."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import Loop, gather
from examples.cache_aside import LOOKUPS_MAX, Products, routes, set_up
from pools import QueueFull
from protocols import http, postgres, redis
from tests.protocols.postgres.servers import Server
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
ANCHOR = {"name": "anchor", "cents": 12_900}


class Service:
    """The service on a loop of its own, and a visitor beside it."""

    def __init__(self, loop: Loop, cache_url: str, database_url: str) -> None:
        self.loop = loop
        self.products = Products(loop, cache_url, database_url)
        server = loop.spawn(http.server("127.0.0.1:0", routes(self.products)))
        self.visitor = loop.spawn(http.pool(f"http://{server.address}", connections=64, timeout=20.0))

    def ask(self, unit: Any) -> http.Response:
        return self.loop.run_until(self.visitor.submit(unit))

    def get(self, id: int) -> tuple[int, str | None, Any]:
        """Status, where it was found, and the body."""
        response = self.ask(http.get(f"/products/{id}"))
        return response.status, response.headers.get("X-Cache"), response.json()

    def put(self, id: int, product: Any) -> http.Response:
        return self.ask(http.put(f"/products/{id}", json=product))

    @property
    def counts(self) -> dict[str, int]:
        return self.ask(http.get("/statistics")).json()


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


@pytest.fixture
def rows(loop: Loop, postgres_server: Server) -> str:
    """The database's URL, with the table as it is at first."""
    database = loop.spawn(postgres.pool(postgres_server.url, connections=1))
    loop.run_until(database.submit(postgres.execute("drop table if exists products"), timeout=20))
    loop.run_until(database.submit(set_up(), timeout=20))
    return postgres_server.url


@pytest.fixture
def cache(loop: Loop, redis_server: RedisServer) -> str:
    """The cache's URL; it is empty."""
    loop.run_until(loop.spawn(redis.pool(redis_server.url)).submit(redis.command("FLUSHALL"), timeout=20))
    return redis_server.url


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both servers may take as long as a busy machine does."""
    for limit in ("CACHE_SECONDS", "DATABASE_SECONDS"):
        monkeypatch.setattr(f"examples.cache_aside.{limit}", 20.0)


@pytest.fixture
def service(loop: Loop, cache: str, rows: str) -> Service:
    """With both servers."""
    return Service(loop, cache, rows)


def test_a_miss_then_hits(service: Service) -> None:
    assert service.get(7) == (200, "miss", ANCHOR)
    assert service.get(7) == service.get(7) == (200, "hit", ANCHOR)
    assert service.counts == {"missed": 1, "hit": 2}


def test_it_is_kept_for_a_while_only(service: Service) -> None:
    service.get(7)
    seconds = service.loop.run_until(service.products.cache.submit(redis.command("TTL", "product:7")))
    assert 0 < seconds <= 60


def test_what_is_not_there_is_kept_too_until_it_is(service: Service) -> None:
    missing = {"error": "there is no product 1"}
    assert [service.get(1) for _ in range(2)] == [(404, "miss", missing), (404, "hit", missing)]
    assert service.put(1, ANCHOR).status == 204
    assert service.get(1) == (200, "miss", ANCHOR)


def test_a_change_is_seen_at_once(service: Service) -> None:
    service.get(7)
    assert service.put(7, {"name": "anchor", "cents": 1}).status == 204
    assert service.get(7) == (200, "miss", {"name": "anchor", "cents": 1})
    assert service.get(7)[1] == "hit"
    assert service.counts["changed"] == 1


def test_many_at_once_make_one_query(service: Service) -> None:
    asked = [service.visitor.submit(http.get("/products/7")) for _ in range(50)]
    answers = service.loop.run_until(gather(*asked))
    assert {answer.body for answer in answers} == {b'{"name":"anchor","cents":12900}'}
    assert service.products.database.statistics().submitted == 1
    assert service.counts["missed"] == 1


def test_a_lookup_outlives_who_asked(service: Service) -> None:
    async def come_and_go() -> None:
        await service.products.look_up(7)

    service.products.look_up(7)
    visit = service.loop.spawn(come_and_go())
    service.loop.tick(0)
    visit.cancel()
    service.loop.run_until(service.products.look_up(7))
    assert service.products.counts["missed"] == 1
    assert service.get(7)[1] == "hit"


def test_a_lookup_that_a_change_overtook_is_not_kept(service: Service) -> None:
    lookup = service.products.look_up(7)
    service.products._lookups.pop(7)  # as a change does when the row is another
    service.loop.run_until(lookup)
    assert service.get(7)[1] == "miss"


def test_lookups_are_bounded(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = [service.products.look_up(id) for id in range(LOOKUPS_MAX)]
    with pytest.raises(QueueFull):
        service.products.look_up(LOOKUPS_MAX)
    for lookup in lookups:
        service.loop.run_until(lookup)
    assert service.get(LOOKUPS_MAX)[0] == 404


@pytest.mark.parametrize("id", ["x", "-1", "9" * 19, "%C2%B2"])
def test_what_is_no_number_is_no_product(service: Service, id: str) -> None:
    assert service.ask(http.get(f"/products/{id}")).status == 404
    assert service.ask(http.put(f"/products/{id}", json=ANCHOR)).status == 404


@pytest.mark.parametrize("product", [{}, [], {"name": "", "cents": 1}, {"name": "anchor", "cents": -1}])
def test_what_cannot_be_a_product_is_refused(service: Service, product: Any) -> None:
    answer = service.put(7, product)
    assert answer.status == 400
    assert "write" in answer.json()["error"]
    assert service.get(7) == (200, "miss", ANCHOR)


def test_without_the_cache(loop: Loop, rows: str, free_port: Callable[[], int]) -> None:
    service = Service(loop, f"redis://127.0.0.1:{free_port()}", rows)
    assert service.get(7) == service.get(7) == (200, "miss", ANCHOR)
    assert service.put(7, {"name": "anchor", "cents": 1}).status == 204
    assert service.get(7) == (200, "miss", {"name": "anchor", "cents": 1})
    assert service.counts["cache failed"] >= 1


def test_a_cache_that_turns_slow_is_left_alone(
    loop: Loop, rows: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, require_program: Any
) -> None:
    monkeypatch.setattr("examples.cache_aside.REST_SECONDS", 1000.0)
    program = require_program("redis-server", "apt-get install redis-server")
    with RedisServer(program, tmp_path) as server:
        service = Service(loop, server.url, rows)
        assert [service.get(7)[1] for _ in range(2)] == ["miss", "hit"]
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as admin:
            admin.sendall(b"CLIENT PAUSE 100000 ALL\r\n")
            assert admin.recv(100) == b"+OK\r\n"
        monkeypatch.setattr("examples.cache_aside.CACHE_SECONDS", 0.05)
        assert [service.get(7) for _ in range(20)] == [(200, "miss", ANCHOR)] * 20
        assert service.counts == {"hit": 1, "missed": 21, "cache failed": 1}
        assert service.put(7, {"name": "anchor", "cents": 1}).status == 204  # removing is tried all the same
        assert service.counts["cache failed"] == 2


def test_without_the_database_what_is_kept_is_served(
    service: Service, cache: str, free_port: Callable[[], int]
) -> None:
    service.get(7)
    nowhere = Service(service.loop, cache, f"postgresql://postgres@127.0.0.1:{free_port()}/test")
    assert nowhere.get(7) == (200, "hit", ANCHOR)
    for refused in (nowhere.ask(http.get("/products/8")), nowhere.put(8, ANCHOR)):
        assert (refused.status, refused.headers.get("Retry-After")) == (503, "1")
        assert "cannot be reached" in refused.json()["error"]
    assert nowhere.counts["change failed"] == 1


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The program, which ends by itself for a wrong argument."""
    command = [sys.executable, "-m", "examples.cache_aside", "--listen", "127.0.0.1:0", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_what_is_wrong_is_said_in_one_line(free_port: Callable[[], int]) -> None:
    nowhere = f"postgresql://127.0.0.1:{free_port()}/test"
    for arguments, said in [
        (("--database", "mysql://x"), "is not a URL like postgresql://"),
        (("--redis", "http://x"), "redis://"),
        (("--kept", "0"), "write seconds"),
        (("--setup", "--database", nowhere), "cannot be reached"),
    ]:
        done = run(*arguments)
        assert done.returncode in (1, 2)
        assert said in done.stderr.splitlines()[-1]
