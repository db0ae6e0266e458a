"""The loop: slots of machines, and one tick at a time.

A tick: poll; I/O events; wakeups, round after round until none is left (or `ROUNDS_MAX` rounds have passed:
the rest goes first in the next tick); timers; and at last every transport that was written to is flushed,
once. Nothing is written to a socket inside a handler, so all that one tick gives to a connection leaves in
one system call.

Rules:
1. An exception out of a handler stops that machine alone, and is logged with the machine's repr. What is no
   `Exception` (Ctrl-C, `SystemExit`) stops it likewise and is then raised to whoever runs the loop; what the
   tick still owed to others is kept for the next one.
2. The clock is read once per tick.
3. The number of machines is bounded; a full loop refuses a spawn with `LoopFull`.
4. A loop belongs to one thread. Only `notifier.wake` may be called from another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, TypeVar, overload

from .callbacks import one_turn
from .current import ANY_THREAD, enter_loop, leave_all, running_here
from .descriptors import Descriptors
from .draining import Drain, DrainDeadline
from .embedding.hosting import Hosting
from .errors import FAILURES, Misuse
from .events import EventLog
from .flows import Flow
from .forks import ForkedPoller, tell_of_forks
from .kernel import Kernel, Poller, SystemKernel
from .machine import Itself, Machine
from .notifier import Notifier
from .outcomes import NEVER, UNCHANGED, Continue, Outcome, Stop, Timeout, Unchanged
from .replies import Reply
from .reports import DeadLetter, LoopStatistics
from .scope import SLOT_MASK, Scope
from .seconds import seconds_of
from .signals import taken
from .spec import Making, Spec
from .telling import told
from .timers import TimerHeap
from .tokens import TokenTable

if TYPE_CHECKING:
    from .embedding.offload import Offloader
    from .net.transports import Transport

__all__ = ["DeadLetter", "Loop", "LoopStatistics"]

H = TypeVar("H")
M = TypeVar("M", bound=Itself)
T = TypeVar("T")

ROUNDS_MAX: Final = 64  # wakeup rounds per tick: machines that wake each other must not starve the sockets
DEAD_LETTERS_KEPT: Final = 128
POLL_MAX: Final = 86_400.0  # seconds; epoll's own limit is 2**31 ms, 24.8 days
DRAIN_SECONDS: Final = (
    30.0  # what a first SIGTERM grants (nginx's worker_shutdown_timeout has no default; k8s grants 30)
)


class Loop(Hosting):
    """An event loop for machines. `slots` bounds how many there may be at a time."""

    inherited_deadline: float = NEVER
    """What `deadline()` has set for what is begun now: every unit that is submitted ends by then."""

    quiet_drain: ClassVar[bool] = False
    """Whether a drain is no news: where leaving a block begins it, and not a signal."""

    opener: ClassVar[str] = "loop = Loop()"
    """How a program writes it."""

    def __init__(self, *, kernel: Kernel | None = None, slots: int = 1 << 20) -> None:
        if not 1 <= slots <= SLOT_MASK:
            raise ValueError(f"slots={slots}; write a number from 1 to {SLOT_MASK}")
        self.kernel: Kernel = kernel or SystemKernel()
        self.now = self.kernel.monotonic()
        self.woken: list[Scope] = []
        self.dirty: list[Transport] = []
        self.timers = TimerHeap()
        self.log = EventLog(self.kernel.monotonic)
        self.ticking = False
        self.runs_in = ANY_THREAD
        self.closed = False
        self.offloader: Offloader | None = None  # what `offload` has made
        self._clock = self.kernel.monotonic
        self._tokens = TokenTable(slots + 1)  # and one for the notifier
        self._descriptors = Descriptors(self.kernel.poller())
        self._drain: Drain | None = None
        self._stopping = False
        self._counts = _Counts()
        enter_loop(self)
        self.notifier = self.spawn(Notifier(self.kernel))
        tell_of_forks(self)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "draining" if self._drain is not None else "open"
        ticks = self._counts.ticks
        return f"<Loop {state}, {self.machines} machines, {len(self.timers)} timers, tick {ticks}>"

    # -- machines --------------------------------------------------------------------------------------------

    @property
    def machines(self) -> int:
        """How many machines there are, the notifier not counted."""
        return self._tokens.machines

    @overload
    def spawn(self, machine: Spec[H]) -> H: ...
    @overload
    def spawn(self, machine: M) -> M: ...
    @overload
    def spawn(self, machine: Machine[H]) -> H: ...
    @overload
    def spawn(self, machine: Coroutine[Any, Any, T]) -> Reply[T]: ...
    def spawn(self, machine: Any) -> Any:
        """Start a machine, what a `Spec` describes, or a coroutine as a flow, and return its handle (a token,
        a pool, a reply …).

        Raises `LoopFull` when all slots are taken, and whatever the description's `make` or the machine's
        `start` raises: then nothing was spawned.
        """
        return self.spawn_with_token(machine)[1]

    def spawn_with_token(
        self, machine: Any, on_stop: Callable[[BaseException | None], object] | None = None
    ) -> tuple[int, Any]:
        """Like `spawn`; gives the token besides the handle, to whoever wants to watch or to kill any machine.
        `on_stop(error)` is called when it stops, be it in its own `start`."""
        if self.closed:
            self._refuse_spawn()
        if not isinstance(machine, Machine):
            machine = Making(machine) if isinstance(machine, Spec) else Flow(machine)
        if not self.ticking:
            self.now = self._clock()
        scope = self._tokens.take(self, machine)
        if on_stop is not None:
            scope.on_stop(on_stop)
        before = enter_loop(self)
        try:
            if type(machine) is Making:
                machine = scope.make(machine.spec)
            outcome = machine.start(scope)
            handle = machine.handle(scope)
            self._apply(scope, outcome)
        except BaseException as error:
            self._end(scope, error)
            raise
        finally:
            enter_loop(before if before is not None else self)
        if self._drain is not None:
            self._drain.spawned(scope)
        return scope.token, handle

    def _refuse_spawn(self) -> NoReturn:
        if isinstance(self.poller, ForkedPoller):
            self.poller.refuse()
        raise Misuse("the loop is closed; make a new one")

    def forked_away(self) -> None:
        """In the child of a fork: the loop is the parent's. Its machines are not stopped, for what they hold
        is shared; only the descriptors that are the loop's own are given back."""
        if self.closed:
            return
        self.closed = True
        self._descriptors.refuse_in_child(f"make another one in the child: {self.opener}")
        self.notifier.forked_away()
        leave_all()

    def wake(self, token: int) -> None:
        """Wake the machine with this token; nobody, if it has stopped."""
        scope = self._tokens.find(token)
        if scope is not None:
            scope.wake()

    def kill(self, token: int, error: BaseException | None = None) -> bool:
        """Stop a machine from outside; its `stopped` is called. Returns False if it had stopped already."""
        scope = self._tokens.find(token)
        if scope is None:
            return False
        self._end(scope, error)
        return True

    def alive(self, token: int) -> bool:
        """Whether the machine with this token has not stopped."""
        return self._tokens.find(token) is not None

    def machine(self, token: int) -> Machine[Any] | None:
        """The machine behind a token, to look at (its repr, its statistics); None if it has stopped."""
        scope = self._tokens.find(token)
        return None if scope is None else scope.machine

    def living(self) -> Iterator[Scope]:
        """The scope of every machine, to look at; the notifier's is not among them."""
        return (scope for scope in self._tokens if scope.token and scope.machine is not None)

    def watch(self, token: int, callback: Callable[[BaseException | None], object]) -> None:
        """Call `callback(error)` when the machine stops; at once if it has. It must be short; what it raises
        is logged."""
        scope = self._tokens.find(token)
        if scope is None:
            callback(None)
        else:
            scope.on_stop(callback)

    @property
    def dead_letters(self) -> deque[DeadLetter]:
        """The last messages that reached no machine."""
        return self._counts.dead_letters

    def dead_letter(self, token: int, message: Any) -> None:
        """Count a message that reached nobody, keep it to be looked at in `dead_letters`, and log the
        fact."""
        self._counts.dead += 1
        self.dead_letters.append(DeadLetter(token, message))
        self.log.warning(
            "dead letter", cause=f"dead letter {type(message).__name__}", message=told(message)[:200]
        )

    # -- descriptors -----------------------------------------------------------------------------------------

    def register(self, scope: Scope, fd: int, events: int) -> None:
        """Have the machine's `ready` called on these events of a descriptor."""
        self._descriptors.register(scope, fd, events)

    def unregister(self, scope: Scope, fd: int) -> None:
        """Watch a descriptor no longer."""
        self._descriptors.unregister(scope, fd)

    @property
    def poller(self) -> Poller:
        """What waits for the descriptors."""
        return self._descriptors.poller

    def fileno(self) -> int:
        """The loop's own epoll descriptor: readable when a tick has something to do. Another loop may watch
        it."""
        return self.poller.fileno()

    # -- time ------------------------------------------------------------------------------------------------

    def time(self) -> float:
        """Monotonic seconds: this tick's inside a tick, otherwise now."""
        if not self.ticking:
            self.now = self._clock()
        return self.now

    def deadline_in(self, seconds: float) -> float:
        """When what begins now and may take `seconds` must end, a surrounding `deadline()` considered. Raises
        `ValueError` for what is no number of seconds."""
        if not self.ticking:
            self.now = self._clock()
        try:
            deadline = self.now + seconds
        except TypeError:
            deadline = seconds_of(seconds, "a timeout")  # which refuses
        inherited = self.inherited_deadline
        if deadline <= inherited:  # nearly always; min() costs three times that
            return deadline
        seconds_of(seconds, "a timeout")
        return inherited

    @property
    def next_deadline(self) -> float:
        """When `tick` must be called at the latest (monotonic seconds; `now` if wakeups are pending)."""
        if self.woken or self.dirty:
            return self.now
        return self._due()

    def _due(self) -> float:
        due = self.timers.next_deadline()
        return due if self._drain is None else min(due, self._drain.until)

    # -- running ---------------------------------------------------------------------------------------------

    def tick(self, timeout: float | None = None) -> None:
        """Do what is to be done, waiting at most `timeout` seconds for it (None: until there is
        something)."""
        if self.ticking:
            raise Misuse("tick() inside a tick; a handler must return instead")
        wait = self._wait(timeout)
        before = enter_loop(self)
        self.ticking = True
        try:
            events = self._descriptors.poller.poll(wait)
            self.now = self._clock()
            self._counts.ticks += 1
            if events:
                self._dispatch_events(events)
            if self.woken:
                self._dispatch_wakeups()
            heap = self.timers.heap
            if heap and heap[0][0] <= self.now:
                self._dispatch_timers()
            if self._drain is not None:
                self._drain_on(self._drain)
            if self.dirty:
                self.flush()
        finally:
            self.ticking = False
            enter_loop(before)

    def _wait(self, timeout: float | None) -> float:
        """How long to poll: seconds, or -1 for ever."""
        if self.woken or self.dirty:
            return 0
        due = self._due()
        if due == NEVER and timeout is None:
            return -1
        wait = due - self._clock()
        if timeout is not None and not timeout >= wait:
            wait = seconds_of(timeout, "a tick")
        if wait > POLL_MAX:
            return POLL_MAX  # a tick too many
        return max(0, wait)

    def _dispatch_events(self, events: list[tuple[int, int]]) -> None:
        """The hottest loop there is: `_apply` is written out for the common case, a machine that goes on as
        itself. What is not called because of Ctrl-C is ready in the next tick, too."""
        self._counts.events += len(events)
        by_fd = self._descriptors.by_fd
        for fd, mask in events:
            scope = by_fd.get(fd)
            if scope is None:
                continue  # unregistered earlier in this very tick
            machine = scope.machine
            if machine is None:
                continue
            try:
                outcome = machine.ready(scope, mask)
            except BaseException as error:
                self._failed(scope, error)
                continue
            if outcome is UNCHANGED:
                continue
            try:
                if outcome.machine is machine and outcome.value is None:
                    scope.deadline = deadline = outcome.deadline
                    if not deadline >= scope.scheduled:
                        self.timers.schedule(scope, deadline)
                else:
                    self._apply(scope, outcome)
            except BaseException as error:
                self._failed(scope, error, outcome)

    def _dispatch_wakeups(self) -> None:
        """With `_apply` written out, as above."""
        for _ in range(ROUNDS_MAX):
            batch, self.woken = self.woken, []
            try:
                self._counts.wakeups += len(batch)
                for scope in batch:
                    scope.woken = False
                    machine = scope.machine
                    if machine is None:
                        continue
                    try:
                        outcome = machine.wakeup(scope)
                    except BaseException as error:
                        self._failed(scope, error)
                        continue
                    if outcome is UNCHANGED:
                        continue
                    try:
                        if outcome.machine is machine and outcome.value is None:
                            scope.deadline = deadline = outcome.deadline
                            if not deadline >= scope.scheduled:
                                self.timers.schedule(scope, deadline)
                        else:
                            self._apply(scope, outcome)
                    except BaseException as error:
                        self._failed(scope, error, outcome)
            except BaseException:  # Ctrl-C, say: nobody else's wakeup may be lost by it
                again = set(self.woken)
                self.woken[:0] = [scope for scope in batch if scope.woken and scope not in again]
                raise
            if not self.woken:
                return

    def _dispatch_timers(self) -> None:
        rest = iter(self.timers.due(self.now))
        try:
            for scope in rest:
                machine = scope.machine
                if machine is None or scope.deadline != NEVER:
                    continue  # stopped, or given a new deadline, by one that was due before it
                self._counts.timeouts += 1
                self._call(scope, machine.timeout)
        except BaseException:
            self.timers.put_back(rest, self.now)
            raise
        if self.woken:
            self._dispatch_wakeups()

    def _call(self, scope: Scope, handler: Callable[[Scope], Outcome]) -> None:
        try:
            outcome = handler(scope)
        except BaseException as error:
            self._failed(scope, error)
            return
        try:
            self._apply(scope, outcome)
        except BaseException as error:
            self._failed(scope, error, outcome)

    def flush(self) -> None:
        """Write out every transport that was written to since the last flush. `tick` does it by itself."""
        rest = iter(self.dirty)
        self.dirty = []
        try:
            for transport in rest:
                try:
                    transport.flush()
                except BaseException as error:
                    if transport.scope is None:
                        raise
                    self._failed(transport.scope, error)
        except BaseException:
            self.dirty[:0] = rest
            raise

    def _apply(self, scope: Scope, outcome: Outcome) -> None:
        if isinstance(outcome, Stop):
            self._end(scope, outcome.error)
            return
        if outcome is UNCHANGED:
            return
        if scope.machine is None:
            return  # it was killed from inside its own handler
        if not isinstance(outcome, Continue | Timeout):
            raise TypeError  # `_failed` says it
        scope.machine = outcome.machine
        scope.deadline = outcome.deadline
        if not outcome.deadline >= scope.scheduled:
            self.timers.schedule(scope, outcome.deadline)
        if outcome.value is not None:
            self.spawn(outcome.value)

    def _failed(self, scope: Scope, error: BaseException, outcome: Any = UNCHANGED) -> None:
        """A handler has raised, or has returned what cannot be followed: the end of its machine. What is no
        failure of the machine's own (Ctrl-C, `SystemExit`) goes on from here, to whoever runs the loop."""
        machine = scope.machine
        if not isinstance(error, FAILURES):
            if scope.token:  # the notifier goes on: it holds the wakeups of other threads
                self._end(scope, error)
            raise error
        if machine is None:
            return
        if not isinstance(outcome, Continue | Timeout | Stop | Unchanged):
            error = TypeError(
                f"{told(machine)} returned {told(outcome)}; "
                "a handler returns Continue, Timeout, Stop or UNCHANGED"
            )
        self._counts.crashed += 1
        try:
            self.log.error(
                "machine crashed",
                cause=f"crash {type(machine).__name__} {type(error).__name__}",
                machine=told(machine),
                error=told(error),
                exc_info=error,
            )
        finally:
            self._end(scope, error)

    def _end(self, scope: Scope, error: BaseException | None) -> None:
        """The one way out for every machine."""
        machine = scope.machine
        if machine is None:
            return
        scope.forget_machine()
        self._tokens.release(scope)
        if scope.fd >= 0 or scope.fds:
            self._descriptors.release(scope)
        interrupt = self._clean_up(machine, machine.stopped, scope, error)
        for closer in scope.take_closers():  # who settle replies perhaps: whatever the others do
            interrupt = self._clean_up(machine, closer, error) or interrupt
        if interrupt is not None:
            raise interrupt

    def _clean_up(
        self, machine: Machine[Any], closer: Callable[..., object], *arguments: object
    ) -> BaseException | None:
        """Call it; returns what is to go on to whoever runs the loop."""
        try:
            with one_turn():
                closer(*arguments)
        except FAILURES as failure:
            self.log.error("clean-up failed", machine=told(machine), error=told(failure), exc_info=failure)
        except BaseException as interrupt:
            return interrupt
        return None

    # -- the end ---------------------------------------------------------------------------------------------

    def run(self, *, signals: bool = True, drain: float = DRAIN_SECONDS) -> None:
        """Tick until `stop()`, or until no machine is left.

        With `signals`, in the main thread: SIGINT or SIGTERM drains for at most `drain` seconds, a second one
        stops at once. Handlers that the program has set itself are left alone.
        """
        seconds_of(drain, "a drain", least=0)
        try:
            with taken(self, drain) if signals else nullcontext(), running_here(self):
                while not self._stopping and self.machines > 0:
                    self.tick()
        finally:
            self._stopping = False
            self.notifier.do_soon()

    def run_until(self, reply: Reply[T]) -> T:
        """Tick until the reply has settled; return its value or raise its error."""
        reply.ignore()  # whoever runs until it settles sees its error
        with running_here(self):
            while not reply.settled:
                self.tick()
        return reply.result()

    def stop(self) -> None:
        """Let `run` return after this tick; or the next `run` at once, if none is on. Machines stay as they
        are; `close` ends them."""
        self._stopping = True
        self.notifier.wake(0)

    def drain(self, seconds: float = DRAIN_SECONDS, *, patience: float = 0.0) -> None:
        """Ask every machine to finish what it has begun and to stop: first those that serve, then those that
        they use.

        `run` returns when all have stopped; after `seconds` what is left is stopped where it is. For
        `patience` seconds an idle connection may still bring one request that its client was about to send.
        """
        seconds_of(seconds, "a drain", least=0)
        seconds_of(patience, "a patience", least=0)
        if self._drain is None:
            self._drain = Drain(self.living)
        self._drain.grant(self._clock() + seconds, patience)  # a signal may come after a long poll
        self.notifier.wake(0)

    @property
    def draining(self) -> bool:
        """Whether `drain` was called."""
        return self._drain is not None

    @property
    def patience(self) -> float:
        """For how many seconds an idle connection may still bring a request, see `drain`."""
        return 0.0 if self._drain is None else self._drain.patience

    def _drain_on(self, drain: Drain) -> None:
        if drain.begins() and not self.quiet_drain:
            self.log.info("draining", seconds=round(drain.until - self.now, 3), machines=self.machines)
        if self.now >= drain.until:
            left = self.machines
            if not self.quiet_drain:
                self.log.warning("drain deadline passed", machines_left=left)
            self._end_all(DrainDeadline(f"the drain's deadline has passed with {left} machines left"))
            return
        for _ in range(ROUNDS_MAX):
            new = drain.next()
            if new is None:
                self._end_all(None)  # only machines are left that others own
                return
            rest = iter(new)
            try:
                for scope in rest:
                    if scope.machine is not None:
                        self._call(scope, scope.machine.draining)
            except BaseException:
                for scope in rest:
                    drain.spawned(scope)
                raise
            if not new:
                return
            if self.woken:
                self._dispatch_wakeups()
        self.notifier.wake(0)  # others' turn; those whom it is now are asked in the next tick

    def _end_all(self, error: BaseException | None) -> None:
        interrupt: BaseException | None = None
        for scope in self._tokens:
            if scope.token:  # the notifier's is 0
                try:
                    self._end(scope, error)
                except BaseException as failure:  # all have to end, whatever one of them does
                    interrupt = failure
        if self._drain is not None:
            self._drain.grant(NEVER, self._drain.patience)
        if interrupt is not None:
            raise interrupt

    def close(self) -> None:
        """Stop every machine and give the descriptors back. The loop cannot be used again."""
        if self.closed:
            return
        if self.ticking:
            raise Misuse("close() inside a tick; call stop() there, and close() when run() has returned")
        before = enter_loop(self)
        self._end_all(None)
        self.flush()
        self._end_all(None)
        notifier = self._tokens.find(0)
        if notifier is not None:
            self._end(notifier, None)
        self.closed = True
        self._descriptors.close()
        enter_loop(None if before is self else before)

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def taking_signals(self, drain: float = DRAIN_SECONDS) -> AbstractContextManager[None]:
        """Have SIGINT and SIGTERM drain from here on, as in `run`: for a program that is reachable before it
        runs the loop. A drain that is asked for begins with `run`."""
        return taken(self, drain)

    # -- looking at it ---------------------------------------------------------------------------------------

    def statistics(self) -> LoopStatistics:
        """What the loop has done so far."""
        counts, tokens = self._counts, self._tokens
        return LoopStatistics(
            machines=self.machines,
            slots=tokens.limit - 1,
            spawned=tokens.taken - 1,
            stopped=tokens.released,
            crashed=counts.crashed,
            ticks=counts.ticks,
            events=counts.events,
            wakeups=counts.wakeups,
            timeouts=counts.timeouts,
            dead_letters=counts.dead,
            log_lines_lost=self.log.lost,
        )


class _Counts:
    """What a loop has done."""

    __slots__ = ("crashed", "dead", "dead_letters", "events", "ticks", "timeouts", "wakeups")

    def __init__(self) -> None:
        self.ticks = self.events = self.wakeups = self.timeouts = self.crashed = self.dead = 0
        self.dead_letters: deque[DeadLetter] = deque(maxlen=DEAD_LETTERS_KEPT)
