"""An asker's account with a pool: a planted fault of each kind is found, though the pool's own books are in
order; in each scenario that submits units, too."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec
import pytest

from actors import Reply, sleep
from actors.simulation import load_scenario, simulate
from actors.testing import Promises
from pools import Pool
from pools.testing import Account, Ask, Bench, differences
from protocols import http
from protocols.kafka import KafkaPool, RecordMetadata
from windlass.scenarios import SCENARIOS

LATE = 0.3  # seconds
RUNS_MAX = 20


def test_an_account_agrees_with_the_pool() -> None:
    bench = Bench(connections=1, pipeline=4)
    asks = Account(bench.pool, by=Promises(lambda: bench.kernel.clock.now, bound=0.01))
    replies = [asks.submit(Ask(name), value=name.upper().encode()) for name in ("a", "b", "c", "d")]
    bench.accept()
    bench.answer("A", "B")
    replies[2].cancel()
    assert repr(asks) == "<Account 4 submitted, 2 succeeded, 1 failed>"
    assert asks.waiting == 1
    bench.advance(5.1)
    asks.check()
    assert asks.failed == {"Cancelled": 1, "DeadlineExceeded": 1}


def test_the_counts_of_several_askers_are_added_up() -> None:
    bench = Bench()
    one, two = Account(bench.pool), Account(bench.pool)
    one.submit(Ask("a"))
    two.submit(Ask("b"))
    bench.refuse()
    assert differences(one, two) == ""
    assert differences(one) == (
        "submitted: 1 by the callers' account, 2 by the pools' statistics; "
        "failed: Counter({'BackendDown': 1}) by the callers' account, Counter({'BackendDown': 2}) "
        "by the pools' statistics"
    )


def test_a_unit_that_nobody_counts_is_found() -> None:
    """The pool's books add up, and a unit is missing in them."""
    bench = Bench()
    asks = Account(bench.pool)
    asks.submit(Ask("a"))
    bench.submit("b").cancel()
    bench.accept()
    bench.answer("A")
    assert bench.add_up()
    with pytest.raises(AssertionError, match="submitted: 1 by the callers' account, 2 by the pools'"):
        asks.check()


# -- in the scenarios ----------------------------------------------------------------------------------------


class Twice(Reply[Any]):
    """Tells of its value a second time."""

    def __init__(self, of: Reply[Any]) -> None:
        super().__init__(deadline=of.deadline)
        self.callbacks: list[Callable[[Reply[Any]], object]] = []
        of.when_settled(self.pass_on)

    def when_settled(self, callback: Callable[[Reply[Any]], object]) -> None:
        self.callbacks.append(callback)

    def pass_on(self, of: Reply[Any]) -> None:
        if of.error is None:
            self.settle(of.result())
        else:
            self.fail(of.error)
        for _ in range(2):
            for callback in self.callbacks:
                callback(self)


def never(pool: Any, reply: Reply[Any]) -> Reply[Any]:
    return Reply(deadline=reply.deadline)


def late(pool: Any, reply: Reply[Any]) -> Reply[Any]:
    async def hold() -> Any:
        while not reply.settled:
            await sleep(0.01)
        await sleep(LATE)
        return reply.result()

    held: Reply[Any] = Reply(deadline=reply.deadline)

    def pass_on(flow: Reply[Any]) -> None:
        if flow.error is None:
            held.settle(flow.result())
        else:
            held.fail(flow.error)

    pool.loop.spawn(hold()).when_settled(pass_on)
    return held


def another(value: Any) -> Any:
    """A value of the same type that is not the right one."""
    if type(value) is bytes:
        return b"re:another"
    if type(value) is int:
        return value + 1_000_000
    if isinstance(value, http.Response):
        return http.json_response({"kind": "users", "id": "nobody"})
    if isinstance(value, list):
        return [*value, *value]
    if isinstance(value, RecordMetadata):
        return msgspec.structs.replace(value, offset=value.offset + 1000)
    return value


def other_type(value: Any) -> Any:
    """An equal value of another type, if there is one."""
    return bytearray(value) if type(value) is bytes else float(value) if type(value) is int else (value,)


def wrong_value(pool: Any, reply: Reply[Any]) -> Reply[Any]:
    return reply.map(another)


def wrong_type(pool: Any, reply: Reply[Any]) -> Reply[Any]:
    return reply.map(other_type)


def twice(pool: Any, reply: Reply[Any]) -> Reply[Any]:
    return Twice(reply)


FOUND = {
    never: "is late: it should have settled by now",
    late: "is late: it should have settled by now|by the callers' account",
    wrong_value: "which is not its answer|acknowledged, and not there",
    wrong_type: r"which is not its answer|which is \w+ and not \w+",
    twice: "has settled 2 times",
}


@pytest.mark.parametrize("name", ["flows", "postgres", "kafka", "redis", "pool", "gateway"])
@pytest.mark.parametrize("fault", FOUND, ids=lambda fault: fault.__name__)
def test_every_scenario_holds_replies_to_their_promise(
    name: str, fault: Callable[[Any, Reply[Any]], Reply[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every third reply is spoilt on its way to the asker; the pool knows nothing of it."""
    asked: Any = KafkaPool if name == "kafka" else Pool
    submit, numbers = asked.submit, count()

    def spoilt(pool: Any, *arguments: Any) -> Reply[Any]:
        reply: Reply[Any] = submit(pool, *arguments)
        return fault(pool, reply) if next(numbers) % 3 == 2 else reply

    monkeypatch.setattr(asked, "submit", spoilt)
    story = load_scenario(name, SCENARIOS)
    failure = next(
        report.failure for seed in range(RUNS_MAX) if (report := simulate(story, seed, knobs={})).failure
    )
    assert failure is not None
    assert re.search(FOUND[fault], failure), failure
