"""What a handler returns: how the machine goes on, and when it wants to be woken.

Rules:
1. A handler returns exactly one outcome. Nothing else changes a machine's state or its deadline.
2. `machine` is the state to go on as: `self`, or another object (the field's "become").
3. The deadline of an outcome replaces the one before; `Continue` clears it. So no timer can leak. Only
   `UNCHANGED` keeps it.
4. `value` means what the layer says: for a bare machine it is a machine to spawn; for a stream protocol it
   is what to expect next.

The idea is that of rotor (https://github.com/tailhook/rotor), whose handlers return a `Response`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

__all__ = ["NEVER", "UNCHANGED", "Continue", "Outcome", "Stop", "Timeout", "Unchanged"]

NEVER: Final = float("inf")
"""The deadline that never comes."""


class Continue(msgspec.Struct, frozen=True):
    """Go on as `machine`, without a deadline."""

    machine: Any
    value: Any = None

    deadline: ClassVar[float] = NEVER


class Timeout(msgspec.Struct, frozen=True):
    """Go on as `machine`, and call its `timeout` at `deadline` (absolute, monotonic seconds)."""

    machine: Any
    deadline: float
    value: Any = None


class Stop(msgspec.Struct, frozen=True):
    """The machine ends: in good order, or because of `error`."""

    error: BaseException | None = None

    machine: ClassVar[None] = None
    deadline: ClassVar[float] = NEVER
    value: ClassVar[None] = None


class Unchanged(msgspec.Struct, frozen=True):
    """Go on exactly as before, the deadline included: for a wakeup or an event that means nothing in this
    state."""

    machine: ClassVar[None] = None
    deadline: ClassVar[float] = NEVER
    value: ClassVar[None] = None


UNCHANGED: Final = Unchanged()

Outcome = Continue | Timeout | Stop | Unchanged
