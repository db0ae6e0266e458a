"""Scenarios on the real kernel: hosts find each other, and the faults that can be made there are made."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actors import (
    ANYTHING,
    Connector,
    Continue,
    Listener,
    Outcome,
    Reply,
    StreamProtocol,
    TcpAddress,
    Transport,
)
from actors.kernel import SystemKernel
from actors.simulation import Faults, Host, RealWorld, rehearse

DATA = b"0123456789" * 10
SECONDS_MAX = 60.0


class Echo(StreamProtocol):
    def received(self, transport: Transport) -> Outcome:
        transport.write(transport.take(len(transport.input)))
        return Continue(self, ANYTHING)


class Once(StreamProtocol):
    """Says something, and wants to hear it again."""

    def __init__(self) -> None:
        self.heard: Reply[bytes] = Reply()
        self._got = b""

    def connected(self, transport: Transport) -> Outcome:
        transport.write(DATA)
        return Continue(self, ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        self._got += transport.take(len(transport.input))
        if self._got == DATA:
            self.heard.settle(self._got)
        return Continue(self, ANYTHING)

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        self.heard.fail(error or EOFError("closed"))


def serve(host: Host) -> None:
    host.loop.spawn(Listener("0.0.0.0:7000", Echo))


@pytest.fixture
def world() -> Iterator[RealWorld]:
    world = RealWorld(seed=1)
    world.host("server", serve, crashes=True)
    world.host("client", lambda host: None)
    yield world
    world.close()


def ask(world: RealWorld, address: str = "server") -> Reply[bytes]:
    once = Once()
    host = world.hosts["client"]
    host.loop.spawn(Connector(TcpAddress(address, 7000), once, timeout=5.0))
    return once.heard


def until(world: RealWorld, condition: Callable[[], Any]) -> None:
    begun = world.now
    while not condition():
        assert world.now < begun + SECONDS_MAX
        world.run(0.001)


def test_hosts_find_each_other_by_name_and_by_address(world: RealWorld) -> None:
    for address in ("server", world.hosts["server"].address):
        heard = ask(world, address)
        until(world, lambda heard=heard: heard.settled)
        assert heard.result() == DATA


def test_short_reads_and_writes_change_nothing_but_the_pace(world: RealWorld) -> None:
    for kind in ("short_reads", "short_writes"):
        assert world.act(kind, "server", 60.0, 3)
    moves = world.hosts["server"].kernel.moves
    heard = ask(world)
    until(world, lambda: heard.settled)
    assert heard.result() == DATA
    assert world.hosts["server"].kernel.moves - moves >= 2 * len(DATA) // 3


def test_full_buffers_and_a_stall_only_delay(world: RealWorld) -> None:
    assert world.act("full_buffers", "client", 0.03)
    assert world.act("stall", "server", 0.05)
    assert world.act("slow_accept", "server", 0.02)
    heard = ask(world)
    until(world, lambda: heard.settled)
    assert heard.result() == DATA


@pytest.mark.parametrize("kind", ["kill", "crash", "refuse"])
def test_who_is_not_there_refuses_and_comes_back(world: RealWorld, kind: str) -> None:
    before = ask(world)
    until(world, lambda: before.settled)
    assert world.act(kind, "server", 60.0)
    heard = ask(world)
    until(world, lambda: heard.settled)
    assert isinstance(heard.error, ConnectionRefusedError)
    world.heal()
    again = ask(world)
    until(world, lambda: again.settled)
    assert again.result() == DATA


def test_names_fail(world: RealWorld) -> None:
    world.act("resolve_failure", "client", 60.0)
    heard = ask(world)
    until(world, lambda: heard.settled)
    assert "cannot resolve 'server'" in str(heard.error)


def test_unix_sockets_are_refused() -> None:
    def listen(host: Host) -> None:
        host.loop.spawn(Listener("unix:/tmp/x.sock", Echo))

    report = rehearse(lambda world: world.host("only", listen), seconds=0.0)
    assert report.failure is not None
    assert "no Unix sockets here" in report.failure


def test_only_faults_that_can_be_made_are_drawn() -> None:
    world = RealWorld(faults=Faults(lag=100.0, stall=1.0, vanish=5.0))
    assert world.injector.faults == Faults(stall=1.0)
    assert isinstance(world.host("only", lambda host: None).kernel, SystemKernel)
    world.close()


def in_a_namespace(command: str) -> subprocess.CompletedProcess[str]:
    """Run it by the shell in a network namespace of its own."""
    inside = ["unshare", "--net", "sh", "-c", f"ip link set lo up && {command}"]
    return subprocess.run(inside, capture_output=True, text=True, timeout=SECONDS_MAX * 3, check=False)


@pytest.mark.parametrize("trouble", ["", "tc qdisc add dev lo root netem delay 2ms 2ms loss 1%"])
def test_on_a_network_of_its_own(trouble: str) -> None:
    """Without trouble, and with packets that are late and lost: where one may, and the kernel can."""
    if not all(map(shutil.which, ("unshare", "ip", "tc"))):
        pytest.skip("needs unshare, ip and tc: apt-get install util-linux iproute2")
    if in_a_namespace(trouble or "true").returncode:
        pytest.skip("needs the right to make a network namespace, and netem in the kernel")
    run = f"{sys.executable} -m windlass sim pool --real --runs 1 --seconds 1"
    result = in_a_namespace(f"{trouble} && {run}" if trouble else run)
    assert result.returncode == 0, result.stderr
    assert " 0 failed" in result.stdout
