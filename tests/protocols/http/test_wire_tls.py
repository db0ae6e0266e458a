"""Backends by TLS that really are there: how a body that lasts until the close may end (RFC 9112 section
9.8), and what is said of a port that does not speak TLS and of a certificate that nobody vouches for."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from actors import Loop
from pools import BackendDown, ConnectionLost
from protocols import http
from tests.conftest import require_program_or_skip
from tests.protocols.http.harness import Client, QuietLog

UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nthe whole"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 with its key, in one file."""
    openssl = require_program_or_skip("openssl", "apt-get install openssl")
    path = tmp_path_factory.mktemp("backend") / "both.pem"
    line = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    key = path.with_suffix(".key")
    made = [openssl, *line.split(), *names, "-keyout", str(key), "-out", str(path)]
    subprocess.run(made, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as running:
        running.log = QuietLog()
        yield running


@contextmanager
def backend(certificate: Path | None, answer: bytes, *, notify: bool = False) -> Iterator[int]:
    """Sends this to everybody who asks, and closes the connection: with TLS's close_notify, or without a
    word."""
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                sock = listener.accept()[0]
            except OSError:
                return
            sock.settimeout(10.0)
            with suppress(OSError), sock:
                secured = sock if context is None else context.wrap_socket(sock, server_side=True)
                with secured:
                    if not secured.recv(65536):
                        continue
                    secured.sendall(answer)
                    if notify and isinstance(secured, ssl.SSLSocket):
                        secured.unwrap()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


@pytest.mark.parametrize("notify", [True, False])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_body_until_the_close_is_whole_only_if_the_close_was_said(
    loop: Loop, certificate: Path, streamed: bool, notify: bool
) -> None:
    with backend(certificate, UNTIL_CLOSE, notify=notify) as port:
        pool = loop.spawn(http.pool(f"https://127.0.0.1:{port}", tls=trusting(certificate)))

        async def body() -> bytes:
            if not streamed:
                return (await pool.submit(http.get("/"))).body
            response = await pool.submit(http.stream("GET", "/"))
            return b"".join([piece async for piece in response.body])

        if notify:
            assert loop.run_until(loop.spawn(body())) == b"the whole"
        else:
            with pytest.raises(ConnectionLost) as told:
                loop.run_until(loop.spawn(body()))
            assert "without close_notify" in f"{told.value} {told.value.__cause__}"
        loop.kill(pool.token)
        loop.tick(0)


def test_a_body_with_a_length_needs_no_such_word(loop: Loop, certificate: Path) -> None:
    for answer in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ):
        with backend(certificate, answer) as port:
            pool = loop.spawn(http.pool(f"https://127.0.0.1:{port}", tls=trusting(certificate)))
            assert loop.run_until(pool.submit(http.get("/"))).body == b"ok"
            loop.kill(pool.token)
            loop.tick(0)


@pytest.mark.parametrize("notify", [True, False])
def test_a_proxy_resets_the_client_of_such_a_body(loop: Loop, certificate: Path, notify: bool) -> None:
    with backend(certificate, UNTIL_CLOSE, notify=notify) as port:
        pool = loop.spawn(http.pool(f"https://127.0.0.1:{port}", tls=trusting(certificate)))
        server = loop.spawn(http.server("127.0.0.1:0", http.proxy(pool)))
        address = server.address
        assert hasattr(address, "port")
        client = Client(loop, socket.create_connection(("127.0.0.1", address.port)))
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        client.until(lambda: client.closed is not None)
        assert client.received.endswith(b"0\r\n\r\n") is notify
        assert client.closed == ("fin" if notify else "reset")
        client.close()
        for token in (server.token, pool.token):
            loop.kill(token)
        loop.tick(0)


def test_a_port_that_does_not_speak_tls_and_was_asked_to(loop: Loop, certificate: Path) -> None:
    with backend(None, b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        pool = loop.spawn(http.pool(f"https://127.0.0.1:{port}", tls=trusting(certificate)))
        with pytest.raises(BackendDown, match="does not speak TLS"):
            loop.run_until(pool.submit(http.get("/")))
        loop.kill(pool.token)
        loop.tick(0)


def test_a_certificate_that_nobody_vouches_for(loop: Loop, certificate: Path) -> None:
    with backend(certificate, b"") as port:
        pool = loop.spawn(http.pool(f"https://127.0.0.1:{port}"))
        with pytest.raises(BackendDown, match=r"certificate is not trusted.*cafile"):
            loop.run_until(pool.submit(http.get("/")))
        loop.kill(pool.token)
        loop.tick(0)
