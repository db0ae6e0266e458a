"""Which side of a knob was taken is told while a recording lasts; afterwards nothing is left of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import invalidate_caches
from pathlib import Path
from types import ModuleType

import pytest

from actors.simulation import Recording

MODULE = '''\
"""Everything that a knob can decide."""

from functools import lru_cache, wraps

from .limits import COPIED

LIMIT = 3
PAUSE = 5.0


def over(number):
    return number > LIMIT or number + 1 > 100


def least(number):
    return min(number, LIMIT)


def rounds(until):
    for number in range(LIMIT):
        if number == until:
            return number
    return None


def first(items):
    return items[:LIMIT]


def copied(number):
    return number == COPIED


@lru_cache
def made():
    return lambda number: number < LIMIT


def same(function):
    @wraps(function)
    def call(*arguments):
        return function(*arguments)

    return call


class Timed:
    def begin(self, now):
        self.due = now + PAUSE

    @same
    def late(self, now):
        return now >= self.due

    @property
    def begun(self):
        return self.due is not None

    def wait(self):
        return PAUSE
'''
LIMITS = """\
COPIED = 7
HANDED_ON = 2
"""
KNOBS = """\
from actors.knobs import Knob, same

KNOBS = (
    Knob("sided.module.LIMIT", (1,)),
    Knob("sided.module.PAUSE", (1.0,)),
    Knob("sided.limits.COPIED", (1,), also={"sided.module.COPIED": same}),
    Knob("sided.limits.HANDED_ON", (1,)),
)
"""


@pytest.fixture
def sided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package with knobs of its own."""
    package = tmp_path / "sided"
    package.mkdir()
    for name, text in (("__init__", ""), ("module", MODULE), ("limits", LIMITS), ("knobs", KNOBS)):
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    invalidate_caches()
    import sided.module as module  # type: ignore[import-not-found]

    yield module
    for name in [name for name in sys.modules if name.partition(".")[0] == "sided"]:
        del sys.modules[name]


def taken(recording: Recording) -> set[tuple[str, bool]]:
    """In this package."""
    return {(place, outcome) for place, outcome in recording.taken if place.startswith("sided.")}


def test_each_kind_of_decision(sided: ModuleType) -> None:
    with Recording(["sided"]) as recording:
        assert not taken(recording)
        assert sided.over(3) is False
        assert sided.least(9) == 3
        assert sided.rounds(1) == 1
        assert sided.first([1, 2]) == [1, 2]
        assert sided.copied(7) is True
        assert taken(recording) == {
            ("sided.module.over: number > LIMIT", False),
            ("sided.module.least: min(number, LIMIT)", True),
            ("sided.module.rounds: for … in range(LIMIT)", False),
            ("sided.module.first: items[:LIMIT]", False),
            ("sided.module.copied: number == COPIED", True),
        }
        assert (sided.over(4), sided.least(2), sided.rounds(9)) == (True, 2, None)
        assert (sided.first([1, 2, 3, 4]), sided.copied(8)) == ([1, 2, 3], False)
    assert len(taken(recording)) == 10


def test_what_is_remembered_is_made_again(sided: ModuleType) -> None:
    assert sided.made()(1)  # with its own code
    with Recording(["sided"]) as recording:
        assert sided.made()(1)
    assert sided.made()(3) is False
    assert {outcome for place, outcome in taken(recording) if "made" in place} == {True}


def test_what_was_set_from_a_knob_decides_for_it(sided: ModuleType) -> None:
    with Recording(["sided"]) as recording:
        timed = sided.Timed()
        timed.begin(10.0)
        assert timed.begun
        assert (timed.late(14.0), timed.late(15.0)) == (False, True)
    assert taken(recording) == {
        ("sided.module.Timed.late: now >= self.due", False),
        ("sided.module.Timed.late: now >= self.due", True),
    }


def test_what_is_missing_and_what_has_nothing_to_tell(sided: ModuleType) -> None:
    with Recording(["sided"]) as recording:
        sided.over(3)
    missing = [side for side in recording.missing() if side[0].startswith("sided.")]
    assert ("sided.module.over: number > LIMIT", True) in missing
    assert ("sided.module.over: number > LIMIT", False) not in missing
    assert ("sided.module.copied: number == COPIED", True) in missing
    other = {("sided.module.over: number > LIMIT", True)}
    assert ("sided.module.over: number > LIMIT", True) not in recording.missing(other)
    assert "sided.limits.HANDED_ON" in recording.silent
    assert "sided.module.PAUSE" not in recording.silent
    assert repr(recording).endswith("decisions taken both ways>")


def test_afterwards_the_code_is_its_own_again(sided: ModuleType) -> None:
    before = sided.over.__code__
    recording = Recording(["sided"])
    assert sided.over.__code__ is before
    with recording:
        assert sided.over.__code__ is not before
    assert sided.over.__code__ is before
    sided.over(3)
    assert not taken(recording)
    with recording:
        sided.over(3)
    assert taken(recording)


def test_an_error_is_where_it_was(sided: ModuleType) -> None:
    with Recording(["sided"]), pytest.raises(TypeError) as caught:
        sided.over("3")
    assert caught.traceback[-1].lineno == MODULE.splitlines().index(
        "    return number > LIMIT or number + 1 > 100"
    )
