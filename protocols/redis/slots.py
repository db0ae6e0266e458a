"""Where keys live in a cluster: 16,384 slots, a key's by its CRC16, each served by one node
(https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).

Which arguments of a command are keys is a table. Rules:
1. Who is not in the table has one key, its first argument, as nearly all commands do. If that is wrong (a
   module's command), nothing is lost: the node that was asked names the right one.
2. What has keys of several slots is refused before anything is sent.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Any, Final, NamedTuple

import hiredis

from actors import TcpAddress

from .errors import BadReply, CrossSlot, RedisError

__all__ = [
    "SLOTS",
    "Range",
    "Redirect",
    "key_slot",
    "keys_of",
    "one_slot",
    "parse_redirect",
    "parse_slots",
    "slot_of",
]

SLOTS: Final = 16384
SMALL: Final = 1024  # bytes of a command that are parsed as a whole, by the quicker parser

NONE: Final = frozenset(
    b"ACL ASKING AUTH BGREWRITEAOF BGSAVE CLIENT CLUSTER COMMAND CONFIG DBSIZE DISCARD ECHO EXEC FAILOVER "
    b"FLUSHALL FLUSHDB FUNCTION HELLO INFO KEYS LASTSAVE LATENCY LOLWUT MODULE MONITOR MULTI PING PSUBSCRIBE "
    b"PSYNC PUBLISH PUBSUB PUNSUBSCRIBE QUIT RANDOMKEY READONLY READWRITE REPLICAOF RESET ROLE SAVE SCAN "
    b"SCRIPT SELECT SHUTDOWN SLAVEOF SLOWLOG SUBSCRIBE SWAPDB SYNC TIME UNSUBSCRIBE UNWATCH WAIT "
    b"WAITAOF".split()
)
"""Commands without keys."""

WHERE: Final[
    dict[bytes, tuple[int, int, int]]
] = {  # the first key, the last (from the end: negative), the step
    **dict.fromkeys(
        b"DEL EXISTS MGET PFCOUNT PFMERGE SDIFF SDIFFSTORE SINTER SINTERSTORE SSUBSCRIBE SUNION SUNIONSTORE "
        b"SUNSUBSCRIBE TOUCH UNLINK WATCH".split(),
        (1, -1, 1),
    ),
    **dict.fromkeys((b"MSET", b"MSETNX"), (1, -1, 2)),
    **dict.fromkeys(
        b"BLMOVE BRPOPLPUSH COPY GEOSEARCHSTORE LCS LMOVE RENAME RENAMENX RPOPLPUSH SMOVE "
        b"ZRANGESTORE".split(),
        (1, 2, 1),
    ),
    **dict.fromkeys((b"BLPOP", b"BRPOP", b"BZPOPMAX", b"BZPOPMIN"), (1, -2, 1)),
    b"BITOP": (2, -1, 1),
    **dict.fromkeys((b"DEBUG", b"MEMORY", b"OBJECT", b"XGROUP", b"XINFO"), (2, 2, 1)),
}
COUNTED: Final[dict[bytes, int]] = {  # where the number of keys stands; they follow it
    **dict.fromkeys(b"EVAL EVALSHA EVALSHA_RO EVAL_RO FCALL FCALL_RO BLMPOP BZMPOP".split(), 2),
    **dict.fromkeys(b"LMPOP SINTERCARD ZDIFF ZINTER ZINTERCARD ZMPOP ZUNION".split(), 1),
}
COUNTED_BEHIND_TARGET: Final = frozenset((b"ZDIFFSTORE", b"ZINTERSTORE", b"ZUNIONSTORE"))
STORING: Final = frozenset((b"GEORADIUS", b"GEORADIUSBYMEMBER", b"SORT"))  # into the key behind STORE
STORE: Final = frozenset((b"STORE", b"STOREDIST"))


def key_slot(key: bytes) -> int:
    """A key's slot: of what stands in its first braces, if there is something, else of the whole."""
    begin = key.find(b"{")
    if begin >= 0:
        end = key.find(b"}", begin + 1)
        if end > begin + 1:
            key = key[begin + 1 : end]
    return crc_hqx(key, 0) % SLOTS


def slot_of(command: bytes) -> int | None:
    """The slot of an encoded command's keys, None if it has none. Raises `CrossSlot`."""
    arguments: Sequence[bytes]
    if len(command) <= SMALL:
        _parser.feed(command)
        arguments = _parser.gets()
    else:
        arguments = list(islice(_arguments(command), 2))
    name = arguments[0].upper()
    if name in NONE:
        return None
    if name not in _RULES:
        return key_slot(arguments[1]) if len(arguments) > 1 else None
    if len(command) > SMALL:
        arguments = list(_arguments(command))
    return one_slot(map(key_slot, _RULES[name](arguments)))


def one_slot(slots: Iterable[int | None]) -> int | None:
    """The only slot there is, None without one. Raises `CrossSlot`."""
    named = set(slots) - {None}
    if len(named) > 1:
        raise CrossSlot(
            f"CROSSSLOT the keys of one unit live in {len(named)} slots; nothing was sent. Give them a "
            "common tag ({user:7}:name, {user:7}:mail), or send a pipeline, which may have many"
        )
    return named.pop() if named else None


def keys_of(arguments: Sequence[bytes]) -> list[bytes]:
    """The keys among a command's arguments, of which the first is its name."""
    name = arguments[0].upper()
    if name in NONE:
        return []
    rule = _RULES.get(name)
    return list(arguments[1:2] if rule is None else rule(arguments))


_parser = hiredis.Reader()


def _arguments(command: bytes) -> Iterator[bytes]:
    place = command.index(b"\r\n") + 2
    while place < len(command):
        end = command.index(b"\r\n", place)
        begin, place = end + 2, end + 4 + int(command[place + 1 : end])
        yield command[begin : place - 2]


Rule = Callable[[Sequence[bytes]], Sequence[bytes]]


def _where(first: int, last: int, step: int) -> Rule:
    end = last + 1 or None
    return lambda arguments: arguments[first:end:step]


def _counted(place: int, behind_target: bool = False) -> Rule:
    def keys(arguments: Sequence[bytes]) -> Sequence[bytes]:
        try:
            count = int(arguments[place])
        except (IndexError, ValueError):
            return ()  # the server will say what is wrong with it
        named = arguments[place + 1 : place + 1 + max(0, count)]
        return [arguments[1], *named] if behind_target else named

    return keys


def _storing(arguments: Sequence[bytes]) -> Sequence[bytes]:
    keys = list(arguments[1:2])
    for word, behind in pairwise(arguments[2:]):
        if word.upper() in STORE:
            keys.append(behind)
    return keys


def _streams(arguments: Sequence[bytes]) -> Sequence[bytes]:
    begin = 4 if arguments[0].upper() == b"XREADGROUP" else 1  # a group may be called STREAMS
    for place in range(begin, len(arguments)):
        if arguments[place].upper() == b"STREAMS":
            rest = arguments[place + 1 :]
            return rest[: len(rest) // 2]
    return ()


def _migrate(arguments: Sequence[bytes]) -> Sequence[bytes]:
    if len(arguments) > 3 and arguments[3]:
        return arguments[3:4]
    names = [argument.upper() for argument in arguments]
    return arguments[names.index(b"KEYS") + 1 :] if b"KEYS" in names else ()


_RULES: Final[dict[bytes, Rule]] = {
    **{name: _where(*where) for name, where in WHERE.items()},
    **{name: _counted(place) for name, place in COUNTED.items()},
    **dict.fromkeys(COUNTED_BEHIND_TARGET, _counted(2, behind_target=True)),
    **dict.fromkeys(STORING, _storing),
    **dict.fromkeys((b"XREAD", b"XREADGROUP"), _streams),
    b"MIGRATE": _migrate,
}


# -- what nodes say of each other ----------------------------------------------------------------------------


class Range(NamedTuple):
    """Slots `first` to `last`, both included, and the node that serves them."""

    first: int
    last: int
    master: TcpAddress


class Redirect(NamedTuple):
    """What MOVED and ASK say."""

    slot: int
    node: TcpAddress


def parse_redirect(error: RedisError, asked: str) -> Redirect:
    """Where a MOVED or ASK leads. One without a host means the host that was `asked`. Raises `BadReply`."""
    words = str(error).split(" ")
    try:
        _, slot, node = words
        host, _, port = node.rpartition(":")
        redirect = Redirect(int(slot), TcpAddress(host.strip("[]") or asked, int(port)))
    except ValueError:
        raise BadReply(
            f"a node redirects to {str(error)!r:.100}, which does not name a slot and a node"
        ) from None
    if not (0 <= redirect.slot < SLOTS and 0 < redirect.node.port < 1 << 16):
        raise BadReply(f"a node redirects to {str(error)!r:.100}, which is not a valid slot or port")
    return redirect


def parse_slots(value: Any, asked: str) -> list[Range]:
    """What CLUSTER SLOTS answers. A node without a host is at the one that was `asked`. Raises `BadReply`."""
    ranges: list[Range] = []
    try:
        for first, last, master, *_ in value:
            host = (master[0] or b"").decode()
            node = TcpAddress(asked if host in ("", "?") else host, int(master[1]))
            if not (0 <= first <= last < SLOTS and 0 < node.port < 1 << 16):
                raise ValueError(f"slots {first} to {last} at {node}")
            ranges.append(Range(first, last, node))
    except (TypeError, ValueError, AttributeError, IndexError, UnicodeDecodeError) as error:
        raise BadReply(f"CLUSTER SLOTS was answered with {value!r:.100}: {error}") from error
    return ranges
