"""A kit to run on your own wire: what must hold of every protocol's side of a connection.

    check_wire(LineWire, [(Ask("one"), b"one\\n", b"ONE\\n", b"ONE"), (Ask("x"), b"x\\n", b"X\\n", b"X")])

Each exchange is a unit, what the wire must send for it, what the server answers, and the value that the unit
settles with (an exception's class: the error). The server is a script, which answers what it recognizes, on
every connection; or give one that was written as a machine (`server=`). All units are submitted to a pool of
one connection, and the answers are stopped after each of their bytes, where something happens:

1. `cut`, `wakeup`: nothing, or a wakeup without a reason. Every unit gets its own value.
2. `cancel`: one of the askers goes. The others get their own values.
3. `deadline`: every deadline passes. What comes late reaches nobody.
4. `reset`, `end`: the connection is lost. A unit gets its own value or an error that says so; an idempotent
   one its value, from the next connection.
5. `garbage`: the server says what nobody understands, and ends. Nothing crashes.
6. `slow`: the server takes nothing for a while, then byte by byte. Every unit gets its own value.
7. `drain`, `stop`: the pool drains, or is stopped. Every unit settles.
8. `suspect`: the idle connection is probed (`Wire.probe`: tell the script its answer). Units that come
   meanwhile get their own values.
9. `fault`: a handler of the wire raises. That connection alone ends.

After each of these every unit has settled, the pool's figures add up, `closed` was called once per
connection, and when all is submitted once more all get their values: nothing is out of step. The first thing
that fails raises `NotConformant`, with the arguments that try just that again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from actors import ANYTHING, UNCHANGED, Continue, Outcome, Reply, StreamProtocol, Transport
from actors.events import EventLog
from actors.testing import Driver, FakeSocket, settle
from actors.testing.conformance import NotConformant, Tally, evenly
from pools import suspects
from pools.errors import PoolError
from pools.units import Unit
from pools.wires import Wire

from .bench import Bench

__all__ = ["Exchange", "check_wire"]

STATES_MAX: Final = 32  # of the bytes of the answers, those after which things happen; all are cut at
CUTS_MAX: Final = 256
CALLS_MAX: Final = 8  # of each handler of the wire, those that are made to raise
TIMEOUT: Final = 5.0  # seconds: the units' deadline
GARBAGE: Final = b"\xff\x00}{ what?\r\n\r\n\n"
HANDLERS: Final = (
    "start",
    "send",
    "received",
    "flushed",
    "ended",
    "wakeup",
    "timeout",
    "abandoned",
    "closed",
)

Exchange = tuple[Unit[Any], bytes, bytes, Any] | tuple[Unit[Any], Any]
"""A unit, what is sent for it, what is answered, and the value (or the error's class) that it settles with;
of a server that is no script, the unit and the value alone."""

Case = tuple[str, int] | tuple[str, int, int] | tuple[str, str, int]
"""What happens after how many bytes (to which unit); or which handler raises at which call."""


def check_wire(
    wire: Callable[[], Wire],
    exchanges: Iterable[Exchange],
    *,
    script: Iterable[tuple[bytes, bytes]] = (),
    greeting: bytes = b"",
    server: Callable[[], Callable[[], StreamProtocol]] | None = None,
    look: Callable[[Any], object] = lambda value: value,
    pipeline: int | None = None,
    only: Case | None = None,
    **options: Any,
) -> Tally:
    """Check a wire along these exchanges, in a pool of one connection.

    `wire` makes one, as a pool's first argument does. `script`: what else the server recognizes and answers
    (a handshake). `greeting`: what it says first. `server`: instead of a script, what makes a server for each
    run, which is called for the protocol of each connection, as a listener does. `look(value)`: what of a
    value is compared. `pipeline`: how many units in flight, all if not given. `only`: the one case to try.
    `options` are the pool's. Raises `NotConformant`.
    """
    told = list(exchanges)
    table = dict(script)
    table.update({said[0]: said[1] for _, *said, _ in told if said})
    kit = _Kit(wire, told, server or (lambda: partial(_Script, table, greeting)), look)
    kit.options = {
        "connections": 1,
        "pipeline": pipeline or len(kit.exchanges),
        "timeout": TIMEOUT,
        **options,
    }
    return kit.check(only)


class _Silence(EventLog):
    """Provoked losses are no news."""

    def __init__(self) -> None:
        super().__init__(float)

    def _emit(self, level: str, event: str, cause: str | None, fields: dict[str, Any]) -> None:
        """Says nothing."""


class _Script(StreamProtocol):
    """Answers what it recognizes."""

    def __init__(self, script: dict[bytes, bytes], greeting: bytes) -> None:
        self.script = script
        self.greeting = greeting

    def connected(self, transport: Transport) -> Outcome:
        if self.greeting:
            transport.write(self.greeting)
        return Continue(self, ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        while transport.input:
            heard = bytes(transport.input)
            said = next((said for said in self.script if heard.startswith(said)), None)
            if said is None:
                if not any(said.startswith(heard) for said in self.script):
                    raise LookupError(f"the wire sends {heard!r}, which is not a request of the script")
                break
            transport.consume(len(said))
            transport.write(self.script[said])
        return UNCHANGED


class _Server:
    """The server's side of one connection: what it says is held back until it may be sent."""

    def __init__(self, protocol: StreamProtocol, sock: FakeSocket) -> None:
        self.driver = Driver(protocol, log=_Silence())
        self.sock = sock
        self.to_say = self.driver.sent()
        self.said = 0

    def hear(self) -> bool:
        """Take what the wire has sent; whether there was something."""
        data = self.sock.delivered()
        if data:
            self.to_say += self.driver.receive(data).sent()
            if isinstance(self.driver.error, LookupError):
                raise NotConformant(str(self.driver.error))
        return bool(data)

    def say(self, limit: int | None) -> bool:
        """Send what there is, so that no more than `limit` bytes are sent in all; whether anything was."""
        count = len(self.to_say) if limit is None else min(len(self.to_say), limit - self.said)
        if count <= 0 or self.sock.closed:
            return False
        self.sock.arrive(self.to_say[:count])
        self.to_say = self.to_say[count:]
        self.said += count
        return True


class _Wires:
    """Makes the wires, counts the calls of their handlers, and has one of them raise."""

    def __init__(self, make: Callable[[], Wire], fault: tuple[str, int] | None) -> None:
        self.make = make
        self.fault = fault
        self.calls: Counter[str] = Counter()
        self.struck = False

    def __call__(self) -> Wire:
        wire = self.make()
        kind = type(wire)
        handlers: dict[str, Any] = {name: self._watched(name, getattr(kind, name)) for name in HANDLERS}
        wire.__class__ = type(kind.__name__, (kind,), {"__slots__": (), **handlers})
        return wire

    def _watched(self, name: str, handler: Callable[..., Any]) -> Callable[..., Any]:
        def called(wire: Wire, *arguments: Any) -> Any:
            number = self.calls[name]
            self.calls[name] += 1
            if self.fault == (name, number):
                self.struck = True
                raise RuntimeError(f"a fault in {name}, made by the kit")
            return handler(wire, *arguments)

        return called


class _Table:
    """One run: the pool, the script on each of its connections, and the replies."""

    def __init__(self, kit: _Kit, case: Case, fault: tuple[str, int] | None = None) -> None:
        self.kit = kit
        self.case = case
        self.wires = _Wires(kit.wire, fault)
        self.bench = Bench(self.wires, **kit.options)
        self.bench.loop.log = _Silence()
        self.server = kit.server()
        self.servers: list[_Server] = []
        self.replies = self.submit()

    def submit(self) -> list[Reply[Any]]:
        """All units, at once."""
        return [self.bench.submit(unit) for unit, *_ in self.kit.exchanges]

    def pump(self, limit: int | None = None) -> None:
        """Have both sides talk until nothing is left to say, or `limit` bytes were said to the first
        connection."""
        try:
            settle(self.bench.loop)
            while self._exchange(limit):
                settle(self.bench.loop)
        except AssertionError as error:
            raise self.failure(str(error)) from error

    def _exchange(self, limit: int | None) -> bool:
        for sock in self.bench.sockets[len(self.servers) :]:
            sock.accept_connection()
            self.servers.append(_Server(self.server(), sock))
            return True
        moved = False
        for number, server in enumerate(self.servers):
            moved |= server.hear()
            moved |= server.say(limit if number == 0 else None)
        return moved

    def failure(self, what: str) -> NotConformant:
        """What is wrong, and the arguments that try it again."""
        return NotConformant(
            f"{what}\n  pool: {self.bench.pool!r}\n  again: check_wire(…, only={self.case!r})"
        )

    def is_value(self, number: int, reply: Reply[Any]) -> bool:
        """Whether a unit got what is its own."""
        value = self.kit.exchanges[number][-1]
        if isinstance(value, type) and issubclass(value, BaseException):
            return isinstance(reply.error, value)
        return reply.error is None and self.kit.look(reply.result()) == value

    def expect_values(self, replies: Sequence[Reply[Any]], *, but: int = -1) -> None:
        """Every unit has its own value (`but`: this one has gone)."""
        for number, reply in enumerate(replies):
            if number != but and not (reply.settled and self.is_value(number, reply)):
                raise self.failure(f"{self._named(number)} {self._shown(reply)} instead of its value")

    def expect_own_or_error(self, kinds: type[BaseException]) -> None:
        """Every unit has its own value, or an error of this kind; an idempotent one its value."""
        for number, reply in enumerate(self.replies):
            if not reply.settled:
                raise self.failure(f"{self._named(number)} has not settled")
            if not self.is_value(number, reply) and not isinstance(reply.error, kinds):
                raise self.failure(
                    f"{self._named(number)} {self._shown(reply)}, which is neither its value nor a loss"
                )

    def _named(self, number: int) -> str:
        return f"unit {number} ({self.kit.exchanges[number][0]!r})"

    def _shown(self, reply: Reply[Any]) -> str:
        if not reply.settled:
            return "has not settled"
        return f"has got {reply.error!r}" if reply.error is not None else f"has got {reply.result()!r}"

    def finish(self, *, again: bool = True) -> None:
        """What must hold at the end of everything."""
        bench = self.bench
        bench.kernel.clock.advance(TIMEOUT + 1)
        self.pump()
        for number, reply in enumerate(self.replies):
            if not reply.settled:
                raise self.failure(f"{self._named(number)} has not settled by its deadline")
        if not bench.add_up():
            raise self.failure(f"the pool's figures do not add up: {bench.pool.statistics()!r}")
        crashed = bench.loop.statistics().crashed
        if crashed > self.wires.struck:
            raise self.failure(f"{crashed} machines have crashed")
        if again:
            replies = self.submit()
            self.pump()
            self.expect_values(replies)
        bench.loop.kill(bench.pool.token)
        settle(bench.loop)
        if bench.kernel.descriptors != 1:
            raise self.failure(f"{bench.kernel.descriptors - 1} connections are left open")
        if self.wires.calls["closed"] != self.wires.calls["start"]:
            calls = self.wires.calls
            raise self.failure(
                f"closed() was called {calls['closed']} times for {calls['start']} connections"
            )


class _Kit:
    """The exchanges, and what is made of them."""

    options: dict[str, Any]

    def __init__(
        self,
        wire: Callable[[], Wire],
        exchanges: list[Exchange],
        server: Callable[[], Callable[[], StreamProtocol]],
        look: Callable[[Any], object],
    ) -> None:
        self.wire = wire
        self.exchanges = exchanges
        self.server = server
        self.look = look
        self.tally = Tally()

    def check(self, only: Case | None) -> Tally:
        """All of it, or one case."""
        cases = self.cases() if only is None else [only]
        for case in cases:
            name, *details = case
            getattr(self, name)(case, *details)
            self.tally[name] += 1
        return self.tally

    def cases(self) -> Iterable[Case]:
        """The story as it is, then with one thing different each time."""
        plain = _Table(self, ("cut", 0))
        plain.pump()
        plain.expect_values(plain.replies)
        size = plain.servers[0].said
        calls = {**plain.wires.calls, "closed": 1}
        plain.finish()
        places = evenly(range(size + 1), STATES_MAX)
        yield from (("cut", place) for place in evenly(range(size + 1), CUTS_MAX))
        for name in ("wakeup", "deadline", "reset", "end", "garbage", "slow", "drain", "stop"):
            yield from ((name, place) for place in places)
        yield ("suspect", 0)
        yield from (("cancel", place, number) for place in places for number in range(len(self.exchanges)))
        yield from (
            ("fault", name, n) for name in HANDLERS for n in range(min(calls.get(name, 0), CALLS_MAX))
        )

    def after(self, case: Case, place: int) -> _Table:
        """All submitted, and so many bytes answered."""
        table = _Table(self, case)
        table.pump(place)
        return table

    # -- what happens ----------------------------------------------------------------------------------------

    def cut(self, case: Case, place: int) -> None:
        """Nothing."""
        table = self.after(case, place)
        table.pump()
        table.expect_values(table.replies)
        table.finish()

    def wakeup(self, case: Case, place: int) -> None:
        """A wakeup without a reason."""
        table = self.after(case, place)
        for backend in table.bench.pool.backends:
            for connection in backend.all:
                if connection.transport is not None:
                    connection.wake()
        table.bench.pool.wake()
        table.pump()
        table.expect_values(table.replies)
        table.finish()

    def cancel(self, case: Case, place: int, number: int) -> None:
        """An asker goes."""
        table = self.after(case, place)
        gone = table.replies[number].cancel()
        table.pump()
        table.expect_values(table.replies, but=number if gone else -1)
        table.finish()

    def suspect(self, case: Case, place: int) -> None:
        """A sibling has gone silent: the idle connection is probed, and units come before the server has
        answered, if it knows the probe at all.
        """
        table = _Table(self, case)
        table.pump()
        table.expect_values(table.replies)
        for connection in list(table.bench.pool.backends[0].idle):
            suspects.probe(connection, table.bench.loop.now)
        late = table.submit()
        table.pump()
        table.bench.advance(suspects.PROBE_SECONDS + 0.001)
        table.pump()
        table.expect_values(late)
        table.finish()

    def deadline(self, case: Case, place: int) -> None:
        """Time passes."""
        table = self.after(case, place)
        table.bench.kernel.clock.advance(TIMEOUT)
        table.pump(place)
        table.expect_own_or_error(PoolError)
        table.finish()

    def reset(self, case: Case, place: int) -> None:
        """The connection is reset."""
        table = self.after(case, place)
        self.lose(table, FakeSocket.reset)

    def end(self, case: Case, place: int) -> None:
        """The server ends the connection."""
        table = self.after(case, place)
        self.lose(table, FakeSocket.end)

    def lose(self, table: _Table, how: Callable[[FakeSocket], None]) -> None:
        """And the units see to it on the next one."""
        server = table.servers[0]
        server.to_say = b""
        how(server.sock)
        server.sock.delivered()
        table.pump()
        table.bench.advance(1.0)  # the backoff of the only backend
        table.pump()
        table.expect_own_or_error(PoolError)
        table.finish()

    def garbage(self, case: Case, place: int) -> None:
        """What nobody understands."""
        table = self.after(case, place)
        server = table.servers[0]
        server.to_say = b""
        server.sock.arrive(GARBAGE)
        server.sock.end()
        table.pump()
        table.finish()

    def slow(self, case: Case, place: int) -> None:
        """The server's socket is full."""
        table = self.after(case, place)
        sock = table.servers[0].sock
        sock.room = 0
        late = table.submit()
        table.pump()
        while sock.room == 0 and not sock.closed:
            sock.room = 1
            table.pump()
        sock.room = None
        table.pump()
        table.expect_values(table.replies)
        table.expect_values(late)
        table.finish()

    def drain(self, case: Case, place: int) -> None:
        """The pool drains."""
        table = self.after(case, place)
        table.bench.pool.drain()
        table.pump()
        table.expect_own_or_error(PoolError)
        table.finish(again=False)

    def stop(self, case: Case, place: int) -> None:
        """The pool is stopped."""
        table = self.after(case, place)
        table.bench.loop.kill(table.bench.pool.token)
        table.pump(place)
        table.expect_own_or_error(PoolError)
        table.finish(again=False)

    def fault(self, case: Case, name: str, number: int) -> None:
        """A handler raises."""
        table = _Table(self, case, (name, number))
        table.pump()
        table.bench.advance(1.0)
        table.pump()
        table.expect_own_or_error(Exception)
        table.finish()
