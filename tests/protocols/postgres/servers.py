"""A real PostgreSQL, run without privileges from a temporary folder on a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

START_SECONDS_MAX = 20.0
PASSWORD = "corr ect:horse@battery/ståple"
CONFIG = """
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 120
listen_addresses = '127.0.0.1'
shared_buffers = 32MB
log_min_messages = fatal
timezone = 'UTC'
"""
HBA = """
local all postgres trust
local replication postgres trust
host all postgres 127.0.0.1/32 trust
host all scram 127.0.0.1/32 scram-sha-256
host all hashed 127.0.0.1/32 md5
host all clear 127.0.0.1/32 password
host all all 127.0.0.1/32 trust
"""
SET_UP = f"""
create role scram login password '{PASSWORD}';
create role clear login password '{PASSWORD}';
set password_encryption = 'md5';
create role hashed login password '{PASSWORD}';
create database test;
"""


@dataclass(frozen=True)
class Server:
    """A running server. `url` is the superuser's, of the database `test`."""

    port: int
    folder: Path
    command: Callable[..., list[str]]

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, who: str, database: str = "test") -> str:
        return f"postgresql://{who}@127.0.0.1:{self.port}/{database}"


def find_programs() -> Path:
    """Where initdb and postgres are; Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    path = shutil.which("initdb")
    if path is None:
        missing = "postgresql is not installed; to run this test: apt-get install postgresql"
        if os.environ.get("WINDLASS_REQUIRE_SERVERS") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return Path(path).resolve().parent


def as_user(folder: Path) -> dict[str, Any]:
    """The server refuses to run as root: who runs it instead."""
    if os.geteuid():
        return {}
    user = pwd.getpwnam(
        "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"
    )
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def running_server() -> Iterator[Server]:
    """PostgreSQL, set up and running."""
    programs = find_programs()
    folder = Path(tempfile.mkdtemp(prefix="windlass-pg-"))
    user = as_user(folder)
    data = folder / "data"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "cwd": folder, **user}
    process = None
    try:
        subprocess.run(
            [
                programs / "initdb",
                "-D",
                data,
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "-N",
                "--locale=C",
            ],
            check=True,
            capture_output=True,
            **quiet,
        )
        with (data / "postgresql.conf").open("a") as config:
            config.write(CONFIG + f"unix_socket_directories = '{folder}'\n")
        (data / "pg_hba.conf").write_text(HBA)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [programs / "postgres", "-D", data, "-p", str(port)], stdout=log, stderr=log, **quiet
            )
        if not accepts(programs, port, process):
            pytest.fail(f"postgres did not start: {(folder / 'log').read_text()}")
        psql = [str(programs / "psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-qAt"]
        for statement in SET_UP.strip().splitlines():
            before = "set password_encryption = 'md5'; " if "hashed" in statement else ""
            subprocess.run([*psql, "-c", before + statement], check=True, capture_output=True, cwd=folder)
        yield Server(port, folder, lambda *arguments: [*psql, *arguments])
    finally:
        if process is not None:
            process.send_signal(2)  # fast shutdown
            process.wait(START_SECONDS_MAX)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_standby(primary: Server) -> Iterator[Server]:
    """A copy of it that is in recovery: a hot standby, which answers and takes no writes."""
    programs = find_programs()
    folder = Path(tempfile.mkdtemp(prefix="windlass-pg-"))
    user = as_user(folder)
    data = folder / "data"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    source = ["-h", str(primary.folder), "-p", str(primary.port), "-U", "postgres"]
    process = None
    try:
        subprocess.run(
            [programs / "pg_basebackup", *source, "-D", data, "-R", "-X", "stream", "-c", "fast"],
            check=True,
            capture_output=True,
            cwd=folder,
            **user,
        )
        with (data / "postgresql.conf").open("a") as config:
            config.write(f"unix_socket_directories = '{folder}'\n")
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [programs / "postgres", "-D", data, "-p", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                **user,
            )
        if not accepts(programs, port, process):
            pytest.fail(f"the standby did not start: {(folder / 'log').read_text()}")
        yield Server(port, folder, primary.command)
    finally:
        if process is not None:
            process.send_signal(3)  # at once
            process.wait(START_SECONDS_MAX)
        shutil.rmtree(folder, ignore_errors=True)


def accepts(programs: Path, port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the server takes connections."""
    pause = threading.Event()
    ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    for _ in range(int(START_SECONDS_MAX / 0.05)):
        if process.poll() is not None:
            return False
        if subprocess.run(ready, check=False).returncode == 0:
            return True
        pause.wait(0.05)
    return False
