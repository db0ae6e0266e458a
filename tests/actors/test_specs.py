"""Descriptions: spawned as often as wanted, compared, and made into machines that have their loop at once."""

from __future__ import annotations

import pytest

from actors import UNCHANGED, Loop, LoopFull, Machine, Misuse, Outcome, Scope, Spec
from actors.testing import ManualKernel


class Counter(Machine["Counter"]):
    def __init__(self, spec: Counts, scope: Scope) -> None:
        self.spec = spec
        self.scope = scope
        self.count = spec.first

    def handle(self, scope: Scope) -> Counter:
        return self

    def wakeup(self, scope: Scope) -> Outcome:
        self.count += 1
        return UNCHANGED


class Counts(Spec[Counter], frozen=True, kw_only=True):
    first: int = 0

    def __post_init__(self) -> None:
        if self.first < 0:
            raise ValueError(f"first={self.first}; write a number from 0")

    def make(self, scope: Scope) -> Counter:
        return Counter(self, scope)


class Broken(Spec[None], frozen=True):
    what: object

    def make(self, scope: Scope) -> Machine[None]:
        if isinstance(self.what, Exception):
            raise self.what
        return self.what  # type: ignore[return-value]


def test_what_is_made_has_its_scope_and_is_spawned() -> None:
    loop = Loop(kernel=ManualKernel())
    counter = loop.spawn(Counts(first=3))
    assert counter.scope.loop is loop
    assert loop.machine(counter.scope.token) is counter
    counter.scope.wake()
    loop.tick(0)
    assert counter.count == 4


def test_a_description_can_be_spawned_twice_and_compared() -> None:
    spec = Counts(first=3)
    loops = Loop(kernel=ManualKernel()), Loop(kernel=ManualKernel())
    one, other = (loop.spawn(spec) for loop in loops)
    assert one is not other
    assert one.scope.loop is not other.scope.loop
    assert spec == Counts(first=3) != Counts(first=4)
    assert repr(spec) == "Counts(first=3)"
    with pytest.raises(AttributeError):
        spec.first = 4  # type: ignore[misc]


def test_it_is_checked_when_it_is_written() -> None:
    with pytest.raises(ValueError, match="first=-1; write a number from 0"):
        Counts(first=-1)


def test_what_only_the_running_thing_has_is_an_error_that_says_so() -> None:
    advice = (
        r"Counts is a description and has no 'count'; loop\.spawn\(description\) returns the running thing"
    )
    with pytest.raises(AttributeError, match=advice):
        Counts().count  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(Counts(), "submit")


def test_machines_spawn_descriptions() -> None:
    class Parent(Machine[Counter]):
        def start(self, scope: Scope) -> Outcome:
            self.child = scope.spawn(Counts(first=1))
            return UNCHANGED

        def handle(self, scope: Scope) -> Counter:
            return self.child

    assert Loop(kernel=ManualKernel()).spawn(Parent()).count == 1


@pytest.mark.parametrize(
    ("what", "error", "match"),
    [
        (KeyError("no"), KeyError, "no"),
        (3, Misuse, r"Broken\.make\(scope\) returned 3, which is not a machine"),
    ],
)
def test_what_cannot_be_made_is_raised_and_leaves_nothing(
    what: object, error: type[Exception], match: str
) -> None:
    loop = Loop(kernel=ManualKernel())
    with pytest.raises(error, match=match):
        loop.spawn(Broken(what))
    assert loop.machines == 0
    loop.spawn(Counts())
    assert loop.machines == 1


def test_one_without_make_says_so() -> None:
    with pytest.raises(NotImplementedError, match=r"Spec\.make\(scope\) must return a machine"):
        Loop(kernel=ManualKernel()).spawn(Spec())


def test_a_full_loop_makes_nothing() -> None:
    loop = Loop(kernel=ManualKernel(), slots=1)
    loop.spawn(Counts())
    with pytest.raises(LoopFull):
        loop.spawn(Broken(AssertionError("was made")))
