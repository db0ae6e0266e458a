"""Drawing knobs, and turning them for as long as a run lasts.

Rules:
1. What is drawn follows from the seed and the knob's name alone: a knob more changes no other's value.
2. In some runs none is turned, in some a few, in some most: faults that take two small values are met as well
   as those that take only one.
3. What was turned is turned back, whatever happens.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from actors.knobs import KNOBS, Knob

__all__ = ["Turned", "draw", "knobs_of", "packages_behind", "turned"]

SHARES: Final = (0.0, 0.05, 0.15, 0.4, 0.8)  # of the knobs that are turned: each in a fifth of the runs
SMALL_SHARE: Final = 0.7  # of those that are turned

Turned = Mapping[str, int | float]
"""Knobs that are not at their own values, by dotted name."""


@lru_cache
def knobs_of(packages: tuple[str, ...]) -> dict[str, Knob]:
    """The knobs of these packages and of what they stand on, by name. Their modules are imported, so that
    what a seed draws does not depend on what else the process has loaded."""
    found = {knob.name: knob for knob in KNOBS}
    for package in packages:
        table: Any = importlib.import_module(f"{package}.knobs")
        for knob in table.KNOBS:
            before = found.get(knob.name)
            found[knob.name] = knob if before is None or before is knob else knob.merged(before)
    for knob in found.values():
        for name in (knob.name, *knob.also):
            importlib.import_module(name.rpartition(".")[0])
    return found


def packages_behind(function: Any) -> tuple[str, ...]:
    """The packages with knobs out of which the module of a function has imported something."""
    found = set()
    for value in getattr(function, "__globals__", {}).values():
        name = getattr(value, "__name__", "") if isinstance(value, type(sys)) else ""
        name = name or getattr(value, "__module__", "") or ""
        while name:
            if _has_knobs(name):
                found.add(name)
            name = name.rpartition(".")[0]
    return tuple(sorted(found))


@lru_cache
def _has_knobs(package: str) -> bool:
    module = sys.modules.get(package)
    if not hasattr(module, "__path__"):
        return False
    return importlib.util.find_spec(f"{package}.knobs") is not None


def draw(seed: int, packages: tuple[str, ...]) -> dict[str, int | float]:
    """What this seed turns."""
    share = SHARES[int(len(SHARES) * _chance(seed, "share"))]
    drawn = {}
    for name, knob in knobs_of(packages).items():
        if share and _chance(seed, name) < share:
            small = not knob.large or (knob.small and _chance(seed, f"{name} small") < SMALL_SHARE)
            values = knob.small if small else knob.large
            drawn[name] = values[int(len(values) * _chance(seed, f"{name} value"))]
    return drawn


def _chance(seed: int, what: str) -> float:
    """Between 0 and 1, of the seed and this alone."""
    digest = blake2b(f"{seed} {what}".encode(), digest_size=6).digest()
    return int.from_bytes(digest) / (1 << 48)


@contextmanager
def turned(values: Turned, packages: Sequence[str] = ()) -> Iterator[None]:
    """Turn these knobs of these packages for as long as the block runs. Raises `ValueError` for a name that
    is none of theirs."""
    known = knobs_of(tuple(packages))
    before: list[tuple[Any, str, Any]] = []
    try:
        for name, number in values.items():
            if name not in known:
                raise ValueError(f"there is no knob {name!r} in actors{''.join(f', {p}' for p in packages)}")
            for place, value in known[name].settings(number).items():
                module, _, constant = place.rpartition(".")
                owner = sys.modules[module]
                before.append((owner, constant, getattr(owner, constant)))
                setattr(owner, constant, value)
        yield
    finally:
        for owner, constant, value in reversed(before):
            setattr(owner, constant, value)
