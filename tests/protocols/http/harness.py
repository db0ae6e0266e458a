"""A server on a real loop and clients on real sockets, in one thread: the loop ticks until the test has what
it waits for. And the same server on a manual kernel, where time passes only when told to."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from actors import Loop, Stream
from actors.events import EventLog
from actors.testing import FakeSocket, ManualKernel
from protocols.http import Server, server
from protocols.http.codec.bodies import body_decoder
from protocols.http.codec.errors import BadResponse
from protocols.http.codec.head import parse_response_head
from protocols.http.codec.headers import Headers
from protocols.http.codec.limits import DEFAULT_LIMITS

__all__ = ["Answer", "Client", "Served", "Simulated", "get", "read_answers"]

SECONDS_MAX = 60.0


def get(target: str = "/", lines: str = "", method: str = "GET", minor: int = 1) -> bytes:
    """A request without a body. `lines` end in CRLF."""
    return f"{method} {target} HTTP/1.{minor}\r\nHost: a\r\n{lines}\r\n".encode()


class Answer:
    """One response as a client sees it."""

    def __init__(self, status: int, headers: Headers, body: bytes, trailers: Headers, complete: bool) -> None:
        self.status, self.headers, self.body, self.trailers = status, headers, body, trailers
        self.complete = complete

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.headers!r} {self.body[:80]!r}>"


def read_answers(data: bytes, methods: str = "", *, ended: bool = False) -> list[Answer]:
    """Every complete response in `data`. `methods`: those of the requests, separated by spaces; GET if fewer.
    An incomplete response at the end is an error, unless it is a head without all of its body."""
    answers = []
    names = methods.split()
    start = 0
    while start < len(data):
        method = names[0] if names else "GET"
        head = parse_response_head(data, start, DEFAULT_LIMITS, method)
        assert head is not None, data[start:]
        start = head.end
        pieces: list[bytes] = []
        decoder = body_decoder(head.length, DEFAULT_LIMITS, BadResponse)
        start = decoder.feed(data, start, pieces)
        complete = decoder.done or (ended and decoder.finish())
        if head.status >= 200:
            names = names[1:]
        answers.append(Answer(head.status, head.headers, b"".join(pieces), decoder.trailers, complete))
        if not complete:
            break
    return answers


class Client:
    """One connection. `closed` is how it ended: `"fin"`, `"reset"` or None."""

    def __init__(self, loop: Loop, sock: Any) -> None:
        self._loop = loop
        self.sock = sock
        self.sock.setblocking(False)
        self.received = b""
        self.closed: str | None = None
        self._to_send = b""

    def send(self, data: bytes) -> Client:
        """Send all of it, the loop ticking while the server does not take it."""
        self._to_send += data
        until(self._loop, self._push)
        return self

    def _push(self) -> bool:
        while self._to_send:
            try:
                sent = self.sock.send(self._to_send[:65536])
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
                    return False
                self._to_send = b""
                return True
            self._to_send = self._to_send[sent:]
        return True

    def push(self, data: bytes) -> None:
        """Have it sent by `pump`."""
        self._to_send += data

    def pump(self) -> int:
        """Send what the system takes now; how many bytes are left."""
        view = memoryview(self._to_send)
        try:
            while view:
                view = view[self.sock.send(view[:65536]) :]
        except BlockingIOError:
            pass
        self._to_send = bytes(view)
        return len(self._to_send)

    @property
    def unsent(self) -> int:
        """How many bytes `pump` has left to send."""
        return len(self._to_send)

    def send_bytewise(self, data: bytes) -> Client:
        """Send it byte by byte, each in a tick of its own."""
        for index in range(len(data)):
            try:
                self.sock.send(data[index : index + 1])
            except OSError:
                break  # refused before its end
            self._loop.tick(0)
            self._pull()
        return self

    def pull(self) -> None:
        """Take what is there."""
        self._pull()

    def _pull(self) -> None:
        while self.closed is None:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return
            except ConnectionError:
                self.closed = "reset"
                return
            if not data:
                self.closed = "fin"
            self.received += data

    def until(self, condition: Callable[[], Any]) -> Client:
        """Tick until `condition()`, reading meanwhile."""

        def met() -> bool:
            self._pull()
            return bool(condition())

        until(self._loop, met)
        return self

    def answers(self, count: int, methods: str = "") -> list[Answer]:
        """Wait for so many complete final answers."""
        found: list[Answer] = []
        looked = read = -1  # how many bytes there were when it was looked, and when they were read

        def met() -> bool:
            nonlocal looked, read
            size = len(self.received)
            grows, looked = size > looked, size
            if self.closed is None and (size == read or (grows and size < 2 * read)):
                return False  # nothing new, or more is coming: to read all at each turn would take too long
            read = size
            found[:] = []
            try:
                found[:] = read_answers(self.received, methods)
            except AssertionError:
                return self.closed is not None
            return sum(a.status >= 200 and a.complete for a in found) >= count or self.closed is not None

        self.until(met)
        return found

    def answer(self, method: str = "GET") -> Answer:
        """Wait for one final answer, which must be the only one."""
        found = [answer for answer in self.answers(1, method) if answer.status >= 200]
        assert len(found) == 1, self.received
        return found[0]

    def to_the_end(self, methods: str = "") -> list[Answer]:
        """Wait until the server closes; everything it has said."""
        self.until(lambda: self.closed is not None)
        return read_answers(self.received, methods, ended=self.closed == "fin")

    def close(self) -> None:
        self.sock.close()


def until(loop: Loop, condition: Callable[[], Any]) -> None:
    """Tick until `condition()`. What is on its way to a client shows itself to no poller of the loop, so each
    tick waits for a moment at most."""
    clock = loop.kernel.monotonic
    end = clock() + SECONDS_MAX
    while not condition():
        assert clock() < end, f"{loop!r}: it has not come true within {SECONDS_MAX} s"
        loop.tick(0.001)


def streams(loop: Loop) -> list[Stream]:
    """The connections on a loop."""
    machines = [scope.machine for scope in loop.living()]
    return [machine for machine in machines if isinstance(machine, Stream)]


class QuietLog(EventLog):
    """Keeps what is logged: rendering a traceback takes longer than most tests."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def _emit(self, level: str, event: str, cause: str | None, fields: dict[str, Any]) -> None:
        self.lines.append((level, event, fields))


class Served:
    """A server of `handler` on a loop of its own. `options` are those of `http.server`."""

    def __init__(self, handler: Any, address: str = "127.0.0.1:0", **options: Any) -> None:
        self.loop = Loop()
        self.loop.log = QuietLog()
        self.clients: list[Client] = []
        self.server: Server = self.loop.spawn(server(address, handler, **options))

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *exception: object) -> None:
        for client in self.clients:
            client.close()
        self.loop.close()

    def connect(self, *, buffer: int | None = None) -> Client:
        """A client; `buffer` limits how many bytes the system keeps for it, and for the server's side."""
        address: Any = self.server.address
        if hasattr(address, "path"):
            sock = socket.socket(socket.AF_UNIX)
            name: Any = address.path
        else:
            sock = socket.socket()
            name = (address.host, address.port)
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.connect(name)
        client = Client(self.loop, sock)
        self.clients.append(client)
        return client

    def ask(self, data: bytes, method: str = "GET") -> Answer:
        """Send one request on a connection of its own; its answer."""
        return self.connect().send(data).answer(method)

    def until(self, condition: Callable[[], Any]) -> None:
        until(self.loop, condition)

    def streams(self) -> list[Stream]:
        """The server's connections."""
        return streams(self.loop)


class Simulated:
    """A server on a manual kernel: no sockets, and time passes by `advance` only."""

    def __init__(self, handler: Any, **options: Any) -> None:
        self.kernel = ManualKernel()
        self.loop = Loop(kernel=self.kernel)
        self.log = self.loop.log = QuietLog()
        self.server: Server = self.loop.spawn(server("127.0.0.1:80", handler, **options))
        self._listening = self.kernel.sockets[0]

    def __enter__(self) -> Simulated:
        return self

    def __exit__(self, *exception: object) -> None:
        self.loop.close()

    def connect(self, room: int | None = None) -> FakeSocket:
        """A client; `room` as in `FakeSocket`: how many bytes it takes."""
        sock = FakeSocket(self.kernel)
        sock.room = room
        self._listening.backlog.append(sock)
        self.settle()
        return sock

    def send(self, sock: FakeSocket, data: bytes) -> None:
        sock.arrive(data)
        self.settle()

    def ask(self, sock: FakeSocket, data: bytes) -> list[Answer]:
        """Send, and what was answered at once."""
        self.send(sock, data)
        return read_answers(sock.delivered(), ended=True)

    def streams(self) -> list[Stream]:
        """The server's connections."""
        return streams(self.loop)

    def advance(self, seconds: float) -> None:
        self.kernel.clock.advance(seconds)
        self.settle()

    def settle(self) -> None:
        """Tick until nothing more happens."""
        before = -1
        for _ in range(1000):
            statistics = self.loop.statistics()
            now = statistics.events + statistics.wakeups + statistics.timeouts + statistics.spawned
            if now == before and not self.loop.woken and not self.loop.dirty:
                return
            before = now
            self.loop.tick(0)
        raise AssertionError("the server does not come to rest")
