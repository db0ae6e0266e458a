"""LISTEN: a channel of notifications, fed by a connection of its own that is made again when it is lost.

    jobs = loop.spawn(postgres.listen("postgresql://127.0.0.1/test", "jobs"))
    async for notification in jobs:
        print(notification.channel, notification.payload)

Rules:
1. The connection is kept as `pools.persistent` says. PostgreSQL keeps nothing for a listener that is away:
   what is notified meanwhile is lost.
2. `overflow` says what happens when the reader is slow. `drop_oldest`: the oldest notification goes for the
   newest, `dropped` counts them, and a row of drops is a gap. `pause`: reading stops, and the server keeps
   what it has to say in a queue that all its listeners share; when that is full, every NOTIFY fails.
3. `channels` change at once, and a new connection listens to all of them; whoever waits for a change then
   waits for that.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from actors import Backoff, Reply, Scope, Transport
from pools import BackendError, Endpoint, Unit
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

from . import identifiers, messages
from .errors import BadMessage, PostgresError
from .startup.handshake import Settings
from .startup.negotiate import Opening
from .units import Fetch, Sql
from .urls import settings_of

__all__ = ["Listen", "Notification", "Overflow", "Subscription", "listen", "notify"]

Overflow = Literal["drop_oldest", "pause"]

MESSAGE_MAX: Final = 1 << 16  # bytes: a notification has at most 8,000
PING: Final = messages.simple_query("")
FAREWELL: Final = messages.simple_query("unlisten *") + messages.TERMINATE


class Notification(msgspec.Struct, frozen=True, gc=False):
    """What was notified. `pid`: the server's process that has done it."""

    channel: str
    payload: str
    pid: int


class Listen(PersistentOptions["Subscription"], frozen=True, kw_only=True):
    """What `listen` describes: each field is one of its options, read and checked."""

    endpoint: Endpoint
    settings: Settings
    channels: tuple[str, ...]
    overflow: Overflow

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overflow not in ("drop_oldest", "pause"):
            raise ValueError(f"overflow={self.overflow!r}; write drop_oldest or pause")

    def make(self, scope: Scope) -> Subscription:
        """The subscription, not yet connected."""
        return Subscription(scope, self)


class Subscription(Persistent[Notification, Ask]):
    """What `loop.spawn(listen(…))` gives. Iterate over it, or `await receive()`.

    `subscribed` settles when the server has confirmed the first channels. `gaps` counts how often something
    may be missing, `dropped` how many were dropped for a slow reader.
    """

    __slots__ = ("_dropping", "channels", "dropped")

    options: Listen
    again = "listening again"

    def __init__(self, scope: Scope, options: Listen) -> None:
        super().__init__(scope, options, [options.endpoint])
        self.channels = dict.fromkeys(options.channels)
        self.dropped = 0
        self._dropping = False

    def add(self, *channels: str) -> Reply[None]:
        """Listen to these as well. The reply settles when nothing of them is missed from then on. Raises
        `ValueError` for an invalid name.
        """
        added = dict.fromkeys(map(identifiers.channel, channels))
        self.channels |= added
        return self._change(listening(added))

    def remove(self, *channels: str) -> Reply[None]:
        """Stop listening to these. What has come of them is still to be read. Raises `ValueError` for an
        invalid name.
        """
        gone = dict.fromkeys(map(identifiers.channel, channels))
        for channel in gone:
            self.channels.pop(channel, None)
        return self._change("; ".join(f"unlisten {identifiers.quoted(channel)}" for channel in gone))

    def _change(self, statement: str) -> Reply[None]:
        reply: Reply[None] = Reply()
        self.ask(Ask(messages.simple_query(statement) if statement else b"", [reply]))
        return reply

    # -- for the connection ----------------------------------------------------------------------------------

    def link(self, transport: Transport) -> _Listener:
        """A connection, which begins with the start-up."""
        return _Listener(self, transport)

    def replay(self, pending: list[Ask]) -> list[Ask]:
        """Listen to all channels there are by now: that is what the pending changes wait for."""
        waiting = [reply for ask in pending for reply in ask.replies]
        return [Ask(messages.simple_query(listening(self.channels)), waiting)]

    def take(self, notification: Notification) -> None:
        """One more, for which the oldest goes if there is no room."""
        channel = self.messages
        if channel.ended:
            return
        if channel.writable:
            self._dropping = False
        else:
            channel.take()
            self.dropped += 1
            self.gaps += not self._dropping
            self._dropping = True
        channel.put(notification)

    @property
    def reading(self) -> bool:
        """Whether the connection is read at present."""
        return self.options.overflow == "drop_oldest" or super().reading


def listening(channels: Iterable[str]) -> str:
    """The statement that begins to listen; empty for no channels."""
    return "; ".join(f"listen {identifiers.quoted(channel)}" for channel in channels)


class _Listener(Link[Ask]):
    """One connection of a subscription."""

    __slots__ = ("_error", "_opening")

    owner: Subscription
    question = "an empty query"
    farewell = FAREWELL

    def __init__(self, owner: Subscription, transport: Transport) -> None:
        super().__init__(owner, transport)
        self._opening = Opening(owner.options.settings, transport)
        self._error: PostgresError | None = None  # of what is being answered

    def hello(self) -> None:
        """TLS or not, then who we are."""
        self._opening.begin()

    def greet(self) -> bool:
        """Go on with the start-up."""
        return self._opening.take()

    def write(self, data: bytes) -> None:
        """Over TLS, if there is TLS."""
        self._opening.stream.write(data)

    def ping(self) -> None:
        """An empty query."""
        self.ask(Ask(PING, []))

    def closed_early(self) -> BackendError:
        """PostgreSQL says why before it closes."""
        return BadMessage("the connection was closed at its start; is it a PostgreSQL server?")

    def read(self) -> None:
        """Answers and notifications, as long as there is room."""
        stream = self._opening.arrived()
        data = bytes(stream.input)
        at = 0
        while self.owner.reading and (found := messages.next_message(data, at, MESSAGE_MAX)) is not None:
            kind, end = found
            self._take(chr(kind), data[at + 5 : end])
            at = end
        stream.consume(at)

    def _take(self, kind: str, body: bytes) -> None:
        if kind == "A":
            self.owner.take(Notification(*messages.read_notification(body)))
        elif kind == "E":
            error = messages.read_error(body)
            if error.severity in ("FATAL", "PANIC") or not self.asked:
                raise error
            self._error = error
        elif kind == "Z" and self.asked:
            refusal, self._error = self._error, None
            if refusal is None:
                self.confirmed()
            else:
                self.refused(refusal)
        elif kind not in "CNSI":
            raise BadMessage(f"a message {kind!r} that has no place here")


# -- what users call --------------------------------------------------------------------------------


def listen(
    url: str,
    *channels: str,
    capacity: int = CAPACITY,
    overflow: Overflow = "drop_oldest",
    ping: float = PING_SECONDS,
    connect_timeout: float = CONNECT_SECONDS,
    backoff: Backoff = BACKOFF,
    user: str | None = None,
    password: str | None = None,
    database: str | None = None,
    settings: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Listen:
    """A subscription to what is notified on these channels; for `loop.spawn`. Await its `subscribed` to know
    that nothing is missed from then on; `add` and `remove` change the channels.

    `url`, `user`, `password`, `database`, `settings` and `tls`: as for `postgres.pool`. `capacity`: how many
    notifications wait for their reader. `overflow`: what happens beyond that: `drop_oldest`, or `pause`,
    which burdens the server. `ping`: seconds of silence after which the server is asked whether it is there.
    `connect_timeout`: seconds that connecting may take. `backoff`: the pauses between attempts. Raises
    `ValueError` or `TypeError` for an invalid name or an option that makes no sense.
    """
    endpoint, made = settings_of(url, user, password, database, settings, tls)
    return Listen(
        endpoint=endpoint,
        settings=made,
        channels=tuple(dict.fromkeys(map(identifiers.channel, channels))),
        capacity=capacity,
        overflow=overflow,
        ping=ping,
        connect_timeout=connect_timeout,
        backoff=backoff,
    )


def notify(channel: str, payload: str = "") -> Unit[None, Sql]:
    """A unit: notify those who listen to this channel. The server takes at most 7,999 bytes of payload.
    Raises `ValueError` for an invalid name.
    """
    return Fetch("select pg_notify($1, $2)", (identifiers.channel(channel), payload), nothing, False)


def nothing(*_: Any) -> None:
    """A notification has no result."""
