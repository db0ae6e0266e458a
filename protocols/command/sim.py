"""`windlass sim`: run scenarios of the deterministic simulation: one seed, or thousands on several cores."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import lru_cache
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from actors.simulation import (
    PRESETS,
    Faults,
    Report,
    Scenario,
    Tally,
    as_test,
    explore,
    load_scenario,
    rehearse,
    shrink,
)
from actors.simulation.explore import run_twice
from protocols.scenarios import SCENARIOS

from .arguments import Parser, closest, integer, seconds
from .logs import tell

__all__ = ["run_sim", "sim_parser"]

EXAMPLES: Final = """\
SCENARIO is one of those that --list shows, or your own: MODULE:NAME or FILE.py:NAME.

examples:
  windlass sim pool --runs 1000 --jobs 2
  windlass sim tests/scenarios.py:checkout --seed 4711

The same seed is the same run, event for event; each is run twice to see that. A run that fails is shrunk to a
short script of faults, which is written as a test for pytest. The exit status is 1 if one has failed.
"""
BATCH: Final = 5  # seeds that a process runs before it reports
AHEAD: Final = 2  # batches per process that are handed out at a time
FLAG: Final = None


def run_sim(argv: Sequence[str]) -> int:
    """Run a scenario; 0 if everything held."""
    parser = sim_parser()
    argv = list(argv)
    reference = argv.pop(0) if argv and not argv[0].startswith("-") else None
    options = parser.parse(argv)
    if options is None:
        return 0
    if options.list:
        show_list()
        return 0
    if reference is None:
        parser.fail(
            f"no scenario; write one of {', '.join(SCENARIOS)}, or MODULE:NAME, or FILE.py:NAME first"
        )
    sys.path.insert(0, os.getcwd())  # for MODULE:NAME of the user's own
    try:
        scenario = load_scenario(reference, SCENARIOS)
    except ValueError as error:
        near = closest(reference, SCENARIOS)
        parser.fail(f"there is no scenario {reference!r}; did you mean {near}?" if near else str(error))
    begun = time.perf_counter()
    if options.real:
        tally = really(scenario, options)
    elif options.seed is not None:
        tally = Tally()
        tally.add(one(scenario, options))
    else:
        tally = many(reference, options)
    sys.stdout.write(summary(scenario, tally, time.perf_counter() - begun, real=options.real))
    for report in tally.failed[:1]:
        tell_failure(reference, scenario, report, options)
    return 1 if tally.failed else 0


def sim_parser() -> Parser:
    """The options, each with its default and unit."""
    parser = Parser("windlass sim SCENARIO", "Run a scenario of the deterministic simulation.", EXAMPLES)
    parser.add_argument("--list", action="store_true", help="show the scenarios there are, and exit")
    parser.add_argument(
        "--seed", type=integer(0, 1 << 62), metavar="N", help="run this seed, and show how it ended"
    )
    parser.add_argument(
        "--runs", type=integer(1, 1_000_000_000), default=100, metavar="N", help="seeds to run (default 100)"
    )
    parser.add_argument(
        "--first", type=integer(0, 1 << 61), default=0, metavar="N", help="the first of them (default 0)"
    )
    parser.add_argument(
        "--jobs", type=integer(1, 1024), default=1, metavar="N", help="processes to run them in (default 1)"
    )
    parser.add_argument(
        "--faults", choices=list(PRESETS), help="other faults than the scenario's own: calm, rough or storm"
    )
    parser.add_argument(
        "--seconds",
        type=seconds(0.0, 86_400),
        metavar="S",
        help="simulated seconds of faults (the scenario's)",
    )
    parser.add_argument(
        "--real",
        action="store_true",
        help="in real time, on the real kernel over loopback, one after the other",
    )
    parser.add_argument(
        "--keep", metavar="FILE", help="where the test of a failing run goes (default test_SCENARIO_SEED.py)"
    )
    return parser


def show_list() -> None:
    """Every scenario that ships, with its own first line."""
    for name, reference in SCENARIOS.items():
        sys.stdout.write(f"{name:<12}{load_scenario(reference).summary}\n")


def faults_of(options: argparse.Namespace) -> Faults | None:
    """What was asked for, None for the scenario's own."""
    return None if options.faults is None else PRESETS[options.faults]


def one(scenario: Scenario, options: argparse.Namespace) -> Report:
    """One seed, with the end of its trace."""
    report = run_twice(scenario, options.seed, faults=faults_of(options), seconds=options.seconds)
    sys.stdout.write("".join(f"  {line}\n" for line in report.tail))
    sys.stdout.write(f"trace {report.hash}, {report.events} events\n")
    return report


def many(reference: str, options: argparse.Namespace) -> Tally:
    """Many seeds, in processes of their own, until one fails or Ctrl-C."""
    tally = Tally()
    seeds = range(options.first, options.first + options.runs)
    batches = [seeds[start : start + BATCH] for start in range(0, len(seeds), BATCH)]
    batches.reverse()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    context = multiprocessing.get_context("spawn")
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        ProcessPoolExecutor(options.jobs, context, initializer=begin_worker) as workers,
    ):
        task = progress.add_task(reference, total=len(seeds))
        running: set[Future[Tally]] = set()
        try:
            while (batches or running) and not tally.failed:
                while batches and len(running) < options.jobs * AHEAD:
                    batch = batches.pop()
                    running.add(
                        workers.submit(run_batch, reference, batch, faults_of(options), options.seconds)
                    )
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    tally.merge(future.result())
                progress.update(task, completed=tally.seeds)
        except KeyboardInterrupt:
            tell("interrupted; what was run so far:")
            for worker in multiprocessing.active_children():
                worker.kill()  # asked to end, one that was interrupted while it read would never hear of it
        for future in running:
            future.cancel()
    tally.failed.sort(key=lambda report: report.seed)
    return tally


def really(scenario: Scenario, options: argparse.Namespace) -> Tally:
    """On the real kernel, until one fails or Ctrl-C."""
    tally = Tally()
    seeds = range(options.first, options.first + options.runs)
    try:
        for seed in seeds if options.seed is None else [options.seed]:
            report = rehearse(scenario, seed, faults=faults_of(options), seconds=options.seconds)
            tally.add(report, runs=1)
            if tally.failed:
                break
    except KeyboardInterrupt:
        tell("interrupted; what was run so far:")
    return tally


def begin_worker() -> None:
    """Ctrl-C is the parent's business, and what was imported is not the collector's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()


@lru_cache
def loaded(reference: str) -> Scenario:
    """Loaded once per process."""
    return load_scenario(reference, SCENARIOS)


def run_batch(reference: str, seeds: range, faults: Faults | None, seconds: float | None) -> Tally:
    """In a worker."""
    return explore(loaded(reference), seeds, faults=faults, seconds=seconds)


def summary(scenario: Scenario, tally: Tally, took: float, *, real: bool = False) -> str:
    """What was run, what was hit, what became of it."""
    rate = tally.seconds / took if took else 0.0
    simulated = f"{tally.seconds:,.0f} simulated seconds in {took:,.1f} s, {rate:,.0f} per second"
    return (
        f"{scenario.name}: {tally.seeds:,} seeds, {'' if real else 'each run twice, '}"
        f"{len(tally.failed)} failed; {f'{took:,.1f} s on the real kernel' if real else simulated}\n"
        f"faults: {counted(tally.hits)}\n"
        f"outcomes: {counted(tally.outcomes)}\n"
    )


def counted(counts: Counter[str]) -> str:
    """The largest first."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common()) or "none"


def tell_failure(reference: str, scenario: Scenario, report: Report, options: argparse.Namespace) -> None:
    """How to run it again, and the short script that it takes."""
    told = (("--faults", options.faults), ("--seconds", options.seconds))
    further = "".join(f" {name} {value}" for name, value in told if value is not None)
    sys.stdout.write(f"\nseed {report.seed} failed: {report.failure}\n")
    if options.real:
        sys.stdout.write("".join(f"  {line}\n" for line in report.tail))
        return
    sys.stdout.write(f"again: windlass sim {reference} --seed {report.seed}{further}\n")
    shrunk = shrink(scenario, report)
    if shrunk is None:
        sys.stdout.write("its faults alone, as a script, do not make it fail; so there is no shorter one\n")
        return
    path = Path(options.keep or f"test_{scenario.name}_{report.seed}.py")
    try:
        path.write_text(as_test(SCENARIOS.get(reference, reference), shrunk))
        where = f"written to {path}"
    except OSError as error:
        where = f"not written to {path}: {error.strerror}"
    sys.stdout.write(
        f"{len(report.acts)} faults shrunk to {len(shrunk.acts)} in {shrunk.runs} runs, {where}:\n"
        + "".join(f"  {act}\n" for act in shrunk.acts)
        + f"  then: {(shrunk.report.failure or '').partition(chr(10))[0]}\n"
    )
