"""What a pool tells whoever reads the log: each event once, with what is needed to find the cause."""

from __future__ import annotations

from typing import Any

import pytest

from actors import Backoff
from pools import Unit
from pools.testing import Bench, LineWire

PLACE = "192.0.2.7:7000"


class Log:
    """Takes the place of the loop's log, and remembers."""

    def __init__(self, bench: Bench) -> None:
        self.told: list[tuple[str, str, dict[str, Any]]] = []
        bench.loop.log = self

    def __getattr__(self, level: str) -> Any:
        return lambda event, **values: self.told.append((level, event, values))

    def events(self) -> list[str]:
        return [event for _, event, _ in self.told]

    def only(self, event: str) -> tuple[str, dict[str, Any]]:
        ((level, values),) = [(level, values) for level, name, values in self.told if name == event]
        return level, values


def test_a_full_queue() -> None:
    bench = Bench(queue=2)
    log = Log(bench)
    for number in range(3):
        bench.submit(f"{number}")
    level, values = log.only("queue full")
    assert level == "warning"
    assert (values["pool"], values["queued"]) == (PLACE, 2)


def test_a_refused_connect_is_told_the_first_the_second_the_fourth_time() -> None:
    bench = Bench(backoff=Backoff(1.0, 1.0))
    log = Log(bench)
    failures = []
    for _ in range(9):
        bench.submit("a")
        bench.refuse()
        failures = [values["failures"] for _, event, values in log.told if event == "cannot connect"]
        bench.advance(2.0)
    assert failures == [1, 2, 4, 8]
    level, _, values = log.told[0]
    assert level == "warning"
    assert (values["backend"], values["pool"]) == (PLACE, PLACE)
    assert "refused" in values["error"]
    assert 0.0 < values["retry_in"] <= 1.0


def test_another_cause_is_news() -> None:
    bench = Bench(backoff=Backoff(1.0, 1.0), connect_timeout=0.5)
    log = Log(bench)
    for _ in range(2):
        bench.submit("a")
        bench.refuse()
        bench.advance(2.0)
    bench.submit("b")
    bench.run()
    bench.advance(0.5)
    told = [values for _, event, values in log.told if event == "cannot connect"]
    assert [values["failures"] for values in told] == [1, 2, 3]
    assert told[2]["error"] != told[1]["error"]


def test_a_backend_that_is_there_again() -> None:
    bench = Bench(backoff=Backoff(1.0, 1.0))
    log = Log(bench)
    for _ in range(2):
        bench.submit("a")
        bench.refuse()
        bench.advance(2.0)
    bench.submit("a")
    bench.accept()
    level, values = log.only("reconnected")
    assert (level, values["failures"], values["backend"]) == ("info", 2, PLACE)
    bench.answer("ok")
    bench.end()
    bench.submit("b")
    bench.accept()
    assert log.events().count("reconnected") == 1  # it had not failed before this one


def test_a_connection_that_is_lost_with_units_in_flight() -> None:
    bench = Bench(connections=1, pipeline=4)
    log = Log(bench)
    for number in range(3):
        bench.submit(f"{number}")
    bench.accept()
    bench.reset()
    level, values = log.only("connection lost")
    assert (level, values["in_flight"], values["backend"]) == ("warning", 3, PLACE)
    assert values["error"]


def test_what_ends_in_good_order_is_not_told() -> None:
    bench = Bench(connections=2)
    log = Log(bench)
    bench.submit("idle")
    bench.accept()
    bench.answer("ok")
    bench.end()
    bench.submit("busy")
    bench.accept()
    bench.loop.kill(bench.pool.token)
    bench.run()
    assert log.told == []


def test_a_backend_that_closes_without_an_answer_again_and_again() -> None:
    bench = Bench(connections=1, timeout=1000.0)
    log = Log(bench)
    for _ in range(17):
        bench.submit("a")
        bench.accept()
        bench.sent()
        bench.end()
        bench.advance(40.0)
    told = [values for _, event, values in log.told if event == "backend closes without an answer"]
    assert [values["in_a_row"] for values in told] == [5, 8, 16]
    assert told[0]["backend"] == PLACE
    assert 0.0 < told[0]["others_preferred_for"] <= 0.02


class Loud(Unit[Any]):
    """Cannot be told that it was dropped."""

    def dropped(self) -> None:
        raise LookupError("what feeds it")


@pytest.mark.parametrize("handler", ["closed", "goodbye", "abandoned", "probe"])
def test_a_wire_that_raises_where_nobody_can_be_told(handler: str) -> None:
    def raises(*_: Any) -> None:
        raise LookupError("in the clean-up")

    wire = type("Raising", (LineWire,), {"__slots__": (), handler: raises})
    bench = Bench(wire, connections=2, idle_timeout=60.0)
    log = Log(bench)
    for number in range(2):
        bench.submit(f"{number}")
    bench.accept()
    for number in range(2):
        bench.answer("ok", index=number)
    bench.advance(10.0)
    late = bench.submit("late", timeout=2.0)
    bench.run()
    bench.advance(2.0)
    assert late.settled
    bench.advance(60.0)
    told = {(level, values["wire"]) for level, event, values in log.told if event == "clean-up failed"}
    assert told == {("error", "Raising")}
    assert bench.pool.statistics().connections == 0
    assert bench.add_up()


def test_a_unit_that_raises_where_nobody_can_be_told() -> None:
    bench = Bench()
    log = Log(bench)
    bench.submit(Loud()).cancel()
    level, values = log.only("clean-up failed")
    assert (level, values["unit"]) == ("error", "Loud")
    assert isinstance(values["exc_info"], LookupError)
    assert "what feeds it" in values["error"]
