"""Signals: which of them a loop takes, and how it notices them at once.

The interpreter calls a handler between two steps of the main thread's code. While that thread waits in the
poller this happens only if the signal has interrupted the very wait: not if it came just before, nor if the
system has given it to another thread. So the interpreter also writes to a pipe, and the loop watches that.

Rules:
1. A process has one descriptor of this kind (`signal.set_wakeup_fd`). One that another library has set goes
   on hearing what comes, and is put back at the end; one that is set meanwhile is left to whoever did it.
2. A forked child shares the pipe with its parent, and lets go of it before any other code of it runs.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from .forks import ForkedPoller, tell_of_forks

if TYPE_CHECKING:
    from .loop import Loop

__all__ = ["SignalPipe", "noticed_at_once", "taken"]


class SignalPipe:
    """Readable when a signal has come. Raises `ValueError` outside of the main thread, which alone may have
    one."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        try:
            os.set_blocking(self._reader, False)
            os.set_blocking(self._writer, False)
            self._before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        except BaseException:
            self._give_back()
            raise
        self._closed = False

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._reader

    def clear(self) -> None:
        """Make it unreadable again, and tell whoever listened before."""
        with suppress(BlockingIOError):
            numbers = os.read(self._reader, 4096)
            if self._before >= 0:
                with suppress(OSError):  # full, or closed: it is theirs
                    os.write(self._before, numbers)

    def close(self) -> None:
        """Put back what was before, unless another library has put something else there."""
        if self._closed:
            return
        self._closed = True
        with suppress(ValueError, OSError):  # what was before is closed
            now = signal.set_wakeup_fd(-1)
            signal.set_wakeup_fd(self._before if now == self._writer else now, warn_on_full_buffer=False)
        self._give_back()

    forked_away = close

    def _give_back(self) -> None:
        os.close(self._reader)
        os.close(self._writer)


@contextmanager
def noticed_at_once(loop: Loop) -> Iterator[None]:
    """While this lasts a signal ends the loop's wait, so that its handler is called at once. Nothing outside
    of the main thread, and where the kernel is not the system's."""
    pipe = None
    if loop.fileno() >= 0 and not loop.notifier.hears_signals:
        with suppress(ValueError):
            pipe = SignalPipe()
    if pipe is None:
        yield
        return
    tell_of_forks(pipe)
    loop.notifier.hear_signals(pipe)
    try:
        yield
    finally:
        loop.notifier.hear_signals(None)
        pipe.close()


@contextmanager
def taken(loop: Loop, drain: float) -> Iterator[None]:
    """While this lasts a first SIGINT or SIGTERM drains the loop for at most `drain` seconds, a second one
    stops it. Only where the program has set no handler itself."""

    def arrived(number: int, frame: object) -> None:
        if isinstance(loop.poller, ForkedPoller):  # a child has inherited the handler, and nothing drains
            signal.signal(number, defaults[number])
            signal.raise_signal(number)
        elif loop.draining:
            loop.stop()
        else:
            loop.drain(drain)

    defaults: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    ours = [number for number, default in defaults.items() if signal.getsignal(number) is default]
    with noticed_at_once(loop):
        try:
            for number in ours:
                signal.signal(number, arrived)
        except ValueError:  # not in the main thread, which alone may set handlers
            ours = []
        try:
            yield
        finally:
            for number in ours:
                signal.signal(number, defaults[number])
