"""Which methods are sent again after a connection was lost: done twice, with another client's request of the
same kind in between, they leave what some order of doing each once leaves (RFC 9110 section 9.2.2).
"""

from __future__ import annotations

from itertools import permutations

import pytest

from protocols import http

Step = tuple[str, bytes]

READS: list[Step] = [(method, b"") for method in ("GET", "HEAD", "OPTIONS", "TRACE")]
WRITES: list[Step] = [("PUT", b"mine"), ("DELETE", b"")]
OTHERS: list[Step] = [("PUT", b"another's"), ("DELETE", b"")]
BEFORE = [None, b"before"]


def execute(state: bytes | None, step: Step) -> bytes | None:
    """What is at the target afterwards; None if nothing is."""
    method, body = step
    if method == "PUT":
        return body
    if method == "DELETE":
        return None
    if method == "POST":  # as most do: it adds
        return (state or b"") + body
    return state


def after(state: bytes | None, *steps: Step) -> bytes | None:
    for step in steps:
        state = execute(state, step)
    return state


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("step", [*READS, *WRITES], ids=lambda step: step[0])
def test_twice_with_anothers_in_between_is_as_once(step: Step, other: Step, before: bytes | None) -> None:
    assert http.request(step[0], "/", body=step[1]).idempotent
    orders = {after(before, *order) for order in permutations((step, other))}
    assert after(before, step, other, step) in orders


@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECTED"])
def test_what_adds_to_what_is_there_is_not_sent_again(method: str) -> None:
    assert not http.request(method, "/", body=b"more").idempotent


def test_why_a_post_is_not() -> None:
    step, other = ("POST", b"mine "), ("POST", b"another's ")
    orders = {after(b"", *order) for order in permutations((step, other))}
    assert after(b"", step, other, step) not in orders
