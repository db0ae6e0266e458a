"""A router of toy pools, on a kernel without sockets: its parking, its counts, its end."""

from __future__ import annotations

from typing import Any

import pytest

import pools
from actors import Loop, Misuse, Reply, TcpAddress, deadline
from actors.testing import FakeSocket, ManualKernel
from pools import (
    BackendError,
    Cancelled,
    DeadlineExceeded,
    Pool,
    PoolClosed,
    QueueFull,
    Routed,
    Router,
)
from pools.testing import Ask, LineWire


class ByLetter(Router[Pool]):
    """A pool per first letter, once it is known. `error … X` goes on to X, `error … later` is tried later."""

    __slots__ = ("known",)

    def __init__(self, **options: Any) -> None:
        super().__init__("letters", **{"queue": 10, "timeout": 5.0, **options})
        self.known = ""

    def place(self, unit: Any) -> Pool | None:
        letter = unit.line[:1].decode()
        if letter == "!":
            raise Misuse("no letter")
        return self.pool_of(letter) if letter in self.known else None

    def pool_of(self, letter: str) -> Pool:
        if letter not in self.pools:
            address = TcpAddress("192.0.2.1", ord(letter))
            self.pools[letter] = self.loop.spawn(pools.pool(LineWire, [address], connections=1, pipeline=8))
        return self.pools[letter]

    def again(self, routed: Routed[Any], error: BaseException) -> None:
        target = str(error).rpartition(" ")[2]
        routed.tries += 1
        if not isinstance(error, BackendError) or not target:
            self.fail(routed, error)
        elif target == "later":
            self.park(routed, 1.0, error)
        else:
            self.send(routed, self.pool_of(target), routed.unit)


class Table:
    """A loop with the router, its peers played by the test."""

    def __init__(self, known: str = "ab", **options: Any) -> None:
        self.kernel = ManualKernel()
        self.loop = Loop(kernel=self.kernel)
        self.router: ByLetter = self.loop.spawn(ByLetter(**options))
        self.router.known = known

    def run(self) -> None:
        for _ in range(4):
            self.loop.tick(0)
            for sock in self.kernel.sockets:
                sock.accept_connection()

    def ask(self, line: str, **options: Any) -> Reply[bytes]:
        reply = self.router.submit(Ask(line), **options)
        self.run()
        return reply

    def peer(self, letter: str) -> FakeSocket:
        return next(
            sock
            for sock in self.kernel.sockets
            if sock.address == TcpAddress("192.0.2.1", ord(letter)) and not sock.closed
        )

    def answer(self, letter: str, line: str) -> None:
        self.peer(letter).arrive(line.encode() + b"\n")
        self.run()

    def advance(self, seconds: float) -> None:
        self.kernel.clock.advance(seconds)
        self.run()

    def adds_up(self) -> bool:
        now = self.router.statistics()
        return now.submitted == now.succeeded + sum(now.failed.values()) + now.queued + now.in_flight


def test_a_unit_goes_where_it_belongs_and_on_from_there() -> None:
    t = Table()
    reply = t.ask("apple")
    assert t.peer("a").delivered() == b"apple\n"
    t.answer("a", "error b")
    assert t.peer("b").delivered() == b"apple\n"
    assert repr(reply) == "<Routed Ask('apple') at 192.0.2.1:98, 1 tries>"
    t.answer("b", "APPLE")
    assert reply.result() == b"APPLE"
    now = t.router.statistics()
    assert (now.submitted, now.succeeded, now.connections, len(now.backends)) == (1, 1, 2, 2)
    assert t.adds_up()


def test_what_has_no_place_waits_for_one() -> None:
    t = Table(known="")
    replies = [t.ask("a1"), t.ask("a2")]
    assert t.router.statistics().queued == 2
    assert "parked" in repr(replies[0])
    t.router.known = "a"
    t.router.release()
    t.run()
    assert t.peer("a").delivered() == b"a1\na2\n"
    t.answer("a", "1")
    t.answer("a", "2")
    assert [reply.result() for reply in replies] == [b"1", b"2"]


def test_a_pause_is_over_when_its_time_has_come_and_not_before() -> None:
    t = Table()
    reply = t.ask("a")
    t.answer("a", "error later")
    t.peer("a").delivered()
    t.advance(0.9)
    assert t.peer("a").delivered() == b""
    t.advance(0.2)
    assert t.peer("a").delivered() == b"a\n"
    t.answer("a", "A")
    assert reply.result() == b"A"
    assert t.adds_up()


def test_deadlines_hold_wherever_the_unit_is() -> None:
    t = Table(known="a")
    with deadline(2.0):
        unknown = t.router.submit(Ask("x"))
    sent, paused = t.ask("a1", timeout=1.0), t.ask("a2", timeout=1.5)
    t.answer("a", "head")
    t.answer("a", "tail")
    assert sent.result() == b"head"
    t.answer("a", "error later")
    t.advance(1.1)
    t.answer("a", "error later")
    t.advance(0.5)
    assert isinstance(paused.error, DeadlineExceeded)
    assert "error later" in str(paused.error)
    t.advance(0.5)
    assert isinstance(unknown.error, DeadlineExceeded)
    assert "not known" in str(unknown.error)
    assert t.adds_up()


def test_cancelled_wherever_the_unit_is() -> None:
    t = Table(known="a")
    parked, sent = t.ask("x"), t.ask("a")
    for reply in (parked, sent):
        assert reply.cancel()
        assert not reply.cancel()
        assert isinstance(reply.error, Cancelled)
    assert not t.router.parked
    assert t.router.statistics().orphans == 1
    t.answer("a", "error b")
    assert t.router.statistics().failed == {"Cancelled": 2}
    assert t.adds_up()


def test_what_cannot_be_placed_fails() -> None:
    t = Table(queue=1)
    assert isinstance(t.ask("!").error, Misuse)
    t.ask("x")
    full = t.ask("y")
    assert isinstance(full.error, QueueFull)
    reply = t.ask("a")
    t.answer("a", "error later")
    assert "error later" in str(reply.error)
    assert t.adds_up()


def test_a_pool_that_is_not_needed_finishes_what_it_has() -> None:
    t = Table()
    reply = t.ask("a")
    t.router.retire(["a"])
    t.run()
    assert not t.router.pools
    assert t.router.statistics().connections == 1
    t.answer("a", "A")
    assert reply.result() == b"A"
    now = t.router.statistics()
    assert (now.connections, now.opened, now.closed) == (0, 1, 1)
    t.ask("a")
    assert t.router.statistics().opened == 2


def test_a_drain_waits_for_what_is_there() -> None:
    t = Table()
    sent, parked = t.ask("a"), t.ask("x")
    t.router.drain()
    t.run()
    refused = t.ask("a")
    assert "drains" in str(refused.error)
    t.answer("a", "A")
    assert sent.result() == b"A"
    assert t.loop.alive(t.router.token)
    parked.cancel()
    t.run()
    assert not t.loop.alive(t.router.token)
    assert isinstance(t.ask("a").error, PoolClosed)
    assert t.loop.machines == 0


def test_stopped_everything_settles() -> None:
    t = Table()
    sent, parked = t.ask("a"), t.ask("x")
    t.loop.kill(t.router.token)
    assert isinstance(sent.error, PoolClosed)
    assert isinstance(parked.error, PoolClosed)
    assert t.adds_up()
    t.run()
    assert t.loop.machines == 0


def test_misuse() -> None:
    router = ByLetter()
    assert router.token == -1
    with pytest.raises(Misuse, match="spawn it first"):
        router.submit(Ask("a"))
    t = Table()
    with pytest.raises(ValueError, match="write 0"):
        t.router.submit(Ask("a"), priority=-1)
    assert repr(t.router) == "<ByLetter letters 0 units on 0 pools, 0 parked>"
