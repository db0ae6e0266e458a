"""Deterministic simulation: several hosts, a network between them and all of their faults, in one process,
with a clock that jumps. The same seed is the same run, event for event.

A scenario makes hosts (`world.host(name, program)`) and says what must hold; `simulate` runs it. The loop,
the pools and the protocols are the real ones: only their kernel is another.
"""

from __future__ import annotations

from .errors import Broken, RealityReached
from .faults import CALM, KINDS, PRESETS, ROUGH, STORM, Act, Faults
from .guard import guard
from .hosts import Host
from .scenarios import Report, Scenario, load_scenario, scenario, simulate
from .world import World

__all__ = [
    "CALM",
    "KINDS",
    "PRESETS",
    "ROUGH",
    "STORM",
    "Act",
    "Broken",
    "Faults",
    "Host",
    "RealityReached",
    "Report",
    "Scenario",
    "World",
    "guard",
    "load_scenario",
    "scenario",
    "simulate",
]
