"""Units: what may be sent twice, what waits, what is refused; the helpers keep to the same tables."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from protocols import redis
from protocols.redis import commands
from protocols.redis.commands import hashes, keys, lists, server, sets, sorted_sets, streams, strings
from protocols.redis.convert import ok
from protocols.redis.semantics import block_seconds, is_idempotent
from protocols.redis.units import Blocking, Command

FAMILIES = [hashes, keys, lists, server, sets, sorted_sets, streams, strings]
HELPERS = [getattr(family, name) for family in FAMILIES for name in family.__all__]


def sample(helper: Any) -> Command[Any]:
    """The unit that a helper makes of plausible arguments."""
    values: dict[str, Any] = {
        "values": {"a": 1},
        "scores": {"a": 1.0},
        "positions": {"a": "0"},
        "fields": {"a": 1},
    }
    given = []
    for name, parameter in inspect.signature(helper).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            given.append("x")
        elif parameter.default is parameter.empty:
            whole = str(parameter.annotation) in ("int", "float")
            given.append(
                values[name]
                if "Mapping" in str(parameter.annotation) or name == "positions"
                else 1
                if whole
                else "x"
            )
    unit: Command[Any] = helper(*given)
    return unit


@pytest.mark.parametrize("helper", HELPERS, ids=lambda helper: helper.__name__)
def test_a_helper_agrees_with_the_table(helper: Any) -> None:
    unit = sample(helper)
    parts = unit.data.split(b"\r\n")[2::2]
    assert unit.idempotent == is_idempotent(unit.name, tuple(parts)), unit
    assert isinstance(unit, Blocking) == (block_seconds(unit.name, tuple(parts)) is not None)
    assert helper.__doc__
    assert getattr(redis, helper.__name__) is helper


def test_everything_is_exported() -> None:
    assert set(redis.__all__) > {helper.__name__ for helper in HELPERS}
    assert sorted(commands.__all__) == sorted(family.__name__.rpartition(".")[2] for family in FAMILIES)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("GET", "a"), True),
        (("get", "a"), True),
        ((b"GET", "a"), True),
        ((memoryview(b"GET"), "a"), True),
        (("SET", "a", 1), False),
        (("SET", "a", 1, "EX", 10), False),
        (("SET", "a", 1, "NX"), False),
        (("SET", "a", 1, "XX"), False),
        (("SET", "a", 1, "GET"), False),
        (("DEL", "a"), False),
        (("INCR", "a"), False),
        (("LPUSH", "a", 1), False),
        (("EVAL", "x", 0), False),
        (("EVAL_RO", "x", 0), True),
        (("OBJECT", "ENCODING", "a"), True),
        (("SLOWLOG", "RESET"), False),
        (("OBJECT",), False),
        (("NO.SUCH", "a"), False),
        ((1,), False),
    ],
)
def test_what_may_be_sent_twice(arguments: Any, expected: bool) -> None:
    assert redis.command(*arguments).idempotent is expected


def test_the_caller_knows_better() -> None:
    assert redis.command("DEL", "a", idempotent=True).idempotent
    assert not redis.command("GET", "a", idempotent=False).idempotent


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        (("BLPOP", "a", "b", 5), 5.0),
        (("BLPOP", "a", 0), 0.0),
        (("BLPOP", "a", memoryview(b"2.5")), 2.5),
        (("BLMOVE", "a", "b", "LEFT", "LEFT", "1.5"), 1.5),
        (("BLMPOP", 3, 1, "a", "LEFT"), 3.0),
        (("XREAD", "BLOCK", 1500, "STREAMS", "a", "$"), 1.5),
        (("XREAD", "COUNT", 2, "BLOCK", 0, "STREAMS", "a", "$"), 0.0),
        (("XREAD", "STREAMS", "BLOCK", "0"), None),
        (("XREADGROUP", "GROUP", "block", "c", "STREAMS", "a", ">"), None),
        (("XREADGROUP", "GROUP", "g", "c", "BLOCK", 100, "STREAMS", "a", ">"), 0.1),
        (("XREAD", "BLOCK"), 0.0),
        (("BLPOP", "a", "what"), 0.0),
        (("GET", "a"), None),
    ],
)
def test_what_waits_in_the_server(arguments: Any, seconds: float | None) -> None:
    unit = redis.command(*arguments)
    if seconds is None:
        assert not isinstance(unit, Blocking)
    else:
        assert isinstance(unit, Blocking)
        assert unit.seconds == seconds
        assert not unit.pipelinable


@pytest.mark.parametrize(
    ("arguments", "instead"),
    [
        (("SUBSCRIBE", "a"), "redis.subscribe"),
        (("multi",), "redis.transaction"),
        (("SELECT", 1), "URL"),
        ((b"QUIT",), "others use"),
        (("CLIENT", "REPLY", "OFF"), "CLIENT REPLY"),
        (("WAIT", 1, 0), "own writes"),
        (("SCRIPT", "DEBUG", "YES"), "SCRIPT DEBUG"),
    ],
)
def test_what_would_spoil_the_connection_is_refused(arguments: Any, instead: str) -> None:
    with pytest.raises(ValueError, match=instead):
        redis.command(*arguments)


def test_harmless_client_commands_pass() -> None:
    assert redis.command("CLIENT", "ID").name == "CLIENT"
    assert redis.command("CLIENT").name == "CLIENT"


def test_no_command() -> None:
    with pytest.raises(ValueError, match="has a name"):
        redis.command()


def test_parts_of_others() -> None:
    pair = redis.pipeline(redis.get("a"), redis.strlen("b"))
    assert pair.idempotent
    assert not redis.pipeline(redis.get("a"), redis.incrby("b")).idempotent
    assert repr(pair) == f"<pipeline of 2, {pair.size} bytes>"
    assert repr(redis.atomic(redis.get("a"))).startswith("<atomic of 1,")
    for wrong in (pair, redis.blpop("a")):
        with pytest.raises(ValueError, match="by itself"):
            redis.pipeline(wrong)
    with pytest.raises(ValueError, match="no commands"):
        redis.atomic()


def test_what_is_shown_holds_no_arguments() -> None:
    unit = redis.set("key", "secret")
    assert repr(unit) == f"<Command SET, {len(unit.data)} bytes>"
    assert "secret" not in repr(redis.script("return 'secret'"))


def test_a_key_of_any_kind() -> None:
    assert redis.get("é").data == redis.get("é".encode()).data
    assert redis.get(7).data == redis.get("7").data
    assert redis.command("GET", "k").data == redis.get("k").data


def test_ok_is_all_that_is_expected() -> None:
    ok(b"OK")
    with pytest.raises(ValueError, match="not OK"):
        ok(b"QUEUED")
