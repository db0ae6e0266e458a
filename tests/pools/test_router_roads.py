"""The rarer roads through a router: the short way in, a loss on the way, a stop in the middle."""

from __future__ import annotations

from typing import Any

import pytest

import pools
from actors import Loop, Misuse, Reply, TcpAddress
from actors.testing import FakeSocket, ManualKernel
from pools import (
    ConnectionLost,
    DeadlineExceeded,
    Pool,
    PoolClosed,
    QueueFull,
    Routed,
    Router,
)
from pools.testing import Ask, LineWire

JUST = 2.0**-10


class Single(Router[Pool]):
    """All units go to one pool while it is `open`; what fails is tried again after `pause` seconds."""

    __slots__ = ("asked", "gate", "looked", "pause", "pool")

    def __init__(self, **options: Any) -> None:
        super().__init__("single", **{"queue": 3, "timeout": 4.0, **options})
        self.gate = True
        self.pause: float | None = None
        self.asked: list[BaseException] = []
        self.looked: list[float] = []

    def place(self, unit: Any) -> Pool | None:
        return self.pool if self.gate else None

    def again(self, routed: Routed[Any], error: BaseException) -> None:
        self.asked.append(error)
        if self.pause is None:
            self.fail(routed, error)
        else:
            routed.tries += 1
            self.park(routed, self.pause, error)

    def look(self, now: float) -> float:
        self.looked.append(now)
        return now + 8.0


class Table:
    """A loop with the router, its peer played by the test."""

    def __init__(self, **options: Any) -> None:
        self.kernel = ManualKernel()
        self.loop = Loop(kernel=self.kernel)
        self.router: Single = self.loop.spawn(Single(**options))
        pool: Pool = self.loop.spawn(
            pools.pool(LineWire, [TcpAddress("192.0.2.1", 7)], connections=1, pipeline=8, timeout=9.0)
        )
        self.router.pool = self.router.pools["all"] = pool
        self.run()

    def run(self) -> None:
        for _ in range(4):
            self.loop.tick(0)
            for sock in self.kernel.sockets:
                sock.accept_connection()

    def ask(self, line: str, **options: Any) -> Reply[bytes]:
        reply = self.router.submit(Ask(line), **options)
        self.run()
        return reply

    @property
    def peer(self) -> FakeSocket:
        return self.kernel.sockets[-1]

    def answer(self, line: str) -> None:
        self.peer.arrive(line.encode() + b"\n")
        self.run()

    def reset(self) -> None:
        self.peer.reset()
        self.run()

    def advance(self, seconds: float) -> None:
        self.kernel.clock.advance(seconds)
        self.run()


def test_the_short_way_in_is_counted_and_answered_alike() -> None:
    t = Table()
    routed = t.router.start_at(t.router.pool, Ask("a"), 2.0)
    assert (routed.pool, routed.priority, t.router.open) == (t.router.pool, 0, 1)
    assert routed.deadline == t.loop.time() + 2.0
    t.run()
    t.answer("A")
    assert routed.result() == b"A"
    late = t.router.start_at(t.router.pool, Ask("b"), None)
    assert late.deadline == t.loop.time() + 4.0
    t.run()
    t.advance(4.0)
    assert isinstance(late.error, DeadlineExceeded)
    assert t.router.asked == [late.error]
    now = t.router.statistics()
    assert (now.submitted, now.succeeded, now.failed) == (2, 1, {"DeadlineExceeded": 1})


def test_what_is_no_unit_is_refused() -> None:
    with pytest.raises(Misuse, match="not a unit of work"):
        Table().router.submit("/x")  # type: ignore[arg-type]


@pytest.mark.parametrize("priority", [-1, 4])
def test_priorities_have_bounds(priority: int) -> None:
    t = Table()
    with pytest.raises(ValueError, match=f"priority={priority}; write 0"):
        t.router.submit(Ask("a"), priority=priority)
    assert [t.router.check(each) for each in (0, 3)] == [0, 3]


def test_whoever_has_gone_is_asked_about_no_more() -> None:
    t = Table()
    reply = t.ask("a")
    assert reply.cancel()
    t.run()
    assert t.router.asked == []
    assert t.router.statistics().failed == {"Cancelled": 1}


def test_a_loss_on_the_way_is_never_forgotten() -> None:
    t = Table(timeout=9.0)
    t.router.pause = 1.0
    reply = t.ask("a")
    t.reset()
    assert isinstance(t.router.asked[0], ConnectionLost)
    t.advance(1.0 - JUST)
    assert t.router.statistics().queued == 1
    t.advance(JUST)
    assert t.router.statistics().queued == 0
    t.router.pause = None
    t.loop.kill(t.router.pool.token)
    t.run()
    assert isinstance(reply.error, PoolClosed)

    t = Table()
    t.router.pause = 100.0
    reply = t.ask("a", timeout=2.0)
    t.reset()
    t.advance(2.0)
    assert isinstance(reply.error, DeadlineExceeded)
    assert reply.error.stage == "sent"
    assert "an earlier attempt may have been executed" in str(reply.error)
    assert reply.error.pool == "single"
    assert reply.error.seconds == 2.0
    assert isinstance(reply.error.__cause__, DeadlineExceeded)


def test_what_finds_no_room_after_a_loss_may_have_been_executed() -> None:
    t = Table(queue=1)
    t.router.pause = 1.0
    first, second = t.ask("a"), t.ask("b")
    t.reset()
    assert not first.settled
    assert isinstance(second.error, ConnectionLost)
    assert isinstance(second.error.__cause__, QueueFull)
    assert "may have been executed; then:" in str(second.error)


def test_a_stop_tells_what_is_parked_and_what_comes_back_later() -> None:
    t = Table()
    t.router.gate = False
    parked = t.ask("parked")
    t.router.gate = True
    sent = t.ask("sent")
    t.router.pause = 1.0
    t.loop.kill(t.router.token)
    assert "single has stopped; the unit was not executed" in str(parked.error)
    assert isinstance(parked.error, PoolClosed)
    assert isinstance(sent.error, PoolClosed)
    assert t.router.asked == []
    assert not t.router.parked
    late = t.router.start_with(Routed(t.router, Ask("late"), 1e9, 0))
    assert "has stopped" in str(late.error)
    back = Routed(t.router, Ask("back"), 1e9, 0)
    t.router.park(back, 1.0, None)
    assert isinstance(back.error, PoolClosed)
    assert not t.router.parked


def test_a_stop_of_what_was_lost_says_so() -> None:
    t = Table()
    t.router.pause = 1.0
    reply = t.ask("a")
    t.reset()
    t.loop.kill(t.router.token)
    assert isinstance(reply.error, PoolClosed)


def test_a_drain_ends_in_good_order() -> None:
    t = Table()
    reply = t.ask("a")
    t.router.drain()
    t.run()
    assert t.loop.alive(t.router.token)
    t.answer("A")
    assert reply.result() == b"A"
    assert not t.loop.alive(t.router.token)
    assert t.loop.statistics().crashed == 0


def test_a_pool_that_has_ended_leaves_its_sums_and_nothing_else() -> None:
    t = Table()
    t.ask("a")
    t.answer("A")
    t.router.retire(["all"])
    t.run()
    now = t.router.statistics()
    assert (now.backends, now.connections, now.opened, now.closed) == ([], 0, 1, 1)


def test_it_looks_when_it_said_and_not_before() -> None:
    t = Table()
    t.router.wake()
    t.run()
    first = t.router.looked[-1]
    t.advance(8.0 - JUST)
    assert t.router.looked[-1] == first
    t.advance(JUST)
    assert t.router.looked[-1] == first + 8.0


def test_what_must_be_written_says_so() -> None:
    class Empty(Router[Pool]):
        __slots__ = ()

    t = Table()
    empty: Empty = t.loop.spawn(Empty("empty", queue=1, timeout=1.0))
    assert isinstance(empty.submit(Ask("a")).error, NotImplementedError)
    with pytest.raises(NotImplementedError):
        empty.again(Routed(empty, Ask("a"), 1.0, 0), ValueError())
    assert empty.look(5.0) == float("inf")
    assert empty.scope.token == empty.token


def test_what_is_sent_on_is_due_when_it_was_to_be() -> None:
    table = Table()
    reply = table.router.submit(Ask("a"), timeout=2.0)
    assert isinstance(reply, Routed)
    table.run()
    table.kernel.clock.advance(1.0)
    table.run()
    assert reply.inner is not None
    assert reply.inner.deadline == reply.deadline == 1002.0


def test_a_router_that_was_not_spawned_says_so() -> None:
    with pytest.raises(Misuse, match="the router is not running; spawn it first"):
        Single().submit(Ask("a"))
