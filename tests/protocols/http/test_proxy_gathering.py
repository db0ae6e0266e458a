"""What a client that sends slowly may hold: its own connection, and no backend's. Its body is gathered before
one is taken; a body that is too large for that streams, and must make progress."""

from __future__ import annotations

import os

import pytest

from protocols import http
from protocols.http.proxy import gathering
from tests.protocols.http.benches import ProxyBench

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TEN = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def post(size: int, lines: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n" % (lines, size)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def body_of(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("start", [TEN + b"a", CHUNKED + b"5\r\nabcde\r\n"], ids=["length", "chunked"])
def test_slow_uploads_hold_no_connection(start: bytes) -> None:
    bench = ProxyBench(connections=2)
    for _ in range(5):
        bench.ask(start)
    assert not bench.sockets
    other = bench.ask(GET)
    bench.say(OK)
    assert status_of(bench.heard(other)) == 200


def test_a_body_that_came_in_pieces_goes_on_at_once_with_its_head() -> None:
    for start, rest, framing in (
        (TEN + b"abc", b"defghij", b"Content-Length: 10\r\n\r\nabcdefghij"),
        (CHUNKED + b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n", b"chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"),
    ):
        bench = ProxyBench()
        client = bench.ask(start)
        for byte in rest:
            assert not bench.sockets
            bench.tell(client, bytes([byte]))
        bench.accept()
        assert bench.got().endswith(framing)
        bench.say(OK)
        assert status_of(bench.heard(client)) == 200
        assert bench.idle == 1
        bench.tell(client, GET)
        assert bench.got().startswith(b"GET / ")


def test_a_gathered_body_may_be_sent_again_where_that_is_safe() -> None:
    for method, retried in ((b"PUT", 1), (b"POST", 0)):
        bench = ProxyBench()
        client = bench.ask(TEN.replace(b"POST", method) + b"abc")
        bench.tell(client, b"defghij")
        bench.accept()
        bench.reset()
        bench.accept()
        assert bench.pool.statistics().retried == retried
        if retried:
            assert body_of(bench.got()) == b"abcdefghij"
        else:
            assert status_of(bench.heard(client)) == 502


def test_a_client_that_waits_for_a_100_to_send_little_gets_it_here() -> None:
    bench = ProxyBench()
    client = bench.ask(post(2, b"Expect: 100-continue\r\n"))
    assert bench.heard(client) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert not bench.sockets
    bench.tell(client, b"ab")
    bench.accept()
    sent = bench.got()
    assert b"expect" not in sent.lower()
    assert body_of(sent) == b"ab"


def test_a_client_that_waits_for_a_100_to_send_much_is_the_backends_to_answer() -> None:
    for start in (
        post(2_000_000, b"Expect: 100-continue\r\n"),
        CHUNKED.replace(b"Host: a\r\n", b"Host: a\r\nExpect: 100-continue\r\n"),
    ):
        bench = ProxyBench()
        client = bench.ask(start)
        assert bench.heard(client) == b""
        assert b"Expect: 100-continue\r\n" in bench.got()
        bench.say(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
        assert status_of(bench.heard(client)) == 417


@pytest.mark.parametrize("memory", [0, 1, 2, 1 << 16])
@pytest.mark.parametrize("size", [70_000, 300_000, 1_000_000])
def test_more_than_a_little_is_gathered_on_disk(
    monkeypatch: pytest.MonkeyPatch, memory: int, size: int
) -> None:
    monkeypatch.setattr(gathering, "MEMORY_MAX", memory)
    bench = ProxyBench(proxy={"spool_directory": "here"})
    data = os.urandom(size)
    client = bench.ask(post(size))
    bench.tell(client, data[:-1], step=30_000)
    assert not bench.sockets
    (spool,) = bench.kernel.spools
    assert spool.size_max <= size
    bench.tell(client, data[-1:])
    bench.accept()
    sent = bench.got()
    assert body_of(sent) == data
    assert spool.closed
    bench.say(OK)
    assert status_of(bench.heard(client)) == 200
    assert bench.idle == 1


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("gather", [0, 1, 2, 1000, 100_000])
def test_a_large_one_streams_from_there_on(framing: str, gather: int) -> None:
    bench = ProxyBench(proxy={"gather": gather})
    data = os.urandom(400_000)
    pieces = [data[start : start + 20_000] for start in range(0, len(data), 20_000)]
    client = bench.ask(post(len(data)) if framing == "length" else CHUNKED)
    for piece in pieces:
        bench.tell(client, piece if framing == "length" else b"%x\r\n%b\r\n" % (len(piece), piece))
    bench.accept()
    if framing == "chunked":
        bench.tell(client, b"0\r\nX-Digest: 1\r\n\r\n")
    sent = body_of(bench.got())
    if framing == "chunked":
        from tests.protocols.http.test_proxy_trust import unchunked

        body, trailers = unchunked(sent)
        assert (body, trailers) == (data, [("X-Digest", "1")])
    else:
        assert sent == data
    bench.say(OK)
    assert status_of(bench.heard(client)) == 200
    assert bench.idle == 1
    assert all(spool.closed for spool in bench.kernel.spools)


def test_without_a_disk_it_streams() -> None:
    bench = ProxyBench(proxy={"spool_total": 0})
    data = os.urandom(300_000)
    client = bench.ask(post(len(data)) + data[:-1], step=10_000)
    assert len(bench.sockets) == 1
    bench.tell(client, data[-1:])
    assert body_of(bench.got()) == data


def test_a_backend_that_is_slow_to_take_what_was_gathered() -> None:
    bench = ProxyBench()
    size = 900_000
    data = os.urandom(size)
    client = bench.client(post(size) + data, step=50_000)
    bench.run()
    for sock in bench.sockets:
        sock.room = 0
    bench.accept()
    received = b""
    for _ in range(40):
        bench.sockets[0].room = 50_000
        received += bench.got()
    assert body_of(received) == data
    bench.say(OK)
    assert status_of(bench.heard(client)) == 200
    assert all(spool.closed for spool in bench.kernel.spools)


@pytest.mark.parametrize("answer", [OK, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"])
def test_an_early_answer_leaves_nothing_on_disk(answer: bytes) -> None:
    bench = ProxyBench(proxy={"gather": 4 << 20})
    size = 3_000_000
    client = bench.client(post(size) + os.urandom(size), step=50_000)
    bench.sockets[0].room = 10_000
    bench.accept()
    assert bench.kernel.spools
    bench.say(answer)
    if b"chunked" in answer:
        bench.say(b"0\r\n\r\n")
    assert status_of(bench.heard(client)) == 200
    assert all(spool.closed for spool in bench.kernel.spools)
    assert bench.sockets[0].closed


@pytest.mark.parametrize("how", ["end", "reset"])
@pytest.mark.parametrize("size", [10, 200_000, 1_000_000, 3_000_000])
def test_a_client_that_goes_costs_nobody_anything(how: str, size: int) -> None:
    bench = ProxyBench()
    warm = bench.ask(GET)
    bench.say(OK)
    bench.heard(warm)
    bench.got()
    client = bench.client(post(size) + bytes(size // 2), step=50_000)
    getattr(client, how)()
    bench.run()
    assert client.closed
    assert all(spool.closed for spool in bench.kernel.spools)
    assert bench.pool.statistics().in_flight == 0
    if size <= 1_000_000:
        assert bench.idle == 1
        assert bench.got() == b""
    assert bench.add_up()


def test_too_large_a_body_is_refused_before_anybody_is_bothered() -> None:
    bench = ProxyBench(proxy={"body_max": 100_000})
    piece = b"%x\r\n%b\r\n" % (40_000, bytes(40_000))
    client = bench.client(CHUNKED + piece * 3, step=10_000)
    assert status_of(bench.heard(client)) == 413
    assert not bench.sockets
    assert all(spool.closed for spool in bench.kernel.spools)


def test_a_body_that_does_not_come_is_refused_before_anybody_is_bothered() -> None:
    bench = ProxyBench()
    client = bench.client(TEN + b"a")
    bench.advance(31.0)
    assert status_of(bench.heard(client)) == 408
    assert not bench.sockets


def test_a_body_that_stands_still_is_not_waited_for_because_much_of_it_has_come() -> None:
    bench = ProxyBench(proxy={"body_timeout": 10.0})
    client = bench.client(post(1_000_000) + bytes(900_000), step=50_000)
    for _ in range(3):
        assert not bench.heard(client)
        bench.advance(5.0)
    assert status_of(bench.heard(client)) == 408
    assert not bench.sockets
    assert all(spool.closed for spool in bench.kernel.spools)


# -- a body that streams


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_a_body_that_streams_and_stands_still_gives_its_connection_back(size: int) -> None:
    """However much of it came before."""
    bench = ProxyBench(proxy={"gather": 0, "body_timeout": 10.0}, connections=1, timeout=60.0)
    client = bench.ask(post(5_000_000) + bytes(size))
    bench.got()
    for _ in range(4):
        bench.advance(5.1)
    assert status_of(bench.heard(client)) == 408
    assert bench.sockets[0].closed
    other = bench.ask(GET)
    bench.say(OK)
    assert status_of(bench.heard(other)) == 200


def test_a_body_that_only_drips_stands_still() -> None:
    timeouts = http.Timeouts(body_rate_min=500.0)
    bench = ProxyBench(proxy={"gather": 0, "body_timeout": 10.0}, server={"timeouts": timeouts})
    client = bench.ask(post(5_000_000) + bytes(1_000_000))
    for second in range(25):
        bench.got()
        bench.tell(client, b"x" * (499 if second > 10 else 500))
        bench.advance(1.0)
        if second < 14:
            assert not bench.heard(client), second
    assert status_of(bench.heard(client)) == 408


def test_a_body_that_keeps_up_may_take_long() -> None:
    bench = ProxyBench(proxy={"gather": 0, "body_timeout": 10.0})
    client = bench.ask(post(200_000))
    for _ in range(200):
        bench.tell(client, bytes(1000))
        bench.advance(1.0)
    assert len(body_of(bench.got())) == 200_000
    bench.say(OK)
    assert status_of(bench.heard(client)) == 200


def test_a_backend_that_takes_nothing_is_not_its_clients_fault() -> None:
    bench = ProxyBench(proxy={"gather": 0, "body_timeout": 1.0, "timeout": 20.0})
    client = bench.ask(post(9_000_000))
    bench.sockets[0].room = 0
    bench.tell(client, bytes(5_000_000))
    for _ in range(10):
        bench.advance(1.1)
    assert not bench.heard(client)
    bench.sockets[0].room = None
    bench.run()
    bench.tell(client, bytes(4_000_000))
    bench.got()
    bench.say(OK)
    assert status_of(bench.heard(client)) == 200


def test_it_tells_what_it_does() -> None:
    bench = ProxyBench()
    bench.client(TEN + b"abc")
    shown = repr([scope.machine for scope in bench.loop.living()])
    assert "gathering <Gathered 3 bytes>" in shown
