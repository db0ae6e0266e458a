"""When things happened to one connection, as its loop's clock says (monotonic seconds)."""

from __future__ import annotations

from actors import NEVER

__all__ = ["Times"]


class Times:
    """What a connection reports of itself, for whoever judges how old, idle or silent it is."""

    __slots__ = ("begun", "heard", "idle", "ready", "renewal")

    def __init__(self, now: float) -> None:
        self.begun = now
        self.ready = now
        self.idle = now
        """When it fell idle last."""
        self.heard = -NEVER
        """When the last bytes came."""
        self.renewal = NEVER
        """When it is to be renewed."""

    def __repr__(self) -> str:
        return f"<Times begun {self.begun:.3f}, idle {self.idle:.3f}, heard {self.heard:.3f}>"

    def is_ready(self, now: float, renewal: float) -> None:
        """It takes units from now on, until it is to be renewed."""
        self.ready = now
        self.renewal = renewal
