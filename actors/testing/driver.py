"""One machine or one stream protocol, driven event by event on a manual kernel, by the real loop and the real
`Stream`: expectations, deadlines and clean-up are exactly those of production. Every outcome is kept."""

from __future__ import annotations

import copy
import copyreg
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, NamedTuple

from actors.errors import Misuse
from actors.events import EventLog
from actors.loop import Loop
from actors.machine import Machine
from actors.net.streams import Stream, StreamProtocol
from actors.net.transports import ANYTHING, SLEEP, Expectation, Transport
from actors.outcomes import NEVER, UNCHANGED, Continue, Outcome, Timeout
from actors.scope import Scope

from .kernel import ManualKernel
from .sockets import FakeSocket
from .waiting import settle

__all__ = ["Driver", "FakeTransport", "Fault", "Step"]

TRICKLES_MAX: Final = 10_000  # steps in which a slow peer takes the output


# For `Driver.clone`: nobody changes what is in a context that is not running, so clones share it.
copyreg.pickle(Context, lambda context: "context")


class _Idle(Machine[Scope]):
    """Does nothing, so that there is a scope."""

    __slots__ = ()

    def handle(self, scope: Scope) -> Scope:
        return scope


class FakeTransport(Transport):
    """A transport with a scope on a loop of its own, to call a protocol's handlers with."""

    __slots__ = ()

    def __init__(self, loop: Loop | None = None) -> None:
        super().__init__((loop or Loop(kernel=ManualKernel())).spawn(_Idle()))

    def arrive(self, data: bytes) -> None:
        """Put input in."""
        self.feed(data)

    def sent(self) -> bytes:
        """What was written since the last call."""
        return self.take_output()

    @property
    def ending(self) -> bool:
        """Whether `end()` was called."""
        return self._ending


class Step(NamedTuple):
    """One handler that was called, and what it returned."""

    handler: str
    outcome: Outcome


class Fault:
    """Have one handler raise `error`: the one that is called as number `step`, from 0. With `after` it has
    done its work by then, and only its outcome is lost."""

    def __init__(self, step: int, *, after: bool = False, error: Exception | None = None) -> None:
        self.step = step
        self.after = after
        self.error = error or RuntimeError(f"a fault in step {step}, made by the test")
        self.struck = False
        self.stops = 0  # how often `stopped` was called …
        self.clean_up_error: BaseException | None = None  # … and what it has raised

    def __repr__(self) -> str:
        return f"Fault({self.step}{', after=True' if self.after else ''})"

    def strike(self, step: int, after: bool) -> None:
        """Raise if it is time."""
        if step == self.step and after is self.after:
            self.struck = True
            raise self.error


class _Recorder:
    """Stands between the runtime and what is tested, and notes the outcomes."""

    def __init__(self, inner: Any, fault: Fault | None) -> None:
        self.inner = inner
        self.fault = fault or Fault(-1)
        self.steps: list[Step] = []
        self.expectation: Expectation = ANYTHING
        self.gone = False
        self.error: BaseException | None = None
        self.scope: Scope | None = None

    def call(self, handler: str, argument: Any, *more: Any) -> Any:
        self.scope = argument if isinstance(argument, Scope) else argument.scope
        self.fault.strike(len(self.steps), False)
        outcome = getattr(self.inner, handler)(argument, *more)
        self.fault.strike(len(self.steps), True)
        self.steps.append(Step(handler, outcome))
        if not isinstance(outcome, Continue | Timeout):
            return outcome
        self.inner = outcome.machine
        if outcome.value is not None:
            self.expectation = outcome.value
        if isinstance(outcome, Timeout):
            return Timeout(self, outcome.deadline, outcome.value)
        return Continue(self, outcome.value)

    def stopped(self, argument: Any, error: BaseException | None) -> None:
        self.gone, self.error = True, error
        self.fault.stops += 1
        try:
            self.inner.stopped(argument, error)
        except BaseException as failure:
            self.fault.clean_up_error = failure
            raise

    def wakeup(self, argument: Any) -> Any:
        return self.call("wakeup", argument)

    def timeout(self, argument: Any) -> Any:
        return self.call("timeout", argument)

    def draining(self, argument: Any) -> Any:
        return self.call("draining", argument)

    @property
    def drain_phase(self) -> Any:
        return self.inner.drain_phase


class _RecordedMachine(_Recorder, Machine[Any]):  # type: ignore[override]
    def start(self, scope: Scope) -> Any:
        return self.call("start", scope)

    def ready(self, scope: Scope, events: int) -> Any:
        return self.call("ready", scope, events)

    def handle(self, scope: Scope) -> Any:
        return self.inner.handle(scope)


class _RecordedProtocol(_Recorder, StreamProtocol):  # type: ignore[override]
    def connected(self, transport: Transport) -> Any:
        return self.call("connected", transport)

    def received(self, transport: Transport) -> Any:
        return self.call("received", transport)

    def flushed(self, transport: Transport) -> Any:
        return self.call("flushed", transport)

    def ended(self, transport: Transport) -> Any:
        return self.call("ended", transport)


class Driver:
    """Runs one machine, or one stream protocol on a fake socket, and shows what it does.

    Each method gives it one event and lets the loop run until there is nothing to do. `handle` is what
    spawning gave. A test that needs peers for its machine spawns them on `driver.loop`.
    """

    def __init__(
        self,
        machine: Machine[Any] | StreamProtocol,
        *,
        kernel: ManualKernel | None = None,
        fault: Fault | None = None,
        log: EventLog | None = None,
    ) -> None:
        self.kernel = kernel or ManualKernel()
        self.loop = Loop(kernel=self.kernel)
        if log is not None:
            self.loop.log = log
        self.socket: FakeSocket | None = None
        self._recorder: _Recorder
        if isinstance(machine, StreamProtocol):
            self.socket = FakeSocket(self.kernel)
            self._recorder = recorded = _RecordedProtocol(machine, fault)
            stream = Stream(self.socket, recorded)  # type: ignore[arg-type]  # has what a stream uses
            self.token, self.handle = self.loop.spawn_with_token(stream)
        else:
            self._recorder = _RecordedMachine(machine, fault)
            self.token, self.handle = self.loop.spawn_with_token(self._recorder)
        self.settle()

    def __repr__(self) -> str:
        return f"<Driver {self.machine!r}, {len(self.steps)} steps, {'alive' if self.alive else 'stopped'}>"

    # -- looking at it ---------------------------------------------------------------------------------------

    @property
    def machine(self) -> Any:
        """The machine or protocol as it is now: another object after a change of state."""
        return self._recorder.inner

    @property
    def steps(self) -> list[Step]:
        """Every handler that was called, with its outcome."""
        return self._recorder.steps

    @property
    def last(self) -> Step:
        """The latest step."""
        return self._recorder.steps[-1]

    @property
    def expectation(self) -> Expectation:
        """What the protocol waits for."""
        return self._recorder.expectation

    @property
    def deadline(self) -> float:
        """When `timeout` will be called (the manual clock's seconds), `NEVER` if it will not."""
        scope = self._recorder.scope
        return NEVER if scope is None else scope.deadline

    @property
    def alive(self) -> bool:
        """Whether the machine or protocol has not been stopped. Its stream may still be sending what is
        left."""
        return not self._recorder.gone

    @property
    def error(self) -> BaseException | None:
        """What it was stopped with."""
        return self._recorder.error

    @property
    def stops(self) -> int:
        """How often `stopped` was called: once, when all is well."""
        return self._recorder.fault.stops

    @property
    def clean_up_error(self) -> BaseException | None:
        """What `stopped` has raised, which it must not."""
        return self._recorder.fault.clean_up_error

    @property
    def stream(self) -> Stream:
        """The stream that runs the protocol."""
        machine = self.loop.machine(self.token)
        if not isinstance(machine, Stream):
            raise Misuse("only a protocol has a stream, and only until it has stopped")
        return machine

    # -- events ----------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> Driver:
        """Bytes arrive from the peer."""
        self._connection.arrive(data)
        return self.settle()

    def end(self) -> Driver:
        """The peer sends its end."""
        self._connection.end()
        return self.settle()

    def reset(self) -> Driver:
        """The peer resets the connection."""
        self._connection.reset()
        return self.settle()

    def sent(self) -> bytes:
        """What was sent to the peer since the last call."""
        return self._connection.delivered()

    def room(self, count: int | None) -> Driver:
        """From now on the peer takes so many bytes more; None: all."""
        self._connection.room = count
        return self.settle()

    def trickle(self, size: int = 1) -> Driver:
        """The peer takes all that there is, so many bytes at a time; then as they come."""
        for _ in range(TRICKLES_MAX):
            self.room(size)
            if self._connection.room == size:
                break
        return self.room(None)

    def do(self, function: Callable[[Driver], object]) -> Driver:
        """Anything else that happens: `function(driver)` sends the machine a message, say."""
        function(self)
        return self.settle()

    def wake(self) -> Driver:
        """Somebody wakes it."""
        self.loop.wake(self.token)
        return self.settle()

    def advance(self, seconds: float) -> Driver:
        """Let time pass; deadlines on the way come up in their order."""
        until = self.kernel.clock.now + seconds
        while self.loop.next_deadline <= until and self.loop.next_deadline != NEVER:
            self.kernel.clock.now = max(self.kernel.clock.now, self.loop.next_deadline)
            self.settle()
        self.kernel.clock.now = until
        return self.settle()

    def expire(self) -> Driver:
        """Let time pass until its deadline."""
        if self.deadline == NEVER:
            raise Misuse(f"{self.machine!r} has no deadline that could expire")
        return self.advance(self.deadline - self.kernel.clock.now)

    def drain(self, seconds: float = 30.0) -> Driver:
        """The loop drains."""
        self.loop.drain(seconds)
        return self.settle()

    def stop(self, error: BaseException | None = None) -> Driver:
        """It is stopped from outside."""
        self.loop.kill(self.token, error)
        return self.settle()

    def settle(self) -> Driver:
        """Tick until there is nothing to do at this time."""
        try:
            settle(self.loop)
        except AssertionError as error:
            raise AssertionError(f"{self.machine!r} on {error}") from None
        return self

    @property
    def _connection(self) -> FakeSocket:
        if self.socket is None:
            raise Misuse("only a protocol has a connection; a machine gets ready(), wake(), advance()")
        return self.socket

    # -- several paths ---------------------------------------------------------------------------------------

    def clone(self) -> Driver:
        """A copy of everything (kernel, loop, machine), to go on from here independently.

        What the machine holds must be copyable by `copy.deepcopy`: no coroutines, no open files. Functions
        are shared, so what they close over is too.
        """
        machine = self.loop.machine(self.token)
        if isinstance(machine, Transport) and machine.output:
            machine.output = [bytes(piece) for piece in machine.output]  # a half-sent one is a memoryview
        shared: list[Any] = [UNCHANGED, ANYTHING, SLEEP, self.loop.log._logger, self.loop.notifier._closing]
        return copy.deepcopy(self, {id(thing): thing for thing in shared})
