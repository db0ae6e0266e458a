"""Numbers that no simulation turns, and why. `test_knobs.py` holds that each number is here or a knob."""

from __future__ import annotations

WHOLE_MODULES: dict[str, str] = {
    "actors.simulation": "the simulation itself",
    "actors.testing": "for tests",
    "actors.workers": "real processes",
    "actors.embedding": "real threads and other loops",
    "pools.testing": "for tests",
    "pools.simulation": "the simulation itself",
    "protocols.command": "the program, not the library",
    "protocols.scenarios": "the simulation's own services",
    "protocols.kafka.simulated": "the simulation's own servers",
    "protocols.postgres.simulated": "the simulation's own servers",
    "protocols.redis.simulated": "the simulation's own servers",
}

FIXED: dict[str, dict[str, str]] = {}
