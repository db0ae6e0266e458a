"""A PostgreSQL to measure against: made anew in a temporary folder, on the load's core, gone after it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.machine import LOAD_CORES, run_on
from benchmarks.servers import Absent, free_port

__all__ = ["ROWS", "postgres"]

START_SECONDS_MAX = 15.0
ROWS = 1000
SET_UP = f"""
create table item (id int primary key, name text not null, price int not null, added timestamptz not null);
insert into item select i, 'item ' || i, i * 7, '2024-01-01'::timestamptz + i * interval '1 hour'
  from generate_series(0, {ROWS - 1}) i;
analyze item;
"""
SETTINGS = ("fsync=off", "max_connections=50", "listen_addresses=127.0.0.1", "unix_socket_directories=")


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a running server with the table `item` in it. Raises `Absent`."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        raise Absent("postgres is not installed: apt-get install postgresql")
    programs = found[-1]
    folder = Path(tempfile.mkdtemp(prefix="windlass-bench-pg-"))
    who: dict[str, Any] = {"cwd": folder, "stdin": subprocess.DEVNULL}
    if not os.geteuid():  # the server refuses to be run by root
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        who |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    port = free_port()
    psql = [programs / "psql", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-qAt"]
    server = None
    try:
        initdb = [programs / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-N"]
        subprocess.run([*initdb, "-E", "UTF8", "--locale=C"], check=True, capture_output=True, **who)
        settings = [word for setting in SETTINGS for word in ("-c", setting)]
        with run_on(LOAD_CORES), (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", folder / "data", "-p", str(port), *settings],
                stdout=log,
                stderr=log,
                **who,
            )
        until = time.monotonic() + START_SECONDS_MAX
        while subprocess.run([*psql, "-c", "select 1"], capture_output=True, check=False).returncode:
            if server.poll() is not None or time.monotonic() > until:
                raise Absent(f"postgres did not start: {(folder / 'log').read_text()[-200:]}")
            time.sleep(0.05)
        subprocess.run([*psql, "-c", SET_UP], check=True, capture_output=True)
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        if server is not None:
            server.send_signal(2)  # fast shutdown
            server.wait(START_SECONDS_MAX)
        shutil.rmtree(folder, ignore_errors=True)
