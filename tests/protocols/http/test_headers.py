"""Headers: what a name and a value may be, the multi-map, and what a proxy passes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.http.codec.headers import (
    HOP_BY_HOP,
    NO_HEADERS,
    Headers,
    connection_options,
    forwardable,
    validate_name,
    validate_value,
)

NAMES = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=12)
VALUES = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]) | st.just("\t"),
    max_size=20,
)


class TestValidation:
    @pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "\xe9", "a\x00", "(", "[0]", " a", "a "])
    def test_names_that_are_no_tokens(self, name: str) -> None:
        with pytest.raises(ValueError, match="is not a token"):
            validate_name(name)
        with pytest.raises(ValueError, match="is not a token"):
            Headers({name: "x"})

    @pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\r\nSet-Cookie: b", "\x00", "\x1f", "\x7f", "a\n"])
    def test_values_with_controls(self, value: str) -> None:
        with pytest.raises(ValueError, match=r"header 'A': .* is a control character"):
            validate_value("A", value)
        with pytest.raises(ValueError, match="header 'X-Name'"):
            Headers([("X-Name", value)])

    def test_values_must_be_latin_1(self) -> None:
        with pytest.raises(ValueError, match=r"header 'A': '€' at 2 of the value is not latin-1"):
            validate_value("A", "1 €")

    def test_white_space_around_a_value_is_not_part_of_it(self) -> None:
        assert validate_value("A", " \tb \tc\t ") == "b \tc"
        assert validate_name("X-a_b.~") == "X-a_b.~"


class TestHeaders:
    def test_from_pairs(self) -> None:
        headers = Headers([("A", " 1 "), ("b", "2"), ("a", "3")])
        assert list(headers) == [("A", "1"), ("b", "2"), ("a", "3")]
        assert headers.block == b"A: 1\r\nb: 2\r\na: 3\r\n"
        assert len(headers) == 3

    def test_from_mapping_and_from_headers(self) -> None:
        headers = Headers({"Content-Type": "x", "é".encode().hex(): "\xe9"})
        assert headers.block == b"Content-Type: x\r\nc3a9: \xe9\r\n"
        assert Headers(headers) == headers

    def test_from_block(self) -> None:
        block = b"A:1\r\nb: \t2 \t \r\nEmpty:\r\nEmpty2: \t\r\na:x:y\r\nL: \xe9\r\n"
        headers = Headers.from_block(block)
        assert headers.block is block
        assert headers.pairs == (
            ("A", "1"), ("b", "2"), ("Empty", ""), ("Empty2", ""), ("a", "x:y"), ("L", "\xe9"),
        )  # fmt: skip

    def test_lookup_has_no_case(self) -> None:
        headers = Headers([("A", "1"), ("b", "2"), ("a", "3")])
        assert (headers.get("a"), headers.get("A"), headers.get("B")) == ("1", "1", "2")
        assert headers.get("c") is None
        assert headers.get("c", "d") == "d"
        assert headers.get_all("a") == ["1", "3"]
        assert headers.get_all("c") == []
        assert "B" in headers
        assert "c" not in headers
        assert 7 not in headers

    def test_what_get_all_gives_is_the_callers(self) -> None:
        headers = Headers({"a": "1"})
        headers.get_all("a").append("2")
        assert headers.get_all("a") == ["1"]

    def test_with_replaces_and_without_drops(self) -> None:
        headers = Headers([("A", "1"), ("b", "2"), ("a", "3")])
        assert list(headers.with_({"A": "4", "c": "5"})) == [("b", "2"), ("A", "4"), ("c", "5")]
        assert list(headers.without("A", "x")) == [("b", "2")]
        assert len(headers) == 3
        with pytest.raises(ValueError, match="control"):
            headers.with_({"A": "\n"})

    def test_equality_is_that_of_a_multi_map(self) -> None:
        headers = Headers([("A", "1"), ("b", "2"), ("a", "3")])
        assert headers == Headers.from_block(b"B:2\r\na:1\r\na:3\r\n")
        assert headers != Headers([("A", "3"), ("b", "2"), ("a", "1")])
        assert headers != {"A": "1"}
        with pytest.raises(TypeError):
            hash(headers)

    def test_repr_hides_secrets(self) -> None:
        headers = Headers({"Host": "x", "Cookie": "sid=1", "Authorization": "Basic abc"})
        assert repr(headers) == (
            "Headers([('Host', 'x'), ('Cookie', '[hidden]'), ('Authorization', '[hidden]')])"
        )

    @given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
    def test_block_and_pairs_say_the_same(self, pairs: list[tuple[str, str]]) -> None:
        headers = Headers(pairs)
        again = Headers.from_block(headers.block)
        assert again.pairs == headers.pairs == tuple((name, value.strip(" \t")) for name, value in pairs)
        assert again == headers


class TestForwardable:
    def test_nothing_to_strip_is_given_back_as_it_is(self) -> None:
        block = b"Host: x\r\nTest: y\r\nTE-x: z\r\nX-Connection: u\r\nUpgrade-Insecure-Requests: 1\r\n"
        assert forwardable(block) == block
        assert forwardable(b"") == b""

    @pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
    def test_hop_by_hop(self, name: str) -> None:
        field = name.title().encode()
        assert (
            forwardable(b"%b: x\r\nA: b\r\n%b:\r\nC: d\r\n%b: y\r\n" % (field, field, field))
            == b"A: b\r\nC: d\r\n"
        )

    def test_listed_and_extra_names(self) -> None:
        block = b"X.A: 1\r\nXxA: 2\r\nForwarded: 3\r\nConnection: x.a\r\nx.a: 4\r\n"
        assert forwardable(block, (b"x.a",), b"Forwarded") == b"XxA: 2\r\n"

    def test_content_length_goes_when_the_body_is_framed_anew(self) -> None:
        block = b"content-length: 5\r\nA: Content-Length: 5\r\n"
        assert forwardable(block) == block
        assert forwardable(block, framing=True) == b"A: Content-Length: 5\r\n"
        assert forwardable(block, (b"b",), framing=True) == b"A: Content-Length: 5\r\n"

    def test_connection_options(self) -> None:
        value = b"close, Keep-Alive , ,X-A,host,Content-Length\t, te, Upgrade, Transfer-Encoding"
        assert connection_options(value) == (b"x-a",)

    def test_end_to_end(self) -> None:
        headers = Headers({"Connection": "close, X-A", "X-A": "1", "Content-Length": "5", "B": "2"})
        assert headers.end_to_end == b"B: 2\r\n"
        assert headers.end_to_end is headers.end_to_end
        assert NO_HEADERS.end_to_end == b""

    @given(st.lists(st.tuples(st.sampled_from(["Te", "UPGRADE", "a", "b", "x-te"]), VALUES), max_size=8))
    def test_like_filtering_pairs(self, pairs: list[tuple[str, str]]) -> None:
        wanted = [pair for pair in pairs if pair[0].lower() not in {*HOP_BY_HOP, "b"}]
        assert forwardable(Headers(pairs).block, (b"b",)) == Headers(wanted).block
