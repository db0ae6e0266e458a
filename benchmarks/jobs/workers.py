"""Workers: what a second process is worth where two cores are free, and what it costs per request.

Elapsed time means something only while nobody else computes here. So a sample during which other programs
took more than `OTHERS_MAX` of a core is not counted but repeated.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.contest import Bound, Command, Job, Options, Result, Sample, race
from benchmarks.load import cpu_per_request, wrk
from benchmarks.machine import LOAD_CORES, SERVER_CORES
from benchmarks.servers import TICKS_PER_SECOND, Absent, Server

__all__ = ["COST", "JOB"]

ONE = "windlass, 1 worker"
TWO = "windlass, 2 workers"
ROUNDS = 40_000  # of a handler's work, about half a millisecond: beside that the load generator takes nothing
OTHERS_MAX = 0.1  # cores
GLANCE = 0.25  # seconds
QUIET_SECONDS_MAX = 60.0


def _command(workers: int, rounds: int, port: int) -> Sequence[str]:
    return [sys.executable, "-m", "benchmarks.own.workers", str(port), str(workers), str(rounds)]


def _contestants(rounds: int) -> dict[str, Command]:
    return {ONE: partial(_command, 1, rounds), TWO: partial(_command, 2, rounds)}


def _busy() -> float:
    """Seconds that the cores have worked since the start of the system."""
    user, nice, system, _idle, _waiting, *rest = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    )
    return (user + nice + system + sum(rest)) / TICKS_PER_SECOND


def _children() -> float:
    """Seconds that load generators have worked."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wait_until_quiet(until: float) -> None:
    while time.monotonic() < until:
        before = _busy()
        time.sleep(GLANCE)
        if _busy() - before <= OTHERS_MAX * GLANCE + 1 / TICKS_PER_SECOND:
            return
    raise Absent(f"the cores are not free: other programs use them, for {QUIET_SECONDS_MAX:.0f} s now")


def _elapsed(server: Server, seconds: float) -> Sample:
    until = time.monotonic() + QUIET_SECONDS_MAX
    while True:
        _wait_until_quiet(until)
        cpu_before, busy_before, children_before = sum(server.cpu()), _busy(), _children()
        requests, elapsed = wrk(server.url + "/", seconds)
        cpu = sum(server.cpu()) - cpu_before
        others = (_busy() - busy_before - cpu - (_children() - children_before)) / elapsed
        if others <= OTHERS_MAX:
            return {
                "value": elapsed / requests * 1e6,
                "requests_per_second": requests / elapsed,
                "cpu": cpu / requests * 1e6,
                "cores": cpu / elapsed,
                "others": others,
            }


def _warm_up(server: Server) -> None:
    wrk(server.url + "/", 1)


def _measure(options: Options) -> Result:
    cores = SERVER_CORES | LOAD_CORES
    if len(cores) < 2:
        return Result(absent={TWO: "there is one core here; two workers need two"})
    return race(
        _contestants(ROUNDS),
        _warm_up,
        lambda server: _elapsed(server, options.seconds),
        options.rounds,
        cores,
    )


def _cost(options: Options) -> Result:
    return race(
        _contestants(0),
        _warm_up,
        lambda server: cpu_per_request(server, options.seconds),
        options.rounds,
    )


JOB = Job(
    name="workers",
    title="Two workers on two cores: time that passes per request, each half a millisecond of work",
    unit="µs",
    measure=_measure,
    bounds=(Bound(TWO, 1 / 1.7, 0.52, peer=ONE),),
)
COST = Job(
    name="workers-cost",
    title="Two workers on one core: CPU time per request without work",
    unit="µs",
    measure=_cost,
    bounds=(Bound(TWO, 1.15, 1.0, peer=ONE),),
)
