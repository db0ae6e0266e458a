"""Reverse proxy: what one request costs that is passed on to an nginx on the other core; 64 connections."""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Sequence

from benchmarks.contest import Bound, Command, Job, Options, Result, race
from benchmarks.load import cpu_per_request, wrk
from benchmarks.machine import LOAD_CORES
from benchmarks.peers.configured import haproxy_proxy, nginx_hello, nginx_proxy, peer_module
from benchmarks.servers import Absent, Server

__all__ = ["JOB"]

CONNECTIONS = 64
PIPELINING = "windlass, 2 connections × 64 deep"
ONE_AT_A_TIME = "windlass, 64 connections × 1"


def _windlass(backend: str, connections: int, pipeline: int) -> Command:
    def command(port: int) -> Sequence[str]:
        binary = shutil.which("windlass", path=sysconfig.get_path("scripts"))
        if binary is None:
            raise Absent("the command windlass is not installed here: make .venv")
        return [
            *(binary, "proxy", "--listen", f"127.0.0.1:{port}", "--backend", backend),
            *("--connections", str(connections), "--pipeline", str(pipeline)),
        ]

    return command


def _measure(options: Options) -> Result:
    try:
        backend = Server("backend", nginx_hello, LOAD_CORES)
        with backend:
            return race(
                _proxies(f"127.0.0.1:{backend.port}"),
                lambda server: wrk(server.url + "/", 1),
                lambda server: cpu_per_request(server, options.seconds),
                options.rounds,
            )
    except Absent as reason:
        return Result(absent={"backend": str(reason)})


def _proxies(backend: str) -> dict[str, Command]:
    return {
        PIPELINING: _windlass(f"http://{backend}", 2, 64),
        ONE_AT_A_TIME: _windlass(f"http://{backend}", CONNECTIONS, 1),
        "nginx": nginx_proxy(backend, CONNECTIONS),
        "HAProxy": haproxy_proxy(backend),
        "aiohttp": peer_module("aiohttp_proxy", f"http://{backend}", str(CONNECTIONS)),
    }


JOB = Job(
    name="proxy",
    title="Reverse proxy to one nginx, 64 connections",
    unit="µs",
    measure=_measure,
    bounds=(
        Bound(PIPELINING, 1.3, 1.0, peer="nginx"),
        Bound(ONE_AT_A_TIME, 2.2, 1.6, peer="nginx"),
        Bound(ONE_AT_A_TIME, 0.25, 0.1, peer="aiohttp"),
    ),
)
