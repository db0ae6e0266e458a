"""The ledger: how many units came in, and how each of them has ended.

Rules:
1. submitted = succeeded + failed + waiting, between any two instructions that somebody else can run.
2. There is one place that counts: an `Entry` is counted in when it is made, and out in the very operation
   that settles it. Nobody settles without counting, and nobody counts besides.
3. First the books, then the news: when the first callback of an entry runs, it has left whatever held it
   (`left`), and the counters know of it. Where several fail together (`fail_all`), all have, before anybody
   is told of any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from actors import Reply, Scope
from actors.callbacks import one_turn
from actors.scope import Waker

__all__ = ["PARTS", "Entry", "Ledger", "fail_all"]

T = TypeVar("T")


class Ledger:
    """Counts entries, and how often they are sent again. Only `Entry` counts them in and out."""

    __slots__ = ("failures", "retried", "submitted", "succeeded", "taken_back")

    def __init__(self) -> None:
        self.submitted = 0
        self.succeeded = 0
        self.failures: Counter[str] = Counter()  # by the error's name
        self.retried = 0  # sent again after a loss
        self.taken_back = 0  # sent again, and certainly not executed before

    def __repr__(self) -> str:
        failed = sum(self.failures.values())
        return f"<Ledger {self.submitted} submitted, {self.succeeded} succeeded, {failed} failed>"

    def retry(self) -> None:
        """A unit that was lost is sent again."""
        self.retried += 1

    def take_back(self) -> None:
        """A unit that was certainly not executed is sent again."""
        self.taken_back += 1

    @property
    def waiting(self) -> int:
        """How many have not settled."""
        return self.submitted - self.succeeded - sum(self.failures.values())

    def adds_up(self, waiting: int) -> bool:
        """Whether the equation holds: `waiting` is what can be pointed at in queues and on connections."""
        return self.waiting == waiting


PARTS: Final = Ledger()
"""Where parts of units are counted, which are no units of their own. Nobody reads it."""


class Entry(Reply[T]):
    """A reply that stands in a ledger. A class that derives sets `ledger` and counts it in, see `enter`."""

    __slots__ = ("ledger",)

    ledger: Ledger

    def enter(self, ledger: Ledger) -> int:
        """Count it in; gives its number, from 1 on."""
        self.ledger = ledger
        ledger.submitted = number = ledger.submitted + 1
        return number

    def left(self) -> None:
        """It has just failed: leave whatever holds it. Called before anybody is told."""

    def settle(self, value: T) -> bool:
        """As `Reply.settle`, written out with the count between the fact and the news: by way of `tell` a
        Redis GET costs 3 % more (`benchmarks.own.redis`)."""
        if not self.pending:
            return False
        self.pending = False
        self._value = value
        self.ledger.succeeded += 1
        waiters: Any = self._waiters
        if waiters is not None:
            self._waiters = None
            if waiters.__class__ is Scope:
                if not waiters.woken:
                    waiters.woken = True
                    waiters.loop.woken.append(waiters)
            elif isinstance(waiters, Waker):
                waiters.wake()
            else:
                self._notify(waiters)
        return True

    def fail(self, error: BaseException) -> bool:
        """As `Reply.fail`."""
        if not self.record(error):
            return False
        self.tell()
        return True

    def record(self, error: BaseException) -> bool:
        """The first half of `fail`: the books. False if it had settled before."""
        if not self.pending:
            return False
        self.pending = False
        self._error = error
        self._traceback = error.__traceback__
        self.ledger.failures[type(error).__name__] += 1
        self.left()
        return True

    def tell(self) -> None:
        """The second half: the news."""
        waiters: Any = self._waiters
        if waiters is not None:
            self._waiters = None
            self._notify(waiters)


def fail_all(failures: Iterable[tuple[Entry[Any], BaseException]]) -> None:
    """Fail several together: all books first, then all news."""
    recorded = [entry for entry, error in failures if entry.record(error)]
    with one_turn():
        for entry in recorded:
            entry.tell()
