"""Products, with Redis in front of PostgreSQL: python -m examples.cache_aside --setup

`GET /products/7` looks in Redis, then in PostgreSQL, and puts what it found there into Redis for a minute.
`PUT /products/7` changes the row and removes it from Redis. `GET /statistics` tells how often which was done.

1. Redis is never needed. It has 50 ms to answer; then the database does, and Redis is left alone for a while.
2. A product is looked up once at a time, however many ask: they share the reply, and it outlives them.
3. A lookup that a change has overtaken is not put into Redis, for it may have read what was there before.
   An old product can be left there by another process's lookup, or when Redis was away during a change (the
   log says so): for as long as one is kept at most.
4. A missing product is cached too, for a shorter time.
5. Without the database: 503 with Retry-After, but for what Redis has.
"""

from __future__ import annotations

import argparse
from collections import Counter
from functools import partial
from typing import Annotated, Any, NamedTuple

import msgspec

from actors import Loop, Reply
from pools import BackendDown, ConnectionLost, DeadlineExceeded, PoolError, QueueFull, Unit
from protocols import http, postgres, redis

__all__ = ["Product", "Products", "main", "routes", "set_up"]

KEPT_SECONDS = 60.0  # a product in the cache
MISSING_SECONDS = 5.0  # that there is none
CACHE_SECONDS = 0.05  # for the cache to answer
REST_SECONDS = 1.0  # that a cache is left alone which did not
DATABASE_SECONDS = 1.0  # for the database to answer
LOOKUPS_MAX = 1000  # at a time
NOTHING = b"null"  # what stands for a product that is not there
UNAVAILABLE = (BackendDown, ConnectionLost, DeadlineExceeded, QueueFull)


class Product(msgspec.Struct, frozen=True):
    """What is known of a product, and what may be said of it."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    cents: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]


class Found(NamedTuple):
    """A product as JSON, or `NOTHING`, and where it was found."""

    body: bytes
    cached: bool


def select(id: int) -> Unit[Product | None]:
    """The row of a product."""
    sql = "select name, cents from products where id = $1"
    return postgres.fetch_one(sql, id, into=Product, idempotent=True)


def upsert(id: int, product: Product) -> Unit[int]:
    """Change the row, or add it."""
    sql = "insert into products values ($1, $2, $3) on conflict (id) do update set name = $2, cents = $3"
    return postgres.execute(sql, id, product.name, product.cents)


@postgres.transaction
async def set_up(tx: postgres.Transaction) -> None:
    """The table and a few rows; what is there already stays."""
    await tx.execute(
        "create table if not exists products (id bigint primary key, name text not null, cents int not null)"
    )
    rows = [(7, "anchor", 12_900), (8, "buoy", 4_550), (9, "capstan", 310_000)]
    await tx.execute_many("insert into products values ($1, $2, $3) on conflict do nothing", rows)


class Products:
    """What handlers ask. Counts what it does in `counts`."""

    def __init__(self, loop: Loop, cache_url: str, database_url: str, kept: float = KEPT_SECONDS) -> None:
        self.loop = loop
        # One connection, so that removing a key cannot overtake an earlier SET of it.
        self.cache = loop.spawn(redis.pool(cache_url, connections=1))
        self.database = loop.spawn(postgres.pool(database_url, connections=8, pipeline=8))
        self.kept = kept  # seconds
        self.counts: Counter[str] = Counter()
        self._lookups: dict[int, Reply[Found]] = {}
        self._resting_until = 0.0

    def look_up(self, id: int) -> Reply[Found]:
        """A product. Raises `QueueFull` when too many are being looked up."""
        lookup = self._lookups.get(id)
        if lookup is not None:
            self.counts["shared"] += 1
            return lookup
        if len(self._lookups) >= LOOKUPS_MAX:
            raise QueueFull(f"{LOOKUPS_MAX} products are being looked up; ask again in a moment")
        lookup = self._lookups[id] = self.loop.spawn(self._find(id))
        lookup.when_settled(partial(self._found, id))  # it waits too, so the lookup outlives who asked
        return lookup

    def change(self, id: int, product: Product) -> Reply[None]:
        """Change a product, or add it. It runs to its end even if the client goes away."""
        change = self.loop.spawn(self._change(id, product))
        change.when_settled(self._changed)  # it waits too, as above
        return change

    async def _find(self, id: int) -> Found:
        if self.loop.time() >= self._resting_until:
            try:
                body = await self._ask_cache(redis.get(key_of(id)))
            except PoolError:
                body = None  # counted; the database knows
            if body is not None:
                self.counts["hit"] += 1
                return Found(body, cached=True)
        self.counts["missed"] += 1
        product = await self.database.submit(select(id), timeout=DATABASE_SECONDS)
        return Found(msgspec.json.encode(product), cached=False)

    def _found(self, id: int, lookup: Reply[Found]) -> None:
        if self._lookups.get(id) is not lookup:
            return  # overtaken by a change
        del self._lookups[id]
        if lookup.error is not None or self.loop.now < self._resting_until:
            return
        found = lookup.result()
        if not found.cached:
            seconds = MISSING_SECONDS if found.body == NOTHING else self.kept
            self._ask_cache(redis.set(key_of(id), found.body, ex=seconds))

    async def _change(self, id: int, product: Product) -> None:
        try:
            await self.database.submit(upsert(id, product), timeout=DATABASE_SECONDS)
        finally:  # after an error, too: the row may have been changed all the same
            self._lookups.pop(id, None)
            removed = self._ask_cache(redis.delete(key_of(id)))
        try:
            await removed
        except PoolError:
            self.loop.log.warning("cache may be old", product=id, seconds=self.kept)

    def _changed(self, change: Reply[None]) -> None:
        self.counts["changed" if change.error is None else "change failed"] += 1

    def _ask_cache(self, unit: Unit[Any]) -> Reply[Any]:
        reply = self.cache.submit(unit, timeout=CACHE_SECONDS)
        reply.when_settled(self._cache_answered)
        return reply

    def _cache_answered(self, reply: Reply[Any]) -> None:
        if reply.error is None:
            return
        self.counts["cache failed"] += 1
        now = self.loop.now
        if now >= self._resting_until:  # said once for all that fail together
            self.loop.log.warning("cache left alone", seconds=REST_SECONDS, error=str(reply.error))
            self._resting_until = now + REST_SECONDS


def key_of(id: int) -> str:
    """Under which a product is kept in Redis."""
    return f"product:{id}"


def number_of(request: http.Request) -> int | None:
    """Which product is meant; None: none that could be there."""
    text = request.params["id"]
    return int(text) if text.isdecimal() and len(text) <= 18 else None


def refused(status: int, why: object, headers: dict[str, str] | None = None) -> http.Response:
    """An answer that says what was wrong."""
    body = msgspec.json.encode({"error": str(why)})
    return http.Response(status, {"Content-Type": "application/json", **(headers or {})}, body)


def routes(products: Products) -> http.Router:
    """The service."""
    router = http.Router()

    @router.get("/products/{id}")
    async def read(request: http.Request) -> http.Response:
        id = number_of(request)
        if id is None:
            return refused(404, "a product's number is written in digits")
        try:
            found = await products.look_up(id)
        except UNAVAILABLE as error:
            return refused(503, error, {"Retry-After": "1"})
        headers = {"X-Cache": "hit" if found.cached else "miss"}
        if found.body == NOTHING:
            return refused(404, f"there is no product {id}", headers)
        return http.Response(200, {"Content-Type": "application/json", **headers}, found.body)

    @router.route("PUT", "/products/{id}")
    async def write(request: http.Request) -> http.Response:
        id = number_of(request)
        if id is None:
            return refused(404, "a product's number is written in digits")
        try:
            product = msgspec.json.decode(request.body, type=Product)
        except msgspec.DecodeError as error:
            return refused(400, f'{error}; write {{"name": "anchor", "cents": 12900}}')
        try:
            await products.change(id, product)
        except UNAVAILABLE as error:
            return refused(503, error, {"Retry-After": "1"})
        return http.Response(204)

    @router.get("/statistics")
    def statistics(request: http.Request) -> http.Response:
        return http.json_response(dict(products.counts))

    return router


def main(arguments: list[str] | None = None) -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="cache_aside", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--listen", default="127.0.0.1:8080", metavar="HOST:PORT")
    parser.add_argument("--redis", default="redis://127.0.0.1:6379", metavar="URL")
    parser.add_argument("--database", default="postgresql://127.0.0.1/test", metavar="URL")
    parser.add_argument("--kept", type=float, default=KEPT_SECONDS, metavar="S", help="seconds in the cache")
    parser.add_argument("--setup", action="store_true", help="make the table and a few rows first")
    given = parser.parse_args(arguments)
    if not given.kept > 0:
        parser.error(f"--kept {given.kept:g}: write seconds, more than 0")
    with Loop() as loop:
        try:
            products = Products(loop, given.redis, given.database, given.kept)
            if given.setup:
                loop.run_until(products.database.submit(set_up(), timeout=10.0))
            loop.spawn(http.server(given.listen, routes(products)))
        except (ValueError, OSError, PoolError) as error:
            parser.exit(1, f"cache_aside: {error}\n")
        loop.run()


if __name__ == "__main__":
    main()
