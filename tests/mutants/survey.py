"""Which test runs which line, and what each test costs: asked once, and again of test files that change.

Each file of tests runs in a process of its own, forked from one that has imported everything. What is found
is kept in `.mutants/survey`, under a name made of the sources and the test file.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coverage
import pytest

from .children import Children

__all__ = ["Survey", "survey"]

FLOORS = ("actors", "pools", "protocols")


@dataclass
class Survey:
    """`seconds`: CPU time of each test that passes. `tests`: of each file and line, the tests that run it."""

    seconds: dict[str, float] = field(default_factory=dict)
    tests: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def add(self, found: dict[str, Any]) -> None:
        """What one file's process has found."""
        self.seconds |= found["seconds"]
        self.broken += found["broken"]
        for path, lines in found["lines"].items():
            for line, names in lines.items():
                self.tests.setdefault(path, {}).setdefault(int(line), []).extend(names)

    def covering(self, path: str, lines: tuple[int, int]) -> list[str]:
        """Tests that run any of these lines, cheap ones first."""
        of_file = self.tests.get(path, {})
        names = {name for line in range(lines[0], lines[1] + 1) for name in of_file.get(line, ())}
        return sorted(names & self.seconds.keys(), key=lambda name: (self.seconds[name], name))


def survey(
    items: list[pytest.Item], sources: list[Path], root: Path, kept: Path, jobs: int, run: Any
) -> Survey:
    """Run each test once. `run` runs tests and gives the names of those that fail."""
    kept.mkdir(parents=True, exist_ok=True)
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    everything = digest(path for folder in FLOORS for path in sorted((root / folder).rglob("*.py")))
    result = Survey()
    children = Children(jobs)
    names = {path: kept / f"{digest([path], everything)}.json" for path in files}
    for path, its in files.items():
        if not names[path].exists():
            children.start(path, lambda _, its=its, path=path: look(its, sources, root, names[path], run))
    for ended in children.all():
        if ended.status != 0:
            raise SystemExit(f"the survey of {ended.key} ended with {ended.status}\n{ended.told}")
    for path in files:
        result.add(json.loads(names[path].read_text()))
    return result


def digest(paths: Iterable[Path], before: str = "") -> str:
    whole = hashlib.sha256(before.encode())
    for path in paths:
        whole.update(path.read_bytes())
    return whole.hexdigest()[:24]


def look(items: list[pytest.Item], sources: list[Path], root: Path, kept: Path, run: Any) -> int:
    """In a child: run tests one by one, each in a context of its own."""
    watch = coverage.Coverage(data_file=None, config_file=False, include=[str(path) for path in sources])
    watch.start()
    seconds: dict[str, float] = {}
    broken = []
    for number, item in enumerate(items):
        watch.switch_context(str(number))
        begun = time.process_time()
        following = items[number + 1] if number + 1 < len(items) else None
        if run(item, following) == "passed":
            seconds[item.nodeid] = round(time.process_time() - begun, 4)
        else:
            broken.append(item.nodeid)
    watch.stop()
    with warnings.catch_warnings(action="ignore"):  # a file of tests may run no line of these sources
        data = watch.get_data()
    lines: dict[str, dict[int, list[str]]] = {}
    for path in data.measured_files():
        lines[str(Path(path).relative_to(root))] = {
            line: [items[int(number)].nodeid for number in numbers if number]
            for line, numbers in data.contexts_by_lineno(path).items()
        }
    temporary = kept.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps({"seconds": seconds, "broken": broken, "lines": lines}))
    temporary.rename(kept)
    return 0
