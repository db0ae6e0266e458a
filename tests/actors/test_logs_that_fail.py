"""A log that cannot be written: dropped and counted, and nobody else notices."""

from __future__ import annotations

import contextlib
import io
import os

import pytest

from actors import UNCHANGED, Loop, Machine, Misuse, Timeout
from actors.events import EventLog
from actors.lines import LineLogger, write_line
from actors.testing import ManualClock


class Failing:
    """A logger whose disk is full, until it is not."""

    def __init__(self):
        self.full = True
        self.lines = []

    def info(self, event, **fields):
        if self.full:
            raise OSError(28, "No space left on device")
        self.lines.append((event, fields))

    warning = error = info


def test_a_line_that_cannot_be_written_is_counted_and_told_by_the_next():
    clock, sink = ManualClock(), Failing()
    log = EventLog(clock)
    log.bind(worker=3)
    log.send_to(sink)
    log.info("first")
    log.error("second", exc_info=ValueError("broken"))
    assert log.lost == 2
    sink.full = False
    log.info("third", a=1)
    log.info("fourth")
    assert sink.lines == [("third", {"worker": 3, "a": 1, "lines_lost": 2}), ("fourth", {"worker": 3})]
    assert log.lost == 2


def test_a_logger_without_the_methods_is_refused_at_once():
    with pytest.raises(Misuse, match="has no method warning"):
        EventLog(ManualClock()).send_to(type("Half", (), {"info": print})())


class Crashes(Machine[int]):
    def start(self, scope):
        scope.wake()
        return UNCHANGED

    def wakeup(self, scope):
        raise ValueError("broken")


class Keeps(Machine[int]):
    ticked = 0

    def start(self, scope):
        return Timeout(self, scope.now)

    def timeout(self, scope):
        self.ticked += 1
        return UNCHANGED


def test_a_crash_that_cannot_be_told_ends_nobody_else():
    with Loop() as loop:
        loop.log.send_to(Failing())
        loop.spawn(Crashes())
        keeps = Keeps()
        loop.spawn(keeps)
        loop.tick(0)
        told = loop.statistics()
        assert (told.crashed, told.log_lines_lost, keeps.ticked) == (1, 1, 1)


def test_the_sink_of_a_program_that_has_configured_nothing(monkeypatch):
    monkeypatch.setattr("structlog.is_configured", lambda: False)  # other tests may have done so
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        log = EventLog(ManualClock())
        log.info("lost")
        assert log.lost == 1


def test_the_default_goes_to_standard_output_as_it_is_now(capsys, monkeypatch):
    monkeypatch.setattr("structlog.is_configured", lambda: False)
    EventLog(ManualClock()).info("hello", port=1)
    assert "hello" in capsys.readouterr().out


# -- one write per line ------------------------------------------------------------------------------------


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", 0) as read, os.fdopen(writer, "w") as write:
        yield read, write


def test_what_waits_in_the_buffer_goes_first(pipe):
    read, write = pipe
    write.write("a program's own\n")
    write_line(write, "a line")
    assert os.read(read.fileno(), 100) == b"a program's own\na line\n"


def test_a_long_line_arrives_whole(pipe):
    read, write = pipe
    write_line(write, "x" * 10_000)
    assert os.read(read.fileno(), 20_000) == b"x" * 10_000 + b"\n"


def test_a_pipe_that_nobody_reads_is_not_waited_for(pipe):
    _, write = pipe
    os.set_blocking(write.fileno(), False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write.fileno(), b"x" * 100)
    os.set_blocking(write.fileno(), True)
    with pytest.raises(BlockingIOError):
        write_line(write, "x")


def test_a_reader_that_has_gone(pipe):
    read, write = pipe
    read.close()
    with pytest.raises(BrokenPipeError):
        write_line(write, "x")


def test_a_file_and_what_it_cannot_encode(tmp_path):
    with open(tmp_path / "log", "w", encoding="ascii") as log:
        write_line(log, "Größe")
    assert (tmp_path / "log").read_text() == "Gr\\xf6\\xdfe\n"


def test_a_stream_in_memory():
    stream = io.StringIO()
    write_line(stream, "x")
    assert stream.getvalue() == "x\n"


def test_the_logger_finds_its_stream_each_time(capsys):
    logger = LineLogger("stderr")
    logger.warning("careful")
    assert capsys.readouterr().err == "careful\n"
    assert "stderr" in repr(logger)
