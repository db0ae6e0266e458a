"""Embedding: what an HTTP request costs a program that uses a pool from asyncio, uvloop or threads, and what
awaiting costs by itself. One nginx on the other core answers; ours and the peers run in the same environment.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.contest import Bound, Job, Options, Result, Sample, take_turns
from benchmarks.machine import LOAD_CORES, PEER_BIN
from benchmarks.peers.configured import INSTALL_PEERS, nginx_hello
from benchmarks.programs import microseconds
from benchmarks.servers import Absent, Server, program

__all__ = ["JOBS"]

ONE_AT_A_TIME = "windlass, 32 connections × 1"
PIPELINING = "windlass, 1 connection × 32 deep"
OWN = "benchmarks.own.http_client"
PEERS = "benchmarks.peers.http_client"


def _clients(host: str, peers: tuple[str, ...], options: Options) -> Result:
    try:
        python = program(PEER_BIN / "python", INSTALL_PEERS)
        with Server("backend", nginx_hello, LOAD_CORES) as backend:
            measure = partial(microseconds, python=python)
            samplers: dict[str, Callable[[], Sample]] = {
                ONE_AT_A_TIME: partial(measure, OWN, host, backend.port, options.seconds, 1),
                PIPELINING: partial(measure, OWN, host, backend.port, options.seconds, 32),
            }
            for peer in peers:
                samplers[peer] = partial(measure, PEERS, peer, host, backend.port, options.seconds)
            return take_turns(samplers, options.rounds)
    except Absent as reason:
        return Result(absent={"the backend, or the peers' environment": str(reason)})


def _tasks(host: str) -> Job:
    return Job(
        name=host,
        title=f"HTTP GET from {host}, 32 tasks",
        unit="µs",
        measure=lambda options: _clients(host, ("aiohttp", "httpx"), options),
        bounds=(
            Bound(ONE_AT_A_TIME, 0.35, 0.25, peer="aiohttp"),
            Bound(ONE_AT_A_TIME, 0.05, 0.02, peer="httpx"),
            Bound(PIPELINING, 1.0, 0.7, peer=ONE_AT_A_TIME),
        ),
    )


THREADS = Job(
    name="threads",
    title="HTTP GET from 32 threads",
    unit="µs",
    measure=lambda options: _clients("threads", ("requests",), options),
    bounds=(Bound(ONE_AT_A_TIME, 1 / 3, 0.1, peer="requests"),),
)

LOCAL = ("settled", "pending")


def _await(options: Options) -> Result:
    count = int(200_000 * options.seconds)
    samplers: dict[str, Callable[[], Sample]] = {}
    for kind in LOCAL:
        samplers[f"windlass reply, {kind}"] = partial(microseconds, "benchmarks.own.local_await", kind, count)
        samplers[f"asyncio future, {kind}"] = partial(
            microseconds, "benchmarks.peers.asyncio_await", kind, count
        )
    return take_turns(samplers, options.rounds)


AWAIT = Job(
    name="await",
    title="Awaiting a local reply from asyncio",
    unit="µs",
    measure=_await,
    bounds=tuple(
        Bound(f"windlass reply, {kind}", 2.0, 1.5, peer=f"asyncio future, {kind}") for kind in LOCAL
    ),
)

JOBS: tuple[Job, ...] = (_tasks("asyncio"), _tasks("uvloop"), THREADS, AWAIT)
