"""Every way to cut input that is worth a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from .driver import Driver

__all__ = ["at_every_split", "splits"]

T = TypeVar("T")


def splits(data: bytes) -> Iterator[list[bytes]]:
    """Every way to cut `data` that is worth a test: whole, byte by byte, and in two at each point."""
    yield [data]
    yield [data[index : index + 1] for index in range(len(data))]
    for point in range(1, len(data)):
        yield [data[:point], data[point:]]


def at_every_split(make: Callable[[], Driver], data: bytes, look: Callable[[Driver], T]) -> T:
    """Give `data` to a new driver in each of its `splits`; `look(driver)` must always be the same. Returns
    that."""
    results: list[T] = []
    for pieces in splits(data):
        driver = make()
        for piece in pieces:
            driver.receive(piece)
        results.append(look(driver))
        if results[-1] != results[0]:
            raise AssertionError(f"cut as {pieces!r}: {results[-1]!r}; whole: {results[0]!r}")
    return results[0]
