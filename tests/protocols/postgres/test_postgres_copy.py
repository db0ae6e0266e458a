"""COPY on a real server: both ways, streamed, against psycopg's, and what becomes of one broken off."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from collections.abc import Callable, Coroutine, Iterator
from decimal import Decimal
from typing import Any, TypeVar

import psycopg
import pytest

from actors import Channel, ChannelClosed, Loop, Misuse, gather, settle_all, sleep
from actors.testing import run_until
from pools import Cancelled, ConnectionLost, DeadlineExceeded, HeldAcrossBackends, Pool, QueueFull
from protocols import postgres
from protocols.postgres import PostgresError, Range, UnreadableValue
from tests.protocols.postgres.servers import Server
from tests.still_time import StillLoop

Ask = Callable[..., Any]
T = TypeVar("T")

MANY = "copy (select n, repeat('x', 90) from generate_series(1, 2000000) n) to stdout"
TYPED = [
    (1, "é\t\\n", True, 1.5, Decimal("12.50"), b"\0\xff", datetime.date(2024, 2, 29), uuid.UUID(int=7)),
    (2, None, None, None, None, None, None, None),
    (-3, "", False, -0.25, Decimal("0.00"), b"", datetime.date(1, 1, 1), uuid.UUID(int=1 << 127)),
]


@pytest.fixture
def boxes(ask: Ask) -> Ask:
    """A table, and how to ask."""
    ask(postgres.execute("drop table if exists boxes"))
    ask(postgres.execute("create table boxes (id int primary key, label text)"))
    return ask


@pytest.fixture
def run(loop: Loop) -> Callable[[Coroutine[Any, Any, T]], T]:
    """`run(flow)`: what a flow returns."""
    return lambda flow: loop.run_until(loop.spawn(flow))


async def whole(pool: Pool, unit: Any) -> tuple[list[Any], int | None]:
    """All that comes out, and how many rows."""
    stream = await pool.submit(unit)
    return [chunk async for chunk in stream], stream.rows


async def feed_on(rows: Channel[bytes]) -> None:
    """Until nobody wants it any more; soon the same again."""
    n = 0
    while True:
        await rows.send(b"%d\tx\n" % (n % 100))
        n += 1


def count(ask: Ask) -> Any:
    return ask(postgres.fetch_value("select count(*) from boxes"))


# -- in -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unit",
    [
        lambda: postgres.copy_in("boxes", b"1\ta\n2\tb\n3\t\\N\n"),
        lambda: postgres.copy_in(("public", "boxes"), bytearray(b"1\ta\n2\tb\n3\t\\N\n")),
        lambda: postgres.copy_in("boxes", [b"1\t", memoryview(b"a\n2\tb"), b"", b"\n3\t\\N\n"]),
        lambda: postgres.copy_in("boxes", (b"%s,%d\n" % p for p in [(b"a", 1), (b"b", 2), (b"", 3)]),
                                 columns=["label", "id"], format="csv"),
        lambda: postgres.copy_in(" COPY boxes (id, label) from stdin", b"1\ta\n2\tb\n3\t\\N\n"),
        lambda: postgres.copy_in_records("boxes", [(1, "a"), [2, "b"], (3, None)]),
        lambda: postgres.copy_in_records(("public", "boxes"), iter([("a", 1), ("b", 2), (None, 3)]),
                                         columns=("label", "id")),
    ],
)  # fmt: skip
def test_what_is_copied_in_is_there(boxes: Ask, unit: Callable[[], Any]) -> None:
    assert boxes(unit()) == 3
    assert boxes(postgres.query("select * from boxes order by id")) == [(1, "a"), (2, "b"), (3, None)]
    assert "boxes" in repr(unit())


def test_nothing_is_copied_as_well(boxes: Ask) -> None:
    assert boxes(postgres.copy_in("boxes", b"")) == 0
    assert boxes(postgres.copy_in("boxes", [])) == 0
    assert boxes(postgres.copy_in_records("boxes", [])) == 0


def test_a_flow_feeds_it_through_a_channel(boxes: Ask, db: Pool, run: Any) -> None:
    async def feed() -> int:
        rows: Channel[bytes] = Channel(2)
        reply = db.submit(postgres.copy_in("boxes", rows))
        for n in range(500):
            await rows.send(b"%d\tx\n" % n)
            if n % 100 == 0:
                await sleep(0)
        rows.close()
        return await reply

    assert run(feed()) == 500


def test_an_asyncio_task_feeds_it_and_reads_it(server: Server) -> None:
    async def main() -> tuple[int, bytes]:
        async with Loop.in_asyncio() as loop:
            db = loop.spawn(postgres.pool(server.url, connections=2))
            await db.submit(postgres.execute("drop table if exists boxes"))
            await db.submit(postgres.execute("create table boxes (id int, label text)"))
            records: Channel[Any] = Channel(8)

            async def feed() -> None:
                for n in range(300):
                    await records.send((n, None))
                    if n % 50 == 0:
                        await asyncio.sleep(0)
                records.close()

            feeding = asyncio.create_task(feed())
            copied = await db.submit(postgres.copy_in_records("boxes", records))
            await feeding
            stream = await db.submit(postgres.copy_out("copy (select id from boxes limit 3) to stdout"))
            return copied, b"".join([chunk async for chunk in stream])

    assert asyncio.run(main()) == (300, b"0\n1\n2\n")


def test_threads_give_what_they_have(server: Server) -> None:
    with Loop.in_thread() as loop:
        db = loop.spawn(postgres.pool(server.url))
        db.submit(postgres.execute("drop table if exists boxes")).result(timeout=5)
        db.submit(postgres.execute("create table boxes (id int, label text)")).result(timeout=5)
        assert (
            db.submit(postgres.copy_in_records("boxes", ((n, "x") for n in range(9)))).result(timeout=5) == 9
        )


def test_memory_is_bounded_while_the_server_takes_nothing(boxes: Ask, server: Server) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"%d\t%s\n" % (taken, b"x" * 1000)

    looks: list[int] = []

    def stands_still() -> bool:
        looks.append(taken)
        return taken > 0 and len(looks) > 20 and looks[-20] == taken

    with StillLoop() as loop:
        db = loop.spawn(postgres.pool(server.url, connections=1, pipeline=8))
        with psycopg.connect(server.url) as connection:
            connection.execute("lock table boxes")
            reply = db.submit(postgres.copy_in("boxes", endless()), timeout=0.1)
            loop.until(lambda: reply.settled, step=0.01)
            assert taken == 0  # the server has not asked for it yet
            connection.execute(
                "create function slow() returns trigger language plpgsql as "
                "'begin perform pg_sleep(60); return new; end'"
            )
            connection.execute(
                "create trigger slow before insert on boxes for each row execute function slow()"
            )
        reply = db.submit(postgres.copy_in("boxes", endless()), timeout=0.4)
        loop.until(stands_still)
        assert not reply.settled
        loop.advance(0.5)
        assert isinstance(reply.error, DeadlineExceeded)
        loop.until(lambda: not db.statistics().in_flight)
    assert 0 < taken < 16_000  # what the sockets' buffers hold, and a quarter of a megabyte
    boxes(postgres.execute("drop function slow cascade"))
    assert count(boxes) == 0


@pytest.mark.parametrize("how", ["iterable", "no bytes", "channel", "cancelled channel", "record"])
def test_a_source_that_fails_takes_it_all_back(boxes: Ask, db: Pool, run: Any, how: str) -> None:
    error = LookupError("the source is dry")

    def dry() -> Iterator[bytes]:
        yield b"1\ta\n" * 1
        raise error

    async def fed() -> Any:
        rows: Channel[bytes] = Channel(4)
        reply = db.submit(postgres.copy_in("boxes", rows))
        await rows.send(b"1\ta\n")
        await sleep(0.001)
        rows.close(error) if how == "channel" else rows.cancel(error)
        return await reply

    source: dict[str, Any] = {
        "iterable": lambda: boxes(postgres.copy_in("boxes", dry())),
        "no bytes": lambda: boxes(postgres.copy_in("boxes", [b"1\ta\n", "2\tb\n"])),  # type: ignore[list-item]
        "record": lambda: boxes(postgres.copy_in_records("boxes", [(1, "a"), (2, 3)])),
    }
    wanted = {"no bytes": (TypeError, "bytes"), "record": (ValueError, "column label is text; 3")}
    kind, told = wanted.get(how, (LookupError, "dry"))
    with pytest.raises(kind, match=told):
        source[how]() if how in source else run(fed())
    assert count(boxes) == 0
    assert db.statistics().opened == 1
    assert db.statistics().closed == 0


def test_an_error_of_the_server_drops_the_rest(boxes: Ask, db: Pool, run: Any) -> None:
    async def feed() -> Any:
        rows: Channel[bytes] = Channel(2)
        reply = db.submit(postgres.copy_in("boxes", rows), timeout=60)
        with pytest.raises(ChannelClosed) as closed:
            await feed_on(rows)
        assert isinstance(closed.value.__cause__, PostgresError)
        return await reply

    with pytest.raises(PostgresError) as raised:
        run(feed())
    assert raised.value.sqlstate == "23505"
    for source in ([b"no number\tx\n"], (b"7\tx\n" for _ in range(100_000))):
        with pytest.raises(PostgresError) as raised:
            boxes(postgres.copy_in("boxes", source), timeout=60)
        assert raised.value.sqlstate in ("22P02", "23505")
    assert count(boxes) == 0
    assert db.statistics().opened == 1


@pytest.mark.parametrize(
    ("unit", "sqlstate"),
    [
        (postgres.copy_in("nowhere", b"1\n"), "42P01"),
        (postgres.copy_in_records("nowhere", [(1,)]), "42P01"),
        (postgres.copy_in_records("boxes", [(1,)], columns=["nothing"]), "42703"),
        (postgres.copy_out("nowhere"), "42P01"),
        (postgres.copy_out_records("select 1 / 0"), "22012"),
        (postgres.copy_out("copy (select 1 / (n - 900) from generate_series(1, 900) n) to stdout"), "22012"),
    ],
)
def test_what_the_server_refuses(boxes: Ask, db: Pool, run: Any, unit: Any, sqlstate: str) -> None:
    async def read() -> None:
        answer = await db.submit(unit)
        async for _ in answer:
            pass

    with pytest.raises(PostgresError) as raised:
        run(read())
    assert raised.value.sqlstate == sqlstate
    assert boxes(postgres.fetch_value("select 1")) == 1
    assert db.statistics().opened == 1


@pytest.mark.parametrize(
    ("unit", "told"),
    [
        (postgres.copy_in("copy boxes to stdout", b"1\ta\n"), "postgres.copy_out"),
        (postgres.copy_in("copy boxes from stdin; copy boxes from stdin", b"1\ta\n"), "one COPY"),
        (postgres.copy_in("copy boxes from '/dev/null'", b"1\ta\n"), "not a COPY FROM STDIN"),
        (postgres.copy_out("copy boxes from stdin"), "postgres.copy_in"),
        (postgres.copy_in_records("boxes", [(1,)]), "not a record of 2"),
        (postgres.copy_in_records("boxes", ["ab"]), "not a record of 2"),
    ],
)
def test_what_is_no_such_copy(boxes: Ask, db: Pool, unit: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        boxes(unit)
    assert count(boxes) == 0
    assert db.statistics().opened == 1


def test_what_cannot_be_asked_for() -> None:
    for target in ("", ("public", ""), (), "a\0b"):
        with pytest.raises(ValueError, match=r"not a name|no table"):
            postgres.copy_in(target, b"")
    for data in ("text", 5, None):
        with pytest.raises(TypeError, match="data is bytes"):
            postgres.copy_in("t", data)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="list of names"):
        postgres.copy_in("t", b"", columns="id")
    with pytest.raises(ValueError, match="text, csv or binary"):
        postgres.copy_out("t", format="json")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="into the statement"):
        postgres.copy_out("copy t to stdout", format="csv")
    with pytest.raises(ValueError, match="silence"):
        postgres.copy_out("t", silence=0)


def test_names_are_quoted(ask: Ask) -> None:
    name = 'od"d; drop table boxes --'
    quoted = '"od""d; drop table boxes --"'
    ask(postgres.execute(f"create table {quoted} ({quoted} int)"))
    assert ask(postgres.copy_in(name, b"1\n", columns=[name])) == 1
    assert ask(postgres.copy_in_records(name, [(2,)])) == 1
    assert ask(postgres.query(f"select * from {quoted}")) == [(1,), (2,)]
    ask(postgres.execute(f"drop table {quoted}"))


def test_data_that_was_used_up(boxes: Ask) -> None:
    unit = postgres.copy_in("boxes", iter([b"1\ta\n"]))
    assert boxes(unit) == 1
    with pytest.raises(Misuse, match="used up"):
        boxes(unit)
    again = postgres.copy_in("boxes", b"2\ta\n")
    assert boxes(again) == 1
    with pytest.raises(PostgresError, match="duplicate"):
        boxes(again)


def test_a_cancelled_copy_leaves_nothing(boxes: Ask, server: Server) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        for taken in range(1 << 40):
            yield b"%d\tx\n" % taken

    async def feed(rows: Channel[bytes]) -> None:
        for row in endless():
            await rows.send(row)

    with StillLoop() as loop:
        db = loop.spawn(postgres.pool(server.url, connections=1, pipeline=8))
        rows: Channel[bytes] = Channel(4)
        fed = db.submit(postgres.copy_in("boxes", rows))
        feeding = loop.spawn(feed(rows))
        loop.until(lambda: taken > 4)  # more than waits in the channel
        fed.cancel()
        loop.until(lambda: feeding.settled)
        assert isinstance(feeding.error, ChannelClosed)
        taken = 0
        drawn = db.submit(postgres.copy_in("boxes", endless()))
        loop.until(lambda: taken)
        drawn.cancel()
        found = db.submit(postgres.fetch_value("select count(*) from boxes"))
        loop.until(lambda: found.settled)
        assert isinstance(fed.error, Cancelled)
        assert isinstance(drawn.error, Cancelled)
        assert found.result() == 0
        assert db.statistics().closed == 0


def test_a_copy_that_never_begins_lets_its_feeder_go(loop: Loop, server: Server, run: Any) -> None:
    db = loop.spawn(postgres.pool(server.url, connections=1, queue=1))

    async def feed(timeout: float) -> BaseException | None:
        rows: Channel[bytes] = Channel(1)
        reply = db.submit(postgres.copy_in("boxes", rows), timeout=timeout)
        with pytest.raises(ChannelClosed):
            await feed_on(rows)
        await settle_all(reply)
        return reply.error

    async def both() -> list[BaseException | None]:
        late, refused = await gather(loop.spawn(feed(0.05)), loop.spawn(feed(1.0)))
        return [late, refused]

    blocker = db.submit(postgres.execute("select pg_sleep(60)"))
    run_until(loop, lambda: db.statistics().in_flight == 1)
    late, refused = run(both())
    blocker.cancel()
    assert isinstance(late, DeadlineExceeded)
    assert isinstance(refused, QueueFull)


def test_a_deadline_passes_in_mid_copy(boxes: Ask, db: Pool, run: Any) -> None:
    async def late() -> None:
        rows: Channel[bytes] = Channel(4)
        reply = db.submit(postgres.copy_in("boxes", rows), timeout=0.05)
        await rows.send(b"1\ta\n")
        with pytest.raises(DeadlineExceeded):
            await reply
        with pytest.raises(ChannelClosed):
            await rows.send(b"2\ta\n")

    run(late())
    assert count(boxes) == 0
    with pytest.raises(DeadlineExceeded):
        boxes(postgres.copy_out("copy (select pg_sleep(60)) to stdout"), timeout=0.05)
    with pytest.raises(DeadlineExceeded):
        boxes(postgres.copy_out_records("select pg_sleep(60)"), timeout=0.05)
    running = (
        "select count(*) from pg_stat_activity where query like 'copy (select pg_sleep%' and state = 'active'"
    )
    for _ in range(100):
        if boxes(postgres.fetch_value(running)) == 0:
            break
    assert boxes(postgres.fetch_value(running)) == 0


# -- out ------------------------------------------------------------------------------------------


def test_bytes_come_out_by_statement_and_by_table(boxes: Ask, db: Pool, run: Any) -> None:
    boxes(postgres.copy_in("boxes", b"1\ta\n2\t\\N\n"))
    assert run(whole(db, postgres.copy_out("boxes"))) == ([b"1\ta\n2\t\\N\n"], 2)
    unit = postgres.copy_out(("public", "boxes"), columns=["label", "id"], format="csv")
    assert run(whole(db, unit)) == ([b"a,1\n,2\n"], 2)
    assert run(whole(db, postgres.copy_out("copy boxes to stdout (header, format csv)"))) == (
        [b"id,label\n1,a\n2,\n"],
        2,
    )
    assert run(whole(db, postgres.copy_out("copy (select 1 where false) to stdout"))) == ([], 0)
    assert "boxes" in repr(unit)


def test_records_come_out_as_they_went_in(ask: Ask, db: Pool, run: Any) -> None:
    ask(postgres.execute("drop table if exists typed"))
    ask(postgres.execute("drop type if exists mood"))
    ask(postgres.execute("create type mood as enum ('calm', 'wild')"))
    ask(
        postgres.execute(
            "create table typed (a int, b text, c bool, d float8, e numeric(6,2), f bytea, g date, h uuid, "
            "i int[], j int4range, k mood, l int4multirange)"
        )
    )
    tails = [
        ([1, None], Range(1, 3), "calm", [Range(1, 2)]),
        (None, None, None, None),
        ([], None, "wild", []),
    ]
    records = [head + tail for head, tail in zip(TYPED, tails, strict=True)]
    assert ask(postgres.copy_in_records("typed", records)) == 3
    batches, rows = run(whole(db, postgres.copy_out_records("select * from typed")))
    assert [record for batch in batches for record in batch] == records
    assert rows == 3
    assert run(whole(db, postgres.copy_out_records("select 1 where false"))) == ([], 0)
    ask(postgres.execute("create type pair as (x int, y int)"))
    for sql in ("select '1.5'::money", "select '(1,2)'::pair"):
        with pytest.raises(UnreadableValue, match=r"as text|to text"):
            run(whole(db, postgres.copy_out_records(sql)))
    ask(postgres.execute("drop type pair"))
    assert ask(postgres.fetch_value("select 1")) == 1


def test_columns_that_change_are_described_anew(boxes: Ask) -> None:
    assert boxes(postgres.copy_in_records("boxes", [(1, "a")])) == 1
    boxes(postgres.execute("alter table boxes alter label type int using null"))
    with pytest.raises(ValueError, match="label is integer"):
        boxes(postgres.copy_in_records("boxes", [(2, "abc")]))
    assert boxes(postgres.copy_in_records("boxes", [(2, 7)])) == 1


def test_a_type_of_the_same_size_is_not_taken_for_what_was_there(ask: Ask, run: Any, db: Pool) -> None:
    for statement in ("drop table if exists sizes", "create table sizes (a bigint)"):
        ask(postgres.execute(statement))

    async def read() -> list[Any]:
        stream = await db.submit(postgres.copy_out_records("select a from sizes order by a"))
        return [row async for batch in stream for row in batch]

    assert ask(postgres.copy_in_records("sizes", [(1,)])) == 1
    assert run(read()) == [(1,)]
    ask(postgres.execute("alter table sizes alter a type double precision"))
    assert ask(postgres.copy_in_records("sizes", [(2,), [None], (0.5,)])) == 3
    assert run(read()) == [(0.5,), (1.0,), (2.0,), (None,)]


def test_a_null_is_no_json_null(ask: Ask) -> None:
    for statement in ("drop table if exists texts", "create table texts (a int, b json, c text, d date)"):
        ask(postgres.execute(statement))
    records: list[Any] = [(1, None, None, None), [None, {"a": 1}, "é", datetime.date(2024, 2, 29)]]
    assert ask(postgres.copy_in_records("texts", records)) == 2
    rows = ask(postgres.query("select a, b, c, d from texts order by a"))
    assert rows == [tuple(record) for record in records]
    for wrong in (("ab", "cd"), (1, 2), (1, None, 7, None), (1, None, "a\0b", None), "abcd", {1, 2, 3, 4}):
        with pytest.raises(ValueError, match=r"not a record of 4 values|does not fit"):
            ask(postgres.copy_in_records("texts", [wrong]))


def test_it_is_what_psycopg_copies(boxes: Ask, db: Pool, run: Any, server: Server) -> None:
    boxes(postgres.execute("create table if not exists theirs (like boxes)"))
    boxes(postgres.execute("truncate theirs"))
    records = [(n, None if n % 7 == 0 else f"é\t{n}\n\\") for n in range(5000)]
    boxes(postgres.copy_in_records("boxes", records))
    with psycopg.connect(server.url) as connection:
        with connection.cursor().copy("copy theirs from stdin") as copy:
            for record in records:
                copy.write_row(record)
        for form in ("text", "csv", "binary"):
            with connection.cursor().copy(f"copy boxes to stdout (format {form})".encode()) as copy:
                theirs = b"".join(map(bytes, copy))
            connection.commit()
            chunks, rows = run(whole(db, postgres.copy_out("boxes", format=form)))
            assert (b"".join(chunks), rows) == (theirs, 5000)
            boxes(postgres.execute("truncate theirs"))
            half = len(theirs) // 2
            unit = postgres.copy_in("theirs", [theirs[:half], theirs[half:]], format=form)
            assert boxes(unit) == 5000
            with connection.cursor().copy(f"copy theirs to stdout (format {form})".encode()) as copy:
                assert b"".join(map(bytes, copy)) == theirs
            connection.commit()
        with connection.cursor().copy("copy theirs to stdout (format binary)") as copy:
            copy.set_types(["int4", "text"])
            assert list(copy.rows()) == records
    batches, _ = run(whole(db, postgres.copy_out_records("select * from theirs")))
    assert [record for batch in batches for record in batch] == records


def test_a_slow_reader_stops_the_reading(db: Pool, run: Any) -> None:
    async def read() -> tuple[int, int]:
        stream = await db.submit(postgres.copy_out(MANY))
        first = len(await stream.receive())
        await sleep(0.05)
        waiting = stream.statistics().weight  # what this process holds
        stream.cancel()
        with pytest.raises(ChannelClosed):
            await stream.receive()
        return first, waiting

    first, waiting = run(read())
    assert 0 < first + waiting < 2 << 20


def test_a_reader_that_leaves_early(server: Server) -> None:
    with StillLoop() as loop:
        db = loop.spawn(postgres.pool(server.url, connections=2, pipeline=8))

        def ask(sql: str, *arguments: Any) -> Any:
            reply = db.submit(postgres.fetch_value(sql, *arguments))
            loop.until(lambda: reply.settled)
            return reply.result()

        def leave(sql: str) -> None:
            reply = db.submit(postgres.copy_out(sql))
            loop.until(lambda: reply.settled)
            reply.result().cancel()

        leave("copy (select * from generate_series(1, 3000)) to stdout")
        assert ask("select 7") == 7
        assert db.statistics().closed == 0  # the little that was left went by
        leave(MANY)
        assert ask("select 8") == 8
        active = "select count(*) from pg_stat_activity where query = $1 and state = 'active'"
        loop.until(lambda: not ask(active, MANY))
        loop.until(lambda: db.statistics().closed == 1)


def test_a_cancelled_copy_out_is_cut_off(db: Pool, ask: Ask, run: Any) -> None:
    async def cancel() -> None:
        reply = db.submit(postgres.copy_out(MANY))
        await sleep(0.001)
        reply.cancel()
        described = db.submit(postgres.copy_out_records("select 'never described before'"))
        await sleep(0)
        described.cancel()
        await settle_all(reply, described)

    run(cancel())
    assert ask(postgres.fetch_value("select 9")) == 9


def test_a_server_that_is_silent(db: Pool, run: Any) -> None:
    async def read() -> None:
        sql = "copy (select repeat('x', 9000), pg_sleep(60 * (n / 4)) from generate_series(0, 4) n) to stdout"
        stream = await db.submit(postgres.copy_out(sql, silence=0.05))
        async for _ in stream:
            pass

    with pytest.raises(DeadlineExceeded, match="stood still"):
        run(read())


def test_a_server_that_goes_away(db: Pool, ask: Ask, run: Any) -> None:
    async def read() -> None:
        stream = await db.submit(postgres.copy_out(MANY))
        sql = "select pg_terminate_backend(pid) from pg_stat_activity where query = $1"
        await db.submit(postgres.execute(sql, MANY))
        async for _ in stream:
            pass

    with pytest.raises(ConnectionLost, match="middle of a copy"):
        run(read())


def test_a_unit_that_leaves_a_transaction_open(db: Pool, run: Any, boxes: Ask) -> None:
    with pytest.raises(postgres.LeftOpen):
        boxes(postgres.copy_in("copy boxes from stdin; begin", b"1\ta\n"))
    with pytest.raises(postgres.LeftOpen):
        run(whole(db, postgres.copy_out("copy boxes to stdout; begin")))


# -- inside of a transaction ----------------------------------------------------------------------


def test_inside_of_a_transaction(boxes: Ask) -> None:
    @postgres.transaction
    async def load(tx: postgres.Transaction, fail: bool) -> tuple[int, bytes]:
        before = tx.fetch_value("select 1")
        copied = tx.copy_in("boxes", [b"1\ta\n", b"2\tb\n"])
        behind = tx.fetch_value("select count(*) from boxes")  # sent when the copy is over
        more = tx.copy_in_records("boxes", [(3, "c")])
        assert (await before, await copied, await behind, await more) == (1, 2, 2, 1)
        out = await tx.copy_out("boxes")
        rows = await tx.submit(postgres.copy_out_records("select id from boxes"))
        assert rows == [(1,), (2,), (3,)]  # type: ignore[comparison-overlap]
        if fail:
            raise LookupError
        return await tx.fetch_value("select count(*) from boxes"), out

    with pytest.raises(LookupError):
        boxes(load(True))
    assert count(boxes) == 0
    assert boxes(load(False)) == (3, b"1\ta\n2\tb\n3\tc\n")


def test_a_transaction_waits_for_nothing_else(boxes: Ask, db: Pool) -> None:
    @postgres.transaction
    async def load(tx: postgres.Transaction, data: Any) -> int:
        return await tx.copy_in("boxes", data)

    for data in (Channel(1), iter([b"1\ta\n"])):
        with pytest.raises(HeldAcrossBackends, match="list in place of an iterator"):
            boxes(load(data))
    with pytest.raises(PostgresError, match="22P02"):
        boxes(load(b"x\ty\n"))
    with pytest.raises(TypeError, match="is bytes"):
        boxes(load([5]))
    assert count(boxes) == 0
    assert db.statistics().closed == 0


def test_a_transaction_gathers_so_much_and_no_more(loop: Loop, server: Server) -> None:
    db = loop.spawn(postgres.pool(server.url, result_bytes=10_000))

    @postgres.transaction
    async def read(tx: postgres.Transaction) -> Any:
        return await tx.copy_out("copy (select * from generate_series(1, 100000)) to stdout")

    with pytest.raises(UnreadableValue, match="10000 bytes"):
        loop.run_until(db.submit(read()))
    assert db.statistics().closed == 0


def test_execute_is_not_for_copies(db: Pool, ask: Ask) -> None:
    with pytest.raises(postgres.BadMessage, match=r"copy_in and postgres\.copy_out"):
        ask(postgres.execute("copy (select 1) to stdout"))
    assert ask(postgres.fetch_value("select 1")) == 1
