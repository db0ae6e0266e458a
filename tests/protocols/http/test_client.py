"""The client's units: what is made of them, what is refused, redirects, and servers that others wrote."""

from __future__ import annotations

import http.server
import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import Channel, ChannelClosed, Loop, TcpAddress
from actors.testing import ManualKernel
from pools import BackendDown, DeadlineExceeded
from protocols import http as windlass
from protocols.http.client.units import parse_url
from tests.protocols.http.benches import HttpBench, body_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def sent(unit: Any, url: str = "http://192.0.2.7") -> bytes:
    """What a backend gets of a unit."""
    bench = HttpBench(url)
    bench.open(unit)
    return bench.got()


# -- requests


@pytest.mark.parametrize(
    ("unit", "line", "rest"),
    [
        (windlass.get("/x?y=z"), b"GET /x?y=z", b"\r\n"),
        (windlass.head("/"), b"HEAD /", b"\r\n"),
        (windlass.options("*"), b"OPTIONS *", b"\r\n"),
        (windlass.delete("/"), b"DELETE /", b"\r\n"),
        (windlass.post("/", body=b"ab"), b"POST /", b"Content-Length: 2\r\n\r\nab"),
        (windlass.post("/"), b"POST /", b"Content-Length: 0\r\n\r\n"),
        (windlass.put("/", body=b"ab"), b"PUT /", b"Content-Length: 2\r\n\r\nab"),
        (windlass.patch("/", body=bytearray(b"ab")), b"PATCH /", b"Content-Length: 2\r\n\r\nab"),  # type: ignore[arg-type]
        (windlass.request("MKCOL", "/"), b"MKCOL /", b"\r\n"),
        (windlass.stream("PUT", "/", body=b"ab"), b"PUT /", b"Content-Length: 2\r\n\r\nab"),
        (
            windlass.post("/", json={"a": 1}),
            b"POST /",
            b'Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}',
        ),
        (
            windlass.put("/", json=None, headers={"content-type": "text/x"}),
            b"PUT /",
            b"content-type: text/x\r\nContent-Length: 4\r\n\r\nnull",
        ),
        (
            windlass.patch("/", json=[], headers=windlass.Headers({"A": "b"})),
            b"PATCH /",
            b"A: b\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
        ),
    ],
)
def test_a_unit_is_sent_as_a_request(unit: Any, line: bytes, rest: bytes) -> None:
    assert sent(unit) == line + b" HTTP/1.1\r\nHost: 192.0.2.7\r\n" + rest


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://192.0.2.7:8080", b"192.0.2.7:8080"),
        ("http://[2001:db8::1]", b"[2001:db8::1]"),
        ("http://[2001:db8::1]:81/", b"[2001:db8::1]:81"),
        ("unix:/run/app.sock", b"localhost"),
    ],
)
def test_the_backend_is_named(url: str, host: bytes) -> None:
    assert b"\r\nHost: " + host + b"\r\n" in sent(windlass.get("/"), url)


def test_a_host_may_be_given_and_framing_may_not() -> None:
    unit = windlass.post(
        "/",
        headers={
            "Host": "other",
            "Content-Length": "99",
            "Transfer-Encoding": "chunked",
            "Connection": "close, X-Mine",
            "X-Mine": "1",
            "Upgrade": "x",
        },
        body=b"ab",
    )
    assert sent(unit) == b"POST / HTTP/1.1\r\nHost: other\r\nContent-Length: 2\r\n\r\nab"


def test_which_may_be_sent_twice() -> None:
    channel: Channel[bytes] = Channel(16, weigh=len)
    for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "POST", "PATCH", "MKCOL", "get"):
        unit = windlass.request(method, "/")
        assert unit.idempotent is unit.pipelinable is (method not in ("POST", "PATCH", "MKCOL", "get"))
    assert not windlass.put("/", body=channel).idempotent
    assert repr(unit) == "<Fetch get />"
    assert repr(windlass.stream("GET", "/x")) == "<Stream GET /x>"


@pytest.mark.parametrize("text", ["\r", "\n", "\r\nX: y", "\0", "\x7f", "\u0100"])
def test_nothing_can_be_injected(text: str) -> None:
    for attempt in (
        lambda: windlass.get(f"/{text}"),
        lambda: windlass.request(f"GET{text}", "/"),
        lambda: windlass.get("/", headers={"X": f"a{text}b"}),
        lambda: windlass.get("/", headers={f"X{text}": "a"}),
        lambda: windlass.get("/", headers=[("Host", f"a{text}")]),
    ):
        with pytest.raises(ValueError, match=r"."):
            attempt()


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: windlass.get("x"),
        lambda: windlass.get(""),
        lambda: windlass.get("http://a/"),
        lambda: windlass.get("/a b"),
        lambda: windlass.get("/caf\xe9"),
        lambda: windlass.get("/#x"),
        lambda: windlass.request("", "/"),
        lambda: windlass.request("G T", "/"),
        lambda: windlass.request("CONNECT", "/"),
        lambda: windlass.get("/", headers=[("Host", "a"), ("host", "b")]),
        lambda: windlass.post("/", body=b"x", json=1),
        lambda: windlass.post("/", body=b"x", length=1),
        lambda: windlass.post("/", body=Channel(16, weigh=len), length=-1),
    ],
)
def test_what_cannot_be_sent_is_refused_where_it_is_made(attempt: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        attempt()


@pytest.mark.parametrize("body", ["text", 5, ["a"], None])
def test_a_body_is_bytes_or_a_channel(body: Any) -> None:
    with pytest.raises(TypeError, match="bytes or a channel"):
        windlass.post("/", body=body)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a:80",
        "ftp://a",
        "http://",
        "http:///x",
        "http://a/path",
        "http://a?x",
        "http://a#x",
        "http://u@a",
        "http://u:p@a",
        "http://a:99999",
        "http://a:0",
        "http://[::1",
        "http://u:geheim@[::1",
        "http://u:geheim@caf\u2100",
        "http://u:ge/heim@a:81/x",
        "geheim@a",
        "http://a:b",
        "http://a b",
        "http://caf\xe9",
        "https://",
        "unix:",
    ],
)
def test_a_url_that_is_none_for_a_backend(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as told:
        windlass.pool(url)
    assert "heim" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("http://a:81/path", "http://a:81"),
        ("http://u:geheim@a:81", "http://a:81"),
        ("https://u@[::1]:81/?x#y", "https://[::1]:81"),
    ],
)
def test_what_is_proposed_instead_keeps_the_port(url: str, meant: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"write {meant}") + "$"):
        windlass.pool(url)


def test_a_zone_is_this_hosts_own_business() -> None:
    """RFC 6874 section 4."""
    for url in ("http://[fe80::1%25lo]:81", "http://[fe80::1%lo]:81"):
        backend, host = parse_url(url)
        assert str(backend.address) == "[fe80::1%lo]:81"
        assert host == b"Host: [fe80::1]:81\r\n"
        assert backend.server_hostname == "fe80::1"


@pytest.mark.parametrize("url", ["http://[fe80::1%25lo]:81", "http://[fe80::1%lo]:81"])
def test_a_zone_is_this_machines_affair(url: str) -> None:
    backend, host = parse_url(url)
    assert backend.address == TcpAddress("fe80::1%lo", 81)
    assert (backend.server_hostname, host) == ("fe80::1", b"Host: [fe80::1]:81\r\n")


def test_https_brings_a_context_and_a_name() -> None:
    backend, host = parse_url("https://example.com")
    assert backend.tls is not None
    assert backend.tls.verify_mode == ssl.CERT_REQUIRED
    assert (backend.server_hostname, host) == ("example.com", b"Host: example.com\r\n")
    assert str(backend.address) == "example.com:443"
    own = ssl.create_default_context()
    assert parse_url("https://example.com", own)[0].tls is own
    assert parse_url("http://example.com", own)[0].tls is None


# -- redirects


def followed(unit: Any, *answers: bytes, **options: Any) -> tuple[Any, list[bytes]]:
    """Follow redirects, and what each request was."""
    bench = HttpBench("http://192.0.2.7:81")
    reply = bench.loop.spawn(windlass.follow(bench.pool, unit, **options))
    bench.accept()
    requests = []
    for answer in answers:
        requests.append(bench.got())
        bench.say(answer)
    return reply, requests


def redirect(status: int, location: str) -> bytes:
    return f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")


@pytest.mark.parametrize(
    ("unit", "status", "method", "body"),
    [
        (windlass.get("/a/b"), 301, b"GET", b""),
        (windlass.get("/a/b"), 308, b"GET", b""),
        (windlass.head("/a/b"), 303, b"HEAD", b""),
        (windlass.post("/a/b", json=1), 301, b"GET", b""),
        (windlass.post("/a/b", json=1), 302, b"GET", b""),
        (windlass.put("/a/b", json=1), 303, b"GET", b""),
        (windlass.put("/a/b", json=1), 302, b"PUT", b"1"),
        (windlass.post("/a/b", json=1), 307, b"POST", b"1"),
        (windlass.post("/a/b", json=1), 308, b"POST", b"1"),
    ],
)
def test_a_redirect_is_followed(unit: Any, status: int, method: bytes, body: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    reply, requests = followed(unit, redirect(status, "c?d=e#f"), answer)
    assert reply.result().status == 200
    assert requests[1].startswith(method + b" /a/c?d=e HTTP/1.1\r\n")
    assert requests[1].endswith(b"\r\n\r\n" + body)
    assert (b"Content-Type" in requests[1]) is bool(body)


def test_redirects_to_the_same_backend_by_its_full_name() -> None:
    reply, requests = followed(
        windlass.get("/a"), redirect(302, "http://192.0.2.7:81/b"), redirect(302, "/c"), OK
    )
    assert reply.result().body == b"ok"
    assert [request.split(b" ")[1] for request in requests] == [b"/a", b"/b", b"/c"]


@pytest.mark.parametrize(
    "location",
    [
        "http://192.0.2.7/b",
        "https://192.0.2.7:81/b",
        "http://192.0.2.8:81/b",
        "//192.0.2.8/b",
        "http://192.0.2.7:x/b",
        "//192.0.2.7/b",
        "//caf\xe9:81/b",
        "http://[x/b",
        "http://[x]/b",
        "/a b",
    ],
)
def test_a_redirect_elsewhere_is_an_error(location: str) -> None:
    reply, _ = followed(windlass.get("/a"), redirect(302, location))
    with pytest.raises(windlass.BadResponse, match="a redirect leads"):
        reply.result()


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("//192.0.2.7:81/b", b"/b"),
        ("//192.0.2.7:81", b"/"),
        ("c", b"/a/c"),
        ("?x", b"/a/b?x"),
        ("../../c", b"/c"),
        ("/next?\xc3\xa9", b"/next?%C3%A9"),
        ("caf\xe9#\xe9", b"/a/caf%E9"),
        ("http://192.0.2.7:81/\xff", b"/%FF"),
    ],
)
def test_a_redirect_is_a_reference(location: str, target: bytes) -> None:
    """RFC 3986 section 5.2.2. The scheme of one without is that of what it is relative to."""
    reply, requests = followed(windlass.get("/a/b"), redirect(302, location), OK)
    assert reply.result().body == b"ok"
    assert requests[1].split(b" ")[1] == target


def test_a_path_with_two_slashes_names_no_host() -> None:
    reply, requests = followed(windlass.get("//a/b"), redirect(302, "c"), redirect(302, "/d"), OK)
    assert reply.result().body == b"ok"
    assert [request.split(b" ")[1].lstrip(b"/") for request in requests] == [b"a/b", b"a/c", b"d"]


def test_redirects_end() -> None:
    reply, requests = followed(windlass.get("/a"), *[redirect(302, "/a")] * 3, redirects=2)
    with pytest.raises(windlass.BadResponse, match="more than 2 redirects"):
        reply.result()
    assert len(requests) == 3
    reply, _ = followed(windlass.get("/a"), b"HTTP/1.1 302 X\r\nContent-Length: 0\r\n\r\n")
    assert reply.result().status == 302


def test_a_redirect_cannot_ask_again_for_what_came_from_a_channel() -> None:
    channel: Channel[bytes] = Channel(16, weigh=len)
    channel.put(b"ab")
    channel.close()
    reply, _ = followed(windlass.post("/", body=channel), redirect(307, "/b"))
    with pytest.raises(windlass.BadResponse, match="channel"):
        reply.result()


def test_whoever_feeds_a_request_that_is_never_sent_is_told() -> None:
    kernel = ManualKernel()
    with Loop(kernel=kernel) as loop:
        pool = loop.spawn(windlass.pool("http://127.0.0.1:1"))
        channel: Channel[bytes] = Channel(2)

        async def feed() -> str:
            try:
                while True:
                    await channel.send(b"x")
            except ChannelClosed:
                return "told"

        fed = loop.spawn(feed())
        reply = pool.submit(windlass.post("/", body=channel), timeout=0.5)
        loop.tick(0)
        kernel.clock.advance(1.0)
        loop.tick(0)
        loop.tick(0)
        assert isinstance(reply.error, DeadlineExceeded)
        assert fed.result() == "told"


# -- servers that others have written


class Handler(http.server.BaseHTTPRequestHandler):
    """The standard library's server: says what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Whatever the method."""
        length = int(self.headers.get("Content-Length") or 0)
        told = {"method": self.command, "path": self.path, "body": self.rfile.read(length).decode()}
        data = json.dumps(told).encode()
        self.send_response(200)
        if self.path == "/until-close":
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.do_GET
        raise AttributeError(name)

    def log_message(self, *arguments: object) -> None:
        """Not here."""


class OldHandler(Handler):
    """HTTP/1.0: every connection for one request."""

    protocol_version = "HTTP/1.0"


class Standard(http.server.ThreadingHTTPServer):
    """Its connections end with it."""

    daemon_threads = True

    def handle_error(self, *arguments: object) -> None:
        """A client that goes is none."""


@pytest.fixture(params=[Handler, OldHandler], ids=["HTTP/1.1", "HTTP/1.0"])
def standard(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a running one."""
    server = Standard(("127.0.0.1", 0), request.param)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


def test_every_method_against_the_standard_library(standard: str, loop: Loop) -> None:
    pool = loop.spawn(windlass.pool(standard, connections=2))
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        for body in (b"", b"some body"):
            answer = loop.run_until(pool.submit(windlass.request(method, "/x?y", body=body)))
            assert answer.json() == {"method": method, "path": "/x?y", "body": body.decode()}
    head = loop.run_until(pool.submit(windlass.head("/")))
    assert int(head.headers.get("content-length") or 0) > 0
    assert head.body == b""
    assert loop.run_until(pool.submit(windlass.get("/until-close"))).json()["path"] == "/until-close"
    channel: Channel[bytes] = Channel(16, weigh=len)
    channel.put(b"from a channel")
    channel.close()
    reply = pool.submit(windlass.post("/", body=channel, length=14))
    assert loop.run_until(reply).json()["body"] == "from a channel"


def test_many_at_once_against_nginx(nginx_backend: Any, loop: Loop) -> None:
    (nginx_backend.files / "large").write_bytes(bytes(range(256)) * 8192)
    pool = loop.spawn(windlass.pool(nginx_backend.url, connections=2, pipeline=64))
    replies = [pool.submit(windlass.get("/")) for _ in range(500)]
    for reply in replies:
        assert loop.run_until(reply).text() == "nginx says hello\n"
    assert pool.statistics().connections <= 2
    part = loop.run_until(pool.submit(windlass.get("/files/large", headers={"Range": "bytes=256-511"})))
    assert (part.status, part.body) == (206, bytes(range(256)))
    etag = part.headers.get("etag")
    assert etag is not None
    unchanged = loop.run_until(pool.submit(windlass.get("/files/large", headers={"If-None-Match": etag})))
    assert (unchanged.status, unchanged.body) == (304, b"")
    assert loop.run_until(pool.submit(windlass.get("/files/none"))).status == 404


def test_a_large_file_from_nginx_as_a_stream(nginx_backend: Any, loop: Loop) -> None:
    data = bytes(range(256)) * 16384
    (nginx_backend.files / "stream").write_bytes(data)
    pool = loop.spawn(windlass.pool(nginx_backend.url))

    async def read() -> bytes:
        response = await pool.submit(windlass.stream("GET", "/files/stream"))
        assert repr(response).startswith("<StreamedResponse 200 <Channel ")
        return b"".join([piece async for piece in response.body])

    assert loop.run_until(loop.spawn(read())) == data
    assert pool.statistics().backends[0].idle == 1


def test_a_unix_socket(loop: Loop, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/http.sock"
    loop.spawn(windlass.server(address, lambda request: windlass.text_response(request.target)))
    pool = loop.spawn(windlass.pool(address))
    assert loop.run_until(pool.submit(windlass.get("/by/path"))).text() == "/by/path"


def test_https_with_a_context_of_ones_own(
    loop: Loop, tmp_path: Path, require_program: Callable[[str, str], str]
) -> None:
    openssl = require_program("openssl", "apt-get install openssl")
    certificate, key = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = "-addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [openssl, *command.split(), *names.split(), "-out", certificate, "-keyout", key],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    body = bytes(range(256)) * 4000
    server = loop.spawn(
        windlass.server("127.0.0.1:0", lambda request: windlass.Response(body=body), tls=context)
    )
    url = f"https://{server.address}"
    trusting = loop.spawn(windlass.pool(url, tls=ssl.create_default_context(cafile=certificate)))
    for _ in range(2):
        assert loop.run_until(trusting.submit(windlass.get("/"))).body == body
    assert trusting.statistics().opened == 1
    doubting = loop.spawn(windlass.pool(url))
    with pytest.raises(BackendDown, match="certificate"):
        loop.run_until(doubting.submit(windlass.get("/")))


def test_nobody_listens(loop: Loop, free_port: Callable[[], int]) -> None:
    pool = loop.spawn(windlass.pool(f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(BackendDown):
        loop.run_until(pool.submit(windlass.get("/")))


def test_a_body_that_is_there_already_can_be_streamed(loop: Loop) -> None:
    server = loop.spawn(windlass.server("127.0.0.1:0", lambda request: windlass.text_response("small")))
    pool = loop.spawn(windlass.pool(f"http://{server.address}"))
    response = loop.run_until(pool.submit(windlass.stream("GET", "/")))
    assert body_of(response.body) == b"small"


def test_a_server_that_says_nothing_and_closes(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pool = loop.spawn(windlass.pool(f"http://127.0.0.1:{listener.getsockname()[1]}", attempts=1))
        reply = pool.submit(windlass.get("/"))
        loop.tick(0)
        listener.accept()[0].close()
        with pytest.raises(Exception, match="lost"):
            loop.run_until(reply)
