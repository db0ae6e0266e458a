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
4. A server that refuses the first handshake (a wrong password, say) ends it with that error; whatever comes
   later is tried again.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Generator, Iterable
from typing import Any, Final

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
from pools import BackendError, ConnectionLost, PoolClosed

from .client import parse_url
from .codec import NOTHING, REPLY_BYTES_MAX, Arg, Decoder, encode
from .errors import BadReply, RedisError
from .handshake import Login, greet

__all__ = ["Message", "Subscription", "subscribe"]

BACKOFF: Final = Backoff(0.05, 5.0)
CAPACITY: Final = 1024  # messages that wait for their reader


class Message(msgspec.Struct, frozen=True, gc=False):
    """What was published. `pattern` is the one that matched, None if the channel was named."""

    channel: bytes
    data: bytes
    pattern: bytes | None = None


class Subscription(Machine["Subscription"]):
    """Made by `subscribe`; `loop.spawn` gives it back. Iterate over it, or `await receive()`."""

    __slots__ = (
        "_backend",
        "_backoff",
        "_connect_timeout",
        "_failures",
        "_login",
        "_scope",
        "_token",
        "_transport",
        "commands",
        "expected",
        "gaps",
        "messages",
        "ping",
        "reply_bytes",
        "subscribed",
    )

    drain_phase = 1

    def __init__(
        self,
        url: str,
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
        self._backend, self._login = parse_url(url, tls, login)
        named = (("SUBSCRIBE", channels), ("PSUBSCRIBE", patterns))
        self.commands = b"".join([encode(name, *names) for name, names in named if names])
        self.expected = len(channels) + len(patterns)  # confirmations
        self.messages: Channel[Message] = Channel(capacity)
        self.subscribed: Reply[None] = Reply()
        self.gaps = 0
        self.ping = ping
        self.reply_bytes = reply_bytes
        self._backoff = backoff
        self._connect_timeout = connect_timeout
        self._failures = 0
        self._scope: Scope = None  # type: ignore[assignment]  # until spawned
        self._transport: Transport | None = None
        self._token = -1

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

    # -- machine ---------------------------------------------------------------------------------------------

    def handle(self, scope: Scope) -> Any:
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
        if self._transport is not None:
            self._transport.scope.wake()
        return Continue(self)

    def draining(self, scope: Scope) -> Outcome:
        """There is nothing to finish."""
        return Stop()

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """The reader hears of the end."""
        closed = PoolClosed("the subscription has stopped")
        self.subscribed.fail(closed)
        self.messages.close(None if error is None else closed)
        token, self._token = self._token, -1
        if token >= 0:
            scope.loop.kill(token)

    # -- for the connection ----------------------------------------------------------------------------------

    def confirmed(self) -> None:
        """The server has confirmed all channels and patterns."""
        if self._failures:
            self._scope.loop.log.info("subscribed again", backend=str(self._backend.address), gaps=self.gaps)
        self._failures = 0
        self.subscribed.settle(None)

    def lost(self, error: BaseException | None) -> None:
        """There is no connection any more, or none came about."""
        self._transport = None
        if self._token < 0:
            return
        self._token = -1
        self._failures += 1
        if self.subscribed.settled:
            self.gaps += self._failures == 1
        elif isinstance(error, BackendError):
            self.subscribed.fail(error)
            self.messages.close(error)
        if self._failures & (self._failures - 1) == 0:
            self._scope.loop.log.warning(
                "subscription lost",
                cause=f"subscription lost {self._backend.address}",
                backend=str(self._backend.address),
                error=str(error),
                failures=self._failures,
            )
        self._scope.wake()

    def opened(self, transport: Transport) -> None:
        """There is a connection."""
        self._transport = transport


class _Subscriber(StreamProtocol):
    """One connection of a subscription."""

    __slots__ = ("_asked", "_decoder", "_greeting", "_left", "_owner", "_silent_at")

    drain_phase = None  # the subscription's business

    def __init__(self, owner: Subscription, greeting: Generator[bytes, Any, int]) -> None:
        self._owner = owner
        self._greeting: Generator[bytes, Any, int] | None = greeting
        self._decoder = Decoder(owner.reply_bytes)
        self._left = owner.expected
        self._asked = False  # PING, and nothing has come since
        self._silent_at = 0.0

    def __repr__(self) -> str:
        return f"<connection of {self._owner!r}>"

    def connected(self, transport: Transport) -> Outcome:
        """Begin the handshake."""
        assert self._greeting is not None
        self._owner.opened(transport)
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
        """The reader has made room."""
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
            transport.write(self._owner.commands)

    def _take(self, transport: Transport, value: list[Any]) -> None:
        match value:
            case [b"message", bytes(channel), bytes(data)]:
                self._owner.messages.put(Message(channel, data))
            case [b"pmessage", bytes(pattern), bytes(channel), bytes(data)]:
                self._owner.messages.put(Message(channel, data, pattern))
            case [b"subscribe" | b"psubscribe", *_]:
                self._left -= 1
                if not self._left:
                    self._owner.confirmed()


def subscribe(
    url: str,
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
    """What is published to these channels, and to those that match the patterns; for `loop.spawn`.

    `await subscription.subscribed` to know that nothing is missed from then on. `capacity`: messages that
    wait for their reader. `ping`: seconds of silence before the server is asked whether it is there. The
    other options are those of `redis.pool`.
    """
    return Subscription(
        url,
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
