"""The reverse proxy's rules (RFC 9110 section 7.6, RFC 9112), byte by byte on both sides."""

from __future__ import annotations

import re

import pytest

from actors import Misuse
from protocols import http
from protocols.http.codec.bodies import body_decoder
from protocols.http.codec.errors import BadRequest
from protocols.http.codec.head import parse_request_head
from protocols.http.codec.limits import DEFAULT_LIMITS
from tests.protocols.http.bad_requests import BAD_REQUESTS
from tests.protocols.http.bad_responses import BAD_RESPONSES
from tests.protocols.http.benches import ProxyBench

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAMING: dict[str, object] = {"gather": 0}  # no request's body is gathered first
ADDED = (
    b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n"
    b"Forwarded: for=192.0.2.1;proto=http;host=a\r\nVia: 1.1 windlass\r\n"
)


def undated(answer: bytes) -> bytes:
    """An answer without the Date that the proxy has added."""
    return re.sub(rb"Date: [^\r]*\r\n", b"", answer)


def forwarded(request: bytes, **options: object) -> bytes:
    """What a backend gets of a client's request."""
    bench = ProxyBench(**options)  # type: ignore[arg-type]
    bench.ask(request)
    return bench.got()


def answered(answer: bytes, request: bytes = GET, *, ends: bool = False) -> tuple[bytes, bool]:
    """What a client gets of a backend's answer, and whether its connection was closed."""
    bench = ProxyBench()
    client = bench.ask(request)
    bench.say(answer)
    if ends:
        bench.end()
    return undated(bench.heard(client)), client.closed


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# -- heads, on their way to the backend


def test_a_request_is_forwarded_with_what_a_proxy_adds() -> None:
    assert forwarded(b"GET /x?y=z HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n") == (
        b"GET /x?y=z HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n" + ADDED + b"\r\n"
    )


def test_what_concerns_one_connection_is_left_out() -> None:
    sent = forwarded(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Mine, close\r\nKeep-Alive: timeout=5\r\n"
        b"Proxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: x\r\nX-Mine: 1\r\nX-Yours: 2\r\n\r\n"
    )
    assert sent == b"GET / HTTP/1.1\r\nHost: a\r\nX-Yours: 2\r\n" + ADDED + b"\r\n"


def test_connection_cannot_list_away_what_the_message_needs() -> None:
    sent = forwarded(
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: host, content-length, x-forwarded-for, via\r\n"
        b"Content-Length: 1\r\n\r\nx"
    )
    assert sent == b"POST / HTTP/1.1\r\nHost: a\r\n" + ADDED + b"Content-Length: 1\r\n\r\nx"


def test_what_a_stranger_says_of_himself_is_overwritten() -> None:
    sent = forwarded(
        b"GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=9.9.9.9\r\nX-Forwarded-For: 9.9.9.9\r\n"
        b"x-forwarded-proto: https\r\nX-Forwarded-Host: evil\r\nVia: 1.0 other\r\n\r\n"
    )
    assert sent == b"GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 other\r\n" + ADDED + b"\r\n"


def test_what_a_trusted_proxy_says_is_kept_and_added_to() -> None:
    sent = forwarded(
        b"GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=9.9.9.9\r\nX-Forwarded-For: 9.9.9.9\r\n"
        b"X-Forwarded-For: 8.8.8.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\n\r\n",
        proxy={"trusted": ["192.0.2.0/24"]},
    )
    assert b"X-Forwarded-For: 9.9.9.9, 8.8.8.8, 192.0.2.1\r\n" in sent
    assert b"Forwarded: for=9.9.9.9, for=192.0.2.1;proto=http;host=a\r\n" in sent
    assert b"X-Forwarded-Proto: https\r\n" in sent
    assert b"X-Forwarded-Host: b\r\n" in sent
    assert len(re.findall(rb"(?i)forwarded", sent)) == 4


def test_a_trusted_proxy_that_says_nothing_gets_everything_added() -> None:
    assert (
        forwarded(GET, proxy={"trusted": ["192.0.2.1/32"]})
        == b"GET / HTTP/1.1\r\nHost: a\r\n" + ADDED + b"\r\n"
    )


def test_others_than_the_trusted_are_not_trusted() -> None:
    sent = forwarded(
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n",
        proxy={"trusted": ["10.0.0.0/8", "::/0"]},
    )
    assert b"9.9.9.9" not in sent


def test_name_and_scheme_are_as_configured_and_a_port_is_quoted() -> None:
    sent = forwarded(b"GET / HTTP/1.1\r\nHost: a:81\r\n\r\n", proxy={"name": "edge", "secure": True})
    assert b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: a:81\r\n" in sent
    assert b'Forwarded: for=192.0.2.1;proto=https;host="a:81"\r\nVia: 1.1 edge\r\n' in sent


def test_a_pool_that_was_not_spawned_is_refused() -> None:
    with pytest.raises(Misuse, match=r"write http\.proxy\(loop\.spawn\(http\.pool\(\.\.\.\)\)\)"):
        http.proxy(http.pool("http://127.0.0.1:1"))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a b", "a\r\nX: y", "", "caf\xe9"])
def test_a_name_that_cannot_stand_in_via_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        ProxyBench(proxy={"name": name})


def test_an_absolute_target_names_the_host() -> None:
    sent = forwarded(b"GET http://b:8080/x HTTP/1.1\r\nHost: a\r\n\r\n")
    assert sent.startswith(b"GET /x HTTP/1.1\r\nHost: b:8080\r\n")
    assert b"X-Forwarded-Host: b:8080\r\n" in sent
    assert sent.lower().count(b"\nhost:") == 1


def test_an_old_client_without_host_gets_the_backends() -> None:
    sent = forwarded(b"GET / HTTP/1.0\r\n\r\n")
    assert sent.startswith(b"GET / HTTP/1.1\r\nHost: 192.0.2.7\r\n")
    assert b"X-Forwarded-Host" not in sent
    assert b"Via: 1.0 windlass\r\n" in sent


def test_connect_is_for_others() -> None:
    bench = ProxyBench()
    client = bench.client(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n")
    assert status_of(bench.heard(client)) == 501
    assert not bench.sockets


@pytest.mark.parametrize(
    ("method", "value", "status", "left"),
    [
        (b"OPTIONS", b"0", 200, None),
        (b"TRACE", b"0", 405, None),
        (b"OPTIONS", b"1", None, b"0"),
        (b"TRACE", b"10", None, b"9"),
        (b"GET", b"0", None, b"0"),
        (b"OPTIONS", b"9" * 5000, None, b"9" * 5000),
        (b"OPTIONS", b"x", None, b"x"),
    ],
)
def test_max_forwards_counts_down(
    method: bytes, value: bytes, status: int | None, left: bytes | None
) -> None:
    bench = ProxyBench()
    client = bench.ask(method + b" / HTTP/1.1\r\nHost: a\r\nMax-Forwards: " + value + b"\r\n\r\n")
    if status is not None:
        assert status_of(bench.heard(client)) == status
        assert not bench.sockets
    else:
        assert left is not None
        assert b"Max-Forwards: " + left + b"\r\n" in bench.got()


# -- bodies, on their way to the backend


@pytest.mark.parametrize("step", [0, 1, 5])
def test_a_body_is_framed_anew(step: int) -> None:
    bench = ProxyBench()
    client = bench.client(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        b"5;x=y\r\nhello\r\n00006\r\n world\r\n0\r\nX-Sum: 6\r\nContent-Length: 7\r\n\r\n",
        step=step,
    )
    bench.accept()
    head, _, body = bench.got().partition(b"\r\n\r\n")
    assert head.endswith(b"\r\nTransfer-Encoding: chunked")
    assert b"content-length" not in head.lower()
    assert b"Trailer: X-Sum\r\n" in head
    payload = b"".join(re.findall(rb"[0-9a-f]+\r\n(.*?)\r\n(?=[0-9a-f])", body, re.DOTALL))
    assert payload == b"hello world"
    assert body.endswith(b"\r\n0\r\nX-Sum: 6\r\n\r\n")
    bench.say(OK)
    assert status_of(bench.heard(client)) == 200
    assert bench.idle == 1


@pytest.mark.parametrize("step", [0, 1, 5])
@pytest.mark.parametrize("start", [b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.0\r\n"])
def test_a_body_with_a_length_keeps_it(start: bytes, step: int) -> None:
    bench = ProxyBench()
    client = bench.client(start + b"Host: a\r\nContent-Length: 11\r\n\r\nhello world", step=step)
    bench.accept()
    sent = bench.got()
    assert sent.endswith(b"\r\nContent-Length: 11\r\n\r\nhello world")
    bench.say(OK)
    assert status_of(bench.heard(client)) == 200
    assert bench.idle == 1


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH"])
def test_an_empty_body_is_announced_where_one_is_usual(method: bytes) -> None:
    assert forwarded(method + b" / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").endswith(
        b"Content-Length: 0\r\n\r\n"
    )


def test_a_continuation_is_asked_of_the_backend_and_passed_back() -> None:
    bench = ProxyBench(proxy=STREAMING)
    client = bench.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert b"Expect: 100-continue\r\n" in bench.got()
    assert bench.heard(client) == b""
    bench.say(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert bench.heard(client) == b"HTTP/1.1 100 Continue\r\n\r\n"
    bench.tell(client, b"ab")
    assert bench.got() == b"ab"
    bench.say(OK)
    assert status_of(bench.heard(client)) == 200
    assert bench.idle == 1
    assert not client.closed


def test_a_final_answer_instead_of_the_continuation_ends_both_connections() -> None:
    bench = ProxyBench(proxy=STREAMING)
    client = bench.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    bench.say(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
    answer = bench.heard(client)
    assert status_of(answer) == 417
    assert b"Connection: close\r\n" in answer
    assert bench.sockets[0].closed
    bench.advance(5.0)
    assert client.closed


def test_an_early_answer_stops_the_upload() -> None:
    bench = ProxyBench(proxy=STREAMING)
    client = bench.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
    bench.say(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    bench.tell(client, b"x" * 100_000)
    answer = bench.heard(client)
    assert status_of(answer) == 403
    assert answer.endswith(b"\r\n\r\nno")
    assert bench.sockets[0].closed
    assert bench.pool.statistics().connections == 0


def test_an_early_answer_may_be_long() -> None:
    bench = ProxyBench(proxy=STREAMING)
    client = bench.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
    bench.say(CHUNKED + b"2\r\nno\r\n")
    bench.tell(client, b"x" * 100_000)
    bench.say(b"1\r\n!\r\n0\r\n\r\n")
    answer = bench.heard(client)
    assert answer.endswith(b"\r\n\r\n2\r\nno\r\n1\r\n!\r\n0\r\n\r\n")


def test_interim_answers_are_passed_on_but_not_to_old_clients() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    answer, _ = answered(hints + b"HTTP/1.1 102 Processing\r\n\r\n" + OK)
    assert answer.startswith(hints + b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n")
    answer, _ = answered(hints + OK, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


# -- answers


def test_an_answer_loses_what_concerns_one_connection() -> None:
    answer, closed = answered(
        b"HTTP/1.1 200 Fine\r\nServer: x\r\nConnection: X-Mine\r\nKeep-Alive: timeout=5\r\nX-Mine: 1\r\n"
        b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nVia: 1.1 inner\r\nContent-Length: 2\r\n\r\nok"
    )
    assert answer == (
        b"HTTP/1.1 200 Fine\r\nServer: x\r\nVia: 1.1 inner\r\nVia: 1.1 windlass\r\n"
        b"Content-Length: 2\r\n\r\nok"
    )
    assert not closed


def test_a_date_is_added_only_where_there_is_none() -> None:
    bench = ProxyBench()
    client = bench.ask(GET)
    bench.say(OK)
    assert bench.heard(client).count(b"\r\nDate: ") == 1
    bench.tell(client, GET)
    bench.say(b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n")
    assert bench.heard(client).lower().count(b"\r\ndate: ") == 1


@pytest.mark.parametrize(
    ("request_", "answer", "expected", "closed"),
    [
        (GET, OK, b"HTTP/1.1 200 OK\r\nVia: 1.1 windlass\r\nContent-Length: 2\r\n\r\nok", False),
        (
            GET,
            CHUNKED + b"2;x\r\nok\r\n0\r\nX-Sum: 6\r\n\r\n",
            (
                b"HTTP/1.1 200 OK\r\nVia: 1.1 windlass\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"2\r\nok\r\n0\r\nX-Sum: 6\r\n\r\n"
            ),
            False,
        ),
        (
            GET,
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nVia: 1.0 windlass\r\nContent-Length: 2\r\n\r\nok",
            False,
        ),
        (
            b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            CHUNKED + b"2\r\nok\r\n0\r\nX-Sum: 6\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nVia: 1.1 windlass\r\n\r\nok",
            True,
        ),
        (
            b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
            OK,
            b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nVia: 1.1 windlass\r\nContent-Length: 2\r\n\r\nok",
            False,
        ),
        (
            b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nVia: 1.1 windlass\r\n\r\n",
            False,
        ),
        (
            b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            CHUNKED,
            b"HTTP/1.1 200 OK\r\nVia: 1.1 windlass\r\n\r\n",
            False,
        ),
        (
            GET,
            b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 99\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 99\r\nVia: 1.1 windlass\r\n\r\n",
            False,
        ),
        (
            GET,
            b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\nVia: 1.1 windlass\r\n\r\n",
            False,
        ),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            OK,
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nVia: 1.1 windlass\r\nContent-Length: 2\r\n\r\nok",
            True,
        ),
    ],
)
def test_an_answer_is_framed_anew(request_: bytes, answer: bytes, expected: bytes, closed: bool) -> None:
    assert answered(answer, request_) == (expected, closed)


def test_what_lasts_until_the_close_becomes_chunks() -> None:
    for start in (b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"):
        answer, closed = answered(start + b"all of it", ends=True)
        assert answer.endswith(b"Transfer-Encoding: chunked\r\n\r\n9\r\nall of it\r\n0\r\n\r\n")
        assert not closed


@pytest.mark.parametrize(
    "part",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart",
        CHUNKED + b"4\r\npart\r\n",
        CHUNKED + b"9\r\npart",
        CHUNKED + b"4\r\npart\r\n0\r\n",
    ],
)
@pytest.mark.parametrize("how", ["end", "reset"])
@pytest.mark.parametrize("request_", [GET, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"])
def test_a_truncated_answer_is_an_abort(part: bytes, how: str, request_: bytes) -> None:
    bench = ProxyBench()
    client = bench.ask(request_)
    bench.say(part)
    if not bench.sockets[0].closed:
        getattr(bench, how)()
    assert not bench.heard(client).endswith(b"0\r\n\r\n")
    assert client.closed
    assert client.was_reset  # an old client would take a mere end for the end of the body
    assert bench.add_up()


# -- failures


def test_a_backend_that_cannot_be_reached() -> None:
    bench = ProxyBench()
    client = bench.client(GET)
    bench.refuse()
    answer = bench.heard(client)
    assert status_of(answer) == 502
    assert not client.closed


@pytest.mark.parametrize(("name", "answer"), BAD_RESPONSES, ids=[name for name, _ in BAD_RESPONSES])
def test_a_bad_answer_is_a_bad_gateway_or_an_abort(name: str, answer: bytes) -> None:
    bench = ProxyBench()
    client = bench.ask(GET)
    bench.say(answer)
    heard = bench.heard(client)
    if not heard or heard.startswith(b"HTTP/1.1 200"):
        assert client.was_reset
        assert not heard.endswith(b"0\r\n\r\n")
    else:
        assert status_of(heard) == 502
        assert not client.closed
    assert bench.sockets[0].closed


def test_a_full_queue_is_told_at_once_with_a_time_to_come_back() -> None:
    bench = ProxyBench(connections=1, queue=1)
    first, second = bench.client(GET), bench.client(GET)
    answer = bench.heard(second)
    assert status_of(answer) == 503
    assert b"Retry-After: 1\r\n" in answer
    assert not second.closed
    bench.accept()
    bench.say(OK)
    assert status_of(bench.heard(first)) == 200


def test_a_draining_pool_refuses() -> None:
    bench = ProxyBench()
    bench.pool.drain()
    assert status_of(bench.heard(bench.client(GET))) == 503


@pytest.mark.parametrize("request_", [GET, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"])
def test_a_backend_that_does_not_answer_in_time(request_: bytes) -> None:
    bench = ProxyBench(proxy={"timeout": 2.0, "gather": 0})
    client = bench.ask(request_)
    bench.advance(2.1)
    assert status_of(bench.heard(client)) == 504
    assert bench.pool.statistics().connections == 0
    assert bench.add_up()


def test_a_server_that_waits_less_than_its_pool_says_the_same() -> None:
    bench = ProxyBench(server={"timeouts": http.Timeouts(response_generation=2.0)}, timeout=10.0)
    client = bench.ask(GET)
    bench.advance(2.1)
    assert status_of(bench.heard(client)) == 504
    assert bench.pool.statistics().failed == {"Cancelled": 1}
    bench.say(OK)
    assert bench.idle == 1


def test_an_old_client_cannot_wait_for_a_continuation() -> None:
    sent = forwarded(b"POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx")
    assert b"expect" not in sent.lower()


def test_a_client_that_uploads_slowly_does_not_use_up_the_backends_time() -> None:
    bench = ProxyBench(proxy={"timeout": 2.0, "gather": 0}, timeout=2.0)
    client = bench.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
    for _ in range(9):
        bench.advance(1.5)
        bench.tell(client, b"x")
    bench.advance(1.5)
    bench.say(OK)
    assert status_of(bench.heard(client)) == 200
    assert bench.idle == 1


def test_what_is_idempotent_is_tried_again_and_nothing_else() -> None:
    for method, retried in [(b"GET", True), (b"DELETE", True), (b"POST", False), (b"PATCH", False)]:
        bench = ProxyBench()
        warm = bench.ask(GET)
        bench.say(OK)
        assert status_of(bench.heard(warm)) == 200
        client = bench.client(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
        bench.reset()
        bench.accept()
        if retried:
            bench.say(OK)
        assert status_of(bench.heard(client)) == (200 if retried else 502)


def test_nothing_is_tried_again_once_the_answer_has_begun() -> None:
    bench = ProxyBench()
    client = bench.ask(GET)
    bench.say(CHUNKED + b"1\r\na\r\n")
    bench.reset()
    assert client.closed
    assert bench.pool.statistics().retried == 0
    assert len(bench.sockets) == 1


def test_nothing_is_tried_again_whose_body_has_begun_to_stream() -> None:
    bench = ProxyBench(proxy=STREAMING)
    client = bench.ask(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
    bench.reset()
    assert status_of(bench.heard(client)) == 502
    assert bench.pool.statistics().retried == 0


# -- the client's own excess


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 17000 + b"\r\n\r\n", 431),
    ],
)
def test_too_large_a_head(request_: bytes, status: int) -> None:
    bench = ProxyBench()
    assert status_of(bench.heard(bench.client(request_))) == status
    assert not bench.sockets


@pytest.mark.parametrize("step", [0, 1000])
@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n"
        + b"x" * 5000
        + b"\r\n0\r\n\r\n",
    ],
)
def test_too_large_a_body(request_: bytes, step: int) -> None:
    bench = ProxyBench(proxy={"body_max": 4000})
    client = bench.client(request_, step=step)
    bench.accept()
    answer = bench.heard(client)
    assert status_of(answer) == 413
    bench.advance(5.0)
    assert client.closed is (b"Connection: close\r\n" in answer)
    assert bench.pool.statistics().in_flight == 0
    assert b"0\r\n\r\n" not in b"".join(bench.got(n) for n in range(len(bench.sockets)))


def test_too_slow_a_client() -> None:
    timeouts = http.Timeouts(head_receiving=3.0, body_receiving=4.0)
    bench = ProxyBench(server={"timeouts": timeouts}, proxy=STREAMING)
    client = bench.client(b"GET / HT")
    bench.advance(3.1)
    assert status_of(bench.heard(client)) == 408
    client = bench.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\na")
    bench.advance(4.1)
    assert status_of(bench.heard(client)) == 408
    assert bench.sockets[0].closed
    assert bench.pool.statistics().connections == 0


# -- nothing malformed comes through, and one request is one request


@pytest.mark.parametrize("step", [0, 1], ids=["whole", "byte by byte"])
def test_nothing_malformed_reaches_the_backend(step: int) -> None:
    for name, request_, status in BAD_REQUESTS:
        if step and len(request_) > 2000:
            continue
        bench = ProxyBench()
        client = bench.client(request_, step=step)
        bench.accept()
        assert status_of(bench.heard(client)) == status, name
        bench.advance(5.0)
        assert client.closed, name
        for index in range(len(bench.sockets)):  # a body that turned out bad: its request never completes
            sent = bench.got(index)
            assert sent.count(b" HTTP/1.1\r\n") <= 1, name
            assert not sent.endswith(b"0\r\n\r\n"), name
            assert bench.sockets[index].closed or not sent, name
        assert bench.pool.statistics().in_flight == 0, name


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n%b" % (len(SMUGGLED), SMUGGLED)
CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)


@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\n" + LENGTH,
        b"POST / HTTP/1.1\r\nHost: a\r\n" + CHUNKS,
        b"GET / HTTP/1.1\r\nHost: a\r\n" + LENGTH,
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\n" + CHUNKS,
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\n" + LENGTH,
        b"HEAD / HTTP/1.1\r\nHost: a\r\n" + LENGTH,
    ],
)
def test_a_request_in_a_body_stays_in_the_body(request_: bytes, step: int) -> None:
    """What the backend gets is parsed by the strictest reader here: it must find exactly one request."""
    bench = ProxyBench(connections=1)
    bench.client(request_, step=step)
    bench.accept()
    sent = bench.got()
    head = parse_request_head(sent, 0, DEFAULT_LIMITS)
    assert head is not None
    decoder = body_decoder(head.length, DEFAULT_LIMITS, BadRequest)
    pieces: list[bytes] = []
    assert decoder.feed(sent, head.end, pieces) == len(sent)
    assert decoder.done
    assert b"".join(pieces) == SMUGGLED


def test_pipelined_requests_are_answered_in_their_order() -> None:
    bench = ProxyBench(connections=1)
    client = bench.ask(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(5)))
    for number in range(5):
        assert bench.got().startswith(b"GET /%d " % number)
        bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
        assert bench.heard(client).endswith(b"\r\n\r\n%d" % number)


def test_a_backend_that_switches_unasked_is_a_bad_gateway() -> None:
    bench = ProxyBench()
    client = bench.ask(GET)
    bench.say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
    assert status_of(bench.heard(client)) == 502
    assert bench.sockets[0].closed


def test_too_large_a_body_after_the_answer_has_begun_is_an_abort() -> None:
    bench = ProxyBench(proxy={"body_max": 10, "gather": 0})
    client = bench.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n")
    bench.say(CHUNKED + b"1\r\na\r\n")
    bench.tell(client, b"8\r\nabcdefgh\r\n")
    assert client.was_reset
    assert bench.sockets[0].closed
    assert bench.pool.statistics().connections == 0


def test_a_body_that_arrives_as_the_backend_is_lost() -> None:
    bench = ProxyBench(proxy=STREAMING)
    client = bench.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
    bench.sockets[0].reset()
    client.arrive(b"def")
    bench.run()
    assert status_of(bench.heard(client)) == 502


def test_a_draining_loop_lets_what_is_under_way_finish() -> None:
    bench = ProxyBench()
    waiting = bench.ask(GET)
    idle = bench.client()
    bench.loop.drain(30.0)
    bench.run()
    assert idle.closed
    bench.say(CHUNKED + b"1\r\na\r\n")
    bench.advance(1.0)
    bench.say(b"0\r\n\r\n")
    assert bench.heard(waiting).endswith(b"1\r\na\r\n0\r\n\r\n")
    bench.run()
    assert waiting.closed
    assert bench.loop.machines == 0


def test_reprs_for_the_curious() -> None:
    bench = ProxyBench()
    bench.ask(b"GET /curious HTTP/1.1\r\nHost: a\r\n\r\n")
    assert repr(http.proxy(bench.pool)).startswith("<Proxy to <Pool 192.0.2.7:80 open")

    def shown() -> str:
        return " ".join(repr(scope.machine) for scope in bench.loop.living())

    assert "<ProxyResponder waiting for the backend>" in shown()
    (connection,) = bench.pool.backends[0].all
    assert connection.current is not None
    assert repr(connection.current.unit) == "<Forward GET /curious>"
    bench.say(CHUNKED)
    assert "<ProxyResponder passing on <Channel " in shown()
