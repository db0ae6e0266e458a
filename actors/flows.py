"""Flows: an `async def` run as a machine. This is how request-reply flows are written without states by hand.

A flow may await replies, channels, `sleep` and other flows: everything that is a `Waitable`. Anything else
(an asyncio future, say) raises `Misuse` inside it, at once. `Steps` drives the coroutine from one wait to the
next for whichever machine owns it; `Flow` is the machine that does nothing else.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final, Generic, TypeVar

from .current import current_loop
from .errors import Cancelled, DeadlineExceeded, MachineStopped, Misuse
from .machine import Machine
from .outcomes import NEVER, Outcome, Stop, Timeout
from .replies import Reply, Waitable
from .scope import Scope

__all__ = ["UNFINISHED", "Flow", "Steps", "sleep"]

T = TypeVar("T")

UNFINISHED: Final = object()
"""What `Steps.advance` returns while the coroutine waits for something."""


class Steps(Generic[T]):
    """Drives one coroutine. The owner calls `advance` when woken or timed out, and looks at `due` for its
    deadline."""

    __slots__ = ("_coroutine", "inherited", "waiting")

    def __init__(self, coroutine: Coroutine[Any, Any, T], inherited: float = NEVER) -> None:
        self._coroutine = coroutine
        self.waiting: Waitable | None = None
        self.inherited = inherited  # the deadline in force inside (monotonic seconds)

    def __repr__(self) -> str:
        name = getattr(self._coroutine, "__qualname__", self._coroutine)
        return f"<Steps of {name} waiting for {self.waiting!r}>"

    @property
    def due(self) -> float:
        """When to call `advance` at the latest, with nothing having settled."""
        waiting = self.waiting
        if waiting is None:
            return self.inherited
        if self.inherited == NEVER or (isinstance(waiting, Reply) and waiting.deadline <= self.inherited):
            return waiting.due  # the reply comes to an end by itself, and says more about why
        return min(waiting.due, self.inherited)

    def advance(self, scope: Scope) -> Any:
        """Run to the next wait: `UNFINISHED`, or what the coroutine returned. Raises what it raised."""
        waiting = self.waiting
        if waiting is not None and not waiting.settled:
            if self.inherited > scope.loop.now or self.due > scope.loop.now:
                return UNFINISHED
            error = DeadlineExceeded("the deadline passed while waiting for " + repr(waiting))
            self._give_up(scope, error)
            return self._run(scope, error)
        return self._run(scope, None)

    def throw(self, scope: Scope, error: BaseException) -> Any:
        """Like `advance`, with `error` raised where the coroutine waits."""
        self._give_up(scope, None)
        return self._run(scope, error)

    def close(self, scope: Scope) -> None:
        """End the coroutine: `finally` blocks run, awaiting anything in them is refused."""
        self._give_up(scope, None)
        outer = scope.loop.inherited_deadline
        try:
            self._coroutine.close()
        finally:
            scope.loop.inherited_deadline = outer  # a `with deadline()` in it has put back its own

    def _give_up(self, scope: Scope, error: BaseException | None) -> None:
        """Wait no longer. A reply that nobody else waits for is told that interest is lost."""
        waiting = self.waiting
        if waiting is None:
            return
        waiting.detach(scope)
        if isinstance(waiting, Reply) and not waiting.awaited:
            waiting.cancel(error)

    def _run(self, scope: Scope, error: BaseException | None) -> Any:
        loop = scope.loop
        outer, loop.inherited_deadline = loop.inherited_deadline, self.inherited
        coroutine = self._coroutine
        self.waiting = None
        try:
            while True:
                if error is None:
                    waiting = coroutine.send(None)
                else:
                    thrown, error = error, None
                    waiting = coroutine.throw(thrown)
                if not isinstance(waiting, Waitable):
                    error = Misuse(
                        f"a flow awaited {waiting!r}; it may await replies, channels, sleep() and other flows"
                    )
                elif not waiting.settled:
                    break
        except StopIteration as stop:
            return stop.value
        finally:
            self.inherited, loop.inherited_deadline = loop.inherited_deadline, outer
        self.waiting = waiting
        waiting.attach(scope)
        return UNFINISHED


class Flow(Machine["Reply[T]"], Generic[T]):
    """The machine of one coroutine. Spawning it gives the reply of what it returns; cancelling that cancels
    the flow."""

    __slots__ = ("_cancelled", "_scope", "_steps", "reply")

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        if not hasattr(coroutine, "send"):
            raise Misuse(
                f"{coroutine!r} is neither a machine nor a coroutine; call the async function: spawn(main())"
            )
        self._steps = Steps(coroutine)
        self.reply: Reply[T] = Reply()
        self._cancelled = False

    def __repr__(self) -> str:
        return f"<Flow {self._steps!r}>"

    def handle(self, scope: Scope) -> Reply[T]:
        """The reply of what the coroutine returns."""
        return self.reply

    def start(self, scope: Scope) -> Outcome:
        """Runs at the next round of wakeups, so that whoever spawns is never re-entered."""
        self._scope = scope
        self._steps.inherited = scope.loop.inherited_deadline
        self.reply.on_cancel(self._cancel)
        scope.wake()
        return Timeout(self, NEVER)

    def wakeup(self, scope: Scope) -> Outcome:
        """Something that the coroutine waited for may have settled."""
        try:
            if self._cancelled:
                self._cancelled = False
                value = self._steps.throw(scope, Cancelled("the flow was cancelled"))
            else:
                value = self._steps.advance(scope)
        except Exception as error:
            return self._failed(scope, error)
        if value is UNFINISHED:
            return Timeout(self, self._steps.due)
        self.reply.settle(value)
        return Stop()

    timeout = wakeup

    def draining(self, scope: Scope) -> Outcome:
        """A flow finishes what it does."""
        return Timeout(self, self._steps.due)

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """Killed from outside, or the loop is closed: the coroutine's clean-up runs, and its reply
        settles."""
        try:
            self._steps.close(scope)
        finally:
            self.reply.fail(
                MachineStopped(f"the flow was stopped: {error}" if error else "the flow was stopped")
            )

    def _cancel(self) -> None:
        self._cancelled = True
        self._scope.wake()

    def _failed(self, scope: Scope, error: Exception) -> Outcome:
        awaited = self.reply.awaited
        if not self.reply.fail(error) and isinstance(error, Cancelled):
            return Stop()
        if not awaited:  # nobody would ever see it
            scope.loop.log.error(
                "flow failed",
                cause=f"flow {type(error).__name__}",
                flow=repr(self),
                error=repr(error),
                exc_info=error,
            )
        return Stop(error)


class _Sleep(Waitable):
    """Settled when its time has come."""

    __slots__ = ("_loop", "due")

    def __init__(self, loop: Any, due: float) -> None:
        self._loop = loop
        self.due = due

    def __repr__(self) -> str:
        return f"<sleep for {self.due - self._loop.now:.3f} s>"

    @property
    def settled(self) -> bool:
        return bool(self._loop.time() >= self.due)

    def remaining(self) -> float:
        return float(self.due - self._loop.time())

    def attach(self, scope: Scope) -> None:
        pass  # the machine's own deadline ends it

    def detach(self, scope: Scope) -> None:
        pass


def sleep(seconds: float) -> _Sleep:
    """`await sleep(seconds)` in a flow."""
    loop = current_loop()
    return _Sleep(loop, loop.time() + seconds)
