"""Units against a real server: results, errors, caches, deadlines, what goes wrong at connecting."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
import pytest
from structlog.testing import capture_logs

from actors import ANYTHING, Continue, Listener, Loop, Outcome, StreamProtocol, Transport, settle_all
from actors.testing import run_until
from pools import BackendDown, ConnectionLost, DeadlineExceeded, Pool, Unit
from protocols import postgres
from protocols.postgres import BadMessage, LeftOpen, PostgresError, UnreadableValue
from tests.protocols.postgres.servers import PASSWORD, Server
from tests.still_time import StillLoop

Ask = Callable[..., Any]


class Item(msgspec.Struct):
    id: int
    name: str
    price: Decimal | None


def spawn(loop: Loop, url: str, **options: Any) -> Pool:
    return loop.spawn(postgres.pool(url, **options))


def wait(loop: Loop, pool: Pool, unit: Unit[Any], timeout: float = 10.0) -> Any:
    return loop.run_until(pool.submit(unit, timeout=timeout))


def test_rows_in_three_shapes(ask: Ask) -> None:
    sql = "select * from (values (1, 'anchor', 1.5), (2, 'buoy', null)) item (id, name, price) where id <= $1"
    anchor, buoy = Item(1, "anchor", Decimal("1.5")), Item(2, "buoy", None)
    assert ask(postgres.query(sql, 2)) == [(1, "anchor", Decimal("1.5")), (2, "buoy", None)]
    assert ask(postgres.query(sql, 1, into=dict)) == [{"id": 1, "name": "anchor", "price": Decimal("1.5")}]
    assert ask(postgres.query(sql, 2, into=Item)) == [anchor, buoy]
    assert ask(postgres.fetch_one(sql, 2)) == (1, "anchor", Decimal("1.5"))
    assert ask(postgres.fetch_one(sql, 1, into=Item)) == anchor
    assert ask(postgres.fetch_one(sql, 0)) is None
    assert ask(postgres.fetch_one(sql, 0, into=dict)) is None
    assert ask(postgres.fetch_value(sql, 2)) == 1
    assert ask(postgres.fetch_value(sql, 0)) is None
    with pytest.raises(msgspec.ValidationError, match="name"):
        ask(postgres.query("select 1 as id, 2 as name, 3.5 as price", into=Item))


def test_an_empty_result_stays_empty(loop: Loop, server: Server) -> None:
    db = spawn(loop, server.url, connections=1, pipeline=8)
    select = "select n from generate_series(1, $1::int) n"
    wait(loop, db, postgres.query(select, 1))
    none, some = (db.submit(postgres.query(select, count)) for count in (0, 3))
    assert loop.run_until(some) == [(1,), (2,), (3,)]
    assert none.result() == []


def test_counts(ask: Ask) -> None:
    ask(postgres.execute("drop table if exists counted"))
    assert ask(postgres.execute("create table counted (n int primary key)")) == 0
    assert ask(postgres.execute_many("insert into counted values ($1)", [(n,) for n in range(5)])) == 5
    assert ask(postgres.execute("update counted set n = n + 10 where n > $1", 2)) == 2
    with pytest.raises(PostgresError, match="duplicate"):
        ask(postgres.execute_many("insert into counted values ($1)", [(7,), (8,), (7,)]))
    assert ask(postgres.fetch_value("select count(*) from counted")) == 5
    for sets in ([], [(1,)] * 10_001):
        with pytest.raises(ValueError, match="write 1 to"):
            postgres.execute_many("insert into counted values ($1)", sets)
    with pytest.raises(ValueError, match=r"\$1 is integer"):
        ask(postgres.execute_many("insert into counted values ($1)", [(1,), ("x",)]))


def test_a_failure_does_not_touch_its_neighbours(loop: Loop, server: Server) -> None:
    db = spawn(loop, server.url, connections=1, pipeline=64)
    wait(loop, db, postgres.fetch_value("select 1 / $1::int", 1))
    units = [postgres.fetch_value("select 1 / $1::int", n % 3) for n in range(60)]
    answers = loop.run_until(settle_all(*(db.submit(unit) for unit in units)))
    for number, answer in enumerate(answers):
        if number % 3:
            assert answer == 1 // (number % 3)
        else:
            assert isinstance(answer, PostgresError)
            assert answer.sqlstate == "22012"
    assert db.statistics().opened == 1


def test_an_error_says_where(ask: Ask) -> None:
    with pytest.raises(PostgresError) as caught:
        ask(postgres.query("select nonsense from pg_class"))
    assert (caught.value.sqlstate, caught.value.position) == ("42703", 8)
    assert ask(postgres.execute("")) == 0
    assert ask(postgres.fetch_value("select 1")) == 1


def test_large_results_come_in_parts(ask: Ask) -> None:
    rows = ask(postgres.query("select n, repeat('x', n % 500), n::float8 from generate_series(1, 5000) n"))
    assert [(n, len(text), real) for n, text, real in rows] == [(n, n % 500, n) for n in range(1, 5001)]
    assert len(ask(postgres.query("select n, n * 2 from generate_series(1, 50000) n"))) == 50_000
    assert len(ask(postgres.fetch_value("select repeat('y', 3000000)"))) == 3_000_000
    assert ask(postgres.fetch_value("select length($1::text)", "z" * 2_000_000)) == 2_000_000


def test_a_result_has_a_limit(loop: Loop, server: Server) -> None:
    db = spawn(loop, server.url, result_bytes=10_000, connections=1)
    with pytest.raises(UnreadableValue, match="result_bytes"):
        wait(loop, db, postgres.query("select n from generate_series(1, 9000) n"))
    assert wait(loop, db, postgres.fetch_value("select 1")) == 1
    assert db.statistics().opened == 1


def test_a_value_that_cannot_be_read_fails_its_unit_alone(ask: Ask, db: Pool) -> None:
    with pytest.raises(UnreadableValue, match="cast it"):
        ask(postgres.query("select '4713-01-01 BC'::date, n from generate_series(1, 9) n"))
    assert ask(postgres.fetch_value("select 1")) == 1
    assert db.statistics().lost == 0


# -- the statement cache --------------------------------------------------------------------------


@pytest.mark.parametrize("statements", [0, 2, 256])
def test_many_statements(loop: Loop, server: Server, statements: int) -> None:
    db = spawn(loop, server.url, connections=2, pipeline=4, statements=statements)
    for _ in range(2):
        replies = [db.submit(postgres.fetch_value(f"select {n} + $1", n)) for n in range(20)]
        assert loop.run_until(settle_all(*replies)) == tuple(2 * n for n in range(20))
    prepared = wait(loop, db, postgres.fetch_value("select count(*) from pg_prepared_statements"))
    assert prepared <= max(statements, 1)


def test_a_plan_that_is_no_longer_valid_is_made_anew(loop: Loop, server: Server) -> None:
    db = spawn(loop, server.url, connections=1, pipeline=8)
    other = spawn(loop, server.url, connections=1)
    wait(loop, db, postgres.execute("drop table if exists changing"))
    wait(loop, db, postgres.execute("create table changing (a int)"))
    wait(loop, db, postgres.execute("insert into changing values (1)"))
    select = postgres.query("select * from changing")
    assert wait(loop, db, select) == wait(loop, other, select) == [(1,)]
    wait(loop, db, postgres.execute("alter table changing alter a type text, add b int"))
    assert wait(loop, db, select) == [("1", None)]
    replies = [other.submit(select) for _ in range(5)]
    assert loop.run_until(settle_all(*replies)) == ([("1", None)],) * 5
    assert other.statistics().taken_back >= 1
    wait(loop, db, postgres.execute("deallocate all"))
    assert wait(loop, db, select) == [("1", None)]


def test_columns_that_change_between_two_connections(loop: Loop, server: Server) -> None:
    db = spawn(loop, server.url, connections=2, pipeline=1)
    for statement in ("drop table if exists shifting", "create table shifting (a int)"):
        wait(loop, db, postgres.execute(statement))
    wait(loop, db, postgres.execute("insert into shifting values (7)"))
    select = postgres.query("select * from shifting")
    assert wait(loop, db, select) == [(7,)]
    wait(loop, db, postgres.execute("alter table shifting alter a type bigint"))
    sleeping = db.submit(postgres.execute("select pg_sleep(0.05)"))
    assert wait(loop, db, select) == [(7,)]
    assert wait(loop, db, postgres.query("select * from shifting")) == [(7,)]
    loop.run_until(sleeping)


def test_inside_a_transaction_a_stale_plan_runs_the_body_anew(loop: Loop, server: Server) -> None:
    db = spawn(loop, server.url, connections=1)
    for statement in ("drop table if exists stale", "create table stale (a int)"):
        wait(loop, db, postgres.execute(statement))

    @postgres.transaction
    async def read(tx: postgres.Transaction) -> list[Any]:
        return await tx.query("select * from stale")

    assert wait(loop, db, read()) == []
    wait(loop, db, postgres.execute("alter table stale add b int"))
    wait(loop, db, postgres.execute("insert into stale values (1, 2)"))
    assert wait(loop, db, read()) == [(1, 2)]


def create_weather(ask: Ask) -> None:
    for statement in ("drop table if exists felt", "drop type if exists weather"):
        ask(postgres.execute(statement))
    ask(postgres.execute("create type weather as enum ('calm', 'rough')"))
    ask(postgres.execute("create table felt (weather weather)"))


def test_a_type_that_was_made_anew(loop: Loop, server: Server) -> None:
    db = spawn(loop, server.url, connections=2, pipeline=4)
    insert, values = "insert into felt values ($1)", ["calm", "rough"] * 4
    for _ in range(2):
        create_weather(lambda unit: wait(loop, db, unit))
        replies = [db.submit(postgres.execute(insert, value)) for value in values]
        assert loop.run_until(settle_all(*replies)) == (1,) * len(values)

    @postgres.transaction
    async def feel(tx: postgres.Transaction) -> int:
        return await tx.execute(insert, "calm")

    create_weather(lambda unit: wait(loop, db, unit))
    assert wait(loop, db, feel()) == 1
    with pytest.raises(PostgresError) as failure:
        wait(loop, db, postgres.execute(insert, "seasick"))
    assert failure.value.sqlstate == "22P02"
    wait(loop, db, postgres.execute("drop table felt"))
    with pytest.raises(PostgresError) as failure:
        wait(loop, db, postgres.execute(insert, "calm"))
    assert failure.value.sqlstate == "42P01"


def test_a_parameter_whose_type_has_become_wider(loop: Loop, server: Server) -> None:
    db = spawn(loop, server.url, connections=1, pipeline=4)
    for statement in ("drop table if exists widened", "create table widened (a int)"):
        wait(loop, db, postgres.execute(statement))
    insert = "insert into widened values ($1)"
    assert wait(loop, db, postgres.execute(insert, 1)) == 1
    wait(loop, db, postgres.execute("alter table widened alter a type bigint"))
    assert wait(loop, db, postgres.execute(insert, 1 << 40)) == 1
    assert wait(loop, db, postgres.fetch_value("select max(a) from widened")) == 1 << 40


def test_a_parameter_that_does_not_fit_is_doubted_no_more_than_once_in_a_while(
    loop: Loop, server: Server
) -> None:
    db = spawn(loop, server.url, connections=1, pipeline=4)
    for _ in range(3):
        with pytest.raises(ValueError, match=r"parameter \$1 is integer; 'x' does not fit"):
            wait(loop, db, postgres.fetch_value("select $1::int", "x"))
    assert wait(loop, db, postgres.fetch_value("select $1::int", 7)) == 7
    assert db.statistics().lost == 0


@pytest.mark.parametrize("count", [32_768, 65_535])
def test_as_many_parameters_as_the_protocol_has(ask: Ask, count: int) -> None:
    places = ",".join(f"${number}::int" for number in range(1, count + 1))
    assert ask(postgres.fetch_value(f"select cardinality(array[{places}])", *range(count))) == count


def test_more_parameters_than_the_protocol_has(ask: Ask, db: Pool) -> None:
    places = ",".join(f"${number}::int" for number in range(1, 65_537))
    with pytest.raises(ValueError, match="65536 parameters; the protocol has 65535 at most"):
        ask(postgres.fetch_value(f"select cardinality(array[{places}])", *range(65_536)))
    assert ask(postgres.fetch_value("select 1")) == 1
    assert db.statistics().lost == 0


def test_a_number_that_is_too_large_for_a_real(ask: Ask) -> None:
    with pytest.raises(ValueError, match=r"parameter \$1 is real; 1e\+300 does not fit"):
        ask(postgres.fetch_value("select $1::real", 1e300))


def test_text_stays_utf_8(loop: Loop, server: Server) -> None:
    db = spawn(loop, server.url, connections=1)
    with pytest.raises(BadMessage, match="client_encoding was set to LATIN1"):
        wait(loop, db, postgres.execute("set client_encoding to latin1"))
    assert wait(loop, db, postgres.fetch_value("select length('é')")) == 1


# -- deadlines ------------------------------------------------------------------------------------


def running(server: Server, what: str) -> int:
    sql = f"select count(*) from pg_stat_activity where query like '%{what}%' and state = 'active'"
    out = subprocess.run(
        server.command("-d", "test", "-c", sql + " and pid <> pg_backend_pid()"),
        check=True,
        capture_output=True,
        text=True,
    )
    return int(out.stdout)


def test_a_deadline_in_mid_query_cancels_it_and_discards_the_connection(server: Server) -> None:
    with StillLoop() as loop:
        db = spawn(loop, server.url, connections=1, pipeline=4)
        late = db.submit(postgres.fetch_value("select pg_sleep($1), 'deadline'", 60.0), timeout=20)
        loop.until(lambda: running(server, "''deadline''"))
        loop.advance(21)
        assert isinstance(late.error, DeadlineExceeded)
        assert late.error.stage == "sent"
        after = db.submit(postgres.fetch_value("select 1"))
        loop.until(lambda: after.settled)
        assert after.result() == 1
        assert db.statistics().opened == 2
        loop.until(lambda: not running(server, "''deadline''"))


def test_neighbours_of_a_cancelled_query_get_their_answers(loop: Loop, server: Server) -> None:
    db = spawn(loop, server.url, connections=1, pipeline=8)
    for sql in ("select pg_sleep($1), 'front'", "select $1::int"):
        wait(loop, db, postgres.fetch_value(sql, 0))
    late = db.submit(postgres.fetch_value("select pg_sleep($1), 'front'", 60), timeout=0.2)
    behind = [db.submit(postgres.fetch_value("select $1::int", n), timeout=10) for n in range(5)]
    assert loop.run_until(settle_all(*behind)) == (0, 1, 2, 3, 4)
    assert isinstance(late.error, DeadlineExceeded)
    assert db.statistics().in_flight == 0


def test_a_transaction_past_its_deadline_is_cancelled(loop: Loop, server: Server) -> None:
    db = spawn(loop, server.url, connections=1)

    @postgres.transaction
    async def slow(tx: postgres.Transaction) -> None:
        await tx.execute("select pg_sleep(60), 'held'")

    with pytest.raises(DeadlineExceeded):
        wait(loop, db, slow(), timeout=0.3)
    assert wait(loop, db, postgres.fetch_value("select 1")) == 1
    run_until(loop, lambda: not running(server, "''held''"), seconds=30)


def test_a_cancelled_unit_harms_nobody(loop: Loop, server: Server) -> None:
    db = spawn(loop, server.url, connections=1, pipeline=4)
    wait(loop, db, postgres.fetch_value("select $1::int", 0))
    replies = [db.submit(postgres.fetch_value("select $1::int", n)) for n in range(9)]
    loop.tick(0)
    for reply in replies[::2]:
        reply.cancel()
    assert [loop.run_until(reply) for reply in replies[1::2]] == [1, 3, 5, 7]
    assert db.statistics().opened == 1


# -- what units may not do ------------------------------------------------------------------------


def test_a_unit_that_leaves_a_transaction_open(loop: Loop, server: Server) -> None:
    db = spawn(loop, server.url, connections=1)
    with pytest.raises(LeftOpen, match="transaction open"):
        wait(loop, db, postgres.execute("begin"))
    assert wait(loop, db, postgres.fetch_value("select pg_current_xact_id_if_assigned()")) is None
    assert db.statistics().opened == 2


@pytest.mark.parametrize("sql", ["copy (select 1) to stdout", "copy pg_class from stdin"])
def test_copy_is_no_unit(loop: Loop, server: Server, sql: str) -> None:
    db = spawn(loop, server.url, connections=1)
    with pytest.raises((postgres.BadMessage, PostgresError)):
        wait(loop, db, postgres.execute(sql))
    assert wait(loop, db, postgres.fetch_value("select 1")) == 1


# -- connections that end, or never begin ---------------------------------------------------------


def test_a_killed_backend(loop: Loop, server: Server) -> None:
    db = spawn(loop, server.url, connections=1)
    other = spawn(loop, server.url, connections=1)
    pid = wait(loop, db, postgres.fetch_value("select pg_backend_pid()"))
    kill = postgres.fetch_value("select pg_terminate_backend($1, 2000)", pid)
    assert wait(loop, other, kill) is True
    pid = wait(loop, db, postgres.fetch_value("select pg_backend_pid()"))
    lost = db.submit(postgres.fetch_value("select pg_sleep(30), 'killed'"))
    run_until(loop, lambda: running(server, "''killed''"))
    wait(loop, other, postgres.fetch_value("select pg_terminate_backend($1, 2000)", pid))
    with pytest.raises(ConnectionLost, match="may have been executed") as caught:
        loop.run_until(lost)
    assert isinstance(caught.value.__cause__, PostgresError)
    pid = wait(loop, db, postgres.fetch_value("select pg_backend_pid()"))
    with psycopg.connect(server.url) as connection:
        connection.execute("select pg_advisory_xact_lock(77)")
        again = db.submit(postgres.fetch_value("select pg_advisory_xact_lock(77), 'again'", idempotent=True))
        run_until(loop, lambda: running(server, "''again''"))
        wait(loop, other, postgres.fetch_value("select pg_terminate_backend($1, 2000)", pid))
    assert loop.run_until(again) is None
    assert db.statistics().retried == 1


@pytest.mark.parametrize("who", ["scram", "hashed"])
def test_passwords(loop: Loop, server: Server, who: str) -> None:
    db = spawn(loop, server.url_of(who), password=PASSWORD, connections=3, pipeline=1)
    replies = [db.submit(postgres.fetch_value("select current_user::text, pg_sleep(0.01)")) for _ in range(6)]
    assert loop.run_until(settle_all(*replies)) == (who,) * 6


@pytest.mark.parametrize(
    ("who", "database", "options", "text"),
    [
        ("scram", "test", {"password": "wrong"}, "check the password of 'scram'"),
        ("scram", "test", {}, "the pool has none"),
        ("hashed", "test", {"password": "wrong"}, "28P01"),
        ("clear", "test", {"password": PASSWORD}, "sslmode=verify-full"),
        ("postgres", "nowhere", {}, 'database "nowhere" does not exist'),
        ("postgres", "test", {"settings": {"nonsense": "1"}}, "nonsense"),
        ("postgres", "test?sslmode=require", {}, "does not support TLS"),
    ],
)
def test_what_is_wrong_is_told_once(
    loop: Loop, server: Server, who: str, database: str, options: dict[str, Any], text: str
) -> None:
    with capture_logs() as logs:
        db = spawn(loop, server.url_of(who, database), **options)
        replies = [db.submit(postgres.fetch_value("select 1"), timeout=5) for _ in range(50)]
        for answer in loop.run_until(settle_all(*replies)):
            assert isinstance(answer, BackendDown)
            assert text in str(answer)
    assert len(logs) == 1
    assert text in logs[0]["error"]


class Speaks(StreamProtocol):
    """A server of another kind."""

    def __init__(self, greeting: bytes) -> None:
        self.greeting = greeting

    def received(self, transport: Transport) -> Outcome:
        transport.input = b""
        transport.write(self.greeting)
        return Continue(self, ANYTHING)


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"-ERR unknown command\r\n",
        b"Z\0\0\0\5I",
        b"R\0\0\0\x08\0\0\0\x07",
    ],
)
def test_not_a_postgresql_server(loop: Loop, greeting: bytes) -> None:
    listener = loop.spawn(Listener("127.0.0.1:0", lambda: Speaks(greeting)))
    db = spawn(loop, f"postgresql://me@{listener.address}/test")
    with pytest.raises(BackendDown, match=r"PostgreSQL server|is not known here"):
        wait(loop, db, postgres.fetch_value("select 1"))


def test_nobody_there(loop: Loop, free_port: Callable[[], int]) -> None:
    db = spawn(loop, f"postgresql://me@127.0.0.1:{free_port()}/test")
    with pytest.raises(BackendDown, match="refused"):
        wait(loop, db, postgres.fetch_value("select 1"))


def test_over_a_unix_socket(loop: Loop, server: Server) -> None:
    db = spawn(loop, f"postgresql://postgres@:{server.port}/test?host={server.folder}&application_name=tests")
    assert wait(loop, db, postgres.fetch_value("show application_name")) == "tests"


def test_settings_reach_the_session(loop: Loop, server: Server) -> None:
    db = spawn(loop, server.url, settings={"statement_timeout": 100})
    with pytest.raises(PostgresError, match="57014"):
        wait(loop, db, postgres.fetch_value("select pg_sleep(9)"))


def test_notices_and_notifications_are_let_by(loop: Loop, server: Server) -> None:
    db = spawn(loop, server.url, connections=1)
    wait(loop, db, postgres.execute("listen news"))
    wait(loop, db, postgres.execute("do $$ begin raise notice 'hello'; end $$"))
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("notify news, 'today'")
    for _ in range(5):
        loop.tick(0.01)
    wait(loop, db, postgres.execute("set timezone = 'Europe/Paris'"))
    assert db.statistics().opened == 1


def test_the_end_is_said(loop: Loop, server: Server) -> None:
    db = spawn(loop, server.url, connections=1, idle_timeout=0.01)
    wait(loop, db, postgres.fetch_value("select 1"))
    run_until(loop, lambda: db.statistics().connections == 0)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://127.0.0.1/test", "postgresql://user:password"),
        ("mysql://me:secret@127.0.0.1/test", "me:…@"),
        ("postgresql://127.0.0.1:99999/test", "port"),
        ("postgresql://127.0.0.1/test?sslmode=maybe", "verify-full"),
        ("postgresql://127.0.0.1/test?nonsense=1", "nonsense"),
        ("postgresql://me:[secret@127.0.0.1/test", "me:…@127.0.0.1/test' cannot be read; percent-encode"),
        ("postgresql://me:a/b@127.0.0.1/test", "percent-encode"),
        ("postgresql://127.0.0.1/test?options=&client_encoding=latin1", "client_encoding"),
    ],
)
def test_urls_that_are_none(url: str, text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        postgres.pool(url)
    assert "secret" not in str(caught.value)


def test_options_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        postgres.pool("postgresql://127.0.0.1/test", statements=-1)
    with pytest.raises(ValueError, match="1 or more"):
        postgres.pool("postgresql://127.0.0.1/test", result_bytes=0)
    with pytest.raises(ValueError, match="omit one of them"):
        postgres.pool("postgresql://127.0.0.1/test?sslmode=disable", tls=ssl.create_default_context())
