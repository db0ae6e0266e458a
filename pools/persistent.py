"""A connection that is kept: made when its machine is spawned, and made again whenever it is lost.

What comes over it fills a channel of messages. A protocol adds two classes: a `Persistent`, which knows what
is to be asked of the server, and a `Link`, one connection, which knows how that is said and read.
Subscriptions of Redis and PostgreSQL are made of them.

Rules:
1. A new connection asks for everything again, then for whatever was asked before and not confirmed. What the
   server sent meanwhile is lost: `gaps` counts how often that may have been so.
2. A reader that is slow slows the connection down: nothing is read while the channel is full, unless the
   protocol decides otherwise (`reading`).
3. After `ping` seconds of silence the server is asked whether it is there; if it does not answer for as long
   again, the connection is lost. A server that is silent during the greeting is not waited for twice.
4. If the server refuses the first greeting, the subscription ends with that error. Every later failure is
   tried again, at the next endpoint if there are several.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

from actors import (
    ANYTHING,
    SLEEP,
    Backoff,
    Bytes,
    Channel,
    Connector,
    Continue,
    Machine,
    Outcome,
    Reply,
    Retry,
    Scope,
    Spec,
    Stop,
    StreamProtocol,
    Timeout,
    Transport,
)
from actors.options import check_counts, check_seconds

from .endpoints import Endpoint
from .errors import BackendError, ConnectionLost, PoolClosed

__all__ = [
    "BACKOFF",
    "CAPACITY",
    "CONNECT_SECONDS",
    "PING_SECONDS",
    "Ask",
    "Link",
    "Persistent",
    "PersistentOptions",
]

BACKOFF: Final = Backoff(0.05, 5.0)
CAPACITY: Final = 1024
PING_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 5.0
ASKS_MAX: Final = 1024
STOPPED: Final = "the subscription has stopped"

H = TypeVar("H", covariant=True)
T = TypeVar("T")
A = TypeVar("A", bound="Ask")


class PersistentOptions(Spec[H], Generic[H], frozen=True, kw_only=True):
    """The options that all kept connections have. Raises `ValueError` or `TypeError` for a wrong number."""

    capacity: int = CAPACITY
    """How many messages wait for their reader."""
    ping: float = PING_SECONDS
    """Seconds of silence after which the server is asked whether it is there."""
    connect_timeout: float = CONNECT_SECONDS
    """Seconds that connecting may take, name resolution and TLS included."""
    backoff: Backoff = BACKOFF
    """The pauses between attempts to connect."""

    def __post_init__(self) -> None:
        check_counts(capacity=self.capacity)
        check_seconds(ping=self.ping, connect_timeout=self.connect_timeout)


class Ask:
    """Something that the server is asked for and confirms. `data`: how, in bytes; empty if there is nothing
    to confirm. `replies` settle with the confirmation. Derive from it to remember more.
    """

    __slots__ = ("data", "replies")

    def __init__(self, data: bytes, replies: list[Reply[None]]) -> None:
        self.data = data
        self.replies = replies

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.data!r:.60}>"

    def settle(self) -> None:
        """The server has confirmed it."""
        for reply in self.replies:
            reply.settle(None)

    def fail(self, error: BaseException) -> None:
        """The server has refused it, or nobody will ask for it any more."""
        for reply in self.replies:
            reply.fail(error)


class Persistent(Machine[Any], Generic[T, A]):
    """A channel of messages `T` that a connection feeds. Derive from it, and override `link` and `replay`.

    Iterate over it, or `await receive()`. `subscribed` settles when the server has confirmed what is asked
    for at first. `gaps` counts how often messages may be missing.
    """

    __slots__ = (
        "_endpoints",
        "_link",
        "_pending",
        "_retry",
        "_scope",
        "_token",
        "_turn",
        "gaps",
        "messages",
        "options",
        "subscribed",
    )

    drain_phase = 1
    again: ClassVar[str]
    """The event in the log when a connection that was lost serves again."""

    def __init__(self, scope: Scope, options: PersistentOptions[Any], endpoints: Sequence[Endpoint]) -> None:
        self.options = options
        self.messages: Channel[T] = Channel(options.capacity)
        self.subscribed: Reply[None] = Reply()
        self.gaps = 0
        self._scope = scope
        self._endpoints = endpoints
        self._turn = 0  # which endpoint is the next
        self._retry = Retry(options.backoff, scope.kernel.random())
        self._pending: list[A] = []  # for the next connection
        self._link: Link[A] | None = None  # once it is greeted
        self._token: int | None = None  # of the connection, also while it is being made
        self.messages.attach_sender(scope)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self._endpoint.address}, {self.gaps} gaps, {self.messages!r}>"

    @property
    def _endpoint(self) -> Endpoint:
        """Each in turn, while they fail."""
        return self._endpoints[self._turn % len(self._endpoints)]

    # -- for the reader --------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[T]:
        return self.messages.__aiter__()

    async def receive(self) -> T:
        """The next message. Raises what ended the subscription, or `ChannelClosed` at its end."""
        return await self.messages.receive()

    def cancel(self) -> None:
        """End the subscription and close its connection."""
        self.messages.cancel()

    # -- for the protocol ------------------------------------------------------------------------------------

    def link(self, transport: Transport) -> Link[A]:
        """Make what speaks over this connection."""
        raise NotImplementedError

    def replay(self, pending: list[A]) -> Iterable[A]:
        """What to ask a new connection for: first everything that is wanted, in one, then what is pending."""
        raise NotImplementedError

    def confirmed(self, ask: A) -> None:
        """The server has confirmed this."""
        ask.settle()

    @property
    def reading(self) -> bool:
        """Whether the connection is read at present."""
        return self.messages.writable and not self.messages.ended

    def ask(self, ask: A) -> None:
        """Ask the server for this, on this connection or the next one. Its replies fail with `PoolClosed`
        after the end, and with `BackendError` if too much waits.
        """
        waiting = self._pending if self._link is None else self._link.asked
        if self.messages.statistics().closed:
            ask.fail(PoolClosed(STOPPED))
        elif len(waiting) >= ASKS_MAX:
            ask.fail(BackendError(f"{ASKS_MAX} changes of a subscription wait; await some of them"))
        elif self._link is None:
            self._pending.append(ask)
        else:
            self._link.ask(ask)

    # -- machine ---------------------------------------------------------------------------------------------

    def handle(self, scope: Scope) -> Self:
        """Spawning gives the subscription itself."""
        return self

    def start(self, scope: Scope) -> Outcome:
        """Connect."""
        return self.timeout(scope)

    def timeout(self, scope: Scope) -> Outcome:
        """Connect, at first or again."""
        endpoint = self._endpoint
        connector = Connector(
            endpoint.address,
            _Dial(self),
            timeout=self.options.connect_timeout,
            tls=endpoint.tls,
            server_hostname=endpoint.server_hostname,
        )
        self._token = scope.spawn(connector)
        return Continue(self)

    def wakeup(self, scope: Scope) -> Outcome:
        """The reader has made room or has gone, or the connection has ended."""
        if self.messages.ended:
            return Stop()
        if self._token is None:
            return Timeout(self, self._retry.due)
        if self._link is not None:
            self._link.wake()
        return Continue(self)

    def draining(self, scope: Scope) -> Outcome:
        """There is nothing to finish."""
        return Stop()

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """The reader and all who wait hear of the end; the connection closes."""
        link, token = self._link, self._token
        self._link = self._token = None
        self.subscribed.fail(PoolClosed(STOPPED))
        for ask in (*self._pending, *(() if link is None else link.asked)):
            ask.fail(PoolClosed(STOPPED))
        self.messages.close(None if error is None else PoolClosed(STOPPED))
        if link is not None:
            link.leave()
        elif token is not None:
            scope.loop.kill(token)

    # -- for the connection ----------------------------------------------------------------------------------

    def greeted(self, link: Link[A]) -> None:
        """The server is ready: ask for everything, and for what waits."""
        self._link = link
        pending, self._pending = self._pending, []
        for ask in self.replay(pending):
            link.ask(ask)

    def serves(self) -> None:
        """The server has confirmed everything that a new connection asks for."""
        if self._retry.failures:
            address = str(self._endpoint.address)
            self._scope.loop.log.info(self.again, backend=address, gaps=self.gaps)
        self._retry.succeeded()
        self.subscribed.settle(None)

    def lost(self, error: BaseException | None) -> None:
        """The connection has ended, or none came about."""
        if self._token is None:
            return
        if self._link is not None:
            self._pending = [ask for ask in self._link.asked if ask.replies]
        self._link = self._token = None
        address = str(self._endpoint.address)
        self._turn += 1
        self._retry.failed(self._scope.now, error)
        if self.subscribed.settled:
            self.gaps += self._retry.failures == 1
        elif isinstance(error, BackendError):
            self.subscribed.fail(error)
            self.messages.close(error)
        if self._retry.worth_telling:
            self._scope.loop.log.warning(
                "subscription lost",
                cause=f"subscription lost {address}",
                backend=address,
                error=str(error),
                failures=self._retry.failures,
            )
        self._scope.wake()


class _Dial(StreamProtocol):
    """Becomes the link as soon as there is a connection."""

    __slots__ = ("_owner",)

    drain_phase = None

    def __init__(self, owner: Persistent[Any, Any]) -> None:
        self._owner = owner

    def __repr__(self) -> str:
        return f"<connection of {self._owner!r}>"

    def connected(self, transport: Transport) -> Outcome:
        """Begin the greeting."""
        return self._owner.link(transport).begin()

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """Not connected."""
        self._owner.lost(error)


class Link(StreamProtocol, Generic[A]):
    """One connection of a `Persistent`, from the moment it is there. Derive from it, and override `hello`,
    `greet`, `read`, `ping` and `closed_early`. A `BackendError` that `greet` or `read` raises ends the
    connection.
    """

    __slots__ = ("_greeted", "_leaving", "_quiet", "_serves", "asked", "owner", "transport")

    drain_phase = None
    question: ClassVar[str]
    """What `ping` asks, for the error when there is no answer: "a PING"."""
    farewell: ClassVar[bytes] = b""
    """What is said at the end."""

    def __init__(self, owner: Persistent[Any, A], transport: Transport) -> None:
        self.owner = owner
        self.transport = transport
        self.asked: deque[A] = deque()  # and not confirmed
        self._greeted = False  # the server is ready
        self._serves = False  # it has confirmed the first that was asked for
        self._quiet = False  # it was pinged, and nothing has come since
        self._leaving = False

    def __repr__(self) -> str:
        return f"<connection of {self.owner!r}>"

    # -- what a protocol says --------------------------------------------------------------------------------

    def hello(self) -> None:
        """Write the first word of the greeting."""
        raise NotImplementedError

    def greet(self) -> bool:
        """Go on with the greeting by what has come. Returns whether the server is ready."""
        raise NotImplementedError

    def read(self) -> None:
        """Read what has come as long as `owner.reading`. Tell `confirmed` and `refused`."""
        raise NotImplementedError

    def ping(self) -> None:
        """Ask something that the server certainly answers."""
        raise NotImplementedError

    def closed_early(self) -> BackendError:
        """The error for a connection that ended before the server was ready."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Send this; by default over the transport."""
        self.transport.write(data)

    def confirmed(self) -> None:
        """The server has confirmed the first that was `asked`."""
        self._confirm(self.asked.popleft())

    def refused(self, error: BackendError) -> None:
        """The server has refused the first that was `asked`. Raises the error if that was everything."""
        if not self._serves:
            raise error
        self.asked.popleft().fail(error)

    # -- for the subscription --------------------------------------------------------------------------------

    def begin(self) -> Outcome:
        """Say the first word."""
        self.hello()
        return self._go_on()

    def ask(self, ask: A) -> None:
        """Ask the server for this."""
        if ask.data:
            self.write(ask.data)
            self.asked.append(ask)
            self.wake()
        else:
            self._confirm(ask)

    def leave(self) -> None:
        """Close the connection, after a word of farewell."""
        self._leaving = True
        if self.farewell:
            self.write(self.farewell)
        self.wake()

    def wake(self) -> None:
        """There is room for messages, or something to do."""
        self.transport.scope.wake()

    def _confirm(self, ask: A) -> None:
        if not self._serves:
            self._serves = True
            self.owner.serves()
        self.owner.confirmed(ask)

    # -- stream ----------------------------------------------------------------------------------------------

    def received(self, transport: Transport) -> Outcome:
        """Answers and messages."""
        self._quiet = False
        try:
            if not self._greeted and self.greet():
                self._greeted = True
                self.owner.greeted(self)
        except BackendError as error:
            return Stop(error)
        return self.wakeup(transport)

    def wakeup(self, transport: Transport) -> Outcome:
        """The reader has made room, or this was all."""
        if self._leaving:
            return Stop()
        if self._greeted:
            try:
                self.read()
            except BackendError as error:
                return Stop(error)
        return self._go_on()

    def timeout(self, transport: Transport) -> Outcome:
        """The server has been silent: ask once, then give up."""
        if self._greeted and not self.owner.reading:  # the silence is the reader's
            return self._go_on()
        if self._quiet or not self._greeted:
            return Stop(ConnectionLost(f"the server has been silent, and has not answered {self.question}"))
        self._quiet = True
        self.ping()
        return self._go_on()

    def ended(self, transport: Transport) -> Outcome:
        """The server has closed the connection."""
        if not self._greeted:
            return Stop(self.closed_early())
        return Stop(ConnectionResetError("the server closed the connection"))

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """Tell the subscription."""
        self.owner.lost(error)

    def _go_on(self) -> Outcome:
        due = self.transport.scope.now + self.owner.options.ping
        if self._greeted and not self.owner.reading:
            return Timeout(self, due, SLEEP)
        left = len(self.transport.input)
        return Timeout(self, due, Bytes(left + 1) if left else ANYTHING)
