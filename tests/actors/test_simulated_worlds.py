"""Worlds, hosts and runs: what ends one, what is the same twice, what is guarded, how a script gets short."""

from __future__ import annotations

import errno
import os
import random
import select
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors import (
    Continue,
    DeadlineExceeded,
    Loop,
    Machine,
    Mailbox,
    Misuse,
    Outcome,
    Reply,
    Scope,
    SystemKernel,
    Timeout,
    sleep,
)
from actors.simulation import (
    CALM,
    ROUGH,
    STORM,
    Act,
    Broken,
    Faults,
    Host,
    RealityReached,
    Report,
    Scenario,
    Tally,
    World,
    as_test,
    explore,
    guard,
    load_scenario,
    scenario,
    shrink,
    simulate,
)
from actors.simulation.explore import DIFFERS
from windlass.scenarios import SCENARIOS

ROOT = Path(__file__).parents[2]


def idle(host: Host) -> None:
    """A program that does nothing."""


def program(flow: Callable[[Host], Any]) -> Callable[[World], None]:
    """A world with one host whose program is one flow."""

    def setup(world: World) -> None:
        world.host("only", lambda host: host.loop.spawn(flow(host)))

    return setup


def failure_of(setup: Callable[[World], object] | Scenario, **options: Any) -> str:
    report = simulate(setup, **options)
    assert report.failure is not None
    return report.failure


# -- time ----------------------------------------------------------------------------------------------------


def test_time_jumps_to_the_next_event() -> None:
    seen = []

    async def patient(host: Host) -> None:
        begun = host.world.now
        await sleep(3600)
        seen.append(host.world.now - begun)

    report = simulate(program(patient), seconds=4000)
    assert report.failure is None
    assert seen[0] == pytest.approx(3600, abs=0.001)
    assert report.events < 20


def test_every_tick_is_looked_at() -> None:
    looks = []

    def setup(world: World) -> None:
        host = world.host("only", lambda host: host.always(lambda: looks.append("host")))
        world.always(lambda: looks.append("world"))
        world.at(1.0, lambda: looks.append(host.name))

    assert simulate(setup).failure is None
    assert looks.count("host") == looks.count("world") > 0
    assert "only" in looks


# -- what is wrong -------------------------------------------------------------------------------------------


def test_a_reply_that_never_settles() -> None:
    def setup(world: World) -> None:
        world.host("only", lambda host: host.expect(Reply(), "the answer"))

    assert "30 s after the network was healed it is still not so: only: the answer" in failure_of(setup)


def test_a_reply_that_is_late_or_wrong_or_an_error() -> None:
    def setup(wrong: str) -> Callable[[World], None]:
        async def work(host: Host) -> None:
            reply: Reply[int] = Reply()
            within = 1.0 if wrong == "late" else 10.0
            host.expect(reply, "it", lambda value: value == 7, within=within, may_fail=wrong != "failed")
            await sleep(2)
            if wrong == "failed":
                reply.fail(ConnectionError("no"))
            reply.settle(8 if wrong == "another" else 7)

        return program(work)

    assert simulate(setup("nothing")).failure is None
    assert "it is late" in failure_of(setup("late"))
    assert "it got 8, which is not its answer" in failure_of(setup("another"))
    assert "it has failed: ConnectionError('no')" in failure_of(setup("failed"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NameError("name 'sleep' is not defined"), False),
        (AssertionError("2 is not 3"), False),
        (OSError("no"), False),
        (FileNotFoundError(errno.ENOENT, "no such file"), False),
        (Misuse("never so"), False),
        (ConnectionResetError(errno.ECONNRESET, "reset"), True),
        (OSError(errno.EHOSTUNREACH, "no route"), True),
        (DeadlineExceeded("late"), True),
        (TimeoutError(), True),
        (ExceptionGroup("both", [DeadlineExceeded("late"), ConnectionResetError()]), True),
        (ExceptionGroup("both", [DeadlineExceeded("late"), ZeroDivisionError()]), False),
    ],
    ids=repr,
)
@pytest.mark.parametrize("draining", [False, True])
def test_only_what_the_network_can_cause_is_an_expected_failure(
    error: Exception, expected: bool, draining: bool
) -> None:
    async def die() -> None:
        await sleep(1)
        raise error

    async def work(host: Host) -> None:
        host.expect(host.loop.spawn(die()), "the service")
        if draining:
            host.loop.drain(5.0)

    report = simulate(program(work))
    if expected:
        assert report.failure is None
    else:
        assert report.failure is not None
        assert "the service has failed" in report.failure
        assert "raise error" in report.failure, "with its traceback"


def test_errors_of_its_own_can_be_expected() -> None:
    class Poor(Exception):
        pass

    async def pay(error: Exception) -> None:
        await sleep(1)
        raise error

    def setup(error: Exception) -> Callable[[World], None]:
        async def work(host: Host) -> None:
            host.expect(host.loop.spawn(pay(error)), "the bill", may_fail=Poor)

        return program(work)

    assert simulate(setup(Poor())).failure is None
    assert simulate(setup(ConnectionResetError())).failure is None, "the network's as well"
    assert simulate(setup(ExceptionGroup("all", [Poor()]))).failure is None
    assert simulate(setup(KeyError())).failure is not None


def test_a_reply_that_settles_twice() -> None:
    class Careless(Reply[int]):
        def settle(self, value: int) -> bool:
            self.pending = True
            return super().settle(value)

        def _notify(self, waiters: Any) -> None:
            super()._notify(waiters)
            self._waiters = waiters

    async def work(host: Host) -> None:
        reply = Careless()
        host.expect(reply, "it")
        reply.settle(1)
        reply.settle(2)

    assert "it has settled 2 times" in failure_of(program(work))


def test_conditions_and_checks() -> None:
    def never(world: World) -> None:
        world.eventually("pigs fly", lambda: False)

    def at_rest(world: World) -> None:
        world.at_rest(lambda: world.check(world.now < 1, "it is early"))

    def asserted(world: World) -> None:
        def look() -> None:
            assert world.now < 0, "not even begun"

        world.host("only", idle)
        world.always(look)

    assert "pigs fly" in failure_of(never)
    assert "it is early" in failure_of(at_rest)
    assert "not even begun" in failure_of(asserted)


class Stubborn(Machine[int]):
    """Does not stop when the loop drains."""

    def draining(self, scope: Scope) -> Outcome:
        return Continue(self)


class Spinning(Machine[int]):
    """Wakes itself for ever."""

    def start(self, scope: Scope) -> Outcome:
        scope.wake()
        return Continue(self)

    wakeup = start


class Crashing(Machine[int]):
    """Crashes at its deadline."""

    def start(self, scope: Scope) -> Outcome:
        return Timeout(self, scope.now + 1)

    def timeout(self, scope: Scope) -> Outcome:
        raise RuntimeError("on purpose")


def spawning(machine: type[Machine[int]], **options: Any) -> Callable[[World], object]:
    return lambda world: world.host("only", lambda host: host.loop.spawn(machine()), **options)


def test_what_does_not_end_spins_or_crashes_or_leaks() -> None:
    assert "there is still only: <" in failure_of(spawning(Stubborn))
    assert "only spins" in failure_of(spawning(Spinning))
    assert "only: machine crashed" in failure_of(spawning(Crashing))
    assert "RuntimeError: on purpose" in failure_of(spawning(Crashing))
    assert simulate(spawning(Crashing, tolerates={"machine crashed"})).failure is None

    def leaking(world: World) -> None:
        world.host("only", lambda host: host.disk.update(file=host.kernel.temporary_file()))

    assert "1 temporary files" in failure_of(leaking)


def test_a_timer_that_is_left_or_lost() -> None:
    async def work(host: Host, harm: Callable[[Scope], None]) -> None:
        token, _ = host.loop.spawn_with_token(Stubborn())
        scope = next(scope for scope in host.loop.living() if scope.token == token)
        host.loop.timers.schedule(scope, host.loop.now + 100)
        harm(scope)
        for _ in range(20):
            await sleep(0.1)

    def left(scope: Scope) -> None:
        scope.loop.kill(scope.token)
        scope.deadline = 1e9

    def lost(scope: Scope) -> None:
        scope.deadline = scope.loop.now + 50

    assert "a timer is left" in failure_of(program(lambda host: work(host, left)))
    assert "nothing will look at the deadline" in failure_of(program(lambda host: work(host, lost)))


class Hoarding(Machine[int]):
    """Has more mail than its mailbox may hold."""

    def start(self, scope: Scope) -> Outcome:
        self.mailbox: Mailbox[int] = Mailbox(scope, capacity=2)
        for number in range(3):
            self.mailbox._messages.append(number)
        return Timeout(self, scope.now)

    def timeout(self, scope: Scope) -> Outcome:
        return Timeout(self, scope.now + 0.01)


def test_a_mailbox_over_its_capacity() -> None:
    assert "holds more than it may" in failure_of(spawning(Hoarding))


def test_an_exception_of_the_scenario_itself_is_told_with_its_place() -> None:
    def setup(world: World) -> None:
        raise ZeroDivisionError("in the scenario")

    assert "in setup" in failure_of(setup)


def test_the_first_thing_that_is_wrong_ends_the_run() -> None:
    world = World()
    world.host("only", idle)
    world.fail("first")
    world.fail("second")
    with pytest.raises(Broken, match="first"):
        world.run(1)
    world.close()


# -- the same twice ------------------------------------------------------------------------------------------


@scenario(seconds=2.0, faults=STORM)
def chatting(world: World) -> None:
    """Some hosts that do something at random."""

    async def chat(host: Host) -> None:
        for _ in range(10):
            await sleep(host.kernel.random().random())
            world.note(f"{host.name} {host.kernel.random().random()}")

    for name in ("a", "b"):
        world.host(name, lambda host: host.loop.spawn(chat(host)), crashes=True)


def test_the_same_seed_is_the_same_run_and_its_acts_are_a_script_of_it() -> None:
    report = simulate(chatting, 5)
    assert simulate(chatting, 5).hash == report.hash
    assert simulate(chatting, 6).hash != report.hash
    assert report.acts
    assert simulate(chatting, 5, script=report.acts).hash == report.hash
    assert simulate(chatting, 5, script=[]).acts == []


HASHES = """
from actors.simulation import load_scenario, simulate
from windlass.scenarios import SCENARIOS
for name in sorted(SCENARIOS):
    print(name, simulate(load_scenario(name, SCENARIOS), 3, seconds=0.5).hash)
"""


@pytest.mark.no_cover
def test_the_same_in_every_process_whatever_was_run_before() -> None:
    def hashes(hash_seed: str) -> list[str]:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", HASHES]
        told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        return told.stdout.splitlines()

    first = hashes("1")
    assert len(first) > 3
    assert first == hashes("2")
    again = [
        (name, simulate(load_scenario(name, SCENARIOS), 3, seconds=0.5)) for name in sorted(SCENARIOS)[::-1]
    ]
    assert first == [f"{name} {report.hash}" for name, report in again[::-1]]


def test_exploring_adds_up_and_stops_at_the_first_failure() -> None:
    tally = explore(chatting, range(5))
    assert (tally.seeds, tally.failed) == (5, [])
    assert tally.hits

    def rarely(world: World) -> None:
        world.host("only", idle)
        world.check(world.decisions.seed != 3, "three")

    told = explore(Scenario(rarely, "rarely", 1.0, CALM, 1.0), range(10))
    assert [report.seed for report in told.failed] == [3]
    sums = [(getattr(tally, name), getattr(told, name)) for name in ("runs", "seconds", "events")]
    assert sums[0] == (10, 8)
    tally.merge(told)
    assert (tally.seeds, len(tally.failed)) == (9, 1)
    assert (tally.runs, tally.seconds, tally.events) == tuple(ours + theirs for ours, theirs in sums)


def test_two_runs_that_differ_are_a_failure() -> None:
    runs = iter(range(100))

    def differing(world: World) -> None:
        world.note(f"run {next(runs)}")

    (report,) = explore(Scenario(differing, "differing", 1.0, CALM, 1.0), [0]).failed
    assert report.failure is not None
    assert report.failure.startswith(DIFFERS)


# -- short scripts -------------------------------------------------------------------------------------------


@scenario(seconds=5.0, faults=Faults(stall=10, jump=10, refuse=5))
def fragile(world: World) -> None:
    """Fails if a host was stalled and its clock has jumped."""
    hit: set[str] = set()
    told = world.note

    def note(text: str) -> None:
        told(text)
        hit.update(word for word in ("stall", "jump") if f"fault {word} b " in text)
        if len(hit) == 2:
            world.fail("both")

    world.note = note  # type: ignore[method-assign]
    for name in ("a", "b", "c"):
        world.host(name, idle)


def test_what_does_not_matter_is_left_out() -> None:
    report = simulate(fragile, 1)
    assert len(report.acts) > 4
    shrunk = shrink(fragile, report)
    assert shrunk is not None
    assert sorted((act.kind, act.where) for act in shrunk.acts) == [("jump", "b"), ("stall", "b")]
    cut_short = shrink(fragile, report, runs_max=2)
    assert cut_short is not None
    assert len(cut_short.acts) > 2


def test_a_failure_without_faults_has_an_empty_script_and_one_that_is_gone_has_none() -> None:
    always = Scenario(lambda world: world.check(False, "always"), "always", 1.0, ROUGH, 1.0)
    shrunk = shrink(always, simulate(always))
    assert shrunk is not None
    assert shrunk.acts == []
    fine = Scenario(lambda world: None, "fine", 1.0, CALM, 1.0)
    assert shrink(fine, simulate(fine)) is None


def test_a_script_is_a_test(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from actors.simulation import scenario\n\n\n@scenario(seconds=1.0)\ndef mine(world):\n"
        "    '''Mine.'''\n    world.at(0.5, lambda: world.check(world.acts, 'calm'))\n"
    )
    mine = load_scenario(f"{path}:mine")
    assert mine.summary == "Mine."
    shrunk = shrink(mine, simulate(mine, faults=CALM))
    assert shrunk is not None
    text = as_test(f"{path}:mine", shrunk._replace(acts=[Act(0.25, "stall", "a", 0.5)]))
    assert 'Act(at=0.25, kind="stall", where="a", seconds=0.5)' in text
    test: dict[str, Any] = {}
    exec(as_test(f"{path}:mine", shrunk), test)
    with pytest.raises(AssertionError, match="calm"):
        test["test_mine_0"]()


def test_scenarios_by_name(tmp_path: Path) -> None:
    assert load_scenario("chat", {"chat": f"{__file__}:chatting"}).name == "chatting"
    for reference, said in (
        ("nothing", "there is no scenario 'nothing'; write one of pool, or MODULE:NAME"),
        ("actors.simulation:World", "actors.simulation has no scenario 'World'; there are: none"),
        ("no.such.module:x", "cannot import 'no.such.module'"),
        (f"{tmp_path}/none.py:x", "there is no file"),
        (
            f"{__file__}:test_scenarios_by_name",
            "is not a scenario yet: decorate it with @scenario (from actors.simulation)",
        ),
    ):
        with pytest.raises(ValueError) as caught:
            load_scenario(reference, {"pool": "x:y"})
        assert said in str(caught.value)


# -- the guard -----------------------------------------------------------------------------------------------


REALITY = {module.__name__: module for module in (os, random, select, socket, threading, time, uuid)}
REALITY |= {"SystemKernel": SystemKernel, "Loop": Loop}


@pytest.mark.parametrize(
    "reach",
    [
        "time.time()",
        "time.sleep(0)",
        "random.random()",
        "os.urandom(1)",
        "uuid.uuid4()",
        "socket.socket()",
        "select.epoll()",
        "threading.Thread(target=print).start()",
        "SystemKernel.monotonic()",
        "Loop()",
    ],
)
def test_reality_is_not_reached(reach: str) -> None:
    with guard(), pytest.raises(RealityReached, match="in a simulation; take it from the loop's kernel"):
        eval(reach, REALITY)
    assert time.time() > 0
    assert SystemKernel.monotonic() > 0
    Loop().close()


def test_other_threads_are_let_through() -> None:
    times: list[float] = []
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        inside.wait(10)
        times.append(time.monotonic())
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with guard():
        inside.set()
        done.wait(10)
    thread.join(10)
    assert times


def test_a_program_that_reaches_reality_fails_the_run() -> None:
    async def late(host: Host) -> None:
        time.sleep(0.1)

    assert "time.sleep was called in a simulation" in failure_of(program(late))


def test_reprs_tell_the_story() -> None:
    world = World(seed=9, script=[])
    host = world.host("only", idle)
    told = [repr(thing) for thing in (world, host, host.kernel, host.kernel.polled, world.network, chatting)]
    assert told[0] == "<World of seed 9 at 0.000000, 1 hosts>"
    assert told[5] == "<Scenario chatting, 2 s of faults>"
    assert repr(world.trace).startswith("<Trace of ")
    assert repr(world.decisions).startswith("<Decisions of seed 9")
    assert repr(world.injector) == "<Injector, 0 acts, 0 in force>"
    assert str(Act(1.0, "lag", "a>b", 0.5, 2)) == "at 1.000000 lag a>b for 0.5 s, 2"
    world.close()
    assert isinstance(simulate(chatting), Report)
    assert Tally().seeds == 0
