"""The table of machines: a slot for each, and the machine that a token names.

Rules:
1. A token is a generation and a slot (`actors.scope`). A slot's generation grows when it is given back, so a
   token that was kept for too long names no machine instead of the slot's next one.
2. The slot that has been free for longest is taken first, and not before some are free: so generations grow
   slowly.
3. The table is bounded, and says so with `LoopFull`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from .errors import LoopFull
from .scope import SLOT_BITS, SLOT_MASK, Scope

if TYPE_CHECKING:
    from .loop import Loop
    from .machine import Machine

__all__ = ["TokenTable"]

FREE_MIN: Final = 16  # slots that rest, so that a token is not soon another's but for its generation


class TokenTable:
    """At most `limit` machines at a time. `taken` and `released` count the slots so far; `machines` is how
    many there are now, without that of the first slot, which is the loop's own."""

    __slots__ = ("_free", "_generations", "_scopes", "limit", "machines", "released", "taken")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self.released = 0
        self.machines = 0
        self._scopes: list[Scope | None] = []
        self._generations: list[int] = []
        self._free: deque[int] = deque()

    def __repr__(self) -> str:
        return f"<TokenTable {self.taken - self.released}/{self.limit} slots taken>"

    def take(self, loop: Loop, machine: Machine[Any]) -> Scope:
        """A scope for a machine. Raises `LoopFull` if no slot is free."""
        scopes = self._scopes
        if len(self._free) > FREE_MIN or (self._free and len(scopes) >= self.limit):
            slot = self._free.popleft()
        elif len(scopes) < self.limit:
            slot = len(scopes)
            scopes.append(None)
            self._generations.append(0)
        else:
            raise LoopFull(
                f"all {self.limit - 1} slots are taken; raise Loop(slots=…) or spawn fewer at a time"
            )
        scope = Scope(loop, self._generations[slot] << SLOT_BITS | slot, machine)
        scopes[slot] = scope
        self.taken += 1
        self.machines += slot > 0
        return scope

    def release(self, scope: Scope) -> None:
        """The machine has stopped; its token names no machine from now on."""
        slot = scope.token & SLOT_MASK
        self._scopes[slot] = None
        self._generations[slot] += 1
        self._free.append(slot)
        self.released += 1
        self.machines -= slot > 0

    def find(self, token: int) -> Scope | None:
        """The scope with this token; None if its machine has stopped."""
        slot = token & SLOT_MASK
        scope = self._scopes[slot] if slot < len(self._scopes) else None
        return scope if scope is not None and scope.token == token else None

    def __iter__(self) -> Iterator[Scope]:
        """Those of all machines, by their slots."""
        return (scope for scope in list(self._scopes) if scope is not None)
