"""Seeds that have failed once, run for ever after: one per line of `kept_seeds.jsonl`, as `windlass sim all
--kept` adds it, with the knobs that it had drawn then. The line tells what was found; it must hold now.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actors.simulation import PRESETS, load_scenario, simulate
from actors.simulation.knobs import knobs_of
from windlass.scenarios import SCENARIOS

KEPT = [json.loads(line) for line in Path(__file__).with_name("kept_seeds.jsonl").read_text().splitlines()]


@pytest.mark.no_cover
@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: f"{kept['scenario']}-{kept['seed']}")
def test_what_failed_once_holds(kept: dict[str, Any]) -> None:
    story = load_scenario(kept["scenario"], SCENARIOS)
    known = knobs_of(story.packages)  # a constant that is gone is not turned any more
    turned = {name: number for name, number in kept["knobs"].items() if name in known}
    faults = PRESETS[kept["faults"]] if kept["faults"] else None
    report = simulate(story, kept["seed"], faults=faults, knobs=turned)
    assert report.failure is None, f"{report.failure}; it was found before: {kept['found']}"
