"""A tree of supervisors whose workers fail: at any moment, in their start, again and again.

No worker ever runs twice at a time; one that others depend on runs before they do; what a supervisor has
started is gone when it is; a temporary worker is never started again; and once the trouble is over, every
permanent worker runs.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from actors import NEVER, Backoff, Child, Continue, Machine, Outcome, Scope, Stop, Supervisor, Timeout, sleep
from actors.simulation import Faults, Host, World, scenario

__all__ = ["Worker", "tree"]

SECONDS: Final = 4.0  # of trouble
LIVES: Final = 0.5  # seconds that a worker lives, on average
TOLERATED: Final = frozenset({"machine crashed", "supervisor gave up", "clean-up failed"})
LINE: Final = ("socket", "session", "reader", "writer")  # each depends on those before it
POOL: Final = {"steady": "permanent", "passing": "transient", "once": "temporary", "other": "permanent"}

FAULTS: Final = Faults(jump=0.5, stall=1.0, kill=0.2, crash=0.1)


class Trouble(Exception):
    """What workers fail with."""


class Family:
    """The children of one supervisor: which run, and which have run."""

    def __init__(self, world: World, name: str, names: tuple[str, ...], ordered: bool) -> None:
        self.world = world
        self.name = name
        self.names = names
        self.ordered = ordered
        self.alive: set[str] = set()
        self.ended: set[str] = set()  # for good: they may be missing
        self.starts: dict[str, int] = dict.fromkeys(names, 0)

    def must(self, condition: object, what: str) -> None:
        """Not an exception, which the supervisor would take for the worker's."""
        if not condition:
            self.world.fail(f"{self.name}: {what}")

    def enter(self, name: str) -> None:
        """A worker starts."""
        self.must(name not in self.alive, f"{name} is started while it runs")
        self.must(name not in self.ended, f"{name} has ended for good and is started again")
        if self.ordered:
            place = self.names.index(name)
            missing = set(self.names[:place]) - self.alive
            early = set(self.names[place + 1 :]) & self.alive
            self.must(not missing, f"{name} is started without {missing}, which it needs")
            self.must(not early, f"{name} is started after {early}, which need it")
        self.alive.add(name)
        self.starts[name] += 1

    def leave(self, name: str) -> None:
        """A worker has stopped."""
        self.must(name in self.alive, f"{name} has stopped twice")
        self.alive.discard(name)


class Worker(Machine[int]):
    """Lives for a while, then ends in one way or another."""

    def __init__(self, host: Host, family: Family, name: str, restart: str) -> None:
        self.host = host
        self.family = family
        self.name = name
        self.restart = restart
        self.random = host.world.random(f"{family.name} {name}")
        self.entered = False

    def __repr__(self) -> str:
        return f"<Worker {self.name} of {self.family.name}>"

    @property
    def quiet(self) -> bool:
        """Whether the trouble is over."""
        return self.host.world.now > SECONDS

    def start(self, scope: Scope) -> Outcome:
        """Perhaps it cannot."""
        self.family.enter(self.name)
        self.entered = True
        if not self.quiet and self.family.starts[self.name] > 1 and self.random.random() < 0.15:
            raise Trouble(f"{self.name} cannot start")
        return self._live(scope)

    def _live(self, scope: Scope) -> Outcome:
        return Continue(self) if self.quiet else Timeout(self, scope.now + self.random.expovariate(1 / LIVES))

    def wakeup(self, scope: Scope) -> Outcome:
        """Nothing of importance."""
        return self._live(scope)

    def timeout(self, scope: Scope) -> Outcome:
        """The end, or not yet."""
        end = self.random.random()
        if self.quiet or end < 0.3:
            scope.wake()
            return self._live(scope)
        if end < 0.6:
            raise Trouble(f"{self.name} has failed")
        if self.restart != "permanent" or end < 0.7:
            if self.restart != "permanent":
                self.family.ended.add(self.name)
            return Stop()
        return Stop(Trouble(f"{self.name} gives up"))

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """Whatever the reason."""
        if self.entered:
            self.family.leave(self.name)
            if self.restart == "temporary" or (self.restart == "transient" and error is None):
                self.family.ended.add(self.name)


class Branch:
    """Makes a supervisor with its workers, a new family each time."""

    def __init__(self, host: Host, name: str, restarts: dict[str, Any], ordered: bool) -> None:
        self.host = host
        self.name = name
        self.restarts = restarts
        self.ordered = ordered
        self.family: Family | None = None

    def __call__(self) -> Supervisor:
        world = self.host.world
        if self.family is not None:
            left = self.family.alive
            self.family.must(not left, f"is started again, and {left} of the previous one still run")
        self.family = family = Family(world, self.name, tuple(self.restarts), self.ordered)
        children = [
            Child(name, partial(Worker, self.host, family, name, restart), restart)
            for name, restart in self.restarts.items()
        ]
        random = world.random(f"branch {self.name}")
        return Supervisor(
            *children,
            strategy="rest_for_one" if self.ordered else "one_for_one",
            restarts_max=random.choice((2, 5, 50)),
            window=random.choice((0.5, 5.0)),
            backoff=Backoff(0.05, 0.5),
            name=self.name,
        )

    def complete(self) -> bool:
        """Whether every permanent worker runs."""
        permanent = {name for name, restart in self.restarts.items() if restart == "permanent"}
        return self.family is not None and permanent <= self.family.alive


async def complete(host: Host, branches: list[Branch]) -> None:
    """Until the trouble is over and every permanent worker runs."""
    while host.world.now < SECONDS or not all(branch.complete() for branch in branches):
        await sleep(0.1)


@scenario(seconds=SECONDS, faults=FAULTS)
def tree(world: World) -> None:
    """Supervisors of workers that fail; none runs twice, none without what it needs, all run in the end."""

    def boot(host: Host) -> None:
        line = Branch(host, "line", dict.fromkeys(LINE, "permanent"), True)
        pool = Branch(host, "pool", POOL, False)
        top = Supervisor(
            Child("line", line),
            Child("pool", pool),
            restarts_max=1000,
            window=NEVER,
            backoff=Backoff(0.01, 0.2),
            name="top",
        )
        host.loop.spawn(top)
        settled = host.loop.spawn(complete(host, [line, pool]))
        host.expect(settled, "every permanent worker runs", may_fail=False)

    world.host("service", boot, crashes=True, tolerates=TOLERATED)
