"""The small parts: addresses, backoff, throttled events, the sibling check, and the test kit itself."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from actors import (
    ANYTHING,
    NEVER,
    Backoff,
    Bytes,
    Continue,
    Loop,
    Machine,
    Misuse,
    Retry,
    StreamProtocol,
    TcpAddress,
    Timeout,
    UnixAddress,
    parse_address,
)
from actors.events import CAUSES_MAX, EventLog
from actors.testing import (
    Driver,
    FakeSocket,
    FakeTransport,
    ManualClock,
    ManualKernel,
    at_every_split,
    run_until,
    splits,
)

# -- addresses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("127.0.0.1:8080", TcpAddress("127.0.0.1", 8080), "127.0.0.1:8080"),
        ("localhost:0", TcpAddress("localhost", 0), "localhost:0"),
        (":65535", TcpAddress("::", 65535), "[::]:65535"),
        ("[::1]:80", TcpAddress("::1", 80), "[::1]:80"),
        ("[::1]", TcpAddress("::1", 6379), "[::1]:6379"),
        ("host", TcpAddress("host", 6379), "host:6379"),
        ("unix:/run/app.sock", UnixAddress("/run/app.sock"), "unix:/run/app.sock"),
    ],
)
def test_addresses_as_people_write_them(text, address, shown):
    assert parse_address(text, default_port=6379) == address
    assert str(address) == shown


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("host", "write HOST:PORT"),
        ("[::1]", "write HOST:PORT"),
        ("::1:80", "in brackets"),
        ("host:", "valid port"),
        ("host:http", "valid port"),
        ("host:65536", "valid port"),
        ("host:-1", "valid port"),
        ("host:٣", "valid port"),
        ("host:000080", "valid port"),
        ("unix:", "names no path"),
        ("", "write HOST:PORT"),
    ],
)
def test_addresses_that_are_none_say_what_to_write(text, told):
    with pytest.raises(ValueError, match=told):
        parse_address(text)


def test_what_is_literal():
    assert TcpAddress("::1", 1).literal
    assert TcpAddress("10.0.0.1", 1).literal
    assert not TcpAddress("localhost", 1).literal


# -- backoff -----------------------------------------------------------------------------------------------


def test_backoff_doubles_up_to_its_longest_with_jitter():
    backoff, source = Backoff(1, 32), random.Random(1)
    assert backoff.delay(0, source) == 0
    for failures, whole in [(1, 1), (2, 2), (5, 16), (6, 32), (7, 32), (10_000, 32)]:
        delays = [backoff.delay(failures, source) for _ in range(50)]
        assert all(whole / 2 <= delay <= whole for delay in delays)
        assert len(set(delays)) > 40
    for first, longest, said in [(-1, 5, "first=-1; write 0 or more"), (5, 1, "0 <= first <= longest")]:
        with pytest.raises(ValueError, match=said):
            Backoff(first, longest)


@pytest.mark.parametrize(
    ("what", "failures", "due", "telling", "changed"),
    [
        ("", 0, 0.0, False, False),
        ("f", 1, 1.0, True, True),
        ("ff", 2, 2.0, True, False),
        ("fff", 3, 4.0, False, False),
        ("ffff", 4, 8.0, True, False),
        ("fffg", 4, 8.0, True, True),
        ("fffffffff", 9, 8.0, False, False),
        ("fffs", 0, 4.0, False, False),
        ("fffsf", 1, 1.0, True, False),
        ("fn", 1, 0.0, True, True),
        ("fl", 1, 5.0, True, True),
        ("fffffl", 5, 8.0, False, False),
        ("l", 0, 5.0, False, False),
        ("flf", 2, 2.0, True, False),
    ],
)
def test_a_retry_remembers(what, failures, due, telling, changed):
    # f, g: a failure of either kind; s: a success; n: at once; l: not before 5
    retry = Retry(Backoff(1, 8), AtMost())
    for event in what:
        if event in "fg":
            assert retry.failed(0.0, OSError(event)) == retry.due
        elif event == "s":
            retry.succeeded()
        elif event == "n":
            retry.at_once()
        else:
            retry.not_before(5.0)
    assert (retry.failures, retry.due) == (failures, due)
    assert (retry.worth_telling, retry.changed) == (telling, changed)


def test_a_retry_tells_what_it_knows():
    retry = Retry(Backoff(1, 8), AtMost())
    assert repr(retry) == "<Retry 0 failed in a row, due 0>"
    error = OSError("no route")
    retry.failed(2.5, error)
    retry.succeeded()
    assert retry.error is error
    assert repr(retry) == "<Retry 0 failed in a row, due 3.5, last 'no route'>"


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans())), st.integers(0, 1000))
def test_a_retry_waits_as_its_backoff_says(attempts, seed):
    backoff = Backoff(0.5, 20)
    retry, same = Retry(backoff, random.Random(seed)), random.Random(seed)
    now, in_a_row = 0.0, 0
    for seconds, fails in attempts:
        now += seconds
        before = retry.due
        if fails:
            in_a_row += 1
            assert retry.failed(now) == backoff.delay(in_a_row, same)
            assert now <= retry.due <= now + backoff.longest
        else:
            in_a_row = 0
            retry.succeeded()
            assert retry.due == before
        assert retry.failures == in_a_row
        assert retry.worth_telling == (in_a_row in (1, 2, 4, 8, 16, 32, 64))


class AtMost(random.Random):
    """No jitter: each pause is as long as it can be."""

    def uniform(self, a: float, b: float) -> float:
        return b


# -- events ------------------------------------------------------------------------------------------------


def test_one_line_per_cause_per_second_with_a_count_of_what_was_held_back():
    clock = ManualClock()
    log = EventLog(clock)
    with capture_logs() as logs:
        for _ in range(5):
            log.warning("lost", peer="a")
        log.warning("lost", cause="other", peer="b")
        clock.advance(1)
        log.error("lost", peer="c")
        clock.advance(1)
        log.info("lost", peer="d")
    assert [(line["peer"], line["log_level"], line.get("held_back")) for line in logs] == [
        ("a", "warning", None),
        ("b", "warning", None),
        ("c", "error", 4),
        ("d", "info", None),
    ]


def test_the_causes_that_are_remembered_are_bounded():
    log = EventLog(ManualClock())
    with capture_logs():
        for number in range(2 * CAUSES_MAX):
            log.info("event", cause=str(number))
    assert len(log._seen) <= CAUSES_MAX


def test_a_traceback_is_logged_as_text_without_local_variables():
    log = EventLog(ManualClock())
    with capture_logs() as logs:
        try:
            password = "hunter2"
            raise ValueError("broken")
        except ValueError as error:
            log.error("crash", exc_info=error)
    assert logs[0]["stack"].endswith("ValueError: broken")
    assert "exc_info" not in logs[0]
    assert password not in repr(logs[0]).replace('password = "hunter2"', "")


# -- the test kit ------------------------------------------------------------------------------------------


class Lines(StreamProtocol):
    """Answers each line with its length; a line of its own type for the state after the first."""

    def __init__(self, lines=()):
        self.lines = list(lines)

    def connected(self, transport):
        return Timeout(self, transport.scope.now + 5, Bytes(1))

    def received(self, transport):
        while (end := transport.input.find(b"\n")) >= 0:
            line = transport.take(end + 1)
            self.lines.append(line)
            transport.write(b"%d " % len(line))
        return Timeout(self, transport.scope.now + 5)


def test_a_driver_shows_what_happens():
    driver = Driver(Lines())
    assert driver.last.handler == "connected"
    assert (driver.deadline, driver.expectation) == (1005.0, ANYTHING)
    driver.advance(2).receive(b"ab\ncd")
    assert driver.last == ("received", Timeout(driver.machine, 1007.0))
    assert driver.machine.lines == [b"ab\n"]
    assert (driver.sent(), driver.sent()) == (b"3 ", b"")
    assert "Driver" in repr(driver)
    assert "alive" in repr(driver)
    driver.advance(10)
    assert isinstance(driver.error, TimeoutError)
    assert "stopped" in repr(driver)
    assert driver.kernel.clock.now == 1012.0
    with pytest.raises(Misuse):
        driver.stream  # noqa: B018


def test_clones_go_on_independently():
    driver = Driver(Lines()).receive(b"one")
    ended, more = driver.clone(), driver.clone()
    more.receive(b" two\n")
    ended.end()
    driver.expire()
    assert (more.machine.lines, more.alive) == ([b"one two\n"], True)
    assert (ended.machine.lines, ended.alive, ended.error) == ([], False, None)
    assert isinstance(driver.error, TimeoutError)
    assert more.kernel.clock.now == 1000.0
    again = more.clone().reset()
    assert isinstance(again.error, OSError)
    assert more.alive


def test_a_driver_runs_plain_machines():
    class Counter(Machine):
        count = 0

        def wakeup(self, scope):
            self.count += 1
            return Timeout(self, scope.now + 1)

        def timeout(self, scope):
            self.count += 10
            return Continue(self)

        def handle(self, scope):
            return "handle"

    driver = Driver(Counter())
    assert driver.handle == "handle"
    assert driver.deadline == NEVER
    with pytest.raises(Misuse, match="no deadline"):
        driver.expire()
    driver.wake().expire()
    assert driver.machine.count == 11
    for wrong in (lambda: driver.receive(b""), lambda: driver.stream):
        with pytest.raises(Misuse):
            wrong()
    driver.stop(ValueError("why"))
    assert str(driver.error) == "why"
    driver.wake()
    assert driver.machine.count == 11


def test_a_machine_with_a_descriptor_is_driven_by_it():
    class Reader(Machine):
        def start(self, scope):
            self.waker = scope.kernel.waker()
            scope.register(self.waker.fileno(), 1)
            return Continue(self)

        def ready(self, scope, events):
            self.waker.clear()
            return Continue(self)

        def stopped(self, scope, error):
            self.waker.close()

    driver = Driver(Reader())
    driver.machine.waker.wake()
    assert driver.settle().last.handler == "ready"
    assert not driver.drain().alive
    assert driver.last.handler == "draining"


def test_a_driver_notices_a_machine_that_spins():
    class Spinning(Machine):
        def wakeup(self, scope):
            return Timeout(self, scope.now)

        timeout = wakeup

    with pytest.raises(AssertionError, match="it spins"):
        Driver(Spinning()).wake()


def test_splits_and_what_differs_between_them():
    assert list(splits(b"abc")) == [[b"abc"], [b"a", b"b", b"c"], [b"a", b"bc"], [b"ab", b"c"]]
    lines = at_every_split(lambda: Driver(Lines()), b"a\nbc\n\n", lambda driver: driver.machine.lines)
    assert lines == [b"a\n", b"bc\n", b"\n"]
    with pytest.raises(AssertionError, match="cut as"):
        at_every_split(lambda: Driver(Lines()), b"a\nb\n", lambda driver: len(driver.steps))


def test_run_until_is_bounded():
    with Loop() as loop:
        run_until(loop, lambda: True)
        with pytest.raises(AssertionError, match="has not come true"):
            run_until(loop, lambda: False, seconds=0)
        with pytest.raises(AssertionError, match="3 ticks"):
            run_until(Loop(kernel=ManualKernel()), lambda: False, ticks=3)


def test_fakes_refuse_what_the_system_would():
    kernel = ManualKernel()
    poller = kernel.poller()
    sock = FakeSocket(kernel)
    poller.register(sock.fileno(), 1)
    with pytest.raises(FileExistsError):
        poller.register(sock.fileno(), 1)
    for wrong in (lambda: poller.modify(99, 1), lambda: poller.unregister(99)):
        with pytest.raises(FileNotFoundError):
            wrong()
    assert "connected" in repr(sock)
    assert sock.getsockname() == ("127.0.0.1", 40000)
    sock.close()
    sock.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        sock.send(b"x")
    assert kernel.wall_clock() > kernel.monotonic()
    assert kernel.temporary_file().read() == b""
    with pytest.raises(BlockingIOError):
        FakeSocket(kernel, state="listening").accept()
    with pytest.raises(BlockingIOError):
        FakeSocket(kernel).recv(1)
    with pytest.raises(ValueError, match="does not go back"):
        kernel.clock.advance(-1)
    assert repr(kernel.clock) == "<ManualClock 1000>"
    assert kernel.clock() == 1000
    assert Loop(kernel=kernel).fileno() == -1
    assert FakeTransport().scope.alive
