"""Scenarios, and how one is run: the faults, the heal, the rest, the drain; and what a run was like.

Rules:
1. A scenario is a function of a `World`: it makes hosts and says what must hold. The same function, seed and
   faults give the same run, event for event.
2. A run reports and does not raise: what was wrong is the report's `failure`.
3. A script (acts) instead of rates makes a run again with just these faults.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, overload

import msgspec

from .errors import Broken
from .faults import CALM, ROUGH, Act, Faults
from .guard import guard
from .knobs import Turned, draw, packages_behind, turned
from .reality import RealWorld
from .world import SETTLE_SECONDS, World

__all__ = ["Report", "Scenario", "load_scenario", "rehearse", "scenario", "simulate"]

TAIL: Final = 40  # lines of the trace that a report keeps

Setup = Callable[[World], object]


class Scenario:
    """What `windlass sim` runs. Made by `scenario`."""

    def __init__(
        self,
        setup: Setup,
        name: str,
        seconds: float,
        faults: Faults,
        settle: float,
        knobs: Sequence[str] | None = None,
    ) -> None:
        self.setup = setup
        self.name = name
        self.seconds = seconds
        self.faults = faults
        self.settle = settle
        self.packages = packages_behind(setup) if knobs is None else tuple(knobs)
        self.__doc__ = setup.__doc__

    def __repr__(self) -> str:
        return f"<Scenario {self.name}, {self.seconds:g} s of faults>"

    def __call__(self, world: World) -> object:
        """Make the hosts."""
        return self.setup(world)

    @property
    def summary(self) -> str:
        """Its docstring's first line."""
        return (self.__doc__ or "").strip().partition("\n")[0]


@overload
def scenario(setup: Setup) -> Scenario: ...
@overload
def scenario(
    *,
    seconds: float = ...,
    faults: Faults = ...,
    settle: float = ...,
    knobs: Sequence[str] | None = ...,
    name: str | None = ...,
) -> Callable[[Setup], Scenario]: ...
def scenario(
    setup: Setup | None = None,
    *,
    seconds: float = 5.0,
    faults: Faults = ROUGH,
    settle: float = SETTLE_SECONDS,
    knobs: Sequence[str] | None = None,
    name: str | None = None,
) -> Scenario | Callable[[Setup], Scenario]:
    """Decorates a function of a `World`. Faults happen for `seconds`; what is expected must come true within
    `settle` seconds after that (all simulated). `knobs`: the packages whose internal constants each run draws
    (`actors.knobs`); those that the scenario's module imports, if not given."""

    def decorate(function: Setup) -> Scenario:
        return Scenario(function, name or name_of(function), seconds, faults, settle, knobs)

    return decorate if setup is None else decorate(setup)


def name_of(setup: Setup) -> str:
    """What a function is called."""
    return str(getattr(setup, "__name__", "scenario"))


class Report(msgspec.Struct, frozen=True):
    """One run. Two runs are the same if their hashes are."""

    scenario: str
    seed: int
    hash: str
    failure: str | None  # what was wrong
    acts: list[Act]  # the faults that have hit something
    knobs: dict[str, int | float]  # the constants that were turned, and to what
    hits: dict[str, int]  # how many, by kind
    outcomes: dict[str, int]  # of what was expected: "value", or the error's name
    seconds: float  # simulated
    faulty: float  # of these, with faults
    events: int
    tail: list[str]  # the trace's last lines


def simulate(
    scenario: Scenario | Setup,
    seed: int = 0,
    *,
    faults: Faults | None = None,
    script: Sequence[Act] | None = None,
    seconds: float | None = None,
    knobs: Turned | None = None,
) -> Report:
    """One run of a scenario, with its own faults, with others, or with those of a script; with the knobs that
    the seed draws, or with these (`{}`: none is turned)."""
    scenario = as_scenario(scenario)
    values = draw(seed, scenario.packages) if knobs is None else knobs
    with turned(values, scenario.packages), guard():
        world = World(
            seed,
            scenario.faults if faults is None else faults,
            None if script is None else list(script),
        )
        return run_in(world, scenario, seed, scenario.seconds if seconds is None else seconds, values)


def rehearse(
    scenario: Scenario | Setup,
    seed: int = 0,
    *,
    faults: Faults | None = None,
    seconds: float | None = None,
    knobs: Turned | None = None,
) -> Report:
    """One run of a scenario in real time, on the real kernel over loopback, with those of its faults that can
    be made there (`REAL_KINDS`)."""
    scenario = as_scenario(scenario)
    values = draw(seed, scenario.packages) if knobs is None else knobs
    with turned(values, scenario.packages):
        world = RealWorld(seed, scenario.faults if faults is None else faults)
        return run_in(world, scenario, seed, scenario.seconds if seconds is None else seconds, values)


def as_scenario(scenario: Scenario | Setup) -> Scenario:
    """A bare function is a scenario without faults."""
    if isinstance(scenario, Scenario):
        return scenario
    return Scenario(scenario, name_of(scenario), 5.0, CALM, SETTLE_SECONDS)


def run_in(world: World, scenario: Scenario, seed: int, seconds: float, knobs: Turned) -> Report:
    """The faults, the heal, the rest, the drain."""
    failure: str | None = None
    try:
        scenario(world)
        world.injector.start()
        world.run(seconds)
        world.heal()
        world.settle(scenario.settle)
        world.drain()
    except Broken as error:
        failure = str(error)
    except Exception as error:
        failure = "".join(traceback.format_exception(error)).rstrip()
    digest = world.trace.hash()
    try:
        world.close()
    except Exception as error:
        failure = failure or "".join(traceback.format_exception(error)).rstrip()
    return Report(
        scenario=scenario.name,
        seed=seed,
        hash=digest,
        failure=failure,
        acts=world.acts,
        knobs=dict(knobs),
        hits=dict(world.injector.hits),
        outcomes=dict(world.outcomes),
        seconds=world.now,
        faulty=seconds,
        events=world.events,
        tail=world.trace.tail(TAIL),
    )


def load_scenario(reference: str, known: Mapping[str, str] | None = None) -> Scenario:
    """The scenario of this name (`known`: names to references), or of `module:name` or `path.py:name`.

    Raises `ValueError` that says what to write instead.
    """
    where, colon, name = (known or {}).get(reference, reference).rpartition(":")
    if not colon:
        names = f"one of {', '.join(known)}, or " if known else ""
        raise ValueError(f"there is no scenario {reference!r}; write {names}MODULE:NAME or FILE.py:NAME")
    module = _load_file(where) if where.endswith(".py") else _import(where)
    found = getattr(module, name, None)
    if not isinstance(found, Scenario):
        if callable(found) and not isinstance(found, type):
            raise ValueError(
                f"{name} of {where} is not a scenario yet: decorate it with @scenario (from "
                "actors.simulation)"
            )
        there = [key for key, value in vars(module).items() if isinstance(value, Scenario)]
        raise ValueError(f"{where} has no scenario {name!r}; there are: {', '.join(there) or 'none'}")
    return found


def _import(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"cannot import {name!r}: {error}; write MODULE:NAME or FILE.py:NAME") from error


def _load_file(path: str) -> object:
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}; write FILE.py:NAME")
    name = f"_scenario_{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
