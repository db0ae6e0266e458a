"""A drain: in which order the machines of a loop are asked to finish.

Rules:
1. The lowest phase that is left is asked first (`Machine.drain_phase`); the next one when none of it lives.
2. Machines of phase None are asked by nobody; when only they are left, the drain is over.
3. What a tick costs does not grow with the machines: each is put down once, when the drain begins or when it
   is spawned, and looked at again only when it is the last of its phase. All are looked at only when a phase
   seems to be empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .outcomes import NEVER
from .scope import Scope

__all__ = ["Drain", "DrainDeadline"]


class DrainDeadline(TimeoutError):
    """The time to drain was over before this machine had finished."""


class Drain:
    """Who has been asked to finish, and who has not."""

    __slots__ = ("_asked", "_begun", "_living", "_unasked", "patience", "until")

    def __init__(self, living: Callable[[], Iterable[Scope]]) -> None:
        self._living = living
        self._unasked: dict[int, list[Scope]] = {}  # by phase
        self._asked: dict[int, list[Scope]] = {}  # likewise; some of them have stopped since
        self._begun = False
        self.until = NEVER  # when what is left is stopped where it is (monotonic seconds)
        self.patience = 0.0  # seconds for which an idle connection may still bring a request
        self._look()

    def __repr__(self) -> str:
        return f"<Drain {sum(map(len, self._asked.values()))} asked>"

    def grant(self, until: float, patience: float) -> None:
        """It may go on until then."""
        self.until = until
        self.patience = patience

    def begins(self) -> bool:
        """Whether this is the first turn of it."""
        first, self._begun = not self._begun, True
        return first

    def spawned(self, scope: Scope) -> None:
        """A machine was spawned meanwhile: its turn comes, too."""
        phase = phase_of(scope)
        if phase is not None:
            self._unasked.setdefault(phase, []).append(scope)

    def next(self) -> list[Scope] | None:
        """The machines to be asked now; none while those that were asked have not finished. None: all
        have."""
        while self._unasked or self._asked or self._look():
            for phase in sorted({*self._unasked, *self._asked}):
                new = self._of_phase(phase, self._unasked)
                if new:
                    self._asked.setdefault(phase, []).extend(new)
                    return new
                if self._waits_for(phase):
                    return []
        return None

    def _of_phase(self, phase: int, listed: dict[int, list[Scope]]) -> list[Scope]:
        return [scope for scope in listed.pop(phase, ()) if self._stands(scope, phase, listed)]

    def _waits_for(self, phase: int) -> bool:
        """Whether one of this phase that was asked still lives."""
        asked = self._asked.get(phase, [])
        while asked:
            if self._stands(asked[-1], phase, self._asked):
                return True
            asked.pop()
        self._asked.pop(phase, None)
        return False

    def _stands(self, scope: Scope, phase: int, listed: dict[int, list[Scope]]) -> bool:
        """Whether it lives, in this phase; a machine that has become another is put down under its new
        one."""
        now = phase_of(scope)
        if now is not None and now != phase:
            listed.setdefault(now, []).append(scope)
        return now == phase

    def _look(self) -> bool:
        for scope in self._living():
            self.spawned(scope)
        return bool(self._unasked)


def phase_of(scope: Scope) -> int | None:
    """The phase that a machine is in; None for one that has stopped."""
    return None if scope.machine is None else scope.machine.drain_phase
