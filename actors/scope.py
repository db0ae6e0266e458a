"""The scope: what one machine sees of the loop, and what the loop knows of one machine.

There is one scope per machine, from its spawn to its stop; states may change (become), the scope stays. A
token is `generation << SLOT_BITS | slot`, so a token kept for too long names nobody instead of the slot's
next occupant.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .current import get_ident
from .errors import Misuse
from .machine import Machine
from .outcomes import NEVER

if TYPE_CHECKING:
    from .kernel import Kernel
    from .loop import Loop
    from .machine import Itself
    from .replies import Reply
    from .spec import Spec

__all__ = ["SLOT_BITS", "SLOT_MASK", "Scope", "Waker"]

SLOT_BITS = 24
SLOT_MASK = (1 << SLOT_BITS) - 1

H = TypeVar("H")
M = TypeVar("M", bound="Itself")
T = TypeVar("T")


class Waker:
    """What a waitable wakes when it has settled: a machine's scope, or the task of a host."""

    __slots__ = ()

    def wake(self) -> None:
        """Go on soon; never on the spot. Waking twice is waking once."""
        raise NotImplementedError


class Scope(Waker):
    """A machine's own view of its loop. Handlers get it as their first argument."""

    __slots__ = ("_closers", "deadline", "fd", "fds", "loop", "machine", "scheduled", "token", "woken")

    def __init__(self, loop: Loop, token: int, machine: Machine[Any]) -> None:
        self.loop = loop
        self.token = token
        self.machine: Machine[Any] | None = machine
        self.deadline = NEVER
        self.scheduled = NEVER  # when the timer heap next looks at this machine
        self.woken = False
        self.fd = -1  # a descriptor that it watches: nearly always the only one
        self.fds: set[int] | None = None  # the others
        self._closers: list[Callable[[BaseException | None], object]] | None = None

    def __lt__(self, other: Scope) -> bool:  # the timer heap's tie-break
        return self.token < other.token

    def __repr__(self) -> str:
        state = "stopped" if self.machine is None else type(self.machine).__name__
        due = "" if self.deadline == NEVER else f", deadline in {self.deadline - self.loop.now:.3f} s"
        return f"<Scope {self.token & SLOT_MASK}.{self.token >> SLOT_BITS} {state}{due}>"

    @property
    def now(self) -> float:
        """The time of this tick (monotonic seconds)."""
        return self.loop.now

    @property
    def kernel(self) -> Kernel:
        """Everything non-deterministic: sockets, clock, resolver, random numbers."""
        return self.loop.kernel

    @property
    def alive(self) -> bool:
        """Whether the machine has not stopped yet."""
        return self.machine is not None

    def wake(self) -> None:
        """Call the machine's `wakeup` soon; at most one wakeup is pending per machine.

        Raises `Misuse` in another thread than the one in which the loop runs, which would not notice.
        """
        if not self.woken:
            loop = self.loop
            if loop.runs_in and loop.runs_in != get_ident():
                raise Misuse(
                    "this loop runs in another thread, and only that thread may use its pools and machines; "
                    "share a "
                    "loop with threads by Loop.in_thread(), or call loop.notifier.wake(token)"
                )
            self.woken = True
            loop.woken.append(self)

    def make(self, spec: Spec[Any]) -> Machine[Any]:
        """The machine that a description describes, which has this scope from now on. Raises what its `make`
        raises, and `Misuse` if that returns anything but a machine."""
        machine = spec.make(self)
        if not isinstance(machine, Machine):
            raise Misuse(f"{type(spec).__name__}.make(scope) returned {machine!r}, which is not a machine")
        self.machine = machine
        return machine

    @overload
    def spawn(self, machine: Spec[H]) -> H: ...
    @overload
    def spawn(self, machine: M) -> M: ...
    @overload
    def spawn(self, machine: Machine[H]) -> H: ...
    @overload
    def spawn(self, machine: Coroutine[Any, Any, T]) -> Reply[T]: ...
    def spawn(self, machine: Any) -> Any:
        """`Loop.spawn`, from inside a handler."""
        return self.loop.spawn(machine)

    def register(self, fd: int, events: int) -> None:
        """Have `ready` called on these events (level-triggered) of a descriptor until `unregister` or the
        stop."""
        self.loop.register(self, fd, events)

    def modify(self, fd: int, events: int) -> None:
        """Change what is watched on a registered descriptor."""
        self.loop.poller.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Watch a descriptor no longer. Call before closing it."""
        self.loop.unregister(self, fd)

    def watches(self, fd: int) -> None:
        """For the loop: this descriptor is watched from now on."""
        if self.fd < 0:
            self.fd = fd
        elif self.fds is None:
            self.fds = {fd}
        else:
            self.fds.add(fd)

    def watches_no_longer(self, fd: int) -> None:
        """For the loop: this descriptor is not watched now."""
        if self.fd == fd:
            self.fd = -1
        elif self.fds is not None:
            self.fds.discard(fd)

    def forget_machine(self) -> None:
        """For the loop: it has stopped."""
        self.machine = None
        self.deadline = NEVER

    def on_stop(self, closer: Callable[[BaseException | None], object]) -> None:
        """Have `closer(error)` called when the machine has stopped, after its own `stopped`. It must not
        raise."""
        if self._closers is None:
            self._closers = [closer]
        else:
            self._closers.append(closer)

    def held(self) -> list[Any]:
        """What will be closed with the machine: the objects whose methods `on_stop` was given."""
        return [getattr(closer, "__self__", None) for closer in self._closers or ()]

    def take_closers(self) -> list[Callable[[BaseException | None], object]]:
        """What `on_stop` has gathered; the loop calls it once."""
        closers, self._closers = self._closers, None
        return closers or []
