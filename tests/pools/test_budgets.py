"""The retry budget, number by number: a share of the units of the last ten seconds, and some per second."""

from __future__ import annotations

import pytest

from pools import RetryBudget
from pools.budgets import Retries


def granted(budget: Retries, now: float, submitted: int) -> int:
    """How many retries are to be had at this moment."""
    count = 0
    while count < 10_000 and budget.grant(now, submitted):
        count += 1
    return count


def test_some_are_granted_for_each_second_whatever_was_submitted() -> None:
    assert granted(RetryBudget(0.0, 3.0).begun(), 0.0, 0) == 30
    assert granted(RetryBudget(0.0, 0.0).begun(), 0.0, 1000) == 0
    assert granted(RetryBudget().begun(), 0.0, 50) == 110


def test_a_share_is_granted_of_what_was_submitted() -> None:
    budget = RetryBudget(0.2, 0.0).begun()
    assert granted(budget, 0.0, 50) == 10
    assert granted(budget, 0.5, 50) == 0
    assert granted(budget, 0.9, 100) == 10
    assert repr(budget) == "<Retries 20% + 0/s, 20 granted>"


def test_what_was_submitted_and_granted_counts_for_ten_seconds() -> None:
    budget = RetryBudget(0.5, 0.0).begun()
    assert granted(budget, 100.0, 10) == 5
    for second in range(101, 110):
        budget.look(float(second), 10)
    assert granted(budget, 109.5, 20) == 5  # of ten units more, the first ten have had theirs
    assert granted(budget, 110.0, 20) == 0
    assert granted(budget, 110.0, 30) == 5  # those of the first second, and what they had, are forgotten


def test_it_looks_once_in_a_second_and_by_itself_if_nobody_else_does() -> None:
    budget = RetryBudget(1.0, 0.0).begun()
    budget.look(5.0, 7)
    assert budget.next_look == 6.0
    assert granted(budget, 5.9, 7) == 7
    assert budget.next_look == 6.0
    assert granted(budget, 6.0, 7) == 0
    assert budget.next_look == 7.0
    assert granted(budget, 17.0, 8) == 1  # all that was before is over, but for the one that has just come
    assert budget.next_look == 18.0


@pytest.mark.parametrize(("share", "per_second"), [(-0.1, 1.0), (0.1, -1.0)])
def test_less_than_nothing_is_refused(share: float, per_second: float) -> None:
    with pytest.raises(ValueError, match="write 0 or more"):
        RetryBudget(share, per_second)
