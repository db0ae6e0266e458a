"""The end of time: what `infinity` and `-infinity` are of dates and timestamps. No I/O."""

from __future__ import annotations

import datetime
from typing import Final

__all__ = ["INFINITY", "Infinity"]


class Infinity:
    """Later than every `date` and `datetime`: `INFINITY`; or earlier than every one: `-INFINITY`. Compares
    with them, so rows can be sorted; nothing can be added to it.
    """

    __slots__ = ("_sign",)

    def __init__(self, sign: int = 1) -> None:
        self._sign = 1 if sign > 0 else -1

    def __repr__(self) -> str:
        return "postgres.INFINITY" if self._sign > 0 else "-postgres.INFINITY"

    def __str__(self) -> str:
        return "infinity" if self._sign > 0 else "-infinity"

    def __neg__(self) -> Infinity:
        return Infinity(-self._sign)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Infinity) and other._sign == self._sign

    def __hash__(self) -> int:
        return hash((Infinity, self._sign))

    def __lt__(self, other: object) -> bool:
        place = place_of(other)
        return NotImplemented if place is None else self._sign < place

    def __gt__(self, other: object) -> bool:
        place = place_of(other)
        return NotImplemented if place is None else self._sign > place

    def __le__(self, other: object) -> bool:
        place = place_of(other)
        return NotImplemented if place is None else self._sign <= place

    def __ge__(self, other: object) -> bool:
        place = place_of(other)
        return NotImplemented if place is None else self._sign >= place

    def of(self, largest: int) -> int:
        """The server's number for it, which has `largest` as its largest."""
        return largest if self._sign > 0 else -largest - 1


def place_of(other: object) -> int | None:
    """Where something stands in time: 0 for what has an end."""
    if isinstance(other, Infinity):
        return other._sign
    return 0 if isinstance(other, datetime.date) else None


INFINITY: Final = Infinity()
