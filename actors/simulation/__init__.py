"""Deterministic simulation: several hosts, a network between them and all of their faults, in one process,
with a clock that jumps. The same seed is the same run, event for event.

A scenario makes hosts (`world.host(name, program)`) and says what must hold; `simulate` runs it. The loop,
the pools and the protocols are the real ones: only their kernel is another.
"""

from __future__ import annotations

from .errors import Broken, RealityReached
from .explore import Tally, explore
from .faults import CALM, KINDS, PRESETS, ROUGH, STORM, Act, Faults
from .guard import guard
from .hosts import Host
from .knobs import draw, turned
from .reality import REAL_KINDS, RealWorld
from .scenarios import Report, Scenario, load_scenario, rehearse, scenario, simulate
from .shrink import Shrunk, as_test, shrink
from .sides import Recording
from .world import World

__all__ = [
    "CALM",
    "KINDS",
    "PRESETS",
    "REAL_KINDS",
    "ROUGH",
    "STORM",
    "Act",
    "Broken",
    "Faults",
    "Host",
    "RealWorld",
    "RealityReached",
    "Recording",
    "Report",
    "Scenario",
    "Shrunk",
    "Tally",
    "World",
    "as_test",
    "draw",
    "explore",
    "guard",
    "load_scenario",
    "rehearse",
    "scenario",
    "shrink",
    "simulate",
    "turned",
]
