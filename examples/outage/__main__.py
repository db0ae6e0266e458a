"""Starts everything, plays the rounds, shows the figures: python -m examples.outage --help"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import structlog
from rich.console import Console
from rich.table import Table

from actors import Loop, Reply, gather, sleep
from benchmarks.machine import describe
from benchmarks.postgres import postgres as temporary_postgres
from benchmarks.servers import Absent
from pools import PoolError
from protocols import postgres

from .applications import Application, NotStarted, Rates
from .chart import draw
from .figures import KEPT_LEAST, Course, Outage, summary
from .load import Load
from .scenario import (
    ACCOUNTS_PER_SECOND,
    APPLICATIONS,
    PHASES,
    QUICK_SECONDS,
    REPORTS_PER_SECOND,
    SET_UP,
    SLOW_SECONDS,
    WARM_UP_SECONDS,
)

__all__ = ["main"]

NEEDED = ("fastapi", "uvicorn", "asyncpg", "aiohttp")


async def play(loop: Loop, urls: dict[str, str], rates: Rates, phase_seconds: float) -> dict[str, Course]:
    """One round: every application under the same load, through all phases."""
    loads = {name: Load(loop, url) for name, url in urls.items()}
    over: Reply[None] = Reply()
    for load in loads.values():
        load.begin(over)
    await sleep(min(WARM_UP_SECONDS, phase_seconds))
    starts = []
    for phase in PHASES:
        rates.delay = SLOW_SECONDS if phase == "slow" else QUICK_SECONDS
        starts.append(loop.time())
        await sleep(phase_seconds)
    starts.append(loop.time())
    over.settle(None)
    for load in loads.values():
        await load.finish()
    return {name: Course(starts, load.accounts, load.reports) for name, load in loads.items()}


async def set_up(loop: Loop, url: str) -> None:
    """Create the tables again."""
    database = loop.spawn(postgres.pool(url, connections=1))
    for statement in SET_UP:
        await database.submit(postgres.execute(statement), timeout=10.0)
    database.drain()


def measure(console: Console, url: str, phase_seconds: float, rounds: int) -> Outage:
    """Start the applications, play all rounds. Raises `NotStarted`, and `PoolError` for the database."""
    with Loop() as loop, ExitStack() as running:
        rates = Rates(loop)
        loop.run_until(loop.spawn(set_up(loop, url)))
        applications = [running.enter_context(Application(name, url, rates.url)) for name in APPLICATIONS]
        loop.run_until(gather(*(loop.spawn(application.ready(loop)) for application in applications)))
        urls = {application.name: application.url for application in applications}
        gc.freeze()
        courses = []
        for number in range(1, rounds + 1):
            console.print(f"round {number} of {rounds}, three phases of {phase_seconds:g} seconds …")
            courses.append(loop.run_until(loop.spawn(play(loop, urls, rates, phase_seconds))))
    return summary(phase_seconds, courses)


def table(outage: Outage) -> Table:
    """The figures of `/account`, and how many of `/report` were answered."""
    shown = Table(title="/account, which needs the database alone", title_justify="left")
    shown.add_column("application", no_wrap=True)
    shown.add_column("rates are", no_wrap=True)
    for column in ("answered/s", "p50 ms", "p99 ms", "reports/s"):
        shown.add_column(column, justify="right")
    for row in outage.rows:
        shown.add_row(
            APPLICATIONS[row.application] if row.phase == PHASES[0] else "",
            row.phase,
            *map(number, (row.per_second, row.p50, row.p99, row.reports)),
            end_section=row.phase == PHASES[-1],
        )
    return shown


def number(value: float | None) -> str:
    """As tables show it."""
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


@contextmanager
def database(url: str | None) -> Iterator[str]:
    """The one that was given, or one that is gone afterwards. Raises `Absent`."""
    if url is not None:
        yield url
        return
    with temporary_postgres() as made:
        yield made


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m examples.outage",
        description="What a slow backend does to requests that do not need it: asyncpg, Windlass.",
    )
    made.add_argument("--seconds", type=float, default=5.0, metavar="S", help="of each phase (default 5)")
    made.add_argument("--rounds", type=int, default=3, metavar="N", help="medians of so many (default 3)")
    made.add_argument("--database", metavar="URL", help="where to create the tables accounts "
                      "and reports; without it, a PostgreSQL is started and removed again")  # fmt: skip
    made.add_argument("--chart", type=Path, default=Path("outage.svg"), metavar="FILE", help="(outage.svg)")
    made.add_argument("--json", type=Path, metavar="FILE", help="the figures, for the documentation")
    made.add_argument("--check", action="store_true",
                      help=f"exit with status 1 if Windlass kept less than {KEPT_LEAST:.0%}")  # fmt: skip
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and show."""
    options = parser().parse_args(arguments)
    if not 0.1 <= options.seconds <= 600 or not 1 <= options.rounds <= 100:
        parser().error("--seconds is from 0.1 to 600, --rounds from 1 to 100")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        parser().exit(1, f"this example needs others to compare with: pip install {' '.join(missing)}\n")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    console = Console()
    asked = f"{ACCOUNTS_PER_SECOND:g} /account and {REPORTS_PER_SECOND:g} /report per second"
    console.print(f"{asked}, of {len(APPLICATIONS)} applications at once", highlight=False)
    try:
        with database(options.database) as url:
            outage = measure(console, url, options.seconds, options.rounds)
    except (Absent, NotStarted, PoolError, ValueError, OSError) as error:
        parser().exit(1, f"outage: {error}\n")
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    outage = msgspec.structs.replace(outage, date=date, machine=describe())
    console.print(table(outage))
    for name, title in APPLICATIONS.items():
        console.print(f"{title}: keeps {outage.kept(name):.0%} of its throughput while the rates are slow")
    options.chart.write_text(draw(outage))
    console.print(f"Chart: {options.chart}", soft_wrap=True)
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(outage), indent=1) + b"\n")
    return int(options.check and outage.kept("submitting") < KEPT_LEAST)


if __name__ == "__main__":
    raise SystemExit(main())
