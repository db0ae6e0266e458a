"""Replies settle exactly once, alone and composed, in any order of events."""

from __future__ import annotations

import pytest
import structlog
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from actors import (
    NEVER,
    Cancelled,
    DeadlineExceeded,
    Loop,
    Misuse,
    NotSettled,
    Reply,
    deadline,
    first,
    gather,
    settle_all,
    with_deadline,
)
from actors.replies import Waitable
from actors.testing import ManualKernel


@pytest.fixture
def loop():
    with Loop(kernel=ManualKernel()) as loop:
        yield loop


def test_a_value_settles_once():
    reply = Reply()
    assert repr(reply) == "<Reply pending>"
    with pytest.raises(NotSettled):
        reply.result()
    with pytest.raises(NotSettled):
        reply.error  # noqa: B018
    assert reply.settle(1)
    assert not reply.settle(2)
    assert not reply.fail(ValueError())
    assert not reply.cancel()
    assert reply.result() == 1
    assert reply.error is None
    assert repr(reply) == "<Reply value 1>"


def test_an_error_settles_once():
    reply = Reply(deadline=5.0)
    assert repr(reply) == "<Reply pending, deadline 5.000>"
    error = ValueError("no")
    assert reply.fail(error)
    assert not reply.settle(1)
    assert reply.error is error
    with pytest.raises(ValueError, match="no"):
        reply.result()
    assert repr(reply) == "<Reply error ValueError('no')>"


def test_cancel_tells_whoever_answers_once():
    reply, told = Reply(), []
    reply.on_cancel(lambda: told.append(1))
    assert reply.cancel()
    assert not reply.cancel()
    assert told == [1]
    assert isinstance(reply.error, Cancelled)
    settled = Reply()
    settled.on_cancel(lambda: told.append(2))
    settled.settle(None)
    settled.cancel()
    assert told == [1]


def test_callbacks_run_on_the_spot_and_waiters_are_told_once():
    reply, told = Reply(), []
    assert not reply.awaited
    for number in range(3):
        reply.when_settled(lambda reply, number=number: told.append((number, reply.result())))
    assert reply.awaited
    reply.settle("x")
    reply.when_settled(lambda reply: told.append("late"))
    assert told == [(0, "x"), (1, "x"), (2, "x"), "late"]


class Waker:
    def __init__(self, loop):
        from actors.testing import FakeTransport

        self.scope = FakeTransport(loop).scope

    @property
    def woken(self):
        return self.scope.woken


def test_attached_machines_are_woken_and_detached_ones_are_not(loop):
    one, two, three = Waker(loop), Waker(loop), Waker(loop)
    reply = Reply(one.scope)
    for waker in (two, three):
        reply.attach(waker.scope)
    reply.detach(two.scope)
    reply.detach(two.scope)
    reply.settle(None)
    assert (one.woken, two.woken, three.woken) == (True, False, True)
    reply.attach(two.scope)
    assert two.woken
    alone = Reply(one.scope)
    alone.detach(one.scope)
    assert not alone.awaited


def test_map():
    reply = Reply()
    doubled, broken = reply.map(lambda value: value * 2), reply.map(lambda value: value.nothing)
    reply.settle(4)
    assert doubled.result() == 8
    assert isinstance(broken.error, AttributeError)
    failed = Reply()
    mapped = failed.map(str)
    failed.fail(KeyError("k"))
    assert isinstance(mapped.error, KeyError)
    asked = Reply()
    asked.map(str).cancel()
    assert isinstance(asked.error, Cancelled)


@pytest.mark.parametrize("before", [False, True])
def test_one_follows_another(before):
    for error in [None, ValueError("no")]:
        source, target = Reply(), Reply()
        if not before:
            source.forward_to(target)
        assert target.pending
        source.fail(error) if error else source.settle(1)
        if before:
            source.forward_to(target)
        assert target.error is error
        assert error or target.result() == 1
    with pytest.raises(NotSettled):
        Reply().follow(Reply())


def test_cancelling_a_shield_leaves_the_reply_as_it_is():
    reply = Reply(deadline=5.0)
    shield, other = reply.shield(), reply.shield()
    assert shield.deadline == 5.0
    assert shield.cancel()
    assert reply.pending
    reply.settle(1)
    assert other.result() == 1
    assert isinstance(shield.error, Cancelled)


def test_a_flow_that_gives_up_leaves_what_is_shielded(loop):
    asked = Reply()

    async def ask():
        with deadline(1.0):
            return await asked.shield()

    answer = loop.spawn(ask())
    loop.tick()
    loop.kernel.clock.advance(2.0)
    loop.tick()
    assert isinstance(answer.error, DeadlineExceeded)
    assert asked.pending


@pytest.mark.parametrize("before", [False, True])
def test_an_error_that_is_ignored_is_not_logged(loop, before):
    async def fail():
        raise ValueError("no")

    with structlog.testing.capture_logs() as logged:
        reply = loop.spawn(fail())
        if before:
            reply.ignore()
        loop.tick()
        assert not reply.pending
        if not before:
            reply.ignore()
        loop.kernel.clock.advance(60.0)
        loop.tick()
    assert logged == []


def test_gather():
    assert gather().result() == ()
    parts = [Reply(), Reply()]
    both = gather(*parts)
    parts[1].settle("b")
    assert not both.settled
    parts[0].settle("a")
    assert both.result() == ("a", "b")
    parts = [Reply(deadline=2.0), Reply(deadline=3.0), Reply()]
    all_three = gather(*parts)
    assert all_three.deadline == NEVER
    parts[1].fail(ValueError("first error"))
    assert isinstance(all_three.error, ValueError)
    assert all(isinstance(parts[index].error, Cancelled) for index in (0, 2))
    cancelled = [Reply(), Reply()]
    gather(*cancelled).cancel()
    assert all(part.settled for part in cancelled)
    shared = Reply()
    twice = gather(shared, shared)
    shared.settle(1)
    assert twice.result() == (1, 1)


def test_gather_of_parts_that_have_settled_before():
    """The error comes first, and the last part has a value: the sum of both is the error, once."""
    failed, valued = Reply(), Reply()
    failed.fail(ValueError("before"))
    valued.settle(1)
    for parts in ((failed, valued), (valued, failed), (failed, failed, valued)):
        assert gather(*parts).error is failed.error
        assert first(*parts).result() == 1


def test_settle_all_and_first():
    assert settle_all().result() == ()

    class Falsy(Exception):
        def __len__(self):
            return 0

    parts = [Reply(), Reply()]
    both = settle_all(*parts)
    falsy = Falsy()
    parts[0].fail(falsy)
    assert not both.settled
    parts[1].settle(0)
    assert both.result() == (falsy, 0)
    racers = [Reply(), Reply(), Reply()]
    winner = first(*racers)
    racers[0].fail(ValueError())
    racers[1].settle("won")
    assert winner.result() == "won"
    assert isinstance(racers[2].error, Cancelled)
    losers = [Reply(), Reply()]
    nobody = first(*losers)
    losers[0].fail(ValueError())
    losers[1].fail(falsy)
    assert isinstance(nobody.error, ExceptionGroup)
    assert len(nobody.error.exceptions) == 2
    with pytest.raises(Misuse):
        first()


def test_with_deadline(loop):
    settled = Reply()
    settled.settle(1)
    assert with_deadline(settled, 1) is settled
    in_time, late = with_deadline(Reply(), 2.0), with_deadline(Reply(), 1.0)
    told = []
    late.on_cancel(lambda: told.append(1))
    assert late.deadline == 1001.0
    loop.kernel.clock.advance(0.5)
    loop.drain()
    loop.tick(0)
    assert not late.settled
    loop.kernel.clock.advance(1)
    loop.tick(0)
    assert isinstance(late.error, DeadlineExceeded)
    assert isinstance(late.error, TimeoutError)
    assert told == [1]
    in_time.settle("x")
    loop.tick(0)
    assert loop.machines == 0
    assert in_time.result() == "x"


def test_a_deadline_is_inherited_and_the_earliest_wins(loop):
    with pytest.raises(ValueError, match="write 0 or more"):
        deadline(-1)
    with pytest.raises(ValueError, match="write 0 or more"):
        deadline(float("nan"))
    with deadline(5):
        assert loop.inherited_deadline == 1005.0
        with deadline(9):
            assert loop.inherited_deadline == 1005.0
        with deadline(1):
            assert loop.inherited_deadline == 1001.0
        assert loop.inherited_deadline == 1005.0
    assert loop.inherited_deadline == NEVER


def test_a_waitable_must_be_written():
    waitable = Waitable()
    for use in (lambda: waitable.settled, lambda: waitable.attach(None), lambda: waitable.detach(None)):
        with pytest.raises(NotImplementedError):
            use()


@pytest.mark.parametrize("combine", [gather, first, settle_all])
def test_only_replies_are_composed(loop, combine):
    async def answer():
        return 1

    coroutine = answer()
    with pytest.raises(Misuse, match=r"becomes one by loop\.spawn"):
        combine(loop.spawn(answer()), coroutine)
    coroutine.close()
    loop.tick(0)


class Replies(RuleBasedStateMachine):
    """Any interleaving of answers, cancels, compositions and time settles each reply exactly once."""

    replies = Bundle("replies")

    def __init__(self):
        super().__init__()
        self.loop = Loop(kernel=ManualKernel())
        self.settled: dict[int, int] = {}
        self.all: list[Reply] = []
        self.final: dict[int, object] = {}

    def watched(self, reply):
        key = len(self.all)
        self.all.append(reply)
        self.settled[key] = 0

        def count(reply):
            self.settled[key] += 1

        reply.when_settled(count)
        return reply

    @rule(target=replies)
    def make(self):
        return self.watched(Reply())

    @rule(
        target=replies,
        parts=st.lists(replies, min_size=1, max_size=3),
        kind=st.sampled_from([gather, settle_all, first]),
    )
    def compose(self, parts, kind):
        return self.watched(kind(*parts))

    @rule(target=replies, reply=replies, broken=st.booleans())
    def map_it(self, reply, broken):
        return self.watched(reply.map((lambda value: 1 / 0) if broken else (lambda value: value)))

    @rule(reply=replies, seconds=st.integers(0, 5))
    def limit(self, reply, seconds):
        with_deadline(reply, seconds)

    @rule(reply=replies)
    def settle(self, reply):
        before = reply.settled
        assert reply.settle("value") is not before

    @rule(reply=replies)
    def fail(self, reply):
        reply.fail(ValueError("error"))

    @rule(reply=replies)
    def cancel(self, reply):
        reply.cancel()

    @rule(seconds=st.integers(0, 4))
    def wait(self, seconds):
        self.loop.kernel.clock.advance(seconds)
        self.loop.tick(0)

    @invariant()
    def settled_once_and_for_good(self):
        for key, reply in enumerate(self.all):
            assert self.settled[key] == int(reply.settled)
            if reply.settled:
                answer = reply.error if reply.error is not None else reply.result()
                assert self.final.setdefault(key, answer) is answer

    def teardown(self):
        for reply in self.all:
            reply.cancel()
        assert all(count == 1 for count in self.settled.values())
        self.loop.tick(0)
        assert self.loop.machines == 0
        self.loop.close()


Replies.TestCase.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None, phases=[Phase.generate]
)
TestRepliesInAnyOrder = Replies.TestCase
TestRepliesInAnyOrder.pytestmark = [pytest.mark.no_cover]
