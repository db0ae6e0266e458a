"""A counter and a cache: HTTP in front of Redis: python -m examples.counter --redis redis://127.0.0.1:6379

`POST /hits/NAME` counts, `GET /hits/NAME` tells. `GET /cached/NAME` computes what is expensive once a minute,
however many ask: the first that finds nothing sets it, and who comes too late takes what is there by then.
"""

from __future__ import annotations

import argparse

from actors import Loop
from pools import PoolError
from protocols import http, redis

__all__ = ["counter", "main"]

KEPT_SECONDS = 60.0


def expensive(name: str) -> bytes:
    """Stands for what takes long."""
    return f"the answer about {name} is {sum(name.encode())}\n".encode()


def counter(loop: Loop, url: str) -> http.Router:
    """The routes, over one pool."""
    store = loop.spawn(redis.pool(url))
    router = http.Router()

    def answered(body: bytes) -> http.Response:
        return http.text_response(body.decode())

    @router.post("/hits/{name}")
    async def hit(request: http.Request) -> http.Response:
        try:
            count = await store.submit(redis.incrby(f"hits:{request.params['name']}"), timeout=0.5)
        except PoolError as error:  # not sent again by the pool: counting twice would be wrong
            return http.text_response(f"perhaps counted: {error}\n", 503)
        return answered(b"%d\n" % count)

    @router.get("/hits/{name}")
    async def hits(request: http.Request) -> http.Response:
        try:
            count = await store.submit(redis.get(f"hits:{request.params['name']}"), timeout=0.5)
        except PoolError as error:
            return http.text_response(f"not available: {error}\n", 503)
        return answered((count or b"0") + b"\n")

    @router.get("/cached/{name}")
    async def cached(request: http.Request) -> http.Response:
        name = request.params["name"]
        key = f"cached:{name}"
        try:
            found = await store.submit(redis.get(key), timeout=0.1)
            if found is not None:
                return answered(found)
            made = expensive(name)
            _, found = await store.submit(
                redis.atomic(redis.set(key, made, nx=True, ex=KEPT_SECONDS), redis.get(key)), timeout=0.1
            )
            return answered(found)
        except PoolError:  # a cache that is down costs time, not answers
            return answered(expensive(name))

    return router


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--listen", default="127.0.0.1:8080", metavar="HOST:PORT")
    parser.add_argument("--redis", default="redis://127.0.0.1:6379", metavar="URL")
    arguments = parser.parse_args()
    with Loop() as loop:
        loop.spawn(http.server(arguments.listen, counter(loop, arguments.redis)))
        loop.run()


if __name__ == "__main__":
    main()
