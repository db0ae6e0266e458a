"""For tests of machines and protocols: no sockets, no sleeping, the same result every time.

`ManualKernel` is a kernel whose clock stands still until it is advanced, whose poller never blocks, whose
names are scripted and whose sockets are buffers. `Driver` runs one machine or one stream protocol on it, by
the real loop and the real `Stream`, so that expectations, deadlines and clean-up are exactly those of
production; it keeps each outcome, and `clone()` lets a test go on from one state along several paths.
`FakeTransport` is for calling a protocol's handlers directly. `run_until` is for tests with real sockets.
"""

from __future__ import annotations

import copy
import errno
import io
import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from .addresses import Address, TcpAddress
from .errors import Misuse, ResolveError
from .kernel import ERROR, HANGUP, READABLE, WRITABLE, Poller, SystemKernel
from .loop import Loop
from .machine import Machine
from .outcomes import NEVER, UNCHANGED, Continue, Outcome, Timeout
from .scope import Scope
from .streams import Stream, StreamProtocol
from .transports import ANYTHING, SLEEP, Expectation, Transport

if TYPE_CHECKING:
    import random
    import socket

__all__ = [
    "Driver",
    "FakeSocket",
    "FakeTransport",
    "ManualClock",
    "ManualKernel",
    "Step",
    "at_every_split",
    "run_until",
    "splits",
]

T = TypeVar("T")

TICKS_MAX: Final = 1000  # until a driven machine has nothing more to do


class ManualClock:
    """Monotonic seconds that pass only when told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time."""
        return self.now

    def __repr__(self) -> str:
        return f"<ManualClock {self.now:g}>"

    def advance(self, seconds: float) -> float:
        """Let time pass, and return the new one."""
        if seconds < 0:
            raise ValueError(f"advance({seconds}): monotonic time does not go back")
        self.now += seconds
        return self.now


class FakeSocket:
    """A connected, connecting or listening socket that is only buffers.

    The test plays the peer: `arrive`, `end`, `reset`; `delivered()` is what was sent to it. `room` limits how
    many bytes the next sends take (None: all of them). A connecting one waits for `accept()` or `refuse()`, a
    listening one hands out what is in `backlog`: sockets, or errors to raise.
    """

    def __init__(
        self, kernel: ManualKernel, address: Address | None = None, state: str = "connected"
    ) -> None:
        self.address = address
        self.backlog: deque[FakeSocket | OSError] = deque()
        self.room: int | None = None
        self.ended_here = False  # this side has shut down its output
        self._arrived = bytearray()
        self._delivered = bytearray()
        self._error = 0
        self._kernel = kernel
        self._peer_ended = False
        self._state = state
        self._fd = kernel.add(self)

    def __repr__(self) -> str:
        return f"<FakeSocket {self._fd} {self._state}, {len(self._arrived)} bytes to read>"

    # -- for the test ----------------------------------------------------------------------------------------

    def arrive(self, data: bytes) -> None:
        """The peer sends."""
        self._arrived += data

    def end(self) -> None:
        """The peer sends its end (FIN)."""
        self._peer_ended = True

    def reset(self) -> None:
        """The peer resets the connection (RST)."""
        self._error = errno.ECONNRESET
        self._peer_ended = True

    def delivered(self) -> bytes:
        """What the peer has been sent since the last call."""
        data = bytes(self._delivered)
        self._delivered.clear()
        return data

    def accept_connection(self) -> None:
        """The peer accepts what is connecting."""
        self._state = "connected"

    def refuse(self, code: int = errno.ECONNREFUSED) -> None:
        """What is connecting fails."""
        self._state = "connected"
        self.reset()
        self._error = code

    @property
    def closed(self) -> bool:
        """Whether this side has closed it."""
        return self._fd < 0

    def readiness(self) -> int:
        """What a poller would report."""
        if self._state == "connecting":
            return 0
        if self._state == "listening":
            return READABLE if self.backlog else 0
        mask = READABLE if self._arrived or self._peer_ended else 0
        if self.room != 0 or self._error:
            mask |= WRITABLE
        if self._error:
            mask |= ERROR
        return mask | HANGUP if self._error or (self._peer_ended and self.ended_here) else mask

    # -- what a socket has -----------------------------------------------------------------------------------

    def fileno(self) -> int:
        """The descriptor; -1 when closed."""
        return self._fd

    def recv(self, size: int) -> bytes:
        """What has arrived; then the error, or the end."""
        if self._arrived:
            data = bytes(self._arrived[:size])
            del self._arrived[:size]
            return data
        self._raise_error()
        if self._peer_ended:
            return b""
        raise BlockingIOError(errno.EAGAIN, "nothing has arrived")

    def send(self, data: bytes) -> int:
        """As many bytes as there is room for."""
        self._raise_error()
        if self._fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if self.ended_here:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        count = len(data) if self.room is None else min(self.room, len(data))
        if count == 0:
            raise BlockingIOError(errno.EAGAIN, "no room")
        self._delivered += data[:count]
        if self.room is not None:
            self.room -= count
        return count

    def sendmsg(self, pieces: list[bytes]) -> int:
        """As `send`."""
        return self.send(b"".join(pieces))

    def accept(self) -> tuple[FakeSocket, Any]:
        """The next one of `backlog`."""
        if not self.backlog:
            raise BlockingIOError(errno.EAGAIN, "nobody waits")
        arrived = self.backlog.popleft()
        if isinstance(arrived, OSError):
            raise arrived
        return arrived, ("192.0.2.1", 50000)

    def getsockopt(self, level: int, option: int) -> int:
        """The pending error."""
        error, self._error = self._error, 0
        return error

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Nothing to set."""

    def setblocking(self, flag: bool) -> None:
        """Never blocks anyway."""

    def getpeername(self) -> Any:
        """An address of the documentation range (RFC 5737)."""
        if self._state != "connected":
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return ("192.0.2.1", 50000)

    def getsockname(self) -> Any:
        """Its own address."""
        return ("127.0.0.1", getattr(self.address, "port", 0) or 40000)

    def shutdown(self, how: int) -> None:
        """End the output."""
        self.ended_here = True

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            self.ended_here = True
            self._kernel.remove(self._fd)
            self._fd = -1

    def _raise_error(self) -> None:
        if self._error:
            code, self._error = self._error, 0
            raise OSError(code, os.strerror(code))


class _ManualWaker:
    def __init__(self, kernel: ManualKernel) -> None:
        self._set = False
        self._kernel = kernel
        self._fd = kernel.add(self)

    def fileno(self) -> int:
        return self._fd

    def readiness(self) -> int:
        return READABLE if self._set else 0

    def wake(self) -> None:
        self._set = True

    def clear(self) -> None:
        self._set = False

    def close(self) -> None:
        self._kernel.remove(self._fd)


class _ManualPoller:
    """Level-triggered, like the real one, over what the kernel's sockets say. Never blocks."""

    def __init__(self, kernel: ManualKernel) -> None:
        self._kernel = kernel
        self.watched: dict[int, int] = {}

    def register(self, fd: int, eventmask: int) -> None:
        if fd in self.watched:
            raise FileExistsError(errno.EEXIST, f"descriptor {fd} is registered already")
        self.watched[fd] = eventmask

    def modify(self, fd: int, eventmask: int) -> None:
        if fd not in self.watched:
            raise FileNotFoundError(errno.ENOENT, f"descriptor {fd} is not registered")
        self.watched[fd] = eventmask

    def unregister(self, fd: int) -> None:
        if self.watched.pop(fd, None) is None:
            raise FileNotFoundError(errno.ENOENT, f"descriptor {fd} is not registered")

    def poll(self, timeout: float = -1) -> list[tuple[int, int]]:
        events = []
        for fd, mask in sorted(self.watched.items()):
            ready = self._kernel.readiness(fd) & (mask | ERROR | HANGUP)
            if ready:
                events.append((fd, ready))
        return events

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.watched.clear()


class ManualKernel:
    """A kernel for `Loop(kernel=…)`. `sockets` are those that were connected or that listen, in order;
    `names` maps a host to its addresses, to an error, or to None for an answer that never comes."""

    def __init__(self, *, seed: int = 0, now: float = 1000.0) -> None:
        self.clock = ManualClock(now)
        self.names: dict[str, list[str] | Exception | None] = {}
        self.sockets: list[FakeSocket] = []
        self.unreachable: dict[Address, OSError] = {}  # what `connect` and `listen` raise at once
        self._random = SystemKernel(seed).random()
        self._open: dict[int, FakeSocket | _ManualWaker] = {}

    def add(self, thing: FakeSocket | _ManualWaker) -> int:
        """A descriptor for it: the lowest that is free, as a system does."""
        fd = next(fd for fd in range(10, 11 + len(self._open)) if fd not in self._open)
        self._open[fd] = thing
        return fd

    def remove(self, fd: int) -> None:
        """The descriptor is closed. Watching it ends by itself only in real epoll, so nobody may rely on
        that."""
        del self._open[fd]

    def readiness(self, fd: int) -> int:
        """What is ready on a descriptor."""
        thing = self._open.get(fd)
        return 0 if thing is None else thing.readiness()

    @property
    def descriptors(self) -> int:
        """How many are open."""
        return len(self._open)

    def poller(self) -> Poller:
        """One that never blocks."""
        return _ManualPoller(self)

    def monotonic(self) -> float:
        """The manual clock's time."""
        return self.clock.now

    def wall_clock(self) -> float:
        """A fixed day in 2026, and the manual clock's seconds."""
        return 1_767_225_600.0 + self.clock.now

    def random(self) -> random.Random:
        """Seeded."""
        return self._random

    def listen(self, address: Address, *, backlog: int = 4096, reuse_port: bool = False) -> socket.socket:
        """A listening fake socket."""
        return self._socket(address, "listening")

    def unlisten(self, address: Address) -> None:
        """A fake socket leaves nothing behind."""

    def connect(self, address: Address) -> tuple[socket.socket, bool]:
        """A connecting fake socket: go on with its `accept_connection()` or `refuse()`."""
        return self._socket(address, "connecting"), False

    def _socket(self, address: Address, state: str) -> socket.socket:
        if address in self.unreachable:
            raise self.unreachable[address]
        sock = FakeSocket(self, address, state)
        self.sockets.append(sock)
        return sock  # type: ignore[return-value]  # it has the methods that the runtime uses

    def resolve(self, address: TcpAddress, deliver: Callable[[list[TcpAddress] | Exception], None]) -> None:
        """What `names` says, at once."""
        found = self.names.get(address.host, ResolveError(f"cannot resolve {address.host!r}: not in names"))
        if isinstance(found, Exception):
            deliver(found)
        elif found is not None:
            deliver([TcpAddress(host, address.port) for host in found])

    def waker(self) -> Any:
        """A flag."""
        return _ManualWaker(self)

    def temporary_file(self) -> IO[bytes]:
        """In memory."""
        return io.BytesIO()


class _Idle(Machine[Scope]):
    """Does nothing, so that there is a scope."""

    __slots__ = ()

    def handle(self, scope: Scope) -> Any:
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


class _Recorder:
    """Stands between the runtime and what is tested, and notes the outcomes."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.steps: list[Step] = []
        self.expectation: Expectation = ANYTHING
        self.gone = False
        self.error: BaseException | None = None
        self.scope: Scope | None = None

    def call(self, handler: str, argument: Any, *more: Any) -> Any:
        self.scope = argument if isinstance(argument, Scope) else argument.scope
        outcome = getattr(self.inner, handler)(argument, *more)
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
        self.inner.stopped(argument, error)

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

    def __init__(self, machine: Machine[Any] | StreamProtocol, *, kernel: ManualKernel | None = None) -> None:
        self.kernel = kernel or ManualKernel()
        self.loop = Loop(kernel=self.kernel)
        self.socket: FakeSocket | None = None
        self._recorder: _Recorder
        if isinstance(machine, StreamProtocol):
            self.socket = FakeSocket(self.kernel)
            self._recorder = recorded = _RecordedProtocol(machine)
            stream = Stream(self.socket, recorded)  # type: ignore[arg-type]  # has what a stream uses
            self.token, self.handle = self.loop.spawn_with_token(stream)
        else:
            self._recorder = _RecordedMachine(machine)
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
        loop = self.loop
        for _ in range(TICKS_MAX):
            loop.tick(0)
            late = loop.timers.next_deadline() <= self.kernel.clock.now
            if not (loop.woken or loop.dirty or late or loop.poller.poll(0)):
                return self
        raise AssertionError(f"{self.machine!r} does not come to rest within {TICKS_MAX} ticks: it spins")

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


def splits(data: bytes) -> Iterator[list[bytes]]:
    """Every way to cut `data` that is worth a test: whole, byte by byte, and in two at each point."""
    yield [data]
    yield [data[index : index + 1] for index in range(len(data))]
    for point in range(1, len(data)):
        yield [data[:point], data[point:]]


def at_every_split(make: Callable[[], Driver], data: bytes, look: Callable[[Driver], T]) -> T:
    """Give `data` to a new driver in each of its `splits`; `look(driver)` must always be the same. Returns
    that."""
    results: list[T] = []
    for pieces in splits(data):
        driver = make()
        for piece in pieces:
            driver.receive(piece)
        results.append(look(driver))
        if results[-1] != results[0]:
            raise AssertionError(f"cut as {pieces!r}: {results[-1]!r}; whole: {results[0]!r}")
    return results[0]


def run_until(
    loop: Loop, condition: Callable[[], Any], *, seconds: float = 10.0, ticks: int = 100_000
) -> None:
    """Tick a loop with real sockets until `condition()` is true. Raises `AssertionError` past the limits."""
    clock = loop.kernel.monotonic
    until = clock() + seconds
    for _ in range(ticks):
        if condition():
            return
        left = until - clock()
        if left <= 0:
            break
        loop.tick(left)
    if not condition():
        raise AssertionError(f"{loop!r}: the condition has not come true within {seconds:g} s, {ticks} ticks")
