"""Supervisors: machines that start others and start them again when they fail, after Erlang's OTP.

Rules:
1. Children start in the order of their specs and are stopped in the reverse order.
2. `permanent` children are always started again, `transient` ones only after an error, `temporary` ones
   never.
3. `one_for_one` starts the failed child again; `rest_for_one` also those that come after it, because they may
   depend on it.
4. The first restart is at once, further ones within the window wait, with backoff. More than `restarts_max`
   of them within `window` seconds are not a mishap any more: the supervisor stops its children and itself
   with `SupervisorGaveUp`, for its own supervisor to deal with.
5. A draining loop asks the children themselves; none is started again then. A supervisor whose children have
   all ended for good ends too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, Final, Literal, Self

import msgspec

from .backoff import Backoff
from .errors import ActorError
from .machine import Machine
from .outcomes import NEVER, UNCHANGED, Outcome, Stop, Timeout
from .scope import Scope
from .telling import told

__all__ = ["Child", "ChildStatistics", "Restart", "Strategy", "Supervisor", "SupervisorGaveUp"]

Strategy = Literal["one_for_one", "rest_for_one"]
Restart = Literal["permanent", "transient", "temporary"]

BACKOFF: Final = Backoff(0.1, 5.0)


class SupervisorGaveUp(ActorError):
    """A child failed again and again. Mend what its last error says, or allow more restarts."""


class Child(msgspec.Struct, frozen=True):
    """What to start: `factory` makes a new machine (or a coroutine) each time."""

    name: str
    factory: Callable[[], Any]
    restart: Restart = "permanent"


class ChildStatistics(msgspec.Struct, frozen=True):
    """A snapshot of one child."""

    name: str
    state: str
    starts: int
    last_error: str


class _Running:
    """What the supervisor knows of one child."""

    __slots__ = ("child", "due", "error", "handle", "life", "starts", "token")

    def __init__(self, child: Child) -> None:
        self.child = child
        self.handle: Any = None
        self.token: int | None = None
        self.life: object = None  # of the start that has not ended yet
        self.due = NEVER  # when it is started again (monotonic seconds)
        self.starts = 0
        self.error: BaseException | None = None  # the last one it ended with

    @property
    def state(self) -> str:
        return "running" if self.token is not None else "ended" if self.due == NEVER else "waiting"


class Supervisor(Machine["Supervisor"]):
    """`supervisor[name]` is the current handle of a child. `window` is in seconds."""

    __slots__ = (
        "_by_name",
        "_ended",
        "_in_context",
        "_restarts",
        "_running",
        "_scope",
        "backoff",
        "name",
        "restarts_max",
        "strategy",
        "window",
    )

    drain_phase = None  # its children are asked by the loop, each in its own phase

    def __init__(
        self,
        *children: Child,
        strategy: Strategy = "one_for_one",
        restarts_max: int = 5,
        window: float = 30.0,
        backoff: Backoff = BACKOFF,
        name: str = "supervisor",
    ) -> None:
        if strategy not in ("one_for_one", "rest_for_one"):
            raise ValueError(f"strategy={strategy!r}; write 'one_for_one' or 'rest_for_one'")
        for child in children:
            if child.restart not in ("permanent", "transient", "temporary"):
                raise ValueError(
                    f"{child.name}: restart={child.restart!r}; write 'permanent', 'transient' or 'temporary'"
                )
        if restarts_max < 0 or not window > 0:
            raise ValueError(f"{restarts_max} restarts in {window} s; write 0 or more, in a window above 0")
        self._by_name = {child.name: _Running(child) for child in children}
        if len(self._by_name) != len(children):
            raise ValueError("two children have the same name; give each its own")
        self._running = list(self._by_name.values())
        self._ended: deque[tuple[_Running, BaseException | None]] = deque()
        self._restarts: deque[float] = deque()  # when, within the window
        self._scope: Scope | None = None
        self._in_context: Callable[..., Any] = copy_context().run
        self.strategy = strategy
        self.restarts_max = restarts_max
        self.window = window
        self.backoff = backoff
        self.name = name

    def __repr__(self) -> str:
        states = ", ".join(f"{running.child.name} {running.state}" for running in self._running)
        return f"<Supervisor {self.name} {self.strategy}: {states}>"

    def __getitem__(self, name: str) -> Any:
        """The handle of the child that runs now (None while it waits to be started again). Raises
        `KeyError`."""
        return self._by_name[name].handle

    def handle(self, scope: Scope) -> Self:
        """Spawning gives the supervisor."""
        return self

    @property
    def token(self) -> int | None:
        """The machine's token; None before it was spawned."""
        return None if self._scope is None else self._scope.token

    def statistics(self) -> list[ChildStatistics]:
        """How each child is."""
        return [
            ChildStatistics(
                name=running.child.name,
                state=running.state,
                starts=running.starts,
                last_error="" if running.error is None else told(running.error),
            )
            for running in self._running
        ]

    # -- machine ---------------------------------------------------------------------------------------------

    def start(self, scope: Scope) -> Outcome:
        """Start the children. If one cannot be started, those before it are stopped and its error is
        raised."""
        self._scope = scope
        self._in_context = copy_context().run
        for running in self._running:
            self._start_child(scope, running)
        return self._next(scope)

    def wakeup(self, scope: Scope) -> Outcome:
        """Children have ended."""
        return self._see_to_ended(scope) or self._next(scope)

    def _see_to_ended(self, scope: Scope) -> Outcome | None:
        while self._ended:
            running, error = self._ended.popleft()
            if running.token is None and running.due == NEVER:
                failure = self._child_ended(scope, running, error)
                if failure is not None:
                    return failure
        return None

    def timeout(self, scope: Scope) -> Outcome:
        """Start again whose time has come, unless one that they depend on has just ended."""
        failure = self._see_to_ended(scope)
        if failure is not None:
            return failure
        for running in self._running:
            if running.due > scope.now:
                continue
            running.due = NEVER
            if scope.loop.draining:
                continue
            try:
                self._start_child(scope, running)
            except Exception as error:
                running.error = error
                failure = self._restart(scope, running, error)
                if failure is not None:
                    return failure
            else:
                scope.loop.log.info(
                    "child restarted",
                    cause=f"restarted {self.name} {running.child.name}",
                    supervisor=self.name,
                    child=running.child.name,
                    starts=running.starts,
                )
            if running.token is None and self.strategy == "rest_for_one":
                break  # it could not be started, or has ended again already: those after it have to wait
        return self._next(scope)

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """Stop the children, the last one first."""
        for running in reversed(self._running):
            running.due = NEVER
            self._kill(scope, running, error)

    # -- children --------------------------------------------------------------------------------------------

    def _start_child(self, scope: Scope, running: _Running) -> None:
        """Start it, in a copy of the context variables that the supervisor was spawned in."""
        running.life = life = object()
        on_stop = partial(self._child_stopped, running, life)
        context = self._in_context(copy_context)
        machine = context.run(self._spawn, scope, running, on_stop)
        if running.life is life:
            running.token, running.handle = machine
        running.starts += 1

    def _spawn(
        self, scope: Scope, running: _Running, on_stop: Callable[[BaseException | None], object]
    ) -> tuple[int, Any]:
        return scope.loop.spawn_with_token(running.child.factory(), on_stop)

    def _child_stopped(self, running: _Running, life: object, error: BaseException | None) -> None:
        if running.life is life and self._scope is not None:
            running.life = running.token = running.handle = None
            running.error = error or running.error
            self._ended.append((running, error))
            self._scope.wake()

    def _kill(self, scope: Scope, running: _Running, error: BaseException | None) -> None:
        token, running.token, running.handle = running.token, None, None
        running.life = None
        if token is not None:
            scope.loop.kill(token, error)

    def _child_ended(self, scope: Scope, running: _Running, error: BaseException | None) -> Outcome | None:
        restart = running.child.restart
        if scope.loop.draining or restart == "temporary" or (restart == "transient" and error is None):
            return None
        return self._restart(scope, running, error)

    def _restart(self, scope: Scope, running: _Running, error: BaseException | None) -> Outcome | None:
        """Plan the restart of a child that has ended; or else how the supervisor itself ends."""
        restarts = self._restarts
        while restarts and restarts[0] <= scope.now - self.window:
            restarts.popleft()
        if len(restarts) >= self.restarts_max:
            reason = f"{running.child.name} has ended again ({told(error)}) after {len(restarts)} restarts"
            gave_up = SupervisorGaveUp(f"{self.name}: {reason} within {self.window:g} s")
            gave_up.__cause__ = error
            scope.loop.log.error("supervisor gave up", supervisor=self.name, reason=reason)
            return Stop(gave_up)
        restarts.append(scope.now)
        due = scope.now + self.backoff.delay(len(restarts) - 1, scope.kernel.random())
        if self.strategy == "rest_for_one":
            before = self._running[: self._running.index(running)]
            due = max([due, *(earlier.due for earlier in before if earlier.due != NEVER)])
        scope.loop.log.warning(
            "child ended",
            cause=f"ended {self.name} {running.child.name}",
            supervisor=self.name,
            child=running.child.name,
            error=told(error),
            restart_in=round(due - scope.now, 3),
        )
        running.due = due
        if self.strategy == "rest_for_one":
            for later in reversed(self._running[self._running.index(running) + 1 :]):
                if later.token is not None:
                    self._kill(scope, later, None)
                    later.due = NEVER if later.child.restart == "temporary" else due
                elif later.due != NEVER:
                    later.due = max(later.due, due)
        return None

    def _next(self, scope: Scope) -> Outcome:
        if self._ended:
            return UNCHANGED  # a child ended while another was started: the wakeup is on its way
        due = min((running.due for running in self._running), default=NEVER)
        if due == NEVER and all(running.token is None for running in self._running):
            return Stop()
        return Timeout(self, due)
