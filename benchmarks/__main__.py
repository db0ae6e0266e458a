"""`python -m benchmarks`: run the jobs, show the figures, keep them under `docs/benchmarks/`.

Ends with status 1 if a promise was not kept, or could not be checked because Windlass itself did not run.
"""

from __future__ import annotations

import argparse
import shutil
import sys

from rich.console import Console

from benchmarks.contest import Options
from benchmarks.jobs import JOBS
from benchmarks.machine import BUILD, describe, raise_descriptor_limit
from benchmarks.report import draw, save, show, verdicts


def arguments() -> argparse.Namespace:
    names = [job.name for job in JOBS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What Windlass costs, beside its peers."
    )
    parser.add_argument("--only", help=f"jobs to run, with commas between: {','.join(names)}")
    parser.add_argument(
        "--rounds", type=int, default=5, help="how often each contestant is measured (default 5)"
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="how long each measurement lasts (default 3)"
    )
    parser.add_argument("--quick", action="store_true", help="one round of a second, nothing is saved")
    given = parser.parse_args()
    given.only = given.only.split(",") if given.only else names
    if unknown := set(given.only) - set(names):
        parser.error(f"no such job: {', '.join(sorted(unknown))}; there are: {', '.join(names)}")
    if given.rounds < 1 or given.seconds < 1:
        parser.error("--rounds and --seconds are at least 1")
    return given


def main() -> int:
    given = arguments()
    options = Options(rounds=1, seconds=1.0) if given.quick else Options(given.rounds, given.seconds)
    console = Console()
    raise_descriptor_limit()
    console.print(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in describe().items()))
    measured = {}
    try:
        for job in (job for job in JOBS if job.name in given.only):
            with console.status(f"{job.title} …"):
                measured[job] = job.measure(options)
            show(console, job, measured[job])
    finally:
        for folder in BUILD.glob("nginx-*"):
            shutil.rmtree(folder)
        for config in BUILD.glob("haproxy-*.cfg"):
            config.unlink()
    if not given.quick:
        save(measured, options)
        draw(console)
    kept = [verdict.ok for job, result in measured.items() for verdict in verdicts(job, result)]
    ours_absent = any(who.startswith("windlass") for result in measured.values() for who in result.absent)
    return int(ours_absent or False in kept)


if __name__ == "__main__":
    sys.exit(main())
