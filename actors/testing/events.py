"""Events as data: what can happen to a driven machine, to be listed, generated, cut and shown.

An event is a method of `Driver` with its arguments, and shows itself as that call; so a list of them reads as
the line of a test: `Driver(make()).receive(b"GET").wake().expire()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from actors.outcomes import NEVER

if TYPE_CHECKING:
    from .driver import Driver

__all__ = [
    "DRAIN",
    "END",
    "EXPIRE",
    "RESET",
    "STOP",
    "WAKE",
    "Event",
    "advance",
    "chain",
    "do",
    "receive",
    "room",
    "trickle",
]


class Event(msgspec.Struct, frozen=True):
    """One event: a method of `Driver`, and what it is called with."""

    method: str
    arguments: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        shown = [getattr(part, "__name__", None) or repr(part) for part in self.arguments]
        return f".{self.method}({', '.join(shown)})"

    def happen(self, driver: Driver) -> None:
        """Give it to a driver. To let a deadline pass where there is none means nothing."""
        if self.method != "expire" or driver.deadline != NEVER:
            getattr(driver, self.method)(*self.arguments)


END: Final = Event("end")
RESET: Final = Event("reset")
WAKE: Final = Event("wake")
EXPIRE: Final = Event("expire")
DRAIN: Final = Event("drain")
STOP: Final = Event("stop")


def receive(data: bytes) -> Event:
    """The peer sends."""
    return Event("receive", (data,))


def advance(seconds: float) -> Event:
    """Time passes."""
    return Event("advance", (seconds,))


def room(count: int | None) -> Event:
    """From now on the peer takes so many bytes more; None: all."""
    return Event("room", (count,))


def trickle(size: int = 1) -> Event:
    """The peer takes all that there is, so many bytes at a time; then as they come."""
    return Event("trickle", (size,))


def do(function: Callable[[Driver], object]) -> Event:
    """Anything else: a message to the machine's mailbox, say. It is called with the driver."""
    return Event("do", (function,))


def chain(events: Sequence[Event]) -> str:
    """The events as they stand in a test."""
    return "".join(map(repr, events))
