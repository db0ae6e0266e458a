"""The client's side of a connection under the kit: stopped after each byte, and something happens there."""

from __future__ import annotations

import pytest

from pools.testing.conformance import Exchange, check_wire
from protocols import http
from protocols.http.client.wire import HttpWire, KeptHeads
from protocols.http.codec.limits import DEFAULT_LIMITS

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x\r\ndefg\r\n0\r\nA: b\r\n\r\n"
NO_BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nd"


def wire() -> HttpWire:
    return HttpWire({"192.0.2.7:7000": b"Host: a\r\n"}, DEFAULT_LIMITS, 60.0, KeptHeads())


def exchange(method: str, target: str, answer: bytes, status: int, body: bytes) -> Exchange:
    sent = f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    return http.request(method, target), sent, answer, (status, body)


def look(response: http.Response) -> tuple[int, bytes]:
    return response.status, response.body


EXCHANGES = [
    exchange("GET", "/a", OK + b"aa", 200, b"aa"),
    exchange("GET", "/b", CHUNKED, 200, b"abcdefg"),
    exchange("HEAD", "/c", NO_BODY, 200, b""),
    exchange("GET", "/d", INTERIM, 404, b"d"),
]


@pytest.mark.no_cover
@pytest.mark.parametrize("pipeline", [4, 1])
def test_answers_however_they_come_and_whatever_happens(pipeline: int) -> None:
    tally = check_wire(wire, EXCHANGES, look=look, pipeline=pipeline)
    assert tally["cut"] > 200


@pytest.mark.no_cover
def test_a_post_is_not_sent_twice() -> None:
    post = (
        http.post("/e", body=b"hello"),
        b"POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"ee",
    )
    check_wire(wire, [EXCHANGES[0], (*post, (200, b"ee"))], look=look)
