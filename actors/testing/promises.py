"""Promises: whoever asks keeps account of the replies, and judges them by a watch of his own.

What answers has books, too, but it is the wrong one to ask: a unit that it has lost is lost to its
`statistics()` as well. So here the asker says what he was promised, and holds what comes against it.

Rules:
1. A reply settles exactly once, and at the latest `bound` seconds after it is due: by the asker's watch, and
   for him, whatever the one who answers counts.
2. Its value is the one that was asked for, of the very types: 1 is not `True`, and not 1.0.
3. It fails only by what a network can cause, or by what was named besides.
4. What is wrong is found once, and told in words. Nothing is raised where a reply settles.
"""

from __future__ import annotations

import errno
import traceback
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from actors.errors import ActorError, Cancelled
from actors.kernel import SystemKernel
from actors.outcomes import NEVER
from actors.replies import Reply

__all__ = ["UNSAID", "MayFail", "Promise", "Promises", "by_network", "same"]

T = TypeVar("T")
MayFail = bool | type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]

BOUND_SECONDS: Final = 30.0  # of real time: a machine that is only busy does not come near
LOOKED_AT_AGAIN: Final = 256  # of the last that have settled: each holds its value
UNSAID: Final[Any] = object()
NETWORK_CODES: Final = frozenset(
    (
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EPIPE,
        errno.ETIMEDOUT,
    )
)


class Promises:
    """Replies that somebody waits for.

    `clock` gives seconds (the system's monotonic clock); `bound` is by how many of them a reply may be late.
    `tell(what, stack)` is called when something is wrong, `lenient()` says whether what the network can cause
    is to be expected of every reply now; `outcomes` counts, by "value" or the error's name.
    """

    def __init__(
        self,
        clock: Callable[[], float] = SystemKernel.monotonic,
        *,
        bound: float = BOUND_SECONDS,
        tell: Callable[[str, str], object] | None = None,
        lenient: Callable[[], bool] | None = None,
        outcomes: Counter[str] | None = None,
    ) -> None:
        self.clock = clock
        self.bound = bound
        self.outcomes: Counter[str] = Counter() if outcomes is None else outcomes
        self.found: list[str] = []
        self.kept = 0
        self._tell = tell
        self._lenient = lenient
        self._open: dict[Promise, None] = {}
        self._recent: deque[Promise] = deque(maxlen=LOOKED_AT_AGAIN)
        self._over = False

    def __repr__(self) -> str:
        return f"<Promises {self.kept} made, {len(self._open)} open, {len(self.found)} broken>"

    def expect(
        self,
        reply: Reply[T],
        what: str,
        check: Callable[[T], object] | None = None,
        *,
        value: T = UNSAID,
        kind: type | None = None,
        within: float = NEVER,
        may_fail: MayFail = True,
    ) -> Reply[T]:
        """The reply must settle exactly once, within so many seconds from now. Returns it.

        `value` is the only right one, `kind` its exact type; `check(value)` looks at it, and returns False or
        raises `AssertionError` if it is another's. `may_fail`: whether an error that the network can cause
        will do (see `by_network`), or which others will as well (types, or a function that tells).
        """
        due = NEVER if within == NEVER else self.clock() + within
        self.keep(Promise(self, reply, what, due, check, value, kind, may_fail))
        return reply

    def keep(self, promise: Promise) -> None:
        """One more."""
        self.kept += 1
        self._open[promise] = None
        promise.reply.when_settled(promise.settled)

    @property
    def pending(self) -> list[str]:
        """What has not settled."""
        return [promise.what for promise in self._open]

    def is_open(self, promise: Promise) -> bool:
        """Whether it has not settled."""
        return promise in self._open

    def look(self) -> list[str]:
        """Everything that is wrong so far, with who is late by now, and who has settled again since."""
        now = self.clock()
        for promise in list(self._open):
            if promise.due + self.bound < now:
                del self._open[promise]
                self.wrong(f"{promise.what} is late: it was due {now - promise.due:.3f} s ago")
        for promise in [promise for promise in self._recent if promise.changed]:
            self._recent.remove(promise)
            self.wrong(f"{promise.what} has settled again: {promise.reply!r}")
        return self.found

    def check(self) -> None:
        """At the end, when everything must have settled: raises `AssertionError` with all that is wrong."""
        wrong = [*self.look(), *(f"{what} has never settled" for what in self.pending)]
        if wrong:
            further = f"\nand {len(wrong) - 10} more" if len(wrong) > 10 else ""
            raise AssertionError("\n".join(wrong[:10]) + further)

    def wrong(self, what: str, stack: str = "") -> None:
        """Something is."""
        self.found.append(f"{what}\n{stack}" if stack else what)
        if self._tell is not None:
            self._tell(what, stack)

    def close(self) -> None:
        """Nobody waits any more, and what comes now is nobody's business."""
        self._over = True
        self._open.clear()
        self._recent.clear()

    def settled(self, promise: Promise) -> None:
        """One of them has."""
        if self._over:
            return
        if promise.times > 1:
            self.wrong(f"{promise.what} has settled {promise.times} times")
            return
        waited_for = self._open.pop(promise, promise) is None
        self._recent.append(promise)
        error = promise.reply.error
        self.outcomes["value" if error is None else type(error).__name__] += 1
        late = self.clock() - promise.due
        if late > self.bound and waited_for:
            self.wrong(f"{promise.what} is late: it has settled {late:.3f} s after it was due")
        lenient = self._lenient is not None and self._lenient()
        if error is None:
            wrong = promise.judged()
            if wrong:
                self.wrong(f"{promise.what} got {wrong}")
        elif not promise.allows(error, lenient):
            stack = "".join(traceback.format_exception(error)).rstrip()
            self.wrong(f"{promise.what} has failed: {error!r}", stack)


class Promise:
    """One reply: what it is, when it is due, how often it has settled, and which answers are right."""

    __slots__ = (
        "_check",
        "_error",
        "_keeper",
        "_kind",
        "_may_fail",
        "_value",
        "due",
        "reply",
        "times",
        "what",
    )

    def __init__(
        self,
        keeper: Promises,
        reply: Reply[Any],
        what: str,
        due: float = NEVER,
        check: Callable[[Any], object] | None = None,
        value: Any = UNSAID,
        kind: type | None = None,
        may_fail: MayFail = True,
    ) -> None:
        self._keeper = keeper
        self.reply = reply
        self.what = what
        self.due = due  # by the keeper's clock
        self.times = 0
        self._check = check
        self._value = value  # that it must be; once settled, that it was
        self._kind = kind
        self._may_fail = may_fail
        self._error: BaseException | None = None

    def settled(self, reply: Reply[Any]) -> None:
        """Called by the reply."""
        self.times += 1
        self._keeper.settled(self)
        self._error = reply.error
        self._value = UNSAID if self._error is not None else reply.result()

    @property
    def changed(self) -> bool:
        """Whether a reply that had settled is another now."""
        reply = self.reply
        if not reply.settled or reply.error is not self._error:
            return True
        return self._error is None and reply.result() is not self._value

    def judged(self) -> str:
        """What is wrong with the value; nothing, if it is the right one."""
        found = self.reply.result()
        if self._kind is not None and type(found) is not self._kind:
            return f"{found!r}, which is {type(found).__name__} and not {self._kind.__name__}"
        if self._value is not UNSAID and not same(found, self._value):
            return f"{found!r}, which is not its answer: that is {self._value!r}"
        try:
            if self._check is not None and self._check(found) is False:
                return f"{found!r}, which is not its answer"
        except AssertionError as wrong:
            return f"{found!r}, which is not its answer: {wrong}"
        return ""

    def allows(self, error: BaseException, lenient: bool) -> bool:
        """Whether this error will do."""
        told = self._may_fail
        if isinstance(told, bool):
            return (told or lenient) and by_network(error)
        return matches(error, told)


def same(found: object, wanted: object) -> bool:
    """Whether two values are equal, and of one type, all the way down."""
    if isinstance(wanted, list | tuple):
        return (
            isinstance(found, type(wanted))
            and len(found) == len(wanted)
            and all(same(one, other) for one, other in zip(found, wanted, strict=True))
        )
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict)
            and found.keys() == wanted.keys()
            and all(same(found[key], value) for key, value in wanted.items())
        )
    return type(found) is type(wanted) and found == wanted


def matches(error: BaseException, told: MayFail) -> bool:
    """Whether an error is one of those that were told, or the network's; of a group all must be."""
    if isinstance(error, BaseExceptionGroup):
        return all(matches(one, told) for one in error.exceptions)
    if isinstance(told, type | tuple):
        return isinstance(error, told) or by_network(error)
    return bool(callable(told) and told(error)) or by_network(error)


def by_network(error: BaseException) -> bool:
    """Whether the network, or a peer that has gone, can have caused this. Of a group all must be so; of what
    the system says, only what it says of connections; of the runtime's own errors, those that say so
    themselves (`ActorError.by_network`)."""
    if isinstance(error, BaseExceptionGroup):
        return all(by_network(one) for one in error.exceptions)
    if isinstance(error, ActorError | Cancelled):
        return error.by_network
    return isinstance(error, ConnectionError | TimeoutError) or (
        isinstance(error, OSError) and error.errno in NETWORK_CODES
    )
