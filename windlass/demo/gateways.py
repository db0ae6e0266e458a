"""The gateway, twice: the same two endpoints over the same backends, with Windlass's pools and with pools
that hold.

`GET /users/7` needs only the backend `users`, `GET /profile/7` needs `users` and `carts`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from actors import DeadlineExceeded, Loop, gather
from pools import PoolError
from protocols import http

from .holding import HoldingPool
from .scenario import CONNECTIONS, TIMEOUT_SECONDS

__all__ = ["holding_gateway", "windlass_gateway"]

Handler = Callable[[http.Request], Awaitable[http.Response]]


def windlass_gateway(loop: Loop, users_url: str, carts_url: str) -> http.Router:
    """Units of work: no handler ever has a connection."""
    users = loop.spawn(http.pool(users_url, connections=CONNECTIONS, timeout=TIMEOUT_SECONDS))
    carts = loop.spawn(http.pool(carts_url, connections=CONNECTIONS, timeout=TIMEOUT_SECONDS))

    async def user(request: http.Request) -> http.Response:
        found = await users.submit(http.get(f"/users/{request.params['id']}"))
        return http.json_response(found.json(), found.status)

    async def profile(request: http.Request) -> http.Response:
        id = request.params["id"]
        found, cart = await gather(
            users.submit(http.get(f"/users/{id}")),
            carts.submit(http.get(f"/carts/{id}")),
        )
        return http.json_response({"user": found.json(), "cart": cart.json()})

    return routes(user, profile)


def holding_gateway(loop: Loop, users_url: str, carts_url: str) -> http.Router:
    """Acquire, work, release: a handler has its connection until it is done."""
    users = HoldingPool(loop, users_url, CONNECTIONS)
    carts = HoldingPool(loop, carts_url, CONNECTIONS)

    async def user(request: http.Request) -> http.Response:
        with users.held(await users.acquire(TIMEOUT_SECONDS)) as connection:
            found = await connection.submit(http.get(f"/users/{request.params['id']}"), TIMEOUT_SECONDS)
            return http.json_response(found.json(), found.status)

    async def profile(request: http.Request) -> http.Response:
        id = request.params["id"]
        with users.held(await users.acquire(TIMEOUT_SECONDS)) as connection:
            found = await connection.submit(http.get(f"/users/{id}"), TIMEOUT_SECONDS)
            with carts.held(await carts.acquire(TIMEOUT_SECONDS)) as other:
                cart = await other.submit(http.get(f"/carts/{id}"), TIMEOUT_SECONDS)
                return http.json_response({"user": found.json(), "cart": cart.json()})

    return routes(user, profile)


def routes(user: Handler, profile: Handler) -> http.Router:
    """Both endpoints, with the status that tells a client what went wrong."""
    router = http.Router()
    router.add("GET", "/users/{id}", answering(user))
    router.add("GET", "/profile/{id}", answering(profile))
    return router


def answering(handler: Handler) -> Handler:
    """504 for a deadline, 502 for whatever else went wrong behind this gateway."""

    async def answer(request: http.Request) -> http.Response:
        try:
            return await handler(request)
        except DeadlineExceeded as error:
            return http.text_response(f"{error}\n", 504)
        except PoolError as error:
            return http.text_response(f"{error}\n", 502)

    return answer
