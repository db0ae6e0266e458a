"""The server's short way and its long one do the same: whole input, byte by byte, with the short way off.

A request that a plain function answers on the spot is answered inside `ServerConnection.received`; anything
else is an exchange. A response of a class of its own takes the long way although nothing else is different,
and so does a coroutine.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from actors.simulation import turned
from protocols import http
from tests.protocols.http.bad_requests import BAD_REQUESTS
from tests.protocols.http.harness import Simulated, get
from tests.protocols.http.test_head import GOOD_REQUESTS

NO_MEMO = {"protocols.http.codec.memo.HEADS_KEPT": 0, "protocols.http.codec.memo.HEAD_KEPT_BYTES": 0}
POST = b"POST /echo HTTP/1.1\r\nHost: a\r\n"
LENGTH = POST + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n"
EXPECTED = POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"

ANSWERS: dict[str, Callable[[http.Request], http.Response]] = {
    "/204": lambda request: http.Response(204, {"X": "y"}),
    "/205": lambda request: http.Response(205, body=b"not sent"),
    "/304": lambda request: http.Response(304, {"ETag": '"a"'}),
    "/404": lambda request: http.text_response("no", 404, {"Connection": "x", "Keep-Alive": "timeout=9"}),
    "/date": lambda request: http.Response(200, {"Date": "yesterday", "Content-Length": "7"}, b"dated"),
    "/trailers": lambda request: http.Response(200, {}, b"sum", http.Headers({"X-Sum": "3"})),
    "/large": lambda request: http.Response(200, {}, bytes(200_000)),
    "/102": lambda request: http.Response(102),
    "/raise": lambda request: 1 // 0,  # type: ignore[dict-item, return-value]
    "/json": lambda request: http.json_response(request.json()),
}


class Slow(http.Response):
    """A response that the short way does not know."""


def answer_to(request: http.Request) -> http.Response:
    make = ANSWERS.get(request.path)
    if make is not None:
        return make(request)
    told = f"{request.method} {request.target} {request.minor} {request.headers!r} {request.trailers!r} "
    return http.Response(200, {"Content-Type": "text/plain"}, told.encode() + request.body)


def fast(request: http.Request) -> http.Response:
    return answer_to(request)


def slow(request: http.Request) -> http.Response:
    answer = answer_to(request)
    return Slow(answer.status, answer.headers, answer.body, answer.trailers, answer.reason)


async def flow(request: http.Request) -> http.Response:
    return answer_to(request)


class Log:
    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []

    def add(
        self, transport: Any, request: http.Request | None, status: int, size: int, seconds: float
    ) -> None:
        self.rows.append((request and f"{request.method} {request.target}", status, size, seconds))


class Seen(NamedTuple):
    """What a client and the program could tell from one another's."""

    sent: bytes
    over: bool
    rows: list[tuple[Any, ...]]
    requests: int
    refused: int
    failed: int


def served(
    handler: Any, pieces: list[bytes], *, room: int | None = None, end: bool = False, **options: Any
) -> Seen:
    log = Log()
    with Simulated(handler, access_log=log, **options) as simulated:
        sock = simulated.connect(room)
        sent = b""
        for piece in pieces:
            simulated.send(sock, piece)
            sent += sock.delivered()
        if end:
            sock.end()
            simulated.settle()
        for _ in range(50):
            sent += sock.delivered()
            if room is not None:
                sock.room = 20_000
            simulated.settle()
        statistics = simulated.server.statistics()
        sent = re.sub(rb"HTTP/1.1 100 Continue\r\n\r\n", b"", sent)  # only for a client that waits
        return Seen(
            sent + sock.delivered(),
            sock.ended_here or sock.closed,
            log.rows,
            statistics.requests,
            statistics.refused,
            statistics.failed,
        )


def bytewise(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


CASES = [(name, data) for name, data, _ in BAD_REQUESTS if len(data) < 600]
LONG = [(name, data) for name, data, _ in BAD_REQUESTS if len(data) >= 600]
CASES += [(f"good {number}", data) for number, data in enumerate(GOOD_REQUESTS) if b"POST" not in data]
CASES += [
    ("one", get()),
    ("three that are the same", get() * 3),
    ("three that differ", get("/a") + get("/b", "Cookie: x\r\n") + get("/c")),
    ("a body", LENGTH + get()),
    ("chunks", CHUNKED + get("/b") + CHUNKED),
    ("a body that was expected", EXPECTED + get()),
    ("json", LENGTH.replace(b"/echo", b"/json") + get()),
    ("bad behind good", get() + get("/b") + b"GET / HTTP/1.1\r\n\r\n" + get()),
    ("bad chunks behind good", get() + POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n"),
    ("close", get("/a", "Connection: close\r\n") + get("/b")),
    ("keep-alive of HTTP/1.0", get("/a", "Connection: keep-alive\r\n", minor=0) * 2),
    ("HTTP/1.0", get("/a", minor=0) + get("/b")),
    ("a part behind", get() + b"GET / HT"),
    *[
        (f"{method} {path}", get(path, method=method) + get())
        for path in ANSWERS
        for method in ("GET", "HEAD")
    ],
    *[(f"{path} of HTTP/1.0", get(path, minor=0) + get()) for path in ANSWERS],
]


@pytest.mark.parametrize("data", [data for _, data in CASES], ids=[name for name, _ in CASES])
def test_every_way_leads_to_the_same(data: bytes) -> None:
    whole = served(fast, [data])
    assert whole.sent or data.endswith(b"HT")
    assert served(slow, [data]) == whole
    assert served(flow, [data]) == whole
    pieces = bytewise(data)
    assert served(fast, pieces) == whole
    assert served(slow, pieces) == whole
    with turned(NO_MEMO, ["protocols.http"]):
        assert served(fast, [data]) == whole
        assert served(slow, pieces) == whole


@pytest.mark.parametrize("data", [data for _, data in LONG], ids=[name for name, _ in LONG])
def test_long_ones_too(data: bytes) -> None:
    whole = served(fast, [data])
    assert whole.refused == 1
    middle = len(data) // 2
    for pieces in ([data], [data[:middle], data[middle:]], [data[:9], data[9:-3], data[-3:]]):
        assert served(slow, pieces) == served(fast, pieces) == whole


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("room", [0, 100])
@pytest.mark.parametrize("paths", [("/a", "/large", "/b"), ("/large", "/large", "/large"), ("/a",) * 9])
def test_slow_readers_get_the_same(paths: tuple[str, ...], room: int, end: bool) -> None:
    data = b"".join(map(get, paths))
    whole = served(fast, [data], end=end)
    for handler in (fast, slow, flow):
        assert served(handler, [data], room=room, end=end) == whole
        assert served(handler, bytewise(data), room=room, end=end) == whole


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_last_request_of_a_connection(count: int) -> None:
    data = get() * 5 + LENGTH
    whole = served(fast, [data], requests_per_connection=count)
    assert whole.requests == count
    assert served(slow, [data], requests_per_connection=count) == whole
    assert served(flow, bytewise(data), requests_per_connection=count) == whole
