"""Load: `wrk` for requests, a small client of our own for idle connections. Always on the load's cores."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contest import Sample
from benchmarks.machine import LOAD_CORES, ROOT, run_on
from benchmarks.servers import Absent, Server, program

__all__ = ["cpu_per_request", "idle_connections", "wrk"]

CLIENTS = Path(__file__).resolve().parent / "clients"
CONNECTIONS = 64


def wrk(url: str, seconds: float, *, pipelined: bool = False) -> tuple[int, float]:
    """Drive 64 connections for a while; return the answers and the seconds. Raises `Absent` if any fails."""
    command = [
        *(program("wrk", "apt-get install wrk"), "--threads=1", f"--connections={CONNECTIONS}"),
        *(f"--duration={max(1, round(seconds))}s", "--timeout=5s", url),
        *((f"--script={CLIENTS / 'pipeline.lua'}",) if pipelined else ()),
    ]
    with run_on(LOAD_CORES):
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 30)
    done = re.search(r"(\d+) requests in ([\d.]+)s", said.stdout)
    failed = re.search(r"(Socket errors|Non-2xx).*", said.stdout)
    if not done or not int(done[1]) or failed:
        raise Absent(f"wrk: {failed[0] if failed else (said.stderr.strip() or 'no request was answered')}")
    return int(done[1]), float(done[2])


def cpu_per_request(server: Server, seconds: float, *, pipelined: bool = False) -> Sample:
    """CPU time of the server per request, in microseconds, with its user part and the requests per second."""
    before = server.cpu()
    requests, elapsed = wrk(server.url + "/", seconds, pipelined=pipelined)
    after = server.cpu()
    user = (after.user - before.user) / requests * 1e6
    system = (after.system - before.system) / requests * 1e6
    return {"value": user + system, "user": user, "requests_per_second": requests / elapsed}


@contextmanager
def idle_connections(server: Server, count: int) -> Iterator[None]:
    """Hold connections that have each been answered once. Raises `Absent` if the server closes any."""
    command = [sys.executable, "-m", "benchmarks.clients.idle", str(server.port), str(count)]
    pipe = subprocess.PIPE
    with run_on(LOAD_CORES):
        client = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert client.stdin
    assert client.stdout
    assert client.stderr
    with client:
        try:
            if client.stdout.readline() != "ready\n":
                raise Absent(f"{count} connections: {client.stderr.read().strip().splitlines()[-1:]}")
            yield
            client.stdin.write("check\n")
            client.stdin.flush()
            if (left := client.stdout.readline().strip()) != str(count):
                raise Absent(f"it closed idle connections: {left} of {count} were left")
        finally:
            client.kill()
