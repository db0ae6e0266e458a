"""Streams: the machine that joins a connected socket, a transport and a protocol.

Rules:
1. One registration per connection, level-triggered; writability is watched only after a short write, and
   reading is paused only when data came that nobody expects. A connection that answers in time costs no
   `epoll_ctl` per request.
2. Nothing is written inside handlers: the loop flushes once, at the end of the tick.
3. Reading and flushing are independent (full duplex).
4. `Stop()` from the protocol sends what is gathered, then closes; `Stop(error)` resets the connection at
   once, so that the peer cannot take what it has got for the whole (TCP only: a Unix socket has no reset).
   However slow the peer, it is not cut off while it takes some of what is sent.
5. What the peer had sent before it closed or reset the connection is still delivered.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress
from typing import Any, ClassVar, Final

from actors.errors import DelimiterNotFound, Misuse
from actors.kernel import ERROR, READABLE, WRITABLE
from actors.machine import Machine
from actors.outcomes import NEVER, UNCHANGED, Continue, Outcome, Stop, Timeout
from actors.scope import Scope
from actors.telling import told

from .transports import ANYTHING, SLEEP, Bytes, Delimiter, Expectation, Flush, Sleep, Transport, bytes_like

__all__ = ["Stream", "StreamOwner", "StreamProtocol"]

READ_SIZE: Final = 32768  # bytes per recv: what is left of 64 KiB would make malloc tidy up at each free
FLUSHED: Final = 1  # `_pending`: what Flush named is reached
DUE: Final = 2  # `_pending`: what is expected is there, but others had to have their turn
BROKEN: Final = 4  # `_pending`: sending has failed
READ_AHEAD: Final = 65536  # bytes kept for a protocol that expects nothing, before reading is paused
NOTHING: Final = 1 << 62  # a count that is never reached: nothing is expected
SEND_JOIN_MAX: Final = 65536  # bytes; more than that is sent piece by piece instead of being copied together
SEND_PIECES_MAX: Final = 1024  # what the system takes at a time (IOV_MAX)
FLUSH_SECONDS: Final = 30.0  # without the peer's taking any of the last output, of a stream that has stopped
LINGER_SECONDS: Final = 2.0  # without the peer's sending anything; nginx 5 s, Apache 2 s
LINGER_SECONDS_MAX: Final = 30.0  # in all, however much it sends; nginx 30 s
LINGER_READS_MAX: Final = 64
MAPPED: Final = "::ffff:"  # before the dotted address of an IPv4 client of an IPv6 listener
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER for 0 seconds: closing sends RST instead of FIN
DELIVERIES_MAX: Final = 64  # `received` calls per event, before others get their turn
ENDS_MAX: Final = 16  # times that a protocol is told of the end, if it goes on expecting input


class StreamProtocol:
    """What a stream drives. Each handler returns an outcome whose machine is the protocol to go on as and
    whose value is the next `Expectation` (None: the same as before, when more has come). `transport.scope`
    gives the time, the token and the loop."""

    __slots__ = ()

    drain_phase: ClassVar[int | None] = 0
    """As `Machine.drain_phase`. None for a connection that another machine owns, a pool's to its backend,
    say."""

    def connected(self, transport: Transport) -> Outcome:
        """The connection is there (and its TLS handshake done)."""
        return Continue(self, ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        """The input holds what was expected."""
        raise NotImplementedError

    def flushed(self, transport: Transport) -> Outcome:
        """The output has fallen to what `Flush` named."""
        return UNCHANGED

    def ended(self, transport: Transport) -> Outcome:
        """The peer sends nothing more (FIN). Output may still be sent. By default stops.

        While the protocol sleeps or waits for `Flush` alone, this is told at once, before what is still in
        `transport.input` was read, and again after; the default then waits for the second time.
        """
        if transport.input and transport.asleep:
            return UNCHANGED
        return Stop()

    def wakeup(self, transport: Transport) -> Outcome:
        """Somebody woke this machine."""
        return UNCHANGED

    def timeout(self, transport: Transport) -> Outcome:
        """The deadline of the last outcome has passed."""
        return Stop(TimeoutError("the connection's deadline has passed"))

    def draining(self, transport: Transport) -> Outcome:
        """The loop drains: finish what is begun, then stop."""
        return Stop()

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """The connection is over. Called once, however it ends."""


class Stream(Transport, Machine[int]):
    """A connected socket with its protocol. The stream itself is the transport that the protocol gets."""

    __slots__ = (
        "_count",
        "_delimiter",
        "_flush_below",
        "_mask",
        "_owner",
        "_peer",
        "_pending",
        "_scanned",
        "protocol",
        "sock",
    )

    def __init__(
        self, sock: socket.socket, protocol: StreamProtocol, owner: StreamOwner | None = None
    ) -> None:
        self.scope: Scope = None  # type: ignore[assignment]  # until `start`
        self.input: bytes | bytearray = b""
        self.output: list[bytes] | None = None
        self.unsent = 0
        self.moved = 0.0
        self.ended = self.cut_off = self.linger = False
        self._ending = False
        self.sock = sock
        self.protocol = protocol
        self._owner = owner
        self._peer: str | None = None
        self._mask = READABLE  # what is watched; 0 also when nothing is registered any more
        self._count = 1  # `received` is called when the input holds so many bytes …
        self._delimiter: Delimiter | None = None  # … and this
        self._scanned = 0  # where to look for the delimiter next
        self._flush_below = -1
        self._pending = 0  # what `wakeup` must see to: FLUSHED, DUE, BROKEN

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} fd {self.sock.fileno()} {self.protocol!r}, {len(self.input)} bytes in, "
            f"{self.unsent} bytes out{', peer has ended' if self.ended else ''}>"
        )

    @property
    def drain_phase(self) -> int | None:  # type: ignore[override]  # each protocol has its own
        """When a draining loop asks: what the protocol says."""
        return self.protocol.drain_phase

    @property
    def asleep(self) -> bool:
        """Whether the protocol wants no input at present."""
        return self._count == NOTHING

    @property
    def peer(self) -> str:
        """The other end's address as text, without the port; empty for a Unix socket. One form for each: that
        of IPv4 for an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2)."""
        if self._peer is None:
            try:
                name: Any = self.sock.getpeername()
            except OSError:
                name = ""
            host = str(name[0]) if isinstance(name, tuple) else ""
            # a client by IPv4 of a listener on `[::]` is the same client as of one on `0.0.0.0`
            self._peer = host[len(MAPPED) :] if host.startswith(MAPPED) and "." in host else host
        return self._peer

    # -- machine ---------------------------------------------------------------------------------------------

    def start(self, scope: Scope) -> Outcome:
        """Watch the socket and tell the protocol."""
        self.scope = scope
        scope.register(self.sock.fileno(), READABLE)
        return self._begin()

    def _begin(self) -> Outcome:
        return self.follow(self.protocol.connected(self))

    def ready(self, scope: Scope, events: int) -> Outcome:
        """Read once. The common case, readable and nothing else, comes first."""
        if events != READABLE:
            return self._ready_otherwise(scope, events)
        try:
            data = self.sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return UNCHANGED
        except OSError as error:
            return Stop(error)
        if not data:
            return self._at_end()
        if self._count == 1 and self._delimiter is None and not self.input:
            self.input = data  # `_arrived`, for the case that is nearly always the case
            outcome = self.protocol.received(self)
            return outcome if outcome is UNCHANGED else self.follow(outcome)
        return self._arrived(data)

    def _arrived(self, data: bytes) -> Outcome:
        if self.input:
            self.feed(data)
        else:
            self.input = data
        if len(self.input) >= self._count and (self._delimiter is None or self._found(self._delimiter)):
            return self.follow(self.protocol.received(self))
        if self._count == NOTHING and len(self.input) >= READ_AHEAD:
            self._watch(self._mask & ~READABLE)
        return UNCHANGED

    def _ready_otherwise(self, scope: Scope, events: int) -> Outcome:
        if events & WRITABLE and not events & ERROR:  # after an error sending could only fail, see `_broken`
            self.flush()
        if not events & ~WRITABLE:
            return UNCHANGED
        if self._mask & READABLE:
            return self.ready(scope, READABLE)  # an error or a hang-up shows itself to recv
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            return Stop(OSError(code, os.strerror(code)))
        self._watch(0)  # hung up while reading is paused: what came before can be read later
        return UNCHANGED

    def _at_end(self) -> Outcome:
        self.ended = True
        self._watch(self._mask & ~READABLE)
        return self.follow(self.protocol.ended(self))

    def wakeup(self, scope: Scope) -> Outcome:
        """The stream's own affairs first, then the protocol's."""
        if self._pending:
            pending, self._pending = self._pending, self._pending & BROKEN
            outcome = self._see_to(pending)
            if outcome is not UNCHANGED or scope.machine is None:
                return outcome
        outcome = self.protocol.wakeup(self)
        return outcome if outcome is UNCHANGED else self.follow(outcome)

    def _see_to(self, pending: int) -> Outcome:
        if pending & BROKEN:
            return self._read_last()
        outcome: Outcome = UNCHANGED
        if pending & FLUSHED and self._flush_below >= self.unsent:  # still wanted, and still true
            self._flush_below = -1
            outcome = self.follow(self.protocol.flushed(self))
        if pending & DUE and outcome is UNCHANGED and self._is_due():
            outcome = self.follow(self.protocol.received(self))
        return outcome

    def _is_due(self) -> bool:
        return len(self.input) >= self._count and (self._delimiter is None or self._found(self._delimiter))

    def _read_last(self) -> Outcome:
        """Sending has failed: the peer is gone, but what it said before (an early answer, say) is still to be
        heard."""
        error = OSError(errno.EPIPE, "the peer has closed the connection")
        if self.ended:
            return Stop(error)
        for _ in range(LINGER_READS_MAX):
            try:
                data = self.sock.recv(READ_SIZE)
            except BlockingIOError:
                return Stop(error)
            except OSError as failure:
                return Stop(failure)
            if not data:
                break
            outcome = self._arrived(data)
            if outcome is not UNCHANGED:
                return outcome
        outcome = self._at_end()
        return Stop(error) if outcome is UNCHANGED else outcome

    def timeout(self, scope: Scope) -> Outcome:
        """The protocol's deadline."""
        return self.follow(self.protocol.timeout(self))

    def draining(self, scope: Scope) -> Outcome:
        """Ask the protocol."""
        return self.follow(self.protocol.draining(self))

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """Tell the protocol, close the socket."""
        try:
            self.protocol.stopped(self, error)
        finally:
            self._drop_output()
            if error is not None:
                self._reset()
            self.sock.close()
            if self._owner is not None:
                self._owner.stream_stopped(self)

    def _reset(self) -> None:
        with suppress(OSError):  # the peer may have reset it already
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    # -- what the protocol said ------------------------------------------------------------------------------

    def follow(self, outcome: Outcome) -> Outcome:
        """Take over the protocol's outcome, and go on telling it of what is there already until it waits for
        more."""
        scope = self.scope
        deliveries = ends = 0
        while outcome is not UNCHANGED:
            protocol = outcome.machine
            if protocol is None:
                return self._close(outcome)
            self.protocol = protocol
            scope.deadline = deadline = outcome.deadline
            if not deadline >= scope.scheduled:
                scope.loop.timers.schedule(scope, deadline)
            expectation = outcome.value
            if expectation is None:
                break
            if expectation is ANYTHING:
                self._count = 1
                self._delimiter = None
                self._flush_below = -1
            elif expectation is SLEEP:
                self._count = NOTHING
                self._delimiter = None
                self._flush_below = -1
            else:
                self._expect(expectation)
            if len(self.input) >= self._count and (self._delimiter is None or self._found(self._delimiter)):
                deliveries += 1
                if scope.machine is None:
                    break  # it was killed from inside its own handler
                if deliveries > DELIVERIES_MAX:  # the others' turn; go on in the next round
                    self._pending |= DUE
                    scope.wake()
                    break
                outcome = protocol.received(self)
            elif self.ended and self._count != NOTHING:
                ends += 1
                if scope.machine is None:
                    break
                if ends > ENDS_MAX:
                    raise Misuse(f"{told(protocol)}.ended() still expects input after the end; return Stop()")
                outcome = protocol.ended(self)
            else:
                # only now: while the input has what is expected, nothing more is read
                if self._count != NOTHING and not self._mask & READABLE and not self.ended:
                    self._watch(self._mask | READABLE)
                break
        return UNCHANGED

    def _expect(self, expectation: Expectation) -> None:
        self._flush_below = -1
        if isinstance(expectation, tuple):
            expectation, flush = expectation
            self._expect_flush(flush)
        self._delimiter = None
        if isinstance(expectation, Bytes):
            self._count = expectation.count
        elif isinstance(expectation, Sleep):
            self._count = NOTHING
        elif isinstance(expectation, Delimiter):
            self._count = 1
            self._delimiter = expectation
            self._scanned = 0
        elif isinstance(expectation, Flush):
            self._count = NOTHING
            self._expect_flush(expectation)
        else:
            raise Misuse(
                f"{told(self.protocol)} expects {told(expectation)}; "
                "write Bytes, Delimiter, Flush, Sleep or (one to read, Flush)"
            )

    def _expect_flush(self, flush: Flush) -> None:
        self._flush_below = flush.below
        if self.unsent <= flush.below:
            self._pending |= FLUSHED
            self.scope.wake()

    def _found(self, delimiter: Delimiter) -> bool:
        if self.input.find(delimiter.delimiter, self._scanned, delimiter.limit) >= 0:
            self._scanned = 0
            return True
        if len(self.input) >= delimiter.limit:
            raise DelimiterNotFound(f"{delimiter.delimiter!r} is not in the first {delimiter.limit} bytes")
        self._scanned = max(0, len(self.input) - len(delimiter.delimiter) + 1)
        return False

    def _close(self, outcome: Outcome) -> Outcome:
        if not isinstance(outcome, Stop):
            raise TypeError(f"{told(self.protocol)} returned {told(outcome)}")
        if (
            outcome.error is not None
            or not (self.unsent or self.linger or self.input)
            or self._pending & BROKEN
            or self.scope.machine is None
        ):
            return outcome
        self.linger = self.linger or bool(self.input)
        ended, self.protocol = self.protocol, _Closing()
        ended.stopped(self, None)
        return self.follow(self.protocol.connected(self))

    # -- output ----------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Gather output. It leaves at the end of the tick. Raises `TypeError` for what is no bytes."""
        if data.__class__ is not bytes:
            data = bytes_like(data)
        if self.output is None:
            self.output = [data]
            self.scope.loop.dirty.append(self)
        else:
            self.output.append(data)
        self.unsent += len(data)

    def touched(self) -> None:
        """Have the loop flush this stream at the end of the tick."""
        self.scope.loop.dirty.append(self)

    def flush(self) -> None:
        """Send what the socket takes; watch for writability only if it does not take all."""
        output = self.output
        if output is not None:
            try:
                if len(output) == 1:
                    sent = self.sock.send(output[0])
                elif self.unsent <= SEND_JOIN_MAX:
                    output[:] = (b"".join(output),)
                    sent = self.sock.send(output[0])
                else:
                    sent = self.sock.sendmsg(output[:SEND_PIECES_MAX])
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as failure:
                self._broken(failure)
                return
            self.unsent = left = self.unsent - sent
            if not left:
                self.output = None
                if self._mask & WRITABLE:
                    self._watch(self._mask & ~WRITABLE)
            else:
                if sent:
                    self.moved = self.scope.loop.now
                    drop_sent(output, sent)
                if not self._mask & WRITABLE:
                    self._watch(self._mask | WRITABLE)
        if self._flush_below >= self.unsent:
            self._pending |= FLUSHED
            self.scope.wake()
        if self._ending and self.unsent == 0:
            with suppress(OSError):  # gone already: reading will say so
                self.sock.shutdown(socket.SHUT_WR)

    def _broken(self, failure: OSError) -> None:
        """Sending has failed for good. The output stays, so that who wrote it can tell what has not left.

        The system tells of a reset once, and that was it: reading then sees what looks like a proper end.
        """
        self.cut_off = self.cut_off or failure.errno == errno.ECONNRESET
        self._watch(self._mask & ~WRITABLE)
        self._pending |= BROKEN
        self.scope.wake()

    def _drop_output(self) -> None:
        self.output = None
        self.unsent = 0

    def _watch(self, mask: int) -> None:
        if mask == self._mask:
            return
        fd = self.sock.fileno()
        if self._mask == 0 and self.scope.fd < 0:
            self.scope.register(fd, mask)
        elif mask == 0:
            self.scope.unregister(fd)  # epoll reports hang-ups even to an empty mask
        else:
            self.scope.modify(fd, mask)
        self._mask = mask


class StreamOwner:
    """Who is told that a stream has stopped: the listener that accepted it, say."""

    __slots__ = ()

    def stream_stopped(self, stream: Stream) -> None:
        """The stream's socket is closed."""


class _Closing(StreamProtocol):
    """After `Stop()`: send what is left, and read on for a moment if the peer may still be sending, because
    closing a socket with unread input resets the connection and the peer may lose the answer (RFC 9112
    section 9.6)."""

    __slots__ = ("_until",)

    def __repr__(self) -> str:
        return "<closing>"

    def connected(self, transport: Transport) -> Outcome:
        self._until = NEVER  # of lingering, which begins when all is sent
        transport.input = b""
        due = transport.scope.now + FLUSH_SECONDS
        return Timeout(self, due, (ANYTHING if transport.linger else SLEEP, Flush(0)))

    def flushed(self, transport: Transport) -> Outcome:
        if not transport.linger or transport.ended:
            transport.linger = False
            return Stop()
        transport.end()
        self._until = transport.scope.now + LINGER_SECONDS_MAX
        return self.received(transport)

    def received(self, transport: Transport) -> Outcome:
        transport.input = b""
        if self._until == NEVER:
            return Timeout(self, transport.scope.deadline)
        return Timeout(self, min(self._until, transport.scope.now + LINGER_SECONDS), ANYTHING)

    def ended(self, transport: Transport) -> Outcome:
        transport.linger = False
        return UNCHANGED if transport.unsent else Stop()

    def timeout(self, transport: Transport) -> Outcome:
        if self._until != NEVER:
            transport.linger = False  # it has had its time to read why
            return Stop()
        due = transport.moved + FLUSH_SECONDS
        if transport.scope.now < due:
            return Timeout(self, due)
        return Stop(TimeoutError("the peer no longer reads what it is sent"))

    def draining(self, transport: Transport) -> Outcome:
        return UNCHANGED


def drop_sent(output: list[bytes], sent: int) -> None:
    """Take the first `sent` bytes off the list."""
    whole = 0
    for piece in output:
        if sent < len(piece):
            break
        sent -= len(piece)
        whole += 1
    del output[:whole]
    if sent:
        output[0] = memoryview(output[0])[sent:]  # type: ignore[call-overload]  # the socket takes either
