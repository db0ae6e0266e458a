"""Local ask: a message to another machine, and its answer through a reply; one caller, one at a time."""

from __future__ import annotations

from benchmarks.contest import Bound, Job, Options, Result, take_turns
from benchmarks.programs import microseconds

__all__ = ["JOB"]

MACHINE = "windlass, a machine asks"
FLOW = "windlass, a flow asks"
PEER = "asyncio queue + future"


def _measure(options: Options) -> Result:
    count = int(100_000 * options.seconds)
    return take_turns(
        {
            MACHINE: lambda: microseconds("benchmarks.own.ask", "machine", count),
            FLOW: lambda: microseconds("benchmarks.own.ask", "flow", count),
            PEER: lambda: microseconds("benchmarks.peers.asyncio_ask", count),
        },
        options.rounds,
    )


JOB = Job(
    name="ask",
    title="Local ask: a message and its reply",
    unit="µs",
    measure=_measure,
    bounds=(
        Bound(MACHINE, 3.0, 2.0),
        Bound(MACHINE, 0.6, 0.6, peer=PEER),
        Bound(FLOW, 3.0, 2.0),
        Bound(FLOW, 0.6, 0.6, peer=PEER),
    ),
)
