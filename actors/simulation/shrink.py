"""Shrinking: from the faults of a run that failed to the few that it takes, and a test that says so.

Rules:
1. A script is a list of acts, and any part of one is one. What does not matter is left out, in halves first,
   then in ever smaller parts, until no single act can be left out (delta debugging, "ddmin").
2. Any failure counts, not only the first one: a smaller script that fails otherwise has found something as
   well.
3. Knobs first: all of them back at their own values, then all that need not be turned. What is left is part
   of what was found.
4. The number of runs is bounded; what was reached by then is a script, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

from .faults import Act
from .knobs import Turned
from .scenarios import Report, Scenario, simulate

__all__ = ["RUNS_MAX", "Shrunk", "as_test", "shrink"]

T = TypeVar("T")

RUNS_MAX: Final = 400

TEST: Final = '''\
"""Found by: windlass sim {reference} --seed {seed}

{failure}
"""

from __future__ import annotations

from actors.simulation import Act, load_scenario, simulate

SCRIPT{hint} = [{acts}]
KNOBS = {{{knobs}}}


def test_{name}_{seed}() -> None:
    scenario = load_scenario("{reference}")
    report = simulate(scenario, {seed}, script=SCRIPT, seconds={seconds!r}, knobs=KNOBS)
    assert report.failure is None, report.failure
'''


class Shrunk(NamedTuple):
    """The shortest script that was found, its report, and how many runs that took."""

    acts: list[Act]
    report: Report
    runs: int

    @property
    def knobs(self) -> Turned:
        """Those that it takes."""
        return self.report.knobs


def shrink(scenario: Scenario, report: Report, *, runs_max: int = RUNS_MAX) -> Shrunk | None:
    """The shortest script that makes this seed fail; None if its own acts, as a script, do not."""
    best = simulate(scenario, report.seed, script=report.acts, seconds=report.faulty, knobs=report.knobs)
    if best.failure is None:
        return None
    runs = 1
    tried: set[tuple[object, ...]] = set()

    def fails(acts: Sequence[Act], knobs: Turned) -> bool:
        nonlocal best, runs
        key = (*acts, *knobs.items())
        if key in tried or runs >= runs_max:
            return False
        tried.add(key)
        runs += 1
        told = simulate(scenario, report.seed, script=acts, seconds=report.faulty, knobs=knobs)
        if told.failure is None:
            return False
        best = told
        return True

    acts = best.acts
    items = list(report.knobs.items())
    items = [] if fails(acts, {}) else minimized(items, lambda some: fails(acts, dict(some)))
    knobs = dict(items)
    acts = [] if fails([], knobs) else minimized(acts, lambda some: fails(some, knobs))
    return Shrunk(acts, best, runs)


def minimized(acts: list[T], fails: Callable[[Sequence[T]], bool]) -> list[T]:
    """Nothing of what this returns can be left out, if `fails` is to stay true."""
    size = max(1, len(acts) // 2)
    while acts:
        start = 0
        before = len(acts)
        while start < len(acts):
            rest = acts[:start] + acts[start + size :]
            if fails(rest):
                acts = rest
            else:
                start += size
        if size == 1 and len(acts) == before:
            break
        size = max(1, min(size // 2, len(acts) // 2))
    return acts


def as_test(reference: str, shrunk: Shrunk) -> str:
    """A pytest file that runs the script. `reference`: as for `load_scenario`, `module:name`."""
    report = shrunk.report
    acts = "".join(f"\n    {as_code(act)}," for act in shrunk.acts)
    knobs = "".join(f'\n    "{name}": {value!r},' for name, value in shrunk.knobs.items())
    return TEST.format(
        reference=reference,
        seed=report.seed,
        seconds=report.faulty,
        failure=(report.failure or "").partition("\n")[0].replace("\\", "\\\\").replace('"""', "'''"),
        hint="" if acts else ": list[Act]",
        acts=f"{acts}\n" if acts else "",
        knobs=f"{knobs}\n" if knobs else "",
        name=report.scenario,
    )


def as_code(act: Act) -> str:
    """The call that makes it."""
    words = [f"at={act.at!r}", f"kind={act.kind!r}", f"where={act.where!r}"]
    words += [f"{name}={value!r}" for name in ("seconds", "amount") if (value := getattr(act, name))]
    return f"Act({', '.join(words)})".replace("'", '"')
