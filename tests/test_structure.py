"""The numbers of `tests/structure.py` hold: nothing is above its limit but what the ratchet still allows."""

from __future__ import annotations

import ast

import pytest

from tests import structure
from tests.inference import CLASSES, attributes_of, known_in

pytestmark = pytest.mark.no_cover


def test_nothing_is_above_its_limit() -> None:
    worse = structure.worse()
    assert not worse, (
        "divide it by who owns the fact, or say why it must be so (tests/structure.py tells how):\n"
        + "\n".join(worse)
    )


def test_the_ratchet_holds_only_what_is_needed() -> None:
    needless = structure.needless()
    assert not needless, "run python -m tests.structure --tighten:\n" + "\n".join(needless)


def test_every_exception_is_read_and_needed() -> None:
    for place, (kind, name, count) in structure.exceptions().items():
        assert name, f"{place}: nothing reads this comment; its form is told in tests/structure.py"
        now = structure.measure()[kind][name].count
        assert now == count > structure.KINDS[kind][1], f"{place}: there are {now}; say so, or take it away"


def test_every_cycle_that_is_named_is_there() -> None:
    graph = {name: structure.reached(name) for name in structure.MODULES}
    groups = structure.strongly_connected(graph)
    assert structure.CYCLES.keys() <= set(groups), "name those that are left"
    assert all(len(reason) > 10 for reason in structure.CYCLES.values())


def function_of(text: str) -> ast.FunctionDef:
    function = ast.parse(text).body[0]
    assert isinstance(function, ast.FunctionDef)
    return function


@pytest.mark.parametrize(
    ("body", "ways"),
    [
        ("return 1", 1),
        ("if a and b or c:\n  return 1\n elif d:\n  return 2", 5),
        ("for x in y:\n  while z:\n   pass", 3),
        ("try:\n  pass\n except A:\n  pass\n except B:\n  pass\n finally:\n  pass", 3),
        ("return [x for x in y if x if z]", 4),
        ("return 1 if a else 2", 2),
        ("def inner():\n  if a: pass\n return inner", 1),
        ("match a:\n  case 1: pass\n  case _: pass", 3),
    ],
)
def test_ways_through_a_function_are_counted(body: str, ways: int) -> None:
    assert structure.complexity_of(function_of(f"def f():\n {body}\n")) == ways


def test_groups_that_reach_each_other_are_found() -> None:
    graph = {"a": ["b"], "b": ["c"], "c": ["a", "d"], "d": ["e"], "e": [], "f": ["f"]}
    groups = structure.strongly_connected(graph)
    assert sorted(map(sorted, groups)) == [["a", "b", "c"], ["d"], ["e"], ["f"]]


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ("def f(scope: Scope): scope.deadline = 1", True),  # an annotation tells
        ("def f(loop: Loop): loop.closed = True", False),  # it is of this very module
        ("def f(loop: Loop): loop.notifier.hears_signals = 1", True),  # a field of it is not
        ("def f(loops: list[Loop]):\n for one in loops: one.closed = 1", False),
        ("def f(x): x.token = 1", True),  # unknown, and no class of this module has one
        ("def f(x): x.closed = 1", False),  # unknown, and one has
        ("def f(x): x.check_hostname = 1", False),  # unknown, and no class of ours has
        ("def f(e: Misuse): e.__cause__ = 1", False),
        ("def f(scope: Scope): a, scope.fd = 1, 2", True),
        ("def f(scope: Scope): del scope.fd", True),
    ],
)
def test_whose_attributes_are_assigned_is_found_out(text: str, foreign: bool) -> None:
    function = function_of(text)
    (target,) = structure.assigned_in(function)
    assert structure.is_foreign(target, known_in(function, None, "actors.loop"), "actors.loop") is foreign


def test_attributes_are_slots_and_what_is_assigned() -> None:
    assert attributes_of(CLASSES["actors.timers.TimerHeap"]) == {"heap", "sweep_at"}
    assert attributes_of(CLASSES["actors.backoff.Backoff"]) == set()  # frozen: a value
    assert {"pending", "_waiters", "deadline"} <= attributes_of(CLASSES["actors.replies.Reply"])
