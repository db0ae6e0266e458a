"""Errors that raise when they are asked what they say: every unit settles all the same, and the log tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from actors import Loop
from pools import BackendError, PoolError, Work
from pools.testing import Ask, Bench, LineWire


class Wordless(Exception):
    """Has no words, and no repr."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class WordlessAnswer(Wordless, BackendError):
    """The same, as a backend's answer."""


def raises(error: type[Exception]) -> Callable[..., Any]:
    def method(*_: Any) -> Any:
        raise error

    return method


@pytest.mark.parametrize("error", [Wordless, WordlessAnswer])
@pytest.mark.parametrize(
    "name", ["start", "send", "received", "flushed", "wakeup", "abandoned", "closed", "probe"]
)
def test_whatever_a_wire_raises_its_units_settle(name: str, error: type[Exception]) -> None:
    broken = type("Broken", (LineWire,), {name: raises(error)})
    bench = Bench(broken, connections=1, pipeline=3, timeout=5)
    with capture_logs():
        replies = [bench.submit(Ask(f"{number}", idempotent=bool(number % 2))) for number in range(4)]
        bench.accept()
        replies[0].cancel()
        bench.sent()
        bench.answer("ok", "ok")
        for sock in bench.sockets:
            sock.reset()
        bench.run()
        bench.advance(6)
    assert all(reply.settled for reply in replies)
    assert bench.add_up()
    assert bench.loop.machines >= 1
    assert bench.pool.statistics().queued == 0


def test_a_wire_that_cannot_be_made_is_a_backend_that_cannot_be_reached() -> None:
    bench = Bench(raises(Wordless))
    with capture_logs() as logs:
        reply = bench.submit("a", timeout=1)
        bench.run()
        bench.advance(2)
    assert isinstance(reply.error, PoolError)
    assert logs[0]["event"] == "cannot connect"
    assert bench.add_up()


def test_a_unit_that_cannot_be_encoded_says_so_itself() -> None:
    class Broken(LineWire):
        def send(self, work: Work[Any]) -> None:
            raise Wordless

    bench = Bench(Broken)
    reply = bench.submit("a")
    bench.accept()
    assert isinstance(reply.error, Wordless)
    assert bench.add_up()


@pytest.mark.parametrize("how", ["kill", "close"])
def test_a_pool_that_is_stopped_by_it(how: str) -> None:
    bench = Bench(connections=1)
    replies = [bench.submit(f"{number}") for number in range(3)]
    bench.accept()
    loop: Loop = bench.loop
    with capture_logs():
        if how == "kill":
            loop.kill(bench.pool.token, Wordless())
        else:
            loop.close()
    assert all(reply.settled for reply in replies)
    assert all(sock.closed for sock in bench.sockets) or how == "kill"
