"""Flows: an `async def` run as a machine. This is how request-reply flows are written without states by hand.

A flow may await replies, channels, `sleep` and other flows: everything that is a `Waitable`. Anything else
(an asyncio future, say) raises `Misuse` inside it, at once. `Steps` drives the coroutine from one wait to the
next for whichever machine owns it; `Flow` is the machine that does nothing else.

Each flow runs in a copy of the context variables (`contextvars`) that whoever spawned it saw: what it sets,
nobody else sees.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from weakref import ref

from .callbacks import one_turn
from .current import current_loop
from .errors import FAILURES, Cancelled, DeadlineExceeded, MachineStopped, Misuse
from .machine import Machine
from .outcomes import NEVER, UNCHANGED, Outcome, Stop, Timeout
from .replies import Reply, Waitable
from .scope import Scope, Waker
from .seconds import seconds_of
from .telling import told, words_of

if TYPE_CHECKING:
    from .loop import Loop

__all__ = ["UNFINISHED", "Flow", "FlowReply", "Steps", "sleep"]

T = TypeVar("T")

UNHEARD_SECONDS: Final = 5.0  # a flow has failed and nobody has asked: then it is told

UNFINISHED: Final = object()
"""What `Steps.advance` returns while the coroutine waits for something."""


class Steps(Generic[T]):
    """Drives one coroutine, in `context`. The owner calls `advance` when woken or timed out, and looks at
    `due` for its deadline. `reply` is what it settles, if others may wait for that."""

    __slots__ = ("_coroutine", "_in_context", "_reply", "_send", "inherited", "waiting")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, T],
        inherited: float = NEVER,
        context: Context | None = None,
        reply: FlowReply[T] | None = None,
    ) -> None:
        self._coroutine = coroutine
        self._send = coroutine.send
        self._in_context: Callable[..., Any] = (context or copy_context()).run
        self._reply = reply
        self.waiting: Waitable | None = None
        self.inherited = inherited  # the deadline in force inside (monotonic seconds)

    def __repr__(self) -> str:
        return f"<Steps of {self.name} waiting for {self.waiting!r}>"

    @property
    def name(self) -> str:
        """The coroutine's."""
        return str(getattr(self._coroutine, "__qualname__", self._coroutine))

    @property
    def due(self) -> float:
        """When to call `advance` at the latest, with nothing having settled."""
        waiting = self.waiting
        inherited = self.inherited
        if waiting is None:
            return inherited
        if inherited == NEVER or (isinstance(waiting, Reply) and waiting.deadline <= inherited):
            return waiting.due  # the reply comes to an end by itself, and says more about why
        return min(waiting.due, inherited)

    def advance(self, scope: Scope) -> Any:
        """Run to the next wait: `UNFINISHED`, or what the coroutine returned. Raises what it raised."""
        waiting = self.waiting
        # a property is a call: asked of replies, too, it costs a Redis GET 2 % (`benchmarks.own.redis`)
        if waiting.pending if isinstance(waiting, Reply) else waiting is not None and not waiting.settled:
            if self.inherited > scope.loop.now or self.due > scope.loop.now:
                return UNFINISHED
            error = DeadlineExceeded(f"the deadline passed while waiting for {told(waiting)}")
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
            self._in_context(self._coroutine.close)
        finally:
            scope.loop.inherited_deadline = outer  # a `with deadline()` in it has put back its own

    def forget_reply(self) -> None:
        """The coroutine has ended, and its reply is others' alone."""
        self._reply = None

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
        in_context = self._in_context
        self.waiting = None
        try:
            while True:
                if error is None:
                    waiting = in_context(self._send, None)
                else:
                    thrown, error = error, None
                    waiting = in_context(self._coroutine.throw, thrown)
                if isinstance(waiting, Reply) and not waiting.composed and waiting.pending:
                    break  # nearly always; see `advance`
                if not isinstance(waiting, Waitable):
                    error = Misuse(
                        f"a flow awaited {told(waiting)}; "
                        "it may await replies, channels, sleep() and other flows"
                    )
                elif not waiting.settled:
                    if not waiting.composed:
                        break
                    error = self._endless(waiting)
                    if error is None:
                        break
        except StopIteration as stop:
            return stop.value
        finally:
            self.inherited, loop.inherited_deadline = loop.inherited_deadline, outer
        self.waiting = waiting
        waiting.attach(scope)
        return UNFINISHED

    def _endless(self, waiting: Waitable) -> Misuse | None:
        """Why waiting for this would never end: it waits, in the end, for what this coroutine returns."""
        reply = self._reply
        if reply is None or not (reply.awaited or waiting is reply):
            return None
        way = way_to(reply, waiting)
        if way is None:
            return None
        names = " waits for ".join(
            step.flow.name for step in [reply, *way] if isinstance(step, FlowReply) and step.flow
        )
        return Misuse(f"awaiting {told(waiting)} would never end: {names}")


def way_to(goal: Waitable, start: Waitable) -> list[Waitable] | None:
    """What waits for what, from `start` to `goal`; None if `start` does not wait for `goal`."""
    came_from: dict[Waitable, Waitable | None] = {start: None}
    ahead = [start]
    while ahead:
        here = ahead.pop()
        if here is goal:
            way = [here]
            while (before := came_from[way[-1]]) is not None:
                way.append(before)
            return way[::-1]
        for further in here.waits_for() if here.composed else ():
            if further not in came_from:
                came_from[further] = here
                ahead.append(further)
    return None


class FlowReply(Reply[T]):
    """What a flow will return. An error that nobody asks for is logged: when the reply is gone, or
    `UNHEARD_SECONDS` after the flow has failed, or when the loop is closed."""

    __slots__ = ("__weakref__", "_unheard", "flow")

    composed = True

    def __init__(self) -> None:
        super().__init__()
        self.flow: Flow[T] | None = None  # until it has ended
        self._unheard: tuple[Loop, str, BaseException] | None = None

    def waits_for(self) -> Iterable[Waitable]:
        """What the flow waits for."""
        waiting = None if self.flow is None else self.flow.waiting
        return () if waiting is None else (waiting,)

    def cancel(self, error: BaseException | None = None) -> bool:
        """As `Reply.cancel`; the flow gets `Cancelled` where it waits."""
        with one_turn():
            if not super().cancel(error):
                return False
            if self.flow is not None:
                self.flow.cancel()
            return True

    @property
    def error(self) -> BaseException | None:
        """As `Reply.error`."""
        self._unheard = None
        return super().error

    def _raised(self, error: BaseException) -> BaseException:
        self._unheard = None
        return super()._raised(error)

    def fail_unheard(self, error: BaseException, loop: Loop, flow: str) -> None:
        """Fail with what nobody waits for, so far."""
        self.fail(error)
        self._unheard = (loop, flow, error)
        loop.notifier.call_later(UNHEARD_SECONDS, partial(tell_of, ref(self)))

    def tell(self) -> None:
        """Log the error, if nobody has asked for it."""
        unheard, self._unheard = self._unheard, None
        if unheard is not None:
            log_failed(*unheard)

    def __del__(self) -> None:
        if self._unheard is not None:  # not here: a collection may come in the middle of anything
            self._unheard[0].notifier.call_soon(partial(log_failed, *self._unheard))


def tell_of(reply: ref[FlowReply[Any]]) -> None:
    """Tell of its error, if the reply is still there."""
    still = reply()
    if still is not None:
        still.tell()


def log_failed(loop: Loop, flow: str, error: BaseException) -> None:
    """Nobody else will ever tell of this error."""
    loop.log.error(
        "flow failed", cause=f"flow {type(error).__name__}", flow=flow, error=told(error), exc_info=error
    )


class Flow(Machine["Reply[T]"], Generic[T]):
    """The machine of one coroutine. Spawning it gives the reply of what it returns; cancelling that cancels
    the flow."""

    __slots__ = ("_cancelled", "_scope", "_steps", "reply")

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        if not hasattr(coroutine, "send"):
            if isinstance(coroutine, type):
                raise Misuse(f"{coroutine.__name__} is a class; spawn one: spawn({coroutine.__name__}(...))")
            raise Misuse(
                f"{coroutine!r} is neither a machine nor a coroutine; call the async function: spawn(main())"
            )
        self.reply: FlowReply[T] = FlowReply()
        self._steps = Steps(coroutine, reply=self.reply)
        self._cancelled = False

    @property
    def name(self) -> str:
        """The coroutine's."""
        return self._steps.name

    @property
    def waiting(self) -> Waitable | None:
        """What the coroutine waits for."""
        return self._steps.waiting

    def cancel(self) -> None:
        """Raise `Cancelled` where the coroutine waits."""
        self._cancelled = True
        self._scope.wake()

    def __repr__(self) -> str:
        return f"<Flow {self._steps!r}>"

    def handle(self, scope: Scope) -> Reply[T]:
        """The reply of what the coroutine returns."""
        return self.reply

    def start(self, scope: Scope) -> Outcome:
        """Runs at the next round of wakeups, so that whoever spawns is never re-entered."""
        self._scope = scope
        self._steps.inherited = scope.loop.inherited_deadline
        self.reply.flow = self
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
        except FAILURES as error:
            return self._failed(scope, error)
        if value is UNFINISHED:
            due = self._steps.due
            if due == NEVER == scope.deadline:
                return UNCHANGED  # the common case: a reply that ends by itself
            return Timeout(self, due)
        self.reply.settle(value)
        return Stop()

    timeout = wakeup

    def draining(self, scope: Scope) -> Outcome:
        """A flow finishes what it does."""
        return Timeout(self, self._steps.due)

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """Killed from outside, or the loop is closed: the coroutine's clean-up runs, and its reply
        settles."""
        self.reply.flow = None
        try:
            self._steps.close(scope)
        finally:
            why = "" if error is None else f": {words_of(error)}"
            stopped = MachineStopped(f"the flow was stopped{why}")
            stopped.__cause__ = error
            self.reply.fail(stopped)

    def _failed(self, scope: Scope, error: BaseException) -> Outcome:
        traceback = error.__traceback__  # from the coroutine on: our own frames would hold the reply
        while traceback is not None and traceback.tb_frame.f_globals is globals():
            traceback = traceback.tb_next
        error.__traceback__ = traceback
        reply = self.reply
        if reply.awaited:
            reply.fail(error)
        elif reply.settled and isinstance(error, Cancelled):
            return Stop()
        else:
            reply.fail_unheard(error, scope.loop, told(self))
        reply.flow = None
        # From Python 3.12 on the coroutine's frame holds its callers, and they hold this machine:
        # the reply's error must not hold the reply.
        self.reply = FlowReply()
        self._steps.forget_reply()
        return Stop(error)


class _Turn(Waitable):
    """Settled when everybody else has had a turn."""

    __slots__ = ("_passed",)

    def __init__(self) -> None:
        self._passed = False

    def __repr__(self) -> str:
        return "<sleep for a turn>"

    @property
    def settled(self) -> bool:
        return self._passed

    def attach(self, scope: Waker) -> None:
        self._passed = True
        scope.wake()  # after those who are woken already

    def detach(self, scope: Waker) -> None:
        pass


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

    def attach(self, scope: Waker) -> None:
        pass  # the machine's own deadline ends it

    def detach(self, scope: Waker) -> None:
        pass


def sleep(seconds: float) -> Waitable:
    """`await sleep(seconds)` in a flow. `sleep(0)` lets all others have a turn. Raises `ValueError` for
    NaN."""
    loop = current_loop()
    if seconds_of(seconds, "a sleep") > 0:
        return _Sleep(loop, loop.time() + seconds)
    return _Turn()
