"""The jobs, in the order in which they run and are shown."""

from benchmarks.contest import Job
from benchmarks.jobs import (
    ask,
    embedding,
    hello,
    kafka,
    kafka_consume,
    memory,
    postgres,
    proxy,
    redis,
    timers,
    workers,
)

__all__ = ["JOBS"]

JOBS: tuple[Job, ...] = (
    hello.JOB,
    hello.PIPELINED,
    proxy.JOB,
    ask.JOB,
    timers.JOB,
    memory.JOB,
    workers.JOB,
    workers.COST,
    redis.JOB,
    *embedding.JOBS,
    *postgres.JOBS,
    *kafka.JOBS,
    *kafka_consume.JOBS,
)
