"""PostgreSQL: one row by its key for 64 callers on 8 connections, and 1,000 rows at once, fixed-width and
mixed.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.contest import Bound, Job, Options, Result, Sample, take_turns
from benchmarks.machine import PEER_BIN
from benchmarks.postgres import postgres
from benchmarks.programs import microseconds
from benchmarks.servers import Absent

__all__ = ["JOBS"]

OWN_LOOP = "windlass"
IN_ASYNCIO = "windlass inside asyncio"
ASYNCPG = "asyncpg"
PSYCOPG = "psycopg_pool"
AUTOCOMMIT = "psycopg_pool, autocommit"
ROWS_PER_SECOND = 4000


def _sampler(module: str, *arguments: str | int, peer: bool = False) -> Callable[[], Sample]:
    if peer:
        return lambda: microseconds(module, *arguments, python=PEER_BIN / "python")
    return lambda: microseconds(module, *arguments)


def _measure_key(options: Options) -> Result:
    count = int(ROWS_PER_SECOND * options.seconds)
    try:
        with postgres() as url:
            return take_turns(
                {
                    OWN_LOOP: _sampler("benchmarks.own.postgres", url, "key", "loop", 4 * count),
                    IN_ASYNCIO: _sampler("benchmarks.own.postgres", url, "key", "asyncio", 4 * count),
                    ASYNCPG: _sampler("benchmarks.peers.asyncpg_select", url, "key", count, peer=True),
                    PSYCOPG: _sampler("benchmarks.peers.psycopg_select", url, "default", count, peer=True),
                    AUTOCOMMIT: _sampler(
                        "benchmarks.peers.psycopg_select", url, "autocommit", count, peer=True
                    ),
                },
                options.rounds,
            )
    except Absent as reason:
        return Result(absent={"postgres": str(reason)})


def _measure_rows(what: str) -> Callable[[Options], Result]:
    def measure(options: Options) -> Result:
        count = int(200 * options.seconds)
        try:
            with postgres() as url:
                return take_turns(
                    {
                        IN_ASYNCIO: _sampler("benchmarks.own.postgres", url, what, "asyncio", count),
                        ASYNCPG: _sampler("benchmarks.peers.asyncpg_select", url, what, count, peer=True),
                    },
                    options.rounds,
                )
        except Absent as reason:
            return Result(absent={"postgres": str(reason)})

    return measure


JOBS = (
    Job(
        name="postgres-key",
        title="PostgreSQL: one row by its key, 64 callers, 8 connections",
        unit="µs",
        measure=_measure_key,
        bounds=tuple(
            Bound(who, bound, aim, peer=peer)
            for who in (OWN_LOOP, IN_ASYNCIO)
            for bound, aim, peer in ((0.25, 0.15, ASYNCPG), (0.12, 0.06, PSYCOPG))
        ),
    ),
    Job(
        name="postgres-fixed",
        title="PostgreSQL: 1,000 rows of fixed-width columns",
        unit="µs",
        measure=_measure_rows("fixed"),
        bounds=(Bound(IN_ASYNCIO, 1.3, 1.0, peer=ASYNCPG),),
    ),
    Job(
        name="postgres-mixed",
        title="PostgreSQL: 1,000 rows of mixed columns",
        unit="µs",
        measure=_measure_rows("mixed"),
        bounds=(Bound(IN_ASYNCIO, 4.0, 2.0, peer=ASYNCPG),),
    ),
)
