"""An account: what one asker has submitted to a pool, counted apart from the pool's own `statistics()`.

Rules:
1. Every unit is a promise (`actors.testing.Promises`): it settles once, within its own timeout and a bound,
   with its own value, of the right type.
2. What was submitted, what succeeded and what failed with which error is counted here, by the asker. When
   nothing is open any more, the pool must have counted the same.
3. So whoever wants the counts compared submits everything to this pool by its accounts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from actors import Reply
from actors.testing.promises import UNSAID, MayFail, Promises
from pools.units import Unit

__all__ = ["Account", "differences"]

T = TypeVar("T")
COUNTED: Final = ("submitted", "succeeded", "failed")


class Keeper(Protocol):
    """Who judges replies: `actors.testing.Promises`, or a host of a simulation."""

    def expect(
        self,
        reply: Reply[T],
        what: str,
        check: Callable[[T], object] | None = None,
        *,
        value: T = ...,
        kind: type | None = None,
        within: float = ...,
        may_fail: MayFail = True,
    ) -> Reply[T]: ...


class Counts(Protocol):
    """What is read of a pool's `statistics()`."""

    @property
    def submitted(self) -> int: ...
    @property
    def succeeded(self) -> int: ...
    @property
    def failed(self) -> dict[str, int]: ...


class Counting(Protocol):
    """A pool, a router, a Kafka pool."""

    @property
    def timeout_default(self) -> float: ...
    def submit(self, unit: Any, timeout: float | None = None, priority: int = 0) -> Reply[Any]: ...
    def statistics(self) -> Any: ...


class Account:
    """One asker's account with a pool. `parts`: further pools that count some of its units (the lanes of a
    Redis pool, say). `by`: who judges the replies; a `Promises` of its own, if not given."""

    def __init__(self, pool: Counting, *parts: Counting, by: Keeper | None = None) -> None:
        self.pools = (pool, *parts)
        self.promises = Promises()
        self.submitted = self.succeeded = 0
        self.failed: Counter[str] = Counter()  # by the error's name
        self._by: Keeper = self.promises if by is None else by

    def __repr__(self) -> str:
        failed = sum(self.failed.values())
        return f"<Account {self.submitted} submitted, {self.succeeded} succeeded, {failed} failed>"

    @property
    def waiting(self) -> int:
        """Units that have not settled."""
        return self.submitted - self.succeeded - sum(self.failed.values())

    def submit(
        self,
        unit: Unit[T, Any],
        what: str | None = None,
        check: Callable[[T], object] | None = None,
        *,
        timeout: float | None = None,
        priority: int = 0,
        value: T = UNSAID,
        kind: type | None = None,
        within: float | None = None,
        may_fail: MayFail = True,
    ) -> Reply[T]:
        """Submit a unit, and expect its reply within its timeout, or `within` if that is given (seconds): for
        one that is submitted under a `deadline()`, say. The rest is as with `Promises.expect`."""
        pool = self.pools[0]
        patience = pool.timeout_default if timeout is None else timeout
        reply: Reply[T] = pool.submit(unit, timeout, priority)
        self.submitted += 1
        reply.when_settled(self._settled)
        return self._by.expect(
            reply,
            repr(unit) if what is None else what,
            check,
            value=value,
            kind=kind,
            within=patience if within is None else min(patience, within),
            may_fail=may_fail,
        )

    def _settled(self, reply: Reply[Any]) -> None:
        if reply.error is None:
            self.succeeded += 1
        else:
            self.failed[type(reply.error).__name__] += 1

    def check(self) -> None:
        """At the end: every promise was kept, and the pool has counted the same. Raises `AssertionError`."""
        self.promises.check()
        wrong = differences(self)
        assert not wrong, wrong


def differences(*accounts: Account) -> str:
    """What the accounts of all askers with the same pools, together, count otherwise than these pools do."""
    pools = dict.fromkeys(pool for account in accounts for pool in account.pools)
    told: list[Counts] = [pool.statistics() for pool in pools]
    theirs = [
        sum(each.submitted for each in told),
        sum(each.succeeded for each in told),
        sum((Counter(each.failed) for each in told), Counter()),
    ]
    own = [
        sum(account.submitted for account in accounts),
        sum(account.succeeded for account in accounts),
        sum((account.failed for account in accounts), Counter()),
    ]
    return "; ".join(
        f"{count}: {mine} by the callers' account, {their} by the pools' statistics"
        for count, mine, their in zip(COUNTED, own, theirs, strict=True)
        if mine != their
    )
