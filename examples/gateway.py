"""One endpoint composed of two backends: python -m examples.gateway --users URL --carts URL

`GET /profile/7` asks both at once. Neither can hold up requests that do not need it: no handler ever has a
connection, it has replies. Whatever happens behind the gateway, the client gets an answer.
"""

from __future__ import annotations

import argparse

from actors import DeadlineExceeded, Loop, NoAnswer, gather
from protocols import http

__all__ = ["gateway", "main"]


def gateway(loop: Loop, users_url: str, carts_url: str) -> http.Router:
    """The routes, over one pool per backend."""
    users = loop.spawn(http.pool(users_url, connections=8))
    carts = loop.spawn(http.pool(carts_url, connections=8))
    router = http.Router()

    @router.get("/profile/{id}")
    async def profile(request: http.Request) -> http.Response:
        id = request.params["id"]
        try:
            user, cart = await gather(
                users.submit(http.get(f"/users/{id}"), timeout=0.5),
                carts.submit(http.get(f"/carts/{id}"), timeout=0.5),
            )
        except DeadlineExceeded as error:
            return http.text_response(f"too slow: {error}\n", 504)
        except NoAnswer as error:
            return http.text_response(f"not available: {error}\n", 502)
        if user.status != 200 or cart.status != 200:
            return http.text_response(f"not available: statuses {user.status} and {cart.status}\n", 502)
        return http.json_response({"user": user.json(), "cart": cart.json()})

    return router


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--listen", default="127.0.0.1:8080", metavar="HOST:PORT")
    parser.add_argument("--users", default="http://127.0.0.1:9001", metavar="URL")
    parser.add_argument("--carts", default="http://127.0.0.1:9002", metavar="URL")
    arguments = parser.parse_args()
    with Loop() as loop:
        loop.spawn(http.server(arguments.listen, gateway(loop, arguments.users, arguments.carts)))
        loop.run()


if __name__ == "__main__":
    main()
