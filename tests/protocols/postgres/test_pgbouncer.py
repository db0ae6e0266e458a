"""Through PgBouncer in transaction mode, where each unit may meet another server."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from actors import Loop, settle_all
from pools import Cancelled, DeadlineExceeded
from protocols import postgres
from tests.protocols.postgres.servers import Server, as_user
from tests.still_time import StillLoop

CONFIG = """
[databases]
test = host=127.0.0.1 port={server} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
logfile =
pidfile =
"""


@pytest.fixture
def bouncer(server: Server, require_program: Callable[[str, str], str]) -> Iterator[int]:
    """The port of a running PgBouncer with three servers behind it."""
    program = require_program("pgbouncer", "apt-get install pgbouncer")
    folder = Path(tempfile.mkdtemp(prefix="windlass-pgbouncer-"))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    user = as_user(folder)
    (folder / "ini").write_text(CONFIG.format(server=server.port, port=port))
    process = subprocess.Popen(
        [program, "-q", folder / "ini"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **user,
    )
    try:
        pause = threading.Event()
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
                break
            except OSError:
                assert process.poll() is None
                pause.wait(0.01)
        yield port
    finally:
        process.terminate()
        process.wait(10.0)
        shutil.rmtree(folder, ignore_errors=True)


@postgres.transaction
async def twice(tx: postgres.Transaction, number: int) -> tuple[int, bool]:
    """Both exchanges meet the same server."""
    first = await tx.fetch_value("select pg_backend_pid()")
    value = await tx.fetch_value("select $1::int * 2", number)
    return value, first == await tx.fetch_value("select pg_backend_pid()")


@pytest.mark.parametrize("pipeline", [1, 8])
def test_units_and_transactions(loop: Loop, bouncer: int, pipeline: int) -> None:
    url = f"postgresql://postgres@127.0.0.1:{bouncer}/test"
    db = loop.spawn(postgres.pool(url, connections=8, pipeline=pipeline, statements=0))
    replies = [db.submit(postgres.fetch_one("select $1::int, $2::text", n, f"é{n}")) for n in range(200)]
    assert [*loop.run_until(settle_all(*replies))] == [(n, f"é{n}") for n in range(200)]
    held = [db.submit(twice(n)) for n in range(50)]
    assert [*loop.run_until(settle_all(*held))] == [(2 * n, True) for n in range(50)]
    failing = [db.submit(postgres.fetch_value("select 6 / $1::int", n % 2)) for n in range(20)]
    answers = [*loop.run_until(settle_all(*failing))]
    assert [answer for answer in answers if not isinstance(answer, postgres.PostgresError)] == [6] * 10


def test_copies(loop: Loop, bouncer: int) -> None:
    url = f"postgresql://postgres@127.0.0.1:{bouncer}/test"
    db = loop.spawn(postgres.pool(url, connections=4, statements=0))

    async def copy() -> list[tuple[int]]:
        await db.submit(postgres.execute("drop table if exists bounced"))
        await db.submit(postgres.execute("create table bounced (id int)"))
        copies = [db.submit(postgres.copy_in("bounced", b"%d\n" % n)) for n in range(20)]
        copies += [db.submit(postgres.copy_in_records("bounced", [(n,)])) for n in range(20, 40)]
        failing = db.submit(postgres.copy_in("bounced", b"x\n"))
        assert [await reply for reply in copies] == [1] * 40
        with pytest.raises(postgres.PostgresError, match="22P02"):
            await failing
        stream = await db.submit(postgres.copy_out_records("select id from bounced order by id"))
        return [record async for batch in stream for record in batch]

    assert loop.run_until(loop.spawn(copy())) == [(n,) for n in range(40)]


def of_bouncer(port: int) -> str:
    return f"postgresql://postgres@127.0.0.1:{port}/test"


def test_with_the_default_options_nobody_executes_what_another_has_prepared(
    loop: Loop, server: Server, bouncer: int
) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("drop table if exists kept")
        connection.execute("create table kept as select n from generate_series(1, 200) n")
    with capture_logs() as logs:
        reads, deletes = (
            loop.spawn(postgres.pool(of_bouncer(bouncer), connections=4, pipeline=4, name=name))
            for name in ("reads", "deletes")
        )
        for turn in range(20):
            units: list[Any] = [
                reads.submit(postgres.fetch_value("select count(*) from kept where n <= $1", n), timeout=30)
                for n in range(1, 9)
            ]
            units += [
                deletes.submit(postgres.execute("delete from kept where n = $1", 101 + turn), timeout=30),
                deletes.submit(twice(turn), timeout=30),
                reads.submit(with_cursor(turn), timeout=30),
            ]
            found = [*loop.run_until(settle_all(*units))]
            assert found == [*range(1, 9), 1, (2 * turn, True), [(turn, 2.5), (turn + 1, 2.5)]]
    assert loop.run_until(reads.submit(postgres.fetch_value("select count(*) from kept"))) == 180
    said = [entry for entry in logs if entry["event"] == "statements vanish"]
    assert sorted(entry["pool"] for entry in said) in (["deletes"], ["deletes", "reads"], ["reads"])
    assert all("Write statements=0" in entry["why"] for entry in said)


@postgres.transaction
async def with_cursor(tx: postgres.Transaction, number: int) -> list[tuple[Any, ...]]:
    """What is described by its portal, behind a pooler."""
    await tx.execute(f"declare cur cursor for select n, 2.5::float8 from generate_series({number}, 1000) n")
    return await tx.query("fetch 2 from cur")


@pytest.mark.parametrize("how", ["deadline", "cancel", "copy"])
def test_a_cancel_arrives(server: Server, bouncer: int, how: str) -> None:
    sql = f"select pg_sleep(600), 'through the bouncer {how}'"

    def active() -> int:
        with psycopg.connect(server.url, autocommit=True) as connection:
            row = connection.execute(
                "select count(*) from pg_stat_activity where query like %s and state = 'active' "
                "and pid <> pg_backend_pid()",
                (f"%through the bouncer {how}%",),
            ).fetchone()
        assert row is not None
        return int(row[0])

    unit: Any = postgres.copy_out(f"copy ({sql}) to stdout") if how == "copy" else postgres.query(sql)
    with StillLoop() as loop:
        db = loop.spawn(postgres.pool(of_bouncer(bouncer), connections=2, statements=0))
        for _ in range(3):
            replies = [db.submit(unit, timeout=20) for _ in range(2)]
            loop.until(lambda: active() == 2)
            if how == "cancel":
                for reply in replies:
                    reply.cancel()
                loop.advance(0.2)
            else:
                loop.advance(21)
            assert {type(reply.error) for reply in replies} == {
                Cancelled if how == "cancel" else DeadlineExceeded
            }
            loop.until(lambda: active() == 0, step=0.01)
        last = db.submit(postgres.fetch_value("select 1"))
        loop.until(lambda: last.settled)
        assert last.result() == 1
