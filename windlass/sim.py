"""`windlass sim`: run scenarios of the deterministic simulation: one seed, or thousands on several cores."""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

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
from actors.simulation.knobs import Turned
from actors.simulation.sides import Recording

from .arguments import Parser, closest, integer, seconds
from .logs import tell
from .scenarios import SCENARIOS

__all__ = ["run_sim", "sim_parser"]

EXAMPLES: Final = """\
SCENARIO is one that --list shows, or your own (MODULE:NAME or FILE.py:NAME), or all. With all, those that
--list shows run in turn, with their own faults and with each preset, from a fresh seed.

examples:
  windlass sim pool --runs 1000 --jobs 2
  windlass sim tests/scenarios.py:checkout --seed 4711
  windlass sim all --for 90 --jobs 2

The same seed gives the same run, event for event. Each seed is run twice to check that (with all, one in
ten). A seed draws its faults and some of the internal constants. A run that fails is shrunk to a short script
of faults and the constants that it needs, and written as a test for pytest. The exit status is 1 if a seed
failed.
"""
RUNS: Final = 100  # seeds, if nobody says how many
BATCH: Final = 5  # seeds that a process runs before it reports
AHEAD: Final = 2  # batches per process that are handed out at a time
TWICE_OF_ALL: Final = 10  # one seed in so many is run twice
ONE_SIDED_SHOWN: Final = 5  # decisions
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
    if reference == "all":
        return run_all(parser, options)
    try:
        scenario = load_scenario(reference, SCENARIOS)
    except ValueError as error:
        near = closest(reference, SCENARIOS)
        parser.fail(f"there is no scenario {reference!r}; did you mean {near}?" if near else str(error))
    begun = time.perf_counter()
    if options.seed is not None:
        without = [f"--{name}" for name in ("runs", "first", "jobs", "for") if getattr(options, name)]
        if without:
            sys.stderr.write(f"--seed runs one seed: {', '.join(without)} means nothing beside it\n")
    if options.real:
        tally = really(scenario, options)
    elif options.seed is not None:
        tally = Tally()
        tally.add(one(scenario, options))
    else:
        tally = many(one_scenario(reference, options), options, reference)[reference, options.faults]
    sys.stdout.write(summary(scenario, tally, time.perf_counter() - begun, real=options.real))
    for report in tally.failed[:1]:
        tell_failure(reference, scenario, report, options)
    return 1 if tally.failed else 0


def sim_parser() -> Parser:
    """The options, each with its default and unit."""
    parser = Parser("windlass sim SCENARIO", "Run a scenario of the deterministic simulation.", EXAMPLES)
    parser.add_argument("--list", action="store_true", help="list the scenarios and exit")
    parser.add_argument(
        "--seed", type=integer(0, 1 << 62), metavar="N", help="run this seed, and show how it ended"
    )
    parser.add_argument(
        "--runs", type=integer(1, 1_000_000_000), metavar="N", help="seeds to run (default 100)"
    )
    parser.add_argument(
        "--first",
        type=integer(0, 1 << 61),
        metavar="N",
        help="the first seed (default 0; with all, a fresh one)",
    )
    parser.add_argument(
        "--jobs", type=integer(1, 1024), metavar="N", help="processes to run the seeds in (default 1)"
    )
    parser.add_argument(
        "--for",
        type=seconds(0.0, 1e9),
        metavar="S",
        help="continue with further seeds for this time, in real seconds (with all: until Ctrl-C)",
    )
    parser.add_argument(
        "--faults", choices=list(PRESETS), help="faults instead of the scenario's own: calm, rough or storm"
    )
    parser.add_argument(
        "--seconds",
        type=seconds(0.0, 86_400),
        metavar="S",
        help="simulated seconds of faults (default: the scenario's)",
    )
    parser.add_argument(
        "--real",
        action="store_true",
        help="run in real time, on the real kernel over loopback, one after the other",
    )
    parser.add_argument(
        "--knobs",
        choices=["drawn", "own"],
        default="drawn",
        help="internal constants: drawn by the seed (the default), or each at its own value",
    )
    parser.add_argument(
        "--kept", metavar="FILE", help="with all: a file that gets a line for each seed that fails"
    )
    parser.add_argument(
        "--decisions",
        action="store_true",
        help="with all: name each decision by an internal constant that went only one way",
    )
    parser.add_argument(
        "--keep", metavar="FILE", help="file for the test of a failing run (default test_SCENARIO_SEED.py)"
    )
    return parser


def show_list() -> None:
    """Every scenario that ships, with its own first line."""
    for name, reference in SCENARIOS.items():
        sys.stdout.write(f"{name:<12}{load_scenario(reference).summary}\n")


def faults_of(options: argparse.Namespace) -> Faults | None:
    """What was asked for, None for the scenario's own."""
    return None if options.faults is None else PRESETS[options.faults]


def knobs_of(options: argparse.Namespace) -> Turned | None:
    """What was asked for, None for what the seed draws."""
    return {} if options.knobs == "own" else None


def one(scenario: Scenario, options: argparse.Namespace) -> Report:
    """One seed, with the end of its trace."""
    report = run_twice(
        scenario, options.seed, faults=faults_of(options), seconds=options.seconds, knobs=knobs_of(options)
    )
    sys.stdout.write("".join(f"  {line}\n" for line in report.tail))
    sys.stdout.write(f"trace {report.hash}, {report.events} events\n")
    return report


class Batch(NamedTuple):
    """Some seeds of one scenario, with one preset of faults (None: its own)."""

    reference: str
    seeds: range
    faults: str | None


def one_scenario(reference: str, options: argparse.Namespace) -> Iterator[Batch]:
    """As many seeds as were asked for, or without end if they were asked for by time."""
    first = options.first or 0
    last = first + (options.runs or (1 << 60 if options.__dict__["for"] else RUNS))
    for start in range(first, last, BATCH):
        yield Batch(reference, range(start, min(start + BATCH, last)), options.faults)


def every_scenario(first: int, options: argparse.Namespace) -> Iterator[Batch]:
    """All that ship, with their own faults and with each preset that has some, in turn, without end or up to
    so many seeds of each."""
    faults = [None, *(name for name, preset in PRESETS.items() if preset.rates())]
    if options.faults is not None:
        faults = [options.faults]
    for start in range(first, first + (options.runs or 1 << 60), BATCH):
        for preset in faults:
            for reference in SCENARIOS:
                yield Batch(reference, range(start, start + BATCH), preset)


Tallies = dict[tuple[str, str | None], Tally]
"""By scenario and preset."""


def many(batches: Iterator[Batch], options: argparse.Namespace, title: str) -> Tallies:
    """Many seeds, in processes of their own, until time is up, or each scenario has failed, or Ctrl-C."""
    jobs = options.jobs or 1
    limit = options.__dict__["for"]
    until = time.monotonic() + limit if limit else float("inf")
    tallies: Tallies = defaultdict(Tally)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    total = None if limit or title == "all" else options.runs or RUNS
    context = multiprocessing.get_context("spawn")
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        ProcessPoolExecutor(jobs, context, initializer=begin_worker) as workers,
    ):
        task = progress.add_task(title, total=total)
        running: dict[Future[Tally], Batch] = {}
        failed: set[str] = set()
        try:
            while True:
                while len(running) < jobs * AHEAD and time.monotonic() < until:
                    batch = next((one for one in batches if one.reference not in failed), None)
                    if batch is None or (failed and title != "all"):
                        break
                    asked = batch, options.seconds, knobs_of(options), title == "all"
                    running[workers.submit(run_batch, *asked)] = batch
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    batch, tally = running.pop(future), future.result()
                    tallies[batch.reference, batch.faults].merge(tally)
                    if tally.failed:
                        failed.add(batch.reference)
                        if options.kept and title == "all":
                            keep(options.kept, batch, tally.failed[0])
                progress.update(task, completed=sum(tally.seeds for tally in tallies.values()))
                if len(failed) == len(SCENARIOS):
                    break
        except KeyboardInterrupt:
            sys.stderr.write("interrupted; results so far:\n")
            for worker in multiprocessing.active_children():
                worker.kill()  # asked to end, one that was interrupted while it read would never hear of it
        for future in running:
            future.cancel()
    for tally in tallies.values():
        tally.failed.sort(key=lambda report: report.seed)
    return tallies


def run_all(parser: Parser, options: argparse.Namespace) -> int:
    """All scenarios in turn; 0 if everything held."""
    if options.seed is not None or options.real:
        parser.fail("all cannot be used with --seed or --real; write the scenario's name instead of all")
    first = int.from_bytes(os.urandom(4)) if options.first is None else options.first
    sys.stdout.write(f"seeds from {first} on: windlass sim all --first {first}\n")
    sys.stdout.flush()
    begun = time.perf_counter()
    tallies = many(every_scenario(first, options), options, "all")
    took = time.perf_counter() - begun
    for (reference, preset), tally in sorted(tallies.items(), key=str):
        sys.stdout.write(
            f"{reference:<12}{preset or 'own':<7}{tally.seeds:>8,} seeds, {len(tally.failed)} failed; "
            f"{sum(tally.hits.values()):,} faults of {len(tally.hits)} kinds, "
            f"{len({name for name, _ in tally.knobs})} constants turned\n"
        )
    turned = sum((tally.knobs for tally in tallies.values()), Counter[tuple[str, float]]())
    seeds = sum(tally.seeds for tally in tallies.values())
    runs = sum(tally.runs for tally in tallies.values())
    sys.stdout.write(
        f"{seeds:,} seeds, {runs:,} runs in {took:,.0f} s; {len({name for name, _ in turned})} constants "
        f"turned to {len(turned)} values\n"
    )
    sides = set().union(*(tally.sides for tally in tallies.values()))
    sys.stdout.write(tell_sides(recording().missing(sides), everything=options.decisions))
    broken = {key: tally for key, tally in tallies.items() if tally.failed}
    for (reference, preset), tally in broken.items():
        report = tally.failed[0]
        told = argparse.Namespace(**{**vars(options), "faults": preset})
        tell_failure(reference, load_scenario(reference, SCENARIOS), report, told)
    return 1 if broken else 0


def tell_sides(missing: Sequence[tuple[str, bool]], *, everything: bool) -> str:
    """Of how many decisions by constants both sides were taken, and of which not."""
    sides = Counter(place for place, _ in missing)
    count = len(recording().decisions)
    told = f"{count - len(sides)} of {count} decisions by these constants taken both ways\n"
    shown = list(sides)[: None if everything else ONE_SIDED_SHOWN]
    outcomes = dict(missing)
    for place in shown:
        how = "never reached" if sides[place] == 2 else f"never {'yes' if outcomes[place] else 'no'}"
        told += f"  {how:<18}{place}\n"
    if len(shown) < len(sides):
        told += f"  and {len(sides) - len(shown)} more: --decisions names them\n"
    return told


def keep(path: str, batch: Batch, report: Report) -> None:
    """Add a line to the seeds that are always run from now on."""
    found = (report.failure or "").partition("\n")[0]
    kept = {
        "scenario": batch.reference,
        "seed": report.seed,
        "faults": batch.faults,
        "knobs": report.knobs,
        "found": found,
    }
    with Path(path).open("a") as file:
        file.write(json.dumps(kept) + "\n")


def really(scenario: Scenario, options: argparse.Namespace) -> Tally:
    """On the real kernel, until one fails or Ctrl-C."""
    tally = Tally()
    first = options.first or 0
    seeds = range(first, first + (options.runs or RUNS))
    try:
        for seed in seeds if options.seed is None else [options.seed]:
            report = rehearse(
                scenario, seed, faults=faults_of(options), seconds=options.seconds, knobs=knobs_of(options)
            )
            tally.add(report, runs=1)
            if tally.failed:
                break
    except KeyboardInterrupt:
        tell("interrupted; results so far:")
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


@lru_cache
def recording() -> Recording:
    """Of every decision by a constant of a scenario that ships; made once per process."""
    packages = {package for reference in SCENARIOS for package in loaded(reference).packages}
    return Recording(sorted(packages))


def run_batch(batch: Batch, seconds: float | None, knobs: Turned | None, of_all: bool) -> Tally:
    """In a worker process."""
    faults = None if batch.faults is None else PRESETS[batch.faults]
    scenario = loaded(batch.reference)
    if not of_all:
        return explore(scenario, batch.seeds, faults=faults, seconds=seconds, knobs=knobs)
    with recording() as told:
        tally = explore(
            scenario, batch.seeds, faults=faults, seconds=seconds, knobs=knobs, twice=TWICE_OF_ALL
        )
    tally.sides = told.taken
    return tally


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
    own = "own" if options.knobs == "own" else None
    told = (("--faults", options.faults), ("--seconds", options.seconds), ("--knobs", own))
    further = "".join(f" {name} {value}" for name, value in told if value is not None)
    sys.stdout.write(f"\nseed {report.seed} failed: {report.failure}\n")
    if report.knobs:
        sys.stdout.write(f"{len(report.knobs)} internal constants were turned\n")
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
        + "".join(f"  with {name} = {value}\n" for name, value in shrunk.knobs.items())
        + f"  then: {(shrunk.report.failure or '').partition(chr(10))[0]}\n"
    )
