"""Pub/sub: a channel of messages, fed by a connection of its own that is made again when it is lost.

    news = loop.spawn(redis.subscribe("redis://127.0.0.1:6379", "news", patterns=["user.*"]))
    async for message in news:
        print(message.channel, message.data)

Rules:
1. After a reconnect it subscribes again. What was published meanwhile is lost, for Redis keeps nothing:
   `gaps` counts how often that may have been so.
2. Who reads slowly slows the connection down; the server closes it when it has had enough of that (its
   setting `client-output-buffer-limit pubsub`), which makes a gap.
3. Silence is asked about: PING after `ping` seconds without a word, and a new connection if that has no
   answer.
4. What is subscribed to may change at any time. While there is no connection a change is a part of the next
   one's beginning.
5. A server that refuses the first handshake (a wrong password, say) ends it with that error; whatever comes
   later is tried again.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterable
from typing import Any, Final, Self

import msgspec

from actors import (
    ANYTHING,
    SLEEP,
    Backoff,
    Channel,
    Connector,
    Continue,
    Machine,
    Outcome,
    Reply,
    Scope,
    Stop,
    StreamProtocol,
    Timeout,
    Transport,
)
from actors.options import check_counts, check_seconds
from pools import BackendError, ConnectionLost, Endpoint, PoolClosed

from .client import parse_url
from .codec import NOTHING, REPLY_BYTES_MAX, Arg, Decoder, encode
from .errors import BadReply, RedisError
from .handshake import Login, greet

__all__ = ["Message", "Subscription", "subscribe"]

BACKOFF: Final = Backoff(0.05, 5.0)
CAPACITY: Final = 1024  # messages that wait for their reader

Names = dict[bytes, None]
"""Channels, or patterns, in their order."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """What was published. `pattern` is the one that matched, None if the channel was named."""

    channel: bytes
    data: bytes
    pattern: bytes | None = None


class _Change:
    """What is to be subscribed to, or no longer. The server confirms each name."""

    __slots__ = ("command", "left", "names", "reply")

    def __init__(self, command: str, names: tuple[Names, Names], reply: Reply[None]) -> None:
        self.command = command
        self.names = names  # channels, patterns
        self.reply = reply
        self.left = 0  # confirmations still to come

    @property
    def data(self) -> bytes:
        """As the server is told."""
        named = zip(("", "P"), self.names, strict=True)
        return b"".join([encode(prefix + self.command, *names) for prefix, names in named if names])


class Subscription(Machine["Subscription"]):
    """Made by `subscribe`; `loop.spawn` gives it back. Iterate over it, or `await receive()`."""

    __slots__ = (
        "_backends",
        "_backoff",
        "_connect_timeout",
        "_connection",
        "_failures",
        "_login",
        "_scope",
        "_token",
        "_turn",
        "_unconfirmed",
        "channels",
        "gaps",
        "messages",
        "patterns",
        "ping",
        "reply_bytes",
        "subscribed",
    )

    drain_phase = 1

    def __init__(
        self,
        urls: list[str],
        channels: tuple[Arg, ...],
        patterns: tuple[Arg, ...],
        *,
        capacity: int,
        ping: float,
        connect_timeout: float,
        backoff: Backoff,
        tls: ssl.SSLContext | None,
        login: Login,
        reply_bytes: int,
    ) -> None:
        if not channels and not patterns:
            raise ValueError("nothing to subscribe to; name a channel or a pattern")
        if not urls:
            raise ValueError("no server; give its URL, or those of several that have the same to say")
        check_counts(capacity=capacity, reply_bytes=reply_bytes)
        check_seconds(ping=ping, connect_timeout=connect_timeout)
        parsed = [parse_url(url, tls, login) for url in urls]
        self._backends = [backend for backend, _ in parsed]
        self._login = parsed[0][1]
        self.channels: Names = names_of(channels)
        self.patterns: Names = names_of(patterns)
        self._unconfirmed: list[_Change] = []  # for the next connection
        self.messages: Channel[Message] = Channel(capacity)
        self.subscribed: Reply[None] = Reply()
        self.gaps = 0
        self.ping = ping
        self.reply_bytes = reply_bytes
        self._backoff = backoff
        self._connect_timeout = connect_timeout
        self._failures = 0
        self._turn = 0
        self._scope: Scope = None  # type: ignore[assignment]  # until spawned
        self._connection: _Subscriber | None = None  # once it is greeted
        self._token = -1

    @property
    def _backend(self) -> Endpoint:
        """Each in turn, while they fail."""
        return self._backends[self._turn % len(self._backends)]

    def __repr__(self) -> str:
        return f"<Subscription to {self._backend.address}, {self.gaps} gaps, {self.messages!r}>"

    # -- for the reader --------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Message]:
        return self.messages.__aiter__()

    async def receive(self) -> Message:
        """The next message. Raises what ended the subscription, or `ChannelClosed`."""
        return await self.messages.receive()

    def cancel(self) -> None:
        """No more messages: the connection is closed."""
        self.messages.cancel()

    def subscribe(self, *channels: Arg, patterns: Iterable[Arg] = ()) -> Reply[None]:
        """Also to these. The reply settles when the server has confirmed it, on this connection or the next;
        if it refuses, with its `RedisError`, and they are left out again.
        """
        return self._change("SUBSCRIBE", names_of(channels), names_of(patterns))

    def unsubscribe(self, *channels: Arg, patterns: Iterable[Arg] = ()) -> Reply[None]:
        """To these no longer. What came before the server's confirmation is still delivered."""
        return self._change("UNSUBSCRIBE", names_of(channels), names_of(patterns))

    def _change(self, command: str, channels: Names, patterns: Names) -> Reply[None]:
        if not channels and not patterns:
            raise ValueError("nothing is named; name a channel or a pattern")
        change = _Change(command, (channels, patterns), Reply())
        if self.messages.statistics().closed:
            change.reply.fail(PoolClosed("the subscription has stopped"))
        elif self._connection is None:
            self._unconfirmed.append(change)
        else:
            self._connection.send(change)
        return change.reply

    # -- machine ---------------------------------------------------------------------------------------------

    def handle(self, scope: Scope) -> Self:
        """Spawning gives the subscription itself."""
        return self

    def start(self, scope: Scope) -> Outcome:
        """Connect."""
        self._scope = scope
        self.messages.attach_sender(scope)
        return self.timeout(scope)

    def timeout(self, scope: Scope) -> Outcome:
        """Connect (again)."""
        backend = self._backend
        connector = Connector(
            backend.address,
            _Subscriber(self, greet(self._login)),
            timeout=self._connect_timeout,
            tls=backend.tls,
            server_hostname=backend.server_hostname,
        )
        self._token = scope.spawn(connector)
        return Continue(self)

    def wakeup(self, scope: Scope) -> Outcome:
        """The reader has made room, or has gone; or the connection has ended."""
        if self.messages.ended:
            return Stop()
        if self._token < 0:
            return Timeout(self, scope.now + self._backoff.delay(self._failures, scope.kernel.random()))
        if self._connection is not None:
            self._connection.wake()
        return Continue(self)

    def draining(self, scope: Scope) -> Outcome:
        """There is nothing to finish."""
        return Stop()

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """The reader hears of the end."""
        closed = PoolClosed("the subscription has stopped")
        self.subscribed.fail(closed)
        sent = () if self._connection is None else self._connection.sent
        for change in (*self._unconfirmed, *sent):
            change.reply.fail(closed)
        self.messages.close(None if error is None else closed)
        token, self._token = self._token, -1
        if token >= 0:
            scope.loop.kill(token)

    # -- for the connection ----------------------------------------------------------------------------------

    def greeted(self, connection: _Subscriber) -> None:
        """There is a connection: everything is subscribed to anew, then changed."""
        self._connection = connection
        connection.send(_Change("SUBSCRIBE", (self.channels, self.patterns), self.subscribed))
        changes, self._unconfirmed = self._unconfirmed, []
        for change in changes:
            connection.send(change)

    def confirmed(self, change: _Change) -> None:
        """The server has confirmed all names of a change."""
        if self._failures:
            self._scope.loop.log.info("subscribed again", backend=str(self._backend.address), gaps=self.gaps)
        self._failures = 0
        for ours, theirs in zip((self.channels, self.patterns), change.names, strict=True):
            if change.command == "SUBSCRIBE":
                ours.update(theirs)
            else:
                for name in theirs:
                    ours.pop(name, None)
        change.reply.settle(None)

    def lost(self, error: BaseException | None) -> None:
        """There is no connection any more, or none came about."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._unconfirmed = [change for change in connection.sent if change.reply is not self.subscribed]
        if self._token < 0:
            return
        backend = self._backend
        self._token = -1
        self._turn += 1
        self._failures += 1
        if self.subscribed.settled:
            self.gaps += self._failures == 1
        elif isinstance(error, BackendError):
            self.subscribed.fail(error)
            self.messages.close(error)
        if self._failures & (self._failures - 1) == 0:
            self._scope.loop.log.warning(
                "subscription lost",
                cause=f"subscription lost {backend.address}",
                backend=str(backend.address),
                error=str(error),
                failures=self._failures,
            )
        self._scope.wake()


class _Subscriber(StreamProtocol):
    """One connection of a subscription."""

    __slots__ = ("_asked", "_decoder", "_greeting", "_output", "_owner", "_transport", "sent")

    drain_phase = None  # the subscription's business

    def __init__(self, owner: Subscription, greeting: Generator[bytes, Any, int]) -> None:
        self._owner = owner
        self._greeting: Generator[bytes, Any, int] | None = greeting
        self._decoder = Decoder(owner.reply_bytes)
        self._asked = False  # PING, and nothing has come since
        self._output: list[bytes] = []  # written in the next handler
        self._transport: Transport = None  # type: ignore[assignment]  # until connected
        self.sent: deque[_Change] = deque()  # and not confirmed

    def __repr__(self) -> str:
        return f"<connection of {self._owner!r}>"

    def wake(self) -> None:
        """There is room for messages, or something to send."""
        self._transport.scope.wake()

    def send(self, change: _Change) -> None:
        """Have the server change what it sends."""
        change.left = sum(map(len, change.names))
        if change.left:
            self._output.append(change.data)
            self.sent.append(change)
            self.wake()
        else:
            self._owner.confirmed(change)

    def connected(self, transport: Transport) -> Outcome:
        """Begin the handshake."""
        assert self._greeting is not None
        self._transport = transport
        transport.write(next(self._greeting))
        return self._go_on(transport)

    def received(self, transport: Transport) -> Outcome:
        """Replies and messages."""
        data, transport.input = transport.input, b""
        try:
            self._decoder.feed(data)
            self._read(transport)
        except BackendError as error:
            return Stop(error)
        return self._go_on(transport)

    def wakeup(self, transport: Transport) -> Outcome:
        """The reader has made room, or there is something to send."""
        try:
            self._read(transport)
        except BackendError as error:
            return Stop(error)
        return self._go_on(transport)

    def timeout(self, transport: Transport) -> Outcome:
        """Silence: ask once, then give up."""
        if not self._owner.messages.writable:  # the reader's, not the server's
            return self._go_on(transport)
        if self._asked:
            return Stop(ConnectionLost("the server has not answered a PING"))
        self._asked = True
        transport.write(encode("PING"))
        return Timeout(self, transport.scope.now + self._owner.ping)

    def ended(self, transport: Transport) -> Outcome:
        """The server has closed the connection."""
        if self._greeting is not None:
            return Stop(BadReply("the connection was closed during the handshake; is it a Redis server?"))
        return Stop(ConnectionResetError("the server closed the connection"))

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """The subscription sees to it."""
        self._owner.lost(error)

    def _go_on(self, transport: Transport) -> Outcome:
        output, self._output = self._output, []
        for data in output:
            transport.write(data)
        self._asked = False
        due = transport.scope.now + self._owner.ping
        return Timeout(self, due, ANYTHING if self._owner.messages.writable else SLEEP)

    def _read(self, transport: Transport) -> None:
        messages = self._owner.messages
        while messages.writable and not messages.ended:
            value = self._decoder.next()
            if value is NOTHING:
                return
            if isinstance(value, RedisError) and self._greeting is None:
                if self.sent and self.sent[0].reply is not self._owner.subscribed:
                    self.sent.popleft().reply.fail(value)  # of the change, not of the whole
                raise value
            if self._greeting is not None:
                self._greet(transport, value)
            elif isinstance(value, list):
                self._take(transport, value)

    def _greet(self, transport: Transport, value: Any) -> None:
        assert self._greeting is not None
        try:
            transport.write(self._greeting.send(value))
        except StopIteration:
            self._greeting = None
            self._owner.greeted(self)

    def _take(self, transport: Transport, value: list[Any]) -> None:
        match value:
            case [b"message", bytes(channel), bytes(data)]:
                self._owner.messages.put(Message(channel, data))
            case [b"pmessage", bytes(pattern), bytes(channel), bytes(data)]:
                self._owner.messages.put(Message(channel, data, pattern))
            case [b"subscribe" | b"psubscribe" | b"unsubscribe" | b"punsubscribe", *_] if self.sent:
                self.sent[0].left -= 1
                if not self.sent[0].left:
                    self._owner.confirmed(self.sent.popleft())


def names_of(names: Iterable[Arg]) -> Names:
    """As the server has them, each once."""
    return {name.encode() if isinstance(name, str) else as_bytes(name): None for name in names}


def as_bytes(name: Arg) -> bytes:
    """A name that is no text."""
    return bytes(name) if isinstance(name, bytes | memoryview) else str(name).encode()


def subscribe(
    url: str | Iterable[str],
    *channels: Arg,
    patterns: Iterable[Arg] = (),
    capacity: int = CAPACITY,
    ping: float = 30.0,
    connect_timeout: float = 5.0,
    backoff: Backoff = BACKOFF,
    username: str = "",
    password: str = "",
    name: str = "",
    tls: ssl.SSLContext | None = None,
    reply_bytes: int = REPLY_BYTES_MAX,
) -> Subscription:
    """What is published to these channels, and to those that match the patterns; for `loop.spawn`. Of several
    URLs, as of a cluster's nodes, the next is tried when one fails.

    `await subscription.subscribed` to know that nothing is missed from then on. `capacity`: messages that
    wait for their reader. `ping`: seconds of silence before the server is asked whether it is there. The
    other options are those of `redis.pool`.
    """
    return Subscription(
        [url] if isinstance(url, str) else list(url),
        channels,
        tuple(patterns),
        capacity=capacity,
        ping=ping,
        connect_timeout=connect_timeout,
        backoff=backoff,
        tls=tls,
        login=Login(username, password, 0, name),
        reply_bytes=reply_bytes,
    )
