"""Knobs: every number that decides a path is one, is read where it is used, and is turned back.

A constant that is added without a decision fails here: make it a knob of its package (`actors/knobs.py` says
how), or say below why it is none.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import Backoff, Flush
from actors.simulation import World, draw, scenario, simulate, turned
from actors.simulation.knobs import knobs_of

from .fixed_numbers import FIXED, WHOLE_MODULES

ROOT = Path(__file__).parent.parent
PACKAGES = tuple(
    sorted(
        ".".join(path.parent.relative_to(ROOT).parts)
        for floor in ("actors", "pools", "protocols")
        for path in (ROOT / floor).rglob("knobs.py")
        if path.parent.name != "simulation"
    )
)
KNOBS = knobs_of(PACKAGES)
PLACES = {place for knob in KNOBS.values() for place in (knob.name, *knob.also)}


def modules() -> Iterator[tuple[str, ast.Module, bool]]:
    """Every module of the four floors, and whether it is a package."""
    for floor in ("actors", "pools", "protocols", "windlass"):
        for path in sorted((ROOT / floor).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            package = parts[-1] == "__init__"
            yield ".".join(parts[:-1] if package else parts), ast.parse(path.read_text()), package


def value_of(place: str) -> object:
    module, _, name = place.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_each_knob_turns_both_ways_from_its_own_value() -> None:
    for knob in KNOBS.values():
        own = value_of(knob.name)
        for number in knob.values:
            assert knob.settings(number)[knob.name] != own, f"{knob} has its own value among the others"
            for place, value in knob.settings(number).items():
                assert type(value) is type(value_of(place)), f"{place} would become {value!r}"
        if isinstance(own, int | float):
            assert all(number < own for number in knob.small), knob
            assert all(number > own for number in knob.large), knob


def test_what_follows_from_a_knob_follows_from_it_now() -> None:
    """The functions in `also` say what the modules say."""
    for knob in KNOBS.values():
        own = value_of(knob.name)
        if knob.make is None:
            for place, made in knob.also.items():
                assert made(own) == value_of(place), place


@pytest.mark.no_cover
def test_every_number_is_a_knob_or_fixed_for_a_reason() -> None:
    undecided = []
    for module, tree, _ in modules():
        if any(module == whole or module.startswith(f"{whole}.") for whole in WHOLE_MODULES):
            continue
        for name in constants(tree):
            place = f"{module}.{name}"
            value = value_of(place)
            number = isinstance(value, int | float | Backoff | Flush) and not isinstance(value, bool)
            if number and place not in PLACES and name not in FIXED.get(module, {}):
                undecided.append(f"{place} = {value!r}")
    assert undecided == [], "make it a knob in its package's knobs.py, or say in fixed_numbers.py why not"


def constants(tree: ast.Module) -> Iterator[str]:
    """Names in capitals that a module gives a value."""
    for node in tree.body:
        targets = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AnnAssign)
            else []
        )
        for target in targets:
            if isinstance(target, ast.Name) and target.id.isupper():
                yield target.id


def test_what_is_fixed_is_there() -> None:
    """The list of what is no knob has nothing that is gone, or is a knob."""
    for module, names in FIXED.items():
        there = set(vars(importlib.import_module(module)))
        assert names.keys() <= there, f"{module}: {names.keys() - there} are gone"
        assert not {f"{module}.{name}" for name in names} & PLACES


@pytest.mark.no_cover
def test_every_knob_is_read_where_it_is_used() -> None:
    """No module keeps a copy that turning would not reach: imported by name, as a default argument, or made
    into something else when the module is loaded; unless the knob names the copy."""
    caught = []
    for module, tree, package in modules():
        if module.endswith("knobs") or module == "windlass":  # whose imports are for type checkers
            continue
        caught += [
            f"{module} imports {name}; name the copy in the knob's `also`"
            for name in imported(module, tree, package)
            if name in PLACES and f"{module}.{name.rpartition('.')[2]}" not in PLACES
        ]
        here = {name.rpartition(".")[2] for name in PLACES if name.rpartition(".")[0] == module}
        caught += [
            f"{module}, line {node.lineno}: {node.id} is read when the module is loaded"
            for node in read_at_once(tree, module)
            if node.id in here
        ]
    assert caught == []


def imported(module: str, tree: ast.Module, package: bool) -> Iterator[str]:
    """The full names of what a module imports by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            above = module.split(".") if package else module.split(".")[:-1]
            start = above[: len(above) - node.level + 1] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{source}.{alias.name}"


def read_at_once(tree: ast.Module, module: str) -> Iterator[ast.Name]:
    """Names that are read outside of any function's body."""

    def walk(node: ast.AST) -> Iterator[ast.Name]:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node
        elif isinstance(node, ast.AnnAssign | ast.Assign) and made_of_a_knob(node, module):
            return
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            places: list[ast.AST | None] = [*node.args.defaults, *node.args.kw_defaults]
            places += getattr(node, "decorator_list", [])
            for place in places:
                if place is not None:
                    yield from walk(place)
        else:
            for child in ast.iter_child_nodes(node):
                yield from walk(child)

    yield from walk(tree)


def made_of_a_knob(node: ast.AnnAssign | ast.Assign, module: str) -> bool:
    """Whether this gives a value to a name that a knob has in its `also`."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(target, ast.Name) and f"{module}.{target.id}" in PLACES for target in targets)


# -- drawing and turning -------------------------------------------------------------------------------------


def test_what_a_seed_draws_is_its_own_and_nobody_elses() -> None:
    pools = ("pools",)
    assert draw(7, pools) == draw(7, pools)
    drawn = [draw(seed, pools) for seed in range(200)]
    assert sum(not values for values in drawn) > 20, "in some runs none is turned"
    assert sum(len(values) > len(knobs_of(pools)) / 2 for values in drawn) > 20, "in some most are"
    for name, knob in knobs_of(pools).items():
        met = {values.get(name) for values in drawn}
        assert met == {None, *knob.values}, f"{knob}: only {met} are drawn"


def test_more_knobs_change_no_others_value() -> None:
    for seed in range(20):
        fewer, more = draw(seed, ("pools",)), draw(seed, PACKAGES)
        redrawn = {name: more.get(name) for name in knobs_of(("pools",))}
        assert redrawn == {name: fewer.get(name) for name in knobs_of(("pools",))}


def test_knobs_are_turned_back_whatever_happens() -> None:
    before = {place: value_of(place) for place in PLACES}
    for index in range(3):
        everything = {name: knob.values[min(index, len(knob.values) - 1)] for name, knob in KNOBS.items()}
        with pytest.raises(ZeroDivisionError):
            turn_and_fail(everything)
        assert {place: value_of(place) for place in PLACES} == before


def turn_and_fail(everything: dict[str, int | float]) -> None:
    with turned(everything, PACKAGES):
        for name, number in everything.items():
            for place, value in KNOBS[name].settings(number).items():
                assert value_of(place) == value
        raise ZeroDivisionError


def test_an_unknown_knob_is_refused() -> None:
    with (
        pytest.raises(ValueError, match=r"no knob 'pools\.queues\.SWEEP' in actors, pools"),
        turned({"pools.queues.SWEEP": 1}, ("pools",)),
    ):
        pass


def test_a_run_says_what_it_has_turned() -> None:
    seen = []

    @scenario(knobs=["pools"])
    def look(world: World) -> None:
        world.host("only", lambda host: seen.append(value_of("pools.queues.FRONT_SIZE")))

    own = value_of("pools.queues.FRONT_SIZE")
    assert simulate(look, 1, knobs={"pools.queues.FRONT_SIZE": 3}).knobs == {"pools.queues.FRONT_SIZE": 3}
    assert simulate(look, 1, knobs={}).knobs == {}
    reports = [simulate(look, seed) for seed in range(20)]
    assert [report.knobs for report in reports] == [draw(seed, ("pools",)) for seed in range(20)]
    assert seen == [3, own, *(report.knobs.get("pools.queues.FRONT_SIZE", own) for report in reports)]
