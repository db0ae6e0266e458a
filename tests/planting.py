"""How a planted bug is looked for: with the seed that is known to find it, then with all the others.

A known seed keeps `make test` short. A scenario that has changed may need another one; the search finds that,
and the test's output names it. `WINDLASS_SOAK=1` knows none.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from actors.simulation import Report, Scenario, simulate

__all__ = ["SOAK", "first_failure"]

SOAK = bool(os.environ.get("WINDLASS_SOAK"))


def first_failure(story: Scenario, known: int, runs_max: int, knobs: dict[str, Any] | None = None) -> Report:
    """The first of so many runs that fails; an `AssertionError` if none does."""
    assert known < runs_max
    for seed in [*([] if SOAK else [known]), *range(runs_max)]:
        report = simulate(story, seed, knobs=knobs)
        if report.failure is not None:
            if seed != known:
                sys.stdout.write(f"seed {seed} finds it, {known} is not the first or finds it no more\n")
            return report
    raise AssertionError(f"not found in {runs_max} runs")
