"""The report: tables for whoever ran it, JSON and a chart for whoever reads the documentation.

Only the jobs that were run are replaced in the JSON; each carries the date, the machine and the effort it was
measured with.
"""

from __future__ import annotations

import datetime
import json
import subprocess
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.contest import Job, Options, Result, Verdict
from benchmarks.machine import PEER_BIN, ROOT, describe

__all__ = ["CHART", "RESULTS", "draw", "save", "show", "verdicts"]

RESULTS = ROOT / "docs" / "benchmarks" / "results.json"
CHART = ROOT / "docs" / "benchmarks" / "chart.svg"
MARKS = {True: "[green]yes[/]", False: "[red]no[/]", None: "[yellow]not measured[/]"}


def verdicts(job: Job, result: Result) -> list[Verdict]:
    """Every promise of the job held against what was measured."""
    return [bound.verdict(result, job.unit) for bound in job.bounds]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def show(console: Console, job: Job, result: Result) -> None:
    """Print the figures of a job, cheapest first, and its promises."""
    table = Table(title=job.title, title_justify="left", caption_justify="left")
    served = any("requests_per_second" in figures for figures in result.figures.values())
    columns = [job.unit, "of it user", "requests/s"] if served else [job.unit]
    table.add_column("who")
    for column in columns:
        table.add_column(column, justify="right")
    for who, figures in sorted(result.figures.items(), key=lambda item: item[1]["value"]):
        cells = [figures.get(key) for key in ("value", "user", "requests_per_second")[: len(columns)]]
        table.add_row(who, *map(_number, cells), style="bold" if who.startswith("windlass") else "")
    for who, reason in result.absent.items():
        table.add_row(f"[yellow]{who}[/]", "absent", style="dim")
        console.print(f"[yellow]{who}[/]: {escape(reason)}", highlight=False)
    console.print(table)
    if job.bounds:
        promises = Table("promise", "bound", "aim", "measured", "kept")
        for verdict in verdicts(job, result):
            promises.add_row(
                verdict.claim,
                f"≤ {verdict.bound:g}",
                f"{verdict.aim:g}",
                _number(verdict.measured),
                MARKS[verdict.ok],
            )
        console.print(promises)


def save(measured: Mapping[Job, Result], options: Options) -> None:
    """Write the figures of these jobs into the JSON, and leave those of other jobs as they are."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    jobs: dict[str, Any] = json.loads(RESULTS.read_text())["jobs"] if RESULTS.exists() else {}
    for job, result in measured.items():
        jobs[job.name] = {
            "title": job.title,
            "unit": job.unit,
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "machine": describe(),
            "rounds": options.rounds,
            "seconds": options.seconds,
            "figures": {
                who: {key: _rounded(value) for key, value in figures.items()}
                | {"rounds": [_rounded(value) for value in result.rounds[who]]}
                for who, figures in result.figures.items()
            },
            "absent": result.absent,
            "promises": [
                {
                    "claim": verdict.claim,
                    "bound": verdict.bound,
                    "aim": verdict.aim,
                    "measured": None if verdict.measured is None else _rounded(verdict.measured),
                    "kept": verdict.ok,
                }
                for verdict in verdicts(job, result)
            ],
        }
    RESULTS.write_text(json.dumps({"jobs": jobs}, indent=2, ensure_ascii=False) + "\n")


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def draw(console: Console) -> None:
    """Draw the chart from the JSON, with the library in the peers' environment."""
    python = PEER_BIN / "python"
    if not python.exists():
        console.print("no chart: the environment that draws it is not there: make .venv-bench")
        return
    subprocess.run([python, "-m", "benchmarks.chart", RESULTS, CHART], cwd=ROOT, check=True)
    console.print(f"written: {RESULTS.relative_to(ROOT)}, {CHART.relative_to(ROOT)}")
