"""Units whose attributes are properties that raise: it is their own end alone, and everybody settles."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

import pools
from actors import Loop, Reply
from actors.testing import ManualKernel
from pools import ConnectionLost, Pool, Routed, Router
from pools.testing import Ask, Bench, LineWire


def broken(name: str) -> Any:
    """A unit whose attribute `name` raises."""

    def raises(self: Any) -> Any:
        raise RuntimeError(f"no {name}")

    return type("Broken", (Ask,), {name: property(raises, lambda self, value: None)})("broken")


@pytest.mark.parametrize("backends", [1, 2])
@pytest.mark.parametrize("pipeline", [1, 3])
def test_one_that_cannot_be_planned_fails_alone(pipeline: int, backends: int) -> None:
    addresses = tuple(f"192.0.2.{number}:7000" for number in range(1, backends + 1))
    bench = Bench(LineWire, addresses, connections=1, pipeline=pipeline)
    units: list[Any] = ["first", broken("pipelinable"), "last"]
    replies = [bench.submit(unit, timeout=5) for unit in units]
    bench.accept()
    for _ in range(3):
        for number, sock in enumerate(bench.sockets):
            if sock.delivered():
                bench.answer("ok", index=number)
    assert str(replies[1].error) == "no pipelinable"
    bench.answer("ok")
    assert [replies[number].result() for number in (0, 2)] == [b"ok", b"ok"]
    assert bench.loop.alive(bench.pool.token)
    assert bench.add_up()


def test_one_that_does_not_say_whether_it_may_be_sent_again_is_not() -> None:
    bench = Bench(connections=1, pipeline=3)
    replies = [bench.submit(unit) for unit in ("first", broken("idempotent"), "last")]
    bench.accept()
    bench.sent()
    with capture_logs() as logs:
        bench.reset()
    assert [type(reply.error) for reply in replies] == [ConnectionLost] * 3
    assert bench.add_up()
    assert "no idempotent" in str(logs)


class SizeOnce(Ask):
    """Knows its size only when it is submitted: of a buffer that is released later, say."""

    __slots__ = ("asked",)

    @property
    def size(self) -> int:  # type: ignore[override]
        if hasattr(self, "asked"):
            raise ValueError("released")
        self.asked = True
        return 100

    @size.setter
    def size(self, value: int) -> None:
        pass


def test_one_that_no_longer_knows_its_size_is_taken_back_all_the_same() -> None:
    bench = Bench(connections=1)
    reply = bench.submit(SizeOnce("once", idempotent=True))
    bench.accept()
    bench.sent()
    bench.reset()
    bench.accept()
    assert bench.sent() == ["once"]
    bench.answer("ok")
    assert reply.result() == b"ok"
    assert bench.add_up()
    assert bench.pool.queue.bytes == 0


class Careless(Router[Pool]):
    """One pool; `again` raises."""

    __slots__ = ()

    def place(self, unit: Any) -> Pool | None:
        if not self.pools:
            self.pools["only"] = self.loop.spawn(pools.pool(LineWire, ["192.0.2.1:7000"], connections=1))
        return self.pools["only"]

    def again(self, routed: Routed[Any], error: BaseException) -> None:
        raise RuntimeError("what now?")


@pytest.fixture
def router() -> Any:
    loop = Loop(kernel=ManualKernel())
    yield loop.spawn(Careless("careless", queue=10, timeout=5.0))
    loop.close()


def test_a_router_that_does_not_know_what_becomes_of_a_unit_fails_it(router: Careless) -> None:
    reply: Reply[Any] = router.submit(Ask("a"))
    router.loop.tick(0)
    (sock,) = router.loop.kernel.sockets  # type: ignore[attr-defined]
    sock.accept_connection()
    router.loop.tick(0)
    sock.reset()
    for _ in range(3):
        router.loop.tick(0)
    assert str(reply.error) == "what now?"
    assert router.open == 0


def test_a_routed_unit_that_a_pool_does_not_take_is_counted_as_failed(router: Careless) -> None:
    reply: Reply[Any] = router.submit(broken("size"))
    assert str(reply.error) == "no size"
    assert router.open == 0
    assert router.statistics().failed == {"RuntimeError": 1}
