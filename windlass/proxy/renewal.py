"""SIGHUP to a proxy that is one process: what was read and opened at the start is read and opened again.

Nothing is closed, and no client is refused. A connection that is made from then on sees the new certificates.
What cannot be used is logged, and the previous files stay in use. So SIGHUP means the same as with several
workers.
"""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from actors import UNCHANGED, Continue, Loop, Machine, Outcome, Scope

__all__ = ["Renewal", "lead_to", "on_hangup"]


class Renewal(Machine[int]):
    """Calls `renew` when woken; what it raises as `OSError` or `ValueError` is logged."""

    drain_phase = None

    def __init__(self, renew: Callable[[], object]) -> None:
        self._renew = renew

    def start(self, scope: Scope) -> Outcome:
        """Wait."""
        return Continue(self)

    def wakeup(self, scope: Scope) -> Outcome:
        """Do it."""
        try:
            self._renew()
        except (OSError, ValueError) as error:
            scope.loop.log.error("cannot renew; the previous files stay in use", reason=str(error))
        else:
            scope.loop.log.info("renewed")
        return UNCHANGED


@contextmanager
def on_hangup(loop: Loop, renew: Callable[[], object]) -> Iterator[None]:
    """Have SIGHUP renew, unless it is ignored (as by nohup)."""
    before = signal.getsignal(signal.SIGHUP)
    if before is signal.SIG_IGN:
        yield
        return
    token = loop.spawn(Renewal(renew))
    signal.signal(signal.SIGHUP, lambda number, frame: loop.notifier.wake(token))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
        loop.kill(token)


def lead_to(fd: int, opened: int) -> None:
    """Have `fd` lead to the file that was `opened` again. It keeps its number, so its writers need not
    know. What is not a file (a pipe) stays as it is."""
    try:
        if stat.S_ISREG(os.fstat(opened).st_mode):
            os.dup2(opened, fd, inheritable=False)
    finally:
        os.close(opened)
