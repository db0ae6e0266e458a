"""The scenarios that ship: nothing is ever wrong with them, and without faults nothing even fails.

`WINDLASS_SOAK=1` runs many more seeds; `windlass sim NAME` as many as you like.
"""

from __future__ import annotations

import os

import pytest

from actors.simulation import CALM, REAL_KINDS, STORM, Faults, explore, load_scenario, rehearse, simulate
from windlass.scenarios import SCENARIOS

SOAK = bool(os.environ.get("WINDLASS_SOAK"))
SEEDS = 200 if SOAK else 4
LOST = {"ConnectionLost", "BackendDown"}  # what only faults can cause


@pytest.mark.no_cover
@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("faults", [None, STORM], ids=["own", "storm"])
def test_whatever_happens_nothing_is_wrong(name: str, faults: Faults | None) -> None:
    tally = explore(load_scenario(name, SCENARIOS), range(SEEDS), faults=faults)
    assert [report.failure for report in tally.failed] == []
    assert tally.hits
    assert tally.seeds == SEEDS


@pytest.mark.no_cover
@pytest.mark.parametrize("name", SCENARIOS)
def test_without_faults_no_connection_is_lost(name: str) -> None:
    report = simulate(load_scenario(name, SCENARIOS), 1, faults=CALM)
    assert report.failure is None
    assert report.acts == []
    assert not LOST & report.outcomes.keys()


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_says_what_it_is(name: str) -> None:
    assert load_scenario(name, SCENARIOS).summary.endswith(".")


@pytest.mark.parametrize("name", SCENARIOS if SOAK else ["pool"])
def test_the_same_holds_on_the_real_kernel(name: str) -> None:
    report = rehearse(load_scenario(name, SCENARIOS), 1, seconds=1.0)
    assert report.failure is None
    assert report.hits.keys() <= set(REAL_KINDS)
