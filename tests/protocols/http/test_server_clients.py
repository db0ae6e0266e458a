"""The server against clients that others wrote, and over what is not plain TCP."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from actors import Channel, Loop
from protocols import http as windlass
from tests.protocols.http.harness import Served, get, read_answers

RequireProgram = Callable[[str, str], str]


def handler(request: windlass.Request) -> Any:
    if request.path == "/stream":
        channel: Channel[bytes] = Channel(16)
        for piece in (b"one ", b"two ", b"three"):
            channel.put(piece)
        channel.close()
        return windlass.StreamingResponse(200, {}, channel)
    if request.path == "/nothing":
        return windlass.Response(204)
    return windlass.json_response(
        {
            "method": request.method,
            "target": request.target,
            "size": len(request.body),
            "host": request.headers.get("host"),
        }
    )


@contextmanager
def in_a_thread(address: str = "127.0.0.1:0", **options: Any) -> Iterator[Any]:
    """A server that other programs can talk to while the test waits for them."""
    loop = Loop()
    server = loop.spawn(windlass.server(address, handler, **options))
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        loop.stop()
        thread.join(10)
        loop.close()


def test_http_client() -> None:
    with in_a_thread() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=10)
        for body in (b"", b"x" * 100_000, iter([b"abc", b"def"])):
            connection.request("PUT", "/put?a=b", body=body, encode_chunked=not isinstance(body, bytes))
            answer = json.loads(connection.getresponse().read())
            assert answer["target"] == "/put?a=b"
            assert answer["size"] == (len(body) if isinstance(body, bytes) else 6)
        connection.request("HEAD", "/")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"")
        assert int(response.headers["Content-Length"]) > 0
        connection.request("GET", "/stream")
        assert connection.getresponse().read() == b"one two three"
        connection.request("GET", "/nothing")
        assert connection.getresponse().status == 204
        connection.close()


class TestCurl:
    @pytest.fixture
    def curl(self, require_program: RequireProgram) -> Callable[..., str]:
        program = require_program("curl", "apt-get install curl")

        def run(*arguments: str) -> str:
            done = subprocess.run(
                [program, "-sS", "--noproxy", "*", "--max-time", "10", *arguments],
                capture_output=True,
                check=True,
                text=True,
            )
            return done.stdout

        return run

    def test_requests(self, curl: Callable[..., str], tmp_path: Path) -> None:
        upload = tmp_path / "upload"
        upload.write_bytes(b"x" * 200_000)
        with in_a_thread() as server:
            url = f"http://127.0.0.1:{server.address.port}"
            assert json.loads(curl(f"{url}/a?b"))["target"] == "/a?b"
            assert json.loads(curl("-T", str(upload), f"{url}/a"))["size"] == 200_000
            assert json.loads(curl("-H", "Expect: 100-continue", "-d", f"@{upload}", url))["size"] == 200_000
            chunked = curl("-H", "Transfer-Encoding: chunked", "-d", f"@{upload}", url)
            assert json.loads(chunked)["size"] == 200_000
            assert curl(f"{url}/stream") == "one two three"
            assert curl("--http1.0", f"{url}/stream") == "one two three"
            assert curl("-I", url).startswith("HTTP/1.1 200 OK")
            counted = curl("-o", "/dev/null", "-o", "/dev/null", "-w", "%{num_connects} ", url, url)
            assert counted == "1 0 "

    def test_unix_socket(self, curl: Callable[..., str], tmp_path: Path) -> None:
        path = tmp_path / "s"
        with in_a_thread(f"unix:{path}"):
            assert json.loads(curl("--unix-socket", str(path), "http://x/a"))["host"] == "x"
        assert not path.exists()


def test_unix_socket(tmp_path: Path) -> None:
    with Served(handler, f"unix:{tmp_path / 's'}") as served:
        client = served.connect().send(get() + b"nonsense\r\n\r\n")
        assert [answer.status for answer in client.to_the_end()] == [200, 400]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.conftest import require_program_or_skip

    openssl = require_program_or_skip("openssl", "apt-get install openssl")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    line = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made = [openssl, *line.split(), *names, "-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    subprocess.run(made, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_tls(certificate: Path) -> None:
    with in_a_thread(tls=server_context(certificate)) as server:
        context = ssl.create_default_context(cafile=str(certificate.with_suffix(".crt")))
        connection = http.client.HTTPSConnection(
            "localhost", server.address.port, timeout=10, context=context
        )
        connection.sock = context.wrap_socket(
            socket.create_connection(("127.0.0.1", server.address.port)),
            server_hostname="localhost",
        )
        for size in (0, 10, 300_000):
            connection.request("POST", "/x", body=b"x" * size)
            assert json.loads(connection.getresponse().read())["size"] == size
        connection.request("GET", "/stream")
        assert connection.getresponse().read() == b"one two three"
        connection.request("GET", "/x", headers={"Connection": "close"})
        assert connection.getresponse().status == 200
        connection.close()


def test_tls_refusal_reaches_the_client(certificate: Path) -> None:
    with in_a_thread(tls=server_context(certificate)) as server:
        context = ssl.create_default_context(cafile=str(certificate.with_suffix(".crt")))
        with (
            socket.create_connection(("127.0.0.1", server.address.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            sock.sendall(b"nonsense\r\n\r\n" + b"x" * 50_000)
            received = b""
            while data := sock.recv(65536):
                received += data
        assert [answer.status for answer in read_answers(received)] == [400]
