"""Units of Redis: commands that are encoded when they are made, so that sending is a `write` and nothing
else.

`command` makes one of any command; `protocols.redis.commands` has the common ones with typed results. Which
may be sent twice, and which wait in the server, is in `semantics`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from actors import NEVER, Reply
from actors.telling import told
from pools import Unit

from .codec import Arg, encode
from .errors import BadReply, Conflict, RedisError
from .semantics import block_seconds, is_idempotent, name_of, refuse
from .slots import one_slot, slot_of

if TYPE_CHECKING:
    from .client import RedisPool

__all__ = [
    "Asking",
    "Blocking",
    "Command",
    "Idempotent",
    "Part",
    "Pipeline",
    "Queued",
    "RedisUnit",
    "Script",
    "ScriptCall",
    "Several",
    "command",
    "pipeline",
    "script",
    "unexpected",
]

T = TypeVar("T")

_ASKING = encode("ASKING")
_EXEC = encode("EXEC")
QUEUED: Final = b"QUEUED"


class Redis:
    """Stands for Redis where the type checker asks what a unit is for."""


class RedisUnit(Unit[T, Redis]):
    """What a `redis.pool` takes."""

    __slots__ = ()

    hangs_up: bool = False
    """Whether its connection is closed when its asker has gone, because it might wait for ever."""

    def seconds_of(self, timeout: float | None, default: float) -> float:
        """Its deadline, in seconds from now, if this `timeout` is given and that is the pool's."""
        return default if timeout is None else timeout

    def asking(self) -> RedisUnit[T]:
        """The same for a node that a slot is being moved to, which takes it from those alone who say that
        they were sent there.
        """
        raise NotImplementedError

    def instead(self, error: RedisError) -> RedisUnit[T] | None:
        """What is sent in its place after this error, which says that nothing was executed; None: the error
        is its answer.
        """
        return None


class Command(RedisUnit[T]):
    """One command, or several in one piece, as bytes. `convert` makes the typed result of the reply."""

    __slots__ = ("convert", "data", "size")

    replies: int = 1

    def __init__(self, data: bytes, convert: Callable[[Any], T] | None = None) -> None:
        self.data = data
        self.convert = convert
        self.size = len(data)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}, {self.size} bytes>"

    @property
    def name(self) -> str:
        """The command's name. Its arguments are not shown: they may be secrets."""
        return self.data.split(b"\r\n", 3)[2].decode("ascii", "replace").upper()

    @property
    def embedded(self) -> bytes:
        """The bytes to send where no second attempt can be made: in a pipeline, in a transaction."""
        return self.data

    @property
    def key(self) -> int | None:  # looked at by those alone who route by it
        """The slot of its keys in a cluster, None if it has none. Raises `CrossSlot`."""
        return slot_of(self.data)

    def asking(self) -> Command[T]:
        """Behind ASKING, in the same write."""
        return Asking(self)


class Idempotent(Command[T]):
    """A command that may be sent again after a connection died under it."""

    __slots__ = ()

    idempotent = True


class Blocking(Command[T]):
    """A command that waits in the server, on a connection that nobody else uses meanwhile.

    Its deadline, if none is given, is its own waiting time and the pool's `timeout` on top; with 0, for ever,
    it has none.
    """

    __slots__ = ("idempotent", "seconds")

    hangs_up = True
    pipelinable = False

    def __init__(self, data: bytes, seconds: float, idempotent: bool = False) -> None:
        super().__init__(data)
        self.seconds = seconds
        self.idempotent = idempotent

    def seconds_of(self, timeout: float | None, default: float) -> float:
        """Its own waiting time is on top of the pool's default."""
        if timeout is None:
            return self.seconds + default if self.seconds > 0 else NEVER
        return timeout

    def asking(self) -> Command[T]:
        """Behind ASKING, on a connection for those that wait."""
        return _AskingBlocking(self)

    def detour(self, pool: RedisPool, timeout: float | None, priority: int) -> Reply[T] | None:
        """To the connections for those that wait."""
        return pool.submit_apart("blocking", self, self.seconds_of(timeout, pool.timeout_default), priority)


class Asking(Command[T]):
    """A unit behind ASKING."""

    __slots__ = ("idempotent", "replies")

    def __init__(self, unit: Command[T]) -> None:
        super().__init__(_ASKING + unit.embedded, second_of(unit))
        self.idempotent = unit.idempotent
        self.replies = 1 + unit.replies

    @property
    def name(self) -> str:
        """The name behind ASKING."""
        return self.data[len(_ASKING) :].split(b"\r\n", 3)[2].decode("ascii", "replace").upper()


class _AskingBlocking(Blocking[T]):
    """One that waits, behind ASKING."""

    __slots__ = ()

    replies = 2

    def __init__(self, unit: Blocking[T]) -> None:
        super().__init__(_ASKING + unit.data, unit.seconds, unit.idempotent)
        self.convert = second_of(unit)


def second_of(unit: Command[T]) -> Callable[[Any], T]:
    """How to convert what answers a unit behind ASKING."""

    def convert(replies: Any) -> Any:
        value = replies[1] if unit.replies == 1 else replies[1:]
        if isinstance(value, RedisError):
            raise value
        return value if unit.convert is None else unit.convert(value)

    return convert


def command(*arguments: Arg, idempotent: bool | None = None) -> Command[Any]:
    """A unit: any command, with the reply as it comes (bytes, int, list, …; a map is a dict from RESP3 only).

    `idempotent`: whether it may be sent again after a connection died under it, for those who know better
    than the table. Raises `TypeError` for what is no argument, `ValueError` for a command that would spoil
    the connection for others (SELECT, SUBSCRIBE, MULTI, …).
    """
    if not arguments:
        raise ValueError("a command has a name; write redis.command('PING')")
    data = encode(*arguments)
    name = name_of(arguments[0])
    refuse(name, arguments)
    if idempotent is None:
        idempotent = is_idempotent(name, arguments)
    seconds = block_seconds(name, arguments)
    if seconds is not None:
        return Blocking(data, seconds, idempotent)
    return Idempotent(data) if idempotent else Command(data)


def unexpected(unit: Command[Any], value: Any, error: Exception) -> BadReply:
    """What a unit fails with whose answer could not be converted."""
    failure = BadReply(f"{unit!r} was answered with {value!r:.100}, which it does not expect: {told(error)}")
    failure.__cause__ = error
    return failure


# -- several commands ----------------------------------------------------------------------------------------


class Several(Command[list[Any]]):
    """Commands that are sent in one piece and settle together."""

    __slots__ = ("idempotent", "keep_errors", "replies", "units")

    def __init__(self, units: Sequence[Command[Any]], data: bytes, replies: int, keep_errors: bool) -> None:
        if not units:
            raise ValueError("no commands; give at least one")
        for unit in units:
            if unit.hangs_up or unit.replies != 1:
                raise ValueError(f"{unit!r} cannot be a part of others; submit it by itself")
        super().__init__(data, self.values)
        self.units = units
        self.replies = replies
        self.keep_errors = keep_errors
        self.idempotent = False

    @property
    def key(self) -> int | None:
        """The slot of all keys of all commands. Raises `CrossSlot`."""
        return one_slot(unit.key for unit in self.units)

    def values(self, replies: list[Any]) -> list[Any]:
        """The results, each as its command converts it. Raises the first error, unless they are kept."""
        results: list[Any] = []
        for unit, reply in zip(self.units, replies, strict=True):
            if isinstance(reply, RedisError):
                if not self.keep_errors:
                    raise reply
                results.append(reply)
            else:
                results.append(reply if unit.convert is None else unit.convert(reply))
        return results


class Pipeline(Several):
    """Made by `pipeline`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<pipeline of {len(self.units)}, {self.size} bytes>"


class Part(Several):
    """Some commands of a pipeline. Its value is what came for each, errors too: the only one, or a list."""

    __slots__ = ()

    def __init__(self, units: Sequence[Command[Any]]) -> None:
        super().__init__(units, b"".join([unit.embedded for unit in units]), len(units), keep_errors=True)
        self.convert = None
        self.idempotent = all(unit.idempotent for unit in units)

    def asking(self) -> Command[Any]:
        """ASKING in front of each."""
        made = Part(self.units)
        made.data = b"".join([_ASKING + unit.embedded for unit in self.units])
        made.replies = 2 * len(self.units)
        made.convert = itemgetter(1 if len(self.units) == 1 else slice(1, None, 2))
        return made


class Queued(Several):
    """Commands and the EXEC behind them, for a connection whose MULTI the server has accepted."""

    __slots__ = ()

    def __init__(self, units: Sequence[Command[Any]], keep_errors: bool = False) -> None:
        data = b"".join([*[unit.embedded for unit in units], _EXEC])
        super().__init__(units, data, len(units) + 1, keep_errors)

    def values(self, replies: list[Any]) -> list[Any]:
        """What EXEC answers; a command that could not be queued is the reason why it was refused."""
        *queued, executed = replies
        if isinstance(executed, RedisError):
            raise next((reply for reply in queued if isinstance(reply, RedisError)), executed)
        if executed is None:
            raise Conflict("CONFLICT a watched key was changed in the meantime; nothing was executed")
        if any(reply != QUEUED for reply in queued):
            raise ValueError("commands between MULTI and EXEC were not queued")
        return super().values(executed)


def pipeline(*units: Command[Any], keep_errors: bool = False) -> Command[list[Any]]:
    """A unit: several commands in one write on one connection, their results in a list. Others' commands may
    be executed between them; see `redis.atomic`.

    The first error reply fails the unit, though the other commands were executed; with `keep_errors` errors
    stand in the list instead.
    """
    made = Pipeline(units, b"".join([unit.embedded for unit in units]), len(units), keep_errors)
    made.idempotent = all(unit.idempotent for unit in units)
    return made


# -- scripts -------------------------------------------------------------------------------------------------


class Script(Generic[T]):
    """A Lua script. Calling it makes a unit: `script(keys=["a"], arguments=[1])`."""

    __slots__ = ("convert", "digest", "idempotent", "source")

    def __init__(
        self, source: str | bytes, convert: Callable[[Any], T] | None = None, *, idempotent: bool = False
    ) -> None:
        self.source = source.encode() if isinstance(source, str) else source
        self.digest = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()
        self.convert = convert
        self.idempotent = idempotent

    def __repr__(self) -> str:
        return f"<Script {self.digest}, {len(self.source)} bytes>"

    def __call__(self, keys: Sequence[Arg] = (), arguments: Sequence[Arg] = ()) -> ScriptCall[T]:
        """A unit: run the script with these keys and arguments."""
        return ScriptCall(self, (len(keys), *keys, *arguments))


class ScriptCall(Command[T]):
    """EVALSHA, and EVAL where the server does not know the script (yet, or any more)."""

    __slots__ = ("arguments", "idempotent", "script")

    def __init__(self, script: Script[T], arguments: tuple[Arg, ...]) -> None:
        super().__init__(encode("EVALSHA", script.digest, *arguments), script.convert)
        self.script = script
        self.arguments = arguments
        self.idempotent = script.idempotent

    @property
    def embedded(self) -> bytes:
        """EVAL with the source."""
        return encode("EVAL", self.script.source, *self.arguments)

    def instead(self, error: RedisError) -> Command[T] | None:
        """NOSCRIPT says that nothing was executed: the source."""
        if error.code != "NOSCRIPT":
            return None
        return (Idempotent if self.idempotent else Command)(self.embedded, self.convert)


def script(
    source: str | bytes, convert: Callable[[Any], T] | None = None, *, idempotent: bool = False
) -> Script[T]:
    """A Lua script: call what this returns with `keys` and `arguments` to get a unit.

    `convert` makes the result of the reply. `idempotent`: whether running it twice is the same as once.
    """
    return Script(source, convert, idempotent=idempotent)
