"""The server's side of a connection, and what the connections share.

Rules:
1. Commands of a connection are executed in order, one at a time; one that blocks holds up those behind it.
2. Who waits for an element of a list gets it in the order of waiting. What was taken for a client that has
   gone is lost, as it is with Redis.
3. What is published goes to those who are connected; who takes it too slowly is closed.
4. A `standby` executes nothing that writes. Its connections live on.
5. It speaks RESP2 until HELLO 3. A command that it does not know is an error, never silence.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, Final

from actors import (
    ANYTHING,
    NEVER,
    SLEEP,
    UNCHANGED,
    Continue,
    Outcome,
    Stop,
    StreamProtocol,
    Timeout,
    Transport,
)
from protocols.redis.codec import NOTHING, Decoder
from protocols.redis.errors import BadReply, RedisError

from .store import COMMANDS, OK, READS, Store, wrong_number

__all__ = ["RedisConnection", "SimulatedRedis", "encode_reply"]

COMMAND_BYTES_MAX: Final = 1 << 22
UNREAD_MAX: Final = 1 << 20  # bytes of messages that a subscriber has not taken
QUEUED_MAX: Final = 1024  # commands between MULTI and EXEC
READ_ONLY: Final = "READONLY You can't write against a read only replica."
LATER: Final = object()  # no answer yet, or it was written already
WHILE_SUBSCRIBED: Final = frozenset(
    {"SUBSCRIBE", "PSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "PING", "QUIT"}
)
NOT_QUEUED: Final = frozenset({"EXEC", "DISCARD", "MULTI", "WATCH", "QUIT"})


def encode_reply(value: Any, version: int = 2) -> bytes:
    """A reply as bytes: str is a simple string, a tuple a push."""
    if isinstance(value, RedisError):
        return f"-{value}\r\n".encode()
    if isinstance(value, str):
        return f"+{value}\r\n".encode()
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if value is None:
        return b"_\r\n" if version == 3 else b"$-1\r\n"
    if isinstance(value, dict):
        parts = [part for pair in value.items() for part in pair]
        head = b"%%%d\r\n" % len(value) if version == 3 else b"*%d\r\n" % len(parts)
    else:
        parts = list(value)
        head = (b">%d\r\n" if version == 3 and isinstance(value, tuple) else b"*%d\r\n") % len(parts)
    return head + b"".join([encode_reply(part, version) for part in parts])


class SimulatedRedis:
    """Makes the protocol of each connection, as a `Listener` wants it. `password`: what AUTH must say.

    `store` may be one that an earlier server has left: a restart that has lost nothing. `executed`: called
    with each command that is executed (name and arguments), to keep account.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        password: str = "",
        executed: Callable[[list[bytes]], object] = lambda command: None,
    ) -> None:
        self.store = store or Store()
        self.password = password.encode()
        self.executed = executed
        self.standby = False
        self.waiting: dict[RedisConnection, None] = {}  # those that block, in their order
        self.subscribers: dict[RedisConnection, None] = {}

    def __call__(self) -> RedisConnection:
        return RedisConnection(self)

    def __repr__(self) -> str:
        return f"<SimulatedRedis {self.store!r}, {len(self.waiting)} wait, {len(self.subscribers)} listen>"

    def publish(self, channel: bytes, data: bytes) -> int:
        """To everybody who listens; how many times."""
        return sum([subscriber.tell(channel, data) for subscriber in list(self.subscribers)])

    def wake_waiting(self) -> None:
        """Something was pushed, perhaps: those that block look again, in their order."""
        for connection in self.waiting:
            connection.transport.scope.wake()


class RedisConnection(StreamProtocol):
    """One client."""

    def __init__(self, server: SimulatedRedis) -> None:
        self.server = server
        self.transport: Transport
        self.version = 2
        self.decoder = Decoder(COMMAND_BYTES_MAX)
        self.known = not server.password
        self.queued: list[list[bytes]] | None = None  # between MULTI and EXEC
        self.spoilt = False  # one of them could not be queued
        self.at_once = False  # they are being executed, and nothing blocks
        self.watched: dict[bytes, int] = {}
        self.channels: set[bytes] = set()
        self.patterns: set[bytes] = set()
        self.blocking: list[bytes] | None = None  # the command that blocks
        self.until = NEVER
        self.leaving = False
        self.inbox: list[bytes] = []  # messages for a subscriber, to be written in its own turn
        self.inbox_bytes = 0

    def __repr__(self) -> str:
        doing = "blocks" if self.blocking else f"listens to {self.listens}" if self.listens else "idle"
        return f"<RedisConnection RESP{self.version} {doing}>"

    @property
    def listens(self) -> int:
        """How many subscriptions it has."""
        return len(self.channels) + len(self.patterns)

    # -- events ----------------------------------------------------------------------------------------------

    def connected(self, transport: Transport) -> Outcome:
        """A client, who speaks first."""
        self.transport = transport
        return Continue(self, ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        """Commands."""
        data, transport.input = transport.input, b""
        try:
            self.decoder.feed(data)
        except BadReply as error:
            return self._refuse(error)
        return self._go_on()

    def _go_on(self) -> Outcome:
        """Every complete command, unless one blocks."""
        while self.blocking is None:
            try:
                arguments = self.decoder.next()
            except BadReply as error:
                return self._refuse(error)
            if arguments is NOTHING:
                return Continue(self, ANYTHING)
            if not (isinstance(arguments, list) and arguments and all(type(a) is bytes for a in arguments)):
                return self._refuse(BadReply("a command is a list of strings"))
            self._answer(self.execute(arguments))
            if self.leaving:
                return Stop()
        return Continue(self, SLEEP) if self.until == NEVER else Timeout(self, self.until, SLEEP)

    def _refuse(self, error: BadReply) -> Outcome:
        self._answer(RedisError(f"ERR Protocol error: {error}"))
        return Stop()

    def _answer(self, value: Any) -> None:
        if value is not LATER:
            self.transport.write(encode_reply(value, self.version))

    def wakeup(self, transport: Transport) -> Outcome:
        """A message to pass on, or perhaps an element."""
        messages, self.inbox, self.inbox_bytes = self.inbox, [], 0
        for message in messages:
            transport.write(message)
        if transport.unsent > UNREAD_MAX:
            return Stop(ConnectionError("the subscriber does not keep up"))
        if self.blocking is None:
            return UNCHANGED
        found = self._pop_blocking(self.blocking)
        return UNCHANGED if found is None else self._unblocked(found)

    def timeout(self, transport: Transport) -> Outcome:
        """It has waited for long enough."""
        return self._unblocked(None)

    def _unblocked(self, value: Any) -> Outcome:
        self.blocking, self.until = None, NEVER
        self.server.waiting.pop(self, None)
        self._answer(value)
        return self._go_on()

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """Waits and listens no longer."""
        self.server.waiting.pop(self, None)
        self.server.subscribers.pop(self, None)

    # -- commands --------------------------------------------------------------------------------------------

    def execute(self, arguments: list[bytes]) -> Any:
        """One command: what to answer."""
        name = arguments[0].decode("latin-1").upper()
        if not self.known and name not in ("AUTH", "HELLO", "QUIT"):
            return RedisError("NOAUTH Authentication required.")
        if self.listens and self.version == 2 and name not in WHILE_SUBSCRIBED:
            return RedisError(
                f"ERR Can't execute '{name.lower()}': only (P)SUBSCRIBE and PING are allowed here"
            )
        try:
            if self.queued is not None and name not in NOT_QUEUED:
                return self._queue(name, arguments)
            return self._do(name, arguments[1:])
        except RedisError as error:
            return error

    def _queue(self, name: str, arguments: list[bytes]) -> str:
        assert self.queued is not None
        try:
            check(name, len(arguments) - 1)
            if name.endswith("SUBSCRIBE"):
                raise RedisError(f"ERR {name} is not allowed in a transaction")
            if len(self.queued) >= QUEUED_MAX:
                raise RedisError(f"ERR more than {QUEUED_MAX} commands in a transaction")
        except RedisError:
            self.spoilt = True
            raise
        self.queued.append(arguments)
        return "QUEUED"

    def _do(self, name: str, arguments: list[bytes]) -> Any:
        """Raises `RedisError`."""
        check(name, len(arguments))
        own = getattr(self, f"_do_{name.lower()}", None)
        if own is not None:
            return own(arguments)
        server = self.server
        if server.standby and name not in READS:
            raise RedisError(READ_ONLY)
        server.executed([name.encode(), *arguments])
        server.store.now = self.transport.scope.now
        value = COMMANDS[name][1](server.store, arguments)
        if name in ("LPUSH", "RPUSH"):
            server.wake_waiting()
        return value

    def _do_hello(self, arguments: list[bytes]) -> Any:
        options = [option.upper() for option in arguments]
        if options and options[0] not in (b"2", b"3"):
            raise RedisError("NOPROTO unsupported protocol version")
        if b"AUTH" in options:
            self._do_auth(arguments[options.index(b"AUTH") + 1 :][:2])
        if not self.known:
            raise RedisError("NOAUTH HELLO must be called with the client already authenticated")
        self.version = int(options[0]) if options else self.version
        return {b"server": b"redis", b"version": b"7.0.0", b"proto": self.version, b"mode": b"simulated"}

    def _do_auth(self, arguments: list[bytes]) -> str:
        if not self.server.password:
            raise RedisError("ERR AUTH called without any password configured for the default user.")
        if arguments[-1] != self.server.password:
            raise RedisError("WRONGPASS invalid username-password pair or user is disabled.")
        self.known = True
        return OK

    def _do_ping(self, arguments: list[bytes]) -> Any:
        if self.listens and self.version == 2:
            return [b"pong", *(arguments or [b""])]
        return arguments[0] if arguments else "PONG"

    def _do_echo(self, arguments: list[bytes]) -> bytes:
        return arguments[0]

    def _do_select(self, arguments: list[bytes]) -> str:
        if arguments[0] != b"0":
            raise RedisError("ERR DB index is out of range")
        return OK

    def _do_client(self, arguments: list[bytes]) -> str:
        return OK

    def _do_quit(self, arguments: list[bytes]) -> str:
        self.leaving = True
        return OK

    # -- transactions ----------------------------------------------------------------------------------------

    def _do_watch(self, arguments: list[bytes]) -> str:
        if self.queued is not None:
            raise RedisError("ERR WATCH inside MULTI is not allowed")
        self.server.store.now = self.transport.scope.now
        for key in arguments:
            self.server.store.has(key)  # one whose time is over goes now
            self.watched.setdefault(key, self.server.store.changes[key])
        return OK

    def _do_unwatch(self, arguments: list[bytes]) -> str:
        self.watched.clear()
        return OK

    def _do_multi(self, arguments: list[bytes]) -> str:
        if self.queued is not None:
            raise RedisError("ERR MULTI calls can not be nested")
        self.queued, self.spoilt = [], False
        return OK

    def _do_discard(self, arguments: list[bytes]) -> str:
        if self.queued is None:
            raise RedisError("ERR DISCARD without MULTI")
        self.queued = None
        self.watched.clear()
        return OK

    def _do_exec(self, arguments: list[bytes]) -> Any:
        queued, self.queued = self.queued, None
        if queued is None:
            raise RedisError("ERR EXEC without MULTI")
        store = self.server.store
        store.now = self.transport.scope.now
        for key in self.watched:
            store.has(key)  # one whose time is over has changed
        unchanged = all(store.changes[key] == seen for key, seen in self.watched.items())
        self.watched.clear()
        if self.spoilt:
            raise RedisError("EXECABORT Transaction discarded because of previous errors.")
        if not unchanged:
            return None
        self.at_once = True
        results = [self.execute(command) for command in queued]
        self.at_once = False
        return results

    # -- waiting for elements --------------------------------------------------------------------------------

    def _block(self, name: str, arguments: list[bytes]) -> Any:
        try:
            seconds = float(arguments[-1])
        except ValueError:
            raise RedisError("ERR timeout is not a float or out of range") from None
        if not 0 <= seconds < NEVER:
            raise RedisError("ERR timeout is negative")
        if self.server.standby:
            raise RedisError(READ_ONLY)
        command = [name.encode(), *arguments]
        found = self._pop_blocking(command)
        if found is not None or self.at_once:
            return found
        self.blocking = command
        self.until = self.transport.scope.now + seconds if seconds else NEVER
        self.server.waiting[self] = None
        return LATER

    def _pop_blocking(self, command: list[bytes]) -> list[bytes] | None:
        """The first key that has something, and its element."""
        name, *keys, _ = command
        store = self.server.store
        store.now = self.transport.scope.now
        for key in keys:
            if not self.server.standby and store.get(key, list):
                self.server.executed(command)
                return [key, COMMANDS["LPOP" if name == b"BLPOP" else "RPOP"][1](store, [key])]
        return None

    def _do_blpop(self, arguments: list[bytes]) -> Any:
        return self._block("BLPOP", arguments)

    def _do_brpop(self, arguments: list[bytes]) -> Any:
        return self._block("BRPOP", arguments)

    # -- publishing ------------------------------------------------------------------------------------------

    def tell(self, channel: bytes, data: bytes) -> int:
        """Pass a message on, if this client listens to it; how many times."""
        text = channel.decode("latin-1")
        messages: list[Any] = [(b"message", channel, data)] if channel in self.channels else []
        messages += [
            (b"pmessage", pattern, channel, data)
            for pattern in sorted(self.patterns)
            if fnmatchcase(text, pattern.decode("latin-1"))
        ]
        for message in messages:
            encoded = encode_reply(message, self.version)
            self.inbox_bytes += len(encoded)
            if self.inbox_bytes <= 2 * UNREAD_MAX:  # more, and `wakeup` closes it
                self.inbox.append(encoded)
            self.transport.scope.wake()
        return len(messages)

    def _do_publish(self, arguments: list[bytes]) -> int:
        return self.server.publish(*arguments)

    def _listen(self, kind: bytes, chosen: set[bytes], names: list[bytes]) -> Any:
        leaves = kind.endswith(b"unsubscribe")
        for name in names or (sorted(chosen) if leaves else []) or [b""]:
            chosen.discard(name) if leaves else chosen.add(name)
            self._answer((kind, name or None, self.listens))
        if self.listens:
            self.server.subscribers[self] = None
        else:
            self.server.subscribers.pop(self, None)
        return LATER

    def _do_subscribe(self, arguments: list[bytes]) -> Any:
        return self._listen(b"subscribe", self.channels, arguments)

    def _do_unsubscribe(self, arguments: list[bytes]) -> Any:
        return self._listen(b"unsubscribe", self.channels, arguments)

    def _do_psubscribe(self, arguments: list[bytes]) -> Any:
        return self._listen(b"psubscribe", self.patterns, arguments)

    def _do_punsubscribe(self, arguments: list[bytes]) -> Any:
        return self._listen(b"punsubscribe", self.patterns, arguments)


OWN: Final = {  # what is not about the store: how many arguments, negative for at least so many
    "HELLO": None, "AUTH": -1, "PING": None, "ECHO": 1, "SELECT": 1, "CLIENT": -1, "QUIT": 0,
    "WATCH": -1, "UNWATCH": 0, "MULTI": 0, "DISCARD": 0, "EXEC": 0, "BLPOP": -2, "BRPOP": -2, "PUBLISH": 2,
    "SUBSCRIBE": -1, "PSUBSCRIBE": -1, "UNSUBSCRIBE": None, "PUNSUBSCRIBE": None,
}  # fmt: skip


def check(name: str, count: int) -> None:
    """Whether there is such a command, with so many arguments. Raises `RedisError`."""
    if name in OWN:
        wanted = OWN[name]
    elif name in COMMANDS:
        wanted = COMMANDS[name][0]
    else:
        raise RedisError(f"ERR unknown command '{name}', this is a simulated server")
    if wanted is not None and (count < -wanted if wanted < 0 else count != wanted):
        raise wrong_number(name)
