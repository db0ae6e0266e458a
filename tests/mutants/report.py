"""What a run of mutants says at the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Outcome", "report"]

COUNTED = ("found", "hung", "survived", "no test")
APART = ("explained", "the same code")


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant, by which test or for which reason."""

    key: str
    line: int
    operator: str
    what: str
    by: str
    seconds: float

    @property
    def path(self) -> str:
        return self.key.partition(" ")[0]

    @property
    def found(self) -> bool:
        return self.what not in ("survived", "no test")


def report(outcomes: list[Outcome], least: float, tell: Callable[[str], None]) -> int:
    """A line for each file, and the share that was found: 1 if it is less than `least` percent."""
    by_file: dict[str, Counter[str]] = defaultdict(Counter)
    for each in outcomes:
        by_file[each.path][each.what] += 1
    total: Counter[str] = sum(by_file.values(), Counter())
    tell(f"{'':40}{'found':>8}{'hung':>8}{'survived':>10}{'no test':>9}{'apart':>8}{'%':>8}")
    for path, counts in [*sorted(by_file.items()), ("all", total)]:
        apart = sum(counts[what] for what in APART)
        columns = (
            f"{counts['found']:8}{counts['hung']:8}{counts['survived']:10}{counts['no test']:9}{apart:8}"
        )
        tell(f"{path:40}{columns}{share(counts):8.1f}")
    return int(share(total) < least)


def share(counts: Counter[str]) -> float:
    """Percent of those that count."""
    tried = sum(counts[what] for what in COUNTED)
    return 100.0 * (counts["found"] + counts["hung"]) / tried if tried else 100.0
