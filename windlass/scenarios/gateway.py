"""A gateway that composes two backends behind one endpoint: ten hosts, everything HTTP of Windlass on both
sides.

Each client asks for profiles; a gateway asks for the user and the cart of that profile at the same time and
puts them together. Whatever happens on the way, no client may get another's user or cart.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from actors import gather, sleep
from actors.simulation import ROUGH, Host, World, scenario
from actors.testing import same
from pools import DeadlineExceeded, PoolError
from pools.simulation import account, watch
from pools.testing import Account
from protocols import http

__all__ = ["gateway"]

PORT: Final = 8080
GATEWAYS: Final = 2
CLIENTS: Final = 4
BACKENDS: Final = 2  # of each kind
QUESTIONS: Final = 15  # of each client
PAUSE_SECONDS: Final = 0.3  # between two of them, on average
PATIENCE: Final = 1.0


def answering(kind: str) -> http.Router:
    """A backend: says whose user or cart it is, after a moment."""
    router = http.Router()

    @router.get(f"/{kind}/{{id}}")
    async def found(request: http.Request) -> http.Response:
        id = request.params["id"]
        await sleep(0.002 if int(id) % 7 else 0.3)
        return http.json_response({"kind": kind, "id": id})

    return router


def serve(kind: str, host: Host) -> None:
    """Boot a backend."""
    host.loop.spawn(http.server(f"0.0.0.0:{PORT}", answering(kind)))


def urls(kind: str, count: int) -> list[str]:
    """Of every host of a kind."""
    return [f"http://{kind}{number}:{PORT}" for number in range(count)]


def compose(host: Host) -> None:
    """Boot a gateway."""
    users, carts = (
        account(host, watch(host, host.loop.spawn(pool)))
        for pool in (
            http.pool(urls("users", BACKENDS), connections=2),
            http.pool(urls("carts", BACKENDS), connections=2, pipeline=4),
        )
    )
    router = http.Router()

    @router.get("/profile/{id}")
    async def profile(request: http.Request) -> http.Response:
        id = request.params["id"]
        try:
            user, cart = await gather(
                users.submit(http.get(f"/users/{id}"), f"user {id}", timeout=0.5, kind=http.Response),
                carts.submit(http.get(f"/carts/{id}"), f"cart {id}", timeout=0.5, kind=http.Response),
            )
        except DeadlineExceeded:
            return http.text_response("too slow\n", 504)
        except PoolError:
            return http.text_response("not available\n", 502)
        if user.status != 200 or cart.status != 200:
            return http.text_response("not available\n", 502)
        return http.json_response({"user": user.json(), "cart": cart.json()})

    @router.get("/health")
    def health(request: http.Request) -> http.Response:
        return http.text_response("well\n")

    host.loop.spawn(http.server(f"0.0.0.0:{PORT}", router))


def well(response: http.Response) -> bool:
    """Whether a gateway says that it is well, or drains."""
    return response.status == 503 or (response.status, response.body) == (200, b"well\n")


def right(world: World, id: str, response: http.Response) -> bool:
    """Whether this is the profile that was asked for, or a refusal."""
    world.count(f"status {response.status}")
    if response.status != 200:
        return response.status in (502, 503, 504)
    return same(response.json(), {"user": {"kind": "users", "id": id}, "cart": {"kind": "carts", "id": id}})


async def ask(host: Host, gateways: Account, number: int) -> None:
    """One client: a question now and then."""
    random = host.world.random(f"client {number}")
    for turn in range(QUESTIONS):
        await sleep(random.expovariate(1 / PAUSE_SECONDS))
        id = f"{number}{turn:03}"
        check = partial(right, host.world, id)
        gateways.submit(http.get(f"/profile/{id}"), f"profile {id}", check, timeout=PATIENCE)
        if turn % 3 == 0:
            gateways.submit(http.get("/health"), f"the health before {id}", well, timeout=PATIENCE)


def call(number: int, host: Host) -> None:
    """Boot a client."""
    pool = host.loop.spawn(http.pool(urls("gateway", GATEWAYS), connections=2))
    gateways = account(host, watch(host, pool))
    host.expect(host.loop.spawn(ask(host, gateways, number)), f"client {number}", may_fail=False)


@scenario(seconds=5.0, faults=ROUGH)
def gateway(world: World) -> None:
    """Four clients, two gateways, four backends; no client gets another's user or cart."""
    for number in range(BACKENDS):
        world.host(f"users{number}", partial(serve, "users"), crashes=True)
        world.host(f"carts{number}", partial(serve, "carts"), crashes=True)
    for number in range(GATEWAYS):
        world.host(f"gateway{number}", compose, crashes=True)
    for number in range(CLIENTS):
        world.host(f"client{number}", partial(call, number))
