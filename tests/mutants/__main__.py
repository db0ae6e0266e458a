"""Mutation: is there a test that notices when a line says something else? See CONTRIBUTING.md.

    python -m tests.mutants pools                  all of it
    python -m tests.mutants pools --sample 400     as many, drawn anew each time (--seed N: the same again)
    python -m tests.mutants pools/queues.py        one file
    python -m tests.mutants pools --again          what has survived the last time, after tests were added

Everything is imported and collected once. Each mutant has a process of its own, forked from there, which puts
the changed code in place and runs the tests that run its line, those first that have found its neighbours,
then the cheap ones, until one fails. One that hangs is ended by its CPU time and counts as found.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import sys
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import pytest

from .children import FAILED, Children, Tell
from .explained import explained, stale
from .operators import Module, Mutant
from .placing import Functions, load
from .report import Outcome, report
from .survey import Survey, survey
from .targets import TARGETS, target_of

ROOT = Path(__file__).parent.parent.parent
KEPT = ROOT / ".mutants"

SURVIVED, FOUND, SAME = 0, 1, 2
SECONDS_MORE = 4.0  # of CPU time, times what the tests take without a mutant …
SECONDS_LEAST = 3.0  # … and these, before it counts as hanging


class Mutants:
    """A plugin of pytest that runs mutants in place of tests."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.target = TARGETS[target_of(options.what)]
        self.kept = KEPT / f"{target_of(options.what)}.jsonl"
        self.outcomes: list[Outcome] = []
        self.failed = self.skipped = False

    # -- for pytest ------------------------------------------------------------------------------------------

    def pytest_configure(self) -> None:
        """Examples that are made up are the same ones each time, and none are kept."""
        import hypothesis

        hypothesis.settings.register_profile("mutants", database=None, derandomize=True)
        hypothesis.settings.load_profile("mutants")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """How one test goes."""
        self.failed = self.failed or report.failed
        self.skipped = self.skipped or report.skipped

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Everything is collected: from here on it is forked."""
        if session.testsfailed:
            raise SystemExit("some tests cannot be collected; run them by pytest first")
        sources = self.target.files(ROOT)
        modules = {module.name: module for module in (Module(path, ROOT) for path in sources)}
        missing = [path.name for path in sources if not load(path)]
        if missing:
            told(f"not installed is what these need: {', '.join(missing)}")
        self.functions = Functions()
        self.items = {item.nodeid: item for item in session.items}
        told(f"{len(self.items)} tests")
        found = survey(list(session.items), sources, ROOT, KEPT / "survey", self.options.jobs, self.run)
        told(f"{len(found.seconds)} pass, in {sum(found.seconds.values()):.0f} s of CPU time")
        if found.broken:
            told(f"without those that fail or are skipped: {', '.join(sorted(found.broken)[:20])}")
        gc.collect()
        gc.freeze()  # what all children share stays shared
        self.try_all(self.drawn(modules), modules, found)
        return True

    # -- the work --------------------------------------------------------------------------------------------

    def drawn(self, modules: dict[str, Module]) -> list[Mutant]:
        """The mutants that are to be tried."""
        everything = [mutant for module in modules.values() for mutant in module.mutants()]
        for key in stale(self.target.sources, {mutant.key for mutant in everything}):
            told(f"explained, but no mutant any more: {key}")
        what, options = self.options.what, self.options
        if what not in TARGETS:
            everything = [mutant for mutant in everything if f"{mutant.path}/".startswith(f"{what}/")]
        if options.again:
            survived = {each.key for each in self.last() if not each.found}
            everything = [mutant for mutant in everything if mutant.key in survived]
        if options.sample and options.sample < len(everything):
            told(f"a sample of {options.sample} of {len(everything)}, by --seed {options.seed}")
            everything = random.Random(options.seed).sample(everything, options.sample)
        return everything

    def last(self) -> list[Outcome]:
        """What the last run has found."""
        lines = self.kept.read_text().splitlines() if self.kept.exists() else []
        outcomes = [Outcome(**json.loads(line)) for line in lines]
        return list({each.key: each for each in outcomes}.values())

    def try_all(self, mutants: list[Mutant], modules: dict[str, Module], found: Survey) -> None:
        """Fork for each, and gather what they say."""
        children = Children(self.options.jobs)
        finders: dict[str, dict[str, None]] = defaultdict(
            dict
        )  # by function: the tests that find its mutants
        reasons = explained()
        for mutant in mutants:
            if mutant.key in reasons:
                self.outcome(mutant, "explained", reasons[mutant.key])
                continue
            names = found.covering(mutant.path, mutant.lines)
            if not names:
                self.outcome(mutant, "no test", "")
                continue
            limit = SECONDS_LEAST + SECONDS_MORE * min(
                self.options.seconds, sum(found.seconds[name] for name in names)
            )
            children.start(
                mutant,
                lambda tell, mutant=mutant, names=names: self.attempt(
                    mutant, modules[mutant.path], self.chosen(names, finders[mutant.function], found), tell
                ),
                limit,
            )
        for ended in children.all():
            if ended.status == SURVIVED:
                self.outcome(ended.key, "survived", "", ended.seconds)
            elif ended.status == SAME:
                self.outcome(ended.key, "the same code", "", ended.seconds)
            elif ended.status == FOUND:
                finders[ended.key.function][ended.told] = None
                self.outcome(ended.key, "found", ended.told, ended.seconds)
            elif ended.status == FAILED:
                raise SystemExit(f"{ended.key}\n{ended.told}")
            else:
                self.outcome(ended.key, "hung", f"ended with {ended.status}", ended.seconds)

    def chosen(self, names: list[str], finders: dict[str, None], found: Survey) -> list[str]:
        """What has found a neighbour goes first; then the cheap ones, as far as the time goes."""
        first = [name for name in reversed(finders) if name in set(names)]
        left = self.options.seconds
        result: list[str] = []
        for name in [*first, *(name for name in names if name not in finders)]:
            left -= found.seconds[name]
            if left < 0 and result:
                break
            result.append(name)
        return result

    def attempt(self, mutant: Mutant, module: Module, names: list[str], tell: Tell) -> int:
        """In a child: is it found?"""
        if not self.functions.put(module.code(mutant.number)):
            return SAME
        try:
            for name, after in zip(names, [*names[1:], None], strict=True):
                if self.run(self.items[name], self.items[after] if after else None) != "passed":
                    tell(name)
                    return FOUND
        except BaseException as error:
            tell(f"{type(error).__name__} out of the runner of tests")
            return FOUND
        return SURVIVED

    def run(self, item: pytest.Item, after: pytest.Item | None) -> str:
        """One test, as pytest does it."""
        self.failed = self.skipped = False
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        return "failed" if self.failed else "skipped" if self.skipped else "passed"

    def outcome(self, mutant: Mutant, what: str, by: str, seconds: float = 0.0) -> None:
        """One more is known; it is written down at once, for the next run and for whoever reads."""
        known = Outcome(mutant.key, mutant.lines[0], mutant.operator, what, by, round(seconds, 2))
        self.outcomes.append(known)
        with self.kept.open("a") as kept:
            kept.write(f"{json.dumps(asdict(known))}\n")
        if not known.found:
            told(f"[{len(self.outcomes)}] {what}: {mutant}")


def told(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main() -> int:
    """As the module says."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("what", help=f"{', '.join(TARGETS)}, or a file or folder of theirs")
    parser.add_argument("--sample", type=int, metavar="N", help="try as many, drawn at random")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="draw the same ones again")
    parser.add_argument("--seconds", type=float, default=8.0, help="CPU time of the tests for each mutant")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--again", action="store_true", help="only what has survived the last time")
    options = parser.parse_args()
    options.what = options.what.rstrip("/")
    plugin = Mutants(options)
    begun = time.monotonic()
    arguments = [
        "-p",
        "no:cacheprovider",
        "-p",
        "no:terminal",
        "-p",
        "no:xdist",
        "-p",
        "no:cov",
        "--capture=no",
    ]
    arguments += [f"--ignore={left_out}" for left_out in plugin.target.left_out]
    status = pytest.main([*arguments, *plugin.target.tests], plugins=[plugin])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return int(status)
    told(f"{time.monotonic() - begun:.0f} s")
    return report(plugin.outcomes, plugin.target.least, told)


if __name__ == "__main__":
    sys.exit(main())
