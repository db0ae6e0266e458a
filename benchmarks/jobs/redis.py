"""Redis GET by 64 concurrent callers: what one costs the client; the server is on the other core."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.contest import Bound, Job, Options, Result, Sample, take_turns
from benchmarks.machine import LOAD_CORES, PEER_BIN
from benchmarks.programs import microseconds
from benchmarks.servers import Absent, Server, program

__all__ = ["JOB", "redis_server"]

IN_ASYNCIO = "windlass in asyncio"
ON_OUR_LOOP = "windlass"
REDIS_PY = "redis-py with hiredis, asyncio"
GLIDE = "valkey-glide, asyncio"


def redis_server(port: int) -> Sequence[str]:
    """A Redis that keeps nothing."""
    binary = program("redis-server", "apt-get install redis-server")
    return [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]


def _measure(options: Options) -> Result:
    count = int(64_000 * options.seconds)

    def own(where: str, port: int) -> Callable[[], Sample]:
        return lambda: microseconds("benchmarks.own.redis", where, port, count)

    def peer(client: str, port: int) -> Callable[[], Sample]:
        return lambda: microseconds(
            "benchmarks.peers.redis_clients", client, port, count // 10, python=PEER_BIN / "python"
        )

    with Server("redis-server", redis_server, LOAD_CORES) as server:
        return take_turns(
            {
                ON_OUR_LOOP: own("loop", server.port),
                IN_ASYNCIO: own("asyncio", server.port),
                REDIS_PY: peer("redis-py", server.port),
                GLIDE: peer("valkey-glide", server.port),
            },
            options.rounds,
        )


def _or_absent(options: Options) -> Result:
    try:
        return _measure(options)
    except Absent as reason:
        return Result(absent={"redis-server": str(reason)})


JOB = Job(
    name="redis",
    title="Redis GET, 64 callers",
    unit="µs",
    measure=_or_absent,
    bounds=(
        Bound(IN_ASYNCIO, 0.12, 0.1, peer=REDIS_PY),
        Bound(IN_ASYNCIO, 0.3, 0.2, peer=GLIDE),
        Bound(ON_OUR_LOOP, 0.12, 0.08, peer=REDIS_PY),
        Bound(ON_OUR_LOOP, 0.3, 0.15, peer=GLIDE),
    ),
)
