"""Heads of requests and responses: what is taken, what follows from it, what is refused, at every split."""

from __future__ import annotations

import pytest
from msgspec.structs import astuple

from protocols.http.codec.bodies import ChunkedDecoder
from protocols.http.codec.errors import BadRequest, BadResponse
from protocols.http.codec.head import (
    CHUNKED,
    UNTIL_CLOSE,
    RequestHead,
    ResponseHead,
    parse_request_head,
    parse_response_head,
)
from protocols.http.codec.limits import DEFAULT_LIMITS, Limits
from tests.protocols.http.bad_requests import BAD_REQUESTS
from tests.protocols.http.bad_responses import BAD_RESPONSES

LIMITS = DEFAULT_LIMITS

GOOD_REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: localhost:8080\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET /a?b=c HTTP/1.0\r\nHost: x\r\nConnection: Keep-Alive\r\n\r\n",
    b"\r\n\r\nHEAD /x HTTP/1.1\r\nhost:x\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5 \r\nExpect: 100-Continue\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: x\r\ntransfer-encoding:\tCHUNKED\r\nX: \xe9\r\n\r\n",
    b"PROPFIND /x HTTP/1.7\r\nHost: [::1]:80\r\nEmpty:\r\n\r\n",
    b"CONNECT a.b:443 HTTP/1.1\r\nHost: a.b:443\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://u.v:81/w?x HTTP/1.1\r\nA: b\r\nHost: other\r\nC: d\r\n\r\n",
    b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: websocket\r\n\r\n",
]

GOOD_RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n",
    b"HTTP/1.1 200\r\n\r\n",
    b"HTTP/1.1 404 \r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.0 200 Tr\xe8s bien\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.3 304 Not Modified\r\nContent-Length: 5\r\nConnection: close, X-A\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA: b\r\n\tc\r\nContent-Length:\r\n 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n",
]


def request(data: bytes, limits: Limits = LIMITS) -> RequestHead:
    head = parse_request_head(data, 0, limits)
    assert head is not None
    return head


def response(data: bytes, method: str = "GET") -> ResponseHead:
    head = parse_response_head(data, 0, LIMITS, method)
    assert head is not None
    return head


def told(head: RequestHead | ResponseHead | None) -> tuple[object, ...]:
    """All that a head says."""
    return () if head is None else astuple(head)


def with_lines(lines: str, start: str = "GET / HTTP/1.1") -> RequestHead:
    return request(f"{start}\r\nHost: x\r\n{lines}\r\n".encode("latin-1"))


def read_request(pieces: list[bytes], limits: Limits = LIMITS) -> RequestHead | None:
    """Parse a request that arrives in pieces, head and chunked body, as a server would."""
    buffer = bytearray()
    head = None
    decoder = None
    scanned = position = 0
    for piece in pieces:
        buffer += piece
        if head is None:
            head = parse_request_head(buffer, 0, limits, scanned)
            scanned = len(buffer)
            if head is None:
                continue
            position = head.end
            if head.length == CHUNKED:
                decoder = ChunkedDecoder(limits, BadRequest)
        if decoder is not None:
            position = decoder.feed(buffer, position, [])
    return head


def read_response(pieces: list[bytes]) -> ResponseHead | None:
    buffer = bytearray()
    head = None
    decoder = None
    scanned = position = 0
    for piece in pieces:
        buffer += piece
        if head is None:
            head = parse_response_head(buffer, 0, LIMITS, "GET", scanned)
            scanned = len(buffer)
            if head is None:
                continue
            position = head.end
            if head.length == CHUNKED:
                decoder = ChunkedDecoder(LIMITS, BadResponse)
        if decoder is not None:
            position = decoder.feed(buffer, position, [])
    return head


def one_by_one(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


class TestRequest:
    def test_shortest(self) -> None:
        head = request(b"GET /a?b HTTP/1.1\r\nHost: localhost:8080\r\n\r\n")
        assert (head.method, head.target, head.minor) == ("GET", "/a?b", 1)
        assert head.block == b"Host: localhost:8080\r\n"
        assert (head.host, head.length, head.keep_alive) == ("localhost:8080", 0, True)
        assert (head.expect_continue, head.upgrade, head.connection) == (False, None, ())
        assert repr(head) == "<RequestHead GET /a?b HTTP/1.1 length=0 keep-alive>"

    @pytest.mark.parametrize("host", ["h=5000", "a%2Fb", "(a);b,c!$&'*+", "a_b~c:", "[::1]:80", "a" * 255])
    def test_a_host_is_what_a_url_may_name(self, host: str) -> None:
        assert request(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).host == host
        assert request(f"GET http://{host}/ HTTP/1.1\r\nHost: a\r\n\r\n".encode()).host == host

    def test_nothing_is_read_as_a_request_behind_connect(self) -> None:
        assert request(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nGET").keep_alive is False

    def test_headers_are_split_once_and_only_when_looked_at(self) -> None:
        head = with_lines("A:  b \r\nC:\r\n")
        assert list(head.headers) == [("Host", "x"), ("A", "b"), ("C", "")]
        assert head.headers is head.headers

    @pytest.mark.parametrize("data", GOOD_REQUESTS)
    def test_same_at_every_split_and_byte_by_byte(self, data: bytes) -> None:
        whole = request(data)
        assert whole.end == len(data)
        for cut in range(1, len(data)):
            assert parse_request_head(data[:cut], 0, LIMITS) is None
            assert told(read_request([data[:cut], data[cut:]])) == told(whole)
        assert told(read_request(one_by_one(data))) == told(whole)

    @pytest.mark.parametrize("data", GOOD_REQUESTS)
    def test_with_others_before_and_behind(self, data: bytes) -> None:
        start = len(GOOD_REQUESTS[0])
        head = parse_request_head(GOOD_REQUESTS[0] + data + b"GET / HT", start, LIMITS)
        whole = request(data)
        assert head is not None
        assert head.end == start + whole.end
        assert (head.block, head.target, head.host) == (whole.block, whole.target, whole.host)

    @pytest.mark.parametrize("kind", [bytes, bytearray])
    def test_bytes_are_the_heads_own(self, kind: type[bytes] | type[bytearray]) -> None:
        buffer = bytearray(kind(GOOD_REQUESTS[-1]))
        head = parse_request_head(buffer, 0, LIMITS)
        buffer.clear()
        assert head is not None
        assert type(head.block) is bytes
        assert head.headers.get("upgrade") == "websocket"

    def test_blank_lines_before_are_passed_over(self) -> None:
        assert parse_request_head(b"", 0, LIMITS) is None
        assert parse_request_head(b"\r", 0, LIMITS) is None
        assert parse_request_head(b"\r\n\r\n", 0, LIMITS) is None
        assert request(b"\r\nGET / HTTP/1.0\r\n\r\n").end == 20

    def test_higher_minor_version_is_served_as_1_1(self) -> None:
        assert request(b"GET / HTTP/1.9\r\nHost: x\r\n\r\n").minor == 1

    @pytest.mark.parametrize(
        ("host", "ok"),
        [
            ("a", True),
            ("a.b-c_d~e:80", True),
            ("127.0.0.1", True),
            ("[2001:db8::1]:443", True),
            ("a:", True),
            ("%41", True),
            ("a" * 255, True),
            ("a" * 256, False),
            ("[::1]x", False),
            ("%4", False),
            (":80", False),
        ],
    )
    def test_host(self, host: str, ok: bool) -> None:
        data = f"GET / HTTP/1.1\r\nHost: {host}\t\r\n\r\n".encode()
        if ok:
            assert request(data).host == host
        else:
            with pytest.raises(BadRequest, match="Host"):
                request(data)

    def test_host_may_be_missing_in_1_0_only(self) -> None:
        assert request(b"GET / HTTP/1.0\r\n\r\n").host == ""
        with pytest.raises(BadRequest, match="missing"):
            request(b"GET / HTTP/1.1\r\n\r\n")

    @pytest.mark.parametrize(
        ("method", "given", "target", "host"),
        [
            ("GET", "http://u.v:81/w?x", "/w?x", "u.v:81"),
            ("GET", "HTTPS://u.v", "/", "u.v"),
            ("GET", "http://u.v?x", "/?x", "u.v"),
            ("OPTIONS", "http://u.v", "*", "u.v"),
            ("OPTIONS", "http://u.v/", "/", "u.v"),
        ],
    )
    def test_absolute_form_decides_the_host(self, method: str, given: str, target: str, host: str) -> None:
        head = with_lines("A: b\r\n", f"{method} {given} HTTP/1.1")
        assert (head.target, head.host) == (target, host)
        assert list(head.headers) == [("Host", host), ("A", "b")]

    def test_absolute_form_in_1_0_adds_the_host(self) -> None:
        assert (
            request(b"GET http://u/ HTTP/1.0\r\nNot-host: z\r\n\r\n").block == b"Host: u\r\nNot-host: z\r\n"
        )

    def test_connect_has_an_authority_for_target(self) -> None:
        head = with_lines("", "CONNECT u.v:443 HTTP/1.1")
        assert (head.target, head.host) == ("u.v:443", "u.v:443")

    @pytest.mark.parametrize(
        ("lines", "length"),
        [
            ("", 0),
            ("Content-Length: 0\r\n", 0),
            ("Content-Length: 007\r\n", 7),
            ("Content-Length: 999999999999999999\r\n", 10**18 - 1),
            ("transfer-ENCODING: chunked\r\n", CHUNKED),
            ("Transfer-Encoding:   Chunked \t\r\n", CHUNKED),
            ("X-Content-Length: 5\r\n", 0),
            ("Content-Lengthy: 5\r\n", 0),
            ("X: \tContent-Length: 5\r\n", 0),
        ],
    )
    def test_length(self, lines: str, length: int) -> None:
        assert with_lines(lines).length == length

    @pytest.mark.parametrize(
        ("minor", "lines", "keep_alive", "connection"),
        [
            (1, "", True, ()),
            (0, "", False, ()),
            (1, "Connection: close\r\n", False, ()),
            (1, "connection: X , CLOSE\r\n", False, (b"x",)),
            (0, "Connection: Keep-Alive\r\n", True, ()),
            (1, "Connection: keep-alive, close\r\n", False, ()),
            (1, "Connection: A\r\nConnection: te,, b,\r\n", True, (b"a", b"b")),
            (1, "Connection: host, content-length, content-type\r\n", True, ()),
            (1, "Connection:\r\n", True, ()),
        ],
    )
    def test_connection(
        self, minor: int, lines: str, keep_alive: bool, connection: tuple[bytes, ...]
    ) -> None:
        head = with_lines(lines, f"GET / HTTP/1.{minor}")
        assert (head.keep_alive, head.connection) == (keep_alive, connection)

    def test_expect_counts_in_1_1_with_a_body(self) -> None:
        lines = "Expect: 100-CONTINUE\r\nContent-Length: 1\r\n"
        assert with_lines(lines).expect_continue is True
        assert with_lines(lines, "PUT / HTTP/1.0").expect_continue is False
        assert with_lines("Expect: 100-continue\r\n").expect_continue is False
        assert with_lines("Expect: other\r\n", "PUT / HTTP/1.0").expect_continue is False

    def test_upgrade_counts_if_connection_lists_it(self) -> None:
        assert with_lines("Connection: keep-alive, UPGRADE\r\nUpgrade: WebSocket\r\n").upgrade == "WebSocket"
        assert with_lines("Upgrade: websocket\r\n").upgrade is None
        assert with_lines("Connection: upgrade\r\n").upgrade is None
        assert with_lines("Connection: upgrade\r\nUpgrade: x\r\n", "GET / HTTP/1.0").upgrade is None
        both = with_lines("Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b/2\r\n")
        assert both.upgrade == "a, b/2"
        assert repr(both) == "<RequestHead GET / HTTP/1.1 length=0 keep-alive upgrade=a, b/2>"


class TestBadRequests:
    @pytest.mark.parametrize(
        ("data", "status"), [row[1:] for row in BAD_REQUESTS], ids=[r[0] for r in BAD_REQUESTS]
    )
    def test_whole_by_byte_and_at_splits(self, data: bytes, status: int) -> None:
        reasons = set()
        cuts = range(1, len(data), max(1, len(data) // 200))
        for pieces in [[data], one_by_one(data), *([data[:cut], data[cut:]] for cut in cuts)]:
            with pytest.raises(BadRequest) as caught:
                read_request(pieces)
            assert caught.value.status == status
            reasons.add(caught.value.reason)
        assert len(reasons) == 1

    def test_names_are_unique_and_many(self) -> None:
        assert len({name for name, _, _ in BAD_REQUESTS}) == len(BAD_REQUESTS) >= 70

    def test_error_tells_status_and_reason(self) -> None:
        with pytest.raises(BadRequest) as caught:
            request(b"GET / HTTP/2.0\r\n")
        assert str(caught.value) == "505: only HTTP/1.1 and HTTP/1.0 are supported"
        assert caught.value.reason == "only HTTP/1.1 and HTTP/1.0 are supported"

    def test_a_bad_line_is_refused_before_the_head_ends(self) -> None:
        with pytest.raises(BadRequest):
            request(b"GET / HTTP/1.1\r\nHost : x\r\n")

    def test_a_slow_sender_is_stopped_at_the_limit(self) -> None:
        limits = Limits(head_bytes=64)
        buffer = bytearray(b"GET / HTTP/1.1\r\nHost: x\r\nA: ")
        scanned = 0
        while len(buffer) <= 64:
            assert parse_request_head(buffer, 0, limits, scanned) is None
            scanned = len(buffer)
            buffer += b"a"
        with pytest.raises(BadRequest) as caught:
            parse_request_head(buffer, 0, limits, scanned)
        assert caught.value.status == 431

    @pytest.mark.parametrize(
        ("limits", "status"),
        [
            (Limits(), None),
            (Limits(head_bytes=48), None),
            (Limits(head_bytes=47), 431),
            (Limits(target_bytes=6), None),
            (Limits(target_bytes=5), 414),
            (Limits(headers=2), None),
            (Limits(headers=1), 431),
            (Limits(head_bytes=20), 414),
        ],
    )
    @pytest.mark.parametrize("method", [b"GET", b"PIG"])
    def test_limits_hold_in_every_manner(self, limits: Limits, status: int | None, method: bytes) -> None:
        data = method + b" /abcde HTTP/1.1\r\nHost: hostname.de\r\nA: b\r\n\r\n"
        assert len(data) == 48
        for pieces in [[data], one_by_one(data), [data[:-1], data[-1:]]]:
            if status is None:
                assert read_request(pieces, limits) is not None
            else:
                with pytest.raises(BadRequest) as caught:
                    read_request(pieces, limits)
                assert caught.value.status == status

    def test_a_long_method_is_part_of_the_line(self) -> None:
        data = b"M" * 9000 + b" / HTTP/1.1\r\nHost: x\r\n\r\n"
        for pieces in [[data], one_by_one(data)]:
            with pytest.raises(BadRequest) as caught:
                read_request(pieces)
            assert caught.value.status == 414


class TestResponse:
    def test_usual(self) -> None:
        head = response(b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 12\r\n\r\nHello World!")
        assert (head.status, head.reason, head.minor) == (200, "OK", 1)
        assert head.block == b"Server: x\r\nContent-Length: 12\r\n"
        assert (head.length, head.keep_alive, head.upgrade, head.connection) == (12, True, None, ())
        assert head.headers.get("server") == "x"
        assert head.headers is head.headers
        assert repr(head) == "<ResponseHead 200 HTTP/1.1 length=12 keep-alive>"

    @pytest.mark.parametrize("data", GOOD_RESPONSES)
    def test_same_at_every_split_and_byte_by_byte(self, data: bytes) -> None:
        whole = response(data + b"trailing")
        assert whole.end == len(data)
        for cut in range(1, len(data)):
            assert parse_response_head(data[:cut], 0, LIMITS, "GET") is None
            assert told(read_response([data[:cut], data[cut:]])) == told(whole)
        assert told(read_response(one_by_one(data))) == told(whole)
        assert parse_response_head(b"", 0, LIMITS, "GET") is None

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("200", ""),
            ("200 ", ""),
            ("200 Tr\xe8s bien", "Tr\xe8s bien"),
            ("200  two", " two"),
            ("999 X", "X"),
        ],
    )
    def test_reason_may_be_anything_printable(self, line: str, reason: str) -> None:
        head = response(f"HTTP/1.1 {line}\r\n\r\n".encode("latin-1"))
        assert (head.status, head.reason) == (int(line[:3]), reason)

    @pytest.mark.parametrize(
        ("status", "method", "lines", "length", "keep_alive"),
        [
            (200, "GET", "", UNTIL_CLOSE, False),
            (200, "GET", "Content-Length: 3\r\n", 3, True),
            (200, "GET", "Content-Length: 3\r\nContent-Length: 3\r\n", 3, True),
            (200, "GET", "Transfer-Encoding: Chunked\r\n", CHUNKED, True),
            (200, "GET", "Transfer-Encoding: chunked\r\nConnection: close\r\n", CHUNKED, False),
            (200, "HEAD", "", 0, True),
            (200, "HEAD", "Content-Length: 3\r\n", 0, True),
            (200, "HEAD", "Transfer-Encoding: chunked\r\n", 0, True),
            (304, "GET", "Content-Length: 3\r\n", 0, True),
            (304, "GET", "", 0, True),
            (204, "GET", "", 0, True),
            (204, "GET", "Content-Length: 0\r\n", 0, True),
            (204, "GET", "Content-Length: 3\r\n", 0, False),
            (204, "GET", "Transfer-Encoding: chunked\r\n", 0, False),
            (100, "POST", "", 0, True),
            (101, "GET", "Content-Length: 0\r\n", 0, True),
            (200, "CONNECT", "Content-Length: 3\r\n", 0, True),
            (407, "CONNECT", "Content-Length: 3\r\n", 3, True),
        ],
    )
    def test_framing(self, status: int, method: str, lines: str, length: int, keep_alive: bool) -> None:
        head = response(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode(), method)
        assert (head.length, head.keep_alive) == (length, keep_alive)

    def test_1_0_stays_only_if_it_says_so_and_has_a_length(self) -> None:
        assert response(b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n").keep_alive is False
        kept = b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n"
        assert response(kept + b"Content-Length: 1\r\n\r\n").keep_alive is True
        head = response(kept + b"\r\n")
        assert (head.keep_alive, repr(head)) == (
            False,
            "<ResponseHead 200 HTTP/1.0 length=until close close>",
        )

    @pytest.mark.parametrize(
        ("lines", "fields"),
        [
            ("A: b\r\n c\r\n", [("A", "b c")]),
            ("A: b\r\n\t \tc\r\n d\r\nE: f\r\n", [("A", "b c d"), ("E", "f")]),
            ("A:\r\n b\r\n", [("A", "b")]),
            ("A: b\r\n \r\nC: d\r\n", [("A", "b"), ("C", "d")]),
        ],
    )
    def test_folded_fields_are_unfolded(self, lines: str, fields: list[tuple[str, str]]) -> None:
        head = response(f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode())
        assert [(name, " ".join(value.split())) for name, value in head.headers] == fields
        assert b"\n " not in head.block
        assert b"\n\t" not in head.block

    def test_framing_is_read_from_the_unfolded_field(self) -> None:
        lines = b"Transfer-Encoding:\r\n chunked\r\nConnection: x,\r\n\tclose\r\n"
        head = response(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n")
        assert (head.length, head.keep_alive, head.connection) == (CHUNKED, False, (b"x",))

    @pytest.mark.parametrize(
        "lines", ["Content-Length: 2, 2\r\n", "Content-Length: 2\r\ncontent-length:2\r\n"]
    )
    def test_a_length_that_is_repeated_stands_once(self, lines: str) -> None:
        head = response(f"HTTP/1.1 200 OK\r\n{lines}A: b\r\n\r\n".encode())
        assert (head.length, head.headers.get_all("content-length")) == (2, ["2"])
        assert head.headers.get("a") == "b"

    def test_switching_protocols(self) -> None:
        head = response(b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00")
        assert (head.status, head.upgrade, head.length) == (101, "websocket", 0)


class TestBadResponses:
    @pytest.mark.parametrize("data", [row[1] for row in BAD_RESPONSES], ids=[row[0] for row in BAD_RESPONSES])
    def test_whole_by_byte_and_at_splits(self, data: bytes) -> None:
        reasons = set()
        cuts = range(1, len(data), max(1, len(data) // 200))
        for pieces in [[data], one_by_one(data), *([data[:cut], data[cut:]] for cut in cuts)]:
            with pytest.raises(BadResponse) as caught:
                read_response(pieces)
            assert str(caught.value) == caught.value.reason
            reasons.add(caught.value.reason)
        assert len(reasons) == 1

    def test_ambiguous_even_for_head(self) -> None:
        data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"
        with pytest.raises(BadResponse, match="contradict"):
            response(data, "HEAD")
