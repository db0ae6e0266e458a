"""Deadlines that a program sets: `with deadline(seconds):` and `with_deadline(reply, seconds)`.

Inside a tick a deadline belongs to the flow or handler that runs, and the loop knows it. Outside of ticks it
is the context's, whatever loops the thread has made: what is asked of a loop in another thread ends by it,
too. A loop of this thread's own that is not ticking is told as well, for its clock may be another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from .current import current_loop, loop_here, outside_deadline, ticking_here
from .errors import DeadlineExceeded
from .kernel import SystemKernel
from .machine import Machine
from .outcomes import NEVER, Outcome, Stop, Timeout
from .replies import Reply
from .scope import Scope
from .seconds import seconds_of

if TYPE_CHECKING:
    from .loop import Loop

__all__ = ["deadline", "due_here", "with_deadline"]

T = TypeVar("T")


class deadline:  # noqa: N801 - reads as a statement: `with deadline(0.5):`
    """`with deadline(seconds):` every unit submitted and every wait begun inside ends by then, the earliest
    one winning. What ends by it raises `DeadlineExceeded`, whatever was awaited. Raises `ValueError` for less
    than 0 and for NaN."""

    __slots__ = ("_loop", "_loops_before", "_outside", "_outside_before", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds_of(seconds, "a deadline", least=0)
        self._loop: Loop | None = None
        self._loops_before = self._outside_before = NEVER

    def __enter__(self) -> None:
        self._loop = loop = loop_here()
        self._outside = loop is None or not loop.ticking
        if self._outside:
            self._outside_before = before = outside_deadline.get()
            outside_deadline.set(min(before, SystemKernel.monotonic() + self._seconds))
        if loop is not None:
            self._loops_before = loop.inherited_deadline
            loop.inherited_deadline = min(self._loops_before, loop.time() + self._seconds)

    def __exit__(self, *exception: object) -> None:
        if self._loop is not None:
            self._loop.inherited_deadline = self._loops_before
        if self._outside:
            outside_deadline.set(self._outside_before)


def due_here() -> float:
    """When what is begun here must end, for whoever has it done by a loop in another thread: by this system's
    clock (monotonic seconds)."""
    loop = ticking_here()
    if loop is None:
        return outside_deadline.get()
    inherited = loop.inherited_deadline
    return inherited if inherited == NEVER else SystemKernel.monotonic() + inherited - loop.time()


class _Expire(Machine[int]):
    """Fails a reply when its time has come; ends when it has settled otherwise."""

    __slots__ = ("_due", "_reply", "_seconds")

    def __init__(self, reply: Reply[Any], due: float, seconds: float) -> None:
        self._reply = reply
        self._due = due
        self._seconds = seconds

    def start(self, scope: Scope) -> Outcome:
        self._reply.watch(scope)
        return Timeout(self, self._due)

    def wakeup(self, scope: Scope) -> Outcome:
        return Stop() if self._reply.settled else Timeout(self, self._due)

    def timeout(self, scope: Scope) -> Outcome:
        self._reply.cancel(DeadlineExceeded(f"no answer within {self._seconds:g} s"))
        return Stop()

    def draining(self, scope: Scope) -> Outcome:
        return Timeout(self, self._due)


def with_deadline(reply: Reply[T], seconds: float) -> Reply[T]:
    """The same reply; it fails with `DeadlineExceeded` if it has not settled within `seconds`. Raises
    `ValueError` for NaN."""
    seconds_of(seconds, "a deadline")
    if not reply.settled:
        loop = current_loop()
        due = loop.time() + seconds
        reply.deadline = min(reply.deadline, due)
        loop.spawn(_Expire(reply, due, seconds))
    return reply
