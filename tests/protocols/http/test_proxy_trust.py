"""What a client or a backend says and must not reach the other side as if the proxy had said it; and in which
form the proxy says it."""

from __future__ import annotations

from typing import Any

import pytest

from protocols import http
from protocols.http.codec.bodies import body_decoder
from protocols.http.codec.errors import BadRequest
from protocols.http.codec.head import CHUNKED
from protocols.http.codec.limits import DEFAULT_LIMITS
from tests.protocols.http.benches import Client, HttpBench, ProxyBench

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TRUSTING = {"trusted": ["192.0.2.0/24"]}


def unchunked(data: bytes) -> tuple[bytes, list[tuple[str, str]]]:
    """A chunked body and its trailers, as they are on the wire."""
    pieces: list[bytes] = []
    decoder = body_decoder(CHUNKED, DEFAULT_LIMITS, BadRequest)
    assert decoder.feed(data, 0, pieces) == len(data)
    assert decoder.done
    return b"".join(pieces), list(decoder.trailers)


@pytest.mark.parametrize("options", [{}, TRUSTING], ids=["stranger", "trusted"])
@pytest.mark.parametrize(
    "name",
    [
        b"X_Forwarded_For",
        b"X-Forwarded_Proto",
        b"x_forwarded-host",
        b"X.Forwarded.For",
        b"Keep_Alive",
        b"Proxy_Connection",
        b"Transfer.Encoding",
    ],
)
def test_no_spelling_of_what_the_proxy_says_itself_comes_through(name: bytes, options: Any) -> None:
    """CGI, and with it WSGI, reads an underscore and a hyphen alike."""
    bench = ProxyBench(proxy=options)
    bench.ask(b"GET / HTTP/1.1\r\nHost: a\r\n%b: 6.6.6.6\r\nX_Other-Thing: 1\r\n\r\n" % name)
    sent = bench.got()
    assert b"6.6.6.6" not in sent
    assert b"X_Other-Thing: 1\r\n" in sent


@pytest.mark.parametrize(
    "name",
    [
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "x-forwarded-ssl",
        "X-Forwarded_User",
        "X-Real-IP",
        "X_Real_Ip",
    ],
)
def test_a_strangers_word_about_forwarding_is_not_passed_on_whatever_it_tells(name: str) -> None:
    """Frameworks behind a proxy believe these, too; a trusted proxy's are passed on as they are."""
    asked = b"GET / HTTP/1.1\r\nHost: a\r\n%b: 6.6.6.6\r\nX-Forwarding: 1\r\n\r\n" % name.encode()
    bench = ProxyBench()
    bench.ask(asked)
    sent = bench.got()
    assert b"6.6.6.6" not in sent
    assert b"X-Forwarding: 1\r\n" in sent
    trusting = ProxyBench(proxy=TRUSTING)
    trusting.ask(asked)
    assert b"%b: 6.6.6.6\r\n" % name.encode() in trusting.got()


TRAILERS = (
    b"X-Hop: 1\r\nX-Fine: 2\r\nContent_Length: 3\r\nContent.Type: x\r\nX_Forwarded_For: 6.6.6.6\r\n"
    b"X-Forwarded_Port: 7\r\nContent-Length: 4\r\n"
)


def test_trailers_that_may_not_travel_on_do_not() -> None:
    """Those that Connection lists (RFC 9110 section 7.6.1), and those that come too late (section 6.5.1)."""
    for gather in (0, 1 << 20):
        bench = ProxyBench(proxy={"gather": gather})
        client = bench.ask(
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
        )
        bench.tell(client, b"0\r\n" + TRAILERS + b"\r\n")
        bench.accept()
        assert unchunked(bench.got().partition(b"\r\n\r\n")[2]) == (b"a", [("X-Fine", "2")])
        bench.say(
            b"HTTP/1.1 200 OK\r\nConnection: x-hop\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n"
            + TRAILERS
            + b"\r\n"
        )
        assert unchunked(bench.heard(client).partition(b"\r\n\r\n")[2]) == (b"b", [("X-Fine", "2")])


class Mapped(Client):
    """A client by IPv4, as a listener on `[::]` sees it."""

    name = "::ffff:192.0.2.1"

    def getpeername(self) -> Any:
        return (self.name, 1, 0, 0)


class Zoned(Mapped):
    """One of this link."""

    name = "fe80::1%eth0"


def forwarded_by(kind: type[Client], **options: Any) -> bytes:
    bench = ProxyBench(**options)
    client = kind(bench.kernel)
    bench.listener.backlog.append(client)
    bench.run()
    bench.tell(client, b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n")
    bench.accept()
    return bench.got()


@pytest.mark.parametrize("network", ["192.0.2.0/24", "::ffff:192.0.2.0/120", "192.0.2.1"])
def test_a_client_by_ipv4_is_the_same_on_any_listener(network: str) -> None:
    for kind in (Client, Mapped):
        sent = forwarded_by(kind, proxy={"trusted": [network]})
        assert b"X-Forwarded-For: 9.9.9.9, 192.0.2.1\r\n" in sent
        assert b"Forwarded: for=192.0.2.1;" in sent
    assert b"9.9.9.9" not in forwarded_by(Mapped)
    assert b"9.9.9.9" not in forwarded_by(Mapped, proxy={"trusted": ["2001:db8::/32"]})


def test_a_zone_is_told_to_nobody() -> None:
    sent = forwarded_by(Zoned, proxy={"trusted": ["fe80::/10"]})
    assert b"X-Forwarded-For: 9.9.9.9, fe80::1\r\n" in sent
    assert b'Forwarded: for="[fe80::1]";' in sent


def test_what_must_be_upgraded_to_is_passed_on() -> None:
    """RFC 9110 section 15.5.22."""
    for lines in (b"Connection: Upgrade\r\n", b"", b"Connection: close, upgrade\r\n"):
        bench = ProxyBench()
        client = bench.ask(GET)
        bench.say(
            b"HTTP/1.1 426 Upgrade Required\r\n" + lines + b"Upgrade: a/1, b\r\nContent-Length: 0\r\n\r\n"
        )
        answer = bench.heard(client)
        assert answer.count(b"Connection: upgrade\r\nUpgrade: a/1, b\r\n") == 1
        assert answer.count(b"pgrade:") == 1
        assert not client.closed
        bench.tell(client, GET)
        bench.accept()
        bench.say(OK.replace(b"Content", b"Upgrade: a/1\r\nContent"))
        assert b"pgrade" not in bench.heard(client)


# -- what a backend says


@pytest.mark.parametrize("step", [0, 1000])
def test_interim_answers_without_end_are_no_answer(step: int) -> None:
    bench = ProxyBench()
    client = bench.client()
    client.room = 0
    bench.tell(client, GET)
    bench.accept()
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 8000 + b"\r\n\r\n"
    for _ in range(100):
        bench.say(hint, step=step)
    assert bench.sockets[0].closed
    client.room = None
    answer = bench.heard(client)
    assert answer.count(b"HTTP/1.1 103 ") == 64
    assert b"HTTP/1.1 502 " in answer
    assert bench.add_up()


def test_interim_answers_are_counted_by_request() -> None:
    bench = HttpBench(pipeline=4, connections=1)
    for _ in range(3):
        replies = [bench.open(http.get("/")) for _ in range(4)]
        for reply in replies:
            bench.say(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 60)
            bench.say(OK)
            assert reply.result().body == b"ok"
    assert len(bench.sockets) == 1
    reply = bench.open(http.get("/"))
    reply.cancel()
    bench.say(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 65)
    assert bench.sockets[0].closed


BAD_CHUNKS = [b"x\r\n", b"-1\r\n", b"5\nhello", b"1\r\nab\r\n", b"\r\n"]


@pytest.mark.parametrize("chunk", BAD_CHUNKS)
def test_a_bad_first_chunk_is_a_bad_gateway(chunk: bytes) -> None:
    for _ in range(2):
        bench = ProxyBench()
        client = bench.ask(GET)
        bench.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
        assert bench.heard(client).startswith(b"HTTP/1.1 502 ")
        assert not client.closed
        assert bench.sockets[0].closed
        assert bench.add_up()


def test_a_head_does_not_wait_for_its_body() -> None:
    bench = ProxyBench()
    client = bench.ask(GET)
    bench.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert bench.heard(client).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("said", "unused_until"),
    [(b"timeout=5", 4.0), (b"max=3, Timeout=2", 1.0), (b"timeout = 1", 0.5), (b"timeout=0", 0.0)],
)
def test_an_idle_connection_is_not_used_when_its_backend_is_about_to_close_it(
    said: bytes, unused_until: float
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nKeep-Alive: %b\r\nContent-Length: 2\r\n\r\nok" % said
    bench = HttpBench(connections=2)
    for _ in range(2):  # two connections, each of which hears it for the first time
        first, second = bench.open(http.get("/")), bench.open(http.get("/"))
        for index in range(len(bench.sockets)):
            if not bench.sockets[index].closed:
                bench.say(answer, index)
        assert first.result().body == second.result().body == b"ok"
        if unused_until:
            bench.advance(unused_until - 0.1)
            assert bench.idle == 2
        bench.advance(0.2)
        assert bench.idle == 0
        assert all(sock.closed for sock in bench.sockets)


def test_nothing_said_of_how_long_it_is_kept() -> None:
    for line in (b"Keep-Alive: max=5", b"Keep-Alive: nonsense", b"X-Keep-Alive: timeout=5", b"Keep-Alive:"):
        bench = HttpBench()
        reply = bench.open(http.get("/"))
        bench.say(b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 2\r\n\r\nok" % line)
        assert reply.result().body == b"ok"
        bench.advance(100.0)
        assert bench.idle == 1


def test_a_warm_connection_is_renewed_before_its_backend_closes_it() -> None:
    bench = HttpBench(warm=1)
    reply = bench.open(http.get("/"))
    bench.say(b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok")
    assert reply.result().body == b"ok"
    bench.advance(4.1)
    bench.accept()
    assert [sock.closed for sock in bench.sockets] == [True, False]
    assert bench.idle == 1


def test_a_backend_that_speaks_tls_is_told_apart() -> None:
    bench = HttpBench()
    reply = bench.open(http.get("/"))
    bench.say(b"\x15\x03\x03\x00\x02\x02\x50")
    assert isinstance(reply.error, http.BadResponse)
    assert "192.0.2.7:80 speaks TLS" in str(reply.error)
    assert "write https://192.0.2.7:80" in str(reply.error)


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 2\r\n\r\nhi", b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"]
)
def test_content_of_a_205_is_not_taken_for_the_next_answer(framing: bytes) -> None:
    """There may be none (RFC 9110 section 15.3.6); what there is ends here."""
    bench = ProxyBench()
    client = bench.ask(GET)
    for _ in range(2):  # the second time its head is known
        bench.say(b"HTTP/1.1 205 Reset Content\r\n" + framing)
        answer = bench.heard(client)
        assert answer.startswith(b"HTTP/1.1 205 ")
        assert answer.endswith(b"\r\n\r\n")
        assert answer.count(b"Content-Length: 0\r\n") == 1
        bench.tell(client, GET)
    bench.say(OK)
    assert bench.heard(client).startswith(b"HTTP/1.1 200 ")
