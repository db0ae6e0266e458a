"""What the demo does, in figures: the backends, the pools, the load and the three phases."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = [
    "CONNECTIONS",
    "HOLDING",
    "PHASES",
    "POOLS",
    "QUICK_SECONDS",
    "SLOW_SECONDS",
    "TIMEOUT_SECONDS",
    "USERS_SHARE",
    "WARM_UP_SECONDS",
    "WINDLASS",
    "Phase",
]

QUICK_SECONDS: Final = 0.01  # what a healthy backend takes for an answer
SLOW_SECONDS: Final = 2.0  # what the slow one takes
TIMEOUT_SECONDS: Final = 0.5  # how long both gateways wait for what they need
CONNECTIONS: Final = 8  # per backend, in both gateways
USERS_SHARE: Final = 2 / 3  # of the requests need only the healthy backend
WARM_UP_SECONDS: Final = 1.0  # of load that is not counted

WINDLASS: Final = "Windlass"
HOLDING: Final = "acquire-and-hold"
POOLS: Final = (WINDLASS, HOLDING)


class Phase(msgspec.Struct, frozen=True):
    """A part of the demo: its name, and what happens to the backend `carts` at its beginning."""

    name: str
    event: str


PHASES: Final = (
    Phase("healthy", "both backends answer within 10 ms"),
    Phase("carts slow", f"carts now takes {SLOW_SECONDS:g} s for an answer"),
    Phase("carts dead", "carts was killed"),
)
