"""Whatever a handler, a callback or a repr raises: what the loop owes to others is kept."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from structlog.testing import capture_logs

from actors import (
    NEVER,
    READABLE,
    UNCHANGED,
    Backoff,
    Channel,
    Child,
    Continue,
    Loop,
    Machine,
    MachineStopped,
    Misuse,
    Outcome,
    Reply,
    Scope,
    Stop,
    StreamProtocol,
    Supervisor,
    Timeout,
    Transport,
    deadline,
    gather,
    sleep,
    with_deadline,
)
from actors.testing import Driver, ManualKernel
from pools.testing import Bench

INTERRUPTS = [KeyboardInterrupt, SystemExit]


@pytest.fixture
def loop():
    with Loop(kernel=ManualKernel()) as loop:
        yield loop


def pass_time(loop: Loop, seconds: float) -> None:
    loop.kernel.clock.advance(seconds)  # type: ignore[attr-defined]
    loop.tick(0)


class Due(Machine["Due"]):
    """Notes its calls; raises at its first one, if it is to."""

    def __init__(self, error: type[BaseException] | None = None) -> None:
        self.error = error
        self.calls = 0

    def handle(self, scope: Scope) -> Any:
        self.scope = scope
        return self

    def start(self, scope: Scope) -> Outcome:
        return Timeout(self, scope.now + 1)

    def timeout(self, scope: Scope) -> Outcome:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return Continue(self)

    wakeup = timeout

    draining = timeout


# -- telling of an error is no second one ------------------------------------------------------------------


class Half(Machine[int]):
    def __repr__(self) -> str:
        return f"<Half of {self.peer}>"  # type: ignore[attr-defined]

    def start(self, scope: Scope) -> Outcome:
        scope.wake()
        return Continue(self)

    def wakeup(self, scope: Scope) -> Outcome:
        raise ValueError("the real error")


def test_a_repr_that_raises_is_no_second_error(loop):
    with capture_logs() as logs:
        half, other = loop.spawn(Half()), loop.spawn(Due())
        loop.tick(0)
    assert [(log["event"], log["error"]) for log in logs] == [
        ("machine crashed", "ValueError('the real error')")
    ]
    assert "whose repr raises AttributeError" in logs[0]["machine"]
    assert not loop.alive(half)
    pass_time(loop, 1)
    assert other.calls == 1


@pytest.mark.parametrize("name", ["machine", "value", "deadline"])
def test_a_handlers_own_attribute_error_is_told_as_what_it_is(loop, name):
    class Broken(Machine[int]):
        def start(self, scope: Scope) -> Outcome:
            scope.wake()
            return Continue(self)

        def wakeup(self, scope: Scope) -> Outcome:
            return getattr(None, name)

    with capture_logs() as logs:
        loop.spawn(Broken())
        loop.tick(0)
    assert logs[0]["error"].startswith("AttributeError")


def test_a_callback_that_raises_does_not_stop_the_pool():
    bench = Bench(connections=1)
    late = bench.submit("late", timeout=1)
    others = [bench.submit("other", timeout=30) for _ in range(3)]
    heard = []
    with capture_logs() as logs:
        late.when_settled(lambda reply: reply.result())
        late.when_settled(heard.append)
        bench.advance(2)
    assert "callback failed" in [log["event"] for log in logs]
    assert heard == [late]
    assert not any(other.settled for other in others)
    assert bench.loop.alive(1)


@pytest.mark.parametrize("interrupt", INTERRUPTS)
def test_an_interrupted_callback_does_not_end_whoever_settles(loop, interrupt):
    reply, heard = Reply(), []

    class Settles(Due):
        def timeout(self, scope: Scope) -> Outcome:
            reply.settle(1)
            return super().timeout(scope)

    def interrupted(reply: Reply[int]) -> None:
        raise interrupt

    settles = loop.spawn(Settles())
    reply.when_settled(interrupted)
    reply.when_settled(heard.append)
    with pytest.raises(interrupt):
        pass_time(loop, 1)
    assert (settles.calls, heard) == (1, [reply])
    assert settles.scope.alive
    alone = Reply()
    alone.when_settled(interrupted)
    with pytest.raises(interrupt):
        alone.settle(1)
    assert alone.settled


def test_a_hook_that_raises_does_not_reach_whoever_cancels(loop):
    reply, heard = Reply(), []
    with capture_logs() as logs:
        reply.on_cancel(lambda: {}["key"])
        reply.on_cancel(lambda: heard.append("second"))
        assert reply.cancel()
    assert heard == ["second"]
    assert [log["event"] for log in logs] == ["callback failed"]


@pytest.mark.parametrize("data", [5, None, "text", ["x"]])
def test_what_is_no_bytes_is_refused_where_it_is_written(data):
    class Writes(StreamProtocol):
        def received(self, transport: Transport) -> Outcome:
            transport.take(len(transport.input))
            with pytest.raises(TypeError, match="it takes bytes"):
                transport.write(data)
            transport.write(bytearray(b"and "))
            transport.write(memoryview(b"so on"))
            return UNCHANGED

    driver = Driver(Writes())
    driver.receive(b"go")
    assert driver.sent() == b"and so on"
    assert driver.alive


# -- Ctrl-C, SystemExit ------------------------------------------------------------------------------------


@pytest.mark.parametrize("interrupt", INTERRUPTS)
def test_timers_that_were_due_with_it_still_fire(loop, interrupt):
    bad, good = loop.spawn(Due(interrupt)), [loop.spawn(Due()) for _ in range(3)]
    with pytest.raises(interrupt):
        pass_time(loop, 1)
    assert not bad.scope.alive
    loop.tick(0)
    loop.tick(0)
    assert [machine.calls for machine in good] == [1, 1, 1]


@pytest.mark.parametrize("interrupt", INTERRUPTS)
def test_wakeups_and_drains_that_were_owed_with_it_are_delivered(loop, interrupt):
    bad, good = loop.spawn(Due(interrupt)), [loop.spawn(Due()) for _ in range(3)]
    for machine in (bad, *good):
        machine.scope.wake()
    with pytest.raises(interrupt):
        loop.tick(0)
    loop.tick(0)
    assert [machine.calls for machine in good] == [1, 1, 1]
    loop.spawn(Due(interrupt))
    loop.drain(5)
    with pytest.raises(interrupt):
        loop.tick(0)
    loop.tick(0)
    assert [machine.calls for machine in good] == [2, 2, 2]


@pytest.mark.parametrize("interrupt", INTERRUPTS)
def test_sleepers_wake_and_the_flows_own_reply_settles(loop, interrupt):
    async def nap() -> str:
        await sleep(1)
        return "woke"

    async def dies() -> None:
        await sleep(1)
        raise interrupt

    dying, sleeping = loop.spawn(dies()), [loop.spawn(nap()) for _ in range(3)]
    loop.tick(0)
    with pytest.raises(interrupt):
        pass_time(loop, 1)
    assert isinstance(dying.error, MachineStopped)
    assert isinstance(dying.error.__cause__, interrupt)
    loop.tick(0)
    assert [reply.result() for reply in sleeping] == ["woke"] * 3


def test_every_machine_stops_whatever_one_raises_at_its_end():
    class Ends(Machine[int]):
        def stopped(self, scope: Scope, error: BaseException | None) -> None:
            ended.append(self)
            raise KeyboardInterrupt

    ended: list[Ends] = []
    loop = Loop(kernel=ManualKernel())
    closed = Reply()
    for _ in range(2):
        loop.spawn_with_token(Ends(), closed.settle)
    with pytest.raises(KeyboardInterrupt):
        loop.close()
    assert len(ended) == 2
    assert closed.settled
    loop.close()
    assert loop.closed


def test_notified_wakeups_survive_an_interrupt_and_no_token_is_refused():
    class Woken(Machine["Woken"]):
        def __init__(self) -> None:
            self.calls = 0

        def handle(self, scope: Scope) -> Any:
            self.scope = scope
            return self

        def wakeup(self, scope: Scope) -> Outcome:
            self.calls += 1
            return UNCHANGED

    class Interrupted(Loop):
        interrupt = False

        def wake(self, token: int) -> None:
            if self.interrupt:
                self.interrupt = False
                raise KeyboardInterrupt
            super().wake(token)

    with Interrupted() as loop:
        machines = [loop.spawn(Woken()) for _ in range(3)]
        with pytest.raises(Misuse, match="None is not a token"):
            loop.notifier.wake(None)  # type: ignore[arg-type]
        for machine in machines:
            loop.notifier.wake(machine.scope.token)
        loop.interrupt = True
        with pytest.raises(KeyboardInterrupt):
            loop.tick(0)
        loop.tick(0)
        assert [machine.calls for machine in machines] == [1, 1, 1]


class Keeps(Machine[int]):
    def start(self, scope: Scope) -> Outcome:
        return Timeout(self, scope.now + 1000)


def test_a_stop_before_the_run_counts_once():
    with Loop() as loop:
        loop.spawn(Keeps())
        loop.stop()
        loop.run()
        assert loop.machines == 1


def test_a_run_ends_by_sigterm_after_a_bad_wake_from_a_thread():
    class Kills(Keeps):
        def start(self, scope: Scope) -> Outcome:
            os.kill(os.getpid(), signal.SIGTERM)
            return super().start(scope)

    async def begin() -> None:
        await sleep(0)
        loop.spawn(Kills())

    with Loop() as loop:
        with pytest.raises(Misuse):
            loop.notifier.wake("x")  # type: ignore[arg-type]
        loop.spawn(begin())
        loop.run(drain=5)
        assert loop.machines == 0


# -- time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [30 * 86_400.0, 1e9, 1e300, NEVER])
def test_a_deadline_far_away_may_be_the_only_one(seconds):
    async def waits() -> None:
        await sleep(seconds)

    class Late(Machine[int]):
        def start(self, scope: Scope) -> Outcome:
            scope.loop.notifier.wake(scope.token)
            return Timeout(self, scope.now + seconds)

    with Loop() as loop:
        loop.spawn(Late())
        loop.tick(seconds)
        loop.spawn(waits())
        loop.tick()
        loop.notifier.wake(1)
        loop.tick(seconds)
        assert loop.machines == 2


NAN = float("nan")


@pytest.mark.parametrize(
    "use",
    [
        sleep,
        deadline,
        lambda seconds: with_deadline(Reply(), seconds),
        lambda seconds: Loop(kernel=ManualKernel()).drain(seconds),
        lambda seconds: Loop(kernel=ManualKernel()).run(drain=seconds),
        lambda seconds: Loop(kernel=ManualKernel()).tick(seconds),
        lambda seconds: Loop(kernel=ManualKernel()).deadline_in(seconds),
        lambda seconds: Bench().submit("x", timeout=seconds),
        Backoff,
        lambda seconds: Supervisor(window=seconds),
    ],
)
def test_what_is_no_number_of_seconds_is_refused(loop, use):
    with pytest.raises(ValueError, match=r"write|nan"):
        use(NAN)
    with pytest.raises(TypeError):
        use("1")


def test_a_handlers_deadline_that_is_no_number_is_a_crash(loop):
    class Nan(Due):
        def wakeup(self, scope: Scope) -> Outcome:
            return Timeout(self, NAN)

    machine = loop.spawn(Nan())
    with capture_logs() as logs:
        machine.scope.wake()
        loop.tick(0)
    assert "a deadline that is not a number" in logs[0]["error"]
    assert not machine.scope.alive


def test_sleeping_for_nothing_gives_others_their_turn(loop):
    flag: list[int] = []

    async def waits() -> int:
        turns = 0
        while not flag:
            turns += 1
            await sleep(0)
        return turns

    async def sets() -> None:
        flag.append(1)

    turns = loop.spawn(waits())
    loop.spawn(sets())
    loop.tick(0)
    assert turns.result() <= 2


# -- growth, costs -----------------------------------------------------------------------------------------


def length(error: BaseException) -> int:
    entries, traceback = 0, error.__traceback__
    while traceback is not None:
        entries, traceback = entries + 1, traceback.tb_next
    return entries


def test_a_failed_reply_may_be_read_again_and_again(loop):
    bad = Reply()
    bad.fail(ValueError("no"))
    ended: Channel[int] = Channel()
    ended.close(KeyError("no"))

    async def reads() -> None:
        for _ in range(100):
            with pytest.raises(ValueError, match="no"):
                await bad
            with pytest.raises(KeyError):
                await ended.receive()

    loop.run_until(loop.spawn(reads()))
    for _ in range(100):
        with pytest.raises(ValueError, match="no"):
            bad.result()
    assert bad.error is not None
    assert length(bad.error) < 5
    assert ended.error is not None
    assert length(ended.error) < 8


def test_watching_a_second_descriptor_on_and_off_keeps_nothing():
    class Two(Machine["Two"]):
        def handle(self, scope: Scope) -> Any:
            return self

        def start(self, scope: Scope) -> Outcome:
            self.scope = scope
            self.fds = [fd for _ in range(3) for fd in os.pipe()]
            scope.register(self.fds[0], READABLE)
            return Continue(self)

    with Loop() as loop:
        two = loop.spawn(Two())
        for _ in range(100):
            two.scope.register(two.fds[2], READABLE)
            two.scope.unregister(two.fds[2])
        assert two.scope.held() == []
        for fd in (two.fds[2], two.fds[4]):
            two.scope.register(fd, READABLE)
        loop.kill(two.scope.token)
        for fd in two.fds[::2]:
            loop.poller.register(fd, READABLE)  # which refuses one that is watched still
        for fd in two.fds:
            os.close(fd)


def test_a_tick_of_a_draining_loop_looks_at_few_machines(loop):
    looked = []

    class Stays(Machine[int]):
        @property
        def drain_phase(self) -> int:  # type: ignore[override]
            looked.append(self)
            return 0

        def draining(self, scope: Scope) -> Outcome:
            return UNCHANGED

    for _ in range(100):
        loop.spawn(Stays())
    loop.drain(1000)
    loop.tick(0)
    looked.clear()
    for _ in range(50):
        loop.tick(0)
    assert len(looked) <= 50


class Becomes(Machine[int]):
    """Is asked in one phase, and then is another's affair."""

    def __init__(self, phase: int | None) -> None:
        self.drain_phase = phase  # type: ignore[misc]

    def draining(self, scope: Scope) -> Outcome:
        asked.append(self.drain_phase)
        if self.drain_phase == 0:
            return Continue(Becomes(1))
        if self.drain_phase == 1 and len(asked) < 4:
            scope.loop.spawn(Becomes(2))
        return Stop()


asked: list[int | None] = []


def test_a_machine_that_changes_its_phase_is_waited_for(loop):
    asked.clear()
    first, _, _ = (loop.spawn_with_token(Becomes(phase))[0] for phase in (0, 1, None))
    loop.drain(1000)
    loop.tick(0)
    assert asked == [0, 1], "one of phase 1 lives"
    assert loop.alive(first)
    loop.kill(first)
    loop.tick(0)
    assert asked == [0, 1, 2]
    assert loop.machines == 0


# -- supervision, failed flows -----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["start", "wakeup"])
def test_a_transient_child_that_stops_with_an_error_is_started_again(loop, where):
    starts = []

    class Bad(Machine[int]):
        def start(self, scope: Scope) -> Outcome:
            starts.append(1)
            scope.wake()
            return Stop(RuntimeError("cannot")) if where == "start" else Continue(self)

        def wakeup(self, scope: Scope) -> Outcome:
            return Stop(RuntimeError("cannot"))

    with capture_logs():
        supervisor = loop.spawn(
            Supervisor(Child("keep", Keeps), Child("bad", Bad, "transient"), restarts_max=3)
        )
        for _ in range(20):
            pass_time(loop, 1)
    assert len(starts) == 4
    assert supervisor.statistics()[1].state == "ended"


def events(logs: Any) -> list[str]:
    return [log["event"] for log in logs]


def test_an_error_that_is_handled_a_moment_later_is_not_logged(loop):
    async def fails() -> None:
        raise ValueError("no")

    async def handles() -> int:
        flows = [loop.spawn(fails()) for _ in range(3)]
        await sleep(1)
        caught = 0
        for flow in flows:
            try:
                await flow
            except ValueError:
                caught += 1
        return caught

    with capture_logs() as logs:
        handled = loop.spawn(handles())
        loop.tick(0)
        pass_time(loop, 1)
        assert handled.result() == 3
        pass_time(loop, 100)
        assert events(logs) == []
        kept = loop.spawn(fails())
        loop.tick(0)
        assert events(logs) == []
        pass_time(loop, 10)
        assert events(logs) == ["flow failed"]
        assert isinstance(kept.error, ValueError)
        unread = loop.spawn(fails())
        loop.tick(0)
        loop.close()
        assert events(logs) == ["flow failed"]  # the second within a second is held back
        assert unread.settled


def test_a_program_whose_only_flow_fails_says_so():
    async def fails() -> None:
        raise ValueError("no")

    with Loop(kernel=ManualKernel()) as loop, capture_logs() as logs:
        loop.spawn(fails())
        loop.run()
        assert events(logs) == ["flow failed"]


def test_waiters_go_away_one_by_one(loop):
    one = Reply()

    async def waits() -> None:
        await one

    flows = [loop.spawn(waits()) for _ in range(20)]
    loop.tick(0)
    for flow in flows[:-1]:
        flow.cancel()
    loop.tick(0)
    assert not one.settled
    flows[-1].cancel()
    loop.tick(0)
    assert one.settled, "the last one who wanted it has gone"
    assert gather(*flows).settled
