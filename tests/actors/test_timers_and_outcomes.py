"""Deadlines: the lazy heap against a naive model, and what each outcome does to them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import NEVER, UNCHANGED, Continue, Loop, Machine, Stop, Timeout
from actors.testing import Driver, ManualKernel
from actors.timers import SWEEP_MIN


class Sleeper(Machine[int]):
    """Takes its next deadline from outside, at a wakeup."""

    def __init__(self, name: int, fired: list[tuple[float, int]]) -> None:
        self.name, self.fired, self.next = name, fired, NEVER

    def wakeup(self, scope):
        return Timeout(self, self.next)

    def timeout(self, scope):
        self.fired.append((scope.now, self.name))
        return Continue(self)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.integers(0, 3), st.integers(0, 20)),
            st.tuples(st.just("clear"), st.integers(0, 3), st.just(0)),
            st.tuples(st.just("pass"), st.just(0), st.integers(0, 9)),
        ),
        max_size=60,
    )
)
def test_deadlines_fire_as_a_naive_model_says(actions):
    kernel = ManualKernel()
    loop = Loop(kernel=kernel)
    fired: list[tuple[float, int]] = []
    sleepers = [Sleeper(number, fired) for number in range(4)]
    tokens = [loop.spawn(sleeper) for sleeper in sleepers]
    naive: dict[int, float] = {}
    expected: list[tuple[float, int]] = []
    for action, who, amount in actions:
        if action == "pass":
            kernel.clock.advance(amount)
        else:
            sleepers[who].next = kernel.clock.now + amount if action == "set" else NEVER
            loop.wake(tokens[who])
            naive.pop(who, None)
            if action == "set":
                naive[who] = sleepers[who].next
        now = kernel.clock.now
        due = sorted((when, number) for number, when in naive.items() if when <= now)
        expected += [(now, number) for _, number in due]
        for _, number in due:
            del naive[number]
        loop.tick(0)
        assert fired == expected
        assert loop.timers.next_deadline() <= min(naive.values(), default=NEVER)


def test_a_later_deadline_costs_no_entry_and_an_earlier_one_makes_one():
    kernel = ManualKernel()
    loop = Loop(kernel=kernel)
    fired: list[tuple[float, int]] = []
    sleeper = Sleeper(0, fired)
    token = loop.spawn(sleeper)
    for seconds in range(5, 50):
        sleeper.next = 1000.0 + seconds
        loop.wake(token)
        loop.tick(0)
    assert len(loop.timers) == 1
    sleeper.next = 1001.0
    loop.wake(token)
    loop.tick(0)
    assert len(loop.timers) == 2
    kernel.clock.advance(100)
    loop.tick(0)
    assert fired == [(1100.0, 0)]
    assert len(loop.timers) == 0
    assert repr(loop.timers) == "<TimerHeap 0 entries>"


def test_entries_of_stopped_machines_are_swept():
    loop = Loop(kernel=ManualKernel())
    for _ in range(3 * SWEEP_MIN):
        sleeper = Sleeper(0, [])
        token = loop.spawn(sleeper)
        sleeper.next = loop.now + 5
        loop.wake(token)
        loop.tick(0)
        loop.kill(token)
    assert len(loop.timers) <= SWEEP_MIN


def test_repeated_entries_are_swept():
    """A machine that alternates between a fixed far deadline and near ones leaves no copies behind."""
    kernel = ManualKernel()
    loop = Loop(kernel=kernel)
    sleeper = Sleeper(0, [])
    token = loop.spawn(sleeper)
    for _ in range(2 * SWEEP_MIN):
        for deadline in (1e6, kernel.clock.now + 1):
            sleeper.next = deadline
            loop.wake(token)
            loop.tick(0)
        kernel.clock.advance(1)
        loop.tick(0)
    assert len(loop.timers) <= SWEEP_MIN + 2


class Answering(Machine[int]):
    def __init__(self, answers):
        self.answers = answers

    def start(self, scope):
        return Timeout(self, scope.now + 5)

    def wakeup(self, scope):
        return self.answers.pop(0)(self, scope)


@pytest.mark.parametrize(
    ("answer", "deadline"),
    [
        (lambda machine, scope: UNCHANGED, 1005.0),
        (lambda machine, scope: Continue(machine), NEVER),
        (lambda machine, scope: Timeout(machine, scope.now + 9), 1009.0),
        (lambda machine, scope: Timeout(machine, scope.now + 1), 1001.0),
    ],
)
def test_what_an_outcome_does_to_the_deadline(answer, deadline):
    driver = Driver(Answering([answer]))
    assert driver.deadline == 1005.0
    assert driver.wake().deadline == deadline


def test_become_and_spawn_by_value_and_stop():
    born = Answering([])
    other = Answering([lambda machine, scope: Stop(ValueError("enough"))])
    driver = Driver(Answering([lambda machine, scope: Continue(other, born)]))
    driver.wake()
    assert driver.machine is other
    assert driver.loop.machines == 2
    driver.wake()
    assert not driver.alive
    assert str(driver.error) == "enough"
    assert driver.loop.machines == 1


def test_a_deadline_set_for_it_by_one_that_was_due_before_is_kept():
    kernel = ManualKernel()
    loop = Loop(kernel=kernel)
    order = []

    class Due(Machine):
        other = None

        def start(self, scope):
            self.scope = scope
            return Timeout(self, scope.now + 1)

        def timeout(self, scope):
            order.append(self)
            if self.other is not None:
                loop.kill(self.other.scope.token)
            return Continue(self)

    first, second = Due(), Due()
    first.other = second
    loop.spawn(first)
    loop.spawn(second)
    kernel.clock.advance(2)
    loop.tick(0)
    assert order == [first]
