"""A backend: one collection whose items take a while to answer, and a switch for how long.

`GET /users/7` answers after the delay; `PUT /delay/2.5` sets it to 2.5 seconds.
"""

from __future__ import annotations

from actors import sleep
from protocols import http

from .scenario import QUICK_SECONDS

__all__ = ["backend"]

DELAY_MAX = 60.0  # seconds


def backend(name: str) -> http.Router:
    """The routes of the backend that keeps `name`."""
    delay = QUICK_SECONDS
    router = http.Router()

    @router.get(f"/{name}/{{id}}")
    async def item(request: http.Request) -> http.Response:
        await sleep(delay)
        return http.json_response({"id": request.params["id"], "from": name})

    @router.route("PUT", "/delay/{seconds}")
    def set_delay(request: http.Request) -> http.Response:
        nonlocal delay
        try:
            wanted = float(request.params["seconds"])
        except ValueError:
            wanted = -1.0
        if not 0.0 <= wanted <= DELAY_MAX:
            return http.text_response(f"write seconds from 0 to {DELAY_MAX:g}: PUT /delay/0.5\n", 400)
        delay = wanted
        return http.text_response(f"{name} now takes {delay:g} s\n")

    return router
