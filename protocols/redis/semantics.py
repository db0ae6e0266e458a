"""What each command means to a pool: which may be done twice, which wait in the server, which are refused.

**Idempotent** is a command that may be done a second time after its answer was lost, *whatever others have
written in between*: the state and the answer are then those of doing it once. That holds for what only reads,
and for nothing that writes:

1. A write done again undoes what another client has built on the first time: SET, INCRBY by another, SET
   again loses the increment, though everybody was told that all went well.
2. What is addressed by position (LSET, LTRIM) or relative to now (EXPIRE, SET with EX) means another place,
   another time.
3. Answers that count what has changed (DEL, SADD, HSET) would be wrong: "was it I who removed it?"

XREAD from `$` only reads, but begins at "now": done again it begins behind what came meanwhile. Who knows
that nobody else writes there, or does not mind, says `idempotent=True`. A command that is not in the table is
not sent twice. A test holds the table against a real server, with others' writes in between.
"""

from __future__ import annotations

from typing import Final

from .codec import Arg

__all__ = ["block_seconds", "is_idempotent", "name_of", "refuse"]

READS: Final = (
    "GET MGET STRLEN GETRANGE SUBSTR GETBIT BITCOUNT BITPOS BITFIELD_RO LCS EXISTS TYPE TTL PTTL "
    "EXPIRETIME PEXPIRETIME KEYS SCAN RANDOMKEY DUMP OBJECT MEMORY HGET HMGET HGETALL HKEYS HVALS "
    "HLEN HSTRLEN HEXISTS HSCAN HRANDFIELD HTTL HPTTL HEXPIRETIME HPEXPIRETIME LLEN LINDEX LRANGE "
    "LPOS SMEMBERS SISMEMBER SMISMEMBER SCARD SRANDMEMBER SSCAN SINTER SUNION SDIFF SINTERCARD "
    "ZCARD ZCOUNT ZLEXCOUNT ZRANGE ZRANGEBYSCORE ZRANGEBYLEX ZREVRANGE ZREVRANGEBYSCORE "
    "ZREVRANGEBYLEX ZRANK ZREVRANK ZSCORE ZMSCORE ZRANDMEMBER ZSCAN ZINTER ZUNION ZDIFF "
    "ZINTERCARD XLEN XRANGE XREVRANGE XREAD XPENDING XINFO PFCOUNT GEOPOS GEODIST GEOHASH "
    "GEOSEARCH GEORADIUS_RO GEORADIUSBYMEMBER_RO SORT_RO EVAL_RO EVALSHA_RO FCALL_RO PING ECHO "
    "TIME DBSIZE INFO LASTSAVE ROLE COMMAND SLOWLOG PUBSUB "
)
IDEMPOTENT: Final = frozenset(READS.split())
NOW: Final = "$"  # where XREAD begins that is to give only what comes from now on

READS_ONLY_WITH: Final = {  # containers: what of them only reads
    "OBJECT": frozenset({"ENCODING", "FREQ", "IDLETIME", "REFCOUNT"}),
    "MEMORY": frozenset({"USAGE"}),
    "SLOWLOG": frozenset({"GET", "LEN"}),
}

BLOCKING: Final = {  # where the seconds stand among the arguments
    "BLPOP": -1,
    "BRPOP": -1,
    "BRPOPLPUSH": -1,
    "BLMOVE": -1,
    "BZPOPMIN": -1,
    "BZPOPMAX": -1,
    "BLMPOP": 1,
    "BZMPOP": 1,
}
BLOCKING_WITH_OPTION: Final = frozenset({"XREAD", "XREADGROUP"})  # BLOCK milliseconds

_SHARED: Final = "it changes the connection, which others use too"
_HELD: Final = "a transaction needs a connection to itself: use redis.transaction or redis.atomic"
REFUSED: Final = {
    **dict.fromkeys(
        ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"),
        "a subscription has a connection of its own: use redis.subscribe",
    ),
    **dict.fromkeys(("MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH"), _HELD),
    **dict.fromkeys(("AUTH", "HELLO", "SELECT", "RESET"), f"{_SHARED}: give it in the pool's URL"),
    **dict.fromkeys(("QUIT", "MONITOR", "SYNC", "PSYNC", "ASKING", "READONLY", "READWRITE"), _SHARED),
    **dict.fromkeys(("WAIT", "WAITAOF"), "it waits for this connection's own writes, and blocks all others"),
}
REFUSED_CLIENT: Final = frozenset(
    {"REPLY", "SETNAME", "TRACKING", "CACHING", "NO-EVICT", "NO-TOUCH", "PAUSE"}
)


def name_of(argument: Arg) -> str:
    """A command's name, or an option, in capitals."""
    if isinstance(argument, str):
        return argument.upper()
    if isinstance(argument, bytes | memoryview):
        return bytes(argument).decode("ascii", "replace").upper()
    return str(argument)


def refuse(name: str, arguments: tuple[Arg, ...]) -> None:
    """Raise `ValueError` for a command that would spoil a connection for the other units on it."""
    reason = REFUSED.get(name)
    if reason is None and name == "CLIENT" and len(arguments) > 1:
        option = name_of(arguments[1])
        if option in REFUSED_CLIENT:
            name, reason = f"CLIENT {option}", _SHARED
    if reason is None and name == "SCRIPT" and len(arguments) > 1 and name_of(arguments[1]) == "DEBUG":
        name, reason = "SCRIPT DEBUG", _SHARED
    if reason is not None:
        raise ValueError(f"{name} cannot be sent through a pool: {reason}")


def is_idempotent(name: str, arguments: tuple[Arg, ...]) -> bool:
    """Whether a command may be sent again after a connection died under it."""
    if name not in IDEMPOTENT:
        return False
    if name == "XREAD":
        return all(name_of(argument) != NOW for argument in arguments)  # a key of that name costs little
    if name in READS_ONLY_WITH:
        return len(arguments) > 1 and name_of(arguments[1]) in READS_ONLY_WITH[name]
    return True


def block_seconds(name: str, arguments: tuple[Arg, ...]) -> float | None:
    """For how long a command may wait in the server: 0 for ever, None if it does not wait."""
    place = BLOCKING.get(name)
    if place is not None and len(arguments) > 1:
        return _number(arguments[place])
    if name in BLOCKING_WITH_OPTION:
        names = [name_of(argument) for argument in arguments]
        begin = 4 if name == "XREADGROUP" else 1  # a group may be called BLOCK
        end = names.index("STREAMS", begin) if "STREAMS" in names[begin:] else len(names)
        if "BLOCK" in names[begin:end]:
            after = names.index("BLOCK", begin) + 1
            return _number(arguments[after]) / 1000.0 if after < len(arguments) else 0.0
    return None


def _number(argument: Arg) -> float:
    try:
        return float(bytes(argument) if isinstance(argument, memoryview) else argument)
    except ValueError:
        return 0.0  # the server will say what is wrong with it
