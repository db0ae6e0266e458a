"""A pool's `choose`, the caller's own: its failure costs nobody a unit, and not the pool."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from pools.assignment import Choose, Slate
from pools.testing import Bench, LineWire

ADDRESSES = ("192.0.2.1:7000", "192.0.2.2:7000")


def raises(slates: list[Slate[Any]], unit: Any) -> Any:
    raise LookupError(f"no place for {unit.line.decode()}")


def forgets_to_return(slates: list[Slate[Any]], unit: Any) -> Any:
    return None


def gives_the_backend(slates: list[Slate[Any]], unit: Any) -> Any:
    return slates[0].backend


def strikes_out(slates: list[Slate[Any]], unit: Any) -> Any:
    while slates:
        slates.pop()
    raise LookupError("none is left")


def keeps_an_old_one(slates: list[Slate[Any]], unit: Any, kept: list[Any] = []) -> Any:  # noqa: B006
    kept.append(slates[0])
    return kept[0]


FAILING: list[Choose] = [raises, forgets_to_return, gives_the_backend, strikes_out, keeps_an_old_one]


@pytest.mark.parametrize("pipeline", [1, 3])
@pytest.mark.parametrize("choose", FAILING, ids=lambda choose: choose.__name__)
def test_one_that_fails_is_logged_and_the_least_loaded_backend_is_taken(
    choose: Choose, pipeline: int
) -> None:
    bench = Bench(LineWire, ADDRESSES, connections=1, pipeline=pipeline, choose=choose)
    with capture_logs() as logs:
        first = [bench.submit(f"{number}") for number in range(2)]
        bench.accept()
        for number in range(2):
            assert bench.sent(number)
            bench.answer("ok", index=number)
        later = [bench.submit(f"{number}") for number in range(2)]
        for number in range(2):
            assert bench.sent(number)
            bench.answer("ok", index=number)
    assert [reply.result() for reply in (*first, *later)] == [b"ok"] * 4
    assert bench.loop.alive(bench.pool.token)
    assert bench.add_up()
    told = [line for line in logs if line["event"] == "choose failed"]
    assert len(told) == 1  # once a second
    assert told[0]["log_level"] == "error"


def test_one_that_fails_for_a_unit_is_asked_for_the_others() -> None:
    def last(slates: list[Slate[Any]], unit: Any) -> Slate[Any]:
        return raises(slates, unit) if unit.line == b"odd" else slates[-1]

    bench = Bench(LineWire, ADDRESSES, connections=1, warm=1, pipeline=10, choose=last)
    bench.accept()
    for name in ("a", "odd", "b"):
        bench.submit(name)
    with capture_logs() as logs:
        sent = [bench.sent(number) for number in range(2)]
    assert sorted(sent) == [["a", "b"], ["odd"]]
    assert "no place for odd" in str(logs)
