"""HTTP hello: what one request costs a server that has nothing else to do; 64 connections kept alive."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.contest import Bound, Command, Job, Options, Result, race
from benchmarks.load import cpu_per_request, wrk
from benchmarks.peers.configured import c_loop, granian, nginx_hello, peer_module, uvicorn

__all__ = ["JOB", "PIPELINED", "SERVERS", "windlass"]


def windlass(port: int) -> Sequence[str]:
    """`examples.hello`, as a user would start it."""
    return [sys.executable, "-m", "examples.hello", "--listen", f"127.0.0.1:{port}"]


SERVERS: dict[str, Command] = {
    "windlass": windlass,
    "C loop": c_loop,
    "nginx": nginx_hello,
    "granian": granian,
    "uvicorn": uvicorn,
    "aiohttp": peer_module("aiohttp_hello"),
}


def _measure(options: Options, *, pipelined: bool) -> Result:
    return race(
        SERVERS,
        lambda server: wrk(server.url + "/", 1, pipelined=pipelined),
        lambda server: cpu_per_request(server, options.seconds, pipelined=pipelined),
        options.rounds,
    )


JOB = Job(
    name="hello",
    title="HTTP hello, 64 connections",
    unit="µs",
    measure=lambda options: _measure(options, pipelined=False),
    bounds=(
        Bound("windlass", 2.2, 1.7, peer="C loop"),
        Bound("windlass", 0.6, 0.45, peer="granian"),
        Bound("windlass", 0.35, 0.3, peer="uvicorn"),
    ),
)
PIPELINED = Job(
    name="pipelined",
    title="HTTP hello, 64 connections, 16 requests in every write",
    unit="µs",
    measure=lambda options: _measure(options, pipelined=True),
)
