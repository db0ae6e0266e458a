"""The proxy on real sockets: WebSockets by an independent implementation, nginx behind it, Unix sockets."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wsproto
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request, TextMessage

from actors import Loop
from protocols import http
from tests.protocols.http.harness import Client, until

SECONDS_MAX = 60.0


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


def in_thread(loop: Loop, talk: Callable[[], None]) -> None:
    """Run the test's blocking sockets beside the loop; what they raise is raised here."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            talk()
        except BaseException as error:
            failed.append(error)
        finally:
            loop.notifier.wake(0)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        loop.tick(0.05)
    thread.join()
    if failed:
        raise failed[0]


class Peer:
    """One end of a WebSocket: `wsproto` on a blocking socket."""

    def __init__(self, sock: socket.socket, kind: wsproto.ConnectionType) -> None:
        sock.settimeout(SECONDS_MAX)
        self.sock = sock
        self.socket = wsproto.WSConnection(kind)
        self.parts: list[Any] = []
        self._events: Iterator[Any] = iter(())

    def send(self, event: Any) -> None:
        """Say something."""
        self.sock.sendall(self.socket.send(event))

    def receive(self) -> Any:
        """The next event."""
        while True:
            for event in self._events:
                return event
            data = self.sock.recv(65536)
            self.socket.receive_data(data or None)
            self._events = self.socket.events()

    def message(self) -> Any:
        """A whole message, which may come in parts."""
        parts = []
        while True:
            event = self.receive()
            parts.append(event.data)
            if event.message_finished:
                return type(event.data)().join(parts)


def websocket_backend(listener: socket.socket) -> None:
    """Accepts one WebSocket, sends back what it gets, and answers the closing."""
    sock = listener.accept()[0]
    with sock:
        peer = Peer(sock, wsproto.ConnectionType.SERVER)
        request = peer.receive()
        assert isinstance(request, Request)
        assert request.target == "/chat"
        peer.send(AcceptConnection(subprotocol=request.subprotocols[0]))
        while True:
            event = peer.receive()
            if isinstance(event, CloseConnection):
                peer.send(event.response())
                return
            peer.send(type(event)(event.data, event.frame_finished, event.message_finished))


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_a_websocket_through_the_proxy(loop: Loop, size: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SECONDS_MAX)
        pool = loop.spawn(http.pool(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        server = loop.spawn(http.server("127.0.0.1:0", http.proxy(pool)))
        backend = threading.Thread(target=websocket_backend, args=(listener,))
        backend.start()

        def talk() -> None:
            with socket.create_connection((server.address.host, server.address.port)) as sock:
                peer = Peer(sock, wsproto.ConnectionType.CLIENT)
                peer.send(Request(host="a", target="/chat", subprotocols=["echo"]))
                accepted = peer.receive()
                assert isinstance(accepted, AcceptConnection)
                assert accepted.subprotocol == "echo"
                peer.send(TextMessage("hello"))
                assert peer.message() == "hello"
                data = bytes(range(256)) * (size // 256 + 1)
                sender = threading.Thread(target=peer.send, args=(BytesMessage(data),))
                sender.start()
                assert peer.message() == data
                sender.join()
                peer.send(CloseConnection(code=1000))
                assert isinstance(peer.receive(), CloseConnection)

        in_thread(loop, talk)
        backend.join()
        loop.tick(0.05)
        while pool.statistics().connections or server.connections:
            loop.tick(1.0)


def test_nginx_behind_the_proxy(nginx_backend: Any, loop: Loop) -> None:
    data = bytes(range(256)) * 40_000
    (nginx_backend.files / "proxied").write_bytes(data)
    pool = loop.spawn(http.pool(nginx_backend.url, connections=2, pipeline=8))
    server = loop.spawn(http.server("127.0.0.1:0", http.proxy(pool)))
    client = loop.spawn(http.pool(f"http://{server.address}", limits=http.Limits(body_bytes=None)))
    answer = loop.run_until(client.submit(http.get("/files/proxied")))
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(data).digest()
    assert answer.headers.get("via") == "1.1 windlass"
    head = loop.run_until(client.submit(http.head("/files/proxied")))
    assert head.headers.get("content-length") == str(len(data))
    part = loop.run_until(client.submit(http.get("/files/proxied", headers={"Range": "bytes=5-9"})))
    assert (part.status, part.body) == (206, data[5:10])
    for _ in range(50):
        assert loop.run_until(client.submit(http.get("/"))).text() == "nginx says hello\n"


def test_unix_sockets_on_both_sides_tell_no_address(loop: Loop, tmp_path: Path) -> None:
    def tell(request: http.Request) -> http.Response:
        return http.json_response(dict(request.headers))

    backend, front = f"unix:{tmp_path}/backend", f"unix:{tmp_path}/front"
    loop.spawn(http.server(backend, tell))
    loop.spawn(http.server(front, http.proxy(loop.spawn(http.pool(backend)), trusted=["127.0.0.0/8"])))
    client = loop.spawn(http.pool(front))
    told = loop.run_until(client.submit(http.get("/", headers={"X-Forwarded-For": "9.9.9.9"}))).json()
    assert told["X-Forwarded-For"] == "unknown"
    assert told["Forwarded"] == "for=unknown;proto=http;host=localhost"


def test_a_client_by_ipv6_is_quoted(loop: Loop) -> None:
    if not socket.has_ipv6:
        pytest.skip("needs IPv6")

    def tell(request: http.Request) -> http.Response:
        return http.json_response(dict(request.headers))

    backend = loop.spawn(http.server("127.0.0.1:0", tell))
    proxy = http.proxy(loop.spawn(http.pool(f"http://{backend.address}")))
    try:
        server = loop.spawn(http.server("[::1]:0", proxy))
    except OSError:
        pytest.skip("has no ::1")
    client = loop.spawn(http.pool(f"http://[::1]:{server.address.port}"))
    told = loop.run_until(client.submit(http.get("/"))).json()
    assert told["X-Forwarded-For"] == "::1"
    assert told["Forwarded"].startswith('for="[::1]";proto=http;host="[::1]:')


def test_a_port_alone_serves_ipv6_and_ipv4_and_a_client_has_one_form(loop: Loop) -> None:
    seen: list[str | None] = []

    def note(request: http.Request) -> http.Response:
        seen.append(request.headers.get("x-forwarded-for"))
        return http.text_response("ok")

    backend = loop.spawn(http.server("127.0.0.1:0", note))
    reader, writer = os.pipe()
    log = loop.spawn(http.AccessLog(writer))
    proxy = http.proxy(loop.spawn(http.pool(f"http://{backend.address}")), trusted=["127.0.0.0/8", "::1"])
    server = loop.spawn(http.server(":0", proxy, access_log=log))
    hosts = ["127.0.0.1", *(["::1"] if socket.has_ipv6 and server.address.host == "::" else [])]
    for host in hosts:
        client = Client(loop, socket.create_connection((host, server.address.port)))
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n")
        assert client.answer().status == 200
        client.close()
    assert seen == [f"9.9.9.9, {host}" for host in hosts]
    loop.close()
    lines = os.read(reader, 1 << 16).decode().splitlines()
    assert [line.partition(" ")[0] for line in lines] == hosts
    os.close(reader)
    os.close(writer)


def test_chunks_of_a_backend_with_white_space_about_them_are_framed_anew(loop: Loop) -> None:
    """RFC 9112 section 7.1.1 and RFC 9110 section 5.6.3; a folded field is unfolded (RFC 9112 section
    5.2)."""
    listener = socket.create_server(("127.0.0.1", 0))
    pool = loop.spawn(http.pool(f"http://127.0.0.1:{listener.getsockname()[1]}"))
    server = loop.spawn(http.server("127.0.0.1:0", http.proxy(pool)))
    head = b"HTTP/1.1 200 OK\r\nX-Folded: one\r\n\t two\r\nTransfer-Encoding: chunked\r\n\r\n"
    backend: socket.socket | None = None
    for size in (b"5  ", b"5 ;a=b", b"5 ; a = b", b"5"):
        client = Client(loop, socket.create_connection(("127.0.0.1", server.address.port)))
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        if backend is None:
            until(loop, lambda: pool.statistics().connections == 1)
            backend = listener.accept()[0]
        until(loop, lambda: pool.statistics().in_flight == 1)
        assert backend.recv(65536)
        backend.sendall(head + size + b"\r\nhello\r\n0\r\n\r\n")
        answer = client.answer()
        assert (answer.status, answer.body) == (200, b"hello")
        assert (answer.headers.get("x-folded") or "").split() == ["one", "two"]
        assert b"\r\n5\r\nhello\r\n0\r\n\r\n" in client.received
        client.close()
    assert backend is not None
    backend.close()
    listener.close()
