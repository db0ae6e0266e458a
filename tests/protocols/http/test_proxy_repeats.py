"""Requests and answers that come again, byte for byte: a proxy notes what it has made of a head, and nobody
can tell the difference."""

from __future__ import annotations

from typing import Any

import pytest

from protocols import http
from tests.protocols.http.benches import Client, ProxyBench

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"HEAD" + GET[3:]
DATE = b"Date: Mon, 23 Nov 2026 00:00:00 GMT\r\n"
VIA = b"Via: 1.1 windlass\r\n"
OK = b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 2\r\n\r\nok"
RELAYED = b"HTTP/1.1 200 OK\r\n" + DATE + VIA + b"Content-Length: 2\r\n\r\nok"


class Stranger(Client):
    """A client at another address."""

    def getpeername(self) -> Any:
        return ("192.0.2.9", 1)


def test_each_client_and_each_proxy_gets_its_own() -> None:
    bench = ProxyBench(connections=1)
    bench.loop.spawn(http.server("127.0.0.1:81", http.proxy(bench.pool, name="other")))
    other = bench.kernel.sockets.pop()
    bench.ask(GET)
    bench.say(OK)
    bench.got()
    for listener, kind, name in [
        (bench.listener, Client, b"windlass"),
        (bench.listener, Stranger, b"windlass"),
        (other, Stranger, b"other"),
        (other, Client, b"other"),
    ] * 3:
        client = kind(bench.kernel)
        listener.backlog.append(client)
        bench.run()
        bench.tell(client, GET)
        peer = client.getpeername()[0].encode()
        assert bench.got() == (
            b"GET / HTTP/1.1\r\nHost: a\r\n"
            b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n"
            b"Forwarded: for=%b;proto=http;host=a\r\nVia: 1.1 %b\r\n\r\n" % (peer, peer, name)
        )
        bench.say(OK)
        assert bench.heard(client) == RELAYED.replace(b"windlass", name)


@pytest.mark.parametrize("step", [0, 1, 7])
def test_the_same_head_for_requests_that_are_answered_otherwise(step: int) -> None:
    """To HEAD, to a client of HTTP/1.0, to one that ends here; and as always in between."""
    bench = ProxyBench(connections=1)
    client = bench.ask(GET)
    bench.say(OK)
    assert bench.heard(client) == RELAYED
    status = b"HTTP/1.1 200 OK\r\n"
    for request, answer, expected in [
        (GET, OK, RELAYED),
        (HEAD, OK[:-2], status + DATE + b"Content-Length: 2\r\n" + VIA + b"\r\n"),
        (GET, OK, RELAYED),
        (
            b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
            OK,
            RELAYED.replace(status, status + b"Connection: keep-alive\r\n"),
        ),
        (GET, OK, RELAYED),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            OK,
            RELAYED.replace(status, status + b"Connection: close\r\n"),
        ),
    ]:
        bench.tell(client, request)
        bench.say(answer, step=step)
        assert bench.heard(client) == expected
    assert client.closed


def test_a_body_that_comes_later_than_the_last_time() -> None:
    bench = ProxyBench(connections=1)
    client = bench.ask(GET)
    for pieces in ([OK], [OK[:-1], b"k"], [OK[:-2], b"o", b"k"], [OK]):
        for piece in pieces:
            bench.say(piece)
        assert bench.heard(client) == RELAYED
        bench.tell(client, GET)


def test_an_answer_without_a_date_gets_that_of_the_moment() -> None:
    bench = ProxyBench(connections=1)
    client = bench.ask(GET)
    dates = []
    for _ in range(3):
        bench.say(OK.replace(DATE, b""))
        answer = bench.heard(client)
        dates.append(answer[answer.index(b"Date: ") :].partition(b"\r\n")[0])
        assert answer.replace(dates[-1] + b"\r\n", b"") == RELAYED.replace(DATE, b"")
        bench.advance(2.0)
        bench.tell(client, GET)
    assert len(set(dates)) == 3


@pytest.mark.parametrize("nonsense", [b"\0", b"\n", b"\r\n\r\n", b"\0\r\n\r\n"])
def test_nothing_is_like_the_head_before_the_first(nonsense: bytes) -> None:
    bench = ProxyBench()
    assert bench.heard(bench.client(nonsense * 2)).startswith(b"HTTP/1.1 400 ")
    client = bench.ask(GET)
    bench.say(nonsense * 2)
    assert bench.heard(client).startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize("step", [0, 1, 7, 64])
def test_pipelined_requests_that_are_the_same_and_not(step: int) -> None:
    """Each is forwarded, in order, and gets its own answer."""
    other = GET.replace(b"/", b"/other", 1)
    posted = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    requests = [GET, GET, other, other, posted, posted, GET, other, GET]
    bench = ProxyBench(connections=1)
    client = bench.ask(b"".join(requests), step=step)
    for number, request in enumerate(requests):
        sent = bench.got()
        assert sent.partition(b"\r\n")[0] == request.partition(b"\r\n")[0]
        assert sent.endswith(b"\r\n\r\nabc" if request is posted else b"\r\n\r\n")
        bench.say(OK.replace(b"ok", b"%02d" % number))
        assert bench.heard(client) == RELAYED.replace(b"ok", b"%02d" % number)
    assert not client.closed


def test_long_heads_are_made_anew_each_time() -> None:
    long = b"X-Long: " + b"x" * 2000 + b"\r\n"
    bench = ProxyBench()
    for _ in range(2):
        client = bench.ask(b"GET / HTTP/1.1\r\nHost: a\r\n" + long + b"\r\n")
        sent = bench.got()
        assert long in sent
        assert sent.endswith(VIA + b"\r\n")
        bench.say(b"HTTP/1.1 200 OK\r\n" + long + b"Content-Length: 0\r\n\r\n")
        assert long in bench.heard(client)
