"""Memory: resident bytes for each idle connection that has been answered once and is kept alive."""

from __future__ import annotations

import time

from benchmarks.contest import Bound, Command, Job, Options, Result, Sample, take_turns
from benchmarks.jobs.hello import SERVERS
from benchmarks.load import idle_connections, wrk
from benchmarks.servers import Server

__all__ = ["JOB"]

SETTLE_SECONDS = 0.3
CONTESTANTS = ("windlass", "nginx", "granian", "uvicorn", "aiohttp")


def _growth(name: str, command: Command, connections: int) -> Sample:
    """What a fresh server grows by, per connection, once it is warmed up."""
    with Server(name, command) as server:
        wrk(server.url + "/", 1)
        time.sleep(SETTLE_SECONDS)
        before = server.resident_bytes()
        with idle_connections(server, connections):
            time.sleep(SETTLE_SECONDS)
            grown = server.resident_bytes() - before
        return {"value": grown / connections}


def _measure(options: Options) -> Result:
    return take_turns(
        {
            name: lambda name=name: _growth(name, SERVERS[name], options.connections)  # type: ignore[misc]
            for name in CONTESTANTS
        },
        min(options.rounds, 3),
    )


JOB = Job(
    name="memory",
    title="Memory per idle connection",
    unit="bytes",
    measure=_measure,
    bounds=(Bound("windlass", 900, 500),),
)
