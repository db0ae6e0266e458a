"""Trees in which one mend is undone, and how many runs a scenario takes to find that out.

A mend is undone by edits of the source: each has a place in which its old text must stand exactly once, so an
edit that fits no more fails instead of planting nothing. The packages are copied, edited, and run in a
process of their own; the tree of the tests is not touched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Edit", "Found", "hunt", "plant"]

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("actors", "pools", "protocols", "windlass")
SECONDS_MAX: Final = 500
HUNT: Final = """
import json, sys
from pathlib import Path
import actors
from actors.simulation import load_scenario, simulate
from windlass.scenarios import SCENARIOS

assert Path(actors.__file__).is_relative_to(Path(sys.argv[1])), f"it is another tree: {actors.__file__}"
story = load_scenario(sys.argv[2], SCENARIOS)
seeds = [*map(int, sys.argv[4:]), *range(int(sys.argv[3]))]
reports = (simulate(story, seed) for seed in seeds)
found = next((report for report in reports if report.failure is not None), None)
print(json.dumps(None if found is None else [found.seed + 1, found.failure]))
"""


class Edit(NamedTuple):
    """In the file at `path`, `old` becomes `new`."""

    path: str
    old: str
    new: str


class Found(NamedTuple):
    """The first run that failed, from 1 on, and what was wrong."""

    run: int
    failure: str


def plant(edits: tuple[Edit, ...], tree: Path) -> Path:
    """Copy the packages to `tree`, and edit them. Raises `AssertionError` for an edit that does not apply.

    What is compiled comes along, else each tree would compile two hundred modules: a copy keeps its time, by
    which the interpreter knows whether it is the same source still. It does not for what is edited.
    """
    edited = {Path(path).stem for path, _, _ in edits}

    def leave_out(_folder: str, names: list[str]) -> set[str]:
        return {name for name in names if name.endswith(".pyc") and name.partition(".")[0] in edited}

    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=leave_out)
    for path, old, new in edits:
        text = (tree / path).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{path} has {text.count(old)} places that read {old!r}"
        (tree / path).write_text(text.replace(old, new), encoding="utf-8")
    return tree


def hunt(
    edits: tuple[Edit, ...], scenario: str, runs: int, tree: Path, known: int | None = None
) -> Found | None:
    """The first of so many runs that finds what these edits have undone; `known`: the run that is tried
    before all others.
    """
    plant(edits, tree)
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", HUNT, str(tree), scenario, str(runs)]
    command += [] if known is None else [str(known - 1)]
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return None if found is None else Found(*found)
