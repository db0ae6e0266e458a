"""Clients that read slowly, and all the time, through a proxy: nobody cuts them off, and the backend is not
kept for them. The clock is the test's own."""

from __future__ import annotations

import pytest

from tests.protocols.http.benches import Client, ProxyBench

SIZE = 4_000_000
RATE = 80_000  # bytes a second: 50 seconds in all, longer than anybody may stand still at an end
ASK = b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n"
CLOSE, STAY = b"Connection: close\r\n", b""
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


def answered(bench: ProxyBench, head: bytes) -> None:
    """By a backend that is fast."""
    body = b"x" * SIZE
    if head == CHUNKED:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE, body)
    bench.say(head + body, step=1 << 20)
    if head == UNTIL_CLOSE:
        bench.end()


def read_on(bench: ProxyBench, client: Client, seconds: int) -> int:
    """How many bytes it gets in this time."""
    count = 0
    for _ in range(seconds):
        client.room = RATE
        count += len(bench.heard(client))
        bench.advance(1.0)
    return count


@pytest.mark.parametrize("lines", [CLOSE, STAY])
@pytest.mark.parametrize("head", [LENGTH, CHUNKED, UNTIL_CLOSE])
def test_who_reads_all_the_time_gets_all_of_it(head: bytes, lines: bytes) -> None:
    bench = ProxyBench(proxy={"spool_max": 1 << 30})
    client = bench.client()
    client.room = RATE
    bench.tell(client, ASK % lines)
    bench.accept()
    answered(bench, head)
    assert not bench.pool.statistics().in_flight, "the backend is done with it, whoever reads"
    count = read_on(bench, client, SIZE // RATE + 2)
    assert count >= SIZE
    assert client.was_reset is False
    assert client.closed is (lines == CLOSE)


def test_who_reads_all_the_time_without_a_disk_holds_the_backend_back_and_gets_all_of_it() -> None:
    bench = ProxyBench(proxy={"spool_max": 0})
    client = bench.client()
    client.room = RATE
    bench.tell(client, ASK % CLOSE)
    bench.accept()
    answered(bench, LENGTH)
    assert bench.pool.statistics().in_flight == 0, "its head has come"
    assert bench.pool.statistics().connections == 1
    assert read_on(bench, client, SIZE // RATE + 2) >= SIZE
    assert client.closed
    assert not client.was_reset


@pytest.mark.parametrize("lines", [CLOSE, STAY])
def test_who_reads_no_more_is_cut_off_in_the_time_that_is_said(lines: bytes) -> None:
    bench = ProxyBench()
    client = bench.client()
    client.room = RATE
    bench.tell(client, ASK % lines)
    bench.accept()
    answered(bench, LENGTH)
    read_on(bench, client, 40)
    client.room = 0
    bench.advance(58.0)
    assert not client.closed
    bench.advance(3.0)
    assert client.closed
    assert client.was_reset
