"""Just so many, and just then: the bounds of the runtime's parts at their very numbers."""

from __future__ import annotations

import asyncio
import socket
import threading
import traceback
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from structlog.testing import capture_logs

from actors import (
    ANYTHING,
    Continue,
    Loop,
    Machine,
    Mailbox,
    MailboxFull,
    Offloader,
    Outcome,
    Reply,
    Scope,
    Stop,
    StreamProtocol,
    TcpAddress,
    Timeout,
    Transport,
    deadline,
    parse_address,
)
from actors.simulation import Act, Broken, Faults, Host, Scenario, World, shrink, simulate
from actors.testing import Driver, FakeTransport, ManualClock, ManualKernel, Promises, run_until, same, settle
from actors.testing.conformance import NotConformant, check_protocol, evenly
from actors.testing.events import EXPIRE, receive


def idle(host: Host) -> None:
    """A program that does nothing."""


# -- what is bounded -----------------------------------------------------------------------------------------


def test_as_many_calls_as_there_are_threads_if_none_may_wait() -> None:
    gate = threading.Event()
    with Loop() as loop:
        offloader = loop.spawn(Offloader(threads=1, waiting=0))
        running = offloader.submit(gate.wait, 10)
        assert isinstance(offloader.submit(int).error, MailboxFull)
        gate.set()
        run_until(loop, lambda: running.settled)
        again = offloader.submit(int)
        run_until(loop, lambda: again.settled)
        assert again.result() == 0


class Full(Machine[Mailbox[int]]):
    """Never looks into its mailbox; has its name called at a time."""

    def __init__(self, count: int) -> None:
        self.count = count

    def start(self, scope: Scope) -> Outcome:
        self.mailbox: Mailbox[int] = Mailbox(scope, 2)
        for number in range(self.count):
            self.mailbox.send(number)
        return Timeout(self, scope.now + 1)

    def wakeup(self, scope: Scope) -> Outcome:
        return Timeout(self, scope.now + 1)

    timeout = wakeup

    def handle(self, scope: Scope) -> Mailbox[int]:
        return self.mailbox


def test_a_mailbox_may_be_full() -> None:
    def setup(world: World) -> None:
        world.host("only", lambda host: host.loop.spawn(Full(2)))

    assert simulate(setup, seconds=30.0).failure is None


class LaterSpinning(Machine[int]):
    """Wakes itself for ever, from its deadline on."""

    def start(self, scope: Scope) -> Outcome:
        return Timeout(self, scope.now + 1)

    def timeout(self, scope: Scope) -> Outcome:
        scope.wake()
        return Continue(self)

    wakeup = timeout


def test_what_spins_later_is_found_as_well() -> None:
    with closing(World(seed=1)) as world:
        world.host("only", lambda host: host.loop.spawn(LaterSpinning()))
        with pytest.raises(Broken, match="only spins: 1000 ticks in a tenth of a second"):
            world.run(2.0)


# -- scripts that are made short -----------------------------------------------------------------------------


def needing(*wanted: int) -> Scenario:
    """Fails in the end if there was an act at each of these tenths of a second."""

    def setup(world: World) -> None:
        world.host("a", idle)
        hit: set[int] = set()
        told = world.note

        def note(text: str) -> None:
            told(text)
            if "fault jump" in text:
                hit.add(round(10 * world.now))

        world.note = note  # type: ignore[method-assign]
        world.at_rest(lambda: world.check(not hit >= set(wanted), "all of them"))

    return Scenario(setup, "needing", 5.0, Faults(), 5.0)


@pytest.mark.parametrize("wanted", [(1,), (8,), (1, 8), (3, 4, 7), (2, 5, 6, 7), (1, 3, 5, 7)])
def test_no_act_can_be_left_out_of_what_is_left(wanted: tuple[int, ...]) -> None:
    story = needing(*wanted)
    script = [Act(at=0.1 * tenth, kind="jump", where="a", amount=1) for tenth in range(1, 9)]
    report = simulate(story, 1, script=script, seconds=5.0)
    assert report.failure is not None
    shrunk = shrink(story, report)
    assert shrunk is not None
    assert tuple(round(10 * act.at) for act in shrunk.acts) == wanted
    at_once = shrink(story, report, runs_max=1)
    assert at_once is not None
    assert (at_once.runs, len(at_once.acts)) == (1, 8)


# -- an account that is closed -------------------------------------------------------------------------------


class Careless(Reply[int]):
    """Settles as often as it is told to."""

    def settle(self, value: int) -> bool:
        self.pending = True
        return super().settle(value)


def test_when_an_account_is_closed_nobody_looks_any_more() -> None:
    clock = ManualClock()
    promises = Promises(clock, bound=0.5)
    twice = promises.expect(Careless(), "twice")
    twice.settle(1)
    promises.expect(Reply(), "late", within=1.0)
    promises.close()
    twice.settle(2)
    clock.advance(9.0)
    promises.check()
    assert promises.pending == []
    assert promises.outcomes == {"value": 1}


def test_at_its_bound_it_is_not_late() -> None:
    clock = ManualClock()
    promises = Promises(clock, bound=0.5)
    promises.expect(Reply(), "open", within=1.0)
    settled: Reply[int] = promises.expect(Reply(), "settled", within=1.0)
    clock.advance(1.5)
    settled.settle(1)
    assert promises.look() == []
    clock.advance(0.125)
    assert promises.look() == ["open is late: it was due 0.625 s ago"]


def test_an_error_that_becomes_another_is_found() -> None:
    class Changing(Reply[int]):
        def fail(self, error: BaseException) -> bool:
            self.pending = True
            return super().fail(error)

    promises = Promises()
    reply = promises.expect(Changing(), "it")
    reply.fail(ConnectionError("one"))
    assert promises.look() == []
    reply.fail(ConnectionError("another"))
    assert promises.look() == ["it has settled again: <Reply error ConnectionError('another')>"]


def test_what_is_the_same() -> None:
    assert same([1, (2, {"a": b"x"})], [1, (2, {"a": b"x"})])
    for found, wanted in [([1], [1, 2]), ({"a": 1}, {"b": 1}), ({}, []), (1, 2), ([1, 2], [1, 3])]:
        assert not same(found, wanted), (found, wanted)


# -- the kit for protocols -----------------------------------------------------------------------------------


class Shout(StreamProtocol):
    """Answers in capitals."""

    def connected(self, transport: Transport) -> Outcome:
        return Continue(self, ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        transport.write(transport.take(len(transport.input)).upper())
        return Continue(self, ANYTHING)


class Hasty(Shout):
    """Drops what is not taken at once."""

    def received(self, transport: Transport) -> Outcome:
        if transport.unsent:
            transport.take(len(transport.input))
        return super().received(transport)


def test_a_slow_peer_takes_one_byte_at_a_time() -> None:
    with pytest.raises(NotConformant, match=r"a slow peer is sent the same.*(?s:.*)\.trickle\(1\)"):
        check_protocol(Hasty, [[(b"one", b"ONE"), (b"two", b"TWO")]], together=False, spurious=False)
    long = b"x" * 700
    with pytest.raises(NotConformant, match=r"a slow peer is sent the same.*(?s:.*)\.trickle\(7\)"):
        check_protocol(Hasty, [[(long, long.upper())] * 2], together=False, spurious=False)


def test_all_that_is_tried_is_counted() -> None:
    tally = check_protocol(Shout, [[(b"one", b"ONE"), (b"two", None)]])
    states = 3 + 2 + 2
    assert tally == {
        "story": 1,
        "cuts": 2 + 2 * 2 * 2 + 1,
        "wakeups": states,
        "clones": states,
        "stops": 2 * states,
        "ends": 2 * states,
        "slow peers": states,
        "faults": 2 * 3,
    }
    assert "clones" not in check_protocol(Shout, [[(b"one", b"ONE")]], clones=False)
    assert check_protocol(Shout, [[(b"one", b"ONE")]], together=False)["cuts"] == 1 + 2 * 2


def test_a_deadline_is_tried_where_there_is_one() -> None:
    class Late(Shout):
        def connected(self, transport: Transport) -> Outcome:
            return Timeout(self, transport.scope.now + 5, ANYTHING)

        def timeout(self, transport: Transport) -> Outcome:
            return Stop()

    tally = check_protocol(Late, [[receive(b"a"), receive(b"b")]])
    assert tally["deadlines"] == 1  # once something has come there is none
    assert check_protocol(Late, [[EXPIRE]])["deadlines"] == 1


# -- what may be written, and where to -----------------------------------------------------------------------


def test_what_is_like_bytes_may_be_written() -> None:
    transport = FakeTransport()
    for data in (b"a", bytearray(b"b"), memoryview(b"c"), memoryview(b"d.e.")[::2]):
        transport.write(data)  # type: ignore[arg-type]
    assert (transport.unsent, transport.take_output()) == (5, b"abcde")
    for wrong in ("text", 7, None):
        with pytest.raises(TypeError, match=r"it takes bytes, so encode text"):
            transport.write(wrong)  # type: ignore[arg-type]
    assert repr(transport) == "<FakeTransport 0 bytes in, 0 bytes out>"


def test_a_stream_sends_what_is_like_bytes() -> None:
    driver = Driver(Shout())
    driver.stream.write(memoryview(b"d.e.")[::2])  # type: ignore[arg-type]
    driver.stream.write(bytearray(b"f"))
    assert driver.settle().sent() == b"def"


def test_the_last_port_there_is() -> None:
    assert parse_address("host:65535") == TcpAddress("host", 65535)
    assert parse_address("host:0") == TcpAddress("host", 0)


def test_a_simulated_socket_knows_its_options() -> None:
    with closing(World(seed=1)) as world:
        host = world.host("here", idle)
        sock: Any = host.kernel.connect(TcpAddress("127.0.0.1", 9))[0]
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1500)
        assert sock.user_timeout == 1.5


# -- what is due ---------------------------------------------------------------------------------------------


class Noting(Machine[int]):
    """Notes when its deadline has passed, and does something then."""

    def __init__(self, told: list[str], name: str, then: Callable[[], object] = lambda: None) -> None:
        self.told = told
        self.name = name
        self.then = then

    def start(self, scope: Scope) -> Outcome:
        return Timeout(self, scope.now + 1)

    def timeout(self, scope: Scope) -> Outcome:
        self.told.append(self.name)
        self.then()
        return Continue(self)


def test_one_that_is_stopped_by_another_due_together_keeps_nobody_back() -> None:
    told: list[str] = []
    with closing(World(seed=1)) as world:
        host = world.host("only", idle)
        tokens: list[int] = []
        machines = [
            Noting(told, "a", lambda: host.loop.kill(tokens[1])),
            Noting(told, "b"),
            Noting(told, "c"),
        ]
        tokens += [host.loop.spawn_with_token(machine)[0] for machine in machines]
        world.run(3.0)
    assert told == ["a", "c"]


# -- clocks, places, forks -----------------------------------------------------------------------------------


def test_a_hosts_calendar_goes_as_time_does() -> None:
    with closing(World(seed=1)) as world:
        kernel = world.host("here", idle).kernel
        before, begun = kernel.wall_clock(), world.now
        world.run(60.0)
        assert kernel.wall_clock() - before == pytest.approx(world.now - begun) == pytest.approx(60.0)


def test_places_are_spread_evenly_from_the_first_to_the_last() -> None:
    assert list(evenly(range(1, 102), 5)) == [1, 26, 51, 76, 101]
    assert list(evenly(range(10), 2)) == [0, 9]
    assert list(evenly(range(5), 5)) == [0, 1, 2, 3, 4]
    assert list(evenly(range(0), 5)) == []


def test_a_loop_that_is_another_processs_now_is_woken_in_vain() -> None:
    with Loop() as loop:
        machine = LaterSpinning()
        token, _ = loop.spawn_with_token(machine)
        loop.tick(0)
        loop.notifier.forked_away()
        loop.notifier.wake(token)  # its descriptor may be anybody's by now
        assert repr(loop.notifier) == "<Notifier 1 wakeups pending>"


def test_a_unit_asked_for_by_a_flow_of_a_hosted_loop_has_the_flows_deadline() -> None:
    async def flow(loop: Loop) -> float:
        with deadline(1.0):
            return loop.deadline_in(100.0) - loop.now

    async def main() -> float:
        async with Loop.in_asyncio() as loop:
            return await loop.spawn(flow(loop))

    assert asyncio.run(main()) <= 1.0


@pytest.mark.parametrize("heard", [True, False])
def test_the_traceback_of_a_flow_that_failed_begins_in_the_flow(heard: bool) -> None:
    async def fails() -> None:
        raise LookupError("x")

    async def asks() -> None:
        await fails()

    with Loop(kernel=ManualKernel()) as loop, capture_logs():
        reply = loop.spawn(asks())
        if heard:
            reply.when_settled(lambda _: None)
        settle(loop)
        error = reply.error
    assert error is not None
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names == ["asks", "fails"]
