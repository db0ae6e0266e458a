"""Simulated sockets: the ends of connections that exist only in memory, with the manners of Linux's.

Rules:
1. A direction of a connection is the sender's output, what is in flight, and the receiver's input, each of
   limited size. Nothing leaves unless the receiver has room for it; `send` takes nothing when the sender's
   buffer is full. What was sent arrives in order.
2. `close` sends what is left and then FIN; with unread input, or with SO_LINGER 0, it sends RST. Data that
   comes for a closed socket is answered by RST. A reset is told once, by `recv`, `send` or SO_ERROR; input
   that came before it can still be read.
3. A socket that changes tells its poller, which asks for `readiness`: level-triggered, as epoll(7) has it.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from actors.kernel import ERROR, HANGUP, READABLE, WRITABLE
from actors.outcomes import NEVER

if TYPE_CHECKING:
    from .kernel import SimulatedKernel, SimulatedPoller
    from .network import Connection, Link

__all__ = ["FIN", "RST", "DatagramSocket", "ListeningSocket", "SimulatedSocket", "StreamSocket"]

FIN: Final = b"FIN"  # compared by identity: marks in the stream of what is in flight
RST: Final = b"RST"
TCP_USER_TIMEOUT: Final = 18  # Linux's numbers: this network is Linux's wherever it is simulated
KEEPALIVE: Final = (4, 5, 6)  # TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT
SEGMENT_MAX: Final = 1 << 16  # bytes that travel as one


class SimulatedSocket:
    """What every kind has: a descriptor, and a poller that is told of changes."""

    __slots__ = ("fd", "hidden", "kernel", "poller")

    def __init__(self, kernel: SimulatedKernel) -> None:
        self.kernel = kernel
        self.fd = -1
        self.poller: SimulatedPoller | None = None
        self.hidden = 0  # faults that keep its readability from being seen

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.fd} of {self.kernel.host.name}>"

    def fileno(self) -> int:
        """The descriptor; -1 when closed."""
        return self.fd

    def readiness(self) -> int:
        """What a poller reports, whatever it watches for."""
        raise NotImplementedError

    def changed(self) -> None:
        """Readiness may be another now."""
        if self.poller is not None:
            self.poller.touch(self)

    def close(self) -> None:
        """Give the descriptor back."""
        if self.fd >= 0:
            self.kernel.remove(self)
            self.fd = -1

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        """Options that change nothing here."""

    def getsockopt(self, level: int, option: int) -> int:
        """Only SO_ERROR has a meaning."""
        return 0


class StreamSocket(SimulatedSocket):
    """One end of a connection."""

    __slots__ = (
        "arriving",
        "closed",
        "connected",
        "connection",
        "dead",
        "ended_here",
        "error",
        "fin_carried",
        "flight",
        "in_flight",
        "input",
        "keepalive",
        "linger_zero",
        "link",
        "output",
        "peer",
        "peer_ended",
        "user_timeout",
    )

    def __init__(self, kernel: SimulatedKernel, connection: Connection, link: Link) -> None:
        super().__init__(kernel)
        self.connection = connection
        self.link = link  # towards the peer
        self.peer: StreamSocket = None  # type: ignore[assignment]  # until both ends are made
        self.input: bytes | bytearray = b""
        self.output = bytearray()  # taken by `send`, and not on its way yet
        self.flight: deque[bytes] = deque()  # on its way to the peer, with FIN and RST as marks
        self.in_flight = 0  # bytes of it
        self.arriving = 0.0  # when the last of it arrives
        self.connected = self.dead = self.closed = False
        self.ended_here = self.fin_carried = self.peer_ended = self.linger_zero = False
        self.error = 0
        self.keepalive: dict[int, int] = {}  # options of TCP by which silence is noticed
        self.user_timeout = NEVER  # seconds, that what was sent may stay unacknowledged

    def __repr__(self) -> str:
        state = (
            "closed" if self.closed else "dead" if self.dead else "open" if self.connected else "connecting"
        )
        return f"<StreamSocket {self.fd} {self.connection} {state}, {len(self.input)} bytes to read>"

    # -- what a socket has -----------------------------------------------------------------------------------

    def recv(self, size: int) -> bytes:
        """What has arrived; then the error, or the end."""
        if self.fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if self.hidden:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if self.input:
            return self._take(min(size, self.kernel.read_max))
        if not self.peer_ended:
            self._raise_error()
            if not self.dead:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return b""

    def _take(self, size: int) -> bytes:
        data = self.input
        self.kernel.moves += 1
        if len(data) <= size:
            self.input = b""
            taken = bytes(data)
        else:
            taken = bytes(data[:size])
            if isinstance(data, bytes):
                self.input = data = bytearray(data)
            del data[:size]
        self.peer.transmit()
        return taken

    def send(self, data: Any) -> int:
        """As many bytes as there is room for."""
        if self.fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._raise_error()
        if self.dead or self.ended_here:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        kernel = self.kernel
        room = kernel.send_buffer - len(self.output) - self.in_flight
        if room <= 0 or not self.connected or kernel.buffers_full:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        count = min(len(data), room, kernel.write_max)
        kernel.moves += 1
        peer = self.peer
        if not self.output and count <= peer.kernel.receive_buffer - len(peer.input) - self.in_flight:
            self.in_flight += count  # nearly always: all of it leaves at once
            self.connection.carry(self, bytes(data if count == len(data) else memoryview(data)[:count]))
        else:
            self.output += data if count == len(data) else memoryview(data)[:count]
            self.transmit()
        return count

    def sendmsg(self, pieces: list[Any]) -> int:
        """As `send`."""
        return self.send(b"".join(pieces))

    def shutdown(self, how: int) -> None:
        """End the output: FIN follows what was sent."""
        if not self.connected or self.dead:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        self._end()

    def close(self) -> None:
        """In good order, or by RST: see rule 2."""
        if self.fd < 0:
            return
        super().close()
        self.closed = True
        if self.dead or not self.connected:
            self.dead = True
            return
        if self.input or self.linger_zero:
            self.abort()
        else:
            self._end()

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        """SO_LINGER for 0 seconds makes `close` send RST; keepalive and TCP_USER_TIMEOUT notice silence."""
        if level == socket.SOL_SOCKET and option == socket.SO_LINGER:
            self.linger_zero = True
        elif level == socket.IPPROTO_TCP and option in KEEPALIVE:
            self.keepalive[option] = value
        elif level == socket.IPPROTO_TCP and option == TCP_USER_TIMEOUT:
            self.user_timeout = value / 1000

    @property
    def patience(self) -> float:
        """Seconds after which keepalive takes a silent peer for gone; `NEVER` without it."""
        if len(self.keepalive) < len(KEEPALIVE):
            return NEVER
        idle, interval, probes = (self.keepalive[option] for option in KEEPALIVE)
        return float(idle + interval * probes)

    def getsockopt(self, level: int, option: int) -> int:
        """SO_ERROR: the pending error, which is taken off."""
        if level == socket.SOL_SOCKET and option == socket.SO_ERROR:
            error, self.error = self.error, 0
            return error
        return 0

    def getpeername(self) -> Any:
        """The other end's address and port."""
        if not self.connected or self.dead:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self.connection.name_of(self.peer)

    def getsockname(self) -> Any:
        """Its own address and port."""
        return self.connection.name_of(self)

    # -- for the poller --------------------------------------------------------------------------------------

    def readiness(self) -> int:
        """As tcp_poll of Linux."""
        if not self.connected and not self.dead:
            return 0
        mask = 0
        if self.hidden and (self.dead or self.peer_ended):
            return 0  # not even a hang-up is seen
        if (self.input or self.peer_ended or self.dead) and not self.hidden:
            mask |= READABLE
        if self.dead or self.ended_here:
            mask |= WRITABLE
        elif not self.kernel.buffers_full:
            queued = len(self.output) + self.in_flight
            if self.kernel.send_buffer - queued >= queued >> 1:
                mask |= WRITABLE
        if self.error:
            mask |= ERROR
        if self.dead or (self.peer_ended and self.ended_here):
            mask |= HANGUP
        return mask

    # -- for the network -------------------------------------------------------------------------------------

    def transmit(self) -> None:
        """Put on its way what the receiver has room for."""
        while self.output:
            peer = self.peer
            room = peer.kernel.receive_buffer - len(peer.input) - self.in_flight
            if peer.closed:
                room = SEGMENT_MAX  # it is told by RST
            if room <= 0 or self.dead:
                return
            size = min(room, SEGMENT_MAX)
            if size >= len(self.output):
                segment = bytes(self.output)
                self.output.clear()
            else:
                segment = bytes(memoryview(self.output)[:size])
                del self.output[:size]
            self.in_flight += len(segment)
            self.connection.carry(self, segment)
        if self.ended_here and not self.dead and not self.fin_carried:
            self.fin_carried = True
            self.connection.carry(self, FIN)

    def abort(self) -> None:
        """Send RST; what was not on its way yet is lost."""
        self.dead = True
        self.output.clear()
        self.connection.carry(self, RST)

    def arrived(self, segment: bytes) -> None:
        """Something has come from the peer."""
        if segment is RST:
            refused = errno.ECONNRESET if self.connected else errno.ECONNREFUSED
            self._reset(errno.EPIPE if self.peer_ended else refused)
        elif self.dead:
            self.connection.carry(self, RST)
        elif segment is FIN:
            self.peer_ended = True
            self.changed()
        elif self.closed:
            self.abort()
        else:
            if not self.input:
                self.input = segment
            else:
                if isinstance(self.input, bytes):
                    self.input = bytearray(self.input)
                self.input += segment
            self.changed()

    def acknowledged(self, segment: bytes) -> None:
        """What was in flight has arrived: there is room again."""
        if segment is not FIN and segment is not RST:
            self.in_flight -= len(segment)
            if self.poller is not None and not self.dead:
                self.changed()

    def fail(self, code: int) -> None:
        """The connection is over, for a reason that the peer did not tell."""
        self._reset(code)

    def _reset(self, code: int) -> None:
        if not self.dead:
            self.dead = True
            self.output.clear()
            if not self.closed:
                self.error = code
                self.changed()

    def _end(self) -> None:
        if not self.ended_here:
            self.ended_here = True
            self.transmit()
            self.changed()

    def _raise_error(self) -> None:
        if self.error:
            code, self.error = self.error, 0
            raise OSError(code, os.strerror(code))


class ListeningSocket(SimulatedSocket):
    """Connections that wait to be accepted, at most `backlog` of them."""

    __slots__ = ("address", "backlog", "queue")

    def __init__(self, kernel: SimulatedKernel, address: str | tuple[str, int], backlog: int) -> None:
        super().__init__(kernel)
        self.address = address  # a path, or host and port
        self.backlog = backlog
        self.queue: deque[StreamSocket] = deque()

    def accept(self) -> tuple[StreamSocket, Any]:
        """The next one."""
        if not self.queue or self.hidden:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        sock = self.queue.popleft()
        self.kernel.moves += 1
        self.kernel.add(sock)
        return sock, sock.connection.name_of(sock.peer)

    def getsockname(self) -> Any:
        """Where it listens."""
        return self.address

    def readiness(self) -> int:
        """Readable when somebody waits."""
        return READABLE if self.queue and not self.hidden else 0

    def offer(self, sock: StreamSocket) -> bool:
        """Somebody connects. False if there is no room."""
        if len(self.queue) >= self.backlog:
            return False
        self.queue.append(sock)
        self.changed()
        return True

    def close(self) -> None:
        """Who waits is reset."""
        if self.fd < 0:
            return
        super().close()
        self.kernel.not_listening(self)
        while self.queue:
            sock = self.queue.popleft()
            sock.closed = True
            if not sock.dead:
                sock.abort()


class DatagramSocket(SimulatedSocket):
    """Datagrams: each arrives whole or not at all, in any order."""

    __slots__ = ("address", "received")

    def __init__(self, kernel: SimulatedKernel, address: tuple[str, int]) -> None:
        super().__init__(kernel)
        self.address = address
        self.received: deque[tuple[bytes, tuple[str, int]]] = deque()

    def sendto(self, data: bytes, address: tuple[str, int]) -> int:
        """Send one. Whether it arrives nobody tells."""
        self.kernel.network.throw(self, bytes(data), address)
        return len(data)

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        """The next one, cut off at `size` bytes."""
        if not self.received:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        data, address = self.received.popleft()
        return data[:size], address

    def getsockname(self) -> Any:
        """Where it receives."""
        return self.address

    def readiness(self) -> int:
        """Always writable; readable when one is there."""
        return WRITABLE | (READABLE if self.received else 0)

    def close(self) -> None:
        """Nothing comes any more."""
        if self.fd >= 0:
            super().close()
            self.kernel.datagrams.pop(self.address[1], None)
