"""Simulated hosts: a loop each, on a kernel of its own, with a program that boots it.

Rules:
1. The loop is the unmodified one. A host ticks when its poller has something, when the loop's next deadline
   has come, or when the loop has more to do at once; a tick takes some simulated time, so that nobody is busy
   for ever at one moment.
2. After each tick the checks that were given to `always` are made, and every few ticks those of the loop
   itself (`check_loop`). An event that the loop logs as an error fails the run.
3. A host that is killed or has crashed forgets everything but `disk`. Its program boots it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from actors.current import enter_loop
from actors.loop import Loop
from actors.mailboxes import Mailbox
from actors.outcomes import NEVER
from actors.replies import Reply
from actors.testing.promises import UNSAID, MayFail, Promise, Promises

from .errors import Broken

if TYPE_CHECKING:
    from .kernel import SimulatedKernel
    from .world import World

__all__ = ["Host", "Program"]

T = TypeVar("T")

TICK_SECONDS: Final = 0.00002  # that a tick takes at least
LATE_SECONDS: Final = 1e-6  # by which a deadline may be met late, so that rounding cannot stop the clock
TICKS_MAX: Final = 1_000  # in a tenth of a simulated second, with nothing moved: more is a loop that spins
LATE_MAX: Final = 0.005  # seconds, by which what must settle in time may be late
LOOK_TICKS: Final = 8  # between two looks at all timers of a loop


class HostLog:
    """Takes a host's events into the trace; an error fails the run."""

    __slots__ = ("_host",)

    def __init__(self, host: Host) -> None:
        self._host = host

    def bind(self, **fields: Any) -> HostLog:
        """The trace names the host already."""
        return self

    def info(self, event: str, **fields: Any) -> None:
        """Something ordinary."""
        self._host.world.note(f"{self._host.name}: {event}")

    def warning(self, event: str, **fields: Any) -> None:
        """Something the program copes with."""
        self._host.world.note(f"{self._host.name}: {event}")

    def error(self, event: str, **fields: Any) -> None:
        """Something that must not happen."""
        self._host.world.note(f"{self._host.name}: error: {event}")
        if event not in self._host.tolerates:
            told = ", ".join(f"{name} {value}" for name, value in fields.items() if name != "stack")
            self._host.world.fail(f"{self._host.name}: {event}: {told}", fields.get("stack", ""))


class Host:
    """One machine of the simulated world. Made by `World.host`."""

    def __init__(
        self,
        world: World,
        name: str,
        program: Program,
        crashes: bool,
        tolerates: frozenset[str],
        buffers: tuple[int, int],
    ) -> None:
        self.world = world
        self.name = name
        self.program = program
        self.crashes = crashes
        self.tolerates = tolerates
        self.send_buffer, self.receive_buffer = buffers
        self.disk: dict[str, Any] = {}
        self.address = world.network.add(self)
        clocks = world.decisions.stream(f"clock {name}")
        self.clock = round(clocks.uniform(0.0, 1e5), 3)  # seconds ahead of the world's time
        self.wall = round(clocks.uniform(-0.2, 0.2), 3)
        self.up = False
        self.boots = self.ticks = 0
        self.stalled_until = 0.0
        self.kernel: SimulatedKernel
        self.loop: Loop
        self._checks: list[Callable[[], object]] = []
        self.promises = Promises()  # of this boot
        self._tick_at = NEVER
        self._busy_until = 0.0
        self._ticking = False
        self._counted_from, self._counted = 0.0, 0

    def __repr__(self) -> str:
        state = f"up, {self.loop!r}" if self.up else "down"
        return f"<Host {self.name} {self.address} {state}>"

    # -- for programs and checks -----------------------------------------------------------------------------

    def always(self, check: Callable[[], object]) -> None:
        """Have `check` called after each tick of this boot of the host. It raises `Broken`, or
        `AssertionError`, if something is wrong."""
        self._checks.append(check)

    def expect(
        self,
        reply: Reply[T],
        what: str,
        check: Callable[[T], object] | None = None,
        *,
        value: T = UNSAID,
        kind: type | None = None,
        within: float = NEVER,
        may_fail: MayFail = True,
    ) -> Reply[T]:
        """The reply must settle exactly once, at the latest after the network was healed.

        `check`, `value`, `kind` and `may_fail` are those of `actors.testing.Promises.expect`. `within`:
        seconds of the world in which it must settle come what may, but for the time that this host stands
        still. While the host drains, an error that the network can cause will do in any case. What is wrong
        fails the run, an error with its traceback.
        """
        promise = Promise(self.promises, reply, what, NEVER, check, value, kind, may_fail)
        self.world.expected += 1
        if within != NEVER:
            self.world.schedule(self.world.now + within + LATE_MAX, self._overdue, promise)
        self.promises.keep(promise)
        return reply

    @property
    def unsettled(self) -> list[str]:
        """What is expected and not there yet."""
        return self.promises.pending

    # -- for the world ---------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start the program on a new kernel and a new loop."""
        self.up = True
        self.boots += 1
        self._checks = []
        self._counted = self.ticks
        self.promises.close()
        self.promises = Promises(
            lambda: self.world.now,
            tell=self._wrong,
            lenient=lambda: self.loop.draining,
            outcomes=self.world.outcomes,
        )
        self.world.note(f"{self.name}: boots")
        before = enter_loop(None)
        try:
            self.kernel = self.world.kernel(self)
            self.loop = Loop(kernel=self.kernel)
            self.loop.log.send_to(HostLog(self))
            self.program(self)
        finally:
            enter_loop(before)
        self.runnable()

    def fall(self, *, power: bool) -> None:
        """The process is killed, or the machine loses its power."""
        self.up = False
        self.world.note(f"{self.name}: {'loses its power' if power else 'is killed'}")
        if power:
            self.kernel.power_off()
        else:
            self.kernel.kill()
        self.world.fallen.append(self.loop)
        self.promises.close()
        self._tick_at = NEVER

    def rise(self) -> None:
        """Boot again, if it is down."""
        if not self.up:
            self.boot()
            self.world.network.restarted(self)

    def runnable(self) -> None:
        """There is something to do."""
        if self.up and not self._ticking:
            self._tick_by(self.world.now)

    def _tick_by(self, when: float) -> None:
        when = max(when, self._busy_until, self.stalled_until)
        if when < self._tick_at:
            self._tick_at = when
            self.world.schedule(when, self._tick, when)

    def _tick(self, when: float) -> None:
        if when != self._tick_at:
            return  # another one was sooner, or the host has fallen
        self._tick_at = NEVER
        world = self.world
        if self.stalled_until > world.now:
            self._tick_by(self.stalled_until)
            return
        loop = self.loop
        self._ticking = world.ticking = True
        try:
            loop.tick(0)
        finally:
            self._ticking = world.ticking = False
        self.ticks += 1
        world.trace.add(f"{world.now:.6f} {self.name}")
        self._busy_until = world.now + TICK_SECONDS
        self._look()
        if loop.woken or loop.dirty or self.kernel.polled.ready:
            self._tick_by(world.now)
        else:
            deadline = loop.next_deadline
            if deadline != NEVER:
                self._tick_by(deadline - self.clock + LATE_SECONDS)

    def _look(self) -> None:
        for check in self._checks:
            check()
        self.world.look()
        if self.ticks % LOOK_TICKS == 0:
            check_loop(self.loop, self.name)
            now = self.world.now
            idle = self.ticks - self.kernel.moves
            if now - self._counted_from > 0.1:
                self._counted_from, self._counted = now, idle
            elif idle - self._counted > TICKS_MAX:
                raise Broken(f"{self.name} spins: {TICKS_MAX} ticks in a tenth of a second: {self.loop!r}")

    def _overdue(self, promise: Promise) -> None:
        if self.promises.is_open(promise):
            if self.stalled_until + LATE_MAX < self.world.now:
                raise Broken(f"{self.name}: {promise.what} is late: it should have settled by now")
            self.world.schedule(self.stalled_until + 2 * LATE_MAX, self._overdue, promise)

    def _wrong(self, what: str, stack: str) -> None:
        self.world.fail(f"{self.name}: {what}", stack)

    def clock_changed(self) -> None:
        """Its monotonic clock has jumped: deadlines may have come."""
        self._tick_at = NEVER
        self.runnable()


Program = Callable[[Host], object]
"""What boots a host: it spawns machines on `host.loop`."""


def check_loop(loop: Loop, name: str) -> None:
    """No timer is left of a machine that has stopped, none is lost, and no mailbox is over its capacity.
    Raises `Broken`."""
    for _, scope in loop.timers.heap:
        if scope.machine is None and scope.deadline != NEVER:
            raise Broken(f"{name}: a timer is left of a machine that has stopped: {scope!r}")
    for scope in loop.living():
        if scope.deadline < scope.scheduled:
            raise Broken(f"{name}: nothing will look at the deadline of {scope.machine!r}")
        for owner in scope.held():
            if isinstance(owner, Mailbox) and len(owner) > owner.capacity:
                raise Broken(f"{name}: {owner!r} of {scope.machine!r} holds more than it may")
