"""The access log: one line per answered request, in the common log format with the duration at its end.

Rules:
1. In the request's path nothing is formatted: a record is one tuple in a list.
2. Lines are made and written once a second, or when `BATCH` records wait, in a turn of the log's own.
3. Nothing blocks and nothing grows: a file is written to at once, a pipe or a terminal only while it takes
   more; what its reader leaves beyond `WAITING_MAX` is dropped, counted, and said in the events.

A line: `client - - [time] "METHOD target HTTP/1.x" status bytes seconds`. The seconds count from the request
(its head, or a gathered body's end) to the answer's head; the bytes are those that were announced, `-` if the
answer did not say.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import Final

import msgspec

from actors import (
    ERROR,
    HANGUP,
    NEVER,
    UNCHANGED,
    WRITABLE,
    Continue,
    Machine,
    Outcome,
    Scope,
    Timeout,
    Transport,
)

from .request import Request

__all__ = ["AccessLog", "AccessLogStatistics", "format_records"]

INTERVAL: Final = 1.0  # seconds
BATCH: Final = 4096  # records
WAITING_MAX: Final = 8 << 20  # bytes
WRITE_MAX: Final = (
    4096  # bytes; what POSIX lets a pipe that polls writable take without blocking (PIPE_BUF on Linux)
)
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_unsafe = re.compile(r"[^ !#-\[\]-~]")


Record = tuple[float, str, str, str, int, int, int, float]
"""When (monotonic seconds), peer, method, target, minor version, status, bytes (-1: not known), seconds."""


class AccessLogStatistics(msgspec.Struct, frozen=True):
    """A snapshot of an access log. `waiting` is in bytes, the others in lines."""

    written: int
    dropped: int
    gathered: int
    waiting: int


class AccessLog(Machine["AccessLog"]):
    """Spawn it, then give it to `server(access_log=…)`. The descriptor stays the caller's to close."""

    __slots__ = ("_fd", "_pending", "_polled", "_records", "_scope", "dropped", "written")

    drain_phase = None  # it ends when those that report to it have

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._polled = False  # whether it is a pipe, a socket or a terminal, which can be full
        self._records: list[Record] = []
        self._pending = bytearray()  # formatted, and not taken yet
        self._scope: Scope | None = None
        self.written = self.dropped = 0  # lines

    def __repr__(self) -> str:
        waiting = f"{len(self._records)} records and {len(self._pending)} bytes to write"
        return f"<AccessLog {waiting}, {self.written} lines written, {self.dropped} dropped>"

    def handle(self, scope: Scope) -> AccessLog:
        """Spawning gives the log itself."""
        return self

    def add(
        self,
        transport: Transport,
        request: Request | None,
        status: int,
        size: int,
        seconds: float,
    ) -> None:
        """Note one answer: called by connections, in the request's path."""
        scope = self._scope
        assert scope is not None, "spawn the access log before the server"
        records = self._records
        method, target, minor = "-", "-", 1
        if request is not None:
            method, target, minor = request.method, request.target, request.minor
        records.append((scope.loop.now, transport.peer, method, target, minor, status, size, seconds))
        if len(records) == 1 or len(records) == BATCH:
            scope.wake()

    def statistics(self) -> AccessLogStatistics:
        """What was written and dropped so far, and what is still to be."""
        return AccessLogStatistics(self.written, self.dropped, len(self._records), len(self._pending))

    # -- machine ---------------------------------------------------------------------------------------------

    def start(self, scope: Scope) -> Outcome:
        """See what kind of descriptor it is."""
        self._scope = scope
        try:
            scope.register(self._fd, WRITABLE)
        except PermissionError:  # epoll's way to say that a file is always ready
            return Continue(self)
        self._polled = True
        scope.modify(self._fd, 0)
        return Continue(self)

    def wakeup(self, scope: Scope) -> Outcome:
        """The first record of a second, or a full batch."""
        if len(self._records) >= BATCH:
            return self.timeout(scope)
        return Timeout(self, scope.now + INTERVAL) if scope.deadline == NEVER else UNCHANGED

    def timeout(self, scope: Scope) -> Outcome:
        """Make lines of what has gathered, and write what can be written."""
        self._format(scope)
        if self._polled:
            scope.modify(self._fd, WRITABLE if self._pending else 0)
        else:
            self._write(len(self._pending))
        return Continue(self)

    def ready(self, scope: Scope, events: int) -> Outcome:
        """The pipe takes more, or its reader has gone."""
        if events & (ERROR | HANGUP):
            scope.unregister(self._fd)
            self._polled = False  # further writes fail at once, and say so
        elif self._pending:
            self._write(WRITE_MAX)
            if not self._pending:
                scope.modify(self._fd, 0)
        return UNCHANGED

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """What is left is written now, as far as it is taken."""
        self._format(scope)
        if not self._polled:
            self._write(len(self._pending))
            return
        poller = scope.kernel.poller()
        poller.register(self._fd, WRITABLE)
        while self._pending and poller.poll(0):
            self._write(WRITE_MAX)
        poller.close()

    # -- writing ---------------------------------------------------------------------------------------------

    def _format(self, scope: Scope) -> None:
        records, self._records = self._records, []
        if len(self._pending) >= WAITING_MAX:
            self._drop(len(records), "its reader does not keep up")
            return
        self._pending += format_records(records, scope.kernel.wall_clock() - scope.now)

    def _write(self, size: int) -> None:
        while self._pending:
            try:
                sent = os.write(self._fd, self._pending[:size])
            except BlockingIOError:
                return
            except OSError as error:
                lines = self._pending.count(b"\n")
                self._pending.clear()
                self._drop(lines, error.strerror or str(error))
                return
            self.written += self._pending.count(b"\n", 0, sent)
            del self._pending[:sent]
            if self._polled:
                return

    def _drop(self, lines: int, reason: str) -> None:
        self.dropped += lines
        if self._scope is not None:
            self._scope.loop.log.warning("access log lines dropped", lines=lines, reason=reason)


def format_records(records: list[Record], epoch: float) -> bytes:
    """Lines in the common log format. `epoch`: seconds to add to a record's time to get those since 1970."""
    lines: list[str] = []
    second, stamp = -1, ""
    for record in records:
        when, peer, method, target, minor, status, size, seconds = record
        moment = int(when + epoch)
        if moment != second:
            second = moment
            at = datetime.fromtimestamp(moment, UTC)
            stamp = f"{at:%d}/{MONTHS[at.month - 1]}/{at:%Y:%H:%M:%S} +0000"
        line = "-" if method == "-" else f"{method} {_unsafe.sub(escaped, target)} HTTP/1.{minor}"
        sent = "-" if size < 0 else size
        lines.append(f'{peer or "-"} - - [{stamp}] "{line}" {status} {sent} {seconds:.3f}\n')
    return "".join(lines).encode("ascii")


def escaped(found: re.Match[str]) -> str:
    """A character that could end the field, or fool a terminal, as nginx writes it: `\\x22`."""
    return "".join(f"\\x{byte:02X}" for byte in found[0].encode("latin-1"))
