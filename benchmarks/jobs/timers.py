"""Timers: setting a deadline and moving it, as a connection does with every request."""

from __future__ import annotations

from benchmarks.contest import Bound, Job, Options, Result, take_turns
from benchmarks.programs import microseconds

__all__ = ["JOB"]


def _measure(options: Options) -> Result:
    count = int(300_000 * options.seconds)
    return take_turns(
        {
            "windlass": lambda: microseconds("benchmarks.own.timers", "difference", count),
            "asyncio call_later + cancel": lambda: microseconds("benchmarks.peers.asyncio_timers", count),
        },
        options.rounds,
    )


JOB = Job(
    name="timers",
    title="Setting and moving a deadline",
    unit="µs",
    measure=_measure,
    bounds=(Bound("windlass", 0.3, 0.1),),
)
