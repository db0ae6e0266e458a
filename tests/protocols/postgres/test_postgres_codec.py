"""Messages, rows and authentication as bytes and values: whole, at every split point, and damaged."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.postgres import BadMessage, PostgresError, UnreadableValue, messages
from protocols.postgres.messages import Column
from protocols.postgres.rows import BINARY, TEXT, compile_rows, formats_of, skip_rows
from protocols.postgres.startup.authenticate import Scram, certificate_hash, md5_answer
from protocols.postgres.statements import Statement, Statements, Store, first_word
from protocols.postgres.types import CODECS
from protocols.scram import saslprep

INT, TEXT_OID, BIG, STAMP, LOCAL_STAMP, UUID_OID, BYTEA = 23, 25, 20, 1184, 1114, 2950, 17


def row(*values: bytes | None) -> bytes:
    """A DataRow."""
    body = struct.pack("!h", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return messages.message(b"D", body)


def columns(*types: int) -> tuple[Column, ...]:
    return tuple(Column(f"c{number}", type) for number, type in enumerate(types))


def decoder(*types: int) -> Any:
    return compile_rows(columns(*types), formats_of(columns(*types)))


def int4(value: int) -> bytes:
    return struct.pack("!i", value)


def test_a_message_is_cut_out_at_every_split_point() -> None:
    whole = messages.simple_query("select 1")
    for end in range(len(whole)):
        assert messages.next_message(whole[:end], 0, 1 << 20) is None
    assert messages.next_message(whole + b"rest", 0, 1 << 20) == (ord("Q"), len(whole))


@pytest.mark.parametrize("length", [0, 3, 1 << 21])
def test_a_length_that_cannot_be_is_refused(length: int) -> None:
    with pytest.raises(BadMessage, match="PostgreSQL server"):
        messages.next_message(b"Z" + struct.pack("!i", length), 0, 1 << 20)


def test_columns_are_read_and_damage_is_found() -> None:
    body = struct.pack("!h", 1) + b"name\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0)
    assert messages.read_columns(body) == (Column("name", 25),)
    for end in range(len(body)):
        with pytest.raises(BadMessage):
            messages.read_columns(body[:end])
    with pytest.raises(BadMessage):
        messages.read_columns(body + b"x")


def test_parameters_are_read_and_damage_is_found() -> None:
    assert messages.read_parameters(struct.pack("!hII", 2, 23, 25)) == (23, 25)
    for body in (b"", b"\0", struct.pack("!hI", 2, 23), struct.pack("!hh", 1, 1)):
        with pytest.raises(BadMessage):
            messages.read_parameters(body)


def test_an_error_has_its_fields() -> None:
    error = messages.read_error(b"SFEHLER\0VERROR\0C23505\0Mtwice\0Dwhich\0Hdo not\0P8\0npk\0\0")
    assert isinstance(error, PostgresError)
    assert (error.severity, error.sqlstate, error.message) == ("ERROR", "23505", "twice")
    assert (error.detail, error.hint, error.position, error.constraint) == ("which", "do not", 8, "pk")
    assert str(error) == "twice (23505); detail: which; hint: do not; at character 8 of the statement"
    assert messages.read_error(b"\0").sqlstate == "XX000"
    with pytest.raises(BadMessage):
        messages.read_error(b"Mcut")


def test_a_setting_is_read() -> None:
    assert messages.read_status(b"TimeZone\0UTC\0") == ("TimeZone", "UTC")
    with pytest.raises(BadMessage):
        messages.read_status(b"TimeZone")


@pytest.mark.parametrize(
    ("tag", "count"),
    [(b"INSERT 0 3", 3), (b"UPDATE 12", 12), (b"BEGIN", 0), (b"", 0), (b"COPY " + b"9" * 30, 0)],
)
def test_tags_count_rows(tag: bytes, count: int) -> None:
    assert messages.rows_of(tag) == count


def test_a_nul_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match="NUL"):
        messages.parse(b"", "select '\0'")


# -- rows -----------------------------------------------------------------------------------------

SHAPES: list[tuple[tuple[int, ...], list[tuple[Any, ...]], list[tuple[bytes | None, ...]]]] = [
    ((INT, BIG), [(n, n * 9) for n in range(20)], [(int4(n), struct.pack("!q", n * 9)) for n in range(20)]),
    (
        (INT, INT),
        [(n, None if n % 7 == 3 else n) for n in range(200)],
        [(int4(n), None if n % 7 == 3 else int4(n)) for n in range(200)],
    ),
    (
        (INT, TEXT_OID, INT, BYTEA),
        [(n, f"é{n}", -n, b"\xff" * n) for n in range(9)],
        [(int4(n), f"é{n}".encode(), int4(-n), b"\xff" * n) for n in range(9)],
    ),
    ((TEXT_OID, TEXT_OID), [(None, ""), ("", None), ("a", "b")], [(None, b""), (b"", None), (b"a", b"b")]),
    ((99999,), [("as text",)], [(b"as text",)]),
    ((), [(), ()], [(), ()]),
]


@pytest.mark.parametrize(("types", "values", "raw"), SHAPES)
def test_rows_are_read_whole_and_at_every_split_point(
    types: tuple[int, ...], values: list[tuple[Any, ...]], raw: Sequence[tuple[bytes | None, ...]]
) -> None:
    decode = decoder(*types)
    data = b"".join(row(*parts) for parts in raw)
    rows: list[Any] = []
    behind = data + b"C\0\0\0\x0dSELECT 1\0"
    assert decode(behind, 0, len(behind), rows) == len(data)
    assert rows == values
    for split in range(0, len(data), 1 if len(data) < 600 else 13):
        rows = []
        at = decode(data[:split], 0, split, rows)
        assert at <= split
        rest = data[at:]
        assert decode(rest, 0, len(rest), rows) == len(rest)
        assert rows == values
        assert skip_rows(data[:split], 0, split, []) == at


def test_converted_columns_in_a_run() -> None:
    raw = [(struct.pack("!q", n * 1_000_000), bytes(15) + bytes((n,))) for n in range(30)]
    rows: list[Any] = []
    data = b"".join(row(*parts) for parts in raw)
    decoder(STAMP, UUID_OID)(data, 0, len(data), rows)
    assert [(stamp.second, key.int) for stamp, key in rows] == [(n, n) for n in range(30)]


@pytest.mark.parametrize(
    "damaged",
    [
        b"D" + struct.pack("!ih", 3, 1),
        b"D" + struct.pack("!ih", 6, 1),  # a column promised, none there
        messages.message(b"D", struct.pack("!h", 2) + row(b"abcd")[7:]),
        messages.message(b"D", struct.pack("!hi", 1, 100) + b"abcd"),
        messages.message(b"D", struct.pack("!hi", 1, 4) + b"abcdx"),
    ],
)
@pytest.mark.parametrize("type", [INT, TEXT_OID])
def test_what_is_no_row_is_found(damaged: bytes, type: int) -> None:
    data = damaged + bytes(40)
    with pytest.raises(BadMessage):
        decoder(type)(data, 0, len(data), [])


def test_a_binary_column_of_an_unknown_type_cannot_be_read() -> None:
    with pytest.raises(UnreadableValue, match="cast"):
        compile_rows(columns(99999), (BINARY,))
    assert compile_rows(columns(INT), (TEXT,))(row(b"12"), 0, 13, rows := []) == 13
    assert rows == [("12",)]


MOMENTS = st.none() | st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-(10**16), 10**17)
ENDS = st.sampled_from([(1 << 63) - 1, -(1 << 63), 0, 252_455_615_999_999_999, 252_455_616_000_000_000])


@given(st.lists(st.tuples(MOMENTS | ENDS, MOMENTS | ENDS), max_size=12), st.booleans())
def test_moments_in_rows_are_what_they_are_by_themselves(
    counts: list[tuple[int | None, int | None]], regular: bool
) -> None:
    def alone(type: int, count: int | None) -> Any:
        return None if count is None else CODECS[type].decode(struct.pack("!q", count))

    def raw(count: int | None) -> bytes | None:
        return None if count is None else struct.pack("!q", count)

    decode = decoder(STAMP, LOCAL_STAMP) if regular else decoder(STAMP, LOCAL_STAMP, TEXT_OID)
    rest: tuple[bytes, ...] = () if regular else (b"a",)
    data = b"".join(row(*map(raw, pair), *rest) for pair in counts)
    rows: list[Any] = []
    try:
        expected = [(alone(STAMP, first), alone(LOCAL_STAMP, second)) for first, second in counts]
    except UnreadableValue as error:
        with pytest.raises(UnreadableValue, match=re.escape(str(error))):
            decode(data, 0, len(data), rows)
    else:
        assert decode(data, 0, len(data), rows) == len(data)
        assert [read[:2] for read in rows] == expected


@given(st.lists(st.tuples(st.none() | st.integers(-9, 9), st.none() | st.text(max_size=9)), max_size=30))
def test_any_rows_come_back(values: list[tuple[int | None, str | None]]) -> None:
    data = b"".join(
        row(None if number is None else int4(number), None if text is None else text.encode())
        for number, text in values
    )
    rows: list[Any] = []
    decoder(INT, TEXT_OID)(data, 0, len(data), rows)
    assert rows == values


@given(st.binary(max_size=80))
def test_fuzzed_rows_are_an_error_or_rows(damage: bytes) -> None:
    data = b"D" + damage
    for types in ((INT, TEXT_OID), (INT, INT), (1007, 1700), (3802, 869)):
        try:
            decoder(*types)(data, 0, len(data), [])
        except (BadMessage, ValueError, UnreadableValue, struct.error):
            pass
        except Exception as error:
            if type(error).__module__ != "msgspec":
                raise


# -- statements -----------------------------------------------------------------------------------


@pytest.mark.parametrize("types", [(), (23,), (20, 25), (99999,)])
def test_bind_is_the_same_fast_and_slow(types: tuple[int, ...]) -> None:
    statement = Statement(b"s", "select", types, columns(23, 99999))
    arguments = tuple({23: 7, 20: -1, 25: "text", 99999: "red"}[type] for type in types)
    assert statement.bind(arguments) == statement.bind_only(arguments) + messages.SYNC
    kind, end = messages.next_message(statement.bind(arguments), 0, 1 << 20) or (0, 0)
    assert kind == ord("B")
    assert statement.bind(arguments)[end:] == messages.EXECUTE + messages.SYNC
    assert "select" in repr(statement)


def test_parameters_that_do_not_fit_say_which() -> None:
    statement = Statement(b"s", "select $1", (23,), ())
    for wrong, reason in (("x", r"\$1 is integer; 'x'"), (1 << 40, "range|requires"), (1.5, "integer")):
        with pytest.raises(ValueError, match=reason):
            statement.bind((wrong,))
    with pytest.raises(ValueError, match="takes 1 parameters, not 2"):
        statement.bind((1, 2))
    with pytest.raises(ValueError, match="takes 1 parameters, not 0"):
        statement.bind(())
    assert messages.SYNC in statement.bind((None,))


def test_a_store_forgets_what_was_not_used_for_longest() -> None:
    store = Store(2)
    first, second, third = (Statement(b"", sql, (), ()) for sql in "abc")
    assert store.add(first) == store.add(second) == []
    assert store.get("a") is first
    assert store.add(third) == [second]
    assert store.get("b") is None
    store.drop(second)
    store.drop(first)
    assert len(store) == 1
    assert repr(store) == "<Store of 1 statements, at most 2, 1 bytes>"


def test_a_store_weighs_what_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.postgres.statements.PREPARED_BYTES_MAX", 5000)
    store = Store(100)
    light = [Statement(b"", f"select {number}", (), ()) for number in range(9)]
    for statement in light:
        assert store.add(statement) == []
    heavy = Statement(b"", "select 1 -- " + "x" * 4921, (), ())
    assert store.add(heavy) == light[:1]
    assert store.add(Statement(b"", heavy.sql, (), ())) == [heavy]
    wide = Statement(b"", "select *", (), columns(*[INT] * 9))
    assert len(store.add(wide)) == 9
    assert store.bytes <= 5000
    assert store.clear() == [wide]
    assert (len(store), store.bytes) == (0, 0)


def test_what_stays_prepared() -> None:
    shared = Statements(2)
    assert shared.keeps("select 1")
    assert not shared.keeps("select '" + "x" * (1 << 14) + "'")
    assert not Statements(0).keeps("select 1")
    shared.turned("select 1")
    assert not shared.keeps("select 1")
    for number in range(100):
        shared.turned(f"select {number} + 1")
    assert shared.keeps("select 1")


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("select 1", "SELECT"), ("  (\n( Select 1))", "SELECT"), ("-- fetch\nfetch 1 from c", "FETCH"),
        ("/* a /* b */ c */ show all", "SHOW"), (";;execute p", "EXECUTE"), ("", ""), ("/* open", ""),
        ("/*", ""), ("--", ""), ("1", ""), ("with a as (select 1) table a", "WITH"), ("call p(1)", "CALL"),
    ],
)  # fmt: skip
def test_the_command_of_a_text(sql: str, word: str) -> None:
    assert first_word(sql) == word


# -- authentication -------------------------------------------------------------------------------


def test_scram_as_rfc_7677_shows_it() -> None:
    scram = Scram("pencil", {}, nonce="rOprNGfwEbeRWgbNEkqO", user="user")  # PostgreSQL's clients send none
    first = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    assert scram.final(first) == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    scram.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    with pytest.raises(BadMessage, match="right server"):
        scram.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=")


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"r=other,s=AAAA,i=4096",
        b"r=mine,s=AAAA,i=4096",
        b"r=mineX,s=!!,i=4096",
        b"r=mineX,s=AAAA,i=0",
        b"r=mineX,s=AAAA,i=99999999",
        b"r=mineX,s=AAAA,i=x",
    ],
)
def test_scram_refuses_what_the_server_may_not_say(first: bytes) -> None:
    with pytest.raises(BadMessage):
        Scram("secret", {}, nonce="mine").final(first)


def test_scram_is_told_what_it_is_bound_to() -> None:
    assert Scram("x", {}, nonce="n").first() == b"n,,n=,r=n"
    assert Scram("x", {}, offered=True, nonce="n").first() == b"y,,n=,r=n"
    bound = Scram("x", {}, b"hash", nonce="n")
    assert (bound.mechanism, bound.first()) == ("SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=n")
    binding = base64.b64encode(b"p=tls-server-end-point,,hash")
    assert bound.final(b"r=nX,s=AAAA,i=1").startswith(b"c=" + binding)


def test_keys_are_derived_once() -> None:
    keys: dict[Any, bytes] = {(str(n), b"", 1): b"" for n in range(64)}
    Scram("secret", keys, nonce="mine").final(b"r=mineX,s=AAAA,i=2")
    assert list(keys) == [("secret", base64.b64decode("AAAA"), 2)]


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("\u00aa", "a"),
        ("a\u00a0b", "a b"),
        ("\u0627\u0031", "\u0627\u0031"),
        ("é\u0007", "é\u0007"),
    ],
)
def test_saslprep_as_rfc_4013_shows_it(password: str, prepared: str) -> None:
    assert saslprep(password) == prepared


def test_md5() -> None:
    inner = hashlib.md5(b"passworduser").hexdigest().encode()
    assert (
        md5_answer("user", "password", b"salt") == b"md5" + hashlib.md5(inner + b"salt").hexdigest().encode()
    )


def test_a_certificate_that_names_no_hash_is_not_bound_to() -> None:
    assert certificate_hash(b"") == b""
    assert certificate_hash(b"\x30\x82\xff") == b""
    assert certificate_hash(bytes.fromhex("300a30003006060229010000")) == b""
