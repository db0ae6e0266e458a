"""TLS: real handshakes over real sockets and over ciphertext cut at every point, failures that say why."""

from __future__ import annotations

import socket
import ssl
import subprocess
from typing import ClassVar

import pytest
from structlog.testing import capture_logs

from actors import (
    ANYTHING,
    SLEEP,
    UNCHANGED,
    Connector,
    Continue,
    Flush,
    Listener,
    Loop,
    Stop,
    StreamProtocol,
    TcpAddress,
    Timeout,
    TlsStream,
    UnixAddress,
)
from actors.net.tls_session import TlsSession
from actors.testing import FakeSocket, ManualKernel, run_until

BODY = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture(scope="module")
def certificate(tmp_path_factory, require_program):
    """A self-made certificate for `localhost`, as (certificate file, key file)."""
    openssl = require_program("openssl", "apt-get install openssl")
    folder = tmp_path_factory.mktemp("tls")
    files = str(folder / "certificate.pem"), str(folder / "key.pem")
    subprocess.run(
        f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        f" -subj /CN=localhost -addext subjectAltName=DNS:localhost"
        f" -out {files[0]} -keyout {files[1]}".split(),
        check=True,
        capture_output=True,
    )
    return files


@pytest.fixture
def server(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.set_alpn_protocols(["http/1.1"])
    return context


@pytest.fixture
def client(certificate):
    context = ssl.create_default_context(cafile=certificate[0])
    context.set_alpn_protocols(["http/1.1", "other"])
    return context


@pytest.fixture
def loop():
    with Loop() as loop:
        yield loop


class Echo(StreamProtocol):
    """Sends back what comes, and its end."""

    streams: ClassVar[list] = []

    def __init__(self):
        self.error = "running"

    def connected(self, transport):
        Echo.streams.append(transport)
        return Continue(self, ANYTHING)

    def received(self, transport):
        transport.write(transport.take(len(transport.input)))
        return Continue(self, ANYTHING)

    def stopped(self, transport, error):
        self.error = error


class Collect(StreamProtocol):
    """Sends a body and its end, collects what comes back."""

    def __init__(self, body=b"", end=True):
        self.body, self.end, self.got, self.stream = body, end, bytearray(), None
        self.error, self.log = "running", []

    def connected(self, transport):
        self.log.append("connected")
        self.stream = transport
        for start in range(0, len(self.body), 70_000):
            transport.write(self.body[start : start + 70_000])
        if self.end:
            transport.end()
        return Continue(self, (ANYTHING, Flush(0)))

    def flushed(self, transport):
        self.log.append("flushed")
        return UNCHANGED

    def received(self, transport):
        self.got += transport.take(len(transport.input))
        return Continue(self, ANYTHING)

    def wakeup(self, transport):
        self.log.append("wakeup")
        return UNCHANGED

    def ended(self, transport):
        self.log.append("ended")
        return Stop()

    def stopped(self, transport, error):
        self.error = error


def connect(loop, address, context, protocol, **options):
    token = loop.spawn(
        Connector(
            TcpAddress("127.0.0.1", address.port),
            protocol,
            tls=context,
            **{"server_hostname": "localhost", **options},
        )
    )
    run_until(loop, lambda: protocol.error != "running")
    return token


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("body", [b"", b"hello", BODY], ids=["empty", "small", "1 MiB"])
def test_bodies_go_both_ways(loop, server, client, version, body):
    client.maximum_version = version
    server.maximum_version = version
    Echo.streams.clear()
    listener = loop.spawn(Listener("127.0.0.1:0", Echo, tls=server))
    protocol = Collect(body)
    with capture_logs() as logs:
        connect(loop, listener.address, client, protocol)
    assert protocol.error is None
    assert bytes(protocol.got) == body
    assert [log for log in logs if log["log_level"] != "info"] == []
    assert protocol.stream.alpn == "http/1.1"
    assert protocol.stream.version == version.name.replace("v1_", "v1.")
    assert protocol.stream.peer_certificate["subject"] == ((("commonName", "localhost"),),)
    assert not protocol.stream.cut_off
    run_until(loop, lambda: listener.connections == 0)
    assert not Echo.streams[0].cut_off
    assert Echo.streams[0].peer_certificate is None or Echo.streams[0].peer_certificate == {}


@pytest.mark.parametrize(
    ("names", "trusted", "reason"),
    [
        ({"server_hostname": "elsewhere.example"}, True, "Hostname mismatch"),
        ({}, False, "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_a_certificate_that_does_not_fit_is_refused_and_both_sides_say_why(
    loop, server, client, names, trusted, reason
):
    listener = loop.spawn(Listener("127.0.0.1:0", Echo, tls=server))
    protocol = Collect(b"secret")
    with capture_logs() as logs:
        connect(
            loop, listener.address, client if trusted else ssl.create_default_context(), protocol, **names
        )
        run_until(loop, lambda: listener.connections == 0)
    assert isinstance(protocol.error, ssl.SSLCertVerificationError)
    assert reason in str(protocol.error)
    failures = [log for log in logs if log["event"] == "TLS handshake failed"]
    assert {log["side"] for log in failures} == {"client", "server"}
    assert protocol.log == []


def test_a_plain_client_is_told_apart(loop, server):
    listener = loop.spawn(Listener("127.0.0.1:0", Echo, tls=server))
    with capture_logs() as logs, socket.create_connection(("127.0.0.1", listener.address.port)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        run_until(loop, lambda: listener.statistics().accepted and not listener.connections)
    assert "HTTP_REQUEST" in next(log["error"] for log in logs if log["event"] == "TLS handshake failed")


def test_a_client_that_leaves_during_the_handshake(loop, server):
    listener = loop.spawn(Listener("127.0.0.1:0", Echo, tls=server))
    with capture_logs() as logs:
        socket.create_connection(("127.0.0.1", listener.address.port)).close()
        run_until(loop, lambda: listener.statistics().accepted and not listener.connections)
    assert any("during the TLS handshake" in log.get("error", "") for log in logs)


def test_a_context_that_wants_a_name_does_not_leak_the_connection(loop, client, tmp_path):
    listener = loop.spawn(Listener(UnixAddress(str(tmp_path / "socket")), Echo))
    protocol = Collect()
    with capture_logs(), pytest.raises(ValueError, match="server_hostname"):
        loop.spawn(Connector(listener.address, protocol, tls=client))
    assert isinstance(protocol.error, ValueError)
    run_until(loop, lambda: listener.statistics().accepted and not listener.connections)


# -- by hand: an in-memory wire between a stream and an `ssl` object ---------------------------------------


class Wire:
    """A TlsStream on a fake socket, and its peer played by `ssl`; ciphertext goes in pieces of `step`."""

    def __init__(self, protocol, server_context, client_context, step=None, stream_is_client=False):
        self.protocol = protocol
        self.kernel = ManualKernel()
        self.loop = Loop(kernel=self.kernel)
        self.socket = FakeSocket(self.kernel)
        self.step = step
        self.stream = TlsStream(
            self.socket,
            protocol,
            context=client_context if stream_is_client else server_context,
            server_side=not stream_is_client,
            server_hostname="localhost" if stream_is_client else None,
        )
        self.to_peer, self.from_peer = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = server_context if stream_is_client else client_context
        self.peer = context.wrap_bio(
            self.to_peer, self.from_peer, stream_is_client, None if stream_is_client else "localhost"
        )
        self.token = self.loop.spawn(self.stream)

    def carry(self):
        """Move ciphertext both ways until there is none."""
        while True:
            for _ in range(4):
                self.loop.tick(0)
            there, back = self.socket.delivered(), self.from_peer.read()
            if not there and not back:
                return
            self.to_peer.write(there)
            step = self.step or max(1, len(back))
            for start in range(0, len(back), step):
                self.socket.arrive(back[start : start + step])
                self.loop.tick(0)

    def shake(self):
        for _ in range(4):
            try:
                self.peer.do_handshake()
            except ssl.SSLWantReadError:
                self.carry()
            else:
                break
        self.carry()

    def peer_reads(self):
        got = bytearray()
        try:
            while piece := self.peer.read(1 << 16):
                got += piece
        except ssl.SSLWantReadError:
            pass
        return bytes(got)


@pytest.mark.parametrize("step", [1, 2, 7, None])
@pytest.mark.parametrize("stream_is_client", [False, True])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_ciphertext_may_be_cut_anywhere(server, client, step, stream_is_client, version):
    client.maximum_version = server.maximum_version = version
    wire = Wire(Echo(), server, client, step, stream_is_client)
    wire.shake()
    wire.peer.write(b"ping" * 1000)
    wire.carry()
    assert wire.peer_reads() == b"ping" * 1000
    wire.peer.write(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        wire.peer.unwrap()
    wire.carry()
    assert wire.protocol.error is None
    assert not wire.stream.cut_off
    wire.loop.close()


def test_small_pieces_share_a_record_and_sealing_is_bounded(server, client):
    wire = Wire(Collect(end=False), server, client)
    wire.shake()
    wire.socket.delivered()
    for _ in range(500):
        wire.stream.write(b"0123456789")
    wire.loop.tick(0)
    sent = wire.socket.delivered()
    assert len(sent) < 5000 + 100
    wire.to_peer.write(sent)
    assert wire.peer_reads() == b"0123456789" * 500
    wire.socket.room = 0
    wire.stream.write(BODY)
    wire.loop.tick(0)
    assert wire.stream.unsent == len(BODY)
    assert len(wire.stream._cipher[0]) < 70_000
    log = wire.protocol.log
    assert log.count("flushed") == 1
    wire.protocol.answer = None
    got = bytearray()
    for _ in range(2000):
        wire.socket.room = 30_000
        wire.loop.tick(0)
        wire.to_peer.write(wire.socket.delivered())
        got += wire.peer_reads()
        if not wire.stream.unsent:
            break
    assert bytes(got) == BODY
    wire.loop.close()


def test_a_byte_is_unsent_until_its_record_has_left(server, client):
    wire = Wire(Collect(end=False), server, client)
    wire.shake()
    wire.socket.room = 10
    wire.stream.write(b"")
    wire.stream.write(b"x" * 100)
    wire.loop.tick(0)
    assert wire.stream.unsent == 100
    cipher = wire.socket.delivered()
    while wire.stream.unsent:
        wire.socket.room = 10
        wire.loop.tick(0)
        cipher += wire.socket.delivered()
    wire.to_peer.write(cipher)
    assert wire.peer_reads() == b"x" * 100
    wire.stream.write(b"")
    wire.loop.tick(0)
    assert wire.loop.alive(wire.token)
    wire.loop.close()


def test_lingering_ends_with_a_word_too(server, client):
    class Refuse(Collect):
        def received(self, transport):
            transport.write(b"refused")
            transport.linger = True
            return Stop()

    wire = Wire(Refuse(end=False), server, client)
    wire.shake()
    wire.peer.write(b"too long" * 100)
    wire.carry()
    wire.peer.write(b"and on")
    wire.carry()
    assert wire.peer.read(100) == b"refused"
    assert wire.peer.read(100) == b"", "close_notify, not a cut"
    assert wire.protocol.error is None
    wire.kernel.clock.advance(5)
    wire.loop.tick(0)
    assert wire.socket.closed


def test_data_comes_in_after_this_side_has_ended(server, client):
    wire = Wire(Collect(b"request"), server, client)
    wire.shake()
    assert wire.peer_reads() == b"request"
    assert wire.socket.ended_here
    wire.peer.write(b"answer" * 5000)
    wire.carry()
    assert bytes(wire.protocol.got) == b"answer" * 5000
    wire.loop.close()


def test_an_end_without_a_word_is_marked(server, client):
    wire = Wire(Collect(end=False), server, client)
    wire.shake()
    wire.peer.write(b"half of")
    wire.carry()
    wire.socket.end()
    wire.loop.tick(0)
    assert wire.stream.cut_off
    assert wire.protocol.log[-1] == "ended"
    assert bytes(wire.protocol.got) == b"half of"


def test_ciphertext_that_was_tampered_with_stops_the_stream(server, client):
    wire = Wire(Collect(end=False), server, client)
    wire.shake()
    wire.peer.write(b"good")
    bad = bytearray(wire.from_peer.read())
    bad[-1] ^= 1
    wire.socket.arrive(bytes(bad))
    wire.loop.tick(0)
    assert isinstance(wire.protocol.error, ssl.SSLError)
    assert wire.socket.delivered()  # the alert
    assert wire.protocol.got == b""


def test_the_handshake_has_a_deadline_and_wakeups_wait_for_it(server, client):
    wire = Wire(Collect(), server, client)
    wire.loop.wake(wire.token)
    wire.loop.tick(0)
    assert wire.protocol.log == []
    assert wire.loop.next_deadline == 1010.0
    wire.kernel.clock.advance(10)
    with capture_logs() as logs:
        wire.loop.tick(0)
    assert isinstance(wire.protocol.error, TimeoutError)
    assert [log["event"] for log in logs] == ["TLS handshake failed"]
    woken = Wire(Collect(), server, client)
    woken.loop.wake(woken.token)
    woken.shake()
    assert woken.protocol.log[0] == "connected"
    assert "wakeup" in woken.protocol.log
    (scope,) = [scope for scope in woken.loop.living() if scope.token == woken.token]
    assert scope.deadline == float("inf")


def test_draining_and_the_deadline_of_the_protocol(server, client):
    early = Wire(Collect(), server, client)
    early.loop.drain()
    early.loop.tick(0)
    assert early.protocol.error is None

    class Impatient(Collect):
        def connected(self, transport):
            super().connected(transport)
            return Timeout(self, transport.scope.now + 3, SLEEP)

    wire = Wire(Impatient(end=False), server, client)
    wire.shake()
    wire.kernel.clock.advance(3)
    wire.loop.tick(0)
    assert isinstance(wire.protocol.error, TimeoutError)
    late = Wire(Collect(end=False), server, client)
    late.shake()
    late.loop.drain()
    late.loop.tick(0)
    assert late.protocol.error is None


@pytest.mark.parametrize("stays", [False, True])
def test_a_patient_drain_waits_for_the_handshake(server, client, stays):
    class Asked(Collect):
        def draining(self, transport):
            self.log.append("draining")
            return UNCHANGED if stays else Stop()

    wire = Wire(Asked(end=False), server, client)
    wire.loop.drain(patience=1.0)
    wire.loop.tick(0)
    assert wire.protocol.log == []
    wire.shake()
    assert wire.protocol.log[:2] == ["connected", "draining"]
    assert wire.loop.alive(wire.token) is stays
    wire.loop.close()


def test_a_send_that_fails_during_the_handshake_or_later(server, client):
    wire = Wire(Collect(), server, client, stream_is_client=True)
    wire.socket.ended_here = True
    wire.socket.end()
    with capture_logs():
        for _ in range(3):
            wire.loop.tick(0)
    assert isinstance(wire.protocol.error, OSError)
    assert not wire.loop.alive(wire.token)
    wire.stream.write(b"late")
    wire.loop.tick(0)
    wire = Wire(Collect(end=False), server, client)
    wire.shake()
    wire.socket.ended_here = True
    wire.peer.write(b"early answer")
    wire.socket.arrive(wire.from_peer.read())
    wire.stream.write(b"request")
    wire.loop.tick(0)
    wire.loop.tick(0)
    assert bytes(wire.protocol.got) == b"early answer"


def test_a_handshake_that_cannot_be_sent_ends_at_once(server, client):
    wire = Wire(Collect(), server, client, stream_is_client=True)
    wire.socket.ended_here = True
    with capture_logs():
        for _ in range(3):
            wire.loop.tick(0)
    assert isinstance(wire.protocol.error, OSError)
    assert not wire.loop.alive(wire.token)


def test_events_that_mean_nothing_and_a_connection_that_is_reset(server, client):
    wire = Wire(Collect(end=False), server, client)
    assert wire.stream.ready(wire.stream.scope, 1) is UNCHANGED
    wire.shake()
    wire.socket.room = 5
    wire.stream.write(b"x" * 100)
    wire.loop.tick(0)
    wire.socket.room = None
    wire.loop.tick(0)
    assert wire.stream.unsent == 0
    wire.socket.reset()
    wire.loop.tick(0)
    assert isinstance(wire.protocol.error, OSError)
    assert wire.socket.closed


# -- bytes in, bytes out -------------------------------------------------------------------------------------


def exchange(one, other, step):
    """Carry what two sessions have to say, `step` bytes at a time; what each has decrypted."""
    opened = {one: b"", other: b""}
    while one.has_output or other.has_output:
        for sender, receiver in ((one, other), (other, one)):
            data = sender.take()
            for start in range(0, len(data), step):
                receiver.feed(data[start : start + step])
                if receiver.shake_hands():
                    plain, _, wrong = receiver.open()
                    assert wrong is None
                    opened[receiver] += plain
    return opened


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_two_sessions_talk_however_their_bytes_are_cut(server, client, step, version):
    client.maximum_version = server.maximum_version = version
    one = TlsSession(client, server_hostname="localhost")
    other = TlsSession(server, server_side=True)
    assert not one.shake_hands()
    exchange(one, other, step)
    assert one.established
    assert other.established
    assert one.alpn == "http/1.1"
    assert one.peer_certificate_bytes
    assert not other.peer_certificate_bytes
    assert one.seal(b"x" * 100_000) == 100_000
    assert other.seal(b"y") == 1
    assert exchange(one, other, step) == {one: b"y", other: b"x" * 100_000}
    one.end()
    one.end()
    other.feed(one.take())
    assert other.open() == (b"", True, None)
    assert repr(one) == f"<TlsSession {one.version}, ended>"


def test_a_session_ends_with_what_is_not_tls(server, client):
    one = TlsSession(client, server_hostname="localhost")
    one.shake_hands()
    one.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ssl.SSLError):
        one.shake_hands()
    one.end()
    assert not one.ended, "there is nothing to end before the handshake"


def test_a_session_of_a_client_that_verifies_must_know_a_name(client):
    with pytest.raises(ValueError, match="server_hostname"):
        TlsSession(client).shake_hands()
