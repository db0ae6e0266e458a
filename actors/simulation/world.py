"""The world: hosts, a network between them, one clock, and everything that happens in the order of its time.

Rules:
1. Time jumps to the next event. What happens at the same time happens in the order in which it was scheduled.
2. A run has three parts: the faults, `heal`, and the rest, in which everything that is expected must come
   true within a bounded time. Then the hosts drain, and must leave nothing behind.
3. The first thing that is wrong ends the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final

from actors.current import enter_loop
from actors.loop import Loop
from actors.outcomes import NEVER

from .decisions import Decisions
from .errors import Broken
from .faults import CALM, Act, Faults
from .hosts import Host, Program
from .injector import Injector
from .kernel import SimulatedKernel
from .network import Network
from .trace import Trace

if TYPE_CHECKING:
    import random

__all__ = ["World"]

SLICE_SECONDS: Final = 0.02  # of simulated time, between two looks whether everything has come true
SETTLE_SECONDS: Final = 30.0
DRAIN_SECONDS: Final = 60.0
BUFFERS: Final = (1 << 16, 1 << 16)


class World:
    """A simulated world. `script`: acts to be carried out instead of those that `faults` would draw."""

    def __init__(self, seed: int = 0, faults: Faults = CALM, script: list[Act] | None = None) -> None:
        self.now = 0.0  # seconds since it began
        self.decisions = Decisions(seed)
        self.trace = Trace()
        self.network = Network(self)
        self.hosts: dict[str, Host] = {}
        self.expected = 0  # replies, so far
        self.outcomes: Counter[str] = Counter()
        self.events = 0
        self.over = False
        self.ticking = False  # inside of a host's tick
        self.failure: Broken | None = None
        self.fallen: list[Loop] = []  # of hosts that are down, or were
        self.injector = Injector(self, faults, script)
        self._events: list[tuple[float, int, Callable[[Any], object], Any]] = []
        self._number = 0
        self._checks: list[Callable[[], object]] = []
        self._conditions: list[tuple[str, Callable[[], object]]] = []
        self._at_rest: list[Callable[[], object]] = []

    def __repr__(self) -> str:
        return f"<World of seed {self.decisions.seed} at {self.now:.6f}, {len(self.hosts)} hosts>"

    # -- for scenarios ---------------------------------------------------------------------------------------

    def host(
        self,
        name: str,
        program: Program,
        *,
        crashes: bool = False,
        tolerates: frozenset[str] | set[str] = frozenset(),
        buffers: tuple[int, int] = BUFFERS,
    ) -> Host:
        """A host that `program(host)` boots: now, and again whenever it has fallen. Its name resolves to its
        address.

        `crashes`: whether faults may kill it. `tolerates`: events that it may log as errors. `buffers`: bytes
        that each of its sockets holds to be sent and to be read.
        """
        if name in self.hosts or not name or set(name) & set(">#"):
            raise ValueError(f"host {name!r}: write a name of its own, without '>' and '#'")
        host = self.hosts[name] = Host(self, name, program, crashes, frozenset(tolerates), buffers)
        host.boot()
        return host

    def random(self, name: str) -> random.Random:
        """A stream of random numbers of this name, for what the scenario itself decides."""
        return self.decisions.stream(f"scenario {name}")

    def at(self, seconds: float, function: Callable[[], object]) -> None:
        """Call `function` at this time of the world."""
        self.schedule(max(seconds, self.now), self._call, function)

    def act(self, kind: str, where: str, seconds: float = 0.0, amount: float = 0.0) -> bool:
        """A fault, now: see `KINDS`. Returns whether there was something that it could hit. Out of a host's
        own program it comes right after the tick, and nobody can know."""
        act = Act(self.now, kind, where, seconds, amount)
        if self.ticking:
            self.schedule(self.now, self.injector.carry_out, act)
            return True
        return self.injector.carry_out(act)

    def always(self, check: Callable[[], object]) -> None:
        """Have `check` called after each tick of any host. It raises `Broken`, or `AssertionError`, if
        something is wrong."""
        self._checks.append(check)

    def eventually(self, what: str, condition: Callable[[], object]) -> None:
        """`condition()` must become true within bounded time after the network was healed."""
        self._conditions.append((what, condition))

    def at_rest(self, check: Callable[[], object]) -> None:
        """Have `check` called once, when everything expected has come true and before the hosts drain."""
        self._at_rest.append(check)

    def check(self, condition: object, what: str) -> None:
        """Raise `Broken` if it is not so."""
        if not condition:
            raise Broken(what)

    def fail(self, what: str, stack: str = "") -> None:
        """Something is wrong: the run ends with the event that is under way. For callbacks, which must not
        raise."""
        if self.failure is None and not self.over:
            self.failure = Broken(f"{what}\n{stack}" if stack else what)

    def note(self, text: str) -> None:
        """A line for the trace."""
        self.trace.add(f"{self.now:.6f} {text}")

    def count(self, outcome: str) -> None:
        """Count what became of something, for the summary."""
        self.outcomes[outcome] += 1

    # -- events ----------------------------------------------------------------------------------------------

    def schedule(self, when: float, function: Callable[[Any], object], argument: Any) -> None:
        """Have `function(argument)` called at a time."""
        self._number += 1
        heappush(self._events, (when, self._number, function, argument))

    def _call(self, function: Callable[[], object]) -> None:
        function()
        self.wake_hosts()

    def wake_hosts(self) -> None:
        """Somebody from outside may have given them something to do."""
        for host in self.hosts.values():
            host.runnable()

    def look(self) -> None:
        """After a tick: everything that must always hold."""
        for check in self._checks:
            check()

    def run(self, seconds: float) -> None:
        """Let time pass. Raises `Broken`, or whatever a host's program raised."""
        self.wake_hosts()
        self._run_until(self.now + seconds)

    def _run_until(self, until: float) -> None:
        events = self._events
        while events and events[0][0] <= until:
            self.now = events[0][0]
            self._next_event()
        self.now = until

    def _next_event(self) -> None:
        _, _, function, argument = heappop(self._events)
        self.events += 1
        function(argument)
        if self.failure is not None:
            raise self.failure

    def kernel(self, host: Host) -> SimulatedKernel:
        """What a host boots on."""
        return SimulatedKernel(host)

    # -- the three parts -------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Every fault is over, who is down comes up, and no further ones happen."""
        self.note("healed")
        self.injector.stop()
        for host in self.hosts.values():
            host.rise()

    def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Run until everything expected has come true. Raises `Broken` if it takes longer than `seconds`."""
        until = self.now + seconds
        while missing := self.missing():
            if self.now >= until:
                listed = "; ".join(missing[:5]) + (
                    f" and {len(missing) - 5} more" if len(missing) > 5 else ""
                )
                raise Broken(f"{seconds:g} s after the network was healed it is still not so: {listed}")
            self._run_until(min(until, self.now + SLICE_SECONDS))
        for host in self.hosts.values():
            host.promises.look()
        if self.failure is not None:
            raise self.failure
        for check in self._at_rest:
            check()

    def missing(self) -> list[str]:
        """What has not come true yet."""
        missing = [what for what, condition in self._conditions if not condition()]
        for host in self.hosts.values():
            missing += [f"{host.name}: {what} has settled" for what in host.unsettled]
        return missing

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Every host drains, all at once. Raises `Broken` if machines, connections or files are left."""
        self.note("drains")
        hosts = [host for host in self.hosts.values() if host.up]
        for host in hosts:
            host.loop.drain(seconds + 1.0)
            host.runnable()
        until = self.now + seconds
        while any(host.loop.machines for host in hosts):
            if self.now >= until:
                left = [f"{host.name}: {scope.machine!r}" for host in hosts for scope in host.loop.living()]
                raise Broken(f"{seconds:g} s after it began to drain there is still {'; '.join(left[:5])}")
            self._run_until(min(until, self.now + SLICE_SECONDS))
        for host in hosts:
            things = list(host.kernel.things.values())[1:]  # the first is the notifier's
            if things or host.kernel.files:
                raise Broken(f"{host.name} has leaked {things[:5]} and {host.kernel.files} temporary files")

    def close(self) -> None:
        """The end of the world: what is left is stopped, and nobody looks any more."""
        self.over = True
        for host in self.hosts.values():
            host.promises.close()
        before = enter_loop(None)
        try:
            for loop in [*self.fallen, *(host.loop for host in self.hosts.values() if host.up)]:
                loop.close()
        finally:
            enter_loop(before if before is None or not before.closed else None)
        self._events.clear()

    @property
    def acts(self) -> list[Act]:
        """The faults so far that have hit something."""
        return self.injector.acts

    @property
    def next_event(self) -> float:
        """When something happens next."""
        return self._events[0][0] if self._events else NEVER
