"""The scenarios that ship with Windlass, for `windlass sim`: each simulates a whole service and its
faults."""

from __future__ import annotations

from typing import Final

__all__ = ["SCENARIOS"]

SCENARIOS: Final = {
    "tree": "windlass.scenarios.tree:tree",
    "flows": "windlass.scenarios.deadlines:flows",
    "postgres": "windlass.scenarios.bank:bank",
    "schema": "windlass.scenarios.schema:schema",
    "kafka": "windlass.scenarios.log:events",
    "topics": "windlass.scenarios.topics:topics",
    "redis": "windlass.scenarios.store:store",
    "primaries": "windlass.scenarios.primaries:primaries",
    "pool": "windlass.scenarios.flapping:flapping",
    "gateway": "windlass.scenarios.gateway:gateway",
    "proxy": "windlass.scenarios.proxying:proxy",
}
"""What `windlass sim` calls them, and where they are."""
