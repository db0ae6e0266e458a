"""Slow clients: a spool takes what they leave, so that the backend's connection is free."""

from __future__ import annotations

import os
import re
from typing import IO, Any

import pytest

from actors import Loop
from protocols import http
from protocols.http.proxy import spool as spool_module
from protocols.http.proxy.spool import READ_SIZE, Spool, Spools
from tests.protocols.http.benches import Client, ProxyBench, Spooled, SpoolKernel
from tests.protocols.http.harness import QuietLog

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Disk(Spooled):
    """A file on a disk that has `room` for so many bytes, and takes a few thousand at a time."""

    room = 300_000

    def write(self, data: Any) -> int:
        """As far as there is room."""
        if self.tell() >= self.room:
            raise OSError(28, "No space left on device")
        return super().write(bytes(data[:7000]))


def spool_of(spools: Spools, limit: int = 1 << 20, file: IO[bytes] | None = None) -> Spool:
    """A spool on a kernel without disks."""
    kernel = SpoolKernel()
    if file is not None:
        kernel.temporary_file = lambda directory=None: file  # type: ignore[method-assign]
    loop = Loop(kernel=kernel)
    loop.log = QuietLog()
    spool = spools.open(loop, limit)
    assert spool is not None
    return spool


def test_what_goes_in_comes_out_in_order() -> None:
    spool = spool_of(Spools(1 << 30))
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
    spool = spool_of(Spools(1 << 30), limit=READ_SIZE + 10)
    spool.put(b"x" * (READ_SIZE + 10))
    assert not spool.takes_more()
    spool.take()
    assert not spool.takes_more()
    spool.take()
    assert spool.takes_more()
    spool.close()


def test_all_of_a_proxys_spools_together_have_a_limit() -> None:
    spools = Spools(1000)
    one, other = spool_of(spools), spool_of(spools)
    one.put(b"x" * 600)
    other.put(b"y" * 600)
    assert not one.takes_more()
    assert not other.takes_more()
    assert spools.open(Loop(kernel=SpoolKernel()), 1 << 20) is None
    assert repr(spools) == "<Spools 1200 of 1000 bytes in 2 files>"
    assert other.take() == b"y" * 600
    assert one.takes_more()
    one.close()
    one.close()
    other.close()
    assert (spools.used, spools.files) == (0, 0)


@pytest.mark.parametrize("files", [0, 1, 2])
def test_there_are_no_more_files_than_the_limit(monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    monkeypatch.setattr(spool_module, "FILES_MAX", files)
    spools = Spools(1 << 30)
    opened = [spool_of(spools) for _ in range(files)]
    assert spools.open(Loop(kernel=SpoolKernel()), 1 << 20) is None
    for spool in opened:
        spool.close()
    assert spools.files == 0


@pytest.mark.parametrize("size", [1, 2])
def test_pieces_of_any_size(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(spool_module, "READ_SIZE", size)
    spool = spool_of(Spools(1 << 30))
    spool.put(b"abcde")
    taken = []
    while len(spool):
        taken.append(spool.take())
    assert b"".join(taken) == b"abcde"
    spool.close()


def test_what_a_full_disk_refuses_is_kept_and_tried_again() -> None:
    disk = Disk()
    spools = Spools(1 << 30)
    spool = spool_of(spools, file=disk)
    data = os.urandom(500_000)
    for start in range(0, len(data), 100_000):
        if not spool.takes_more():
            break
        spool.put(data[start : start + 100_000])
    assert len(spool) == 400_000
    assert not spool.takes_more()
    disk.room = 1_000_000
    assert spool.takes_more()
    spool.put(data[400_000:])
    got = b""
    while len(spool):
        got += spool.take()
    assert got == data
    spool.close()
    assert spools.used == 0


def test_a_file_that_has_lost_bytes_is_an_error() -> None:
    disk = Disk()
    spool = spool_of(Spools(1 << 30), file=disk)
    spool.put(b"abc")
    disk.truncate(0)
    with pytest.raises(OSError, match="has lost 3 bytes"):
        spool.take()


def slow_answer(bench: ProxyBench, size: int, *, chunk: int = 50_000, request: bytes = GET) -> Client:
    """A client that takes nothing, and as much of an answer as the proxy reads of it."""
    client = bench.client()
    client.room = 0
    bench.tell(client, request)
    bench.accept()
    bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    for start in range(0, size, chunk):
        bench.say(b"%02x" % (start // chunk % 256) * (chunk // 2), len(bench.sockets) - 1)
    return client


def answer_of(size: int, chunk: int = 50_000) -> bytes:
    """What `slow_answer` has sent."""
    return b"".join(b"%02x" % (n % 256) * (chunk // 2) for n in range(size // chunk))


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
    held = [scope.machine for scope in bench.loop.living()]
    assert max(getattr(machine, "unsent", 0) for machine in held) < 2 << 20
    other = bench.client(GET)
    bench.say(OK)
    assert bench.heard(other).endswith(b"ok")
    body = read_all(bench, client).partition(b"\r\n\r\n")[2]
    assert body == answer_of(size)
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
    assert bench.loop.machines == 3  # the pool, its idle connection and the listener
    assert bench.idle == 1


def test_a_full_disk_holds_the_backend_back_and_resets_nobody() -> None:
    bench = ProxyBench()
    bench.loop.log = QuietLog()
    disk = Disk()
    bench.kernel.temporary_file = lambda directory=None: disk  # type: ignore[method-assign]
    size = 4_000_000
    client = slow_answer(bench, size)
    assert bench.idle == 0
    assert bench.sockets[0]._arrived, "all was read, into memory"
    assert read_all(bench, client).partition(b"\r\n\r\n")[2] == answer_of(size)
    assert not client.was_reset
    assert bench.idle == 1
    assert disk.closed


def test_without_a_file_to_be_had_the_backend_is_held_back() -> None:
    bench = ProxyBench(proxy={"spool_directory": "/var/spool/x"})
    log = bench.loop.log = QuietLog()
    asked = []

    def refuse(directory: str | None = None) -> IO[bytes]:
        asked.append(directory)
        raise OSError(24, "Too many open files")

    bench.kernel.temporary_file = refuse  # type: ignore[method-assign]
    size = 4_000_000
    client = slow_answer(bench, size)
    assert bench.idle == 0
    assert bench.sockets[0]._arrived, "all was read, into memory"
    assert len(read_all(bench, client).partition(b"\r\n\r\n")[2]) == size
    assert bench.idle == 1
    assert set(asked) == {"/var/spool/x"}
    assert ("warning", "cannot spool", {"error": "Too many open files"}) in log.lines


def test_the_total_holds_the_backends_back() -> None:
    bench = ProxyBench(proxy={"spool_total": 1_000_000})
    size = 4_000_000
    clients = [slow_answer(bench, size) for _ in range(3)]
    assert sum(spool.size_max for spool in bench.kernel.spools) < 1_500_000
    for client in clients:
        assert read_all(bench, client).partition(b"\r\n\r\n")[2] == answer_of(size)
    assert bench.idle == 3
    assert all(spool.closed for spool in bench.kernel.spools)


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
        bench = ProxyBench(proxy={"gather": 0})
        client = bench.ask(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n3\r\nabc")
        getattr(client, how)()
        bench.run()
        assert bench.sockets[0].closed
        assert not re.search(rb"\r\n0\r\n\r\n$", bench.got())
        assert bench.pool.statistics().connections == 0
        assert bench.add_up()


def test_upload_and_answer_at_once_with_everybody_slow() -> None:
    """An echo through the proxy: the client sends and takes by turns, and so does the backend."""
    bench = ProxyBench(proxy={"gather": 0})
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
