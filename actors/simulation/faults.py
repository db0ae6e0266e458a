"""Faults as data: what can go wrong, how often, and the acts of which a script consists.

Rules:
1. A fault is an `Act`: a time, a kind, where it hits, for how long, how much. The same acts are drawn at
   random, written in a scenario by hand, and kept in the script of a run that failed.
2. `Faults` holds one rate per kind, in acts per simulated second over the whole world.
3. An act whose target is not there (no such connection is open, say) does nothing. So any part of a script is
   a script.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

__all__ = ["CALM", "KINDS", "PRESETS", "ROUGH", "STORM", "Act", "Faults", "Kind"]


class Act(msgspec.Struct, frozen=True):
    """One fault. `where` is a host (`"proxy"`), a direction (`"proxy>backend"`), or a connection: the third
    that the first host has opened to the second is `"proxy>backend#3"`."""

    at: float
    kind: str
    where: str
    seconds: float = 0.0
    amount: float = 0.0

    def __str__(self) -> str:
        lasting = f" for {self.seconds:g} s" if self.seconds else ""
        amount = f", {self.amount:g}" if self.amount else ""
        return f"at {self.at:.6f} {self.kind} {self.where}{lasting}{amount}"


class Kind(NamedTuple):
    """How a kind of fault is drawn: what it hits, for how many seconds, how much (least and most of each)."""

    target: str  # "host", "crashing" (a host that may crash), "direction", "connection"
    seconds: tuple[float, float]
    amount: tuple[float, float]
    says: str


KINDS: Final[dict[str, Kind]] = {
    "lag": Kind("direction", (0.002, 0.05), (0.005, 0.5), "what is sent arrives `amount` seconds late"),
    "reset": Kind("connection", (0, 0), (0, 0), "both ends get RST"),
    "half_close": Kind("connection", (0, 0), (0, 1), "one end (1: the one that connected) gets FIN"),
    "vanish": Kind("connection", (0, 0), (0, 0), "it no longer carries anything, and neither end is told"),
    "forget": Kind(
        "direction",
        (0, 0),
        (0, 0),
        "no existing connection between them carries anything; new ones do (NAT)",
    ),
    "half_open": Kind(
        "connection",
        (0, 0),
        (0, 1),
        "one end (1: the one that connected) has lost it, and the other end is not told",
    ),
    "mute": Kind(
        "connection",
        (0, 0),
        (0, 1),
        "one end (1: the one that connected) accepts everything and never answers",
    ),
    "partition": Kind("direction", (0.2, 3.0), (0, 0), "nothing passes either way"),
    "one_way": Kind("direction", (0.2, 3.0), (0, 0), "nothing passes in this direction"),
    "clog": Kind("direction", (0.05, 0.5), (0, 0), "what is sent does not move; connecting is possible"),
    "short_reads": Kind("host", (0.02, 0.5), (1, 8), "each recv gives `amount` bytes at most"),
    "short_writes": Kind("host", (0.02, 0.5), (1, 8), "each send takes `amount` bytes at most"),
    "full_buffers": Kind("host", (0.02, 0.5), (0, 0), "no send takes anything"),
    "refuse": Kind("host", (0.1, 2.0), (0, 0), "connections to it are refused"),
    "slow_accept": Kind("host", (0.1, 1.0), (0, 0), "nothing is accepted"),
    "resolve_failure": Kind("host", (0.1, 2.0), (0, 0), "no name resolves"),
    "resolve_change": Kind(
        "host", (0.1, 2.0), (1, 3), "names resolve to `amount` of their addresses, in turn"
    ),
    "kill": Kind("crashing", (0.05, 1.0), (0, 0), "the process is killed, and starts again afterwards"),
    "crash": Kind("crashing", (0.1, 2.0), (0, 0), "the machine loses power, and starts again afterwards"),
    "restart": Kind("crashing", (0.1, 3.0), (0, 0), "the process drains, and starts again afterwards"),
    "jump": Kind("host", (0, 0), (-60, 60), "the wall clock jumps; the monotonic one too, if forward"),
    "stall": Kind("host", (0.01, 0.8), (0, 0), "the process gets no CPU time"),
    "slow_consumer": Kind(
        "connection", (0.05, 1.0), (0, 1), "one end (1: the one that connected) reads nothing"
    ),
}


class Faults(msgspec.Struct, frozen=True):
    """Acts per simulated second, by kind. What each does is told by `KINDS`."""

    lag: float = 0.0
    reset: float = 0.0
    half_close: float = 0.0
    vanish: float = 0.0
    forget: float = 0.0
    half_open: float = 0.0
    mute: float = 0.0
    partition: float = 0.0
    one_way: float = 0.0
    clog: float = 0.0
    short_reads: float = 0.0
    short_writes: float = 0.0
    full_buffers: float = 0.0
    refuse: float = 0.0
    slow_accept: float = 0.0
    resolve_failure: float = 0.0
    resolve_change: float = 0.0
    kill: float = 0.0
    crash: float = 0.0
    restart: float = 0.0
    jump: float = 0.0
    stall: float = 0.0
    slow_consumer: float = 0.0

    def rates(self) -> dict[str, float]:
        """The rates that are not zero."""
        return {kind: rate for kind in KINDS if (rate := getattr(self, kind)) > 0}


CALM: Final = Faults()
ROUGH: Final = Faults(
    lag=2.0,
    reset=0.5,
    half_close=0.2,
    vanish=0.1,
    forget=0.05,
    half_open=0.05,
    mute=0.1,
    partition=0.05,
    one_way=0.05,
    clog=0.3,
    short_reads=0.2,
    short_writes=0.2,
    full_buffers=0.1,
    refuse=0.1,
    slow_accept=0.1,
    resolve_failure=0.05,
    resolve_change=0.05,
    kill=0.1,
    crash=0.05,
    restart=0.05,
    jump=0.05,
    stall=0.2,
    slow_consumer=0.2,
)
STORM: Final = Faults(**{kind: 5 * rate for kind, rate in ROUGH.rates().items()})
PRESETS: Final = {"calm": CALM, "rough": ROUGH, "storm": STORM}
