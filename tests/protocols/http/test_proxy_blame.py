"""Clients that break off, and requests that crash a backend's process, are their own fault."""

from __future__ import annotations

import pytest

from tests.protocols.http.benches import ProxyBench

BACKENDS = ["http://192.0.2.1:8000", "http://192.0.2.2:8000"]
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LARGE = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 90000000\r\n\r\n" + b"x" * 3_000_000
CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"


def served(bench: ProxyBench) -> bool:
    """Whether another client's request is."""
    sock = bench.ask(GET)
    for _ in range(3):
        bench.accept()
        for backend in bench.sockets:
            if not backend.closed and backend.readiness() and b"GET / " in backend.delivered():
                backend.arrive(OK)
        bench.run()
    return bench.heard(sock).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("urls", [BACKENDS[:1], BACKENDS])
@pytest.mark.parametrize("upload", [LARGE, CHUNKED])
def test_a_client_that_breaks_uploads_off_does_no_harm_to_others(urls: list[str], upload: bytes) -> None:
    bench = ProxyBench(urls)
    for number in range(20):
        client = bench.ask(upload)
        client.reset()
        bench.run()
        if number % 5 == 4:
            assert served(bench)
    now = bench.pool.statistics()
    assert now.connects_failed == 0
    assert [backend.failures for backend in now.backends] == [0] * len(urls)


@pytest.mark.parametrize("urls", [BACKENDS[:1], BACKENDS])
def test_a_client_that_sends_poison_does_no_harm_to_others(urls: list[str]) -> None:
    bench = ProxyBench(urls)
    for number in range(20):
        client = bench.ask(b"POST /poison HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
        for backend in bench.sockets:
            if not backend.closed and backend.readiness() and b"/poison" in backend.delivered():
                backend.reset()
        bench.run()
        assert bench.heard(client).startswith(b"HTTP/1.1 502")
        if number % 5 == 4:
            assert served(bench)
    assert bench.pool.statistics().connects_failed == 0
