"""The patterns of the codec: tried when they are imported, and cheap over whatever comes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from protocols.http.codec import grammar
from tests.protocols.http.steps import TooManySteps, steps, steps_of_search

ITEMS = 24
PATTERNS: dict[str, re.Pattern[bytes]] = {
    name: owner
    for name, value in vars(grammar).items()
    if isinstance(owner := getattr(value, "__self__", None), re.Pattern) and isinstance(owner.pattern, bytes)
}
BEGINNINGS = [
    b"", b"GET /", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nA:", b"HTTP/1.1 200 ", b"HTTP/1.1 200 OK\r\n",
    b"3", b"3;a=", b'3;a="', b"\r\n3", b"\r\n3;a=", b'\r\n3;a="', b"\nhost:", b"\nConnection", b"http://",
    b"[",
]  # fmt: skip
REPEATED = [
    b"a", b"a:", b"A:b\r\n", b"A:\r\n", b" ", b"\t ", b"\r\n ", b";a", b";a=b", b';a="b"', b" ; a = b ",
    b'\\"', b"\\\\", b'"', b"%41", b"%", b"a,", b"0", b"1.", b"\n", b"\nhost:", b"\nhost: \t",
]  # fmt: skip


@pytest.mark.parametrize("name", PATTERNS)
def test_twice_as_much_takes_no_more_than_twice_as_long(name: str) -> None:
    pattern = PATTERNS[name]
    for beginning in BEGINNINGS:
        for item in REPEATED:
            once = steps(pattern, beginning + item * ITEMS)
            twice = steps(pattern, beginning + item * ITEMS * 2)
            assert twice <= 2 * once + len(beginning) + 20, (beginning, item)


@pytest.mark.parametrize(
    "name", ["special_of_request", "special_of_response", "host_line", "length_line", "unfold"]
)
def test_searching_in_twice_as_much_takes_no_more_than_twice_as_long(name: str) -> None:
    for item in REPEATED:
        once, twice = (steps_of_search(PATTERNS[name], item * ITEMS * times) for times in (1, 2))
        assert twice <= 2 * once + 20, item


def test_what_goes_back_again_and_again_is_found_out() -> None:
    with pytest.raises(TooManySteps):
        steps(re.compile(rb"(?:a*)*b"), b"a" * ITEMS, 10_000)


@pytest.mark.parametrize("refused", [{"good": ("a", "aa"), "bad": ()}, {"good": (), "bad": ("b", "a")}])
def test_an_interpreter_that_misreads_a_pattern_is_not_started_on(refused: dict[str, Any]) -> None:
    with pytest.raises(ImportError, match=r"misreads the pattern 'a' on 'aa?'.*Use another patch version"):
        grammar.rule("a", **refused)


def test_a_finder_finds_what_it_must() -> None:
    find = grammar.finder(rb"(a)(b)", finds=((b"abab", [(b"a", b"b"), (b"a", b"b")]),))
    assert find(b"xab") == [(b"a", b"b")]
    with pytest.raises(ImportError, match="misreads"):
        grammar.finder(rb"(a)(b)", finds=((b"ab", []),))
