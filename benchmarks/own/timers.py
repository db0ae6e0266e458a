"""Setting and moving a machine's deadline: microseconds of CPU for one.

    python -m benchmarks.own.timers difference|idle|moving COUNT

A deadline is part of an outcome, so it is measured as the difference of two wakeups: one whose outcome sets
the deadline 60 seconds ahead, one whose outcome changes nothing. Both may be looked at by themselves, too.
1,000 machines take turns, like connections.
"""

from __future__ import annotations

import sys
import time

from actors import NEVER, UNCHANGED, Loop, Machine, Outcome, Scope, Timeout

MACHINES = 1000


class Idle(Machine[Scope]):
    """A wakeup changes nothing: what a wakeup costs by itself."""

    __slots__ = ()

    def start(self, scope: Scope) -> Outcome:
        return Timeout(self, NEVER)

    def handle(self, scope: Scope) -> Scope:
        return scope

    def wakeup(self, scope: Scope) -> Outcome:
        return UNCHANGED


class Moving(Idle):
    """A wakeup pushes the deadline later, as a request does on a connection."""

    __slots__ = ()

    def wakeup(self, scope: Scope) -> Outcome:
        return Timeout(self, scope.loop.now + 60.0)


def spent(loop: Loop, scopes: list[Scope]) -> float:
    """Seconds of CPU that waking each of them once costs."""
    for scope in scopes:
        scope.wake()
    before = time.process_time()
    loop.tick()
    return time.process_time() - before


def main(what: str, count: int) -> float:
    """Seconds of CPU for `count` wakeups, or for the difference of so many."""
    loop = Loop()
    machines = Idle if what == "idle" else Moving
    scopes = [loop.spawn(machines()) for _ in range(MACHINES)]
    if what != "difference":
        return sum(spent(loop, scopes) for _ in range(count // MACHINES))
    idle = [loop.spawn(Idle()) for _ in range(MACHINES)]
    return sum(spent(loop, scopes) - spent(loop, idle) for _ in range(count // MACHINES))


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2])) / int(sys.argv[2]) * 1e6)
