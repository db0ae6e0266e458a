"""The client's side of a connection on fake sockets: how answers are cut, and whose they are."""

from __future__ import annotations

import pytest

from pools import BackendError, Cancelled, ConnectionLost, DeadlineExceeded
from protocols import http
from tests.protocols.http.bad_responses import BAD_RESPONSES
from tests.protocols.http.benches import HttpBench, body_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUEST = b"GET /%d HTTP/1.1\r\nHost: 192.0.2.7\r\n\r\n"


@pytest.fixture(params=[0, 1, 7], ids=["whole", "byte by byte", "seven at a time"])
def step(request: pytest.FixtureRequest) -> int:
    value: int = request.param
    return value


# -- answers, and how they are cut


@pytest.mark.parametrize(
    ("method", "answer", "status", "body"),
    [
        ("GET", OK, 200, b"ok"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b""),
        ("GET", CHUNKED + b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n", 200, b"abcdefg"),
        ("GET", CHUNKED + b"3;x=y\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n", 200, b"abc"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", 200, b""),
        ("HEAD", CHUNKED, 200, b""),
        ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n", 200, b""),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, b""),
        ("GET", b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
        (
            "GET",
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK,
            200,
            b"ok",
        ),
        ("GET", b"HTTP/1.1 404\r\nContent-Length: 1\r\n\r\nx", 404, b"x"),
        ("GET", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    ],
)
def test_an_answer_is_read_to_its_end_and_the_connection_stays(
    method: str, answer: bytes, status: int, body: bytes, step: int
) -> None:
    bench = HttpBench()
    reply = bench.open(http.request(method, "/"))
    bench.say(answer, step=step)
    response = reply.result()
    assert (response.status, response.body) == (status, body)
    assert bench.idle == 1
    again = bench.open(http.get("/again"))
    bench.say(OK, step=step)
    assert again.result().body == b"ok"
    assert len(bench.sockets) == 1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n",
    ],
)
def test_a_body_without_a_length_lasts_until_the_close(head: bytes, step: int) -> None:
    bench = HttpBench()
    reply = bench.open(http.get("/"))
    bench.say(head + b"the whole", step=step)
    assert not reply.settled
    bench.end()
    assert reply.result().body == b"the whole"
    assert bench.sockets[0].closed


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
)
def test_an_answer_that_closes_ends_the_connection(answer: bytes, step: int) -> None:
    bench = HttpBench()
    reply = bench.open(http.get("/"))
    bench.say(answer, step=step)
    assert reply.result().body == b"ok"
    assert bench.sockets[0].closed
    assert bench.pool.statistics().connections == 0


def test_trailers_come_with_the_response(step: int) -> None:
    bench = HttpBench()
    reply = bench.open(http.get("/"))
    bench.say(CHUNKED + b"1\r\na\r\n0\r\nX-Sum: 6\r\nContent-Length: 9\r\n\r\n", step=step)
    assert list(reply.result().trailers) == [("X-Sum", "6")]


@pytest.mark.parametrize(("name", "answer"), BAD_RESPONSES, ids=[name for name, _ in BAD_RESPONSES])
@pytest.mark.parametrize("streamed", [False, True], ids=["gathered", "streamed"])
def test_what_is_not_http_fails_the_unit_and_its_connection_alone(
    name: str, answer: bytes, streamed: bool, step: int
) -> None:
    bench = HttpBench(pipeline=4, connections=1)
    reply = bench.open(http.stream("GET", "/") if streamed else http.get("/"))
    bench.say(answer, step=step)
    try:
        response = reply.result()
    except http.BadResponse:
        pass
    else:
        assert streamed
        assert isinstance(response.body.error, ConnectionLost | BackendError)
    assert bench.sockets[0].closed
    bench.advance(1.0)  # a connection that was lost at once is not replaced at once
    after = bench.open(http.get("/after"))
    bench.say(OK)
    assert after.result().body == b"ok"
    assert bench.add_up()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n0123456789",
        CHUNKED + b"a\r\n0123456789\r\n5\r\nabcde\r\n0\r\nX: y\r\n\r\n",
    ],
    ids=["length", "chunked"],
)
@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_truncated_body_is_an_error_wherever_it_is_cut(answer: bytes, how: str) -> None:
    head = answer.index(b"\r\n\r\n") + 4
    for cut in range(head, len(answer)):
        bench = HttpBench(attempts=1)
        gathered = bench.open(http.get("/"))
        bench.say(answer[:cut])
        getattr(bench, how)()
        with pytest.raises(ConnectionLost):
            gathered.result()
        bench.advance(1.0)
        streamed = bench.open(http.stream("GET", "/"))
        bench.say(answer[:cut])
        getattr(bench, how)()
        assert isinstance(streamed.result().body.error, ConnectionLost)
        assert bench.pool.statistics().connections == 0


def test_a_head_that_is_cut_off_is_no_answer() -> None:
    bench = HttpBench(attempts=1)
    reply = bench.open(http.get("/"))
    bench.say(b"HTTP/1.1 200 OK\r\nContent-")
    bench.end()
    with pytest.raises(ConnectionLost):
        reply.result()


def test_a_head_that_came_before_may_come_in_pieces_before_a_new_one() -> None:
    """What was looked at of an incomplete head must not be passed over in the next one."""
    bench = HttpBench(connections=1, pipeline=8)
    long = b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 200 + b"\r\nContent-Length: 2\r\n\r\nok"
    first = bench.open(http.get("/0"))
    bench.say(long)
    assert first.result().body == b"ok"
    second, third = bench.open(http.get("/1")), bench.open(http.get("/2"))
    bench.say(long[:200])
    bench.say(long[200:] + b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
    assert second.result().body == b"ok"
    assert third.result().status == 201


def test_a_head_that_came_before_is_another_for_head_requests() -> None:
    bench = HttpBench(connections=1)
    for method, body in [("GET", b"ok"), ("HEAD", b""), ("GET", b"ok")]:
        reply = bench.open(http.request(method, "/"))
        bench.say(OK[: len(OK) - 2 + len(body)])
        assert reply.result().body == body
    assert bench.idle == 1


def test_more_heads_than_are_kept_and_secret_ones_are_parsed_all_the_same() -> None:
    bench = HttpBench(connections=1)
    for number in range(600):
        reply = bench.open(http.get("/"))
        bench.say(
            b"HTTP/1.1 200 OK\r\nX: %d\r\nSet-Cookie: %d\r\nContent-Length: 1\r\n\r\nx"
            % (number % 550, number)
        )
        assert reply.result().headers.get("x") == str(number % 550)
        reply = bench.open(http.get("/"))
        bench.say(b"HTTP/1.1 200 OK\r\nX: %d\r\nContent-Length: 1\r\n\r\nx" % number)
        assert reply.result().headers.get("x") == str(number)


# -- limits


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n01234567890",
        CHUNKED + b"b\r\n01234567890\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n01234567890",
    ],
    ids=["length", "chunked", "until close"],
)
def test_a_body_over_the_limit_is_refused_unless_it_is_streamed(answer: bytes, step: int) -> None:
    bench = HttpBench(limits=http.Limits(body_bytes=10))
    gathered = bench.open(http.get("/"))
    bench.say(answer, step=step)
    with pytest.raises(http.BadResponse, match=r"Limits\.body_bytes"):
        gathered.result()
    bench.advance(1.0)
    streamed = bench.open(http.stream("GET", "/"))
    bench.say(answer, step=step)
    assert body_of(streamed.result().body) == b"01234567890"


def test_a_body_that_stands_still_fails_after_the_body_timeout() -> None:
    bench = HttpBench(body_timeout=3.0)
    reply = bench.open(http.stream("GET", "/"))
    bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
    body = reply.result().body
    for _ in range(3):
        bench.advance(2.0)
        bench.say(b"abc")
    assert body.error is None
    bench.advance(3.0)
    assert isinstance(body.error, ConnectionLost)
    assert bench.sockets[0].closed


@pytest.mark.parametrize("chunk", [0, 5000])
def test_a_reader_who_takes_his_time_is_not_the_backends_fault(chunk: int) -> None:
    bench = HttpBench(body_timeout=3.0)
    reply = bench.open(http.stream("GET", "/"))
    size = 1_000_000
    if chunk:
        bench.say(CHUNKED + (b"%x\r\n%b\r\n" % (chunk, b"x" * chunk)) * (size // chunk) + b"0\r\n\r\n")
    else:
        bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
    body = reply.result().body
    assert body.weight < size // 2
    bench.advance(100.0)
    assert body.error is None
    got = 0
    while len(body):
        got += len(body.take())
        bench.run()
    assert got == size
    assert body.ended
    assert bench.idle == 1


def test_no_answer_before_the_deadline() -> None:
    bench = HttpBench()
    reply = bench.open(http.get("/"), timeout=2.0)
    bench.advance(2.1)
    with pytest.raises(DeadlineExceeded):
        reply.result()
    assert bench.pool.statistics().connections == 0


# -- several at a time


def test_64_requests_on_one_connection_are_answered_in_order(step: int) -> None:
    bench = HttpBench(connections=1, pipeline=64)
    replies = [bench.pool.submit(http.get(f"/{n}")) for n in range(64)]
    bench.accept()
    assert bench.got() == b"".join(REQUEST % n for n in range(64))
    answers = b"".join(
        CHUNKED + b"2\r\n%02d\r\n0\r\n\r\n" % n
        if n % 3
        else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d" % n
        for n in range(64)
    )
    bench.say(answers, step=step and 50 * step)
    assert [reply.result().body for reply in replies] == [b"%02d" % n for n in range(64)]
    assert bench.idle == 1


def test_hundreds_of_answers_in_one_read() -> None:
    bench = HttpBench(connections=1, pipeline=1000, queue=2000)
    replies = [bench.pool.submit(http.get("/")) for _ in range(450)]
    bench.accept()
    bench.say((CHUNKED + b"1\r\nx\r\n0\r\n\r\n") * 450)
    assert all(reply.result().body == b"x" for reply in replies)


def test_what_is_behind_an_answer_that_closes_is_sent_again_elsewhere() -> None:
    bench = HttpBench(connections=1, pipeline=8)
    replies = [bench.pool.submit(http.get(f"/{n}")) for n in range(4)]
    bench.accept()
    bench.say(OK + b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlast")
    assert [reply.settled for reply in replies] == [True, True, False, False]
    bench.accept()
    assert bench.got(1) == REQUEST % 2 + REQUEST % 3
    bench.say(OK + OK, 1)
    assert [reply.result().body for reply in replies] == [b"ok", b"last", b"ok", b"ok"]
    assert bench.pool.statistics().taken_back == 2


def test_a_request_that_is_not_idempotent_has_the_connection_to_itself() -> None:
    bench = HttpBench(connections=1, pipeline=8)
    get, post, later = (
        bench.pool.submit(unit) for unit in (http.get("/0"), http.post("/1", body=b"x"), http.get("/2"))
    )
    bench.accept()
    assert bench.got() == REQUEST % 0
    bench.say(OK)
    assert bench.got().startswith(b"POST /1 ")
    bench.say(OK)
    assert bench.got() == REQUEST % 2
    bench.say(OK)
    assert all(reply.result().status == 200 for reply in (get, post, later))


def test_the_answer_to_a_cancelled_request_reaches_nobody(step: int) -> None:
    for answer in (OK, CHUNKED + b"6\r\norphan\r\n0\r\n\r\n"):
        bench = HttpBench(connections=1, pipeline=2)
        cancelled, kept = bench.pool.submit(http.get("/0")), bench.pool.submit(http.get("/1"))
        bench.accept()
        bench.say(answer[:-5])
        cancelled.cancel()
        bench.say(answer[-5:] + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkept", step=step)
        assert kept.result().body == b"kept"
        with pytest.raises(Cancelled):
            cancelled.result()
        assert bench.pool.statistics().orphans == 0
        assert bench.idle == 1


def test_interim_answers_to_a_cancelled_request_are_skipped() -> None:
    bench = HttpBench()
    reply = bench.open(http.get("/"))
    reply.cancel()
    bench.say(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    assert bench.idle == 1


@pytest.mark.parametrize(
    "head", [b"Content-Length: 9000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n800000\r\n"]
)
def test_a_long_answer_to_a_cancelled_request_costs_the_connection(head: bytes) -> None:
    bench = HttpBench(connections=1)
    reply = bench.open(http.get("/"))
    reply.cancel()
    bench.say(b"HTTP/1.1 200 OK\r\n" + head + b"x" * 2_000_000)
    assert bench.sockets[0].closed
    assert bench.pool.statistics().orphans == 0


def test_bytes_that_nobody_asked_for_end_the_connection(step: int) -> None:
    bench = HttpBench()
    reply = bench.open(http.get("/"))
    bench.say(OK + OK, step=step)
    assert reply.result().body == b"ok"
    assert bench.sockets[0].closed
    reply = bench.open(http.get("/"))
    bench.say(OK)
    bench.say(b"x", step=step)
    assert bench.sockets[1].closed
    assert reply.result().body == b"ok"


def test_a_switch_of_protocols_that_nobody_asked_for_is_refused() -> None:
    bench = HttpBench()
    reply = bench.open(http.get("/"))
    bench.say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
    with pytest.raises(http.BadResponse):
        reply.result()
    assert bench.sockets[0].closed


# -- kept-alive connections that the server closes


def test_an_idle_connection_that_the_server_closes_is_forgotten() -> None:
    bench = HttpBench()
    bench.open(http.get("/"))
    bench.say(OK)
    bench.end()
    assert bench.pool.statistics().connections == 0
    reply = bench.open(http.post("/", body=b"x"))
    bench.say(OK)
    assert reply.result().status == 200


@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_connection_that_is_closed_as_it_is_reused(how: str) -> None:
    for unit, retried in (
        (http.get("/"), True),
        (http.put("/", body=b"x"), True),
        (http.post("/", body=b"x"), False),
    ):
        bench = HttpBench(connections=1)
        bench.open(http.get("/"))
        bench.say(OK)
        reply = bench.pool.submit(unit)
        bench.run()
        assert bench.got()
        getattr(bench, how)()
        bench.accept()
        if retried:
            bench.say(OK, 1)
            assert reply.result().status == 200
            assert bench.pool.statistics().retried == 1
        else:
            with pytest.raises(ConnectionLost):
                reply.result()
        assert bench.add_up()


def test_what_has_not_left_is_sent_again_even_if_it_is_not_idempotent() -> None:
    bench = HttpBench(connections=1)
    bench.open(http.get("/"))
    bench.say(OK)
    bench.sockets[0].room = 0
    reply = bench.pool.submit(http.post("/", body=b"x"))
    bench.run()
    bench.end()
    bench.accept()
    bench.say(OK, 1)
    assert reply.result().status == 200
    assert bench.pool.statistics().taken_back == 1
