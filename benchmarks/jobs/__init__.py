"""The jobs, in the order in which they run and are shown."""

from benchmarks.contest import Job
from benchmarks.jobs import ask, hello, memory, postgres, proxy, timers

__all__ = ["JOBS"]

JOBS: tuple[Job, ...] = (
    hello.JOB,
    hello.PIPELINED,
    proxy.JOB,
    ask.JOB,
    timers.JOB,
    memory.JOB,
    *postgres.JOBS,
)
