"""Workers under load: one that is killed fails what it was answering and nothing else, replacing none."""

from __future__ import annotations

import os
import queue
import random
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from actors import ANYTHING, Continue, Loop, Outcome, Stop, Stream, StreamProtocol, TcpAddress, Transport
from tests.actors.workers_harness import Service

CONNECTIONS = 32
MILESTONES = 12  # at each of them something is done to the workers
SECONDS_MAX = 300.0


class Load:
    """`count` requests over `CONNECTIONS` connections, half of which are new for each request."""

    def __init__(self, port: int, count: int) -> None:
        self.address = TcpAddress("127.0.0.1", port)
        self.left = self.count = count
        self.answered = 0
        self.pids: set[int] = set()
        self.failures: list[int | None] = []  # who had answered that connection before; None: nobody yet
        self.refused: list[OSError] = []
        self.milestones: queue.Queue[int] = queue.Queue()
        self.loop: Loop | None = None

    def run(self) -> None:
        """In a thread of its own."""
        with Loop() as self.loop:
            for number in range(CONNECTIONS):
                self.dial(number % 2 == 0)
            self.loop.run(signals=False)
        self.milestones.put(0)

    def dial(self, keep: bool) -> None:
        """Another connection, unless all is done."""
        assert self.loop is not None
        if self.left:
            try:
                sock, _ = self.loop.kernel.connect(self.address)
            except OSError as error:
                self.refused.append(error)
                return
            self.loop.spawn(Stream(sock, Asker(self, keep)))

    def answer(self, pid: int) -> None:
        """One more."""
        self.answered += 1
        self.pids.add(pid)
        if self.answered % (self.count // MILESTONES) == 0:
            self.milestones.put(self.answered)


class Asker(StreamProtocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, load: Load, keep: bool) -> None:
        self.load = load
        self.keep = keep
        self.pid: int | None = None
        self.asking = False

    def connected(self, transport: Transport) -> Outcome:
        """Ask at once."""
        return self.ask(transport)

    def ask(self, transport: Transport) -> Outcome:
        """The next request, if one is left."""
        if not self.load.left:
            return Stop()
        self.load.left -= 1
        self.asking = True
        transport.write(
            b"GET / HTTP/1.1\r\nHost: a\r\n%s\r\n" % (b"" if self.keep else b"Connection: close\r\n")
        )
        return Continue(self, ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        """An answer, or a part of it."""
        head, separator, body = bytes(transport.input).partition(b"\r\n\r\n")
        length = (
            int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 1) if separator else 1
        )
        if len(body) < length:
            return Continue(self, ANYTHING)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert len(body) == length
        transport.consume(len(transport.input))
        self.asking = False
        assert self.pid in (None, int(body)), "another process answers on the same connection"
        self.pid = int(body)
        self.load.answer(self.pid)
        return Stop() if b"\r\nconnection: close" in head.lower() else self.ask(transport)

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """Lost while it was asking, or closed in good order."""
        if self.asking:
            self.load.failures.append(self.pid)
        self.load.dial(self.keep)


@pytest.fixture
def service() -> Iterator[Service]:
    """Two workers that may die as often as it takes."""
    with Service(workers=2, restarts_max=1000) as two:
        yield two.ready()


def drive(service: Service, count: int, act: Callable[[], None]) -> Load:
    """Run the load, and `act` at each milestone but the last ones."""
    load = Load(service.port, count)
    with ThreadPoolExecutor(1) as thread:
        running: Future[None] = thread.submit(load.run)
        while load.milestones.get(timeout=SECONDS_MAX):
            if load.left > count // MILESTONES:
                act()
        running.result(SECONDS_MAX)
    assert not load.refused
    assert load.answered + len(load.failures) == count
    return load


def test_a_killed_worker_fails_only_what_it_was_answering(
    service: Service, full_size: bool, rng: random.Random
) -> None:
    count = 200_000 if full_size else 6_000
    living = {line["worker"]: line["pid"] for line in service.seen if line["event"] == "worker ready"}
    killed: set[int | None] = set()

    def kill() -> None:
        number = rng.choice(sorted(living))
        killed.add(living[number])
        os.kill(living[number], signal.SIGKILL)
        assert service.event("worker died")["reason"] == "killed by SIGKILL"
        living[number] = service.event("worker ready", worker=number)["pid"]

    load = drive(service, count, kill)
    assert len(killed) >= (MILESTONES // 2 if full_size else 1)
    # Who had never been answered had just connected, and was accepted by the one that died.
    assert set(load.failures) <= killed | {None}
    assert len(load.failures) <= CONNECTIONS * len(killed)
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    told = service.report()
    assert told["died"] == len(killed)
    unknown = load.failures.count(None)
    print(  # noqa: T201
        f"{count} requests, {len(killed)} workers killed: {load.answered} answered, {len(load.failures)} "
        f"were in flight on a killed worker and failed ({unknown} of them the first of their connection), "
        "0 others"
    )


def test_replacing_fails_nobody(service: Service, full_size: bool) -> None:
    count = 200_000 if full_size else 6_000
    replaced = 0

    def replace() -> None:
        nonlocal replaced
        service.signal(signal.SIGHUP)
        for _ in range(2):
            service.event("worker ready")
            replaced += 1

    load = drive(service, count, replace)
    assert replaced >= (MILESTONES if full_size else 2)
    assert load.failures == []
    assert load.answered == count
    assert len(load.pids) > 2
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    told = service.report()
    assert (told["replaced"], told["died"], told["cut_off"]) == (replaced, 0, 0)
    assert told["total"]["server"]["requests"] == count
    print(f"{count} requests, {replaced} workers replaced: 0 failed, {len(load.pids)} processes answered")  # noqa: T201
