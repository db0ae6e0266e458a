"""Listeners and connectors: on the manual kernel where time matters, on real sockets elsewhere."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from actors import (
    ANYTHING,
    UNCHANGED,
    Connector,
    Continue,
    Listener,
    Loop,
    Machine,
    ResolveError,
    Stop,
    Stream,
    StreamProtocol,
    SystemKernel,
    TcpAddress,
    UnixAddress,
    parse_address,
)
from actors.kernel import READABLE, WRITABLE, SelectorsPoller, Waker
from actors.net.listeners import ACCEPTS_MAX, PAUSE_SECONDS
from actors.testing import FakeSocket, ManualKernel, run_until


class Server(StreamProtocol):
    def received(self, transport):
        transport.write(b"got " + transport.take(99))
        return Stop()


class Client(StreamProtocol):
    def __init__(self):
        self.log = []

    def connected(self, transport):
        self.log.append(("connected", transport.scope.token))
        transport.write(b"hi")
        return Continue(self, ANYTHING)

    def received(self, transport):
        self.log.append(transport.take(99))
        return UNCHANGED

    def stopped(self, transport, error):
        self.log.append(("stopped", error))


def scope_of(loop, token):
    (scope,) = [scope for scope in loop.living() if scope.token == token]
    return scope


@pytest.fixture
def manual():
    with Loop(kernel=ManualKernel()) as loop:
        yield loop


@pytest.fixture
def loop():
    with Loop() as loop:
        yield loop


def knock(loop, listener_socket, count=1):
    peers = [FakeSocket(loop.kernel) for _ in range(count)]
    listener_socket.backlog.extend(peers)
    return peers


# -- listeners ---------------------------------------------------------------------------------------------


def test_a_listener_accepts_up_to_its_cap_and_goes_on_when_one_has_ended(manual):
    listener = manual.spawn(Listener("127.0.0.1:80", Server, connections_max=2))
    listening = manual.kernel.sockets[0]
    with capture_logs() as logs:
        peers = knock(manual, listening, 3)
        manual.tick(0)
        manual.tick(0)
    assert listener.connections == 2
    assert repr(listener) == "<Listener 127.0.0.1:80 paused, 2/2 connections>"
    assert [log["reason"] for log in logs] == ["connection limit reached"]
    manual.wake(listener.token)
    manual.tick(0)
    assert listener.connections == 2
    peers[0].end()
    manual.tick(0)
    manual.tick(0)
    assert len(listening.backlog) == 0
    assert peers[0].closed
    statistics = listener.statistics()
    assert (statistics.connections, statistics.accepted, statistics.pauses) == (2, 3, 2)
    with pytest.raises(ValueError, match="write 1 or more"):
        Listener("127.0.0.1:80", Server, connections_max=0)


def test_a_flood_of_connections_leaves_room_for_those_that_are_there(manual):
    listener = manual.spawn(Listener("127.0.0.1:80", Server))
    knock(manual, manual.kernel.sockets[0], ACCEPTS_MAX + 5)
    manual.tick(0)
    assert listener.connections == ACCEPTS_MAX
    manual.tick(0)
    assert listener.connections == ACCEPTS_MAX + 5


def test_out_of_descriptors_pauses_and_resumes(manual):
    listener = manual.spawn(Listener("127.0.0.1:80", Server))
    listening = manual.kernel.sockets[0]
    listening.backlog.append(OSError(errno.ECONNABORTED, "left while it waited"))
    listening.backlog.append(OSError(errno.EMFILE, "too many"))
    peer = knock(manual, listening)[0]
    with capture_logs() as logs:
        manual.tick(0)
        manual.tick(0)
    assert listener.connections == 0
    assert [log["event"] for log in logs] == ["listener paused"]
    assert manual.next_deadline == 1000.0 + PAUSE_SECONDS
    manual.kernel.clock.advance(PAUSE_SECONDS)
    manual.tick(0)
    manual.tick(0)
    assert listener.connections == 1
    assert not peer.closed


EMFILE_PROGRAM = """
import resource, socket, sys
from actors import ANYTHING, Continue, Listener, Loop, Stop, StreamProtocol
from actors.testing import run_until
class Echo(StreamProtocol):
    def received(self, transport):
        transport.write(transport.take(9))
        return Stop()
loop = Loop()
listener = loop.spawn(Listener("127.0.0.1:0", Echo))
clients = [socket.create_connection(("127.0.0.1", listener.address.port)) for _ in range(5)]
soft = len(__import__("os").listdir("/proc/self/fd")) + 1
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
run_until(loop, lambda: listener.statistics().pauses)
accepted = listener.connections
for client in clients:
    client.sendall(b"x")
got = []
for client in clients:
    client.setblocking(False)
def heard(client):
    try:
        return client.recv(9) == b"x"
    except BlockingIOError:
        return False
def progress():
    for client in list(clients):
        if heard(client):
            got.append(1)
            clients.remove(client)
            client.close()
    return not clients
run_until(loop, progress)
print(accepted, len(got))
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_emfile_is_survived():
    done = subprocess.run(
        [sys.executable, "-c", EMFILE_PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines()[-1:] != [], done.stderr
    accepted, answered = done.stdout.splitlines()[-1].split()
    assert int(accepted) < 5
    assert answered == "5"


def test_a_full_loop_refuses_connections_and_goes_on():
    with Loop(kernel=ManualKernel(), slots=2) as loop:
        listener = loop.spawn(Listener("127.0.0.1:80", Server))
        with capture_logs() as logs:
            first, second = knock(loop, loop.kernel.sockets[0], 2)
            loop.tick(0)
        assert listener.connections == 1
        assert second.closed
        assert logs[0]["event"] == "connection refused: the loop is full"
        first.end()
        loop.tick(0)
        assert listener.connections == 0


@pytest.mark.parametrize("where", ["factory", "connected"])
def test_a_protocol_that_fails_at_once_costs_only_its_connection(manual, where):
    class Broken(Server):
        def __init__(self):
            if where == "factory":
                raise ValueError("a bug")

        def connected(self, transport):
            raise ValueError("a bug")

    listener = manual.spawn(Listener("127.0.0.1:80", Broken))
    with capture_logs() as logs:
        peer = knock(manual, manual.kernel.sockets[0])[0]
        manual.tick(0)
    assert peer.closed
    assert listener.connections == 0
    assert manual.alive(listener.token)
    assert logs[0]["event"] == "connection refused by its protocol"


def test_draining_stops_the_listener_and_asks_its_connections(manual):
    class Polite(Server):
        def draining(self, transport):
            transport.write(b"bye")
            return Stop()

    listener = manual.spawn(Listener("127.0.0.1:80", Polite))
    peer = knock(manual, manual.kernel.sockets[0])[0]
    manual.tick(0)
    manual.drain()
    manual.run()
    assert peer.delivered() == b"bye"
    assert peer.closed
    assert manual.kernel.sockets[0].closed
    assert repr(listener) == "<Listener 127.0.0.1:80 closed, 0/10000 connections>"
    assert listener.statistics().address == "127.0.0.1:80"


def test_a_busy_port_says_what_to_do(loop):
    first = loop.spawn(Listener("127.0.0.1:0", Server))
    with pytest.raises(OSError, match="in use by another program; choose another port"):
        loop.spawn(Listener(first.address, Server))
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:1"):
        loop.spawn(Listener("192.0.2.1:1", Server))
    assert loop.machines == 1
    again = loop.spawn(Listener("localhost:0", Server, reuse_port=True))
    assert again.address.port > 0


def test_unix_sockets_replace_a_stale_file_but_not_a_live_one(loop, tmp_path):
    path = str(tmp_path / "app.sock")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    listener = loop.spawn(Listener(f"unix:{path}", Server))
    with pytest.raises(OSError, match="in use by another program"):
        loop.spawn(Listener(UnixAddress(path), Server))
    client = Client()
    loop.spawn(Connector(UnixAddress(path), client))
    run_until(loop, lambda: b"got hi" in client.log)
    loop.kill(listener.token)
    assert not os.path.exists(path)
    other = loop.spawn(Listener(f"unix:{path}", Server))
    os.unlink(path)
    loop.kill(other.token)
    (tmp_path / "file").write_text("not a socket")
    with pytest.raises(OSError, match="cannot listen on unix:"):
        loop.spawn(Listener(f"unix:{tmp_path}/file", Server))
    nobody = Client()
    loop.spawn(Connector(UnixAddress(str(tmp_path / "nobody")), nobody))
    assert "cannot connect to unix:" in str(nobody.log[-1][1])


# -- connectors --------------------------------------------------------------------------------------------


def test_a_connector_becomes_the_stream_and_keeps_its_token(loop):
    listener = loop.spawn(Listener("127.0.0.1:0", Server))
    client = Client()
    token = loop.spawn(Connector(listener.address, client))
    run_until(loop, lambda: client.log and client.log[-1] == ("stopped", None))
    assert client.log == [("connected", token), b"got hi", ("stopped", None)]


def test_refused(loop):
    client = Client()
    loop.spawn(Connector(TcpAddress("127.0.0.1", 1), client))
    run_until(loop, lambda: client.log)
    assert client.log[0][1].errno == errno.ECONNREFUSED
    assert "cannot connect to 127.0.0.1:1" in str(client.log[0][1])
    assert loop.machines == 0


def test_connecting_has_a_deadline(manual):
    client = Client()
    token = manual.spawn(Connector(TcpAddress("192.0.2.1", 80), client, timeout=3))
    assert repr(manual.machine(token)).startswith("<Connector connecting to 192.0.2.1:80 for")
    assert manual.next_deadline == 1003.0
    manual.wake(token)
    manual.tick(0)
    assert manual.next_deadline == 1003.0
    manual.kernel.clock.advance(3)
    manual.tick(0)
    assert "192.0.2.1:80 was not connected within 3 s" in str(client.log[0][1])
    assert manual.kernel.sockets[0].closed


def test_several_addresses_share_the_time_and_the_first_that_answers_wins(manual):
    kernel = manual.kernel
    kernel.names["service"] = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]
    kernel.unreachable[TcpAddress("192.0.2.3", 80)] = OSError(errno.ENETUNREACH, "unreachable")
    client = Client()
    token = manual.spawn(Connector(TcpAddress("service", 80), client, timeout=8))
    manual.tick(0)
    manual.tick(0)
    assert manual.next_deadline == 1002.0
    kernel.clock.advance(2)
    manual.tick(0)
    kernel.sockets[1].refuse()
    manual.tick(0)
    assert [str(sock.address) for sock in kernel.sockets] == ["192.0.2.1:80", "192.0.2.2:80", "192.0.2.4:80"]
    kernel.sockets[2].accept_connection()
    manual.tick(0)
    assert client.log == [("connected", token)]
    assert kernel.sockets[2].delivered() == b"hi"
    assert [sock.closed for sock in kernel.sockets] == [True, True, False]
    assert scope_of(manual, token).deadline == float("inf")


def test_the_last_error_is_told_when_every_address_fails(manual):
    manual.kernel.names["service"] = ["192.0.2.1", "192.0.2.2"]
    for host in manual.kernel.names["service"]:
        manual.kernel.unreachable[TcpAddress(host, 80)] = OSError(errno.ENETUNREACH, host)
    client = Client()
    manual.spawn(Connector(TcpAddress("service", 80), client))
    manual.tick(0)
    manual.tick(0)
    assert "192.0.2.2" in str(client.log[0][1])


@pytest.mark.parametrize("answer", [None, [], ResolveError("no such host")])
def test_a_name_that_is_not_resolved(manual, answer):
    manual.kernel.names["service"] = answer
    client = Client()
    token = manual.spawn(Connector(TcpAddress("service", 80), client, timeout=2))
    assert "<Connector resolving service:80" in repr(manual.machine(token))
    manual.tick(0)
    manual.tick(0)
    if answer is None:
        assert client.log == []
        manual.kernel.clock.advance(2)
        manual.tick(0)
        assert "service:80 was not resolved within 2 s" in str(client.log[0][1])
    else:
        assert isinstance(client.log[0][1], OSError)
    assert manual.machines == 0


def test_an_event_of_the_descriptors_former_owner_does_not_connect(manual):
    client = Client()
    token = manual.spawn(Connector(TcpAddress("192.0.2.1", 80), client))
    scope = scope_of(manual, token)
    assert scope.machine.ready(scope, WRITABLE) is UNCHANGED
    assert client.log == []


def test_a_connector_that_is_stopped_tells_its_protocol(manual):
    client = Client()
    token = manual.spawn(Connector(TcpAddress("192.0.2.1", 80), client))
    manual.kill(token)
    assert isinstance(client.log[0][1], ConnectionAbortedError)
    other = Client()
    token = manual.spawn(Connector(TcpAddress("192.0.2.1", 80), other))
    scope = scope_of(manual, token)
    assert isinstance(scope.machine.draining(scope), Stop)
    manual.drain()
    manual.tick(0)
    assert other.log
    assert manual.kernel.descriptors == 1


def test_a_connection_that_another_owns_is_not_asked_to_drain(manual):
    class Owned(Client):
        drain_phase = None

    class Owner(Machine):
        def draining(self, scope):
            return UNCHANGED

    manual.spawn(Owner())
    owned, free = Owned(), Client()
    for protocol in (owned, free):
        manual.spawn(Connector(TcpAddress("192.0.2.1", 80), protocol))
        manual.kernel.sockets[-1].accept_connection()
    manual.tick(0)
    manual.drain()
    manual.tick(0)
    assert free.log[-1] == ("stopped", None)
    assert owned.log[-1][0] == "connected"


def test_names_are_resolved_by_the_system(loop):
    listener = loop.spawn(Listener("127.0.0.1:0", Server))
    client = Client()
    loop.spawn(Connector(TcpAddress("localhost", listener.address.port), client))
    run_until(loop, lambda: b"got hi" in client.log)
    nobody = Client()
    loop.spawn(Connector(TcpAddress("nobody.invalid", 1), nobody))
    run_until(loop, lambda: nobody.log)
    assert isinstance(nobody.log[0][1], ResolveError)


# -- the kernel --------------------------------------------------------------------------------------------


class PortableKernel(SystemKernel):
    """As on a system without epoll."""

    def poller(self):
        return SelectorsPoller()


def test_the_selectors_fallback_serves_too():
    with Loop(kernel=PortableKernel()) as loop:
        listener = loop.spawn(Listener("127.0.0.1:0", Server))
        client = Client()
        loop.spawn(Connector(listener.address, client))
        run_until(loop, lambda: b"got hi" in client.log)
        assert loop.fileno() >= 0
    poller = SelectorsPoller()
    one, two = socket.socketpair()
    poller.register(one.fileno(), 0)
    assert poller.poll(0) == []
    poller.modify(one.fileno(), READABLE | WRITABLE)
    assert poller.poll(-1) == [(one.fileno(), WRITABLE)]
    two.send(b"x")
    assert poller.poll(1) == [(one.fileno(), READABLE | WRITABLE)]
    poller.unregister(one.fileno())
    poller.unregister(one.fileno())
    poller.close()
    one.close()
    two.close()


def test_the_system_kernel_without_epoll(monkeypatch):
    import select

    monkeypatch.delattr(select, "epoll", raising=False)
    poller = SystemKernel().poller()
    assert isinstance(poller, SelectorsPoller)
    poller.close()


def test_a_waker_without_eventfd(monkeypatch):
    monkeypatch.delattr(os, "eventfd", raising=False)
    waker = Waker()
    poller = SelectorsPoller()
    poller.register(waker.fileno(), READABLE)
    waker.clear()
    for _ in range(3):
        waker.wake()
    assert poller.poll(0) == [(waker.fileno(), READABLE)]
    waker.clear()
    assert poller.poll(0) == []
    poller.close()
    waker.close()


def test_what_else_the_system_kernel_gives():
    kernel = SystemKernel(seed=1)
    assert kernel.random().random() == SystemKernel(seed=1).random().random()
    assert kernel.wall_clock() > 1.7e9
    assert kernel.monotonic() <= kernel.monotonic()
    with kernel.temporary_file() as file:
        file.write(b"spilled")
        file.seek(0)
        assert file.read() == b"spilled"
    with pytest.raises(OSError, match=r"cannot connect to 255\.255\.255\.255:1"):
        kernel.connect(TcpAddress("255.255.255.255", 1))


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_ipv6(loop):
    try:
        listener = loop.spawn(Listener("[::1]:0", Server))
    except OSError:
        pytest.skip("no IPv6 address to listen on")
    assert str(listener.address).startswith("[::1]:")
    client = Client()
    loop.spawn(Connector(listener.address, client))
    run_until(loop, lambda: b"got hi" in client.log)


def test_without_ipv6_everywhere_is_everywhere_by_ipv4(monkeypatch):
    monkeypatch.setattr("actors.kernel.has_ipv6", lambda: False)
    for host, where in (("::", "0.0.0.0"), ("127.0.0.1", "127.0.0.1")):
        with SystemKernel().listen(TcpAddress(host, 0)) as sock:
            assert sock.getsockname()[0] == where


def test_nothing_is_left_open():
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with Loop() as loop:
        listener = loop.spawn(Listener("127.0.0.1:0", Server))
        clients = [Client() for _ in range(20)]
        for client in clients:
            loop.spawn(Connector(listener.address, client))
        run_until(loop, lambda: all(b"got hi" in client.log for client in clients[:10]))
    assert all(client.log[-1][0] == "stopped" for client in clients)
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before


def test_the_stream_of_a_tcp_connection_knows_its_peer(loop):
    peers = []

    class Curious(Server):
        def connected(self, transport):
            assert isinstance(transport, Stream)
            peers.extend([transport.peer, transport.peer])
            return super().connected(transport)

    listener = loop.spawn(Listener("127.0.0.1:0", Curious))
    client = Client()
    loop.spawn(Connector(parse_address(str(listener.address)), client))
    run_until(loop, lambda: peers)
    assert peers == ["127.0.0.1", "127.0.0.1"]


# -- a connect that reaches itself -------------------------------------------------------------------------


class OwnPort(SystemKernel):
    """The kernel has chosen the very port that is connected to."""

    def connect(self, address):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address.host, address.port))
        sock.connect((address.host, address.port))
        sock.setblocking(False)
        return sock, self.done


@pytest.mark.parametrize("done", [True, False])
def test_a_connect_that_reaches_itself_is_refused_and_frees_the_port(done):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    kernel = OwnPort()
    kernel.done = done
    with Loop(kernel=kernel) as loop:
        client = Client()
        loop.spawn(Connector(TcpAddress("127.0.0.1", port), client))
        run_until(loop, lambda: client.log)
        ((what, error),) = client.log
        assert what == "stopped"
        assert isinstance(error, ConnectionRefusedError)
        assert "nothing listens there" in str(error)
        with socket.create_server(("127.0.0.1", port)):
            pass
