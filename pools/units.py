"""Units of work: data that says what is to be done, never how far it is.

A protocol package derives its units from `Unit`: anything immutable will do (a class with `__slots__`, a
frozen struct). The type argument is what the answer is. How far a unit has come lives in its `Work`, which is
also the reply that the asker holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from actors import Misuse, Reply
from actors.callbacks import one_turn

from .errors import Cancelled, DeadlineExceeded, Stage
from .kinds import Answer, Answering, KindOf
from .ledger import Entry, Ledger

if TYPE_CHECKING:
    from .wires import Wire

__all__ = [
    "ABANDONED",
    "EXCHANGE",
    "QUEUED",
    "SENT",
    "Unit",
    "Work",
    "WorkOwner",
    "named",
    "no_unit",
    "not_sent",
    "too_late",
]

T = TypeVar("T")

QUEUED: Final = 0  # `Work.stage`: in the pool's queue, or settled from there
SENT: Final = 1  # in a connection's FIFO
ABANDONED: Final = 2  # likewise, but nobody waits for the answer: an orphan
EXCHANGE: Final = 3  # in a connection's FIFO as a part of a unit of several exchanges


class WorkOwner(Protocol):
    """Who has a work: the pool that queues it, then the connection that has sent it."""

    ledger: Ledger
    """Where the works that it makes are counted."""

    def left(self, work: Work[Any]) -> None:
        """The work has just failed, and nobody knows yet: on the books it is no longer waiting."""

    def cancelled(self, work: Work[Any]) -> None:
        """The asker has cancelled; the work has settled."""


class Unit(Answering[Answer, KindOf]):
    """One piece of work. Override the attributes on the class or per instance (slot, field, property)."""

    __slots__ = ()

    idempotent: bool = False
    """Whether doing it twice is the same as doing it once: only then is it sent again after a connection
    died.
    """

    pipelinable: bool = True
    """Whether it may share a connection with others in flight; if not, it gets a connection to itself."""

    size: int = 0
    """About how many bytes it holds while it waits (for `pools.pool(queue_bytes=…)`)."""

    key: Any = None
    """What routing goes by, where a pool routes."""

    detour: Callable[[Any, float | None, int], Reply[Answer] | None] | None = None
    """How it is submitted (to this pool, with this timeout and priority), where it does not go straight into
    the pool's queue. Where this returns None, it does after all.
    """

    def dropped(self) -> None:
        """It has failed before it was handed to a connection: end what feeds it."""


class Work(Entry[T]):
    """A unit on its way, and the reply to it: one object, for there is one of each per unit.

    A wire reads `unit`, `settled` (nobody waits any more: drop the answer unread) and `deadline`; it answers
    through its connection.
    """

    __slots__ = ("attempts", "number", "owner", "priority", "since", "stage", "unit", "wire_bytes")

    def __init__(
        self, owner: WorkOwner, unit: Unit[T], deadline: float, priority: int = 0, now: float = 0.0
    ) -> None:
        self.pending = True  # as Reply.__init__, written out: this is made for every unit
        self._error = None
        self._waiters = None
        self._on_cancel = None
        self.deadline = deadline
        self.unit: Any = unit  # of what kind, its wire knows
        self.owner = owner
        self.priority = priority
        self.stage = QUEUED
        self.attempts = 0  # how often it was sent
        self.wire_bytes = -1  # what `send` wrote, to tell at the end whether it left; -1: unknown
        self.since = now  # when it was submitted (monotonic seconds)
        self.ledger = ledger = owner.ledger  # as Entry.enter
        ledger.submitted = self.number = ledger.submitted + 1

    def __repr__(self) -> str:
        stage = ("queued", "sent", "abandoned", "exchange")[self.stage]
        return (
            f"<{type(self).__name__} {type(self.unit).__name__} {stage}{'' if self.pending else ', settled'}>"
        )

    def become(self, unit: Unit[T]) -> None:
        """Be sent as this unit from now on. Its answer is the same."""
        self.unit = unit

    def queue_again(self, owner: WorkOwner) -> None:
        """It is with its pool again, and nothing of it is written."""
        self.owner = owner
        self.stage = QUEUED
        self.wire_bytes = -1

    def left(self) -> None:
        """Out of the queue, or an orphan on its connection from now on."""
        self.owner.left(self)

    def cancel(self, error: BaseException | None = None) -> bool:
        """Lose interest. Queued, the unit is removed; sent, its answer is read and dropped. False if it had
        settled before.
        """
        with one_turn():
            if not self.fail(error or Cancelled("the unit was cancelled by its caller")):
                return False
            self._tell_hooks()
            self.owner.cancelled(self)
            return True


def named(unit: Any) -> str:
    """A unit's repr, at most 200 characters of it; its class's name if it has none that works."""
    try:
        return repr(unit)[:200]
    except Exception:
        return f"<{type(unit).__name__}>"


def too_late(
    unit: Any, seconds: float, what: str, stage: Stage, pool: str, backend: str = ""
) -> DeadlineExceeded:
    """What a unit gets whose deadline has passed after `seconds`: what has not happened by then."""
    name, seconds = named(unit), max(0.0, seconds)
    where = f"pool {pool}, backend {backend}" if backend and backend != pool else f"pool {pool}"
    outcome = "it may have been executed" if stage == "sent" else "it was not sent"
    return DeadlineExceeded(
        f"{what} before the deadline, for {seconds:.3g} s: {name} ({where}, stage {stage}); {outcome}",
        stage,
        pool=pool,
        backend=backend,
        unit=name,
        seconds=seconds,
    )


def not_sent(unit: Any, error: Exception, wire: Wire, pool_name: str) -> Exception:
    """What a unit gets that a wire could not send: what went wrong, unless it is of another protocol."""
    if isinstance(unit, wire.takes):
        error.add_note(f"{type(wire).__name__}.send could not send {named(unit)}; nothing of it was executed")
        return error
    kinds = wire.takes if isinstance(wire.takes, tuple) else (wire.takes,)
    names = " or ".join(kind.__name__ for kind in kinds)
    wrong = Misuse(
        f"{named(unit)} is a {type(unit).__name__}, and the pool of {pool_name} takes {names}; "
        "submit it to a pool of its own protocol"
    )
    wrong.__cause__ = error
    return wrong


def no_unit(value: Any) -> Misuse:
    """What whoever submits something else than a unit gets."""
    return Misuse(
        f"{named(value)} is a {type(value).__name__}, not a unit of work; submit what a function of the "
        "protocol makes, such as http.get('/x') or redis.get('k')"
    )
