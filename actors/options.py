"""Options of constructors, as they come in from a program: what makes no sense is refused there, with the
name of the option and what to write. It never reaches a machine, which it would end, or make wait for ever.

A bool is no number here, and text is none. Every time has an end: infinity is refused, too.
"""

from __future__ import annotations

from math import inf, isinf

__all__ = ["check_counts", "check_numbers", "check_seconds"]


def check_seconds(*, zero: bool = False, most: float = inf, **options: object) -> None:
    """Each is a number of seconds above 0, or 0 where that is allowed, and at most `most`. Raises `TypeError`
    for what is no number, `ValueError` for NaN, infinity, too little and too much."""
    for name, value in options.items():
        _check(name, value, zero, "a number of seconds", ", such as 86400 for a day")
        if value > most:  # type: ignore[operator]
            raise ValueError(f"{name}={value}; write {most:.10g} or less")


def check_numbers(*, zero: bool = False, **options: object) -> None:
    """Each is a number above 0, or 0 where that is allowed. Raises as `check_seconds`."""
    for name, value in options.items():
        _check(name, value, zero, "a number", "")


def check_counts(*, least: int = 1, most: int | None = None, **options: object) -> None:
    """Each is a whole number, from `least` to `most`. Raises `TypeError` for what is none, `ValueError` for
    too little and too much."""
    for name, value in options.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name}={value!r:.60}; write a whole number, {least} or more")
        if value < least:
            raise ValueError(f"{name}={value}; write {least} or more")
        if most is not None and value > most:
            raise ValueError(f"{name}={value}; write {most} or less")


def _check(name: str, value: object, zero: bool, what: str, example: str) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r:.60}; write {what}")
    if not (value >= 0 if zero else value > 0):
        raise ValueError(f"{name}={value}; write {'0 or more' if zero else 'more than 0'}")
    if isinf(value):
        raise ValueError(f"{name}={value}; write {what}{example}")
