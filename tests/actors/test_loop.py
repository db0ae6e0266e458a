"""The loop: tick order, tokens, limits, isolation of crashes, the end in its several forms."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading

import pytest
from structlog.testing import capture_logs

from actors import UNCHANGED, Continue, Loop, LoopFull, Machine, Misuse, Stop, Timeout, current_loop
from actors.current import enter_loop
from actors.kernel import READABLE
from actors.loop import ROUNDS_MAX
from actors.scope import SLOT_MASK
from actors.testing import ManualKernel, run_until


@pytest.fixture
def loop():
    with Loop(kernel=ManualKernel()) as loop:
        yield loop


class Noting(Machine):
    """Notes what happens to it."""

    def __init__(self, notes=None, **answers):
        self.notes = [] if notes is None else notes
        self.answers = answers

    def note(self, what, scope):
        self.notes.append(what)
        answer = self.answers.get(what, lambda machine, scope: UNCHANGED)
        return answer(self, scope)

    def start(self, scope):
        self.scope = scope
        return self.note("start", scope)

    def ready(self, scope, events):
        return self.note("ready", scope)

    def wakeup(self, scope):
        return self.note("wakeup", scope)

    def timeout(self, scope):
        return self.note("timeout", scope)

    def draining(self, scope):
        return self.note("draining", scope)

    def stopped(self, scope, error):
        self.notes.append(("stopped", error))
        self.answers.get("stopped", lambda machine, scope: None)(self, scope)


def fail(machine, scope):
    raise ValueError("a bug")


def test_defaults_of_a_machine_do_nothing_and_stop_when_drained(loop):
    token = loop.spawn(Machine())
    loop.wake(token)
    loop.tick(0)
    (scope,) = [scope for scope in loop.living() if scope.token == token]
    machine = loop.machine(token)
    assert machine.ready(scope, READABLE) == Continue(machine)
    assert machine.timeout(scope) == Continue(machine)
    loop.drain()
    loop.tick(0)
    assert loop.machines == 0
    assert loop.draining


def test_a_tick_goes_through_events_wakeups_timers(loop):
    notes = []
    waker = loop.kernel.waker()
    machine = Noting(
        notes,
        start=lambda machine, scope: (
            scope.register(waker.fileno(), READABLE) or Timeout(machine, scope.now + 1)
        ),
    )
    token = loop.spawn(machine)
    loop.kernel.clock.advance(2)
    waker.wake()
    loop.wake(token)
    loop.tick(0)
    assert notes == ["start", "ready", "wakeup", "timeout"]


def test_wakeups_are_coalesced_and_run_until_there_are_none(loop):
    machine = Noting()
    token = loop.spawn(machine)
    for _ in range(5):
        loop.wake(token)
    loop.tick(0)
    assert machine.notes == ["start", "wakeup"]
    chain = []
    first = Noting(wakeup=lambda machine, scope: chain.append(1) or second.scope.wake() or UNCHANGED)
    second = Noting(wakeup=lambda machine, scope: chain.append(2) or UNCHANGED)
    loop.spawn(second)
    loop.wake(loop.spawn(first))
    loop.tick(0)
    assert chain == [1, 2]


def test_wakeup_rounds_are_bounded_and_go_on_in_the_next_tick(loop):
    machine = Noting(wakeup=lambda machine, scope: scope.wake() or UNCHANGED)
    loop.wake(loop.spawn(machine))
    loop.tick(0)
    assert machine.notes.count("wakeup") == ROUNDS_MAX
    assert loop.next_deadline == loop.now
    loop.tick()
    assert machine.notes.count("wakeup") == 2 * ROUNDS_MAX


def test_stale_tokens_reach_nobody(loop):
    tokens = set()
    for _ in range(100):
        token = loop.spawn(Noting())
        tokens.add(token)
        assert loop.kill(token)
    assert len(tokens) == 100
    assert len({token & SLOT_MASK for token in tokens}) < 20
    heir = Noting()
    living = loop.spawn(heir)
    for token in tokens:
        loop.wake(token)
        assert not loop.kill(token)
        assert not loop.alive(token)
        assert loop.machine(token) is None
    loop.wake(1 << 60)
    loop.tick(0)
    assert heir.notes == ["start"]
    assert loop.alive(living)


def test_a_full_loop_refuses_and_recovers():
    with Loop(kernel=ManualKernel(), slots=3) as loop:
        tokens = [loop.spawn(Noting()) for _ in range(3)]
        with pytest.raises(LoopFull, match="all 3 slots"):
            loop.spawn(Noting())
        loop.kill(tokens[1])
        assert loop.alive(loop.spawn(Noting()))
        assert not loop.alive(tokens[1])
    with pytest.raises(ValueError, match="slots=0"):
        Loop(slots=0)


@pytest.mark.parametrize("handler", ["ready", "wakeup", "timeout", "draining"])
def test_a_crash_stops_that_machine_alone(loop, handler):
    waker = loop.kernel.waker()
    machine = Noting(
        start=lambda machine, scope: (
            scope.register(waker.fileno(), READABLE) or Timeout(machine, scope.now + 1)
        ),
        **{handler: fail},
    )
    other = Noting(draining=lambda machine, scope: UNCHANGED)
    token, other_token = loop.spawn(machine), loop.spawn(other)
    with capture_logs() as logs:
        match handler:
            case "ready":
                waker.wake()
            case "wakeup":
                loop.wake(token)
            case "timeout":
                loop.kernel.clock.advance(2)
            case "draining":
                loop.drain()
        loop.tick(0)
    assert not loop.alive(token)
    assert loop.alive(other_token)
    assert isinstance(machine.notes[-1][1], ValueError)
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["machine crashed"]
    assert loop.statistics().crashed == 1


@pytest.mark.parametrize("answer", [None, 5, "Continue"])
@pytest.mark.parametrize("handler", ["wakeup", "timeout"])
def test_a_wrong_outcome_says_what_to_return(loop, handler, answer):
    machine = Noting(start=lambda machine, scope: Timeout(machine, 1001.0), **{handler: lambda *_: answer})
    token = loop.spawn(machine)
    with capture_logs():
        loop.wake(token) if handler == "wakeup" else loop.kernel.clock.advance(2)
        loop.tick(0)
    error = machine.notes[-1][1]
    assert isinstance(error, TypeError)
    assert "a handler returns Continue, Timeout, Stop or UNCHANGED" in str(error)


def test_an_attribute_error_of_the_machine_itself_is_told_as_it_is(loop):
    machine = Noting(wakeup=lambda machine, scope: machine.machine)
    with capture_logs():
        loop.wake(loop.spawn(machine))
        loop.tick(0)
    assert isinstance(machine.notes[-1][1], AttributeError)


def test_an_error_in_start_is_raised_to_the_spawner(loop):
    machine = Noting(start=fail)
    with pytest.raises(ValueError, match="a bug"):
        loop.spawn(machine)
    assert loop.machines == 0
    assert machine.notes[-1][0] == "stopped"


def broken(error):
    raise ValueError("a bug in clean-up")


def test_clean_up_goes_on_when_a_part_of_it_fails(loop):
    closed = []
    machine = Noting(stopped=fail)
    token = loop.spawn(machine)
    machine.scope.on_stop(lambda error: closed.append("first"))
    machine.scope.on_stop(broken)
    loop.watch(token, closed.append)
    reason = RuntimeError("reason")
    with capture_logs() as logs:
        loop.kill(token, reason)
    assert closed == ["first", reason]
    assert [log["event"] for log in logs] == ["clean-up failed"]
    late = []
    loop.watch(token, late.append)
    assert late == [None]


def test_a_machine_may_kill_itself_spawn_and_stop_in_its_own_handlers(loop):
    def suicide(machine, scope):
        loop.kill(scope.token)
        return Timeout(machine, scope.now + 1)

    machine = Noting(wakeup=suicide)
    loop.wake(loop.spawn(machine))
    loop.tick(0)
    assert machine.notes == ["start", "wakeup", ("stopped", None)]
    loop.kernel.clock.advance(5)
    loop.tick(0)
    assert machine.notes[-1] == ("stopped", None)
    kids = []
    parent = Noting(start=lambda machine, scope: kids.append(scope.spawn(Noting())) or Stop())
    token = loop.spawn(parent)
    assert not loop.alive(token)
    assert loop.alive(kids[0])
    stopper = Noting(start=lambda machine, scope: loop.kill(scope.token) and Continue(machine, Noting()))
    assert not loop.alive(loop.spawn(stopper))


def test_an_interrupt_loses_nobody_elses_wakeup(loop):
    def interrupt(machine, scope):
        raise KeyboardInterrupt

    first, second = Noting(wakeup=interrupt), Noting()
    tokens = [loop.spawn(first), loop.spawn(second)]
    for token in tokens:
        loop.wake(token)
    with pytest.raises(KeyboardInterrupt):
        loop.tick(0)
    loop.tick(0)
    assert second.notes == ["start", "wakeup"]


def test_drain_asks_phase_by_phase_and_then_ends_what_others_own(loop):
    asked = []

    class Phased(Noting):
        def __init__(self, name, phase, polite=True):
            super().__init__(
                draining=lambda machine, scope: asked.append(name) or (Stop() if polite else UNCHANGED)
            )
            self.drain_phase = phase

    owned = Phased("owned", None)
    pool = Phased("pool", 1)
    server = Phased("server", 0, polite=False)
    for machine in (owned, pool, server):
        loop.spawn(machine)
    loop.drain(10)
    loop.tick(0)
    assert asked == ["server"]
    late = Phased("late", 0)
    loop.spawn(late)
    loop.tick(0)
    assert asked == ["server", "late"]
    loop.kill(server.scope.token)
    loop.tick(0)
    assert asked == ["server", "late", "pool"]
    assert loop.machines == 0
    loop.notifier.wake(0)
    assert owned.notes[-1] == ("stopped", None)


def test_drain_stops_what_is_left_at_its_deadline(loop):
    machine = Noting(draining=lambda machine, scope: UNCHANGED)
    loop.spawn(machine)
    with capture_logs() as logs:
        loop.drain(3)
        loop.tick(0)
        assert loop.next_deadline == 1003.0
        loop.drain(5)
        loop.kernel.clock.advance(6)
        loop.run()
    assert isinstance(machine.notes[-1][1], TimeoutError)
    assert [log["event"] for log in logs] == ["draining", "drain deadline passed"]
    assert "draining" in repr(loop)


def test_draining_wakes_whom_the_drained_answer(loop):
    other = Noting(wakeup=lambda machine, scope: Stop())
    loop.spawn(other)
    other.drain_phase = 0
    asked = Noting(draining=lambda machine, scope: other.scope.wake() or Stop())
    other.answers["draining"] = lambda machine, scope: UNCHANGED
    loop.spawn(asked)
    loop.drain()
    loop.tick(0)
    assert loop.machines == 0


def test_run_ends_with_the_last_machine_or_with_stop(loop):
    loop.wake(loop.spawn(Noting(wakeup=lambda machine, scope: Stop())))
    loop.run()
    loop.wake(loop.spawn(Noting(wakeup=lambda machine, scope: loop.stop() or UNCHANGED)))
    loop.run(signals=False)
    assert loop.machines == 1


def test_misuse_is_told(loop):
    said = []

    def misuse(machine, scope):
        for wrong in (loop.tick, loop.close):
            with pytest.raises(Misuse) as caught:
                wrong()
            said.append(str(caught.value))
        assert current_loop() is loop
        assert scope.now == loop.time() == scope.kernel.monotonic()
        return UNCHANGED

    loop.wake(loop.spawn(Noting(wakeup=misuse)))
    loop.tick(0)
    assert len(said) == 2
    loop.close()
    loop.close()
    with pytest.raises(Misuse, match="closed"):
        loop.spawn(Noting())
    assert repr(loop).startswith("<Loop closed, 0 machines, ")
    before = enter_loop(None)
    with pytest.raises(Misuse, match="make one first"):
        current_loop()
    enter_loop(before)


def test_closing_gives_every_descriptor_back():
    kernel = ManualKernel()
    loop = Loop(kernel=kernel)
    assert kernel.descriptors == 1
    loop.spawn(Noting())
    loop.close()
    assert kernel.descriptors == 0
    loop.notifier.wake(1)


def test_several_descriptors_of_one_machine_are_all_forgotten_when_it_stops(loop):
    wakers = [loop.kernel.waker() for _ in range(3)]

    def start(machine, scope):
        for waker in wakers:
            scope.register(waker.fileno(), READABLE)
        scope.unregister(wakers[2].fileno())
        return UNCHANGED

    machine = Noting(start=start)
    token = loop.spawn(machine)
    wakers[1].wake()
    wakers[2].wake()
    loop.tick(0)
    assert machine.notes == ["start", "ready"]
    machine.scope.modify(wakers[1].fileno(), 0)
    loop.tick(0)
    assert machine.notes == ["start", "ready"]
    loop.kill(token)
    assert loop.poller.watched.keys() == {10}


def test_an_event_for_a_machine_that_an_earlier_one_stopped_is_dropped(loop):
    wakers = [loop.kernel.waker() for _ in range(2)]
    machines = []
    for waker in wakers:
        machines.append(
            Noting(
                start=lambda machine, scope, waker=waker: (
                    scope.register(waker.fileno(), READABLE) or UNCHANGED
                ),
                ready=lambda machine, scope: (
                    [loop.kill(other.scope.token) for other in machines] and UNCHANGED
                ),
            )
        )
        loop.spawn(machines[-1])
        waker.wake()
    loop.tick(0)
    assert [machine.notes.count("ready") for machine in machines] == [1, 0]


def test_reprs_and_statistics_tell_the_story(loop):
    machine = Noting(start=lambda machine, scope: Timeout(machine, scope.now + 2.5))
    token = loop.spawn(machine)
    assert repr(machine.scope) == "<Scope 1.0 Noting, deadline in 2.500 s>"
    assert machine.scope.alive
    loop.kill(token)
    assert repr(machine.scope) == "<Scope 1.0 stopped>"
    assert repr(loop) == "<Loop open, 0 machines, 1 timers, tick 0>"
    statistics = loop.statistics()
    assert (statistics.spawned, statistics.stopped, statistics.machines) == (1, 1, 0)
    assert repr(loop.notifier) == "<Notifier 0 wakeups pending>"


# -- with the real kernel ----------------------------------------------------------------------------------


def test_eight_threads_notify_and_nothing_is_lost():
    per_thread = 500
    with Loop() as loop:
        seen = set()
        machines = [
            Noting(wakeup=lambda machine, scope: seen.add(scope.token) or UNCHANGED)
            for _ in range(8 * per_thread)
        ]
        tokens = [loop.spawn(machine) for machine in machines]
        threads = [
            threading.Thread(
                target=lambda part: [loop.notifier.wake(token) for token in part], args=(tokens[n::8],)
            )
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        run_until(loop, lambda: len(seen) == len(tokens))
        for thread in threads:
            thread.join()


def test_the_loop_is_pollable_by_another(loop):
    with Loop() as real:
        outer = select.epoll()
        outer.register(real.fileno(), select.EPOLLIN)
        real.tick(0)
        assert outer.poll(0) == []
        machine = Noting()
        real.notifier.wake(real.spawn(machine))
        assert outer.poll(5)[0][0] == real.fileno()
        real.tick(0)
        assert machine.notes == ["start", "wakeup"]
        assert outer.poll(0) == []
        outer.close()


def test_tick_waits_for_the_earlier_of_timeout_and_deadline():
    with Loop() as loop:
        machine = Noting(start=lambda machine, scope: Timeout(machine, scope.now + 0.001))
        loop.spawn(machine)
        while "timeout" not in machine.notes:
            loop.tick(5)
        loop.tick(0.001)
        machine.answers["wakeup"] = lambda machine, scope: Timeout(machine, scope.now + 3600)
        loop.wake(machine.scope.token)
        loop.tick(0)
        loop.tick(0.001)
        assert machine.notes.count("timeout") == 1


PROGRAM = """
import os, signal, sys
from actors import Loop, Machine, UNCHANGED, Stop, Timeout
class Server(Machine):
    count = 0
    def start(self, scope):
        scope.wake()
        return UNCHANGED
    def wakeup(self, scope):
        os.kill(os.getpid(), signal.SIGTERM)
        return Timeout(self, scope.now + 0.001)
    def timeout(self, scope):
        if scope.loop.draining and sys.argv[1] == "twice" and not self.count:
            self.count = 1
            os.kill(os.getpid(), signal.SIGINT)
        return Timeout(self, scope.now + 0.001)
    def draining(self, scope):
        print("asked")
        return Stop() if sys.argv[1] == "once" else Timeout(self, scope.now)
loop = Loop()
loop.spawn(Server())
loop.run()
print("left", loop.machines, signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
"""


@pytest.mark.parametrize(("times", "left"), [("once", "0"), ("twice", "1")])
def test_a_first_signal_drains_and_a_second_one_stops(times, left):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, times], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == f"left {left} True"
    assert "asked" in done.stdout


def test_handlers_that_the_program_has_set_are_left_alone():
    def mine(number, frame):
        loop.stop()

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with Loop() as loop:
            loop.spawn(
                Noting(wakeup=lambda machine, scope: os.kill(os.getpid(), signal.SIGTERM) or UNCHANGED)
            )
            loop.wake(1)
            loop.run()
            assert signal.getsignal(signal.SIGTERM) is mine
            assert not loop.draining
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_loop_in_another_thread_leaves_signals_alone():
    ended = []

    def work():
        with Loop() as loop:
            loop.wake(loop.spawn(Noting(wakeup=lambda machine, scope: Stop())))
            loop.run()
            ended.append(loop.machines)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == [0]
