"""Through PgBouncer in transaction mode, where each unit may meet another server: nothing stays prepared."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors import Loop, settle_all
from protocols import postgres
from tests.protocols.postgres.servers import Server, as_user

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
    assert loop.run_until(settle_all(*replies)) == tuple((n, f"é{n}") for n in range(200))
    held = [db.submit(twice(n)) for n in range(50)]
    assert loop.run_until(settle_all(*held)) == tuple((2 * n, True) for n in range(50))
    failing = [db.submit(postgres.fetch_value("select 6 / $1::int", n % 2)) for n in range(20)]
    answers = loop.run_until(settle_all(*failing))
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
