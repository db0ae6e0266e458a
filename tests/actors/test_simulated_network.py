"""The simulated kernel, held against what Linux does: connecting, buffers, ends, resets; then the faults."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from actors import ERROR, HANGUP, READABLE, WRITABLE, ResolveError, TcpAddress, UnixAddress
from actors.simulation import Host, World

PORT = 80
LINGER_ZERO = struct.pack("ii", 1, 0)


class Net:
    """Two hosts that do nothing by themselves; the test calls their kernels."""

    def __init__(self, buffers: tuple[int, int] = (1000, 1000)) -> None:
        self.world = World(seed=1)
        self.here = self.world.host("here", idle, buffers=buffers, crashes=True)
        self.there = self.world.host("there", idle, buffers=buffers, crashes=True)
        self.listening: Any = self.there.kernel.listen(TcpAddress("there", PORT), backlog=2)

    def pass_time(self, seconds: float = 0.01) -> None:
        self.world.run(seconds)

    def begin(self) -> Any:
        sock, done = self.here.kernel.connect(TcpAddress(self.there.address, PORT))
        assert not done
        return sock

    def pair(self) -> tuple[Any, Any]:
        ours = self.begin()
        self.pass_time()
        theirs, _ = self.listening.accept()
        return ours, theirs


def idle(host: Host) -> None:
    """A program that does nothing."""


@pytest.fixture
def net() -> Iterator[Net]:
    net = Net()
    yield net
    net.world.close()


def error_of(sock: Any) -> int:
    return int(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


@contextmanager
def fails(code: int) -> Iterator[None]:
    with pytest.raises(OSError) as caught:
        yield
    assert caught.value.errno == code


def test_connecting_takes_a_moment_and_tells_both_who_the_other_is(net: Net) -> None:
    ours = net.begin()
    assert ours.readiness() == 0
    with fails(errno.ENOTCONN):
        ours.getpeername()
    with fails(errno.EAGAIN):
        ours.send(b"too early")
    net.pass_time()
    assert ours.readiness() == WRITABLE
    assert ours.getpeername() == (net.there.address, PORT)
    theirs, address = net.listening.accept()
    assert address == ours.getsockname() == theirs.getpeername()
    with fails(errno.EAGAIN):
        net.listening.accept()


def test_nobody_listens(net: Net) -> None:
    net.listening.close()
    ours = net.begin()
    net.pass_time()
    assert ours.readiness() & (ERROR | HANGUP | WRITABLE) == ERROR | HANGUP | WRITABLE
    assert error_of(ours) == errno.ECONNREFUSED
    assert error_of(ours) == 0


def test_no_such_host(net: Net) -> None:
    sock, _ = net.here.kernel.connect(TcpAddress("10.9.9.9", PORT))
    net.pass_time(5)
    assert error_of(sock) == errno.EHOSTUNREACH


def test_what_is_sent_arrives_in_order_and_only_as_much_as_there_is_room_for(net: Net) -> None:
    ours, theirs = net.pair()
    data = bytes(range(256)) * 8
    sent = ours.send(data)
    assert sent == 1000
    assert not ours.readiness() & WRITABLE
    with fails(errno.EAGAIN):
        ours.send(b"more")
    net.pass_time()
    assert ours.readiness() & WRITABLE  # it has arrived, so there is room again
    sent += ours.send(data[sent:])
    assert sent == 2000  # the other's input is full: this stays here
    net.pass_time()
    assert not ours.readiness() & WRITABLE
    got = b""
    while len(got) < sent:
        assert theirs.readiness() & READABLE
        got += theirs.recv(100)
        net.pass_time()
    assert got == data[:sent]
    with fails(errno.EAGAIN):
        theirs.recv(100)


def test_an_end_comes_after_what_was_sent_and_the_other_direction_goes_on(net: Net) -> None:
    ours, theirs = net.pair()
    ours.send(b"last")
    ours.shutdown(socket.SHUT_WR)
    with fails(errno.EPIPE):
        ours.send(b"more")
    net.pass_time()
    assert (theirs.recv(10), theirs.recv(10)) == (b"last", b"")
    assert theirs.readiness() == READABLE | WRITABLE
    theirs.send(b"answer")
    net.pass_time()
    assert ours.recv(10) == b"answer"
    theirs.close()
    net.pass_time()
    assert ours.readiness() & HANGUP
    assert ours.recv(10) == b""


def test_closing_with_unread_input_resets(net: Net) -> None:
    ours, theirs = net.pair()
    ours.send(b"never read")
    net.pass_time()
    theirs.close()
    net.pass_time()
    assert ours.readiness() & (ERROR | HANGUP) == ERROR | HANGUP
    with fails(errno.ECONNRESET):
        ours.recv(10)
    assert ours.recv(10) == b""  # it is told once
    with fails(errno.EPIPE):
        ours.send(b"x")


def test_closing_without_lingering_resets_but_what_came_before_can_be_read(net: Net) -> None:
    ours, theirs = net.pair()
    theirs.send(b"said before")
    net.pass_time()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    theirs.close()
    net.pass_time()
    assert ours.recv(20) == b"said before"
    with fails(errno.ECONNRESET):
        ours.recv(20)


def test_data_for_one_that_has_closed_is_answered_by_a_reset(net: Net) -> None:
    ours, theirs = net.pair()
    theirs.close()
    net.pass_time()
    assert ours.recv(10) == b""
    ours.send(b"to nobody")
    net.pass_time()
    assert ours.recv(10) == b""  # after FIN, a reset looks like the end
    with fails(errno.EPIPE):
        ours.send(b"again")


def test_closing_sends_what_is_left_first(net: Net) -> None:
    ours, theirs = net.pair()
    theirs.send(b"x" * 1000)
    net.pass_time()
    theirs.send(b"y" * 500)
    theirs.close()
    got = b""
    while piece := ours.recv(300):
        got += piece
        net.pass_time()
    assert got == b"x" * 1000 + b"y" * 500


def test_a_full_backlog_lets_those_wait_who_connect(net: Net) -> None:
    socks = [net.begin() for _ in range(3)]
    net.pass_time()
    assert [sock.connected for sock in socks].count(True) == 2
    net.listening.accept()
    net.pass_time(2)
    assert all(sock.connected for sock in socks)


def test_closing_a_listener_resets_those_that_wait(net: Net) -> None:
    ours = net.begin()
    net.pass_time()
    net.listening.close()
    net.pass_time()
    assert error_of(ours) == errno.ECONNRESET


def test_one_that_gives_up_connecting_leaves_a_reset(net: Net) -> None:
    ours = net.begin()
    ours.close()
    net.pass_time()
    assert not net.listening.queue or net.listening.accept()[0].dead


def test_the_poller_is_level_triggered_and_forgets_what_is_closed(net: Net) -> None:
    ours, theirs = net.pair()
    poller = net.there.kernel.polled
    poller.register(theirs.fileno(), READABLE)
    with pytest.raises(FileExistsError):
        poller.register(theirs.fileno(), READABLE)
    assert poller.poll(0) == []
    ours.send(b"ab")
    net.pass_time()
    assert poller.poll(0) == poller.poll(0) == [(theirs.fileno(), READABLE)]
    theirs.recv(10)
    assert poller.poll(0) == []
    poller.modify(theirs.fileno(), WRITABLE)
    assert poller.poll(0) == [(theirs.fileno(), WRITABLE)]
    fd = theirs.fileno()
    theirs.close()
    for forget in (lambda: poller.unregister(fd), lambda: poller.modify(fd, 1)):
        with pytest.raises(FileNotFoundError):
            forget()
    with fails(errno.EBADF):
        poller.register(fd, READABLE)
    for call in (lambda: theirs.recv(1), lambda: theirs.send(b"x")):
        with fails(errno.EBADF):
            call()


def test_descriptors_are_used_again_the_lowest_first(net: Net) -> None:
    kernel = net.here.kernel
    first, second = net.begin(), net.begin()
    assert second.fileno() == first.fileno() + 1
    freed = first.fileno()
    first.close()
    assert net.begin().fileno() == freed
    assert len(kernel.things) == 3  # the notifier's among them


def test_unix_sockets_are_of_one_host_and_there_at_once(net: Net) -> None:
    path = UnixAddress("/run/x.sock")
    listening: Any = net.here.kernel.listen(path)
    ours: Any
    ours, done = net.here.kernel.connect(path)
    assert done
    theirs, _ = listening.accept()
    ours.send(b"hi")
    net.pass_time()
    assert theirs.recv(5) == b"hi"
    with fails(errno.ENOENT):
        net.there.kernel.connect(path)
    with fails(errno.EADDRINUSE):
        net.here.kernel.listen(path)


def test_where_one_may_listen(net: Net) -> None:
    kernel = net.there.kernel
    with fails(errno.EADDRINUSE):
        kernel.listen(TcpAddress("0.0.0.0", PORT))
    with fails(errno.EADDRNOTAVAIL):
        kernel.listen(TcpAddress("10.0.0.1", 81))
    chosen: Any = kernel.listen(TcpAddress("127.0.0.1", 0))
    port = chosen.getsockname()[1]
    assert port >= 49152
    far, _ = net.here.kernel.connect(TcpAddress(net.there.address, port))
    near, _ = kernel.connect(TcpAddress("127.0.0.1", port))
    net.pass_time()
    assert error_of(far) == errno.ECONNREFUSED
    assert near.getpeername() == ("127.0.0.1", port)  # type: ignore[attr-defined]


def test_names(net: Net) -> None:
    found: list[Any] = []
    net.world.network.names["pair"] = [net.here.address, net.there.address]
    for name in ("there", "pair", "nobody"):
        net.here.kernel.resolve(TcpAddress(name, 7), found.append)
        net.pass_time()
    assert found[0] == [TcpAddress(net.there.address, 7)]
    assert len(found[1]) == 2
    assert isinstance(found[2], ResolveError)
    assert net.world.act("resolve_change", "here", 1.0, 1)
    net.here.kernel.resolve(TcpAddress("pair", 7), found.append)
    net.pass_time()
    assert found[3] == [TcpAddress(net.there.address, 7)]
    assert net.world.act("resolve_failure", "here", 1.0)
    net.here.kernel.resolve(TcpAddress("pair", 7), found.append)
    net.pass_time()
    assert isinstance(found[4], ResolveError)


def test_datagrams(net: Net) -> None:
    here = net.here.kernel.datagram(TcpAddress("here", 0))
    there = net.there.kernel.datagram(TcpAddress("there", 53))
    with fails(errno.EADDRINUSE):
        net.there.kernel.datagram(TcpAddress("there", 53))
    assert here.sendto(b"question", there.getsockname()) == 8
    net.pass_time()
    assert there.readiness() & READABLE
    data, asker = there.recvfrom(100)
    assert (data, asker) == (b"question", here.getsockname())
    with fails(errno.EAGAIN):
        there.recvfrom(100)
    net.world.act("one_way", "here>there", 1.0)
    here.sendto(b"lost", there.getsockname())
    net.pass_time(2)
    assert not there.received
    there.close()
    here.sendto(b"to nobody", ("10.0.0.2", 53))
    net.pass_time()


# -- faults --------------------------------------------------------------------------------------------------


def test_lag_clog_and_partition_delay_and_lose_nothing(net: Net) -> None:
    ours, theirs = net.pair()
    for kind, where, amount in (
        ("lag", "here>there", 1.0),
        ("clog", "here>there", 0.0),
        ("one_way", "here>there", 0.0),
        ("partition", "there>here", 0.0),
    ):
        assert net.world.act(kind, where, 1.0, amount)
        ours.send(b"one ")
        net.pass_time(0.5)
        ours.send(b"two")
        with fails(errno.EAGAIN):
            theirs.recv(10)
        net.pass_time(2)
        assert theirs.recv(10) == b"one two"


def test_connecting_is_tried_again_after_a_partition(net: Net) -> None:
    net.world.act("partition", "here>there", 2.0)
    ours = net.begin()
    net.pass_time(1.5)
    assert not ours.connected
    net.pass_time(2.0)
    assert ours.connected


def test_a_reset_from_between(net: Net) -> None:
    ours, theirs = net.pair()
    assert net.world.act("reset", "here>there#1")
    net.pass_time()
    assert error_of(ours) == error_of(theirs) == errno.ECONNRESET
    assert not net.world.act("reset", "here>there#1")


def test_half_closed_from_between(net: Net) -> None:
    ours, theirs = net.pair()
    assert net.world.act("half_close", "here>there#1", amount=1)
    net.pass_time()
    assert ours.recv(10) == b""
    assert theirs.readiness() == WRITABLE  # it does not know
    theirs.send(b"x")
    net.pass_time()
    assert error_of(theirs) == errno.ECONNRESET


def test_what_has_vanished_is_told_of_much_later(net: Net) -> None:
    ours, theirs = net.pair()
    assert net.world.act("vanish", "here>there#1")
    ours.send(b"x")
    net.pass_time(30)
    assert error_of(ours) == 0
    net.pass_time(40)
    assert error_of(ours) == errno.ETIMEDOUT
    assert error_of(theirs) == 0


def test_what_lies_between_forgets_every_connection_and_takes_new_ones(net: Net) -> None:
    ours, theirs = net.pair()
    assert net.world.act("forget", "here>there")
    ours.send(b"x")
    theirs.send(b"y")
    net.pass_time(30)
    assert theirs.input == ours.input == b""
    assert error_of(ours) == error_of(theirs) == 0
    ours, theirs = net.pair()
    ours.send(b"z")
    net.pass_time(1)
    assert theirs.recv(10) == b"z"
    assert net.world.act("forget", "there>here"), "whoever has connected"
    assert not net.world.act("forget", "here>there"), "nothing is left"


def test_who_asks_again_and_again_hears_of_silence(net: Net) -> None:
    ours, theirs = net.pair()
    for option, value in ((4, 10), (5, 3), (6, 2)):  # TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT
        ours.setsockopt(socket.IPPROTO_TCP, option, value)
    net.world.act("forget", "here>there")
    net.pass_time(15)
    assert error_of(ours) == 0
    net.pass_time(2)
    assert error_of(ours) == errno.ETIMEDOUT
    ours, theirs = net.pair()
    theirs.setsockopt(socket.IPPROTO_TCP, 18, 5000)  # TCP_USER_TIMEOUT
    net.world.act("vanish", "here>there#2")
    theirs.send(b"x")
    net.pass_time(6)
    assert (error_of(ours), error_of(theirs)) == (0, errno.ETIMEDOUT)


def test_one_end_has_lost_it_and_the_other_hears_when_it_sends(net: Net) -> None:
    ours, theirs = net.pair()
    assert net.world.act("half_open", "here>there#1", amount=0)
    net.pass_time(30)
    assert error_of(theirs) == errno.ECONNRESET
    assert error_of(ours) == 0
    ours.send(b"x")
    net.pass_time(1)
    assert error_of(ours) == errno.ECONNRESET


def test_a_peer_that_takes_all_and_never_answers(net: Net) -> None:
    ours, theirs = net.pair()
    assert net.world.act("mute", "here>there#1", amount=0)
    for _ in range(40):
        ours.send(bytes(500))  # more than both buffers hold
        net.pass_time(1)
        assert len(theirs.recv(10_000)) == 500, "it hears"
        theirs.send(bytes(500))
        net.pass_time(1)
    assert ours.input == b"", "and says nothing"
    theirs.close()
    net.pass_time(1)
    assert not ours.peer_ended, "nor that it goes"


def test_short_reads_and_writes_and_full_buffers_overlap_and_end(net: Net) -> None:
    ours, theirs = net.pair()
    net.world.act("short_writes", "here", 1.0, 3)
    net.world.act("short_reads", "there", 1.0, 2)
    net.pass_time(0.5)
    net.world.act("short_writes", "here", 1.0, 1)
    assert ours.send(b"abcdef") == 1
    net.pass_time(0.7)
    assert ours.send(b"bcdef") == 1
    net.pass_time(0.7)
    assert ours.send(b"cdef") == 4
    net.pass_time()
    net.world.act("short_reads", "there", 1.0, 2)
    assert theirs.recv(10) == b"ab"
    net.world.heal()
    assert theirs.recv(10) == b"cdef"
    net.world.act("full_buffers", "here", 1.0)
    assert not ours.readiness() & WRITABLE
    with fails(errno.EAGAIN):
        ours.send(b"x")
    net.pass_time(1.1)
    assert ours.send(b"x") == 1


def test_refused_and_slow_accepts_and_a_slow_consumer(net: Net) -> None:
    net.world.act("refuse", "there", 1.0)
    ours = net.begin()
    net.pass_time()
    assert error_of(ours) == errno.ECONNREFUSED
    net.pass_time(1)
    assert net.world.act("slow_accept", "there", 1.0)
    assert not net.world.act("slow_accept", "here", 1.0)  # nothing listens there
    ours = net.begin()
    net.pass_time()
    assert ours.connected
    assert net.listening.readiness() == 0
    with fails(errno.EAGAIN):
        net.listening.accept()
    net.pass_time(1)
    theirs, _ = net.listening.accept()
    net.world.act("slow_consumer", "here>there#2", 1.0, 0)
    ours.send(b"wait")
    ours.close()
    net.pass_time(0.5)
    assert theirs.readiness() == 0
    with fails(errno.EAGAIN):
        theirs.recv(10)
    net.pass_time(1)
    assert (theirs.recv(10), theirs.recv(10)) == (b"wait", b"")


def test_a_killed_process_leaves_ends_and_resets_and_boots_again(net: Net) -> None:
    quiet, _ = net.pair()
    busy, theirs = net.pair()
    busy.send(b"never read")
    net.pass_time()
    assert net.world.act("kill", "there", 1.0)
    assert not net.world.act("kill", "there", 1.0)  # it is down already
    net.pass_time()
    assert quiet.recv(10) == b""
    assert error_of(busy) == errno.ECONNRESET
    refused = net.begin()
    net.pass_time()
    assert error_of(refused) == errno.ECONNREFUSED
    net.pass_time(1)
    assert (net.there.up, net.there.boots) == (True, 2)
    assert theirs.kernel is not net.there.kernel


def test_a_machine_without_power_says_nothing_until_it_is_back(net: Net) -> None:
    asked, _ = net.pair()
    idle, _ = net.pair()
    net.there.disk["kept"] = True
    net.world.act("crash", "there", 1.0)
    asked.send(b"anybody there?")
    net.pass_time(0.5)
    assert asked.readiness() == WRITABLE
    net.pass_time(2)
    assert error_of(asked) == errno.ECONNRESET
    idle.send(b"and now?")
    net.pass_time()
    assert error_of(idle) == errno.ECONNRESET
    assert net.there.disk == {"kept": True}


def test_clocks_differ_and_jump(net: Net) -> None:
    kernel = net.here.kernel
    assert kernel.monotonic() != net.there.kernel.monotonic()
    before, wall = kernel.monotonic(), kernel.wall_clock()
    net.world.act("jump", "here", amount=-30)
    assert (kernel.monotonic(), kernel.wall_clock()) == (before, wall - 30)  # monotonic never goes back
    net.world.act("jump", "here", amount=40)
    assert (kernel.monotonic(), kernel.wall_clock()) == (before + 40, wall + 10)


def test_temporary_files_are_in_memory_and_counted(net: Net) -> None:
    with net.here.kernel.temporary_file() as file:
        file.write(b"spooled")
        assert net.here.kernel.files == 1
    assert net.here.kernel.files == 0


def test_acts_that_name_nothing(net: Net) -> None:
    for kind, where in (("reset", "a>b#1"), ("lag", "here>nowhere"), ("stall", "nobody"), ("refuse", "x")):
        assert not net.world.act(kind, where, 1.0)
    with pytest.raises(ValueError, match="there is no fault 'flood'; there are: lag,"):
        net.world.act("flood", "here")
    with pytest.raises(ValueError, match="a name of its own"):
        net.world.host("here", idle)
