"""LISTEN: a channel of notifications, fed by a connection of its own that is made again when it is lost.

    jobs = loop.spawn(postgres.listen("postgresql://127.0.0.1/test", "jobs"))
    async for notification in jobs:
        print(notification.channel, notification.payload)

Rules:
1. After a reconnect it listens again, to all that it listens to by then. What was notified meanwhile is lost,
   for PostgreSQL keeps nothing for who is away: `gaps` counts how often that may have been so.
2. Who reads slowly is the reader's own affair or the server's, as `overflow` says. `drop_oldest`: the oldest
   notification goes for the newest, `dropped` counts them and a row of drops is a gap. `pause`: reading
   stops, and the server keeps what it has to say in a queue that all its listeners share, and whose end
   makes every NOTIFY fail.
3. Silence is asked about: an empty query after `ping` seconds without a word, and a new connection if that
   has no answer.
4. A server that refuses the first connection (a wrong password, a standby) ends it with that error; whatever
   comes later is tried again.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Literal, Self

import msgspec

from actors import (
    ANYTHING,
    SLEEP,
    Backoff,
    Bytes,
    Channel,
    Connector,
    Continue,
    Expectation,
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
from pools import BackendError, ConnectionLost, PoolClosed, Unit

from . import identifiers, messages
from .client import settings_of
from .errors import BadMessage, PostgresError
from .startup.negotiate import Opening
from .units import Fetch, Sql

__all__ = ["Notification", "Overflow", "Subscription", "listen", "notify"]

Overflow = Literal["drop_oldest", "pause"]

BACKOFF: Final = Backoff(0.05, 5.0)
CAPACITY: Final = 1024  # notifications that wait for their reader
COMMANDS_MAX: Final = 1024  # that wait for their answers
MESSAGE_MAX: Final = 1 << 16  # bytes: a notification has at most 8,000
PING: Final = messages.simple_query("")


class Notification(msgspec.Struct, frozen=True, gc=False):
    """What was notified. `pid`: the server's process that has done it."""

    channel: str
    payload: str
    pid: int


class Subscription(Machine["Subscription"]):
    """Made by `listen`; `loop.spawn` gives it back. Iterate over it, or `await receive()`.

    `subscribed` settles when the server has confirmed the first channels. `gaps` counts how often something
    may be missing, `dropped` how many were dropped for a slow reader.
    """

    __slots__ = (
        "_address",
        "_backoff",
        "_connect_timeout",
        "_connection",
        "_dropping",
        "_failures",
        "_overflow",
        "_scope",
        "_token",
        "_waiting",
        "channels",
        "dropped",
        "gaps",
        "messages",
        "ping",
        "settings",
        "subscribed",
    )

    drain_phase = 1

    def __init__(
        self,
        url: str,
        channels: tuple[str, ...],
        *,
        capacity: int,
        overflow: Overflow,
        ping: float,
        connect_timeout: float,
        backoff: Backoff,
        **options: Any,
    ) -> None:
        if overflow not in ("drop_oldest", "pause"):
            raise ValueError(f"overflow={overflow!r}; write drop_oldest or pause")
        check_counts(capacity=capacity)
        check_seconds(ping=ping, connect_timeout=connect_timeout)
        self._address, self.settings = settings_of(url, **options)
        self.channels = dict.fromkeys(map(identifiers.channel, channels))
        self.messages: Channel[Notification] = Channel(capacity)
        self.subscribed: Reply[None] = Reply()
        self.gaps = self.dropped = 0
        self.ping = ping
        self._overflow = overflow
        self._dropping = False
        self._backoff = backoff
        self._connect_timeout = connect_timeout
        self._failures = 0
        self._waiting: list[Reply[None]] = []  # for the next connection to listen
        self._scope: Scope = None  # type: ignore[assignment]  # until spawned
        self._connection: _Listener | None = None
        self._token = -1

    def __repr__(self) -> str:
        return f"<Subscription to {self._address}, {self.gaps} gaps, {self.messages!r}>"

    # -- for the reader --------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Notification]:
        return self.messages.__aiter__()

    async def receive(self) -> Notification:
        """The next notification. Raises what ended the subscription, or `ChannelClosed`."""
        return await self.messages.receive()

    def add(self, *channels: str) -> Reply[None]:
        """Listen to these as well; settled when nothing of them is missed from then on."""
        added = dict.fromkeys(map(identifiers.channel, channels))
        self.channels |= added
        return self._have_said(listening(added))

    def remove(self, *channels: str) -> Reply[None]:
        """Listen to these no more. What has come of them is still to be read."""
        gone = dict.fromkeys(map(identifiers.channel, channels))
        for channel in gone:
            self.channels.pop(channel, None)
        return self._have_said("; ".join(f"unlisten {identifiers.quoted(channel)}" for channel in gone))

    def cancel(self) -> None:
        """No more notifications: the connection is closed."""
        self.messages.cancel()

    def _have_said(self, statement: str) -> Reply[None]:
        reply: Reply[None] = Reply()
        if self.messages.ended:
            reply.fail(PoolClosed("the subscription has stopped"))
        elif not statement:
            reply.settle(None)
        elif self._connection is not None:
            self._connection.say(statement, [reply])
        else:
            self._waiting.append(reply)
        return reply

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
        self._token = scope.spawn(Connector(self._address, _Listener(self), timeout=self._connect_timeout))
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
        """The reader hears of the end, the server as well."""
        closed = PoolClosed("the subscription has stopped")
        self.subscribed.fail(closed)
        self.messages.close(None if error is None else closed)
        connection, self._connection = self._connection, None
        token, self._token = self._token, -1
        if connection is not None:
            connection.leave()
        elif token >= 0:
            scope.loop.kill(token)
        self._settle_waiting()

    def _settle_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for reply in waiting:
            reply.fail(PoolClosed("the subscription has stopped"))

    # -- for the connection ----------------------------------------------------------------------------------

    def opened(self, connection: _Listener) -> None:
        """The server is ready: listen to everything."""
        self._connection = connection
        waiting, self._waiting = self._waiting, []
        connection.say(listening(self.channels), waiting)

    def confirmed(self) -> None:
        """The server has confirmed all channels."""
        if self._failures:
            self._scope.loop.log.info("listening again", backend=str(self._address), gaps=self.gaps)
        self._failures = 0
        self.subscribed.settle(None)

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
        """Whether the connection may be read."""
        return self._overflow == "drop_oldest" or self.messages.writable

    def lost(self, error: BaseException | None, unanswered: list[Reply[None]]) -> None:
        """There is no connection any more, or none came about."""
        self._connection = None
        self._waiting += unanswered
        if self._token < 0:
            self._settle_waiting()
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
                cause=f"subscription lost {self._address}",
                backend=str(self._address),
                error=str(error),
                failures=self._failures,
            )
        self._scope.wake()


def listening(channels: Mapping[str, None]) -> str:
    """The statement that begins to listen; nothing for none."""
    return "; ".join(f"listen {identifiers.quoted(channel)}" for channel in channels)


class _Listener(StreamProtocol):
    """One connection of a subscription."""

    __slots__ = (
        "_asked",
        "_commands",
        "_error",
        "_leaving",
        "_listening",
        "_opening",
        "_owner",
        "_transport",
        "_stream",
    )

    drain_phase = None  # the subscription's business

    def __init__(self, owner: Subscription) -> None:
        self._owner = owner
        self._opening: Opening | None = None
        self._transport: Transport = None  # type: ignore[assignment]  # until connected
        self._stream: Transport = None  # type: ignore[assignment]
        self._commands: deque[list[Reply[None]]] = deque()  # who waits for what was said, in order
        self._error: PostgresError | None = None  # of what is being answered
        self._asked = False  # an empty query, and nothing has come since
        self._listening = False  # to all that it should
        self._leaving = False

    def __repr__(self) -> str:
        return f"<connection of {self._owner!r}>"

    # -- for the subscription --------------------------------------------------------------------------------

    def say(self, statement: str, replies: list[Reply[None]]) -> None:
        """Have the server do this."""
        if len(self._commands) >= COMMANDS_MAX:
            for reply in replies:
                reply.fail(BackendError(f"{COMMANDS_MAX} changes of a subscription wait; await some of them"))
            return
        self._stream.write(messages.simple_query(statement))
        self._commands.append(replies)
        self.wake()

    def leave(self) -> None:
        """Say that this was all."""
        self._leaving = True
        self._stream.write(messages.simple_query("unlisten *") + messages.TERMINATE)
        self.wake()

    def wake(self) -> None:
        """Look at what there is to do."""
        self._transport.scope.wake()

    # -- stream ----------------------------------------------------------------------------------------------

    def connected(self, transport: Transport) -> Outcome:
        """Begin the start-up."""
        self._transport = self._stream = transport
        self._opening = Opening(self._owner.settings, transport)
        self._opening.begin()
        return self._go_on(ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        """Answers and notifications."""
        self._asked = False
        try:
            opening = self._opening
            if opening is not None:
                done = opening.take()
                self._stream = opening.stream
                if not done:
                    return self._go_on(opening.expectation)
                self._opening = None
                self._owner.opened(self)
            self._read()
        except BackendError as error:
            return Stop(error)
        return self._go_on(None)

    def wakeup(self, transport: Transport) -> Outcome:
        """The reader has made room, or this was all."""
        if self._leaving:
            return Stop()
        if self._opening is not None:
            return self._go_on(self._opening.expectation)
        try:
            self._read()
        except BackendError as error:
            return Stop(error)
        return self._go_on(None)

    def timeout(self, transport: Transport) -> Outcome:
        """Silence: ask once, then give up."""
        if not self._owner.reading:  # the reader's, not the server's
            return self._go_on(None)
        if self._asked or self._opening is not None:
            return Stop(ConnectionLost("the server has been silent, and has not answered an empty query"))
        self._asked = True
        self._stream.write(PING)
        self._commands.append([])
        return Timeout(self, transport.scope.now + self._owner.ping)

    def ended(self, transport: Transport) -> Outcome:
        """The server has closed the connection."""
        if self._opening is not None:
            return Stop(BadMessage("the connection was closed at its start; is it a PostgreSQL server?"))
        return Stop(ConnectionResetError("the server closed the connection"))

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """The subscription sees to it."""
        self._owner.lost(error, [reply for replies in self._commands for reply in replies])
        self._commands.clear()

    def _go_on(self, expectation: Expectation | None) -> Outcome:
        if expectation is None:
            left = len(self._transport.input)
            expectation = Bytes(left + 1) if left else ANYTHING
            if not self._owner.reading:
                expectation = SLEEP
        return Timeout(self, self._transport.scope.now + self._owner.ping, expectation)

    def _read(self) -> None:
        stream, owner = self._stream, self._owner
        if stream is not self._transport:
            stream.pull()  # type: ignore[attr-defined]
        data = bytes(stream.input)
        at = 0
        while owner.reading and (found := messages.next_message(data, at, MESSAGE_MAX)) is not None:
            kind, end = found
            self._take(chr(kind), data[at + 5 : end])
            at = end
        stream.consume(at)

    def _take(self, kind: str, body: bytes) -> None:
        if kind == "A":
            self._owner.take(Notification(*messages.read_notification(body)))
        elif kind == "E":
            error = messages.read_error(body)
            if error.severity in ("FATAL", "PANIC") or not self._commands:
                raise error
            self._error = error
        elif kind == "Z" and self._commands:
            self._answered()
        elif kind not in "CNSI":
            raise BadMessage(f"a message {kind!r} that has no place here")

    def _answered(self) -> None:
        """A command is done: the first one has the subscription's channels, and may not fail."""
        error, self._error = self._error, None
        if not self._listening:
            if error is not None:
                raise error
            self._listening = True
            self._owner.confirmed()
        for reply in self._commands.popleft():
            reply.settle(None) if error is None else reply.fail(error)


# -- what users call --------------------------------------------------------------------------------


def listen(
    url: str,
    *channels: str,
    capacity: int = CAPACITY,
    overflow: Overflow = "drop_oldest",
    ping: float = 30.0,
    connect_timeout: float = 5.0,
    backoff: Backoff = BACKOFF,
    user: str | None = None,
    password: str | None = None,
    database: str | None = None,
    settings: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Subscription:
    """What is notified on these channels; for `loop.spawn`.

    `await subscription.subscribed` to know that nothing is missed from then on; `add` and `remove` change the
    channels. `capacity`: notifications that wait for their reader; `overflow`: what happens beyond
    (`drop_oldest`, or `pause`, which burdens the server). `ping`: seconds of silence before the server is
    asked whether it is there. The other options are those of `postgres.pool`. Raises `ValueError` for a
    channel that there cannot be.
    """
    return Subscription(
        url,
        channels,
        capacity=capacity,
        overflow=overflow,
        ping=ping,
        connect_timeout=connect_timeout,
        backoff=backoff,
        user=user,
        password=password,
        database=database,
        settings=settings,
        tls=tls,
    )


def notify(channel: str, payload: str = "") -> Unit[None, Sql]:
    """A unit: notify who listens to this channel. The server takes at most 7,999 bytes of payload."""
    return Fetch("select pg_notify($1, $2)", (identifiers.channel(channel), payload), nothing, False)


def nothing(*_: Any) -> None:
    """Of a notification nothing comes back."""
