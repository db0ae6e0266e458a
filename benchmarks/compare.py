"""`python -m benchmarks.compare COMMIT`: what each job costs here and at another commit, in instructions.

CPU time on a shared machine tells a change of a few percent only after many quiet rounds; instructions are
the same however busy it is. They are counted for a number of operations and for twice as many; the
difference, divided, is what one operation costs, without the start. The kernel's part is not in it, nor what
caches make of the code: for a comparison with peers there is `python -m benchmarks`.

Both versions are driven by the programs of this one. `memory` is in bytes per idle connection.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from compileall import compile_dir
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.clients.counted import ask
from benchmarks.counting import Counter
from benchmarks.jobs.redis import redis_server
from benchmarks.kafka import kafka
from benchmarks.load import idle_connections
from benchmarks.machine import LOAD_CORES, ROOT, raise_descriptor_limit
from benchmarks.peers.configured import nginx_hello
from benchmarks.postgres import postgres
from benchmarks.programs import microseconds
from benchmarks.servers import Absent, Server

__all__ = ["MEASURES", "main"]

PACKAGES = ("actors", "pools", "protocols", "windlass", "examples")
IDLE = 4000
SETTLE_SECONDS = 0.3
CONSUMED = 50_000
AHEAD = 20_000  # messages that are fetched before the last one is read

Price = Callable[[Path, Counter, str], float]
"""What one operation costs the version in a folder, beside a server with this address."""


def programs(module: str, *arguments: str, count: int) -> Price:
    """Of a program that takes, as its last argument, how many operations; ADDRESS is the server's."""

    def run(counter: Counter, address: str, count: int) -> int:
        given = [word.replace("ADDRESS", address) for word in arguments]
        return counter.of_program(module, *given, count)

    def price(folder: Path, counter: Counter, address: str) -> float:
        return (run(counter, address, 2 * count) - run(counter, address, count)) / count

    return price


def servers(module: str, *arguments: str, count: int, pipelined: int = 1) -> Price:
    """Of a server that is started with these arguments; ADDRESS is its backend's."""

    def run(counter: Counter, address: str, count: int) -> int:
        given = [word.replace("ADDRESS", address) for word in arguments]
        return counter.of_server(lambda port: ask(port, count, pipelined=pipelined), module, *given)

    def price(folder: Path, counter: Counter, address: str) -> float:
        return (run(counter, address, 2 * count) - run(counter, address, count)) / count

    return price


def less(whole: Price, part: Price) -> Price:
    """Of what one does besides the other."""
    return lambda folder, counter, address: whole(folder, counter, address) - part(folder, counter, address)


def memory(folder: Path, counter: Counter, address: str) -> float:
    """Bytes per idle connection, not counted but looked at."""

    def start(port: int) -> Sequence[str]:
        listen = f"127.0.0.1:{port}"
        return ["env", f"PYTHONPATH={folder}", sys.executable, "-m", "examples.hello", "--listen", listen]

    with Server("hello", start) as server:
        ask(server.port, 1024)
        time.sleep(SETTLE_SECONDS)
        before = server.resident_bytes()
        with idle_connections(server, IDLE):
            time.sleep(SETTLE_SECONDS)
            return (server.resident_bytes() - before) / IDLE


def _proxy(connections: int, pipeline: int) -> Price:
    backend = ("--listen", "127.0.0.1:PORT", "--backend", "http://127.0.0.1:ADDRESS")
    size = ("--connections", str(connections), "--pipeline", str(pipeline))
    now = servers("windlass", "proxy", *backend, *size, count=3200)
    before = servers("protocols.command", "proxy", *backend, *size, count=3200)

    def price(folder: Path, counter: Counter, address: str) -> float:
        return (now if (folder / "windlass").is_dir() else before)(folder, counter, address)

    return price


# -- what stands around a job --------------------------------------------------------------------------------


@contextmanager
def nothing() -> Iterator[str]:
    """For jobs that need no server."""
    yield ""


@contextmanager
def redis() -> Iterator[str]:
    """The port of a Redis."""
    with Server("redis-server", redis_server, LOAD_CORES) as server:
        yield str(server.port)


@contextmanager
def backend() -> Iterator[str]:
    """The port of an nginx that says hello."""
    with Server("backend", nginx_hello, LOAD_CORES) as server:
        yield str(server.port)


@contextmanager
def broker() -> Iterator[str]:
    """The port of a Kafka with messages to read."""
    with kafka() as port:
        microseconds("benchmarks.own.kafka", "stream", "loop", port, 2 * CONSUMED + AHEAD)
        yield str(port)


HELLO = partial(servers, "examples.hello", "--listen", "127.0.0.1:PORT")
REDIS = partial(programs, "benchmarks.own.redis")
POSTGRES = partial(programs, "benchmarks.own.postgres", "ADDRESS")
PRODUCE = partial(programs, "benchmarks.own.kafka")
TIMERS = partial(programs, "benchmarks.own.timers")
CONSUME = partial(programs, "benchmarks.own.kafka_consume")
CLIENT = partial(programs, "benchmarks.own.http_client")

MEASURES: Mapping[str, tuple[Callable[[], AbstractContextManager[str]], Price]] = {
    "hello": (nothing, HELLO(count=6400)),
    "pipelined": (nothing, HELLO(count=10_240, pipelined=16)),
    "proxy-2x64": (backend, _proxy(2, 64)),
    "proxy-64x1": (backend, _proxy(64, 1)),
    "memory": (nothing, memory),
    "ask-machine": (nothing, programs("benchmarks.own.ask", "machine", count=6000)),
    "ask-flow": (nothing, programs("benchmarks.own.ask", "flow", count=6000)),
    "timers": (nothing, less(TIMERS("moving", count=10_000), TIMERS("idle", count=10_000))),
    "await-settled": (nothing, programs("benchmarks.own.local_await", "settled", count=10_000)),
    "await-pending": (nothing, programs("benchmarks.own.local_await", "pending", count=6000)),
    "redis": (redis, REDIS("loop", "ADDRESS", count=6400)),
    "redis-asyncio": (redis, REDIS("asyncio", "ADDRESS", count=6400)),
    "postgres-key": (postgres, POSTGRES("key", "loop", count=3200)),
    "postgres-key-asyncio": (postgres, POSTGRES("key", "asyncio", count=3200)),
    "postgres-fixed": (postgres, POSTGRES("fixed", "asyncio", count=20)),
    "postgres-mixed": (postgres, POSTGRES("mixed", "asyncio", count=10)),
    "kafka-produce": (broker, PRODUCE("stream", "loop", "ADDRESS", count=20_000)),
    "kafka-produce-asyncio": (broker, PRODUCE("stream", "asyncio", "ADDRESS", count=20_000)),
    "kafka-callers": (broker, PRODUCE("callers", "loop", "ADDRESS", count=3200)),
    "kafka-callers-asyncio": (broker, PRODUCE("callers", "asyncio", "ADDRESS", count=3200)),
    "kafka-consume": (broker, CONSUME("one", "asyncio", "ADDRESS", count=CONSUMED)),
    "kafka-consume-many": (broker, CONSUME("many", "asyncio", "ADDRESS", count=CONSUMED)),
    "asyncio-32x1": (backend, CLIENT("asyncio", "ADDRESS", "inf", "1", count=3200)),
    "asyncio-1x32": (backend, CLIENT("asyncio", "ADDRESS", "inf", "32", count=3200)),
    "threads-32x1": (backend, CLIENT("threads", "ADDRESS", "inf", "1", count=1600)),
    "threads-1x32": (backend, CLIENT("threads", "ADDRESS", "inf", "32", count=1600)),
}


def git(*arguments: str) -> bytes:
    """What git says. Raises `Absent` with its words if it fails."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise Absent(done.stderr.decode().strip())
    return done.stdout


@contextmanager
def version(commit: str | None) -> Iterator[Path]:
    """A folder with the packages as they are here, at a commit or in another folder, and with these
    benchmarks."""
    with tempfile.TemporaryDirectory(prefix="windlass-compare-") as name:
        folder = Path(name)
        source = ROOT if commit is None else Path(commit)
        if source.is_dir():
            for package in PACKAGES:
                if (source / package).is_dir():  # an older version may lack one
                    shutil.copytree(source / package, folder / package)
        else:
            there = git("ls-tree", "--name-only", str(commit), *PACKAGES).decode().split()
            subprocess.run(["tar", "-x", "-C", name], input=git("archive", str(commit), *there), check=True)
        (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
        compile_dir(name, maxlevels=20, quiet=2)  # not in the first of two runs, whose difference counts
        yield folder


def main() -> int:
    """Measure and show; the status says whether something costs more than is allowed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description="Instructions per operation, here and elsewhere."
    )
    parser.add_argument("commit", nargs="?", help="a commit or a folder to compare with")
    parser.add_argument(
        "--only", default=",".join(MEASURES), help=f"with commas between: {','.join(MEASURES)}"
    )
    parser.add_argument("--worse", type=float, default=3.0, help="percent that are allowed (default 3)")
    given = parser.parse_args()
    wanted = given.only.split(",")
    if unknown := set(wanted) - set(MEASURES):
        parser.error(f"no such job: {', '.join(sorted(unknown))}; there are: {', '.join(MEASURES)}")
    raise_descriptor_limit()
    worse = False
    with ExitStack() as stack:
        folders = [stack.enter_context(version(commit)) for commit in [given.commit] if commit]
        folders.append(stack.enter_context(version(None)))
        counters = [(folder, stack.enter_context(Counter(folder))) for folder in folders]
        print(f"{'job':24}" + "".join(f"{what:>12}" for what in ["before"] * (len(folders) - 1) + ["now"]))
        for name in wanted:
            surroundings, price = MEASURES[name]
            try:
                with surroundings() as address:
                    prices = [price(folder, counter, address) for folder, counter in counters]
            except Absent as reason:
                print(f"{name:24} not measured: {reason}", flush=True)
                continue
            change = (prices[-1] / prices[0] - 1) * 100
            shown = f"{change:+10.1f} %" if given.commit else ""
            print(f"{name:24}" + "".join(f"{price:12,.0f}" for price in prices) + shown, flush=True)
            worse |= change > given.worse
    return int(worse)


if __name__ == "__main__":
    sys.exit(main())
