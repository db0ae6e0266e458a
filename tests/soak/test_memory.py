"""A body that is much larger than what the proxy may hold, each way, with the slowest reader and writer there
are: one that moves only when everybody else stands still. And a proxy that runs out of descriptors."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
GROWTH_MAX = 64 << 20
BLOCK = bytes(range(256)) * 1024
STILL_SECONDS = 0.05  # without progress for so long, the others wait for this side
WAIT_SECONDS = 10.0

Start = Callable[..., "Proxy"]


class Proxy:
    """`windlass proxy` as a process."""

    def __init__(self, port: int, backend: int, descriptors: int | None) -> None:
        command = [sys.executable, "-m", "windlass", "proxy", "--listen", f"127.0.0.1:{port}"]
        if descriptors is not None:
            command = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *command]
        self.port = port
        self.process = subprocess.Popen(
            # Bodies stream from their first byte, so that a test can play both ends in turn.
            [*command, "--backend", f"http://127.0.0.1:{backend}", "--connections", "4", "--gather", "0"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if b"forwarding" in line:
                break

    def resident(self, which: str = "VmHWM") -> int:
        """Bytes: the most there ever were, or `VmRSS`, what there are now."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(which):
                return int(line.split()[1]) << 10
        raise AssertionError(which)

    def connect(self) -> socket.socket:
        """A client."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_SECONDS)

    def close(self) -> str:
        """Have it drain; what it had to say."""
        self.process.terminate()
        assert self.process.stderr is not None
        said = self.process.stderr.read().decode()
        self.process.stderr.close()
        self.process.wait(WAIT_SECONDS)
        return said


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """The backend's port, whose connections the test plays itself."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(WAIT_SECONDS)
        yield sock


@pytest.fixture
def start(free_port: Callable[[], int], listener: socket.socket) -> Iterator[Start]:
    """Starts a proxy in front of `listener`, or of another port."""
    if sys.platform != "linux":
        pytest.skip("reads /proc, which is Linux's")
    proxies: list[Proxy] = []

    def make(backend: int | None = None, descriptors: int | None = None) -> Proxy:
        proxies.append(Proxy(free_port(), backend or listener.getsockname()[1], descriptors))
        return proxies[-1]

    yield make
    for proxy in proxies:
        if proxy.process.poll() is None:
            proxy.close()


@pytest.fixture
def size(full_size: bool) -> int:
    return 1 << 30 if full_size else 128 << 20


def read_head(sock: socket.socket) -> tuple[bytes, bytes]:
    """A head, and what came behind it."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def check_growth(proxy: Proxy, before: int) -> None:
    """At no time was there much more than before."""
    grown = proxy.resident() - before
    print(f"grown by {grown >> 10} KiB at most")  # noqa: T201
    assert grown < GROWTH_MAX


class Checked:
    """Counts what is received, and checks that it is the pattern."""

    def __init__(self, rest: bytes) -> None:
        self.count = 0
        self.take(rest)

    def take(self, data: bytes) -> None:
        """More."""
        offset = self.count % 256
        assert data == BLOCK[offset : offset + len(data)]
        self.count += len(data)


def push(sender: socket.socket, sent: int, size: int) -> int:
    """Send the pattern until nobody takes more for a while, or all is sent."""
    sender.setblocking(False)
    while sent < size:
        if not select.select([], [sender], [], STILL_SECONDS)[1]:
            break
        offset = sent % 256
        sent += sender.send(memoryview(BLOCK)[offset : min(len(BLOCK), offset + size - sent)])
    return sent


def pull(receiver: socket.socket, checked: Checked, amount: int, size: int) -> None:
    """Receive so much, or to the end."""
    until = min(size, checked.count + amount)
    while checked.count < until:
        data = receiver.recv(min(65536, until - checked.count))
        assert data
        checked.take(data)


def test_a_download_with_a_slow_reader(start: Start, listener: socket.socket, size: int) -> None:
    proxy = start()
    before = proxy.resident("VmRSS")
    with proxy.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        backend = listener.accept()[0]
        with backend:
            read_head(backend)
            backend.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            head, rest = read_head(client)
            assert b"Content-Length: %d" % size in head
            checked = Checked(rest)
            sent = 0
            while checked.count < size:
                sent = push(backend, sent, size)
                pull(client, checked, 4 << 20, sent)
            assert sent == checked.count == size
            backend.setblocking(True)
            client.sendall(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
            assert read_head(backend)[0].startswith(b"GET /next ")
            backend.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")  # or the proxy would wait for it at its end
            assert read_head(client)[0].startswith(b"HTTP/1.1 204 ")
    check_growth(proxy, before)


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_with_a_slow_backend(
    start: Start, listener: socket.socket, size: int, chunked: bool
) -> None:
    proxy = start()
    before = proxy.resident("VmRSS")
    with proxy.connect() as client:
        framing = (
            b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size
            if chunked
            else b"Content-Length: %d\r\n\r\n" % size
        )
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing)
        backend = listener.accept()[0]
        with backend:
            rest = read_head(backend)[1]
            received = len(rest)
            checked = None if chunked else Checked(rest)
            sent = 0
            while sent < size:
                sent = push(client, sent, size)
                if checked is not None:
                    pull(backend, checked, 4 << 20, sent)
                else:
                    received += len(
                        backend.recv(4 << 20, socket.MSG_WAITALL if sent - received > 8 << 20 else 0)
                    )
            client.setblocking(True)
            if checked is not None:
                pull(backend, checked, size, size)
                assert checked.count == size
            else:
                client.sendall(b"\r\n0\r\n\r\n")
                tail = b""
                while not tail.endswith(b"\r\n0\r\n\r\n"):
                    data = backend.recv(1 << 20)
                    assert data
                    received += len(data)
                    tail = (tail + data)[-16:]
                assert received > size
            backend.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            assert read_head(client)[0].startswith(b"HTTP/1.1 200 OK")
    check_growth(proxy, before)


def test_an_upload_by_a_slow_writer(
    start: Start, listener: socket.socket, size: int, full_size: bool
) -> None:
    """Every piece is sent only when the one before has arrived."""
    proxy = start()
    before = proxy.resident("VmRSS")
    if not full_size:
        size //= 16  # every piece is a round trip
    with proxy.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        backend = listener.accept()[0]
        with backend:
            checked = Checked(read_head(backend)[1])
            while checked.count < size:
                client.sendall(BLOCK[:16384])
                pull(backend, checked, 16384, size)
            backend.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            assert read_head(client)[0].startswith(b"HTTP/1.1 200 OK")
    check_growth(proxy, before)


def test_running_out_of_descriptors_under_load(start: Start, backend: Any) -> None:
    """More clients at once than there are descriptors: each is answered in its turn, and it goes on."""
    proxy = start(backend.port, descriptors=48)
    first = proxy.connect()
    with first:  # so that there is a connection to the backend
        first.sendall(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
        assert read_head(first)[0].startswith(b"HTTP/1.1 200 OK")
    clients = [proxy.connect() for _ in range(200)]
    statuses = []
    for number, client in enumerate(clients):
        client.sendall(b"GET /%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % number)
    for number, client in enumerate(clients):
        with client:
            head, body = read_head(client)
            while data := client.recv(65536):
                body += data
            statuses.append(int(head.split(b" ")[1]))
            assert statuses[-1] in (200, 502, 503)
            assert statuses[-1] != 200 or body == b"GET /%d " % number
    assert statuses.count(200) > 100
    with proxy.connect() as client:
        client.sendall(b"GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert read_head(client)[0].startswith(b"HTTP/1.1 200 OK")
    assert len(os.listdir(f"/proc/{proxy.process.pid}/fd")) < 20
    said = proxy.close()
    assert "listener paused" in said
    assert "Traceback" not in said
