"""Knobs: the internal constants that decide which path is taken, and the values that a simulation gives them.

A fault sits behind a threshold: a sweep that begins at 64 dead works, a memo that is full at 512 heads. Tests
that are small enough to be many never come there. So each such constant is told here, with values that bring
its other side near, and each run of a simulation draws some of them (`actors.simulation.knobs`).

Rules:
1. A constant stays a plain global of its module, `NAME: Final = value`, read where it is used each time. It
   costs nothing, and whoever runs no simulation never loads this table.
2. A package that has knobs has a module `knobs` with a tuple `KNOBS`, which begins with those of the packages
   that it stands on. It may tell one of these again, with what follows from it in the package itself.
3. Every value must be one with which all promises hold: it keeps the constant's floor. What follows from a
   constant (its importers' copies, a low watermark) is named with it, and turned together with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from .backoff import Backoff

__all__ = ["KNOBS", "Knob", "backoff", "same"]

Number = int | float


class Knob:
    """One constant, by its dotted name, and the values on either side of its own.

    `make`: the constant's value from the number, if it is not the number itself. `also`: what follows from
    it, by dotted names, each with a function of the number.
    """

    __slots__ = ("also", "large", "make", "name", "small")

    def __init__(
        self,
        name: str,
        small: tuple[Number, ...],
        large: tuple[Number, ...] = (),
        *,
        make: Callable[[Any], Any] | None = None,
        also: Mapping[str, Callable[[Any], Any]] | None = None,
    ) -> None:
        self.name = name
        self.small = small
        self.large = large
        self.make = make
        self.also = dict(also or {})

    def __repr__(self) -> str:
        return f"<Knob {self.name}, {self.small} or {self.large}>"

    @property
    def values(self) -> tuple[Number, ...]:
        """All but its own."""
        return self.small + self.large

    def merged(self, other: Knob) -> Knob:
        """This knob, with what follows from it where the other is told as well."""
        return Knob(self.name, self.small, self.large, make=self.make, also={**other.also, **self.also})

    def settings(self, number: Number) -> dict[str, Any]:
        """What is to be set for this number, by dotted name."""
        own = number if self.make is None else self.make(number)
        return {self.name: own, **{name: make(number) for name, make in self.also.items()}}


def same(number: Number) -> Number:
    """For `also`: a copy that another module has imported."""
    return number


def backoff(longest: float) -> Backoff:
    """For `make`: pauses up to this many seconds."""
    return Backoff(longest / 10, longest)


KNOBS: Final[tuple[Knob, ...]] = (
    Knob("actors.loop.ROUNDS_MAX", (1, 2), (1000,)),
    Knob("actors.loop.DEAD_LETTERS_KEPT", (0, 1), (10_000,)),
    Knob("actors.loop.POLL_MAX", (0.001, 1.0)),
    Knob("actors.flows.UNHEARD_SECONDS", (0.0, 0.1), (1000.0,)),
    Knob("actors.notifier.LATER_MAX", (1, 2)),
    Knob("actors.events.CAUSES_MAX", (0, 1), (1 << 20,)),
    Knob("actors.mailboxes.SWEEP_MIN", (0, 1), (4096,)),
    Knob("actors.timers.SWEEP_MIN", (0, 1, 8), (1 << 20,)),
    Knob("actors.net.listeners.ACCEPTS_MAX", (1, 2), (10_000,)),
    Knob(
        "actors.net.streams.READ_SIZE",
        (64, 1000),
        (1 << 20,),
        also={"actors.net.tls.READ_SIZE": same, "actors.net.tls_session.READ_SIZE": same},
    ),
    Knob("actors.net.streams.READ_AHEAD", (1, 100), (1 << 20,)),
    Knob("actors.net.streams.SEND_JOIN_MAX", (0, 10), (1 << 24,)),
    Knob("actors.net.streams.SEND_PIECES_MAX", (1, 2)),
    Knob("actors.net.streams.FLUSH_SECONDS", (0.05, 1.0), (35.0,)),
    Knob("actors.net.streams.LINGER_SECONDS", (0.01,), (10.0,)),
    Knob("actors.net.streams.LINGER_SECONDS_MAX", (0.01, 1.0), (35.0,)),
    Knob("actors.net.streams.LINGER_READS_MAX", (1,), (1000,)),
    Knob("actors.net.streams.DELIVERIES_MAX", (1, 2), (10_000,)),
    Knob(
        "actors.net.transports.HIGH_WATERMARK",
        (4, 4096),
        (1 << 24,),
        also={
            "actors.HIGH_WATERMARK": same,
            "actors.LOW_WATERMARK": lambda high: high // 4,
            "actors.net.transports.LOW_WATERMARK": lambda high: high // 4,
        },
    ),
)
