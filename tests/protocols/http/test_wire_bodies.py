"""Bodies on the wire: uploads from a channel, answers into one, and back-pressure both ways."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from actors import ChannelClosed
from pools import ConnectionLost
from protocols import http
from protocols.http.client.wire import BodyChannel
from tests.protocols.http.benches import HttpBench, body_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


# -- uploads


def upload(length: int | None = None, capacity: int = 1 << 18) -> tuple[Any, BodyChannel]:
    channel = BodyChannel(capacity)
    return http.post("/", body=channel, length=length), channel


def test_an_upload_goes_out_as_it_comes() -> None:
    bench = HttpBench()
    unit, channel = upload()
    reply = bench.open(unit)
    assert bench.got() == b"POST / HTTP/1.1\r\nHost: 192.0.2.7\r\nTransfer-Encoding: chunked\r\n\r\n"
    channel.put(b"abc")
    assert bench.got() == b"3\r\nabc\r\n"
    channel.put(b"")
    channel.put(b"de")
    channel.close()
    assert bench.got() == b"2\r\nde\r\n0\r\n\r\n"
    bench.say(OK)
    assert reply.result().body == b"ok"
    assert bench.idle == 1


def test_an_upload_with_a_length_is_not_chunked_and_trailers_follow_a_chunked_one() -> None:
    bench = HttpBench()
    unit, channel = upload(length=5)
    bench.open(unit)
    channel.put(b"abc")
    channel.put(b"de")
    channel.close()
    assert bench.got() == b"POST / HTTP/1.1\r\nHost: 192.0.2.7\r\nContent-Length: 5\r\n\r\nabcde"
    bench.say(OK)
    unit, channel = upload()
    bench.open(unit)
    channel.trailers = http.Headers({"X-Sum": "6"})
    channel.close()
    assert bench.got().endswith(b"\r\n\r\n0\r\nX-Sum: 6\r\n\r\n")


@pytest.mark.parametrize(
    ("pieces", "sent"), [([b"abc"], b"abc"), ([b"abc", b"def"], b"abc"), ([b"abcdefgh"], b"")]
)
def test_an_upload_that_is_not_as_long_as_announced_never_completes_a_request(
    pieces: list[bytes], sent: bytes
) -> None:
    bench = HttpBench()
    unit, channel = upload(length=5)
    reply = bench.open(unit)
    bench.got()
    for piece in pieces:
        channel.put(piece)
        bench.run()
        if bench.sockets[0].closed:
            break
    channel.close()
    bench.run()
    with pytest.raises(ConnectionLost) as raised:
        reply.result()
    assert "announced" in str(raised.value.__cause__)
    assert bench.got() == sent
    assert bench.sockets[0].closed


def test_an_upload_whose_source_fails_is_broken_off() -> None:
    bench = HttpBench()
    unit, channel = upload()
    reply = bench.open(unit)
    channel.put(b"abc")
    bench.run()
    channel.close(OSError("the disk is gone"))
    bench.run()
    with pytest.raises(ConnectionLost):
        reply.result()
    assert b"0\r\n\r\n" not in bench.got()
    assert bench.sockets[0].closed


def test_a_slow_backend_holds_the_uploads_source_back() -> None:
    bench = HttpBench()
    unit, channel = upload(capacity=1 << 16)
    reply = bench.open(unit)
    bench.sockets[0].room = 0
    put = 0
    while channel.writable:
        channel.put(b"x" * 65536)
        put += 65536
        bench.run()
    assert 1 << 20 <= put <= 5 << 18
    received = 0
    while put < 4 << 20 or bench.sockets[0].room == 0:
        bench.sockets[0].room = 100_000
        bench.run()
        if put < 4 << 20 and channel.writable:
            channel.put(b"x" * 65536)
            put += 65536
        received += len(bench.sockets[0].delivered())
    channel.close()
    bench.sockets[0].room = None
    received += len(bench.got())
    assert received > put
    bench.say(OK)
    assert reply.result().status == 200


def test_an_upload_and_its_answer_flow_at_the_same_time() -> None:
    """A congested upload goes on when the backend reads again, even if parts of the answer came meanwhile."""
    bench = HttpBench()
    channel = BodyChannel(1 << 16)
    reply = bench.open(http.stream("POST", "/", body=channel))
    bench.sockets[0].room = 0
    while channel.writable:
        channel.put(b"x" * 65536)
        bench.run()
    bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
    body = reply.result().body
    assert body.take() == b"abc"
    bench.say(b"de")
    assert body.take() == b"de"
    bench.sockets[0].room = None
    bench.run()
    assert len(channel) == 0
    assert channel.writable
    channel.close()
    bench.run()
    bench.say(b"f")
    assert body.take() == b"f"
    assert body.ended
    assert bench.idle == 1


def test_an_output_that_drains_in_part_before_something_else_happens() -> None:
    bench = HttpBench()
    channel = BodyChannel(1 << 16)
    reply = bench.open(http.stream("POST", "/", body=channel))
    bench.sockets[0].room = 0
    while channel.writable:
        channel.put(b"x" * 65536)
        bench.run()
    bench.sockets[0].room = 600_000
    bench.run()
    bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
    bench.sockets[0].room = None
    bench.run()
    assert len(channel) == 0
    assert reply.result().body.take() == b"abc"


def test_a_reader_and_a_writer_that_wait_for_each_other_in_turns() -> None:
    bench = HttpBench()
    channel = BodyChannel(1 << 16)
    reply = bench.open(http.stream("POST", "/", body=channel))
    bench.say(CHUNKED)
    body = reply.result().body
    for _ in range(12):
        bench.say(b"10000\r\n" + b"y" * 65536 + b"\r\n")
    assert not body.writable
    bench.sockets[0].room = 0
    while channel.writable:
        channel.put(b"x" * 65536)
        bench.run()
    bench.sockets[0].room = None
    bench.run()
    assert len(channel) == 0
    got = 0
    while len(body):
        got += len(body.take())
        bench.run()
    assert got == 12 * 65536


def test_an_answer_before_the_end_of_the_upload_ends_both() -> None:
    for answer in (b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", CHUNKED + b"2\r\nno\r\n0\r\n\r\n"):
        bench = HttpBench()
        unit, channel = upload()
        reply = bench.open(unit)
        channel.put(b"abc")
        bench.run()
        bench.say(answer)
        assert reply.result().body == b"no"
        with pytest.raises(ChannelClosed):
            channel.put(b"more")
        assert bench.sockets[0].closed


def test_a_reset_that_sending_has_noticed_is_not_the_end_of_a_body() -> None:
    bench = HttpBench()
    channel = BodyChannel()
    reply = bench.open(http.stream("POST", "/", body=channel))
    bench.say(b"HTTP/1.1 200 OK\r\n\r\npart of what lasts until the end")
    sock = bench.sockets[0]

    def send(data: bytes) -> int:
        sock.end()  # which is what a system says after it has told of the reset
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    sock.send = send  # type: ignore[method-assign]
    channel.put(b"more")
    bench.run()
    assert isinstance(reply.result().body.error, ConnectionLost)


def test_what_has_not_left_when_the_connection_is_given_up_never_leaves() -> None:
    bench = HttpBench()
    unit, channel = upload()
    reply = bench.open(unit)
    bench.sockets[0].room = 10
    channel.put(b"x" * 1000)
    bench.run()
    bench.say(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
    assert reply.result().status == 403
    assert bench.sockets[0].closed


def test_an_answer_that_outlasts_the_upload_keeps_the_connection() -> None:
    bench = HttpBench()
    unit, channel = upload()
    reply = bench.open(unit)
    bench.say(b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + b"1\r\na\r\n")
    channel.close()
    bench.run()
    bench.say(b"0\r\n\r\n")
    assert reply.result().body == b"a"
    assert bench.idle == 1


def test_no_protocol_is_switched_to_in_the_middle_of_a_request() -> None:
    bench = HttpBench()
    unit, channel = upload()
    reply = bench.open(unit)
    bench.say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
    with pytest.raises(http.BadResponse):
        reply.result()
    with pytest.raises(ChannelClosed):
        channel.put(b"more")


@pytest.mark.parametrize("sent", [False, True])
def test_an_upload_that_nobody_waits_for_any_more_ends_by_its_deadline(sent: bool) -> None:
    bench = HttpBench()
    unit, channel = upload()
    reply = bench.pool.submit(unit, timeout=2.0)
    if sent:
        bench.accept()
    reply.cancel()
    bench.advance(2.5)
    assert bench.pool.statistics().orphans == 0
    assert bench.add_up()
    if sent:
        with pytest.raises(ChannelClosed):
            channel.put(b"x")


# -- streamed answers


def test_a_streamed_answer_settles_with_its_head() -> None:
    bench = HttpBench()
    reply = bench.open(http.stream("GET", "/"))
    bench.say(b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 6\r\n\r\n")
    response = reply.result()
    assert (response.status, response.headers.get("x")) == (200, "y")
    bench.say(b"abc")
    assert response.body.take() == b"abc"
    bench.say(b"def")
    assert response.body.take() == b"def"
    assert response.body.ended
    assert bench.idle == 1


def test_a_streamed_answer_that_is_there_already_or_has_trailers() -> None:
    bench = HttpBench()
    reply = bench.open(http.stream("GET", "/"))
    bench.say(OK)
    assert body_of(reply.result().body) == b"ok"
    assert reply.result().body.ended
    reply = bench.open(http.stream("GET", "/"))
    bench.say(CHUNKED + b"1\r\na\r\n0\r\nX-Sum: 6\r\n\r\n")
    assert body_of(reply.result().body) == b"a"
    assert list(reply.result().body.trailers) == [("X-Sum", "6")]
    empty = bench.open(http.stream("GET", "/"))
    bench.say(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert empty.result().body.ended


def test_a_backend_that_ends_while_the_reader_is_slow_is_read_to_its_end() -> None:
    for head, tail in ((b"", b""), (b"Transfer-Encoding: chunked\r\n", b"\r\n0\r\n\r\n")):
        bench = HttpBench()
        reply = bench.open(http.stream("GET", "/"))
        size = 600_000
        bench.say(
            b"HTTP/1.1 200 OK\r\n%b\r\n%b" % (head, b"%x\r\n" % size if head else b"") + b"x" * size + tail
        )
        bench.end()
        body = reply.result().body
        got = 0
        while not body.ended:
            got += len(body.take())
            bench.run()
        assert got == size
        assert body.error is None
        assert bench.pool.statistics().connections == 0


def test_a_backend_that_ends_too_early_while_the_reader_is_slow_is_found_out() -> None:
    bench = HttpBench()
    reply = bench.open(http.stream("GET", "/"))
    bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"x" * 600_000)
    bench.end()
    body = reply.result().body
    while body.error is None:
        body.take()
        bench.run()
    assert isinstance(body.error, ConnectionLost)


@pytest.mark.parametrize("announced", [300_000, 400_000])
def test_a_backend_that_ends_while_nothing_can_be_passed_on(announced: int) -> None:
    bench = HttpBench()
    reply = bench.open(http.stream("GET", "/"))
    bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % announced + b"x" * 300_000)
    bench.end()
    body = reply.result().body
    assert not bench.sockets[0].closed
    got = 0
    while len(body):
        got += len(body.take())
        bench.run()
    assert bench.sockets[0].closed
    if announced == 300_000:
        assert got == 300_000
        assert body.error is None
    else:
        assert isinstance(body.error, ConnectionLost)


@pytest.mark.parametrize("size", [300_000, 560_000])
@pytest.mark.parametrize("lines", [b"", b"Content-Length: %d\r\n"])
def test_a_backend_that_ends_just_as_there_is_room_again(size: int, lines: bytes) -> None:
    """The end is noticed before what waits in the input is passed on: that must not be lost."""
    bench = HttpBench()
    reply = bench.open(http.stream("GET", "/"))
    lines = lines % size if lines else lines
    bench.say(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n" + b"x" * size)
    body = reply.result().body
    assert not body.writable
    got = 0
    while len(body):
        got += len(body.take())
        if body.writable and not bench.sockets[0]._arrived:
            bench.sockets[0].end()
        bench.loop.tick(0)
    bench.run()
    got += len(body_of(body))
    assert body.ended
    assert body.error is None
    assert got == size


def test_a_gathered_body_that_is_cut_off_is_asked_for_again_if_that_is_safe() -> None:
    bench = HttpBench()
    warm = bench.open(http.get("/"))
    bench.say(OK)
    assert warm.result().body == b"ok"
    reply = bench.open(http.get("/"))
    bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
    bench.end()
    bench.accept()
    bench.say(OK)
    assert reply.result().body == b"ok"


def test_a_reader_that_leaves_with_all_of_the_rest_there_already() -> None:
    bench = HttpBench()
    reply = bench.open(http.stream("GET", "/"))
    bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000)
    reply.result().body.cancel()
    bench.run()
    assert bench.idle == 1


def test_a_reader_that_leaves_saves_the_connection_if_little_is_left() -> None:
    for left, kept in ((60_000, True), (70_000, False)):
        bench = HttpBench(limits=http.Limits(body_bytes=1000))
        reply = bench.open(http.stream("GET", "/"))
        bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * (100_000 - left))
        reply.result().body.cancel()
        bench.run()
        assert bench.sockets[0].closed is not kept
        if kept:
            bench.say(b"x" * left)
            assert bench.idle == 1
    bench = HttpBench()
    reply = bench.open(http.stream("GET", "/"))
    bench.say(CHUNKED + b"1\r\na\r\n")
    reply.result().body.cancel()
    bench.run()
    assert bench.sockets[0].closed


def test_a_body_that_its_reader_has_forgotten_does_not_hold_the_connection_for_ever() -> None:
    bench = HttpBench()
    reply = bench.open(http.stream("GET", "/"))
    bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 1_000_000)
    bench.advance(3000.0)
    body = reply.result().body
    while not body.writable:
        body.take()
    bench.run()
    bench.advance(3000.0)
    assert body.error is None
    bench.advance(601.0)
    assert isinstance(body.error, ConnectionLost)
    assert bench.pool.statistics().connections == 0


def test_a_short_rest_that_does_not_come_is_not_waited_for() -> None:
    bench = HttpBench(body_timeout=3.0)
    reply = bench.open(http.stream("GET", "/"))
    bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n" + b"x" * 399_000)
    body = reply.result().body
    assert not body.writable
    body.cancel()
    bench.run()
    bench.advance(3.1)
    assert bench.sockets[0].closed


def test_a_reader_that_leaves_after_the_end_harms_nobody() -> None:
    bench = HttpBench()
    reply = bench.open(http.stream("GET", "/"))
    bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    bench.say(b"ok")
    reply.result().body.cancel()
    bench.run()
    assert bench.idle == 1


def test_drain_waits_for_a_stream_in_flight() -> None:
    bench = HttpBench()
    reply = bench.open(http.stream("GET", "/"))
    bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    bench.pool.drain()
    bench.run()
    assert bench.loop.alive(bench.pool.token)
    bench.say(b"ok")
    assert body_of(reply.result().body) == b"ok"
    assert not bench.loop.alive(bench.pool.token)
    assert bench.loop.machines == 0


def test_a_pool_that_is_stopped_tells_the_reader_and_the_source() -> None:
    bench = HttpBench()
    channel = BodyChannel()
    reply = bench.open(http.stream("POST", "/", body=channel))
    bench.say(CHUNKED)
    bench.loop.kill(bench.pool.token)
    bench.run()
    assert isinstance(reply.result().body.error, ConnectionLost)
    with pytest.raises(ChannelClosed):
        channel.put(b"x")
    assert bench.kernel.descriptors == 1  # the notifier's


def test_wires_tell_what_they_do() -> None:
    bench = HttpBench()
    bench.open(http.stream("POST", "/", body=BodyChannel()))
    (connection,) = bench.pool.backends[0].all
    assert repr(connection.wire) == "<HttpWire between responses, sending a body>"
    bench.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    assert "receiving <ResponseHead 200" in repr(connection.wire)
