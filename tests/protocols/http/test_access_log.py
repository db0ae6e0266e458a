"""The access log: lines once a second, into files and pipes, whose readers may stay away."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors import Loop, SystemKernel
from actors.testing import ManualClock
from protocols import http
from protocols.http.server.access_log import (
    BATCH,
    WAITING_MAX,
    AccessLog,
    AccessLogStatistics,
    format_records,
)

PEER: Any = SimpleNamespace(peer="10.0.0.7")
LINE = b'10.0.0.7 - - [01/Jan/2026:00:00:00 +0000] "GET /a HTTP/1.1" 200 12 0.250\n'
NEW_YEAR = 1767225600.0  # 2026-01-01 00:00:00 UTC


class Kernel(SystemKernel):
    """The real one, with a clock that stands still."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.clock = self.monotonic = ManualClock()  # type: ignore[assignment]

    def wall_clock(self) -> float:  # type: ignore[override]
        return NEW_YEAR + self.clock() - 1000.0


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop(kernel=Kernel()) as loop:
        yield loop


def advance(loop: Loop, seconds: float) -> None:
    loop.tick(0)
    loop.kernel.clock.advance(seconds)  # type: ignore[attr-defined]
    for _ in range(3):
        loop.tick(0)


def note(log: AccessLog, count: int = 1) -> None:
    request = http.Request.make("GET", "/a")
    for _ in range(count):
        log.add(PEER, request, 200, 12, 0.25)


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (
            (0.0, "::1", "GET", "/", 0, 200, 0, 1.5),
            '::1 - - [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.0" 200 0 1.500',
        ),
        ((61.9, "", "-", "-", 1, 400, -1, 0.0), '- - - [01/Jan/2026:00:01:01 +0000] "-" 400 - 0.000'),
        (
            (0.0, "a", "GET", '/"\\\x1b[2J\xe9', 1, 404, -1, 0.0),
            'a - - [01/Jan/2026:00:00:00 +0000] "GET /\\x22\\x5C\\x1B[2J\\xE9 HTTP/1.1" 404 - 0.000',
        ),
    ],
)
def test_lines_are_in_the_common_format_and_cannot_be_forged(record: Any, line: str) -> None:
    assert format_records([record], NEW_YEAR).decode() == line + "\n"


def test_a_file_gets_its_lines_a_second_later(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    log = loop.spawn(AccessLog(fd))
    note(log)
    advance(loop, 0)
    assert path.read_bytes() == b""
    note(log)
    advance(loop, 1.0)
    assert path.read_bytes() == LINE * 2
    assert log.statistics() == AccessLogStatistics(written=2, dropped=0, gathered=0, waiting=0)
    os.close(fd)


def test_a_full_batch_is_written_at_once(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    log = loop.spawn(AccessLog(fd))
    note(log, BATCH)
    advance(loop, 0)
    assert path.read_bytes() == LINE * BATCH
    os.close(fd)


def test_what_is_left_is_written_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    reader, writer = os.pipe()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with Loop(kernel=Kernel()) as loop:
        for log in (loop.spawn(AccessLog(fd)), loop.spawn(AccessLog(writer))):
            note(log, 100)
    assert path.read_bytes() == LINE * 100
    assert os.read(reader, 1 << 16) == LINE * 100
    for descriptor in (fd, reader, writer):
        os.close(descriptor)


def test_a_pipe_is_never_waited_for_and_its_backlog_is_bounded(loop: Loop) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    log = loop.spawn(AccessLog(writer))
    note(log, WAITING_MAX // len(LINE) + 200)
    advance(loop, 1.0)  # the pipe is full now; a blocking write would never return
    note(log, 7)
    advance(loop, 1.0)
    note(log, 3)
    advance(loop, 1.0)
    assert log.dropped == 10
    assert os.read(reader, 4096).startswith(LINE)
    loop.tick(0)
    assert os.read(reader, 4096)  # and goes on where it was
    os.close(reader)
    advance(loop, 0)
    note(log)
    advance(loop, 1.0)
    assert "0 bytes to write" in repr(log)
    assert log.dropped > 10
    os.close(writer)
