"""COPY against a server that the test plays: what is sent when, at every split point, damaged, broken off."""

from __future__ import annotations

import contextlib
import random
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import Channel
from pools import BackendError, ConnectionLost, DeadlineExceeded, PoolError
from protocols import postgres
from protocols.postgres import BadMessage, PostgresError, UnreadableValue, messages
from protocols.postgres.copy.binary import HEADER, TRAILER, record_decoder, record_encoder, records_in
from protocols.postgres.messages import Column
from tests.protocols.postgres.played import READY, UNIT, WELCOME, Played, answer, error, m

COPY_IN = m(b"G", b"\0\0\0")
COPY_OUT = m(b"H", b"\0\0\0")
QUERY = messages.simple_query("copy t from stdin")
DONE = m(b"c")


def data(piece: bytes) -> bytes:
    return m(b"d", piece)


def done(rows: int) -> bytes:
    return m(b"C", b"COPY %d\0" % rows) + READY


def copy_in(source: Any) -> Any:
    return postgres.copy_in("copy t from stdin", source)


def copy_out(**options: Any) -> Any:
    return postgres.copy_out("copy t to stdout", **options)


def read(bench: Played, stream: Any) -> bytes:
    """What a stream has, to its end. It may not hang."""

    async def everything() -> bytes:
        return b"".join([chunk async for chunk in stream])

    reply = bench.loop.spawn(everything())
    bench.run(40)
    return reply.result()


def test_data_is_sent_when_the_server_is_ready_and_no_sooner() -> None:
    bench = Played().ready()
    reply = bench.submit(copy_in([b"1\n", b"2\n"]))
    behind = bench.submit(UNIT)
    bench.run()
    assert bench.sockets[-1].delivered() == QUERY
    bench.say(COPY_IN)
    assert bench.sockets[-1].delivered() == data(b"1\n2\n") + DONE
    bench.say(done(2))
    assert reply.result() == 2
    assert bench.sockets[-1].delivered().startswith(b"B")
    bench.say(answer(5))
    assert behind.result() == [(5,)]
    assert bench.add_up()


def test_a_conversation_in_at_every_split_point() -> None:
    begun = m(b"N", b"Mhello\0\0") + COPY_IN + m(b"S", b"a\0b\0")
    for split in range(len(begun + done(3))):
        bench = Played().ready()
        reply = bench.submit(copy_in(b"x\n"))
        bench.run()
        end, rest = done(3), max(0, split - len(begun))
        for part in (begun[:split], begun[split:], end[:rest], end[rest:]):
            if part:
                bench.say(part)
        assert reply.result() == 3
        assert bench.sockets[-1].delivered() == QUERY + data(b"x\n") + DONE


def test_a_server_that_ends_a_copy_before_its_data() -> None:
    bench = Played().ready()
    rows: Channel[bytes] = Channel(1)
    reply = bench.submit(copy_in(rows))
    bench.run()
    bench.say(COPY_IN + done(3))
    assert isinstance(reply.error, BadMessage)
    assert bench.sockets[-1].closed


def test_a_conversation_out_at_every_split_point() -> None:
    conversation = (
        COPY_OUT + data(b"1\n") + m(b"N", b"Mhello\0\0") + data(b"22\n") + data(b"") + DONE + done(2)
    )
    for split in range(len(conversation)):
        bench = Played().ready()
        reply = bench.submit(copy_out())
        bench.run()
        bench.say(conversation[:split])
        assert reply.settled == (split >= len(COPY_OUT + data(b"1\n")))
        bench.say(conversation[split:])
        stream = reply.result()
        assert read(bench, stream) == b"1\n22\n"
        assert stream.rows == 2
        assert bench.add_up()


def test_what_is_short_is_read_at_once_wherever_the_last_was_split() -> None:
    first = COPY_OUT + data(b"123456789\n") + DONE + done(1)
    for split in range(1, len(WELCOME)):
        bench = Played()
        reply = bench.submit(copy_in(b"x\n"))
        bench.accept()
        bench.say(WELCOME[:split])
        bench.say(WELCOME[split:])
        bench.say(COPY_IN)
        assert bench.sockets[-1].delivered().endswith(DONE), split
        bench.say(done(1))
        assert reply.result() == 1
    for split in range(1, len(first)):
        bench = Played().ready()
        bench.submit(copy_out())
        bench.run()
        bench.say(first[:split])
        bench.say(first[split:])
        bench.submit(copy_in(b"x\n"))
        bench.run()
        bench.say(COPY_IN[:split])
        bench.say(COPY_IN[split:] or READY[:1])
        assert bench.sockets[-1].delivered().endswith(DONE), split


def test_records_at_every_split_point() -> None:
    described = (
        m(b"1")
        + m(b"t", b"\0\0")
        + m(b"T", struct.pack("!h", 1) + b"n\0" + struct.pack("!ihihih", 0, 0, 23, 4, -1, 0))
    )
    record = struct.pack("!hii", 1, 4, 7)
    conversation = COPY_OUT + data(HEADER + record) + data(record) * 9 + data(TRAILER) + DONE + done(10)
    for split in range(len(conversation)):
        bench = Played().ready()
        reply = bench.submit(postgres.copy_out_records("select n from t"))
        bench.run()
        bench.say(described)
        bench.say(conversation[:split])
        bench.say(conversation[split:])
        stream = reply.result()
        records: list[Any] = []

        async def take(stream: Any = stream, records: list[Any] = records) -> None:
            async for batch in stream:
                records += batch

        bench.loop.spawn(take())
        bench.run()
        assert records == [(7,)] * 10
        assert stream.rows == 10


@pytest.mark.parametrize("seed", range(60))
def test_fuzzed_bytes_settle_every_unit(seed: int) -> None:
    rng = random.Random(seed)
    bench = Played(attempts=1).ready()
    inward = rng.random() < 0.5
    replies = [bench.submit(copy_in(b"1\n" * 50) if inward else copy_out()), bench.submit(UNIT)]
    bench.run()
    said = bytearray(COPY_IN + done(50) if inward else COPY_OUT + data(b"1\n") * 5 + DONE + done(5))
    for _ in range(rng.randrange(1, 5)):
        said[rng.randrange(len(said))] = rng.randrange(256)
    for at in range(0, len(said), 7):
        if not bench.sockets[-1].closed:
            bench.say(bytes(said[at : at + 7]))
    bench.advance(200.0)
    assert all(reply.settled for reply in replies)
    for reply in replies:
        assert reply.error is None or isinstance(reply.error, PoolError | ValueError)
    if not inward and replies[0].error is None:
        stream = replies[0].result()
        with contextlib.suppress(PoolError):
            read(bench, stream)
            assert stream.rows is not None
    assert bench.add_up()


@pytest.mark.parametrize(
    "said", [m(b"W", b"\0\0\0"), data(b"x"), DONE, m(b"H", b"\0\0\0"), m(b"G", b"\0\0\0")]
)
def test_a_copy_out_of_place_closes_the_connection(said: bytes) -> None:
    bench = Played().ready()
    reply = bench.submit(UNIT)
    bench.run()
    bench.say(said)
    assert isinstance(reply.error, BadMessage)
    assert bench.sockets[-1].closed


def test_a_source_that_fails_is_said_to_the_server() -> None:
    bench = Played().ready()
    rows: Channel[bytes] = Channel(4)
    reply = bench.submit(copy_in(rows))
    bench.run()
    bench.say(COPY_IN)
    rows.put(b"1\n")
    bench.run()
    assert bench.sockets[-1].delivered() == QUERY + data(b"1\n")
    rows.close(LookupError("dry\0"))
    bench.run()
    assert bench.sockets[-1].delivered() == m(b"f", b"LookupError: dry\0")
    assert not reply.settled
    bench.say(error("57014") + READY)
    assert isinstance(reply.error, LookupError)
    assert not bench.sockets[-1].closed


def test_an_error_that_crosses_the_end_of_the_data() -> None:
    bench = Played().ready()
    rows: Channel[bytes] = Channel(4)
    reply = bench.submit(copy_in(rows))
    bench.run()
    bench.say(COPY_IN)
    bench.sockets[-1].delivered()
    bench.say(error("22P02"))
    rows.put(b"1\n") if rows.writable and not rows.ended else None
    bench.run()
    assert bench.sockets[-1].delivered() == b""  # the copy is over: nothing may follow, not even its end
    bench.say(READY)
    assert isinstance(reply.error, PostgresError)
    assert rows.ended


def test_a_cancel_before_the_server_is_ready() -> None:
    bench = Played().ready()
    reply = bench.submit(copy_in(b"1\n"))
    behind = bench.submit(UNIT)
    bench.run()
    reply.cancel()
    bench.run()
    assert bench.sockets[-1].delivered() == QUERY
    bench.say(COPY_IN)
    assert bench.sockets[-1].delivered()[:1] == b"f"
    bench.say(error("57014") + READY)
    bench.say(answer(3))
    assert behind.result() == [(3,)]
    assert bench.add_up()


def test_a_cancel_while_the_types_are_asked_for() -> None:
    bench = Played().ready()
    reply = bench.submit(postgres.copy_in_records("t", [(1,)]))
    bench.run()
    reply.cancel()
    bench.sockets[-1].delivered()
    bench.say(m(b"1") + m(b"t", b"\0\0") + m(b"n"))
    assert bench.sockets[-1].delivered() == messages.SYNC  # in place of the copy
    bench.say(READY)
    behind = bench.submit(UNIT)
    bench.run()
    bench.say(answer(3))
    assert behind.result() == [(3,)]


def test_a_deadline_sends_a_cancel_and_ends_the_data() -> None:
    bench = Played().ready()
    rows: Channel[bytes] = Channel(4)
    reply = bench.submit(copy_in(rows), timeout=1.0)
    bench.run()
    bench.say(COPY_IN)
    bench.advance(2.0)
    assert isinstance(reply.error, DeadlineExceeded)
    assert rows.ended
    bench.sockets[1].accept_connection()
    bench.run()
    assert bench.sockets[1].delivered() == messages.cancel_request(7, 9)
    assert not bench.sockets[0].closed
    bench.sockets[1].end()
    bench.say(error("57014") + READY, index=0)
    assert bench.sockets[0].closed


def test_a_full_stream_stops_the_reading_and_a_reader_goes_on() -> None:
    bench = Played().ready()
    reply = bench.submit(copy_out())
    bench.run()
    piece = b"x" * 60_000
    bench.say(COPY_OUT)
    for _ in range(20):
        bench.say(data(piece))
    stream = reply.result()
    assert stream.statistics().weight < 1 << 19
    bench.say(DONE + done(20))
    got = read(bench, stream)
    bench.run(50)
    assert got == piece * 20
    assert stream.rows == 20


def test_the_end_of_the_connection_behind_a_full_stream() -> None:
    bench = Played().ready()
    reply = bench.submit(copy_out())
    bench.run()
    bench.say(COPY_OUT + data(b"x" * 300_000))
    bench.run(10)
    stream = reply.result()
    bench.say(data(b"y") + DONE + done(2))
    bench.end()
    assert read(bench, stream) == b"x" * 300_000 + b"y"
    assert stream.rows == 2
    bench.run()
    assert bench.sockets[-1].closed


def test_a_connection_that_is_lost_is_told_to_the_reader() -> None:
    for said in (b"", data(b"1\n")):
        bench = Played().ready()
        reply = bench.submit(copy_out())
        bench.run()
        bench.say(COPY_OUT + said)
        bench.end()
        if said:
            with pytest.raises(ConnectionLost, match="middle of a copy"):
                read(bench, reply.result())
        else:
            assert isinstance(reply.error, ConnectionLost)
        assert bench.add_up()


def test_an_error_in_the_middle_is_told_to_the_reader() -> None:
    bench = Played().ready()
    reply = bench.submit(copy_out())
    bench.run()
    bench.say(COPY_OUT + data(b"1\n"))
    stream = reply.result()
    bench.say(data(b"2\n") + error("22012") + READY)
    with pytest.raises(PostgresError, match="22012"):
        read(bench, stream)
    assert not bench.sockets[-1].closed
    assert bench.add_up()


def test_a_reader_that_goes_away_costs_the_connection_if_much_is_left() -> None:
    for left, closed in ((1000, False), (300_000, True)):
        bench = Played().ready()
        reply = bench.submit(copy_out())
        bench.run()
        bench.say(COPY_OUT + data(b"1\n"))
        reply.result().cancel()
        bench.run()
        bench.say(data(b"x" * left))
        bench.run(10)
        if closed:
            assert not bench.sockets[0].closed
            bench.sockets[1].accept_connection()
            bench.run()
            assert bench.sockets[1].delivered() == messages.cancel_request(7, 9)
            bench.sockets[1].end()
            bench.run()
            assert bench.sockets[0].closed
        else:
            bench.say(DONE + done(2))
            behind = bench.submit(UNIT)
            bench.run()
            bench.say(answer(3))
            assert behind.result() == [(3,)]
        assert bench.add_up()


def test_time_limits_of_a_copy_out() -> None:
    bench = Played().ready()
    reply = bench.submit(copy_out(silence=5.0), timeout=1000.0)
    bench.run()
    bench.say(COPY_OUT)
    bench.advance(100.0)  # its deadline, not its silence
    bench.say(data(b"1\n"))
    stream = reply.result()
    bench.advance(4.0)
    bench.say(data(b"2\n"))
    bench.advance(4.0)
    assert not bench.sockets[0].closed
    bench.advance(2.0)
    bench.sockets[1].refuse()
    bench.run()
    assert bench.sockets[0].closed
    with pytest.raises(DeadlineExceeded, match="stood still"):
        read(bench, stream)
    slow = Played().ready()
    left = slow.submit(copy_out())
    slow.run()
    slow.say(COPY_OUT + data(b"x"))
    left.result().cancel()
    slow.run()
    slow.advance(1.1)
    assert not slow.sockets[0].closed
    slow.advance(1.1)  # the server cannot even be told
    assert slow.sockets[0].closed


# -- the binary format ----------------------------------------------------------------------------

COLUMNS = (Column("a", 23), Column("b", 25), Column("c", 20))


@given(
    st.lists(
        st.tuples(
            st.integers(-(2**31), 2**31 - 1) | st.none(),
            st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.none(),
            st.integers(-(2**63), 2**63 - 1),
        ),
        max_size=20,
    )
)
def test_records_go_round(records: list[Any]) -> None:
    encode, decode = record_encoder(COLUMNS), record_decoder(COLUMNS)
    assert decode(b"".join(m(b"D", encode(record)) for record in records)) == records


@given(st.binary(max_size=200))
def test_fuzzed_records_are_refused_or_read(said: bytes) -> None:
    try:
        decoded = record_decoder(COLUMNS)(said)
    except BackendError:
        return
    assert all(len(record) == 3 for record in decoded)


def test_plain_records_and_their_misfits() -> None:
    encode = record_encoder((Column("a", 23), Column("b", 20)))
    assert encode((1, 2)) == struct.pack("!hiiiq", 2, 4, 1, 8, 2)
    assert encode((None, 2)) == struct.pack("!hiiq", 2, -1, 8, 2)
    for record, told in (
        ((1 << 31, 1), "column a is integer"),
        ((1,), "not a record of 2"),
        (("x", 1), "column a"),
    ):
        with pytest.raises(ValueError, match=told):
            encode(record)


def test_headers_and_trailers() -> None:
    assert records_in(HEADER + b"row", True) == b"row"
    assert records_in(HEADER[:-1] + b"\3abcrow", True) == b"row"
    assert records_in(TRAILER, False) == b""
    for bad in (b"PGCOPY", HEADER[:-8] + b"\0\1\0\0" + bytes(4), b""):
        with pytest.raises(BadMessage):
            records_in(bad, True)
    with pytest.raises(UnreadableValue):
        record_encoder((Column("a", 790),))
