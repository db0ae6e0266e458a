"""Slow clients: a spool takes what they leave, so that the backend's connection is free."""

from __future__ import annotations

import os
import re
from typing import IO

import pytest

from actors.testing import ManualKernel
from protocols import http
from protocols.http.spool import READ_SIZE, Spool
from tests.protocols.http.benches import Client, ProxyBench

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_what_goes_in_comes_out_in_order() -> None:
    spool = Spool(ManualKernel(), limit=1 << 20)
    data = os.urandom(READ_SIZE + 1000)
    spool.put(data[:1000])
    assert spool.take() == data[:1000]
    assert len(spool) == 0
    for start in range(0, len(data), 10_000):
        spool.put(data[start : start + 10_000])
    assert len(spool) == len(data)
    assert spool.take() == data[:READ_SIZE]
    spool.put(b"more")
    assert spool.take() == data[READ_SIZE:] + b"more"
    assert repr(spool) == "<Spool 0 of 1048576 bytes>"
    spool.close()


def test_the_file_has_the_limit_and_starts_over_when_all_was_taken() -> None:
    spool = Spool(ManualKernel(), limit=READ_SIZE + 10)
    spool.put(b"x" * (READ_SIZE + 10))
    assert spool.full
    spool.take()
    assert spool.full
    spool.take()
    assert not spool.full
    spool.close()


class FullDisk:
    """A file that takes a little at a time, then nothing."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.closed = False

    def seek(self, position: int) -> None:
        self.position = position

    def write(self, data: memoryview) -> int:
        if len(self.data) > 300_000:
            raise OSError(28, "No space left on device")
        piece = bytes(data[:7000])
        self.data[self.position : self.position + len(piece)] = piece
        self.position += len(piece)
        return len(piece)

    def close(self) -> None:
        self.closed = True


def slow_answer(bench: ProxyBench, size: int, *, chunk: int = 50_000, request: bytes = GET) -> Client:
    """A client that takes nothing, and as much of an answer as the proxy reads of it."""
    client = bench.client()
    client.room = 0
    bench.tell(client, request)
    bench.accept()
    bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    for start in range(0, size, chunk):
        bench.say(b"%02x" % (start // chunk % 256) * (chunk // 2))
    return client


def read_all(bench: ProxyBench, client: Client, step: int = 200_000) -> bytes:
    received = b""
    for _ in range(1000):
        if client.room is None:
            break
        client.room = step
        bench.run()
        piece = client.delivered()
        received += piece
        if not piece:
            client.room = None
    bench.run()
    return received + client.delivered()


def test_a_slow_reader_does_not_hold_the_backends_connection() -> None:
    bench = ProxyBench(connections=1)
    size = 8_000_000
    client = slow_answer(bench, size)
    assert bench.idle == 1
    spools = [thing for thing in bench.kernel.spools if not thing.closed]
    assert len(spools) == 1
    held = [scope.machine for scope in bench.loop._slots if scope and scope.machine]
    assert max(getattr(machine, "unsent", 0) for machine in held) < 2 << 20
    other = bench.client(GET)
    bench.say(OK)
    assert bench.heard(other).endswith(b"ok")
    body = read_all(bench, client).partition(b"\r\n\r\n")[2]
    assert body == b"".join(b"%02x" % (n % 256) * 25_000 for n in range(size // 50_000))
    assert spools[0].closed
    bench.tell(client, GET)
    bench.say(OK)
    assert bench.heard(client).endswith(b"ok")


def test_a_full_spool_holds_the_backend_back_until_the_client_has_taken_it() -> None:
    bench = ProxyBench(proxy={"spool_max": 500_000})
    size = 6_000_000
    client = slow_answer(bench, size)
    assert bench.idle == 0
    assert bench.sockets[0]._arrived, "all was read, into memory"
    assert len(read_all(bench, client).partition(b"\r\n\r\n")[2]) == size
    assert bench.idle == 1
    assert max(spool.size_max for spool in bench.kernel.spools) < 1_000_000


def test_a_slow_reader_that_is_too_slow_is_let_go() -> None:
    timeouts = http.Timeouts(response_sending=5.0, body_rate_min=1e6)
    bench = ProxyBench(server={"timeouts": timeouts})
    client = slow_answer(bench, 3_000_000)
    bench.advance(8.0)
    assert client.closed
    assert all(spool.closed for spool in bench.kernel.spools)
    assert bench.idle == 1


@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_client_that_goes_leaves_no_spool(how: str) -> None:
    bench = ProxyBench()
    client = slow_answer(bench, 3_000_000)
    getattr(client, how)()
    bench.run()
    if how == "end":  # it may still be reading, until it has taken nothing for too long
        assert not client.closed
        bench.advance(http.Timeouts().response_sending)
    assert client.closed
    assert all(spool.closed for spool in bench.kernel.spools)
    assert bench.loop.machines == 3  # the pool, its idle member and the listener
    assert bench.idle == 1


def test_a_full_disk_is_an_abort() -> None:
    bench = ProxyBench()
    disk = FullDisk()
    bench.kernel.temporary_file = lambda: disk  # type: ignore[method-assign, assignment, return-value]
    client = slow_answer(bench, 3_000_000)
    assert client.was_reset
    assert disk.closed
    assert bench.pool.statistics().in_flight == 0
    assert bench.pool.statistics().connections == 0


def test_without_a_file_to_be_had_the_backend_is_held_back() -> None:
    bench = ProxyBench()

    def refuse() -> IO[bytes]:
        raise OSError(24, "Too many open files")

    bench.kernel.temporary_file = refuse  # type: ignore[method-assign]
    size = 4_000_000
    client = slow_answer(bench, size)
    assert bench.idle == 0
    assert bench.sockets[0]._arrived, "all was read, into memory"
    assert len(read_all(bench, client).partition(b"\r\n\r\n")[2]) == size
    assert bench.idle == 1


def test_an_answer_that_breaks_off_is_an_abort_though_it_is_spooled() -> None:
    broken = ProxyBench()
    client = broken.client()
    client.room = 0
    broken.tell(client, GET)
    broken.accept()
    broken.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 3_000_000)
    broken.reset()
    assert client.was_reset
    assert all(spool.closed for spool in broken.kernel.spools)


# -- clients that go, and when


@pytest.mark.parametrize("how", ["end", "reset"])
@pytest.mark.parametrize(
    "answer",
    [
        OK,
        CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000,
    ],
    ids=["small", "chunked", "large"],
)
def test_a_client_may_go_at_any_moment(how: str, answer: bytes) -> None:
    """Between any two ticks: nothing is leaked, and the next client gets its own answer."""
    for ticks in range(14):
        bench = ProxyBench(connections=1, pipeline=4)
        warm = bench.ask(GET)
        bench.say(OK)
        bench.heard(warm)
        bench.got()
        client = Client(bench.kernel)
        bench.listener.backlog.append(client)
        client.arrive(GET)
        for tick in range(ticks):
            if tick == 4:
                bench.sockets[0].arrive(answer)
            bench.loop.tick(0)
        getattr(client, how)()
        bench.run()
        if ticks <= 4 and bench.sockets[0].delivered().count(b"GET /") == 1:
            bench.say(answer)
        bench.accept()
        after = bench.client(b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n")
        bench.accept()
        bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nafter")
        assert bench.heard(after).endswith(b"after"), ticks
        assert client.closed
        now = bench.pool.statistics()
        assert (now.in_flight, now.orphans, now.queued, now.connections) == (0, 0, 0, 1), ticks
        assert bench.idle == 1
        assert bench.add_up()


@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_client_that_goes_between_a_long_answers_head_and_its_passing_on(how: str) -> None:
    bench = ProxyBench(server={"half_close": False})
    warm = bench.ask(GET)
    bench.say(OK)
    warm.end()
    client = bench.client()
    bench.tell(client, GET)  # its descriptor comes after the backend's, and so do its events
    bench.sockets[0].arrive(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 1_000_000)
    getattr(client, how)()
    bench.run()
    assert client.closed
    now = bench.pool.statistics()
    assert (now.in_flight, now.connections) == (0, 0)
    assert bench.kernel.descriptors == 2
    assert bench.add_up()


@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_client_that_goes_in_the_middle_of_its_upload(how: str) -> None:
    for framing in (b"Content-Length: 10", b"Transfer-Encoding: chunked"):
        bench = ProxyBench()
        client = bench.ask(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n3\r\nabc")
        getattr(client, how)()
        bench.run()
        assert bench.sockets[0].closed
        assert not re.search(rb"\r\n0\r\n\r\n$", bench.got())
        assert bench.pool.statistics().connections == 0
        assert bench.add_up()


def test_upload_and_answer_at_once_with_everybody_slow() -> None:
    """An echo through the proxy: the client sends and takes by turns, and so does the backend."""
    bench = ProxyBench()
    size = 4_000_000
    client = bench.client(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    client.room = 0
    bench.accept()
    backend = bench.sockets[0]
    backend.room = 0
    bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    bench.got()
    client.arrive(b"x" * size)
    received = b""
    sent = 0
    for turn in range(400):
        backend.room = 100_000 if turn % 2 else 0
        client.room = 0 if turn % 2 else 100_000
        bench.run()
        received += client.delivered()
        echo = len(backend.delivered())
        sent += echo
        backend.arrive(b"y" * echo)
    assert len(received.partition(b"\r\n\r\n")[2]) == sent == size
    assert bench.idle == 1
