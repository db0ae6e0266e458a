"""Pub/sub: a channel of messages, fed by a connection of its own that is made again when it is lost.

    news = loop.spawn(redis.subscribe("redis://127.0.0.1:6379", "news", patterns=["user.*"]))
    async for message in news:
        print(message.channel, message.data)

Rules:
1. The connection is kept as `pools.persistent` says: it is lost and made again, pinged, and read only while
   there is room. Redis keeps nothing for a subscriber that is away: what was published meanwhile is lost.
2. A slow reader slows the connection down. The server closes it when too much waits (its setting
   `client-output-buffer-limit pubsub`), which makes a gap.
3. What is subscribed to may change at any time. A change counts once the server has confirmed each name. One
   that is refused fails alone, but the server's error does not say which names it means: the connection is
   made again.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

import msgspec

from actors import Backoff, Reply, Scope, Transport
from actors.options import check_counts
from pools import BackendError, Endpoint
from pools.persistent import (
    BACKOFF,
    CAPACITY,
    CONNECT_SECONDS,
    PING_SECONDS,
    Ask,
    Link,
    Persistent,
    PersistentOptions,
)

from .codec import NOTHING, REPLY_BYTES_MAX, Arg, Decoder, encode
from .errors import BadReply, RedisError
from .handshake import Login, greet
from .urls import parse_url

__all__ = ["Message", "Subscribe", "Subscription", "subscribe"]

Names = dict[bytes, None]
"""Channels, or patterns, in their order."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """What was published. `pattern` is the one that matched, None if the channel was named."""

    channel: bytes
    data: bytes
    pattern: bytes | None = None


class Subscribe(PersistentOptions["Subscription"], frozen=True, kw_only=True):
    """What `subscribe` describes: each field is one of its options, read and checked."""

    endpoints: tuple[Endpoint, ...]
    login: Login
    channels: tuple[bytes, ...]
    patterns: tuple[bytes, ...]
    reply_bytes: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(reply_bytes=self.reply_bytes)
        if not self.channels and not self.patterns:
            raise ValueError("nothing to subscribe to; name a channel or a pattern")

    def make(self, scope: Scope) -> Subscription:
        """The subscription, not yet connected."""
        return Subscription(scope, self)


class _Change(Ask):
    """What is to be subscribed to, or no longer. The server confirms each name."""

    __slots__ = ("command", "left", "names")

    def __init__(self, command: str, names: tuple[Names, Names], replies: list[Reply[None]]) -> None:
        named = zip(("", "P"), names, strict=True)
        super().__init__(b"".join([encode(kind + command, *some) for kind, some in named if some]), replies)
        self.command = command
        self.names = names  # channels, patterns
        self.left = sum(map(len, names))  # confirmations still to come

    def again(self) -> _Change:
        """The same for another connection."""
        return _Change(self.command, self.names, self.replies)

    def confirmed(self) -> bool:
        """The server has confirmed one name. Returns whether that was the last."""
        self.left -= 1
        return not self.left


class Subscription(Persistent[Message, _Change]):
    """What `loop.spawn(subscribe(…))` gives. Iterate over it, or `await receive()`. `channels` and `patterns`
    are what the server has confirmed, in order.
    """

    __slots__ = ("channels", "patterns")

    options: Subscribe
    again = "subscribed again"

    def __init__(self, scope: Scope, options: Subscribe) -> None:
        super().__init__(scope, options, options.endpoints)
        self.channels: Names = dict.fromkeys(options.channels)
        self.patterns: Names = dict.fromkeys(options.patterns)

    def subscribe(self, *channels: Arg, patterns: Iterable[Arg] = ()) -> Reply[None]:
        """Subscribe to these as well. The reply settles when the server has confirmed it, on this connection
        or the next; if it refuses, with its `RedisError`, and they are left out again. Raises `ValueError` if
        nothing is named.
        """
        return self._change("SUBSCRIBE", names_of(channels), names_of(patterns))

    def unsubscribe(self, *channels: Arg, patterns: Iterable[Arg] = ()) -> Reply[None]:
        """Leave these out from now on. What came before the server's confirmation is still delivered. Raises
        `ValueError` if nothing is named.
        """
        return self._change("UNSUBSCRIBE", names_of(channels), names_of(patterns))

    def _change(self, command: str, channels: Names, patterns: Names) -> Reply[None]:
        if not channels and not patterns:
            raise ValueError("nothing is named; name a channel or a pattern")
        reply: Reply[None] = Reply()
        self.ask(_Change(command, (channels, patterns), [reply]))
        return reply

    # -- for the connection ----------------------------------------------------------------------------------

    def link(self, transport: Transport) -> _Subscriber:
        """A connection, which begins with HELLO."""
        return _Subscriber(self, transport)

    def replay(self, pending: list[_Change]) -> list[_Change]:
        """Subscribe to everything that was confirmed, then make the changes that were not."""
        everything = _Change("SUBSCRIBE", (dict(self.channels), dict(self.patterns)), [])
        return [everything, *(change.again() for change in pending)]

    def confirmed(self, ask: _Change) -> None:
        """The server has confirmed all names of a change."""
        for ours, theirs in zip((self.channels, self.patterns), ask.names, strict=True):
            if ask.command == "SUBSCRIBE":
                ours.update(theirs)
            else:
                for name in theirs:
                    ours.pop(name, None)
        super().confirmed(ask)


class _Subscriber(Link[_Change]):
    """One connection of a subscription."""

    __slots__ = ("_decoder", "_greeting")

    owner: Subscription
    question = "a PING"

    def __init__(self, owner: Subscription, transport: Transport) -> None:
        super().__init__(owner, transport)
        self._decoder = Decoder(owner.options.reply_bytes)
        self._greeting = greet(owner.options.login)

    def hello(self) -> None:
        """HELLO."""
        self.write(next(self._greeting))

    def greet(self) -> bool:
        """Give the replies to the greeting."""
        self._feed()
        while (value := self._decoder.next()) is not NOTHING:
            try:
                self.write(self._greeting.send(value))
            except StopIteration:
                return True
        return False

    def read(self) -> None:
        """Replies and messages, as long as there is room."""
        self._feed()
        while self.owner.reading and (value := self._decoder.next()) is not NOTHING:
            if isinstance(value, RedisError):
                if self.asked:
                    self.refused(value)
                raise value
            if isinstance(value, list):
                self._take(value)

    def ping(self) -> None:
        """PING; anything that comes is an answer."""
        self.write(encode("PING"))

    def closed_early(self) -> BackendError:
        """Redis servers say something first."""
        return BadReply("the connection was closed during the handshake; is it a Redis server?")

    def _feed(self) -> None:
        data = self.transport.take(len(self.transport.input))
        if data:
            self._decoder.feed(data)

    def _take(self, value: list[Any]) -> None:
        match value:
            case [b"message", bytes(channel), bytes(data)]:
                self.owner.messages.put(Message(channel, data))
            case [b"pmessage", bytes(pattern), bytes(channel), bytes(data)]:
                self.owner.messages.put(Message(channel, data, pattern))
            case [b"subscribe" | b"psubscribe" | b"unsubscribe" | b"punsubscribe", *_] if self.asked:
                if self.asked[0].confirmed():
                    self.confirmed()


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
    ping: float = PING_SECONDS,
    connect_timeout: float = CONNECT_SECONDS,
    backoff: Backoff = BACKOFF,
    username: str = "",
    password: str = "",
    name: str = "",
    tls: ssl.SSLContext | None = None,
    reply_bytes: int = REPLY_BYTES_MAX,
) -> Subscribe:
    """A subscription to these channels, and to those that match `patterns`; for `loop.spawn`. Await its
    `subscribed` to know that nothing is missed from then on.

    `url`: as for `redis.pool`, or several, as of a cluster's nodes: the next is tried when one fails.
    `capacity`: how many messages wait for their reader. `ping`: seconds of silence after which the server is
    asked whether it is there. `connect_timeout`: seconds that connecting may take. `backoff`: the pauses
    between attempts. `username` and `password`: where the URL leaves them out. `name`: what CLIENT LIST
    shows. `tls`: certificates to trust instead of the system's. `reply_bytes`: the largest message. Raises
    `ValueError` or `TypeError` for an option that makes no sense.
    """
    parsed = [parse_url(one, tls, Login(username, password, 0, name))
              for one in ([url] if isinstance(url, str) else url)]  # fmt: skip
    if not parsed:
        raise ValueError("no server; give its URL, or those of several that publish the same messages")
    return Subscribe(
        endpoints=tuple(endpoint for endpoint, _ in parsed),
        login=parsed[0][1],
        channels=tuple(names_of(channels)),
        patterns=tuple(names_of(patterns)),
        capacity=capacity,
        ping=ping,
        connect_timeout=connect_timeout,
        backoff=backoff,
        reply_bytes=reply_bytes,
    )
