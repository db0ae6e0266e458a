"""How many steps a backtracking matcher takes for a pattern. Python's own does not tell, so here is a plain
one that counts: it walks the same parsed pattern, tries alternatives in the same order, remembers nothing,
and takes every anchor for met."""

from __future__ import annotations

import re
from collections.abc import Iterator
from re import _constants as op  # the names of the parsed pattern's parts
from re import _parser as parser
from typing import Any

__all__ = ["TooManySteps", "steps", "steps_of_search"]


class TooManySteps(Exception):
    """More than the limit: it may go on for ever."""


def steps(pattern: re.Pattern[bytes], text: bytes, limit: int = 200_000) -> int:
    """Steps to match `pattern` at the beginning of `text` in all ways there are, which is what it costs when
    whatever comes behind never fits. Raises `TooManySteps`."""
    walk = _Walk(pattern, text, limit)
    for _ in walk.sequence(walk.parsed, 0, 0):
        pass
    return walk.count


def steps_of_search(pattern: re.Pattern[bytes], text: bytes, limit: int = 200_000) -> int:
    """Steps to find all matches in `text`, one behind the other. Raises `TooManySteps`."""
    walk = _Walk(pattern, text, limit)
    at = 0
    while at < len(text):
        at = max(at + 1, next(walk.sequence(walk.parsed, 0, at), 0))
    return walk.count


class _Walk:
    def __init__(self, pattern: re.Pattern[bytes], text: bytes, limit: int) -> None:
        self.parsed = list(parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE))
        self.fold = bool(pattern.flags & re.IGNORECASE)
        self.text = text.lower() if self.fold else text
        self.limit = limit
        self.count = 0

    def step(self) -> None:
        self.count += 1
        if self.count > self.limit:
            raise TooManySteps(f"{self.count} steps for {len(self.text)} bytes")

    def sequence(self, items: list[Any], index: int, at: int) -> Iterator[int]:
        if index == len(items):
            yield at
            return
        for end in self.item(*items[index], at):
            yield from self.sequence(items, index + 1, end)

    def item(self, kind: Any, value: Any, at: int) -> Iterator[int]:
        self.step()
        if kind in (op.LITERAL, op.NOT_LITERAL, op.IN, op.ANY):
            if at < len(self.text) and self.takes(kind, value, self.text[at]):
                yield at + 1
        elif kind is op.SUBPATTERN:
            yield from self.sequence(list(value[3]), 0, at)
        elif kind is op.BRANCH:
            for branch in value[1]:
                yield from self.sequence(list(branch), 0, at)
        elif kind in (op.ASSERT, op.ASSERT_NOT):
            found = any(True for _ in self.sequence(list(value[1]), 0, at))
            if found is (kind is op.ASSERT):
                yield at
        elif kind is op.AT:
            yield at
        elif kind is op.POSSESSIVE_REPEAT:
            ends = self.repeat(value, at, 0)
            end = next(ends, None)
            if end is not None:
                yield end
        elif kind is op.MAX_REPEAT:
            yield from self.repeat(value, at, 0)
        elif kind is op.MIN_REPEAT:
            yield from self.lazily(value, at, 0)
        else:
            raise NotImplementedError(f"{kind} in a pattern: teach this matcher what it is")

    def repeat(self, value: Any, at: int, done: int) -> Iterator[int]:
        low, high, inner = value
        first = inner[0]
        if len(inner) == 1 and first[0] in (op.LITERAL, op.NOT_LITERAL, op.IN, op.ANY):
            yield from self.run(low, high, first, at)
            return
        if done < high:
            for end in self.sequence(list(inner), 0, at):
                if end > at:
                    yield from self.repeat(value, end, done + 1)
        if done >= low:
            yield at

    def run(self, low: int, high: int, first: Any, at: int) -> Iterator[int]:
        end = at
        while end - at < high and end < len(self.text) and self.takes(*first, self.text[end]):
            self.step()
            end += 1
        for stop in range(end, at + low - 1, -1):
            self.step()
            yield stop

    def lazily(self, value: Any, at: int, done: int) -> Iterator[int]:
        low, high, inner = value
        if done >= low:
            yield at
        if done < high:
            for end in self.sequence(list(inner), 0, at):
                if end > at:
                    yield from self.lazily(value, end, done + 1)

    def takes(self, kind: Any, value: Any, byte: int) -> bool:
        if kind is op.ANY:
            return byte != 10
        if kind is op.LITERAL:
            return bool(byte == (ord(chr(value).lower()) if self.fold else value))
        if kind is op.NOT_LITERAL:
            return bool(byte != value)
        negate = value[0] == (op.NEGATE, None)
        found = any(
            (part is op.LITERAL and byte == what) or (part is op.RANGE and what[0] <= byte <= what[1])
            for part, what in value
        )
        return found is not negate
