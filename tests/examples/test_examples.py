"""The examples run as programs and answer."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.protocols.postgres.servers import Server
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 60.0
Start = Callable[..., int]


@pytest.fixture
def start() -> Iterator[Start]:
    """`start("hello")` runs the example and returns its port; at the end it must stop in good order."""
    started: list[subprocess.Popen[str]] = []

    def run(name: str, *arguments: str) -> int:
        command = [sys.executable, "-m", f"examples.{name}", "--listen", "127.0.0.1:0", *arguments]
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "NO_COLOR": "1"}, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"listening.*address=127\.0\.0\.1:(\d+)", line):
                return int(found[1])
        raise AssertionError("the example did not start")

    yield run
    for process in started:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == 0


@pytest.fixture
def backend() -> Iterator[Callable[..., str]]:
    """`backend(body, status)`: the URL of a server that gives one connection this answer; none if empty."""
    sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(listener: socket.socket, body: bytes, status: bytes) -> None:
        with suppress(OSError):  # the test is over before this has answered
            connection, _ = listener.accept()
            sockets.append(connection)
            assert connection.recv(1 << 16).startswith(b"GET /")
            if body:
                head = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
                connection.sendall(head + body)

    def run(body: bytes, status: bytes = b"200 OK") -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)
        threads.append(threading.Thread(target=serve, args=(listener, body, status), daemon=True))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield run
    for thread in threads:
        while thread.is_alive():  # it waits for a connection, or on one
            for sock in sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            thread.join(0.01)
    for sock in sockets:
        sock.close()


def get(port: int, target: str) -> tuple[int, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS_MAX)
    client.request("GET", target)
    response = client.getresponse()
    body = response.read()
    client.close()
    return response.status, body


def test_hello(start: Start) -> None:
    assert get(start("hello"), "/") == (200, b"Hello World!")


def test_gateway_composes_two_backends(start: Start, backend: Callable[[bytes], str]) -> None:
    port = start("gateway", "--users", backend(b'{"name":"Ada"}'), "--carts", backend(b"[1,2]"))
    assert get(port, "/profile/7") == (200, b'{"user":{"name":"Ada"},"cart":[1,2]}')


@pytest.mark.parametrize(
    ("slow", "status", "said"), [(True, 504, b"too slow"), (False, 502, b"not available")]
)
def test_gateway_says_what_was_wrong_behind_it(
    start: Start,
    backend: Callable[[bytes], str],
    free_port: Callable[[], int],
    slow: bool,
    status: int,
    said: bytes,
) -> None:
    carts = backend(b"") if slow else f"http://127.0.0.1:{free_port()}"
    answer = get(start("gateway", "--users", backend(b"{}"), "--carts", carts), "/profile/7")
    assert answer[0] == status
    assert answer[1].startswith(said)


def test_gateway_does_not_take_a_refusal_for_a_cart(start: Start, backend: Callable[..., str]) -> None:
    carts = backend(b"busy", b"503 Service Unavailable")  # found by: windlass sim gateway --faults storm
    answer = get(start("gateway", "--users", backend(b"{}"), "--carts", carts), "/profile/7")
    assert answer == (502, b"not available: statuses 200 and 503\n")


def post(port: int, target: str) -> tuple[int, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS_MAX)
    client.request("POST", target)
    response = client.getresponse()
    body = response.read()
    client.close()
    return response.status, body


def test_counter_counts_and_caches(start: Start, redis_server: RedisServer) -> None:
    port = start("counter", "--redis", redis_server.url)
    assert get(port, "/hits/page") == (200, b"0\n")
    assert [post(port, "/hits/page")[1] for _ in range(3)] == [b"1\n", b"2\n", b"3\n"]
    assert get(port, "/hits/page") == (200, b"3\n")
    assert get(port, "/cached/b") == get(port, "/cached/b") == (200, b"the answer about b is 98\n")


def test_counter_without_its_store(start: Start, free_port: Callable[[], int]) -> None:
    port = start("counter", "--redis", f"redis://127.0.0.1:{free_port()}")
    assert post(port, "/hits/page")[0] == get(port, "/hits/page")[0] == 503
    assert get(port, "/cached/b") == (200, b"the answer about b is 98\n")


def test_cache_aside_sets_up_and_serves(
    start: Start, redis_server: RedisServer, postgres_server: Server
) -> None:
    urls = ("--redis", redis_server.url, "--database", postgres_server.url)
    port = start("cache_aside", "--setup", *urls)
    assert get(port, "/products/8") == (200, b'{"name":"buoy","cents":4550}')
    assert get(port, "/products/8") == (200, b'{"name":"buoy","cents":4550}')
