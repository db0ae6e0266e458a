"""A log's line to a stream: in one write, never waited for.

What writes its text and its newline apart, or through a buffer that is emptied when it is full, mixes the
lines of several processes. So a line goes to the descriptor with one write. A pipe, a socket or a terminal
takes up to `WRITE_MAX` bytes at once or not at all; only a longer line may meet another one in its middle.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from typing import Any, Final

__all__ = ["LineLogger", "write_line"]

WRITE_MAX: Final = 4096  # bytes that a pipe which polls writable takes whole, without waiting (PIPE_BUF)


def write_line(stream: Any, text: str) -> None:
    """Write `text` and a newline to a text stream, after what waits in its buffer. Raises `OSError` if it is
    not taken: the disk is full, the reader has gone (or does not read: `BlockingIOError`)."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    data = text.encode(encoding, "backslashreplace") + "\n".encode(encoding)
    stream.flush()
    try:
        fd: int = stream.fileno()
    except (AttributeError, OSError, ValueError):  # in memory: a test's, or a program's own
        stream.write(data.decode(encoding))
        stream.flush()
        return
    if stat.S_ISREG(os.fstat(fd).st_mode):
        _write_all(fd, data)
        return
    for start in range(0, len(data), WRITE_MAX):
        if not writable(fd):
            raise BlockingIOError("the reader of the log does not read")
        _write_all(fd, data[start : start + WRITE_MAX])


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def writable(fd: int) -> bool:
    """Whether a write would be taken, or refused, at once."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))


class LineLogger:
    """What structlog writes with: as its `WriteLogger`, by `write_line`. `stream` names one in `sys`,
    looked up each time."""

    def __init__(self, stream: str = "stdout") -> None:
        self.stream = stream

    def __repr__(self) -> str:
        return f"<LineLogger to sys.{self.stream}>"

    def msg(self, message: str) -> None:
        """Write one line. Raises `OSError` if it is not taken."""
        write_line(getattr(sys, self.stream), message)

    log = debug = info = warn = warning = error = err = critical = fatal = exception = failure = msg
