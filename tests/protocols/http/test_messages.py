"""Requests and responses as programs see them, and the bytes they become."""

from __future__ import annotations

import h11
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import Transport
from protocols.http.codec.head import CHUNKED, UNTIL_CLOSE, parse_request_head, parse_response_head
from protocols.http.codec.headers import Headers
from protocols.http.codec.limits import DEFAULT_LIMITS
from protocols.http.codec.messages import (
    CLOSE_LINE,
    KEEP_ALIVE_LINE,
    REASONS,
    Response,
    date_line,
    encode_request,
    encode_request_head,
    encode_response,
    encode_response_head,
    json_response,
    text_response,
    write_response,
)
from protocols.http.errors import BadContent
from protocols.http.server.request import Request


class Point(msgspec.Struct):
    x: int


def received(data: bytes, body: bytes = b"") -> Request:
    head = parse_request_head(data, 0, DEFAULT_LIMITS)
    assert head is not None
    return Request.from_head(head, body, "192.0.2.1:1234")


class TestRequest:
    def test_from_head(self) -> None:
        request = received(
            b"POST /a/b?x=1&y=&x=%32 HTTP/1.0\r\nHost: h\r\nA: b\r\nContent-Length: 7\r\n\r\n", b'{"x":1}'
        )
        assert (request.method, request.target, request.minor) == ("POST", "/a/b?x=1&y=&x=%32", 0)
        assert (request.path, request.query) == ("/a/b", {"x": ["1", "2"], "y": [""]})
        assert (request.peer, request.version, dict(request.params)) == ("192.0.2.1:1234", "HTTP/1.0", {})
        assert request.headers.get("a") == "b"
        assert request.headers is request.headers
        assert (request.json(), request.json(Point), request.json(type=Point)) == (
            {"x": 1},
            Point(1),
            Point(1),
        )
        assert repr(request) == "<Request POST /a/b?x=1&y=&x=%32 HTTP/1.0 7 bytes of body>"

    def test_params_are_the_routers_to_set(self) -> None:
        request = received(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        request.params = {"id": "7"}
        assert received(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").params == {}

    def test_made_by_hand(self) -> None:
        request = Request.make("GET", "/x", {"A": "b"}, b"c", peer="p", params={"q": "r"})
        assert (request.headers.get("a"), request.body, request.params["q"]) == ("b", b"c", "r")
        assert (request.path, request.query, len(request.trailers)) == ("/x", {}, 0)

    @pytest.mark.parametrize(
        ("method", "target"),
        [
            ("GE T", "/"),
            ("", "/"),
            ("GET\r\n", "/"),
            ("GET", ""),
            ("GET", "/a b"),
            ("GET", "/\r\nX: y"),
            ("GET", "/\x00"),
            ("GET", "/é"),
            ("GET", "/a#b"),
        ],
    )
    def test_start_line_injection_is_refused(self, method: str, target: str) -> None:
        with pytest.raises(ValueError, match=r"is not a token|percent-encode"):
            Request.make(method, target)
        with pytest.raises(ValueError, match=r"is not a token|percent-encode"):
            encode_request(method, target, b"Host: a\r\n")

    def test_json_errors_are_msgspecs_and_the_clients_doing(self) -> None:
        with pytest.raises(msgspec.ValidationError, match=r"^Object missing required field `x`$") as invalid:
            Request.make("GET", "/", {}, b"{}").json(Point)
        with pytest.raises(msgspec.DecodeError, match=r"^JSON is malformed") as malformed:
            Request.make("GET", "/", {}, b"{bad").json()
        assert not isinstance(malformed.value, msgspec.ValidationError)
        for caught in (invalid, malformed):
            assert isinstance(caught.value, BadContent)

    def test_so_are_those_of_text_and_query(self) -> None:
        with pytest.raises(ValueError, match="the body is not text") as text:
            Request.make("POST", "/", {}, b"\xff").text()
        with pytest.raises(ValueError, match="the query has more than 1000 fields") as query:
            _ = Request.make("GET", "/?" + "&".join(["a=1"] * 1001)).query
        assert len(Request.make("GET", "/?" + "&".join(["a=1"] * 1000)).query["a"]) == 1000
        for caught in (text, query):
            assert isinstance(caught.value, BadContent)

    @pytest.mark.parametrize(
        ("content_type", "body", "text"),
        [
            ("", "é€".encode(), "é€"),
            ("text/plain", "é".encode(), "é"),
            ("text/plain; charset=ISO-8859-1", b"\xe9", "é"),
            ('text/plain;Charset="utf-16-le"', "é".encode("utf-16-le"), "é"),
        ],
    )
    def test_text(self, content_type: str, body: bytes, text: str) -> None:
        assert Request.make("GET", "/", {"Content-Type": content_type}, body).text() == text
        assert Response(200, {"Content-Type": content_type}, body).text() == text

    def test_text_of_an_unknown_charset(self) -> None:
        with pytest.raises(ValueError, match="'nope' is not known"):
            Request.make("GET", "/", {"Content-Type": "text/plain; charset=nope"}, b"x").text()
        with pytest.raises(ValueError, match="utf-8"):
            Request.make("GET", "/", {}, b"\xff").text()


class TestResponse:
    def test_from_head(self) -> None:
        head = parse_response_head(
            b"HTTP/1.1 200 Fine\r\nA: b\r\nContent-Length: 7\r\n\r\n", 0, DEFAULT_LIMITS, "GET"
        )
        assert head is not None
        response = Response.from_head(head, b'{"x":1}')
        assert (response.status, response.reason, response.headers.get("A")) == (200, "Fine", "b")
        assert (response.json(), response.json(Point)) == ({"x": 1}, Point(1))
        assert repr(response) == "<Response 200 7 bytes of body>"

    @pytest.mark.parametrize("status", [0, 99, 1000, -200])
    def test_status_range(self, status: int) -> None:
        with pytest.raises(ValueError, match="100 to 999"):
            Response(status)

    @pytest.mark.parametrize("body", ["text", 5, None, [1]])
    def test_a_body_is_bytes(self, body: object) -> None:
        with pytest.raises(TypeError, match="a body is bytes, not"):
            Response(200, {}, body)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a body is bytes, not"):
            Request.make("GET", "/", {}, body)  # type: ignore[arg-type]

    @pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\x00b"])
    def test_header_injection_is_refused_at_construction(self, value: str) -> None:
        with pytest.raises(ValueError, match="header 'Location'"):
            Response(302, {"Location": value})
        with pytest.raises(ValueError, match="header 'Location'"):
            json_response({}, headers={"Location": value})

    def test_builders(self) -> None:
        response = json_response({"a": 1}, 201, {"X": "y"})
        assert (response.status, response.body) == (201, b'{"a":1}')
        assert list(response.headers) == [("Content-Type", "application/json"), ("X", "y")]
        assert json_response(Point(1)).headers.get("content-type") == "application/json"
        assert text_response("é").body == "é".encode()
        replaced = text_response("<b>", headers={"content-type": "text/html"})
        assert list(replaced.headers) == [("content-type", "text/html")]


class TestEncodeResponse:
    def test_usual(self) -> None:
        assert encode_response(text_response("Hello"), date_line(0) + CLOSE_LINE) == (
            b"HTTP/1.1 200 OK\r\n"
            b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
            b"Connection: close\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: 5\r\n\r\nHello"
        )

    def test_head_gets_the_length_only(self) -> None:
        assert encode_response(Response(200, body=b"Hello"), method="HEAD") == (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        )

    @pytest.mark.parametrize("status", [101, 204, 304])
    def test_without_body(self, status: int) -> None:
        expected = b"HTTP/1.1 %d %b\r\nX: y\r\n\r\n" % (status, REASONS[status].encode())
        if status >= 200:
            assert encode_response(Response(status, {"X": "y"}, b"Hello")) == expected
        assert encode_response_head(status, b"X: y\r\n", 5) == expected

    def test_unknown_status(self) -> None:
        assert encode_response(Response(299)) == b"HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n"

    def test_informational_is_no_answer(self) -> None:
        with pytest.raises(ValueError, match="102 is not a final status"):
            encode_response(Response(102))

    def test_date_is_the_servers(self) -> None:
        response = Response(200, {"A": "b", "Date": "yesterday", "C": "d"})
        assert encode_response(response, b"Date: today\r\n") == (
            b"HTTP/1.1 200 OK\r\nDate: today\r\nA: b\r\nC: d\r\nContent-Length: 0\r\n\r\n"
        )

    def test_framing_is_the_encoders(self) -> None:
        """A backend's answer, handed on as it is, is not framed twice."""
        data = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"
            b"Keep-Alive: timeout=5\r\nX: y\r\n\r\n"
        )
        head = parse_response_head(data, 0, DEFAULT_LIMITS, "GET")
        assert head is not None
        handed_on = encode_response(Response.from_head(head, b"Hello"))
        assert handed_on == b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5\r\n\r\nHello"

    def test_trailers(self) -> None:
        response = Response(200, body=b"Hello", trailers=Headers({"X-Sum": "1"}))
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert encode_response(response) == head + b"5\r\nHello\r\n0\r\nX-Sum: 1\r\n\r\n"
        assert encode_response(response, method="HEAD") == head
        assert encode_response(response, KEEP_ALIVE_LINE, minor=0) == (
            b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nHello"
        )

    def test_205_is_empty(self) -> None:
        expected = b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"
        for method in ("GET", "HEAD", "POST"):
            assert encode_response(Response(205, body=b"x"), method=method) == expected
        assert encode_response_head(205, b"", CHUNKED) == encode_response_head(205, b"", 7) == expected

    def test_a_tunnel_has_no_length(self) -> None:
        trailers = Headers({"X-Sum": "1"})
        for response in (Response(200, body=b"x"), Response(200, body=b"x", trailers=trailers)):
            assert encode_response(response, method="CONNECT") == b"HTTP/1.1 200 OK\r\n\r\n"
        assert encode_response(Response(404, body=b"x"), method="CONNECT") == (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx"
        )

    @pytest.mark.parametrize("size", [10, 200_000])
    @pytest.mark.parametrize("trailers", [Headers(), Headers({"X-Sum": "1"})])
    @pytest.mark.parametrize("status", [200, 204, 205, 304, 404, 599])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "CONNECT"])
    def test_written_to_a_transport_it_is_the_same(
        self, status: int, method: str, trailers: Headers, size: int
    ) -> None:
        response = Response(status, {"A": "b"}, b"x" * size, trailers)
        transport = Transport()
        write_response(transport, response, b"Date: x\r\n", method)
        assert transport.take_output() == encode_response(response, b"Date: x\r\n", method)

    @pytest.mark.parametrize(
        ("length", "line"),
        [
            (5, b"Content-Length: 5\r\n"),
            (CHUNKED, b"Transfer-Encoding: chunked\r\n"),
            (UNTIL_CLOSE, b""),
            (None, b""),
        ],
    )
    def test_head_alone(self, length: int | None, line: bytes) -> None:
        head = encode_response_head(404, b"A: b\r\n", length, b"Date: x\r\n", "Gone fishing")
        assert head == b"HTTP/1.1 404 Gone fishing\r\nDate: x\r\nA: b\r\n%b\r\n" % line

    @given(st.sampled_from(sorted(REASONS)), st.binary(max_size=30), st.sampled_from(["GET", "HEAD", "POST"]))
    def test_read_back(self, status: int, body: bytes, method: str) -> None:
        if status < 200:
            return
        data = encode_response(Response(status, {"A": "b"}, body), method=method)
        head = parse_response_head(data, 0, DEFAULT_LIMITS, method)
        assert head is not None
        assert (head.status, head.reason, head.keep_alive) == (status, REASONS[status], True)
        assert data[head.end :] == (b"" if head.length == 0 else body)
        body = b"" if status == 205 else body
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        response = client.next_event()
        assert isinstance(response, h11.Response)
        assert response.status_code == status
        event = client.next_event()
        if isinstance(event, h11.Data):
            assert event.data == body
            event = client.next_event()
        assert isinstance(event, h11.EndOfMessage)


class TestEncodeRequest:
    @pytest.mark.parametrize(
        ("method", "body", "line"),
        [
            ("GET", b"", b""),
            ("DELETE", b"", b""),
            ("POST", b"", b"Content-Length: 0\r\n"),
            ("PUT", b"", b"Content-Length: 0\r\n"),
            ("PATCH", b"ab", b"Content-Length: 2\r\n"),
            ("GET", b"ab", b"Content-Length: 2\r\n"),
        ],
    )
    def test_whole(self, method: str, body: bytes, line: bytes) -> None:
        data = encode_request(method, "/a?b", b"Host: a\r\n", body)
        assert data == b"%b /a?b HTTP/1.1\r\nHost: a\r\n%b\r\n%b" % (method.encode(), line, body)

    def test_head_for_a_body_that_follows(self) -> None:
        data = encode_request_head("POST", "/", b"Host: a\r\n", CHUNKED)
        assert data == b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        head = parse_request_head(data, 0, DEFAULT_LIMITS)
        assert head is not None
        assert head.length == CHUNKED

    @given(
        st.text("ABCDEFG-_x", min_size=1, max_size=10).filter(lambda method: method != "CONNECT"),
        st.text([chr(c) for c in range(0x21, 0x7F) if chr(c) != "#"], max_size=30),
        st.binary(min_size=1, max_size=30),
    )
    def test_read_back(self, method: str, path: str, body: bytes) -> None:
        data = encode_request(method, "/" + path, b"Host: a\r\n", body)
        head = parse_request_head(data, 0, DEFAULT_LIMITS)
        assert head is not None
        assert (head.method, head.target, head.length) == (method, "/" + path, len(body))
        assert data[head.end :] == body
