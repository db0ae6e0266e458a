"""Flask, and any other framework of threads: flask --app examples.recipes.flask_app run

The loop's thread is started by the first request that needs it, in the process that serves it: servers such
as gunicorn fork after they have imported the application, and threads do not survive a fork. In Django, put
`backend` beside the views.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import Any

from flask import Flask

from actors import DeadlineExceeded, Loop, NoAnswer
from protocols import http

__all__ = ["app"]

app = Flask(__name__)


_starting = threading.Lock()


def backend() -> Any:
    """The pool that all threads of this process share. Its loop stops by itself when the process ends."""
    with _starting:
        return _pool_of(os.getpid())


@cache
def _pool_of(process: int) -> Any:
    loop = Loop.in_thread().start()
    return loop.spawn(http.pool(os.environ.get("BACKEND", "http://127.0.0.1:9001")))


@app.get("/profile/<int:number>")
def profile(number: int) -> dict[str, Any]:
    """Both requests are on their way before the first answer is waited for."""
    user = backend().submit(http.get(f"/users/{number}"), timeout=1.0)
    cart = backend().submit(http.get(f"/carts/{number}"), timeout=1.0)
    return {"user": user.result().json(), "cart": cart.result().json()}


@app.errorhandler(NoAnswer)
def refused(error: NoAnswer) -> tuple[dict[str, str], int]:
    """A backend that is slow or away is not this server's error."""
    return {"error": str(error)}, 504 if isinstance(error, DeadlineExceeded) else 503
