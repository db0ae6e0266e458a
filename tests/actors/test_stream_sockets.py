"""Streams over real sockets: short writes, pushback, half-close, a peer that hangs up."""

from __future__ import annotations

import socket

from actors import ANYTHING, SLEEP, Bytes, Continue, Flush, Loop, Stop, Stream, StreamProtocol
from actors.net.streams import READ_AHEAD
from actors.testing import run_until


class Script(StreamProtocol):
    """Answers each event by a function `(protocol, transport) -> outcome`, and notes it."""

    def __init__(self, **answers):
        self.answers = answers
        self.log = []

    def connected(self, transport):
        default = super().connected
        return (
            self.answers["connected"](self, transport) if "connected" in self.answers else default(transport)
        )

    def received(self, transport):
        return self.answers["received"](self, transport)

    def ended(self, transport):
        return self.answers["ended"](self, transport) if "ended" in self.answers else super().ended(transport)


def note_all(protocol, transport):
    protocol.log.append(transport.take(len(transport.input)))
    return Continue(protocol, ANYTHING)


class Pair:
    """A stream over a real socket, and its peer's end."""

    def __init__(self, protocol, buffer=None):
        self.loop = Loop()
        ours, self.peer = socket.socketpair()
        if buffer:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        ours.setblocking(False)
        self.peer.setblocking(False)
        self.stream = Stream(ours, protocol)
        self.token = self.loop.spawn(self.stream)

    def read(self, enough):
        got = bytearray()

        def done():
            try:
                got.extend(self.peer.recv(1 << 20))
            except BlockingIOError:
                pass
            return enough(got)

        run_until(self.loop, done)
        return bytes(got)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.peer.close()
        self.loop.close()


def test_short_writes_with_a_tiny_send_buffer():
    body = bytes(range(256)) * 4096
    with Pair(Script(), buffer=4096) as pair:
        for start in range(0, len(body), 5000):
            pair.stream.write(body[start : start + 5000])
        assert pair.read(lambda got: len(got) == len(body)) == body
        assert pair.stream.unsent == 0


def test_full_duplex_under_pushback():
    size = 1 << 20
    seen = []
    script = Script(
        connected=lambda protocol, transport: Continue(protocol, (Bytes(1), Flush(0))),
        received=lambda protocol, transport: (
            seen.append(len(transport.take(len(transport.input)))) or Continue(protocol, (Bytes(1), Flush(0)))
        ),
    )
    with Pair(script, buffer=4096) as pair:
        pair.stream.write(b"o" * size)
        pair.loop.tick(0)
        assert pair.stream.unsent
        sent = 0
        while sent < size:
            try:
                sent += pair.peer.send(b"i" * min(65536, size - sent))
            except BlockingIOError:
                pass
            pair.loop.tick(0)
        assert sum(seen) > size // 2
        assert pair.stream.unsent
        pair.read(lambda got: len(got) == size)


def test_half_close_both_ways():
    script = Script(received=note_all, ended=lambda protocol, transport: transport.write(b"bye") or Stop())
    with Pair(script) as pair:
        pair.peer.send(b"hello")
        pair.peer.shutdown(socket.SHUT_WR)
        assert pair.read(lambda got: got == b"bye") == b"bye"
        assert b"hello" in script.log
        assert pair.stream.peer == ""
        run_until(pair.loop, lambda: not pair.loop.alive(pair.token))
    with Pair(Script(received=note_all)) as pair:
        pair.stream.write(b"request")
        pair.stream.end()
        assert pair.read(lambda got: got == b"request") == b"request"
        run_until(pair.loop, lambda: ended_by(pair.peer))
        pair.peer.send(b"answer")
        run_until(pair.loop, lambda: b"answer" in pair.stream.protocol.log)


def ended_by(peer):
    try:
        return peer.recv(1) == b""
    except BlockingIOError:
        return False


def test_a_hung_up_peer_does_not_spin_the_loop_while_reading_is_paused():
    with Pair(Script(connected=lambda protocol, transport: Continue(protocol, SLEEP))) as pair:
        pair.peer.setblocking(True)
        pair.peer.sendall(b"x" * (READ_AHEAD + 5000))
        for _ in range(10):
            pair.loop.tick(0)
        pair.peer.close()
        for _ in range(20):
            pair.loop.tick(0)
        before = pair.loop.statistics().events
        for _ in range(20):
            pair.loop.tick(0)
        assert pair.loop.statistics().events == before
        assert pair.loop.alive(pair.token)


def test_what_could_not_be_sent_is_known_until_the_end():
    unsent = []

    class Counting(Script):
        def stopped(self, transport, error):
            unsent.append((transport.unsent, transport.output))

    with Pair(Counting()) as pair:
        pair.stream.write(b"a unit of work")
        pair.peer.close()
        pair.loop.flush()  # before the loop has seen the peer's end
        pair.stream.write(b" and another")
        pair.loop.tick(0)
    assert unsent == [(26, [b"a unit of work", b" and another"])]
