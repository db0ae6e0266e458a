"""Transports and streams: expectations at every split, watermarks, full duplex, half-close."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from actors import (
    ANYTHING,
    HIGH_WATERMARK,
    SLEEP,
    UNCHANGED,
    Bytes,
    Continue,
    Delimiter,
    DelimiterNotFound,
    Flush,
    Misuse,
    Stop,
    StreamProtocol,
    Timeout,
    Transport,
)
from actors.net.streams import DELIVERIES_MAX, READ_AHEAD, drop_sent
from actors.testing import Driver, FakeTransport, at_every_split

# -- transports --------------------------------------------------------------------------------------------


def test_input_is_taken_and_consumed_in_place():
    transport = Transport()
    transport.feed(b"hello ")
    transport.feed(b"world")
    transport.feed(b"!")
    assert transport.take(5) == b"hello"
    transport.consume(1)
    assert transport.take(5) == b"world"
    assert transport.take(99) == b"!"
    assert transport.take(1) == b""
    transport.feed(b"abc")
    transport.consume(1)
    transport.feed(b"d")
    assert bytes(transport.input) == b"bcd"
    assert transport.take(3) == b"bcd"
    transport.feed(b"xy")
    transport.consume(2)
    assert transport.input == b""
    assert transport.peer == ""
    assert repr(transport) == "<Transport 0 bytes in, 0 bytes out>"


def test_output_is_gathered_and_counted():
    transport = FakeTransport()
    transport.write(b"a")
    transport.write(b"b" * HIGH_WATERMARK)
    assert transport.congested
    assert transport.sent() == b"a" + b"b" * HIGH_WATERMARK
    assert not transport.congested
    assert transport.sent() == b""
    transport.end()
    transport.end()
    assert transport.ending
    transport.arrive(b"x")
    assert transport.input == b"x"
    transport.flush()


@pytest.mark.parametrize(
    ("sent", "left"), [(0, [b"abc", b"de"]), (2, [b"c", b"de"]), (3, [b"de"]), (4, [b"e"]), (5, [])]
)
def test_what_was_sent_is_taken_off(sent, left):
    output = [b"abc", b"de"]
    drop_sent(output, sent)
    assert [bytes(piece) for piece in output] == left


# -- a protocol made of functions --------------------------------------------------------------------------


class Script(StreamProtocol):
    """Answers each event by a function `(protocol, transport) -> outcome`."""

    def __init__(self, **answers):
        self.answers = answers
        self.log = []

    def __repr__(self):
        return "<Script>"

    def answer(self, name, transport, default):
        self.log.append(name)
        return self.answers[name](self, transport) if name in self.answers else default(transport)

    def connected(self, transport):
        return self.answer("connected", transport, super().connected)

    def received(self, transport):
        return self.answer("received", transport, super().received)

    def flushed(self, transport):
        return self.answer("flushed", transport, super().flushed)

    def ended(self, transport):
        return self.answer("ended", transport, super().ended)

    def wakeup(self, transport):
        return self.answer("wakeup", transport, super().wakeup)

    def timeout(self, transport):
        return self.answer("timeout", transport, super().timeout)

    def draining(self, transport):
        return self.answer("draining", transport, super().draining)

    def stopped(self, transport, error):
        self.log.append(("stopped", error))


def expect(value):
    return lambda protocol, transport: Continue(protocol, value)


def note_all(protocol, transport):
    protocol.log.append(transport.take(len(transport.input)))
    return Continue(protocol, ANYTHING)


def test_defaults():
    driver = Driver(Script(received=note_all))
    driver.receive(b"x").wake()
    assert driver.machine.log == ["connected", "received", b"x", "wakeup"]
    driver.end()
    assert driver.machine.log[-2:] == ["ended", ("stopped", None)]
    assert driver.socket.closed
    assert not Driver(Script()).drain().alive
    with capture_logs():
        assert isinstance(Driver(Script()).receive(b"x").error, NotImplementedError)


class Framed(StreamProtocol):
    """A length line, so many bytes, again; everything is kept."""

    def __init__(self):
        self.frames = []

    def connected(self, transport):
        return Continue(self, Delimiter(b"\r\n", 8))

    def received(self, transport):
        line = transport.input.find(b"\r\n")
        size = int(transport.take(line))
        transport.consume(2)
        return Continue(FramedBody(self, size), Bytes(size))

    def stopped(self, transport, error):
        self.frames.append(error)


class FramedBody(StreamProtocol):
    def __init__(self, framed, size):
        self.framed, self.size = framed, size

    def received(self, transport):
        self.framed.frames.append(transport.take(self.size))
        return Continue(self.framed, Delimiter(b"\r\n", 8))

    def stopped(self, transport, error):
        self.framed.frames.append(error)


def frames(driver):
    machine = driver.machine
    return getattr(machine, "framed", machine).frames


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (b"3\r\nabc0\r\n10\r\n0123456789", [b"abc", b"", b"0123456789"]),
        (b"2\r\nab1\r\nc", [b"ab", b"c"]),
        (b"1\r\n\r", [b"\r"]),
    ],
)
def test_expectations_are_met_at_every_split(data, whole):
    assert at_every_split(lambda: Driver(Framed()), data, frames) == whole


def test_a_delimiter_past_its_limit_stops_the_stream():
    with capture_logs():
        result = at_every_split(
            lambda: Driver(Framed()), b"123456789", lambda driver: type(frames(driver)[0])
        )
    assert result is DelimiterNotFound


def test_an_expectation_that_is_none_of_them_is_told():
    with capture_logs():
        with pytest.raises(Misuse, match="write Bytes, Delimiter"):
            Driver(Script(connected=expect("a line")))
        driver = Driver(Script(received=lambda protocol, transport: None)).receive(b"x")
        assert isinstance(driver.error, TypeError | AttributeError)


def test_more_comes_to_an_expectation_that_is_kept():
    def received(protocol, transport):
        protocol.log.append(len(transport.input))
        return Continue(protocol) if len(transport.input) < 4 else UNCHANGED

    driver = Driver(Script(received=received))
    for _ in range(4):
        driver.receive(b"x")
    assert [entry for entry in driver.machine.log if isinstance(entry, int)] == [1, 2, 3, 4]


@pytest.mark.parametrize("how", [Bytes(1), Delimiter(b"x", 10_000)])
def test_a_greedy_protocol_lets_others_have_their_turn(how):
    def received(protocol, transport):
        transport.consume(1)
        return Continue(protocol, how)

    driver = Driver(Script(connected=expect(how), received=received))
    driver.receive(b"x" * (5 * DELIVERIES_MAX))
    log = driver.machine.log
    assert log.count("received") == 5 * DELIVERIES_MAX
    assert log.count("wakeup") >= 3


def test_what_was_due_is_not_delivered_any_more_when_it_was_read_meanwhile():
    def received(protocol, transport):
        transport.consume(1)
        return Continue(protocol, Delimiter(b"x", 10_000))

    def wakeup(protocol, transport):
        transport.consume(len(transport.input))
        transport.feed(b"no delimiter")
        return UNCHANGED

    driver = Driver(Script(connected=expect(Delimiter(b"x", 10_000)), received=received))
    stream = driver.stream
    stream.feed(b"y" * 10)
    stream._pending |= 2
    driver.wake()
    assert driver.machine.log.count("received") == 0


def test_ended_is_told_once_all_is_read_and_must_not_go_on_expecting():
    driver = Driver(Script(received=note_all, ended=lambda protocol, transport: Continue(protocol)))
    driver.receive(b"last").end()
    assert driver.machine.log == ["connected", "received", b"last", "ended"]
    assert driver.alive
    assert driver.stream.ended
    assert "peer has ended" in repr(driver.stream)
    with capture_logs():
        driver = Driver(Script(ended=expect(ANYTHING))).end()
    assert isinstance(driver.error, Misuse)


def test_input_that_came_before_the_end_is_delivered_when_it_is_wanted():
    script = Script(
        connected=expect(SLEEP),
        ended=lambda protocol, transport: UNCHANGED if transport.input else Stop(),
        wakeup=expect(Bytes(2)),
        received=lambda protocol, transport: (
            protocol.log.append(transport.take(2)) or Continue(protocol, Bytes(2))
        ),
    )
    driver = Driver(script)
    driver.receive(b"abcd").end()
    assert script.log == ["connected", "ended"]
    driver.wake()
    assert script.log[2:] == ["wakeup", "received", b"ab", "received", b"cd", "ended", ("stopped", None)]


def test_the_deadline_of_a_protocol():
    driver = Driver(
        Script(connected=lambda protocol, transport: Timeout(protocol, transport.scope.now + 3, SLEEP))
    )
    assert driver.deadline == 1003.0
    driver.advance(2)
    assert driver.alive
    driver.expire()
    assert isinstance(driver.error, TimeoutError)


def test_stop_with_an_error_closes_at_once_and_without_one_sends_what_is_left():
    def speak(error):
        def received(protocol, transport):
            transport.consume(1)
            transport.write(b"answer")
            return Stop(error)

        return received

    driver = Driver(Script(received=speak(ValueError("bad")))).receive(b"x")
    assert (driver.sent(), driver.socket.closed) == (b"", True)
    driver = Driver(Script(received=speak(None))).receive(b"x")
    assert (driver.sent(), driver.socket.closed, driver.error) == (b"answer", True, None)


def test_a_protocol_whose_stopped_fails_is_told_once():
    class Broken(Script):
        def stopped(self, transport, error):
            self.log.append("stopped")
            raise ValueError("in clean-up")

    def received(protocol, transport):
        transport.write(b"x")
        return Stop()

    script = Broken(received=received)
    with capture_logs():
        driver = Driver(script).receive(b"x")
    assert script.log.count("stopped") == 1
    assert driver.socket.closed
    with capture_logs():
        driver = Driver(Broken()).stop()
    assert driver.socket.closed


# -- output ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pieces", [[b"one"], [b"a", b"b", b"c"], [b"x" * 50_000, b"y" * 50_000], [b"z" * 100] * 2000]
)
@pytest.mark.parametrize("room", [None, 1000, 65_000])
def test_all_output_arrives_in_order_however_little_the_socket_takes(pieces, room):
    driver = Driver(Script())
    for piece in pieces:
        driver.stream.write(piece)
    got = bytearray()
    while driver.stream.unsent:
        driver.socket.room = room
        driver.loop.tick(0)
        got += driver.sent()
    assert got == b"".join(pieces)
    driver.settle()
    assert driver.loop.poller.watched[driver.socket.fileno()] == 1


def test_flush_is_met_when_output_has_fallen_low_enough():
    def wakeup(protocol, transport):
        if protocol.log.count("wakeup") > 1:
            return UNCHANGED
        transport.write(b"x" * 10)
        return Continue(protocol, Flush(4))

    script = Script(connected=expect(SLEEP), wakeup=wakeup)
    driver = Driver(script)
    driver.socket.room = 5
    driver.wake()
    assert "flushed" not in script.log
    assert driver.expectation == Flush(4)
    driver.socket.room = 1
    driver.settle()
    assert script.log.count("flushed") == 1
    driver.socket.room = None
    driver.settle()
    assert script.log.count("flushed") == 1


def test_flush_of_nothing_is_met_at_once_and_one_no_longer_wanted_is_not_told():
    script = Script(connected=expect((ANYTHING, Flush(0))), received=note_all)
    assert Driver(script).machine.log == ["connected", "flushed", "wakeup"]

    def received(protocol, transport):
        transport.consume(1)
        transport.write(b"more")
        return Continue(protocol, (Bytes(1), Flush(0)))

    script = Script(received=received)
    driver = Driver(script)
    driver.socket.room = 0
    driver.receive(b"a")
    script.answers["received"] = note_all
    driver.socket.room = None
    driver.socket.arrive(b"b")
    driver.settle()
    assert "flushed" not in script.log


def test_reading_goes_on_while_output_waits():
    script = Script(
        connected=lambda protocol, transport: (
            transport.write(b"x" * 100) or Continue(protocol, (Bytes(1), Flush(0)))
        ),
        received=lambda protocol, transport: (
            protocol.log.append(transport.take(99)) or Continue(protocol, (Bytes(1), Flush(0)))
        ),
    )
    driver = Driver(script)
    driver.stream.write(b"y" * 100)
    driver.socket.room = 0
    driver.receive(b"in")
    driver.receive(b"put")
    assert script.log[-4:] == ["received", b"in", "received", b"put"]
    driver.socket.room = None
    assert script.log.count("flushed") == 1
    driver.settle()
    assert script.log.count("flushed") == 2


def test_end_sends_fin_after_the_output_and_input_still_comes():
    script = Script(received=note_all)
    driver = Driver(script)
    driver.socket.room = 3
    driver.stream.write(b"request")
    driver.stream.end()
    driver.settle()
    assert not driver.socket.ended_here
    driver.socket.room = None
    driver.settle()
    assert driver.socket.ended_here
    assert driver.sent() == b"request"
    driver.receive(b"answer").end()
    assert script.log[1:] == ["received", b"answer", "ended", ("stopped", None)]


# -- the peer goes away ------------------------------------------------------------------------------------


def test_an_early_answer_is_heard_although_sending_has_failed():
    script = Script(received=note_all)
    driver = Driver(script)
    driver.socket.room = 0
    driver.stream.write(b"a long request")
    driver.settle()
    driver.socket.arrive(b"413 early answer")
    driver.socket.ended_here = True  # sending fails with EPIPE
    driver.socket.room = None
    driver.socket.end()
    driver.settle()
    assert b"413 early answer" in script.log
    assert not driver.alive
    assert driver.socket.closed


@pytest.mark.parametrize("end", ["end", "reset", None])
def test_a_long_early_answer_is_heard_to_its_end(end):
    script = Script(received=note_all)
    driver = Driver(script)
    driver.socket.ended_here = True  # sending fails with EPIPE
    driver.stream.write(b"request")
    answer = bytes(200_000)
    driver.socket.arrive(answer)
    if end is not None:
        getattr(driver.socket, end)()
    driver.settle()
    assert b"".join(entry for entry in script.log if isinstance(entry, bytes)) == answer
    assert not driver.alive
    assert driver.socket.closed


def test_a_protocol_may_stop_in_an_early_answer():
    script = Script(received=lambda protocol, transport: transport.consume(1 << 20) or Stop())
    driver = Driver(script)
    driver.socket.ended_here = True
    driver.stream.write(b"request")
    driver.socket.arrive(b"x")
    driver.settle()
    assert script.log == ["connected", "received", ("stopped", None)]


def test_an_event_for_a_socket_that_turns_out_empty_is_nothing():
    driver = Driver(Script())
    stream = driver.stream
    assert stream.ready(stream.scope, 1) is UNCHANGED
    assert driver.alive


@pytest.mark.parametrize("ended", [False, True])
def test_a_failed_send_stops_with_what_happened(ended):
    script = Script(ended=lambda protocol, transport: UNCHANGED)
    driver = Driver(script)
    if ended:
        driver.end()
    driver.socket.ended_here = True
    driver.stream.write(b"x")
    driver.settle()
    assert driver.error.errno == errno.EPIPE
    driver = Driver(Script(ended=lambda protocol, transport: UNCHANGED))
    driver.socket.ended_here = True
    driver.socket.end()
    driver.socket._state = "connecting"
    driver.stream.write(b"x")
    driver.settle()
    assert driver.error.errno == errno.EPIPE


def test_a_reset_is_an_error_after_what_came_before():
    script = Script(received=note_all)
    driver = Driver(script)
    driver.socket.arrive(b"before")
    driver.reset()
    assert script.log[1:3] == ["received", b"before"]
    assert driver.error.errno == errno.ECONNRESET


def test_reading_pauses_when_nobody_wants_the_input_and_a_hang_up_does_not_spin():
    script = Script(connected=expect(SLEEP), wakeup=expect(ANYTHING), received=note_all)
    driver = Driver(script)
    driver.receive(b"x" * (READ_AHEAD + 10))
    assert driver.socket.readiness() & 1 == 0 or len(driver.stream.input) >= READ_AHEAD
    driver.receive(b"y" * 10)
    driver.socket.end()
    driver.socket.ended_here = True
    before = driver.loop.statistics().ticks
    driver.settle()
    assert driver.loop.statistics().ticks - before <= 2
    driver.wake()
    assert b"".join(entry for entry in script.log if isinstance(entry, bytes)).endswith(b"y" * 10)
    assert not driver.alive


def test_a_hang_up_while_only_output_is_watched():
    script = Script(connected=expect(SLEEP))
    driver = Driver(script)
    driver.receive(b"x" * READ_AHEAD)
    driver.socket.room = 0
    driver.stream.write(b"waits")
    driver.settle()
    calm, wrong = driver.clone(), driver.clone()
    calm.socket.end()
    calm.socket.ended_here = True
    calm.settle()
    assert calm.alive or calm.error.errno == errno.EPIPE
    wrong.stream._drop_output()
    wrong.reset()
    assert wrong.error.errno == errno.ECONNRESET
    driver.reset()
    assert not driver.alive


def test_writing_to_a_stopped_stream_does_nothing():
    driver = Driver(Script())
    stream = driver.stream
    driver.stop()
    stream.write(b"late")
    stream.end()
    driver.settle()
    assert driver.sent() == b""


@pytest.mark.parametrize("then", [Continue, Stop, Timeout])
@pytest.mark.parametrize("where", ["received", "ended", "flushed"])
def test_a_protocol_that_is_killed_in_its_own_handler_hears_nothing_more(where, then):
    def last(protocol, transport):
        transport.scope.loop.kill(transport.scope.token)
        return {
            Continue: Continue(protocol, (ANYTHING, Flush(0))),
            Stop: Stop(),
            Timeout: Timeout(protocol, transport.scope.now + 1, ANYTHING),
        }[then]

    script = Script(connected=expect((ANYTHING, Flush(0))), **{where: last})
    driver = Driver(script)
    if driver.alive:
        driver.socket.arrive(b"unread")
        if where == "ended":
            script.answers["received"] = note_all
        driver.end()
    assert script.log[-2:] == [where, ("stopped", None)]
    assert script.log.count(("stopped", None)) == 1
    driver.advance(5)
    assert driver.socket.closed


class Pushback(StreamProtocol):
    """Echoes, and reads nothing while more than 50 bytes wait to be sent."""

    def received(self, transport):
        transport.write(transport.take(len(transport.input)))
        return Continue(self, ANYTHING if transport.unsent <= 50 else Flush(20))

    def flushed(self, transport):
        return Continue(self, ANYTHING)


def test_what_was_not_read_before_the_end_is_read_all_the_same():
    driver = Driver(Pushback())
    driver.socket.room = 0
    driver.receive(b"a" * 60).receive(b"b" * 5).end()
    assert driver.alive
    driver.socket.room = None
    driver.settle()
    assert driver.sent() == b"a" * 60 + b"b" * 5
    assert (driver.socket.closed, driver.error) == (True, None)
    assert not Transport().asleep


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(min_size=1, max_size=120),
            st.integers(0, 60),
            st.sampled_from(["wake", "tick", "end"]),
        ),
        max_size=40,
    )
)
def test_whatever_the_socket_does_the_echo_is_complete_and_in_order(actions):
    driver = Driver(Pushback())
    sent, got, ended = b"", b"", False
    driver.socket.room = 0
    for action in actions:
        match action:
            case bytes() if not ended:
                sent += action
                driver.socket.arrive(action)
            case int():
                driver.socket.room = action
            case "wake":
                driver.loop.wake(driver.token)
            case "end":
                ended = True
                driver.socket.end()
        driver.loop.tick(0)
        got += driver.sent()
        assert sent.startswith(got)
    driver.socket.end()
    driver.socket.room = None
    driver.settle()
    assert got + driver.sent() == sent
    assert driver.socket.closed
    assert driver.error is None
