"""The scenarios that ship with Windlass, for `windlass sim`: each simulates a whole service and its
faults."""

from __future__ import annotations

from typing import Final

__all__ = ["SCENARIOS"]

SCENARIOS: Final = {
    "tree": "protocols.scenarios.tree:tree",
    "flows": "protocols.scenarios.deadlines:flows",
    "postgres": "protocols.scenarios.bank:bank",
    "schema": "protocols.scenarios.schema:schema",
    "kafka": "protocols.scenarios.log:events",
    "topics": "protocols.scenarios.topics:topics",
    "redis": "protocols.scenarios.store:store",
    "primaries": "protocols.scenarios.primaries:primaries",
    "pool": "protocols.scenarios.flapping:flapping",
    "gateway": "protocols.scenarios.gateway:gateway",
    "proxy": "protocols.scenarios.proxying:proxy",
}
"""What `windlass sim` calls them, and where they are."""
