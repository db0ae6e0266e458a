"""Reply cells: the Future-like half of a request.

Rules:
1. A reply settles exactly once: with a value, an error, by its deadline, or by `cancel`. A later `settle` or
   `fail` returns False and changes nothing, so whoever answers need not know whether somebody still listens.
2. `cancel` only says that nobody is interested any more. It never touches a wire.
3. A settled reply wakes the machines that wait for it; it never runs them on the spot. Callbacks
   (`when_settled`) do run on the spot: they are for composing replies, and must be short. What one raises is
   logged, and nobody else notices.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from typing import Any, Final, Generic, TypeVar

from .current import current_loop, host_wait, loop_here, outside_deadline
from .errors import Cancelled, DeadlineExceeded, Misuse, NotSettled
from .kernel import SystemKernel
from .machine import Machine
from .outcomes import NEVER, Outcome, Stop, Timeout
from .scope import Scope

__all__ = ["Reply", "Waitable", "deadline", "first", "gather", "settle_all", "with_deadline"]

T = TypeVar("T")
U = TypeVar("U")

PENDING: Final = 0
VALUE: Final = 1
ERROR: Final = 2


class Waitable:
    """What a flow may await: something that will be `settled`, and wakes whoever attached to it."""

    __slots__ = ()

    due: float = NEVER
    """When the waiting machine must look again by itself (absolute, monotonic seconds)."""

    deadline: float = NEVER
    """When whoever answers will have given up (absolute, monotonic seconds)."""

    @property
    def settled(self) -> bool:
        """Whether there is nothing left to wait for."""
        raise NotImplementedError

    def remaining(self) -> float:
        """Seconds until `due`."""
        return self.due - SystemKernel.monotonic()

    def attach(self, scope: Scope) -> None:
        """Wake this machine once when settled."""
        raise NotImplementedError

    def detach(self, scope: Scope) -> None:
        """Wake it no longer."""
        raise NotImplementedError

    def result(self) -> Any:
        """What awaiting it gives, once settled."""
        return None

    def __await__(self) -> Generator[Any, Any, Any]:
        host = host_wait()
        return self._wait_in_flow() if host is None else host(self)

    def _wait_in_flow(self) -> Generator[Any, Any, Any]:
        while not self.settled:
            yield self
        return self.result()


class Reply(Waitable, Generic[T]):
    """A value that is not there yet. Await it in a flow, or read `settled` and `result()` when it wakes
    you."""

    __slots__ = ("_on_cancel", "_state", "_value", "_waiters", "deadline")

    def __init__(self, owner: Scope | None = None, deadline: float = NEVER) -> None:
        self._state = PENDING
        self._value: Any = None
        # None, one scope, one callback, or a list of both: nearly always one, so no list is made for it
        self._waiters: Scope | Callable[[Reply[T]], object] | list[Any] | None = owner
        self._on_cancel: Callable[[], object] | None = None
        self.deadline = deadline  # when whoever answers will give up (monotonic seconds)

    def __repr__(self) -> str:
        if self._state == PENDING:
            return (
                "<Reply pending>"
                if self.deadline == NEVER
                else f"<Reply pending, deadline {self.deadline:.3f}>"
            )
        return f"<Reply {'value' if self._state == VALUE else 'error'} {self._value!r}>"

    # -- for whoever answers ---------------------------------------------------------------------------------

    def settle(self, value: T) -> bool:
        """Answer. Returns False if the reply had settled before."""
        if self._state:
            return False
        self._state = VALUE
        self._value = value
        waiters: Any = self._waiters
        if waiters is not None:
            self._waiters = None
            if waiters.__class__ is not Scope:
                self._notify(waiters)
            elif not waiters.woken:  # nearly always; `wake`, written out
                waiters.woken = True
                waiters.loop.woken.append(waiters)
        return True

    def fail(self, error: BaseException) -> bool:
        """Answer with an error. Returns False if the reply had settled before."""
        if self._state:
            return False
        self._state = ERROR
        self._value = error
        waiters: Any = self._waiters
        if waiters is not None:
            self._waiters = None
            self._notify(waiters)
        return True

    def on_cancel(self, hook: Callable[[], object]) -> None:
        """Have `hook` called if the asker loses interest before the answer."""
        self._on_cancel = hook

    # -- for whoever asks ------------------------------------------------------------------------------------

    def cancel(self, error: BaseException | None = None) -> bool:
        """Lose interest: settle with `Cancelled` (or `error`). Returns False if it had settled before."""
        if not self.fail(error or Cancelled("the reply was cancelled")):
            return False
        hook, self._on_cancel = self._on_cancel, None
        if hook is not None:
            hook()
        return True

    @property
    def settled(self) -> bool:
        """Whether the value or the error is there."""
        return self._state != PENDING

    @property
    def error(self) -> BaseException | None:
        """The error it settled with, None after a value. Raises `NotSettled` before."""
        if self._state == PENDING:
            raise NotSettled("the reply has no answer yet; await it, or wait for the wakeup")
        return self._value if self._state == ERROR else None

    @property
    def awaited(self) -> bool:
        """Whether somebody will be told when it settles."""
        return bool(self._waiters)

    def result(self) -> T:
        """The value; raises the error it settled with, or `NotSettled` before."""
        if self._state == VALUE:
            value: T = self._value
            return value
        if self._state == PENDING:
            raise NotSettled("the reply has no answer yet; await it, or wait for the wakeup")
        raise self._value

    def attach(self, scope: Scope) -> None:
        """Wake this machine once when settled (at once if it is)."""
        if self._state:
            scope.wake()
        elif self._waiters is None:
            self._waiters = scope
        else:
            self._add(scope)

    def detach(self, scope: Scope) -> None:
        """Wake it no longer."""
        if self._waiters is scope:
            self._waiters = None
        elif isinstance(self._waiters, list) and scope in self._waiters:
            self._waiters.remove(scope)

    def when_settled(self, callback: Callable[[Reply[T]], object]) -> None:
        """Call `callback(reply)` when settled (at once if it is). It must be short and must not raise."""
        if self._state:
            callback(self)
        else:
            self._add(callback)

    def map(self, function: Callable[[T], U]) -> Reply[U]:
        """A reply of `function(value)`; errors pass through, and what `function` raises becomes the error."""
        mapped: Reply[U] = Reply(deadline=self.deadline)
        mapped.on_cancel(self.cancel)

        def pass_on(reply: Reply[T]) -> None:
            try:
                mapped.settle(function(reply.result()))
            except Exception as error:
                mapped.fail(error)

        self.when_settled(pass_on)
        return mapped

    def __await__(self) -> Generator[Any, Any, T]:
        if not self._state:
            host = host_wait()
            if host is not None:
                return host(self)
        return self._wait_in_flow()

    def _wait_in_flow(self) -> Generator[Any, Any, T]:
        while not self._state:
            yield self
        if self._state == VALUE:
            value: T = self._value
            return value
        raise self._value

    def _add(self, waiter: Any) -> None:
        if self._waiters is None:
            self._waiters = waiter
        elif isinstance(self._waiters, list):
            self._waiters.append(waiter)
        else:
            self._waiters = [self._waiters, waiter]

    def _notify(self, waiters: Any) -> None:
        if waiters.__class__ is list:
            for waiter in waiters:
                self._notify(waiter)
        elif waiters.__class__ is Scope:
            waiters.wake()
        else:
            try:
                waiters(self)
            except Exception as error:  # whoever settles it must go on, and so must the others who wait
                _callback_failed(waiters, error)


def _callback_failed(callback: Any, error: Exception) -> None:
    """Tell of what a callback has raised: to the log of this thread's loop, or as Python tells of errors."""
    loop = loop_here()
    if loop is None:
        sys.excepthook(type(error), error, error.__traceback__)
    else:
        loop.log.error("callback failed", callback=repr(callback), error=repr(error), exc_info=error)


def gather(*replies: Reply[Any]) -> Reply[tuple[Any, ...]]:
    """All values, in order. The first error settles it at once and cancels the others."""
    return _combine(list(replies), _Gather)


def settle_all(*replies: Reply[T]) -> Reply[list[T | BaseException]]:
    """Every value or error, in order, when all have settled. It never fails by itself."""
    return _combine(list(replies), _SettleAll)


def first(*replies: Reply[T]) -> Reply[T]:
    """The first value; the others are then cancelled. If all fail, an `ExceptionGroup` of their errors."""
    if not replies:
        raise Misuse("first() needs at least one reply")
    return _combine(list(replies), _First)


class _Combined:
    """Shared by the three: a result cell, and how many parts are still open."""

    __slots__ = ("left", "replies", "result")

    def __init__(self, replies: list[Reply[Any]]) -> None:
        self.replies = replies
        self.left = len(replies)
        self.result: Reply[Any] = Reply(deadline=max((reply.deadline for reply in replies), default=NEVER))

    def cancel_rest(self) -> None:
        for reply in self.replies:
            if not reply.settled:
                reply.cancel()

    def part(self, reply: Reply[Any]) -> None:
        self.left -= 1
        self.settled(reply)

    def settled(self, reply: Reply[Any]) -> None:
        raise NotImplementedError


class _Gather(_Combined):
    __slots__ = ()

    def settled(self, reply: Reply[Any]) -> None:
        if reply.error is not None:
            if self.result.fail(reply.error):
                self.cancel_rest()
        elif self.left == 0 and not self.result.settled:
            self.result.settle(tuple(part.result() for part in self.replies))


class _SettleAll(_Combined):
    __slots__ = ()

    def settled(self, reply: Reply[Any]) -> None:
        if self.left == 0:
            self.result.settle([part.result() if part.error is None else part.error for part in self.replies])


class _First(_Combined):
    __slots__ = ()

    def settled(self, reply: Reply[Any]) -> None:
        if reply.error is None:
            if self.result.settle(reply.result()):
                self.cancel_rest()
        elif self.left == 0 and not self.result.settled:
            errors = [part.error for part in self.replies if part.error is not None]
            self.result.fail(BaseExceptionGroup("every reply failed", errors))


def _combine(replies: list[Reply[Any]], kind: type[_Combined]) -> Reply[Any]:
    try:
        combined = kind(replies)
    except AttributeError:
        foreign = next(part for part in replies if not isinstance(part, Reply))
        raise Misuse(f"{foreign!r} is not a reply; a coroutine becomes one by loop.spawn()") from None
    combined.result.on_cancel(combined.cancel_rest)
    if not replies:
        combined.result.settle(() if kind is _Gather else [])
    for reply in replies:
        reply.when_settled(combined.part)
    return combined.result


class deadline:  # noqa: N801 - reads as a statement: `with deadline(0.5):`
    """`with deadline(seconds):` every unit submitted and every wait begun inside ends by then, the earliest
    one winning."""

    __slots__ = ("_before", "_loop", "_seconds")

    def __init__(self, seconds: float) -> None:
        if not seconds >= 0:
            raise ValueError(f"a deadline of {seconds!r} seconds; write 0 or more")
        self._seconds = seconds
        self._before = NEVER

    def __enter__(self) -> None:
        self._loop = loop = loop_here()
        if loop is None:  # an ordinary thread, which submits to a loop in another one
            self._before = outside_deadline.get()
            outside_deadline.set(min(self._before, SystemKernel.monotonic() + self._seconds))
            return
        self._before = loop.inherited_deadline
        loop.inherited_deadline = min(self._before, loop.time() + self._seconds)

    def __exit__(self, *exception: object) -> None:
        if self._loop is None:
            outside_deadline.set(self._before)
        else:
            self._loop.inherited_deadline = self._before


class _Expire(Machine[int]):
    """Fails a reply when its time has come; ends when it has settled otherwise."""

    __slots__ = ("_due", "_reply")

    def __init__(self, reply: Reply[Any], due: float) -> None:
        self._reply = reply
        self._due = due

    def start(self, scope: Scope) -> Outcome:
        self._reply.attach(scope)
        return Timeout(self, self._due)

    def wakeup(self, scope: Scope) -> Outcome:
        return Stop() if self._reply.settled else Timeout(self, self._due)

    def timeout(self, scope: Scope) -> Outcome:
        self._reply.cancel(DeadlineExceeded("no answer before the deadline"))
        return Stop()

    def draining(self, scope: Scope) -> Outcome:
        return Timeout(self, self._due)


def with_deadline(reply: Reply[T], seconds: float) -> Reply[T]:
    """The same reply; it fails with `DeadlineExceeded` if it has not settled within `seconds`."""
    if not reply.settled:
        loop = current_loop()
        due = loop.time() + seconds
        reply.deadline = min(reply.deadline, due)
        loop.spawn(_Expire(reply, due))
    return reply
