"""The machine: one state of a state machine, owned by a loop and known to others only by its token.

Rules:
1. Handlers never block and never call each other's machines; they return an outcome.
2. A wakeup carries no payload and is legal in every state, also when there is nothing to do.
3. Whatever a machine holds (sockets, files, replies it owes) it gives back in `stopped`, which is called
   exactly once, however it ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, Self, TypeVar, cast

from .outcomes import Continue, Outcome, Stop

if TYPE_CHECKING:
    from .scope import Scope

__all__ = ["Handle", "Itself", "Machine"]

Handle = TypeVar("Handle", covariant=True)
"""What `Loop.spawn` gives back for a kind of machine."""


class Machine(Generic[Handle]):
    """Derive from this and override the handlers you need. The type argument is what `spawn` returns."""

    __slots__ = ()

    drain_phase: ClassVar[int | None] = 0
    """When a draining loop asks: 0 for what serves, 1 for what that uses (pools), None for what another
    machine owns."""

    def start(self, scope: Scope) -> Outcome:
        """Called once, inside `spawn`. An exception here is raised to the spawner: nothing was spawned."""
        return Continue(self)

    def ready(self, scope: Scope, events: int) -> Outcome:
        """A descriptor that this machine registered is ready; `events` is a mask of `actors.kernel` flags."""
        return Continue(self)

    def wakeup(self, scope: Scope) -> Outcome:
        """Somebody woke this machine. There may be nothing to do."""
        return Continue(self)

    def timeout(self, scope: Scope) -> Outcome:
        """The deadline of the last outcome has passed."""
        return Continue(self)

    def draining(self, scope: Scope) -> Outcome:
        """The loop drains: take no new work, finish what is begun, then stop. By default stops at once."""
        return Stop()

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """The machine has ended. Release what it holds; `error` is None after a stop in good order."""

    def handle(self, scope: Scope) -> Handle:
        """What `Loop.spawn` returns: by default the token."""
        return cast(Handle, scope.token)


class Itself(Protocol):
    """A machine whose handle is the machine, for the type checker: a derived one is given as what it is."""

    def handle(self, scope: Scope) -> Self:
        """Itself."""
