"""What becomes of a statement that nobody waits for any more.

Rules:
1. It is ended by a CancelRequest: at once past a deadline; when its asker has cancelled it, after
   `CANCEL_AFTER`, for most are done by then.
2. Only what is being executed is cancelled, and only if nobody waits for it. What stands behind gets its
   turn.
3. From a CancelRequest on the connection takes nothing new: it may come late, and would hit whatever runs
   then.
4. The connection stays open until the server has heard and answered, `LINGER_SECONDS` per answer at most.
   Until then it is one of the pool's. A request that reaches the server between two messages, before it has
   read the one that executes, cancels nothing: it is made again, after twice as long each time.
5. Of a copy that comes out, what is left goes by if it is little; else it is cut off.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from actors import NEVER
from pools import DeadlineExceeded, Wire, Work
from pools.units import EXCHANGE

from .cancel import cancel
from .copy.transfer import Incoming, Outgoing
from .copy.units import CopyIn, CopyOut
from .preparing import Preparing
from .statements import Statement

__all__ = ["Job", "Mark", "OrphansWire"]

CANCEL_AFTER: Final = 0.1  # seconds that a statement may go on whose asker has cancelled it
LINGER_SECONDS: Final = 1.0  # that a connection stays for a CancelRequest, and for what it brings about


class Mark:
    """A job that is not a statement's."""

    __slots__ = ("error",)

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error


Job = Statement | Preparing | Mark | Outgoing | Incoming


class OrphansWire(Wire):
    """A wire that knows what its server executes, and has it end what is nobody's."""

    __slots__ = (
        "_again",
        "_backlog",
        "_cancelled",
        "_cancelling",
        "_cut",
        "_incoming",
        "_jobs",
        "_orphaned",
        "_process",
        "_secret",
        "_until",
    )

    def __init__(self) -> None:
        super().__init__()
        self._process = self._secret = 0
        self._jobs: deque[Job] = deque()
        self._incoming: Incoming | None = None  # the first job, if it is a copy whose data comes
        self._backlog: deque[Work[Any]] = deque()  # handed over while nothing else may be sent
        self._orphaned = 0  # answers to come of which somebody may have gone
        self._cancelled: Work[Any] | None = None  # what the last CancelRequest was about
        self._cancelling = False  # it is on its way
        self._until = self._again = 0.0  # when the server has had its time; how long to the next request
        self._cut = False  # what is left of a copy is not read any more

    def _put_off(self, work: Work[Any], unit: Any) -> None:
        """What was asked before comes first; nothing of this one has left yet."""
        if isinstance(unit, CopyIn):
            work.when_settled(unit.settled)
        work.wire_bytes = 0
        self._backlog.append(work)

    def abandoned(self, work: Work[Any]) -> None:
        """What the server is doing for it is to end. A copy is broken off."""
        current = self.connection.current
        if current is not None:
            if current is work and isinstance(work.unit, CopyIn | CopyOut):
                self._break_off(work)
            self._orphaned = len(self._jobs) + len(self._backlog)
            self._look_at_orphans()

    def _look_at_orphans(self) -> None:
        """Does anybody wait for what is being executed?"""
        current = self.connection.current
        gone = None
        if current is not None and self._orphaned:
            driver = self.connection.driver
            work = current if current.stage != EXCHANGE or driver is None else driver.work
            gone = work.error if work.settled else None
        if gone is None:
            if current is None or self._cancelled is None:
                self.lingers = False
                self.deadline = NEVER
        elif isinstance(gone, DeadlineExceeded) or self._cancelled is not None:
            self._cancel()
        elif current is not None and (current.stage == EXCHANGE or not isinstance(self._jobs[0], Incoming)):
            self.lingers = True
            self.deadline = self.transport.scope.now + CANCEL_AFTER
            self.connection.wake()

    def _break_off(self, work: Work[Any]) -> None:
        job = self._jobs[0]
        if isinstance(job, Outgoing):
            job.abandon(work.error)
        elif isinstance(job, Incoming):
            self._incoming = job
            job.abandon(self.transport.scope.now)
        self.connection.wake()

    def _cancel(self) -> None:
        """CancelRequest, one for each, and one at a time."""
        current = self.connection.current
        if self._process and not self._cancelling and current is not self._cancelled:
            self._cancelled = current
            self._until = self.transport.scope.now + LINGER_SECONDS * len(self._jobs)
            self._again = CANCEL_AFTER
            self._request()

    def _request(self) -> None:
        self._cancelling = self.lingers = True
        self.deadline = self._until
        loop = self.transport.scope.loop
        cancel(loop, self.connection.backend.address, self._process, self._secret, self._heard)
        self.connection.wake()

    def _heard(self) -> None:
        """The server has been told, or cannot be. What it does about it is still to be read, but not of a
        copy that was cut off.
        """
        self._cancelling = False
        if self.connection.over:
            return
        if self._cut:
            self.lingers = False
        else:
            self._look_at_orphans()
            if self.lingers and not self._cancelling:
                self.deadline = min(self._until, self.transport.scope.now + self._again)
                self._again *= 2
        self.connection.wake()

    def _look_at_time(self) -> None:
        """What was to be done by now?"""
        if self._cancelled is not None:
            current = self.connection.current
            if self.transport.scope.now < self._until and not self._cancelling and not self._cut:
                if current is self._cancelled:
                    self._request()
                return
            self.lingers = False  # the server has had its time
            if self._cut:
                self._end_cut()
            elif current is not None and current.stage == EXCHANGE:
                self.connection.close(
                    TimeoutError("the server did not end a statement that no caller waits for")
                )
        elif self._orphaned:
            self._cancel()
            self.connection.retire()

    def _cut_off(self) -> None:
        """More of a copy is to come than anybody wants: have the server end it, and close."""
        self._incoming = None
        self._cut = True
        self._cancel()
        self.lingers = self._cancelling
        self.connection.retire()
        self._end_cut()

    def _end_cut(self) -> None:
        """When the server has been told."""
        if not self.lingers:
            self._jobs.clear()
            self.connection.settle(None, reusable=False)
