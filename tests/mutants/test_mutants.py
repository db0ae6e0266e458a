"""The mutants themselves: what is changed and what is not, how one gets in place, what is explained."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from .children import FAILED, Children
from .explained import explained, stale
from .operators import Module
from .placing import Functions, load
from .report import Outcome, report
from .targets import TARGETS, target_of

ROOT = Path(__file__).parent.parent.parent

SOURCE = '''
"""A module."""
LIMIT = 3

class Queue:
    size: int = 7

    def __init__(self) -> None:
        self.items: list[int] = []

    @property
    def full(self) -> bool:
        """Whether there is no room."""
        return len(self.items) >= LIMIT

    def push(self, item: int, times: int = 1) -> bool:
        if self.full:
            raise OverflowError(f"{LIMIT - 0} at most")
        for _ in range(times):
            self.items.append(item)
        return True

def numbers():
    yield 1
    yield 2

def outer(step):
    def inner(value):
        return value + step
    return inner

plus_two = outer(2)
double, half = lambda x: x * 2, lambda x: x // 2
'''


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "queueing.py"
    path.write_text(SOURCE)
    return path


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def number_of(module: Module, operator: str, before: str) -> int:
    (found,) = [
        each.number for each in module.mutants() if each.operator == operator and each.before == before
    ]
    return found


def test_what_is_changed(source: Path) -> None:
    told = {
        f"{each.function}: {each.before} -> {each.after}" for each in Module(source, source.parent).mutants()
    }
    assert told == {
        "Queue.__init__: self.items: list[int] = [] -> (deleted)",
        "Queue.full: return len(self.items) >= LIMIT -> return None",
        "Queue.full: return len(self.items) >= LIMIT -> return len(self.items) > LIMIT",
        "Queue.full: return len(self.items) >= LIMIT -> return len(self.items) < LIMIT",
        "Queue.push: if self.full: -> if self.full or True:",
        "Queue.push: if self.full: -> if self.full and False:",
        "Queue.push: raise OverflowError(f'{LIMIT - 0} at most') -> (deleted)",
        "Queue.push: self.items.append(item) -> (deleted)",
        "Queue.push: return True -> return False",
        "numbers: yield 1 -> (deleted)",
        "numbers: yield 1 -> yield 2",
        "numbers: yield 1 -> yield 0",
        "numbers: yield 2 -> (deleted)",
        "numbers: yield 2 -> yield 3",
        "numbers: yield 2 -> yield 1",
        "outer: return value + step -> return None",
        "outer: return value + step -> return value - step",
        "outer: return inner -> return None",
    }


def test_a_change_is_taken_back(source: Path) -> None:
    module = Module(source, source.parent)
    before = module.code()
    for mutant in module.mutants():
        assert module.code(mutant.number) != before
        assert module.code() == before


def test_a_mutant_gets_into_functions_that_somebody_has_already(source: Path) -> None:
    live = imported(source)
    module = Module(source, source.parent)
    queue, push = live.Queue(), live.Queue.push
    functions = Functions()
    assert functions.put(module.code()) == 0

    functions.put(module.code(number_of(module, "boundary", "return len(self.items) >= LIMIT")))
    assert [queue.push(n) for n in range(4)] == [True] * 4

    functions.put(module.code(number_of(module, "delete", "self.items.append(item)")))
    before = len(queue.items)
    queue.items.clear()
    assert push(queue, 1)
    assert (before, queue.items) == (4, [])

    functions.put(module.code(number_of(module, "delete", "yield 1")))
    assert list(live.numbers()) == [2]

    functions.put(module.code(number_of(module, "arithmetic", "return value + step")))
    assert live.plus_two(5) == 3
    assert (live.double(4), live.half(4)) == (8, 2)

    functions.put(module.code())
    assert live.plus_two(5) == 7


def test_children_say_how_they_end() -> None:
    def spin(_: object) -> int:
        while True:
            pass

    def forget(_: object) -> int:
        raise ValueError("by mistake")

    def tell(say: object) -> int:
        say("a word")  # type: ignore[operator]
        return 3

    children = Children(2)
    children.start("spin", spin, 1.0)
    children.start("forget", forget)
    children.start("tell", tell)
    children.start("leave", lambda _: os.kill(os.getpid(), 9) or 0)  # type: ignore[func-returns-value]
    ended = {each.key: each for each in children.all()}
    assert ended["spin"].status is not None
    assert ended["spin"].status < 0
    assert ended["forget"].status == FAILED
    assert "by mistake" in ended["forget"].told
    assert (ended["tell"].status, ended["tell"].told) == (3, "a word")
    assert ended["leave"].status == -9


def test_the_report_counts_apart_what_is_explained() -> None:
    lines: list[str] = []
    whats = ["found"] * 8 + ["hung", "survived", "explained", "the same code"]
    outcomes = [
        Outcome(f"pools/a.py f: {n} -> m", n, "return", what, "", 0.1) for n, what in enumerate(whats)
    ]
    assert report(outcomes, 90.0, lines.append) == 0
    assert report(outcomes, 90.1, lines.append) == 1
    assert lines[1].split() == ["pools/a.py", "8", "1", "1", "0", "2", "90.0"]


def test_every_target_is_there_and_knows_its_files() -> None:
    for name, target in TARGETS.items():
        assert target_of(name) == name
        assert all((ROOT / path).exists() for path in (*target.sources, *target.tests, *target.left_out))
        for path in target.files(ROOT):
            assert target_of(str(path.relative_to(ROOT))) == name
    with pytest.raises(SystemExit, match="pools, actors"):
        target_of("docs")


def test_explanations_have_a_reason_and_a_mutant_each() -> None:
    with pytest.raises(ValueError, match="no reason above"):
        explained("a.py f: x -> y")
    assert explained("# why\na.py f: x -> y\n\n# why else\nb.py g: z -> w\n") == {
        "a.py f: x -> y": "why",
        "b.py g: z -> w": "why else",
    }
    reasons = explained()
    paths = {key.partition(" ")[0] for key in reasons}
    keys = {mutant.key for path in paths for mutant in Module(ROOT / path, ROOT).mutants()}
    assert stale(paths, keys) == []
    assert not [reason for reason, count in Counter(reasons.values()).items() if len(reason) < 15]


def test_what_is_imported_when_it_is_needed_is_imported_before(tmp_path: Path) -> None:
    folder = tmp_path / "lazily_needed"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "part.py").write_text("def one():\n    return 1\n")
    (folder / "other.py").write_text("import not_installed_anywhere\n")
    sys.path.insert(0, str(tmp_path))
    try:
        assert load(folder / "part.py")
        assert load(folder / "__init__.py")
        assert not load(folder / "other.py")
        assert {"lazily_needed", "lazily_needed.part"} <= sys.modules.keys()
    finally:
        sys.path.remove(str(tmp_path))
