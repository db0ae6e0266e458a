"""Supervisors: who is started again, when, and when a supervisor gives up."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from actors import (
    UNCHANGED,
    Backoff,
    Child,
    Loop,
    Machine,
    Stop,
    Supervisor,
    SupervisorGaveUp,
    Timeout,
    sleep,
)
from actors.testing import ManualKernel


@pytest.fixture(autouse=True)
def _quiet():
    with capture_logs():
        yield


@pytest.fixture
def loop():
    with Loop(kernel=ManualKernel()) as loop:
        yield loop


class Worker(Machine):
    """Notes its start and stop; fails or finishes when told."""

    def __init__(self, name, notes):
        self.name, self.notes, self.then = name, notes, UNCHANGED

    def start(self, scope):
        self.scope = scope
        self.notes.append(f"+{self.name}")
        return UNCHANGED

    def wakeup(self, scope):
        return self.then

    def stopped(self, scope, error):
        self.notes.append(f"-{self.name}")

    def handle(self, scope):
        return self

    def end(self, error=None):
        self.then = Stop(error)
        self.scope.wake()
        self.scope.loop.tick(0)


def workers(notes, *names, **restart):
    return [
        Child(name, lambda name=name: Worker(name, notes), restart.get(name, "permanent")) for name in names
    ]


def later(loop, seconds=0.0):
    loop.kernel.clock.advance(seconds)
    loop.tick(0)


ONCE = Backoff(0, 0)


def test_children_start_in_order_and_stop_in_reverse(loop):
    notes = []
    supervisor = loop.spawn(Supervisor(*workers(notes, "a", "b", "c")))
    assert notes == ["+a", "+b", "+c"]
    assert repr(supervisor) == "<Supervisor supervisor one_for_one: a running, b running, c running>"
    assert supervisor["b"].name == "b"
    loop.kill(supervisor.token)
    assert notes[3:] == ["-c", "-b", "-a"]
    assert loop.machines == 0
    assert supervisor["b"] is None
    with pytest.raises(KeyError):
        supervisor["d"]


def test_a_failed_child_is_started_again_alone(loop):
    notes = []
    supervisor = loop.spawn(Supervisor(*workers(notes, "a", "b", "c")))
    before = supervisor["b"]
    before.end(ValueError("broken"))
    assert supervisor["b"] is not before
    assert notes[3:] == ["-b", "+b"]
    statistics = {child.name: child for child in supervisor.statistics()}
    assert statistics["b"].starts == 2
    assert statistics["b"].last_error == "ValueError('broken')"
    assert statistics["a"].last_error == ""


def test_rest_for_one_starts_those_after_it_too(loop):
    notes = []
    supervisor = loop.spawn(
        Supervisor(*workers(notes, "a", "b", "c", "d", d="temporary"), strategy="rest_for_one")
    )
    supervisor["b"].end(ValueError())
    later(loop)
    assert notes[4:] == ["-b", "-d", "-c", "+b", "+c"]
    assert "d ended" in repr(supervisor)


@pytest.mark.parametrize(
    ("restart", "error", "again"),
    [
        ("permanent", None, True),
        ("permanent", ValueError(), True),
        ("transient", None, False),
        ("transient", ValueError(), True),
        ("temporary", None, False),
        ("temporary", ValueError(), False),
    ],
)
def test_who_is_started_again(loop, restart, error, again):
    notes = []
    supervisor = loop.spawn(Supervisor(*workers(notes, "a", "b", b=restart)))
    supervisor["b"].end(error)
    assert (supervisor["b"] is not None) == again
    assert loop.alive(supervisor.token)


def test_it_ends_when_all_children_have_ended_for_good(loop):
    notes = []
    supervisor = loop.spawn(Supervisor(*workers(notes, "a", a="temporary")))
    supervisor["a"].end()
    assert loop.machines == 0
    assert not loop.alive(supervisor.token)


def test_further_restarts_wait_with_backoff(loop):
    notes = []
    supervisor = loop.spawn(Supervisor(*workers(notes, "a"), backoff=Backoff(1, 8)))
    supervisor["a"].end()
    assert notes == ["+a", "-a", "+a"]
    supervisor["a"].end()
    assert supervisor["a"] is None
    assert supervisor.statistics()[0].state == "waiting"
    later(loop, 0.4)
    assert supervisor["a"] is None
    later(loop, 0.6)
    assert supervisor["a"] is not None
    later(loop, 100)
    supervisor["a"].end()
    assert supervisor["a"] is not None, "the window has passed: at once again"


def test_it_gives_up_and_says_why(loop):
    notes, ended = [], []
    supervisor = loop.spawn(
        Supervisor(*workers(notes, "a", "b"), restarts_max=2, window=10, backoff=ONCE, name="web")
    )
    loop.watch(supervisor.token, ended.append)
    with capture_logs() as logs:
        for _ in range(3):
            supervisor["b"].end(ValueError("broken"))
    assert isinstance(ended[0], SupervisorGaveUp)
    assert "web: b has ended again (ValueError('broken')) after 2 restarts within 10 s" in str(ended[0])
    assert isinstance(ended[0].__cause__, ValueError)
    assert logs[-1]["event"] == "supervisor gave up"
    assert {"child ended", "child restarted"} <= {log["event"] for log in logs}
    assert loop.machines == 0
    assert notes[-1] == "-a"


def test_an_outer_supervisor_starts_the_inner_one_again(loop):
    notes = []
    outer = loop.spawn(
        Supervisor(
            Child("inner", lambda: Supervisor(*workers(notes, "a"), restarts_max=0, name="inner")),
            name="outer",
        )
    )
    first = outer["inner"]
    first["a"].end(ValueError())
    assert outer["inner"] is not first
    assert notes == ["+a", "-a", "+a"]


def test_a_child_that_cannot_start_at_first_is_an_error_of_the_spawn(loop):
    notes = []

    def refuse():
        raise OSError("port taken")

    with pytest.raises(OSError, match="port taken"):
        loop.spawn(Supervisor(*workers(notes, "a"), Child("b", refuse)))
    assert notes == ["+a", "-a"]
    assert loop.machines == 0


def test_a_child_that_cannot_start_again_counts_as_failed(loop):
    notes, ended, broken = [], [], []

    def make():
        if broken:
            raise OSError("port taken")
        return Worker("a", notes)

    supervisor = loop.spawn(Supervisor(Child("a", make), restarts_max=2, backoff=Backoff(1, 1)))
    loop.watch(supervisor.token, ended.append)
    broken.append(True)
    supervisor["a"].end()
    assert supervisor.statistics()[0].last_error == "OSError('port taken')"
    later(loop, 1)
    assert isinstance(ended[0], SupervisorGaveUp)


def test_coroutines_may_be_children(loop):
    runs = []

    async def flow():
        runs.append(1)
        await sleep(1)
        raise ValueError("again")

    loop.spawn(Supervisor(Child("flow", flow, "transient"), backoff=ONCE))
    loop.tick(0)
    later(loop, 1)
    later(loop, 0)
    assert len(runs) == 2


def test_while_the_loop_drains_nobody_is_started_again(loop):
    notes = []
    supervisor = loop.spawn(Supervisor(*workers(notes, "a", "b"), backoff=Backoff(1, 1)))
    for _ in range(2):
        supervisor["a"].end()
    assert supervisor["a"] is None

    class Slow(Machine):
        def draining(self, scope):
            return UNCHANGED

    loop.spawn(Slow())
    loop.drain(30)
    later(loop, 0)
    later(loop, 2)
    assert notes[-1] == "-b"
    assert loop.machines == 1


def test_two_ends_at_once_with_rest_for_one(loop):
    notes = []
    supervisor = loop.spawn(
        Supervisor(*workers(notes, "a", "b", "c"), strategy="rest_for_one", backoff=Backoff(1, 1))
    )
    for name in ("a", "c"):
        worker = supervisor[name]
        worker.then = Stop(ValueError(name))
        worker.scope.wake()
    loop.tick(0)
    later(loop, 1)
    assert [child.state for child in supervisor.statistics()] == ["running"] * 3
    assert notes[-3:] == ["+a", "+b", "+c"] or sorted(notes[-3:]) == ["+a", "+b", "+c"]
    supervisor["c"].end()
    supervisor["a"].end()
    later(loop, 1)
    assert [child.state for child in supervisor.statistics()] == ["running"] * 3


def test_wrong_options_say_what_to_write():
    for wrong in (
        lambda: Supervisor(strategy="all"),
        lambda: Supervisor(Child("a", Machine, "always")),
        lambda: Supervisor(Child("a", Machine), Child("a", Machine)),
        lambda: Supervisor(restarts_max=-1),
        lambda: Supervisor(window=0),
    ):
        with pytest.raises(ValueError):
            wrong()
    assert Supervisor().token is None


class Stubborn(Worker):
    """Its second start fails."""

    starts = 0

    def start(self, scope):
        type(self).starts += 1
        if type(self).starts == 2:
            raise ValueError("not now")
        return super().start(scope)


def test_who_depends_on_one_that_cannot_be_started_waits_for_it(loop):
    notes = []
    Stubborn.starts = 0
    first = Child("a", lambda: Stubborn("a", notes))
    rest = workers(notes, "b", "c")
    tree = loop.spawn(Supervisor(first, *rest, strategy="rest_for_one", backoff=Backoff(0.0, 0.0)))
    tree["a"].end(ValueError("failed"))
    assert notes == ["+a", "+b", "+c", "-a", "-c", "-b", "-a"]  # it was tried, and b and c were not
    later(loop, 1.0)
    assert notes[7:] == ["+a", "+b", "+c"]


@pytest.mark.parametrize("seed", range(8))
def test_however_the_backoff_falls_out_the_order_is_kept(seed):
    notes = []
    with Loop(kernel=ManualKernel(seed=seed)) as loop:
        tree = loop.spawn(
            Supervisor(
                *workers(notes, "a", "b"), strategy="rest_for_one", restarts_max=50, backoff=Backoff(1.0, 1.0)
            )
        )
        tree["a"].end(ValueError("once"))
        later(loop)
        for _ in range(5):  # both end in one tick: each has a delay of its own
            tree["a"].then = tree["b"].then = Stop(ValueError("together"))
            tree["a"].scope.wake()
            tree["b"].scope.wake()
            loop.tick(0)
            del notes[:]
            for _ in range(20):
                later(loop, 0.05)
            assert notes == ["+a", "+b"]


def test_one_that_ends_as_the_next_is_due_is_started_again_first(loop):
    class Brief(Worker):
        def start(self, scope):
            super().start(scope)
            return Timeout(self, scope.now + 10)

        def timeout(self, scope):
            return Stop(ValueError("its time is over"))

    notes = []
    tree = loop.spawn(
        Supervisor(
            Child("a", lambda: Brief("a", notes)),
            *workers(notes, "b"),
            strategy="rest_for_one",
            backoff=Backoff(20.0, 20.0),
        )
    )
    tree["b"].end(ValueError("once"))  # starts again at once
    later(loop)
    tree["b"].end(ValueError("twice"))
    due = loop.machine(tree.token)._by_name["b"].due
    tree["a"].scope.deadline = due - 0.001  # both timers are due in one tick, a's first
    loop.timers.schedule(tree["a"].scope, due - 0.001)
    later(loop, due - loop.now)
    assert notes[-1] == "-a"  # and b was not started without it
    later(loop, 100.0)
    assert notes[-2:] == ["+a", "+b"]
