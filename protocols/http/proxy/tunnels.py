"""Tunnels: after an upgrade (101), bytes both ways between two connections, each direction with its own end.

Rules: what one side sends is written to the other; when that is slower, the sending side is not read
meanwhile. A FIN is passed on and the other direction goes on (half-close). When one side is lost, so is the
other.
"""

from __future__ import annotations

from typing import Final

from actors import (
    ANYTHING,
    LOW_WATERMARK,
    SLEEP,
    UNCHANGED,
    Flush,
    Outcome,
    Stop,
    StreamProtocol,
    Timeout,
    Transport,
)

__all__ = ["TunnelEnd", "tunnel"]

READ_AND_DRAIN: Final = (ANYTHING, Flush(LOW_WATERMARK))
ONLY_DRAIN: Final = (SLEEP, Flush(LOW_WATERMARK))


def tunnel(idle_seconds: float) -> tuple[TunnelEnd, TunnelEnd]:
    """Two ends, one protocol per connection, both closed after `idle_seconds` without a byte."""
    one, other = TunnelEnd(idle_seconds), TunnelEnd(idle_seconds)
    one._other, other._other = other, one
    return one, other


class TunnelEnd(StreamProtocol):
    """One connection's end of a tunnel."""

    __slots__ = ("_closed", "_draining", "_finished", "_idle", "_other", "_transport")

    _other: TunnelEnd

    def __init__(self, idle_seconds: float) -> None:
        self._idle = idle_seconds
        self._transport: Transport | None = None  # until this end has its connection
        self._finished = False  # its peer sends nothing more, and that was passed on
        self._draining = False  # waits for its output to drain, and will then wake the other
        self._closed = False

    def __repr__(self) -> str:
        state = (
            "closed"
            if self._closed
            else "finished"
            if self._finished
            else "waiting"
            if self._transport is None
            else "open"
        )
        return f"<TunnelEnd {state}>"

    def connected(self, transport: Transport) -> Outcome:
        """This end has its connection."""
        self._transport = transport
        self._wake_other()
        return self._move(transport)

    def received(self, transport: Transport) -> Outcome:
        """Bytes for the other side."""
        return self._move(transport)

    def flushed(self, transport: Transport) -> Outcome:
        """This side takes more: the other may be read again."""
        self._draining = False
        self._wake_other()
        return self._move(transport)

    wakeup = received

    def ended(self, transport: Transport) -> Outcome:
        """Pass the end on; what comes from the other side still goes out."""
        return self._move(transport)

    def timeout(self, transport: Transport) -> Outcome:
        """Nothing came for too long. If the other direction is alive, its bytes have moved this deadline."""
        return Stop()

    def draining(self, transport: Transport) -> Outcome:
        """A tunnel has no good moment to end; it may go on until the drain's deadline."""
        return UNCHANGED

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """One side lost is both lost."""
        self._closed = True
        self._wake_other()

    def abandon(self) -> None:
        """The connection for this end will never come."""
        self._closed = True
        self._wake_other()

    def _move(self, transport: Transport) -> Outcome:
        other = self._other
        onward = other._transport
        if other._closed:
            return Stop()
        if onward is not None and not onward.congested:
            if transport.input:
                onward.write(transport.take(len(transport.input)))
            if transport.ended and not self._finished:
                self._finished = True
                onward.end()
        if self._finished and other._finished:
            return Stop()
        due = transport.scope.now + self._idle
        if other._transport is not None:
            scope = other._transport.scope
            if scope.alive and scope.deadline < due:
                scope.deadline = due  # later than before, so the timer heap need not know
        if self._draining and not transport.congested:
            self._wake_other()  # it may go on, and would not be told again
        self._draining = transport.congested
        if self._finished or onward is None or onward.congested:
            if onward is not None and onward.congested and not other._draining:
                onward.scope.wake()  # its own `_move` sees the congestion and waits for the drain
            return Timeout(self, due, ONLY_DRAIN if self._draining else SLEEP)
        return Timeout(self, due, READ_AND_DRAIN if self._draining else ANYTHING)

    def _wake_other(self) -> None:
        transport = self._other._transport
        if transport is not None:
            transport.scope.wake()
