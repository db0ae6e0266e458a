"""Slots and keys, held against a real cluster's CLUSTER KEYSLOT and COMMAND; what nodes say of each other."""

from __future__ import annotations

from typing import Any

import pytest

from actors import TcpAddress
from protocols import redis
from protocols.redis.codec import encode
from protocols.redis.slots import (
    COUNTED,
    NONE,
    SLOTS,
    WHERE,
    key_slot,
    keys_of,
    parse_redirect,
    parse_slots,
    slot_of,
)
from tests.redis_server import RedisCluster

KEYS = [
    b"",
    b"a",
    b"123456789",
    b"user:7",
    b"{user:7}:name",
    b"x{user:7}y",
    b"{}x",
    b"x{}",
    b"{a}{b}",
    b"{{a}}",
    b"{a",
    b"a}",
    b"}{a}",
    b"\x00\xff\r\n",
    "schlüssel".encode(),
    b"x" * 5000,
]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: repr(key[:16]))
def test_a_keys_slot_is_what_the_server_says(redis_cluster: RedisCluster, key: bytes) -> None:
    assert key_slot(key) == redis_cluster.nodes[0]("CLUSTER", "KEYSLOT", key)


def test_many_keys_slots(redis_cluster: RedisCluster) -> None:
    node = redis_cluster.nodes[0]
    for n in range(300):
        key = f"{n * 7919}:{{{n}}}" if n % 3 else f"key:{n}"
        assert key_slot(key.encode()) == node("CLUSTER", "KEYSLOT", key)


def words(*arguments: Any) -> list[bytes]:
    return [str(argument).encode() for argument in arguments]


COMMANDS = [
    ("GET a", "a"),
    ("set a 1 EX 5", "a"),
    ("MGET a b c", "a b c"),
    ("DEL a b", "a b"),
    ("MSET a 1 b 2", "a b"),
    ("RENAME a b", "a b"),
    ("BLPOP a b 0", "a b"),
    ("BITOP AND d a b", "d a b"),
    ("OBJECT ENCODING a", "a"),
    ("XINFO STREAM a", "a"),
    ("MEMORY USAGE a", "a"),
    ("EVAL script 2 a b x y", "a b"),
    ("EVALSHA_RO digest 0 x", ""),
    ("FCALL f 1 a x", "a"),
    ("ZUNION 2 a b WITHSCORES", "a b"),
    ("ZUNIONSTORE d 2 a b", "d a b"),
    ("SINTERCARD 2 a b LIMIT 1", "a b"),
    ("LMPOP 2 a b LEFT", "a b"),
    ("BLMPOP 0 2 a b LEFT", "a b"),
    ("XREAD COUNT 2 BLOCK 5 STREAMS a b 0 0", "a b"),
    ("XREADGROUP GROUP STREAMS c STREAMS a >", "a"),
    ("SORT a BY x GET y STORE d", "a d"),
    ("GEORADIUS a 1 2 3 m STORE d", "a d"),
    ("ZRANGESTORE d a 0 1", "d a"),
    ("LMOVE a b LEFT RIGHT", "a b"),
    ("PFMERGE d a b", "d a b"),
    ("MIGRATE host 1 a 0 5", "a"),
    ("MIGRATE host 1  0 5 KEYS a b", "a b"),
]


@pytest.mark.parametrize(("command", "keys"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_which_arguments_are_keys(redis_cluster: RedisCluster, command: str, keys: str) -> None:
    arguments = command.split(" ")
    assert keys_of(words(*arguments)) == words(*keys.split())
    if keys:
        assert redis_cluster.nodes[0]("COMMAND", "GETKEYS", *arguments) == keys.split()


@pytest.mark.parametrize(
    "command", ["PING", "ECHO a", "publish a b", "SCAN 0", "EVAL x", "EVAL x y", "XREAD a"]
)
def test_which_have_none(command: str) -> None:
    assert keys_of(words(*command.split())) == []
    assert slot_of(encode(*command.split())) is None


INTERNAL = {"PFDEBUG", "PFSELFTEST", "REPLCONF"}  # no business of a client


def test_the_table_is_the_servers(redis_cluster: RedisCluster) -> None:
    """For every command with keys at fixed places."""
    wrong = {}
    listed = redis_cluster.nodes[0]("COMMAND")
    for name, _, flags, first, last, step, *_ in listed:
        upper = name.upper()
        if "movablekeys" in flags or upper.encode() in COUNTED or upper in CONTAINERS:
            continue
        line = words(upper, *(f"k{n}" for n in range(1, 9)))
        theirs = [] if first == 0 else line[first : last + 1 or None : step]
        if keys_of(line) != theirs:
            wrong[upper] = (keys_of(line), theirs)
    assert len(listed) > 200
    assert wrong.keys() <= INTERNAL, wrong


CONTAINERS = {"DEBUG", "MEMORY", "OBJECT", "XGROUP", "XINFO"}  # their subcommands have the keys


def test_a_large_command_is_looked_at_no_further_than_needed() -> None:
    value = b"\r\n$3\r\n" * 1000
    assert slot_of(encode("SET", "a", value)) == key_slot(b"a")
    assert slot_of(encode("ECHO", value)) is None
    assert slot_of(encode("MSET", "{a}1", value, "{a}2", value)) == key_slot(b"a")
    with pytest.raises(redis.CrossSlot):
        slot_of(encode("MSET", "a", value, "b", value))


def test_units_know_their_slot() -> None:
    a = key_slot(b"a")
    assert redis.get("a").key == a
    assert redis.blpop("a").key == a
    assert redis.ping().key is None
    assert redis.atomic(redis.echo("x"), redis.get("a"), redis.set("{a}b", 1)).key == a
    assert redis.script("return 1")(["a"]).key == a
    assert redis.script("return 1")().key is None
    assert redis.get("a").asking().data == encode("ASKING") + redis.get("a").data
    assert "GET" in repr(redis.get("a").asking())
    for unit in (redis.mget("a", "b"), redis.atomic(redis.get("a"), redis.get("b"))):
        with pytest.raises(redis.CrossSlot, match="common tag"):
            _ = unit.key


@pytest.mark.parametrize(
    ("text", "slot", "node"),
    [
        ("MOVED 3999 127.0.0.1:6381", 3999, TcpAddress("127.0.0.1", 6381)),
        ("ASK 0 ::1:7", 0, TcpAddress("::1", 7)),
        ("MOVED 1 :6381", 1, TcpAddress("asked", 6381)),
        ("MOVED 1 redis.example.org:1", 1, TcpAddress("redis.example.org", 1)),
    ],
)
def test_redirects(text: str, slot: int, node: TcpAddress) -> None:
    assert parse_redirect(redis.RedisError(text), "asked") == (slot, node)


@pytest.mark.parametrize(
    "text",
    ["MOVED", "MOVED 1", "MOVED x y:1", "MOVED 1 host:x", "MOVED 16384 h:1", "MOVED 1 h:0", "MOVED 1 h:1 x"],
)
def test_redirects_that_are_none(text: str) -> None:
    with pytest.raises(redis.BadReply, match="redirects to"):
        parse_redirect(redis.RedisError(text), "asked")


def test_the_map() -> None:
    value = [
        [0, 5, [b"10.0.0.1", 1, b"id", []], [b"10.0.0.2", 2]],
        [6, SLOTS - 1, [None, 3]],
        [7, 7, [b"", 4]],
        [8, 8, [b"?", 5]],
    ]
    assert [(first, last, str(master)) for first, last, master in parse_slots(value, "asked")] == [
        (0, 5, "10.0.0.1:1"),
        (6, SLOTS - 1, "asked:3"),
        (7, 7, "asked:4"),
        (8, 8, "asked:5"),
    ]


@pytest.mark.parametrize(
    "value",
    [
        *(b"OK", 7, None, [[]], [[0, 1]], [[0, 1, []]], [[1, 0, [b"h", 1]]], [[0, SLOTS, [b"h", 1]]]),
        *([[0, 1, [b"h", 0]]], [[0, 1, [b"\xff", 1]]], [[0, 1, [7, 1]]], [["a", 1, [b"h", 1]]]),
    ],
)
def test_maps_that_are_none(value: Any) -> None:
    with pytest.raises(redis.BadReply, match="CLUSTER SLOTS"):
        parse_slots(value, "asked")


def test_commands_without_keys_are_not_in_the_table_of_those_with() -> None:
    assert not NONE & (WHERE.keys() | COUNTED.keys())
