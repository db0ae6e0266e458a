"""The protocol of one connection of a pool: bytes of units out, replies in, in order.

Rules:
1. What waits leaves in one write: `send` only appends, the tick flushes.
2. A reply settles the unit it belongs to whatever it is; that of a unit nobody waits for is dropped unread.
3. What is not the protocol ends this connection and nothing else.
4. A push (RESP3) is nobody's answer.
5. One that is `standing` is ready when MULTI was accepted, and each of its units ends with the next MULTI. If
   that is refused, nothing more is sent here.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from actors import ANYTHING, Expectation
from pools import Unit, Wire, Work

from .codec import NOTHING, Decoder, PushNotification, bad_reply, encode
from .errors import BadReply, RedisError, is_about_server
from .handshake import Login, greet
from .units import Command, RedisUnit, unexpected

__all__ = ["RedisWire"]

_UNWATCH = encode("UNWATCH")
_DISCARD = encode("DISCARD")
_PING = encode("PING")


class RedisWire(Wire):
    """Made by `redis.pool`, one per connection. `reply_bytes`: how large a reply may be."""

    __slots__ = (
        "_decoder",
        "_greeting",
        "_hanging_up",
        "_parts",
        "_standing",
        "in_multi",
        "version",
        "watching",
    )

    clustered = False  # whether this server is one of several that share the keys
    takes = RedisUnit
    pushes = True  # it tells a push from an answer that nothing had asked for by itself

    def __init__(self, login: Login, reply_bytes: int, standing: bool = False) -> None:
        super().__init__()
        self._decoder = Decoder(reply_bytes)
        self._greeting: Generator[bytes, Any, int] | None = greet(login, standing)
        self._standing = standing
        self._parts: list[Any] = []  # of a unit with several replies, those that have come
        self._hanging_up = False
        self.version = 0  # of the protocol, once that is settled
        self.watching = False  # keys are watched here
        self.in_multi = False  # a transaction has said MULTI, and not EXEC yet

    def __repr__(self) -> str:
        return f"<RedisWire RESP{self.version or '?'}{', watching' if self.watching else ''}>"

    def start(self) -> Expectation | None:
        """Begin the handshake."""
        assert self._greeting is not None
        self.transport.write(next(self._greeting))
        return ANYTHING

    def send(self, work: Work[Any]) -> None:
        """The unit's bytes."""
        self.transport.write(work.unit.data)

    def received(self) -> Expectation | None:
        """Every complete reply."""
        transport, decoder = self.transport, self._decoder
        data, transport.input = transport.input, b""
        decoder.feed(data)
        if self._greeting is not None:
            self._greet()
        connection, get = self.connection, decoder.next_unchecked
        unit = None
        while True:
            try:
                value = get()
            except Exception as error:
                raise bad_reply(error) from error
            if value is NOTHING:
                decoder.more()
                if unit is not None:
                    decoder.begun = 0
                return None
            if value.__class__ is PushNotification:
                decoder.begun = 0
                continue
            work = connection.current
            if work is None:
                raise BadReply(f"{value!r:.100} answers nothing that was asked")
            unit = work.unit
            if unit.replies != 1:
                self._parts.append(value)
                if value.__class__ is RedisError and not self.clustered and is_about_server(value):
                    connection.leave()  # of the other commands some may have been executed
                if len(self._parts) < unit.replies:
                    continue
                value, self._parts = self._parts, []
                if self._standing and value[-1] != b"OK":
                    connection.retire()
            elif value.__class__ is RedisError:
                self._refused(unit, value)
                continue
            if unit.convert is not None and not work.settled:
                self._settle_converted(unit, value)
            else:
                connection.settle(value)

    def _refused(self, unit: RedisUnit[Any], error: RedisError) -> None:
        """One command is answered by an error."""
        if not self.clustered and is_about_server(error):
            self.connection.elsewhere(error)
            return
        other = unit.instead(error)
        if other is None:
            self.connection.fail(error)
        else:
            self.connection.take_back(other)

    def _settle_converted(self, unit: Command[Any], value: Any) -> None:
        try:
            value = unit.convert(value)  # type: ignore[misc]
        except RedisError as error:
            self.connection.fail(error)
        except Exception as error:
            self.connection.fail(unexpected(unit, value, error))
        else:
            self.connection.settle(value)

    def _greet(self) -> None:
        greeting = self._greeting
        while greeting is not None:
            reply = self._decoder.next()
            if reply is NOTHING:
                return
            if reply.__class__ is PushNotification:
                continue
            try:
                self.transport.write(greeting.send(reply))
            except StopIteration as done:
                self._greeting = greeting = None
                self.version = done.value
                self.connection.ready()

    def ended(self) -> Expectation | None:
        """The end in the middle of a handshake is worth a word."""
        if self._greeting is not None:
            raise BadReply(
                f"{self.connection.backend.address} closed the connection during the handshake; is it a "
                "Redis server, and does it want TLS (rediss://)?"
            )
        return None

    def abandoned(self, work: Work[Any]) -> None:
        """Nobody waits for something that may never come: hang up, before it comes and is lost."""
        if work.unit.hangs_up:
            self._hanging_up = True
            self.connection.wake()

    def wakeup(self) -> Expectation | None:
        """See `abandoned`."""
        if self._hanging_up:
            self.connection.close(None)
        return None

    def probe(self) -> Unit[Any] | None:
        """PING; inside of MULTI it would be one more command of the transaction."""
        return None if self._standing else Command(_PING)

    def restore(self) -> Unit[Any] | None:
        """After a transaction: watch nothing, queue nothing."""
        undo = _DISCARD if self.in_multi else _UNWATCH if self.watching else None
        self.watching = self.in_multi = False
        return None if undo is None else Command(undo)
