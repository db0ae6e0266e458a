"""What a simulated Redis keeps, and the commands that work on nothing else. No I/O, no clock: time is given.

`COMMANDS` is the table: a name, how many arguments (negative: at least so many), what it does. A command gets
the store and its arguments, and gives what is to be answered: an int, bytes, a list, a dict, None, `OK`, or a
`RedisError`, which it may raise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, Final, TypeVar

from protocols.redis.errors import RedisError

__all__ = ["COMMANDS", "OK", "READS", "Store", "wrong_number"]

Value = bytes | list[bytes] | dict[bytes, bytes]
Doing = Callable[["Store", list[bytes]], Any]
V = TypeVar("V", bytes, list[bytes], dict[bytes, bytes])

OK: Final = "OK"  # a simple string: what is a str here
VALUE_MAX: Final = 1 << 20  # bytes of a value, elements of a list
WRONG_TYPE: Final = "WRONGTYPE Operation against a key holding the wrong kind of value"
NO_INTEGER: Final = "ERR value is not an integer or out of range"
SYNTAX: Final = "ERR syntax error"

COMMANDS: Final[dict[str, tuple[int, Doing]]] = {}
READS: Final = frozenset(
    {"EXISTS", "TOUCH", "TYPE", "KEYS", "DBSIZE", "TTL", "PTTL", "GET", "MGET", "STRLEN"}
    | {"LLEN", "LRANGE", "HGET", "HGETALL"}
)
"""What a replica executes, too."""


class Store:
    """Keys and values. `now` is set before each command (seconds); `changes` counts, for each key, how often
    it was written, which is what WATCH compares."""

    def __init__(self) -> None:
        self.now = 0.0
        self.values: dict[bytes, Value] = {}
        self.expiry: dict[bytes, float] = {}
        self.changes: Counter[bytes] = Counter()

    def __repr__(self) -> str:
        return f"<Store of {len(self.values)} keys>"

    def get(self, key: bytes, kind: type[V]) -> V | None:
        """The value of a key, if it has one of this kind. Raises `RedisError` for another kind."""
        value = self.values[key] if self.has(key) else None
        if value is not None and not isinstance(value, kind):
            raise RedisError(WRONG_TYPE)
        return value

    def has(self, key: bytes) -> bool:
        """Whether a key has a value of any kind. One whose time is over is forgotten now."""
        if key in self.expiry and self.expiry[key] <= self.now:
            self.drop(key)
        return key in self.values

    def put(self, key: bytes, value: Value, keep: bool = True) -> None:
        """Write. An empty collection is none. `keep`: its time to live stays."""
        if len(value) > VALUE_MAX:
            raise RedisError(f"ERR this simulated server keeps at most {VALUE_MAX} bytes or elements per key")
        self.changes[key] += 1
        if not keep:
            self.expiry.pop(key, None)
        if value or isinstance(value, bytes):
            self.values[key] = value
        else:
            self.drop(key)

    def drop(self, key: bytes) -> bool:
        """Forget a key; whether it was there."""
        self.expiry.pop(key, None)
        if self.values.pop(key, None) is None:
            return False
        self.changes[key] += 1
        return True


def command(names: str, count: int) -> Callable[[Doing], Doing]:
    """Into the table, under these names."""

    def enter(function: Doing) -> Doing:
        COMMANDS.update(dict.fromkeys(names.split(), (count, function)))
        return function

    return enter


def wrong_number(name: str) -> RedisError:
    """The error for too few or too many arguments."""
    return RedisError(f"ERR wrong number of arguments for '{name.lower()}' command")


def integer(text: bytes) -> int:
    """An argument that must be a number of 64 bits."""
    digits = text.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 19 or not -(1 << 63) <= int(text) < 1 << 63:
        raise RedisError(NO_INTEGER)
    return int(text)


# -- keys ----------------------------------------------------------------------------------------------------


@command("DEL UNLINK", -1)
def delete(store: Store, keys: list[bytes]) -> int:
    """How many there were."""
    return sum([store.has(key) and store.drop(key) for key in keys])


@command("EXISTS TOUCH", -1)
def exists(store: Store, keys: list[bytes]) -> int:
    """How many there are; a key that is named twice counts twice."""
    return sum([store.has(key) for key in keys])


@command("TYPE", 1)
def kind_of(store: Store, keys: list[bytes]) -> str:
    """string, list, hash or none."""
    if not store.has(keys[0]):
        return "none"
    value = store.values[keys[0]]
    return "string" if isinstance(value, bytes) else "list" if isinstance(value, list) else "hash"


@command("KEYS", 1)
def keys_like(store: Store, arguments: list[bytes]) -> list[bytes]:
    """Those that match a pattern, sorted."""
    pattern = arguments[0].decode("latin-1")
    matching = [key for key in sorted(store.values) if fnmatchcase(key.decode("latin-1"), pattern)]
    return [key for key in matching if store.has(key)]


@command("DBSIZE", 0)
def size(store: Store, arguments: list[bytes]) -> int:
    """How many keys."""
    return len(keys_like(store, [b"*"]))


@command("FLUSHALL FLUSHDB", 0)
def flush(store: Store, arguments: list[bytes]) -> str:
    """Forget everything."""
    for key in list(store.values):
        store.drop(key)
    return OK


def expire(store: Store, arguments: list[bytes], unit: float) -> int:
    """A time to live, from now. One that is over deletes."""
    key, seconds = arguments[0], integer(arguments[1]) * unit
    if not store.has(key):
        return 0
    if seconds <= 0:
        store.drop(key)
    else:
        store.expiry[key] = store.now + seconds
        store.changes[key] += 1
    return 1


def time_to_live(store: Store, arguments: list[bytes], unit: float) -> int:
    """What is left; -1 for ever, -2 for a key that is not there."""
    if not store.has(arguments[0]):
        return -2
    until = store.expiry.get(arguments[0])
    return -1 if until is None else max(0, round((until - store.now) / unit))


command("EXPIRE", 2)(lambda store, arguments: expire(store, arguments, 1.0))
command("PEXPIRE", 2)(lambda store, arguments: expire(store, arguments, 0.001))
command("TTL", 1)(lambda store, arguments: time_to_live(store, arguments, 1.0))
command("PTTL", 1)(lambda store, arguments: time_to_live(store, arguments, 0.001))


@command("PERSIST", 1)
def persist(store: Store, keys: list[bytes]) -> int:
    """No time to live any more."""
    return int(store.has(keys[0]) and store.expiry.pop(keys[0], None) is not None)


# -- strings -------------------------------------------------------------------------------------------------


@command("GET", 1)
def get(store: Store, keys: list[bytes]) -> bytes | None:
    """A value."""
    return store.get(keys[0], bytes)


@command("MGET", -1)
def get_many(store: Store, keys: list[bytes]) -> list[bytes | None]:
    """Values; nothing for what is no string."""
    found = [store.values[key] if store.has(key) else None for key in keys]
    return [value if isinstance(value, bytes) else None for value in found]


@command("SET", -2)
def set_(store: Store, arguments: list[bytes]) -> Any:
    """With EX, PX, NX, XX, KEEPTTL and GET."""
    key, value, *options = arguments
    lives: float | None = None
    keep = answers = False
    only: bool | None = None
    while options:
        option = options.pop(0).upper()
        if option in (b"EX", b"PX") and options:
            lives = integer(options.pop(0)) * (1.0 if option == b"EX" else 0.001)
            if lives <= 0:
                raise RedisError("ERR invalid expire time in 'set' command")
        elif option in (b"NX", b"XX") and only is None:
            only = option == b"XX"
        elif option == b"KEEPTTL":
            keep = True
        elif option == b"GET":
            answers = True
        else:
            raise RedisError(SYNTAX)
    before = store.get(key, bytes) if answers else None
    if only is not None and store.has(key) is not only:
        return before
    store.put(key, value, keep)
    if lives is not None:
        store.expiry[key] = store.now + lives
    return before if answers else OK


@command("SETNX", 2)
def set_new(store: Store, arguments: list[bytes]) -> int:
    """Whether it was set."""
    return int(set_(store, [*arguments, b"NX"]) == OK)


@command("MSET", -2)
def set_many(store: Store, arguments: list[bytes]) -> str:
    """All of them."""
    if len(arguments) % 2:
        raise wrong_number("mset")
    for key, value in zip(arguments[::2], arguments[1::2], strict=True):
        store.put(key, value, False)
    return OK


@command("GETDEL", 1)
def get_and_delete(store: Store, keys: list[bytes]) -> bytes | None:
    """The value that was there."""
    value = store.get(keys[0], bytes)
    store.drop(keys[0])
    return value


@command("APPEND", 2)
def append(store: Store, arguments: list[bytes]) -> int:
    """The new length."""
    value = (store.get(arguments[0], bytes) or b"") + arguments[1]
    store.put(arguments[0], value)
    return len(value)


@command("STRLEN", 1)
def length(store: Store, keys: list[bytes]) -> int:
    """In bytes."""
    return len(store.get(keys[0], bytes) or b"")


def add(store: Store, key: bytes, amount: int) -> int:
    """A counter's new value."""
    value = integer(store.get(key, bytes) or b"0") + amount
    if not -(1 << 63) <= value < 1 << 63:
        raise RedisError("ERR increment or decrement would overflow")
    store.put(key, b"%d" % value)
    return value


command("INCR", 1)(lambda store, arguments: add(store, arguments[0], 1))
command("DECR", 1)(lambda store, arguments: add(store, arguments[0], -1))
command("INCRBY", 2)(lambda store, arguments: add(store, arguments[0], integer(arguments[1])))
command("DECRBY", 2)(lambda store, arguments: add(store, arguments[0], -integer(arguments[1])))


# -- lists ---------------------------------------------------------------------------------------------------


def push(store: Store, arguments: list[bytes], left: bool) -> int:
    """The new length."""
    key, *items = arguments
    before = store.get(key, list) or []
    made = [*reversed(items), *before] if left else [*before, *items]
    store.put(key, made)
    return len(made)


def pop(store: Store, arguments: list[bytes], left: bool) -> Any:
    """One, or at most so many as a list."""
    key, *count = arguments
    items = store.get(key, list)
    if items is None:
        return None
    wanted = integer(count[0]) if count else 1
    if wanted < 0 or len(count) > 1:
        raise RedisError("ERR value is out of range, must be positive")
    taken = items[:wanted] if left else items[len(items) - wanted :][::-1] if wanted else []
    store.put(key, items[wanted:] if left else items[: len(items) - min(wanted, len(items))])
    return taken if count else taken[0]


command("LPUSH", -2)(lambda store, arguments: push(store, arguments, True))
command("RPUSH", -2)(lambda store, arguments: push(store, arguments, False))
command("LPOP", -1)(lambda store, arguments: pop(store, arguments, True))
command("RPOP", -1)(lambda store, arguments: pop(store, arguments, False))


@command("LLEN", 1)
def list_length(store: Store, keys: list[bytes]) -> int:
    """How many elements."""
    return len(store.get(keys[0], list) or [])


@command("LRANGE", 3)
def list_range(store: Store, arguments: list[bytes]) -> list[bytes]:
    """From one to the other, both included; negative ones count from the end."""
    items = store.get(arguments[0], list) or []
    first, last = (integer(text) for text in arguments[1:])
    first = max(0, first + len(items) if first < 0 else first)
    last = last + len(items) if last < 0 else last
    return items[first : max(0, last + 1)]


@command("LSET", 3)
def list_set(store: Store, arguments: list[bytes]) -> str:
    """The element at a place; a negative one counts from the end."""
    key, place, item = arguments
    items = store.get(key, list)
    if items is None:
        raise RedisError("ERR no such key")
    if not -len(items) <= integer(place) < len(items):
        raise RedisError("ERR index out of range")
    made = [*items]
    made[integer(place)] = item
    store.put(key, made)
    return OK


# -- hashes --------------------------------------------------------------------------------------------------


@command("HSET", -3)
def hash_set(store: Store, arguments: list[bytes]) -> int:
    """How many fields are new."""
    key, *pairs = arguments
    if len(pairs) % 2:
        raise wrong_number("hset")
    before = store.get(key, dict) or {}
    made = {**before, **dict(zip(pairs[::2], pairs[1::2], strict=True))}
    store.put(key, made)
    return len(made) - len(before)


@command("HGET", 2)
def hash_get(store: Store, arguments: list[bytes]) -> bytes | None:
    """One field."""
    return (store.get(arguments[0], dict) or {}).get(arguments[1])


@command("HGETALL", 1)
def hash_all(store: Store, keys: list[bytes]) -> dict[bytes, bytes]:
    """All fields."""
    return store.get(keys[0], dict) or {}


@command("HDEL", -2)
def hash_delete(store: Store, arguments: list[bytes]) -> int:
    """How many there were."""
    key, *fields = arguments
    before = store.get(key, dict) or {}
    made = {field: value for field, value in before.items() if field not in fields}
    if len(made) != len(before):
        store.put(key, made)
    return len(before) - len(made)


@command("HINCRBY", 3)
def hash_add(store: Store, arguments: list[bytes]) -> int:
    """A counter in a field."""
    key, field, amount = arguments
    before = store.get(key, dict) or {}
    value = integer(before.get(field, b"0")) + integer(amount)
    store.put(key, {**before, field: b"%d" % value})
    return value
