"""The asker's own account: what was not kept is found, whatever the one who answers says."""

from __future__ import annotations

from typing import Any

import pytest

from actors import Cancelled, DeadlineExceeded, Reply
from actors.testing import ManualClock, Promises, same


class Careless(Reply[int]):
    """Settles as often as it is told to."""

    def settle(self, value: int) -> bool:
        self.pending = True
        return super().settle(value)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def promises(clock: ManualClock) -> Promises:
    return Promises(lambda: clock.now, bound=0.5)


def test_what_is_kept_is_counted(promises: Promises, clock: ManualClock) -> None:
    first: Reply[int] = promises.expect(Reply(), "first", value=7, within=1.0)
    second: Reply[int] = promises.expect(Reply(), "second", lambda value: value > 7, kind=int)
    third: Reply[int] = promises.expect(Reply(), "third", within=1.0)
    fourth: Reply[int] = promises.expect(Reply(), "fourth")
    assert promises.pending == ["first", "second", "third", "fourth"]
    clock.advance(1.4)
    first.settle(7)
    second.settle(8)
    third.fail(DeadlineExceeded("late"))
    fourth.cancel()
    promises.check()
    assert promises.outcomes == {"value": 2, "DeadlineExceeded": 1, "Cancelled": 1}
    assert repr(promises) == "<Promises 4 made, 0 open, 0 broken>"


def test_one_that_never_settles(promises: Promises, clock: ManualClock) -> None:
    promises.expect(Reply(), "the answer", within=1.0)
    promises.expect(Reply(), "the other")
    clock.advance(1.5)
    assert promises.look() == []
    clock.advance(0.1)
    assert promises.look() == ["the answer is late: it was due 0.600 s ago"]
    assert len(promises.look()) == 1, "told once"
    with pytest.raises(AssertionError, match=r"the answer is late.*\nthe other has never settled"):
        promises.check()


def test_a_late_one(promises: Promises, clock: ManualClock) -> None:
    reply: Reply[int] = promises.expect(Reply(), "the answer", within=1.0)
    clock.advance(2.0)
    reply.settle(1)
    assert promises.found == ["the answer is late: it has settled 1.000 s after it was due"]


def test_a_wrong_value(promises: Promises) -> None:
    promises.expect(Reply(), "a", value=7).settle(8)
    promises.expect(Reply(), "b", lambda value: value == 7).settle(8)

    def look(value: int) -> None:
        assert value == 7, "seven was asked for"

    promises.expect(Reply(), "c", look).settle(8)
    promises.expect(Reply(), "d", value=[(1, b"x")]).settle([(1, b"y")])
    assert promises.found[:2] == [
        "a got 8, which is not its answer: that is 7",
        "b got 8, which is not its answer",
    ]
    assert promises.found[2].startswith("c got 8, which is not its answer: seven was asked for")
    assert promises.found[3] == "d got [(1, b'y')], which is not its answer: that is [(1, b'x')]"


@pytest.mark.parametrize(
    ("value", "found"),
    [(1, True), (1, 1.0), (b"x", bytearray(b"x")), ([1], [1.0]), ({"a": [1]}, {"a": [True]}), ((1,), [1])],
)
def test_a_wrong_type(promises: Promises, value: Any, found: Any) -> None:
    promises.expect(Reply(), "it", value=value).settle(found)
    assert promises.found == [f"it got {found!r}, which is not its answer: that is {value!r}"]
    assert same(value, value)


def test_a_wrong_kind(promises: Promises) -> None:
    promises.expect(Reply(), "it", kind=int).settle(True)
    assert promises.found == ["it got True, which is bool and not int"]


def test_one_that_settles_twice_with_nobody_told(promises: Promises) -> None:
    """Its callbacks have run: only who looks again sees it."""
    reply = promises.expect(Careless(), "it")
    reply.settle(1)
    assert promises.look() == []
    reply.settle(2)
    assert promises.look() == ["it has settled again: <Reply value 2>"]
    assert len(promises.look()) == 1, "told once"


def test_one_that_tells_twice(promises: Promises) -> None:
    told: list[Any] = []

    class Twice(Reply[int]):
        def when_settled(self, callback: Any) -> None:
            told.append(callback)

    reply = promises.expect(Twice(), "it")
    reply.settle(1)
    for callback in told * 2:
        callback(reply)
    assert promises.found == ["it has settled 2 times"]


def test_an_error_of_the_program(promises: Promises) -> None:
    promises.expect(Reply(), "a").fail(NameError("x"))
    promises.expect(Reply(), "b", may_fail=False).fail(DeadlineExceeded("late"))
    promises.expect(Reply(), "c", may_fail=KeyError).fail(KeyError("x"))
    promises.expect(Reply(), "d", may_fail=lambda error: "x" in str(error)).fail(ValueError("x"))
    assert [what.partition("\n")[0] for what in promises.found] == [
        "a has failed: NameError('x')",
        "b has failed: DeadlineExceeded('late')",
    ]


def test_while_it_drains_the_network_may_be_to_blame() -> None:
    draining = []
    promises = Promises(lenient=lambda: bool(draining))
    promises.expect(Reply(), "before", may_fail=False).cancel()
    draining.append(True)
    promises.expect(Reply(), "after", may_fail=False).cancel()
    promises.expect(Reply(), "after", may_fail=False).fail(NameError("x"))
    assert [what.partition("\n")[0] for what in promises.found] == [
        f"before has failed: {Cancelled('the reply was cancelled')!r}",
        "after has failed: NameError('x')",
    ]


def test_what_is_wrong_is_told_at_once() -> None:
    told: list[str] = []
    promises = Promises(tell=lambda what, stack: told.append(what))
    promises.expect(Reply(), "it", value=1).settle(2)
    assert told == ["it got 2, which is not its answer: that is 1"]


def test_who_has_gone_hears_nothing(promises: Promises) -> None:
    reply: Reply[int] = promises.expect(Reply(), "it", value=1)
    promises.close()
    reply.settle(2)
    promises.check()


def test_many_are_summed_up(promises: Promises) -> None:
    for number in range(12):
        promises.expect(Reply(), f"no. {number}")
    with pytest.raises(AssertionError, match=r"no\. 9 has never settled\nand 2 more"):
        promises.check()
