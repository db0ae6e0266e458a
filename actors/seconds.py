"""Numbers of seconds as they come in from a program: a NaN compares as neither early nor late, so what would
end by it would never end. It is refused where it comes in."""

from __future__ import annotations

__all__ = ["seconds_of"]


def seconds_of(seconds: float, what: str, *, least: float = float("-inf")) -> float:
    """`seconds`, if it is a number (infinity is one) and not less than `least`; `what` names it otherwise.

    Raises `TypeError` for what is no number, `ValueError` for NaN and for too little.
    """
    if not isinstance(seconds, int | float):
        raise TypeError(f"{what} of {seconds!r}; write a number of seconds")
    if not seconds >= least:
        limit = "a number" if least == float("-inf") else f"{least:g} or more"
        raise ValueError(f"{what} of {seconds!r} seconds; write {limit}")
    return seconds
