"""Replies made of others: `gather`, `settle_all`, `first`.

Cancelling one cancels all that it is made of and that have not settled.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, overload

from .callbacks import call_in_turn, one_turn
from .errors import AllFailed, Cancelled, DeadlineExceeded, Misuse, NoAnswer
from .outcomes import NEVER
from .replies import Reply, Waitable
from .telling import told

__all__ = ["first", "gather", "settle_all"]

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")
T = TypeVar("T")


@overload
def gather(a: Reply[A], /) -> Reply[tuple[A]]: ...
@overload
def gather(a: Reply[A], b: Reply[B], /) -> Reply[tuple[A, B]]: ...
@overload
def gather(a: Reply[A], b: Reply[B], c: Reply[C], /) -> Reply[tuple[A, B, C]]: ...
@overload
def gather(a: Reply[A], b: Reply[B], c: Reply[C], d: Reply[D], /) -> Reply[tuple[A, B, C, D]]: ...
@overload
def gather(
    a: Reply[A], b: Reply[B], c: Reply[C], d: Reply[D], e: Reply[E], /
) -> Reply[tuple[A, B, C, D, E]]: ...
@overload
def gather(
    a: Reply[A], b: Reply[B], c: Reply[C], d: Reply[D], e: Reply[E], f: Reply[F], /
) -> Reply[tuple[A, B, C, D, E, F]]: ...
@overload
def gather(
    a: Reply[A], b: Reply[B], c: Reply[C], d: Reply[D], e: Reply[E], f: Reply[F], g: Reply[G], /
) -> Reply[tuple[A, B, C, D, E, F, G]]: ...
@overload
def gather(
    a: Reply[A], b: Reply[B], c: Reply[C], d: Reply[D], e: Reply[E], f: Reply[F], g: Reply[G], h: Reply[H], /
) -> Reply[tuple[A, B, C, D, E, F, G, H]]: ...
@overload
def gather(*replies: Reply[T]) -> Reply[tuple[T, ...]]: ...
@overload
def gather(*replies: Reply[Any]) -> Reply[tuple[Any, ...]]: ...
def gather(*replies: Reply[Any]) -> Reply[Any]:
    """All values, in order. The first error settles it at once and cancels the others."""
    return _Gather(replies).begin()


@overload
def settle_all(a: Reply[A], /) -> Reply[tuple[A | BaseException]]: ...
@overload
def settle_all(a: Reply[A], b: Reply[B], /) -> Reply[tuple[A | BaseException, B | BaseException]]: ...
@overload
def settle_all(
    a: Reply[A], b: Reply[B], c: Reply[C], /
) -> Reply[tuple[A | BaseException, B | BaseException, C | BaseException]]: ...
@overload
def settle_all(
    a: Reply[A], b: Reply[B], c: Reply[C], d: Reply[D], /
) -> Reply[tuple[A | BaseException, B | BaseException, C | BaseException, D | BaseException]]: ...
@overload
def settle_all(
    a: Reply[A], b: Reply[B], c: Reply[C], d: Reply[D], e: Reply[E], /
) -> Reply[
    tuple[A | BaseException, B | BaseException, C | BaseException, D | BaseException, E | BaseException]
]: ...
@overload
def settle_all(
    a: Reply[A], b: Reply[B], c: Reply[C], d: Reply[D], e: Reply[E], f: Reply[F], /
) -> Reply[
    tuple[
        A | BaseException,
        B | BaseException,
        C | BaseException,
        D | BaseException,
        E | BaseException,
        F | BaseException,
    ]
]: ...
@overload
def settle_all(
    a: Reply[A], b: Reply[B], c: Reply[C], d: Reply[D], e: Reply[E], f: Reply[F], g: Reply[G], /
) -> Reply[
    tuple[
        A | BaseException,
        B | BaseException,
        C | BaseException,
        D | BaseException,
        E | BaseException,
        F | BaseException,
        G | BaseException,
    ]
]: ...
@overload
def settle_all(
    a: Reply[A], b: Reply[B], c: Reply[C], d: Reply[D], e: Reply[E], f: Reply[F], g: Reply[G], h: Reply[H], /
) -> Reply[
    tuple[
        A | BaseException,
        B | BaseException,
        C | BaseException,
        D | BaseException,
        E | BaseException,
        F | BaseException,
        G | BaseException,
        H | BaseException,
    ]
]: ...
@overload
def settle_all(*replies: Reply[T]) -> Reply[tuple[T | BaseException, ...]]: ...
@overload
def settle_all(*replies: Reply[Any]) -> Reply[tuple[Any, ...]]: ...
def settle_all(*replies: Reply[Any]) -> Reply[Any]:
    """Every value or error, in order, when all have settled. It never fails by itself."""
    return _SettleAll(replies).begin()


@overload
def first(a: Reply[A], /) -> Reply[A]: ...
@overload
def first(a: Reply[A], b: Reply[B], /) -> Reply[A | B]: ...
@overload
def first(a: Reply[A], b: Reply[B], c: Reply[C], /) -> Reply[A | B | C]: ...
@overload
def first(a: Reply[A], b: Reply[B], c: Reply[C], d: Reply[D], /) -> Reply[A | B | C | D]: ...
@overload
def first(a: Reply[A], b: Reply[B], c: Reply[C], d: Reply[D], e: Reply[E], /) -> Reply[A | B | C | D | E]: ...
@overload
def first(
    a: Reply[A], b: Reply[B], c: Reply[C], d: Reply[D], e: Reply[E], f: Reply[F], /
) -> Reply[A | B | C | D | E | F]: ...
@overload
def first(
    a: Reply[A], b: Reply[B], c: Reply[C], d: Reply[D], e: Reply[E], f: Reply[F], g: Reply[G], /
) -> Reply[A | B | C | D | E | F | G]: ...
@overload
def first(
    a: Reply[A], b: Reply[B], c: Reply[C], d: Reply[D], e: Reply[E], f: Reply[F], g: Reply[G], h: Reply[H], /
) -> Reply[A | B | C | D | E | F | G | H]: ...
@overload
def first(*replies: Reply[T]) -> Reply[T]: ...
@overload
def first(*replies: Reply[Any]) -> Reply[Any]: ...
def first(*replies: Reply[Any]) -> Reply[Any]:
    """The first value; the others are then cancelled.

    If all fail, `DeadlineExceeded` if all were late, else `AllFailed` with their errors; a plain
    `ExceptionGroup` if one of them is no `NoAnswer`, but a mistake of the program.
    """
    if not replies:
        raise Misuse("first() needs at least one reply")
    return _First(replies).begin()


class _Combined(Reply[Any]):
    """Shared by the three: how many parts are still open."""

    __slots__ = ("left", "parts")

    composed = True

    def __init__(self, parts: tuple[Reply[Any], ...]) -> None:
        for part in parts:
            if not isinstance(part, Reply):
                raise Misuse(f"{told(part)} is not a reply; a coroutine becomes one by loop.spawn()")
        super().__init__(deadline=max((part.deadline for part in parts), default=NEVER))
        self.parts = parts
        self.left = len(parts)

    def begin(self) -> Reply[Any]:
        if not self.parts:
            self.settle(())
        for part in self.parts:
            part.relay(self.part_settled)
        return self

    def waits_for(self) -> Iterable[Waitable]:
        """The parts that are open."""
        return (part for part in self.parts if not part.settled)

    def cancel(self, error: BaseException | None = None) -> bool:
        """As `Reply.cancel`, and of all parts that are open."""
        with one_turn():
            if not super().cancel(error):
                return False
            call_in_turn(self.cancel_rest)
            return True

    def cancel_rest(self) -> None:
        for part in self.parts:
            if not part.settled:
                part.cancel()

    def part_settled(self, part: Reply[Any]) -> None:
        self.left -= 1
        if not self.settled:
            self.see(part)

    def see(self, part: Reply[Any]) -> None:
        raise NotImplementedError


class _Gather(_Combined):
    __slots__ = ()

    def see(self, part: Reply[Any]) -> None:
        if part.error is not None:
            self.fail(part.error)
            self.cancel_rest()
        elif self.left == 0:
            self.settle(tuple(part.result() for part in self.parts))


class _SettleAll(_Combined):
    __slots__ = ()

    def see(self, part: Reply[Any]) -> None:
        if self.left == 0:
            self.settle(tuple(part.result() if part.error is None else part.error for part in self.parts))


class _First(_Combined):
    __slots__ = ()

    def waits_for(self) -> Iterable[Waitable]:
        """The only part that is open: any of several would do."""
        return super().waits_for() if self.left == 1 else ()

    def see(self, part: Reply[Any]) -> None:
        if part.error is None:
            self.settle(part.result())
            self.cancel_rest()
        elif self.left == 0:
            self.fail(nobody([part.error for part in self.parts if part.error is not None]))


def nobody(errors: list[BaseException]) -> BaseException:
    """What `first` fails with when all have failed, with these."""
    failures = [error for error in errors if not isinstance(error, Cancelled)]
    if not failures:
        return errors[-1]
    if all(isinstance(error, DeadlineExceeded) for error in failures):
        return failures[-1]
    unanswered = [error for error in failures if isinstance(error, NoAnswer)]
    if len(unanswered) == len(failures):
        return AllFailed("every reply failed", unanswered)
    return BaseExceptionGroup("every reply failed", failures)
