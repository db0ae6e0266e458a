"""The recipes run inside the frameworks they are for."""

from __future__ import annotations

import ast
import asyncio
import gc
import json
import threading
from pathlib import Path

import pytest

from actors import Channel, Loop
from protocols import http
from protocols.http.server.responders import StreamingResponse
from tests.examples.asgi import ask_asgi

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"
SEVEN = {"user": "/users/7", "cart": "/carts/7"}


def answer(request):
    if request.path == "/download":
        body = Channel(16)
        for _ in range(8):
            body.put(b"x" * 1000)
        body.close()
        return StreamingResponse(200, {}, body)
    return http.json_response(request.path)


@pytest.fixture
def backend(monkeypatch):
    """What the recipes ask, in a thread of its own."""
    with Loop.in_thread(drain=0.0) as loop:
        server = loop.spawn(http.server("127.0.0.1:0", answer))
        monkeypatch.setenv("BACKEND", f"http://{server.address}")
        yield loop


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fastapi(backend, monkeypatch, free_port):
    from examples.recipes.fastapi_app import app, lifespan

    async def main():
        async with lifespan(app):
            answers = await asyncio.gather(*(ask_asgi(app, f"/profile/{n}") for n in range(10)))
        monkeypatch.setenv("BACKEND", f"http://127.0.0.1:{free_port()}")
        async with lifespan(app):
            return answers, await ask_asgi(app, "/profile/7")

    answers, refused = asyncio.run(main())
    assert answers == [(200, {"user": f"/users/{n}", "cart": f"/carts/{n}"}) for n in range(10)]
    assert refused[0] == 503
    assert "cannot be reached" in refused[1]["error"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_aiohttp(backend):
    from aiohttp import web

    from examples.recipes.aiohttp_app import application

    async def main():
        runner = web.AppRunner(application(), access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            async with Loop.in_asyncio() as loop:
                visitor = loop.spawn(http.pool(f"http://127.0.0.1:{runner.addresses[0][1]}"))
                assert (await visitor.submit(http.get("/profile/7"))).json() == SEVEN
                assert (await visitor.submit(http.get("/download"))).body == b"x" * 8000
        finally:
            await runner.cleanup()

    asyncio.run(main())
    gc.collect()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_flask(backend, monkeypatch, free_port):
    from examples.recipes import flask_app

    make, started = Loop.in_thread, []

    def start():
        started.append(make())
        return started[-1]

    monkeypatch.setattr(Loop, "in_thread", staticmethod(start))
    answers = {}

    def visit(number):
        response = flask_app.app.test_client().get(f"/profile/{number}")
        answers[number] = response.get_json()

    try:
        threads = [threading.Thread(target=visit, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == {n: {"user": f"/users/{n}", "cart": f"/carts/{n}"} for n in range(8)}
        assert len(started) == 1
        flask_app._pool_of.cache_clear()
        monkeypatch.setenv("BACKEND", f"http://127.0.0.1:{free_port()}")
        assert flask_app.app.test_client().get("/profile/7").status_code == 503
    finally:
        flask_app._pool_of.cache_clear()
        for loop in started:
            loop.stop()


def test_notebook(backend):
    """As IPython runs cells: one after the other in a loop that is there already, await at the top."""
    notebook = json.loads((RECIPES / "notebook.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    namespace = {}

    async def run(cell):
        code = compile(cell, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        waiting = eval(code, namespace)
        if waiting is not None:
            await waiting

    async def kernel():
        for _ in range(2):  # the whole notebook can be run again
            for cell in cells:
                await asyncio.ensure_future(run(cell))

    asyncio.run(kernel())
    assert namespace["profile"] == SEVEN
    assert namespace["loop"].closed
