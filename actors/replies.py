"""Reply cells: the Future-like half of a request.

Rules:
1. A reply settles exactly once: with a value, an error, by its deadline, or by `cancel`. A later `settle` or
   `fail` returns False and changes nothing, so whoever answers need not know whether somebody still listens.
2. `cancel` only says that nobody is interested any more. It never touches a wire.
3. A settled reply wakes the machines that wait for it; it never runs them on the spot. Callbacks
   (`when_settled`) do run on the spot, one after the other: those that a callback's own settling causes run
   when it has returned, so that no chain is too long. They are for composing replies and must be short.
4. What a callback or a hook raises is logged; it never reaches whoever settles.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextvars import copy_context
from types import TracebackType
from typing import Any, ClassVar, Generic, TypeVar

from .callbacks import call_in_turn, one_turn
from .current import host_wait
from .errors import FAILURES, Cancelled, NotSettled
from .kernel import SystemKernel
from .outcomes import NEVER
from .scope import Scope, Waker
from .telling import told

__all__ = ["Reply", "Waitable"]

T = TypeVar("T")
U = TypeVar("U")


class Waitable:
    """What a flow may await: something that will be `settled`, and wakes whoever attached to it."""

    __slots__ = ()

    due: float = NEVER
    """When the waiting machine must look again by itself (absolute, monotonic seconds)."""

    composed: ClassVar[bool] = False
    """Whether something else must settle first, which `waits_for` names."""

    def waits_for(self) -> Iterable[Waitable]:
        """What must settle before this can."""
        return ()

    deadline: float = NEVER
    """When whoever answers will have given up (absolute, monotonic seconds)."""

    @property
    def settled(self) -> bool:
        """Whether there is nothing left to wait for."""
        raise NotImplementedError

    def remaining(self) -> float:
        """Seconds until `due`."""
        return self.due - SystemKernel.monotonic()

    def attach(self, scope: Waker) -> None:
        """Wake this machine (or this task of a host) once when settled."""
        raise NotImplementedError

    def detach(self, scope: Waker) -> None:
        """Wake it no longer."""
        raise NotImplementedError

    def result(self) -> Any:
        """What awaiting it gives, once settled."""
        return None

    def __await__(self) -> Generator[Any, Any, Any]:
        if not self.settled:
            host = host_wait()
            if host is not None:
                return host(self)
        return self._wait_in_flow()

    def _wait_in_flow(self) -> Generator[Any, Any, Any]:
        while not self.settled:
            yield self
        return self.result()


class Reply(Waitable, Generic[T]):
    """A value that is not there yet. Await it in a flow, or read `settled` and `result()` when it wakes
    you."""

    __slots__ = ("_error", "_on_cancel", "_traceback", "_value", "_waiters", "deadline", "pending")

    pending: bool
    """Whether it has not settled yet. To be read; a property would cost each unit several calls."""

    def __init__(self, owner: Scope | None = None, deadline: float = NEVER) -> None:
        self.pending = True
        self._value: Any  # once there is one, and so are the others
        self._error: BaseException | None = None
        self._traceback: TracebackType | None
        # None, one scope, one callback, or many of both: nearly always one
        self._waiters: Waker | Callable[[Reply[T]], object] | _Many | None = owner
        self._on_cancel: Callable[[], object] | list[Callable[[], object]] | None = None
        self.deadline = deadline  # when whoever answers will give up (monotonic seconds)

    def __repr__(self) -> str:
        if self.pending:
            return (
                "<Reply pending>"
                if self.deadline == NEVER
                else f"<Reply pending, deadline {self.deadline:.3f}>"
            )
        if self._error is not None:
            return f"<Reply error {told(self._error)}>"
        return f"<Reply value {told(self._value)}>"

    # -- for whoever answers ---------------------------------------------------------------------------------

    def settle(self, value: T) -> bool:
        """Answer. Returns False if the reply had settled before."""
        if not self.pending:
            return False
        self.pending = False
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
        if not self.pending:
            return False
        self.pending = False
        self._error = error
        self._traceback = error.__traceback__
        waiters: Any = self._waiters
        if waiters is not None:
            self._waiters = None
            self._notify(waiters)
        return True

    def on_cancel(self, hook: Callable[[], object]) -> None:
        """Have `hook` called, too, if the asker loses interest before the answer."""
        hooks = self._on_cancel
        if hooks is None:
            self._on_cancel = hook
        elif isinstance(hooks, list):
            hooks.append(hook)
        else:
            self._on_cancel = [hooks, hook]

    # -- for whoever asks ------------------------------------------------------------------------------------

    def cancel(self, error: BaseException | None = None) -> bool:
        """Lose interest: settle with `Cancelled` (or `error`). Returns False if it had settled before."""
        with one_turn():
            if not self.fail(error or Cancelled("the reply was cancelled")):
                return False
            self._tell_hooks()
            return True

    @property
    def settled(self) -> bool:
        """Whether the value or the error is there."""
        return not self.pending

    @property
    def error(self) -> BaseException | None:
        """The error it settled with, None after a value. Raises `NotSettled` before."""
        if self.pending:
            raise NotSettled("the reply has no answer yet; await it, or wait for the wakeup")
        return self._error

    @property
    def awaited(self) -> bool:
        """Whether somebody wants to know when it settles."""
        waiters = self._waiters
        if waiters.__class__ is _Many:
            return len(waiters) > waiters.watching
        return waiters is not None

    def result(self) -> T:
        """The value; raises the error it settled with, or `NotSettled` before."""
        if self._error is not None:
            raise self._raised(self._error)
        if self.pending:
            raise NotSettled("the reply has no answer yet; await it, or wait for the wakeup")
        value: T = self._value
        return value

    def _raised(self, error: BaseException) -> BaseException:
        """The error to be raised, as it was when it came: each time it is raised makes its traceback longer,
        and that holds the frames of whoever read it."""
        return error.with_traceback(self._traceback)

    def attach(self, scope: Waker) -> None:
        """Wake this machine once when settled (at once if it is)."""
        if not self.pending:
            scope.wake()
        elif self._waiters is None:
            self._waiters = scope
        else:
            self._add(scope)

    def watch(self, scope: Waker) -> None:
        """Like `attach`, by somebody who is no asker: when all who are have gone, nobody waits any more."""
        if not self.pending:
            scope.wake()
            return
        many = self._many()
        if scope not in many:
            many[scope] = scope
            many.watching += 1

    def detach(self, scope: Waker) -> None:
        """Wake it no longer."""
        waiters = self._waiters
        if waiters is scope:
            self._waiters = None
        elif waiters.__class__ is _Many:
            waiters.pop(scope, None)

    def when_settled(self, callback: Callable[[Reply[T]], object]) -> None:
        """Call `callback(reply)` when settled (at once if it is). It must be short; it sees the context
        variables of now, and what it raises is logged."""
        context = copy_context()
        self.relay(lambda reply: context.run(callback, reply))

    def relay(self, callback: Callable[[Reply[T]], object]) -> None:
        """Like `when_settled`, cheaper: the callback sees the context variables of whoever settles."""
        if self.pending:
            self._add(callback)
        else:
            call_in_turn(callback, self)

    def forward_to(self, target: Reply[T]) -> None:
        """Settle `target` as this settles, with its value or its error (at once if it has)."""
        self.relay(target.follow)

    def follow(self, settled: Reply[T]) -> None:
        """Settle as another has. Raises `NotSettled` if that is pending."""
        error = settled.error
        if error is None:
            self.settle(settled.result())
        else:
            self.fail(error)

    def shield(self) -> Reply[T]:
        """A reply that settles as this does. Cancelling it, as a flow does that no longer waits, leaves this
        as it is."""
        shielded: Reply[T] = Derived(self)
        self.forward_to(shielded)
        return shielded

    def ignore(self) -> None:
        """Let an error be no news: no flow logs that nobody has seen it."""
        self.relay(_ignored)

    def map(self, function: Callable[[T], U]) -> Reply[U]:
        """A reply of `function(value)`; errors pass through, and what `function` raises becomes the error."""
        mapped: Mapped[U] = Mapped(self)

        def pass_on(reply: Reply[T]) -> None:
            try:
                mapped.settle(function(reply.result()))
            except BaseException as error:
                mapped.fail(error)
                if not isinstance(error, FAILURES):
                    raise

        self.when_settled(pass_on)
        return mapped

    def __await__(self) -> Generator[Any, Any, T]:
        if self.pending:
            host = host_wait()
            if host is not None:
                return host(self)
        return self._wait_in_flow()

    def _wait_in_flow(self) -> Generator[Any, Any, T]:
        while self.pending:
            yield self
        if self._error is not None:
            raise self._raised(self._error)
        value: T = self._value
        return value

    def _add(self, waiter: Any) -> None:
        if self._waiters is None:
            self._waiters = waiter
        else:
            self._many().add(waiter)

    def _many(self) -> _Many:
        waiters = self._waiters
        if waiters.__class__ is _Many:
            return waiters
        self._waiters = many = _Many()
        if waiters is not None:
            many.add(waiters)
        return many

    def _notify(self, waiters: Any) -> None:
        if isinstance(waiters, Waker):
            waiters.wake()
        elif waiters.__class__ is _Many:
            with one_turn():
                for waiter in waiters.values():
                    self._notify(waiter)
        else:
            call_in_turn(waiters, self)

    def _tell_hooks(self) -> None:
        hooks, self._on_cancel = self._on_cancel, None
        if hooks is not None:
            for hook in hooks if isinstance(hooks, list) else [hooks]:
                call_in_turn(hook)


class _Many(dict[Any, Any]):
    """More than one who waits for a reply, in their order; a dictionary, for many may go away one by one."""

    __slots__ = ("watching",)

    def __init__(self) -> None:
        super().__init__()
        self.watching = 0  # how many of them are no askers

    def add(self, waiter: Any) -> None:
        """Machines are told once; a callback as often as it was given."""
        self[waiter if isinstance(waiter, Waker) else object()] = waiter


def _ignored(reply: Reply[Any]) -> None:
    """Read what it has failed with, if it has, so that somebody has seen it."""
    _ = reply.error


class Derived(Reply[T]):
    """What `Reply.shield` gives: it settles after another, and because of it."""

    __slots__ = ("source",)

    composed = True

    def __init__(self, source: Reply[Any]) -> None:
        super().__init__(deadline=source.deadline)
        self.source = source

    def waits_for(self) -> Iterable[Waitable]:
        """What it is made of."""
        return (self.source,)


class Mapped(Derived[T]):
    """What `Reply.map` gives. Cancelling it cancels what it is made of."""

    __slots__ = ()

    def cancel(self, error: BaseException | None = None) -> bool:
        """As `Reply.cancel`, and of what it is made of."""
        with one_turn():
            if not super().cancel(error):
                return False
            call_in_turn(self.source.cancel)
            return True
