"""Every type: there and back by ourselves, and against the values of psycopg and asyncpg on a real server."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import struct
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import Loop, settle_all
from pools import Unit
from protocols import postgres
from protocols.postgres import Range, UnreadableValue
from protocols.postgres.types import CODECS
from tests.protocols.postgres.servers import Server

UTC = datetime.UTC
Ask = Callable[[Unit[Any]], Any]

LITERALS = [
    "true", "false", "(-32768)::int2", "2147483647", "(-9223372036854775808)::int8", "4294967295::oid",
    "1.5::float4", "(-2.5e300)::float8", "'infinity'::float8", "12345.678900::numeric", "(-0.00012)::numeric",
    "0::numeric", "0.000::numeric", "1e20::numeric", "123456789012345678901234567890.12::numeric",
    "10000::numeric", "repeat('9',131072)::numeric", "(repeat('97531',80)||'.'||repeat('1',300))::numeric",
    "1e131000::numeric", "('-0.'||repeat('0',5000)||'12')::numeric", "('0.'||repeat('0',2000))::numeric",
    "100000000.0001::numeric", "'text é'::text", "'v'::varchar(5)", "'c'::char(3)", "'n'::name", "''::text",
    "'\\x00ff10'::bytea", "'b2a6a4e2-7c1a-4e2a-9f0b-0123456789ab'::uuid", "'2024-02-29'::date",
    "'0001-01-01'::date",
    "'9999-12-30'::date", "'13:45:59.123456'::time", "'2024-02-29 12:00:00.5'::timestamp",
    "'1969-07-20 20:17:40+00'::timestamptz", "'1 day 02:03:04.5'::interval", "'-1 day -00:00:01'::interval",
    "'1 year 2 mons'::interval", "'-14 mons'::interval", "'13:45:59.5+05:30'::timetz", "'10.1.2.3'::inet",
    "'10.1.2.3/8'::inet", "'::1'::inet", "'10.0.0.0/8'::cidr", "array[1,2,null]", "array[]::int[]",
    "array[['a','b'],['c','d']]", "array[1.5,2.25]::numeric[]", "array['2024-01-01'::date]", "null::int",
    "array['\\x00'::bytea]", "array[true,false]", "array[1.5]::float8[]",
]  # fmt: skip


async def theirs(url: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return [await connection.fetchval(f"select {literal}") for literal in LITERALS]
    finally:
        await connection.close()


def test_values_are_those_of_psycopg_and_asyncpg(server: Server, ask: Ask) -> None:
    ours = [ask(postgres.fetch_value(f"select {literal}")) for literal in LITERALS]
    of_asyncpg = asyncio.run(theirs(server.url))
    with psycopg.connect(server.url) as connection:
        cursor = connection.cursor(binary=True)
        of_psycopg = [cursor.execute(f"select {literal}".encode()).fetchone()[0] for literal in LITERALS]  # type: ignore[index]
    for literal, value, other, third in zip(LITERALS, ours, of_asyncpg, of_psycopg, strict=True):
        assert value == other, literal
        assert (value, type(value)) == (third, type(third)), literal
        if isinstance(value, Decimal):
            assert str(value) == str(third), literal


def test_json_is_what_it_says(ask: Ask) -> None:
    value = {"a": [1, 2.5, None, "é"], "b": {"c": True}}
    for kind in ("json", "jsonb"):
        assert ask(postgres.fetch_value(f"select $1::{kind}", value)) == value
        assert ask(postgres.fetch_value(f"select '{json.dumps(value)}'::{kind}")) == value


BACK_AND_FORTH: list[tuple[str, list[Any]]] = [
    ("bool", [True, False, None]),
    ("int2", [-32768, 0, 32767]),
    ("int4", [-(1 << 31), (1 << 31) - 1]),
    ("int8", [-(1 << 63), (1 << 63) - 1]),
    ("oid", [(1 << 32) - 1]),
    ("float4", [1.5, float("-inf")]),
    ("float8", [0.1, 1e308]),
    ("numeric", [Decimal("1.50"), Decimal("-1E+10").quantize(1), Decimal("0.0001"), Decimal("12345678.9")]),
    ("numeric", [Decimal("Infinity"), Decimal("-Infinity"), Decimal("10000.00010000")]),
    ("text", ["", "é" * 1000, "'quoted'"]),
    ("bytea", [b"", bytes(range(256))]),
    ("uuid", [uuid.UUID(int=1)]),
    ("date", [datetime.date(1, 1, 2), datetime.date(9999, 12, 30), datetime.date.max, datetime.date.min]),
    ("time", [datetime.time(0, 0), datetime.time(23, 59, 59, 999999)]),
    ("timetz", [datetime.time(1, 2, 3, tzinfo=datetime.timezone(datetime.timedelta(hours=-5)))]),
    (
        "timestamp",
        [datetime.datetime(1, 1, 1), datetime.datetime.max, datetime.datetime(2024, 2, 29, 1, 2, 3, 4)],
    ),
    ("timestamptz", [datetime.datetime(1999, 12, 31, 23, 59, 59, 999999, UTC)]),
    ("timestamptz", [datetime.datetime.max.replace(tzinfo=UTC), datetime.datetime.min.replace(tzinfo=UTC)]),
    ("timestamp", [datetime.datetime.min]),
    ("interval", [datetime.timedelta(days=-3, microseconds=7), datetime.timedelta(0)]),
    ("inet", [ipaddress.ip_address("10.0.0.1"), ipaddress.ip_interface("fe80::1/64")]),
    ("cidr", [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fe80::/64")]),
    ("int4[]", [[], [1, None, -1], [[1, 2], [3, 4]], None]),
    ("text[]", [["", 'a "b" \\ ,{}', None]]),
    ("uuid[]", [[uuid.UUID(int=7)]]),
    ("jsonb[]", [[{"a": 1}, [2]]]),
    (
        "int4range",
        [Range(1, 5), Range(None, 5, False), Range(empty=True, lower_included=False), Range(1, None)],
    ),
    ("numrange", [Range(Decimal("1.5"), Decimal("2.5"), False, True)]),
    ("tstzrange", [Range(datetime.datetime(2024, 1, 1, tzinfo=UTC), None)]),
    ("daterange[]", [[Range(datetime.date(2024, 1, 1), datetime.date(2024, 2, 1))]]),
    ("int4multirange", [[], [Range(1, 5), Range(7, None)], [Range(None, None, False)]]),
    ("int8multirange", [[Range(1, 5)]]),
    ("nummultirange", [[Range(Decimal("1.5"), Decimal("2.5"), False, True)]]),
    ("datemultirange", [[Range(datetime.date(2024, 1, 1), datetime.date(2024, 2, 1))]]),
    ("tsmultirange", [[Range(datetime.datetime(2024, 1, 1), None)]]),
    ("tstzmultirange", [[Range(None, datetime.datetime(2024, 1, 1, tzinfo=UTC), False)]]),
]


@pytest.mark.parametrize(("kind", "values"), BACK_AND_FORTH)
def test_parameters_come_back_from_the_server(ask: Ask, kind: str, values: list[Any]) -> None:
    for value in values:
        back, again = ask(postgres.fetch_one(f"select $1::{kind}, $1::{kind}::text::{kind}", value)) or (0, 0)
        assert (back, type(back)) == (value, type(value))
        assert again == value
        if isinstance(value, Decimal):
            assert str(back) == str(value)


def test_multiranges_are_those_of_psycopg(server: Server, ask: Ask) -> None:
    literal = "select '{[1,3),(5,7],[9,)}'::nummultirange"
    with psycopg.connect(server.url) as connection:
        (theirs,) = connection.cursor(binary=True).execute(literal).fetchone()  # type: ignore[misc]
    ours = ask(postgres.fetch_value(literal))
    assert [(one.lower, one.upper, one.lower_included, one.upper_included) for one in ours] == [
        (one.lower, one.upper, one.lower_inc, one.upper_inc) for one in theirs
    ]
    for damaged in (b"", b"\0\0\0\1", b"\0\0\0\2\0\0\0\1\1"):
        with pytest.raises(UnreadableValue):
            CODECS[4532].decode(damaged)
    with pytest.raises(ValueError, match=r"list of postgres\.Range"):
        ask(postgres.fetch_value("select $1::int4multirange", Range(1, 2)))


def test_not_a_number_comes_back(ask: Ask) -> None:
    assert ask(postgres.fetch_value("select $1::numeric", Decimal("NaN"))).is_nan()
    assert ask(postgres.fetch_value("select $1::numeric", 1.25)) == Decimal("1.25")


@pytest.fixture
def added(ask: Ask) -> Ask:
    """Types that somebody has added, and how to ask."""
    for statement in (
        "drop schema if exists added cascade", "create schema added", "create extension if not exists citext",
        "create type added.mood as enum ('sad', 'ok')", "create domain added.small as int check (value < 10)",
        "create domain added.smaller as added.small", "create domain added.moment as timestamptz",
        "create domain added.document as jsonb", "create domain added.feeling as added.mood",
        "create domain added.list as int[]", "create type added.pair as (x int, y text)",
        "create domain added.day as date",
    ):  # fmt: skip
        ask(postgres.execute(statement))
    return ask


MOMENT = datetime.datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "value", "comes_back"),
    [
        ("added.mood", "ok", "ok"), ("added.mood[]", ["ok", None, "sad"], "{ok,NULL,sad}"),
        ("added.mood[]", "{ok}", "{ok}"), ("point", "(1,2)", "(1,2)"), ("citext", "Ünï", "Ünï"),
        ("citext[]", ['a"b', "c,d", None, "{}"], '{"a\\"b","c,d",NULL,"{}"}'), ("money", "1.50", "$1.50"),
        ("added.small", 7, 7), ("added.smaller", 7, 7), ("added.small[]", [1, None, 3], "{1,NULL,3}"),
        ("added.smaller[]", [[1], [2]], "{{1},{2}}"), ("added.moment", MOMENT, MOMENT),
        ("added.document", {"a": "1"}, {"a": "1"}), ("added.document", "1", "1"), ("added.document", None,
        None), ("added.feeling", "sad", "sad"), ("added.feeling[]", ["sad"], "{sad}"), ("added.list", [1, 2],
        [1, 2]), ("added.pair", "(1,x)", "(1,x)"), ("added.day", postgres.INFINITY, postgres.INFINITY),
        ("regclass", "pg_class", "pg_class"), ("box[]", "{(1,1),(0,0)}", "{(1,1),(0,0)}"),
    ],
)  # fmt: skip
def test_types_that_are_not_in_the_table(added: Ask, kind: str, value: Any, comes_back: Any) -> None:
    for _ in range(2):
        assert added(postgres.fetch_value(f"select $1::{kind}", value)) == comes_back
        assert added(postgres.fetch_value("select pg_sleep(0)")) is None


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        ("citext", b"abc", "citext"), ("citext", 5, "write a str"), ("money", 1.5, "money"), ("point", (1,
        2), "point"), ("added.mood", True, "mood"), ("added.mood[]", [1], "write a str"), ("added.mood[]",
        {"ok"}, "list of str"), ("added.small", "7", "small"), ("added.moment", MOMENT.replace(tzinfo=None),
        "moment is not defined"), ("added.pair", {"x": 1}, "pair"), ("added.small[]", ["1"], "small"),
        ("added.document", {1: {2, object}}, ""), ("added.day", MOMENT, "datetime.date"), ("box[]",
        ["(1,1),(0,0)"], "write a str"),
    ],
)  # fmt: skip
def test_values_of_other_types_are_refused_and_nothing_is_sent(
    added: Ask, kind: str, value: Any, told: str
) -> None:
    with pytest.raises(ValueError, match=rf"parameter \$1 is .*{told}") as refused:
        added(postgres.fetch_value(f"select $1::{kind}", value))
    assert isinstance(refused.value.__cause__, TypeError | struct.error | ValueError)


@pytest.mark.parametrize("statements", [0, 1, 256])
def test_a_domain_that_was_made_anew_over_another_type(loop: Loop, server: Server, statements: int) -> None:
    db = loop.spawn(postgres.pool(server.url, connections=2, pipeline=4, statements=statements))
    insert = "insert into worn values ($1)"

    def ask(*units: Unit[Any]) -> Any:
        return [*loop.run_until(settle_all(*[db.submit(unit, timeout=30) for unit in units]))]

    for kind, value in (("int8", 5), ("float8", 2.5), ("text", "x"), ("jsonb", {"a": 1}), ("bytea", b"x")):
        for statement in (
            "drop table if exists worn", "drop domain if exists wear", f"create domain wear as {kind}",
            "create table worn (a wear)",
        ):  # fmt: skip
            (done,) = ask(postgres.execute(statement))
            assert done == 0
        assert ask(*[postgres.execute(insert, value)] * 8) == [1] * 8
        assert ask(postgres.query("select distinct a from worn")) == [[(value,)]]
    with pytest.raises(ValueError, match="wear"):
        loop.run_until(db.submit(postgres.execute(insert, "x")))


def test_what_types_are_made_of_is_asked_once_per_connection(
    loop: Loop, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocols.postgres.preparing.ADDED_MAX", 2)
    db = loop.spawn(postgres.pool(server.url, connections=1))
    for statement in (
        "drop type if exists a0, a1, a2, a3",
        *(f"create type a{n} as enum ('x')" for n in range(4)),
    ):
        loop.run_until(db.submit(postgres.execute(statement)))
    for n in (0, 0, 1, 2, 3, 0, 1):
        for sql in (f"select $1::a{n}", f"select $1::a{n}, $2::a0"):
            values = ["x"] * sql.count("$")
            assert loop.run_until(db.submit(postgres.query(sql, *values))) == [("x",) * len(values)]
    prepared = "select count(*) from pg_prepared_statements where statement like '%pg_type%'"
    assert loop.run_until(db.submit(postgres.fetch_value(prepared))) == 1  # this one


def test_the_end_of_time(ask: Ask) -> None:
    later, sooner = postgres.INFINITY, -postgres.INFINITY
    for kind, last, first in (
        ("date", datetime.date.max, datetime.date.min),
        ("timestamp", datetime.datetime.max, datetime.datetime.min),
        ("timestamptz", datetime.datetime.max.replace(tzinfo=UTC), datetime.datetime.min.replace(tzinfo=UTC)),
    ):
        for value in (last, first, later, sooner):
            row = ask(
                postgres.fetch_one(f"select $1::{kind}, isfinite($1::{kind}), array[$1::{kind}]", value)
            )
            assert row == (value, value in (last, first), [value])
        assert ask(postgres.query(f"select 'infinity'::{kind}, '-infinity'::{kind}")) == [(later, sooner)]
        assert sooner < first < last < later
        assert sorted([last, later, first, sooner]) == [sooner, first, last, later]
    ends = ask(postgres.fetch_value("select $1::daterange", Range(datetime.date(2024, 1, 1), later)))
    assert ends == Range(datetime.date(2024, 1, 1), later)
    assert (repr(later), repr(sooner), str(sooner), -sooner) == (
        "postgres.INFINITY", "-postgres.INFINITY", "-infinity", later,
    )  # fmt: skip
    assert later >= later > sooner <= sooner
    assert len({later, -sooner, sooner}) == 2
    assert later != "infinity"
    with pytest.raises(TypeError):
        sorted([later, 5])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="time"):
        ask(postgres.fetch_value("select $1::time", later))


def test_json_that_is_no_json(ask: Ask) -> None:
    nan, infinite = float("nan"), float("-inf")
    for kind in ("json", "jsonb"):
        for value in (nan, [1.5, infinite], {"a": {"b": (nan,)}}, Measured(nan)):
            with pytest.raises(ValueError, match="JSON has no NaN and no infinity"):
                ask(postgres.fetch_value(f"select $1::{kind}", value))
        for value in ([None, 1.5], {"null": None}, "null", None):
            assert ask(postgres.fetch_value(f"select $1::{kind}", value)) == value
        assert ask(postgres.fetch_value(f"select $1::{kind}", Measured(1.5))) == {"value": 1.5, "note": None}


class Measured(msgspec.Struct):
    value: float
    note: str | None = None


def test_half_a_surrogate_does_not_take_the_result_with_it(ask: Ask) -> None:
    rows = [(1, {"a": [1]}), (2, ["\ud800", 7]), (3, "x")]
    values = """values (1, '{"a": [1]}'::json), (2, '["\\ud800", 7]'), (3, '"x"')"""
    assert ask(postgres.query(values)) == rows
    with pytest.raises(UnreadableValue, match="out of range"):
        ask(postgres.query("select '1e400'::json"))


MISFITS: list[tuple[int, Any]] = [
    (16, 1), (25, 1), (25, "\0"), (17, "text"), (1082, datetime.datetime(2024, 1, 1)), (1082, "2024-01-01"),
    (1083, datetime.time(1, tzinfo=UTC)), (1114, datetime.datetime(2024, 1, 1, tzinfo=UTC)),
    (1184, datetime.datetime(2024, 1, 1)), (1186, 5), (1266, datetime.time(1)), (1700, True), (1700, "1"),
    (1700, Decimal("1E-20000")), (1700, Decimal("1E+200000")), (869, 5), (869, "no"), (1007, "x"),
    (1007, [[1], [2, 3]]), (1007, [[1], 2]), (1007, [[[[[[[1]]]]]]]), (3904, (1, 2)), (2950, "no"),
]  # fmt: skip


@pytest.mark.parametrize(("oid", "value"), MISFITS)
def test_a_value_of_another_type_is_refused(oid: int, value: Any) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)):
        CODECS[oid].encode(value)


UNREADABLE: list[tuple[int, bytes]] = [
    (1082, struct.pack("!i", 10**9)), (1114, struct.pack("!q", 1 << 62)), (1083, struct.pack("!q", -1)),
    (1266, struct.pack("!qi", 0, 10**6)), (1186, struct.pack("!qii", 0, 2**31 - 1, 0)), (3802, b"\2{}"),
    (1700, struct.pack("!HhHH", 2, 0, 0, 0)), (869, b""), (869, b"\2\x20\0\3abc"), (869, b"\2\xff\0\4abcd"),
    (1007, b""), (1007, struct.pack("!iiI", 9, 0, 23)), (1007, struct.pack("!iiIii", 1, 0, 23, 1000, 1)),
    (1007, struct.pack("!iiIiii", 1, 0, 23, 1, 1, 99)[:-2]), (3904, b""),
    (1007, struct.pack("!iiIiiii", 2, 0, 23, 1 << 30, 1, 0, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("oid", "data"), UNREADABLE)
def test_a_value_that_python_cannot_hold(oid: int, data: bytes) -> None:
    with pytest.raises(UnreadableValue):
        CODECS[oid].decode(data)


def test_midnight_of_the_next_day() -> None:
    assert CODECS[1083].decode(struct.pack("!q", 86_400_000_000)) == datetime.time.max
    assert CODECS[1007].encode([[]]) == CODECS[1007].encode([])


VALUES: dict[int, st.SearchStrategy[Any]] = {
    16: st.booleans(),
    20: st.integers(-(1 << 63), (1 << 63) - 1),
    25: st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    17: st.binary(),
    701: st.floats(allow_nan=False),
    1082: st.dates() | st.sampled_from([postgres.INFINITY, -postgres.INFINITY]),
    1083: st.times(),
    1114: st.datetimes(),
    1184: st.datetimes(timezones=st.just(UTC)),
    1186: st.timedeltas(datetime.timedelta(-(10**6)), datetime.timedelta(10**6)),
    1700: st.decimals(allow_nan=False, allow_infinity=False, places=4)
    | st.integers(-(10**40), 10**40).map(Decimal)
    | st.decimals(-1, 1, allow_nan=False, places=30),
    2950: st.uuids(),
    869: st.ip_addresses(),
    1016: st.lists(st.none() | st.integers(-9, 9)),
    1009: st.lists(
        st.lists(st.text(st.characters(codec="ascii", exclude_characters="\0")), min_size=2, max_size=2)
    ),
    3926: st.builds(Range, st.none() | st.integers(0, 5), st.none() | st.integers(5, 9)).filter(
        lambda value: value.lower is not None
    ),
}


@pytest.mark.parametrize("oid", VALUES)
def test_there_and_back(oid: int) -> None:
    codec = CODECS[oid]

    @given(VALUES[oid])
    def back(value: Any) -> None:
        assert codec.decode(codec.encode(value)) == value

    back()


@given(st.sampled_from(sorted(CODECS)), st.binary(max_size=64))
def test_fuzzed_values_are_an_error_or_a_value(oid: int, data: bytes) -> None:
    try:
        CODECS[oid].decode(data)
    except (UnreadableValue, ValueError, struct.error, OverflowError):
        pass
    except Exception as error:
        if type(error).__module__ != "msgspec":
            raise
