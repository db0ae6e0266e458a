"""`windlass demo`: as a program for a short while, and its parts."""

from __future__ import annotations

import http.client
import os
import re
import signal
import xml.etree.ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import DeadlineExceeded, Loop
from windlass.demo.chart import draw
from windlass.demo.display import Display, table, verdict_lines
from windlass.demo.figures import Figures, Sample, percentile
from windlass.demo.holding import HoldingPool
from windlass.demo.processes import Program, ProgramEnded
from windlass.demo.scenario import HOLDING, PHASES, POOLS, WINDLASS

START = ("-m", "windlass", "demo", "--seconds", "0.5", "--rate", "60")
Start = Callable[..., Any]


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


def asked(text: str, method: str = "GET") -> http.client.HTTPResponse:
    """The answer to the request that a printed curl line makes."""
    found = re.search(r"http://([0-9.:]+)(/\S+)", text)
    assert found is not None
    client = http.client.HTTPConnection(found[1], timeout=30)
    client.request(method, found[2], headers={"Connection": "close"})
    response = client.getresponse()
    response.read()
    client.close()
    return response


def test_it_shows_a_table_leaves_a_chart_and_serves_until_ctrl_c(start: Start, tmp_path: Path) -> None:
    chart = tmp_path / "chart.svg"
    running = start(*START, "--serve", "--chart", str(chart), output="stdout")
    carts = running.line("curl -X PUT")
    lines = running.text.splitlines()
    for pool in POOLS:
        assert asked(next(line for line in lines if f"# {pool}" in line)).status == 200
    assert asked(carts, "PUT").status == 200
    assert asked(carts.replace("/delay/2", "/delay/soon"), "PUT").status == 400
    assert len([line for line in lines if line.split()[:1] == [HOLDING]]) == len(PHASES)
    assert [line for line in lines if line.startswith("With carts slow")]
    assert f"Chart: {chart}" in lines
    assert xml.etree.ElementTree.parse(chart).getroot().tag.endswith("svg")
    children = running.children()
    assert len(children) == 4
    running.process.send_signal(signal.SIGINT)
    status, _, err = running.finish()
    assert (status, err) == (0, "")
    assert alive(children) == []


@pytest.mark.parametrize(
    ("number", "when", "programs"), [(signal.SIGINT, "then it dies.", 0), (signal.SIGTERM, "healthy: ", 6)]
)
def test_a_signal_ends_it_and_its_processes(
    start: Start, tmp_path: Path, number: int, when: str, programs: int
) -> None:
    chart = str(tmp_path / "chart.svg")
    running = start(*START[:3], "--seconds", "20", "--rate", "60", "--chart", chart, output="stdout")
    running.until(when)
    children = running.children()
    assert len(children) >= programs
    running.process.send_signal(number)
    status, _, err = running.finish()
    assert (status, err) == (130, "")
    assert alive(children) == []


@pytest.fixture
def figures() -> Figures:
    """Windlass keeps 10 ms throughout; the other answers half, slowly, in the second phase, then none."""
    figures = Figures()
    for start in (100.0, 101.0, 102.0, 103.0):
        figures.begin(start)
    dues = [100.0 + number / 20 for number in range(-2, 62)]
    figures.add(WINDLASS, [Sample(due, 0.01, True, True) for due in dues])
    figures.add(HOLDING, [Sample(due, 0.01, True, True) for due in dues[:22]])
    figures.add(HOLDING, [Sample(due, 0.4, number % 2 == 0, True) for number, due in enumerate(dues[22:42])])
    figures.add(HOLDING, [Sample(due, 0.5, True, False) for due in dues[42:]])
    return figures


def test_figures_by_pool_and_phase(figures: Figures) -> None:
    healthy = figures.row(WINDLASS, 0)
    assert healthy is not None
    assert (healthy.good, healthy.per_second, healthy.p50, healthy.p99) == (1.0, 20.0, 0.01, 0.01)
    slow = figures.row(HOLDING, 1)
    assert slow is not None
    assert (slow.good, slow.per_second, slow.p99, slow.both) == (1.0, 10.0, 0.4, 1.0)
    dead = figures.row(HOLDING, 2)
    assert dead is not None
    assert (dead.good, dead.per_second, dead.p50) == (0.0, 0.0, None)
    assert Figures().row(WINDLASS, 0) is None


def test_a_phase_that_goes_on_is_measured_as_far_as_it_has_come() -> None:
    figures = Figures()
    figures.begin(10.0)
    figures.add(WINDLASS, [Sample(10.0 + number / 10, 0.01, True, True) for number in range(11)])
    row = figures.row(WINDLASS, 0)
    assert row is not None
    assert row.per_second == pytest.approx(11.0)


def test_the_verdict_compares_the_slow_phase_with_the_healthy_one(figures: Figures) -> None:
    ours, other = figures.verdict(WINDLASS), figures.verdict(HOLDING)
    assert ours is not None
    assert other is not None
    assert (ours.throughput, ours.p99, ours.isolated) == (1.0, 1.0, True)
    assert (other.throughput, other.p99, other.isolated) == (0.5, pytest.approx(40.0), False)
    said = "\n".join(verdict_lines(figures))
    assert "Windlass: 100.0% of the throughput, 1.00 × the p99" in said
    assert "acquire-and-hold: 50.0% of the throughput, 40.00 × the p99" in said
    assert said.endswith("kept.")
    assert "Too few" in verdict_lines(Figures())[0]


def test_percentiles() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([], 0.5)) == (51.0, 100.0, None)


def test_the_chart_is_drawn_to_scale(figures: Figures) -> None:
    root = xml.etree.ElementTree.fromstring(draw(figures, 20.0))
    lines = [element.get("points", "") for element in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert len(lines) == 4
    heights = [{point.split(",")[1] for point in line.split()} for line in lines]
    assert [len(different) for different in heights] == [3, 1, 2, 1]
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {phase.name for phase in PHASES} <= set(words)


def test_the_live_display_follows_the_phases(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    figures = Figures()
    with Display(figures, 1.0) as display:
        display.update(0.0)
        for index, phase in enumerate(PHASES):
            figures.begin(float(index))
            display.update(index + 0.5)
            assert f"phase {index + 1} of 3: {phase.event}" in capsys.readouterr().out
        figures.begin(3.0)
        display.update(3.1)
        assert "waiting for the last answers" in capsys.readouterr().out


def test_the_table_fits_a_terminal_of_eighty_columns(
    figures: Figures, capsys: pytest.CaptureFixture[str]
) -> None:
    Display(figures, 1.0).console.print(table(figures))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "acquire-and-hold 100.0% 10.0 400 ms 400 ms 100.0%" in [" ".join(line.split()) for line in lines]


def test_a_program_that_does_not_come_up_is_told() -> None:
    with Loop() as loop:
        program = loop.spawn(Program("load"))  # it misses its arguments
        with pytest.raises(ProgramEnded, match="'load' ended with status 1"):
            loop.run_until(program.first)
        assert program.ended.settled


@pytest.fixture
def holding() -> Iterator[tuple[Loop, HoldingPool]]:
    with Loop() as loop:
        yield loop, HoldingPool(loop, "http://127.0.0.1:1", 1)


def test_a_held_connection_goes_to_the_next_that_still_waits(holding: tuple[Loop, HoldingPool]) -> None:
    loop, pool = holding
    first = pool.acquire(10.0)
    gone, last = pool.acquire(0.0), pool.acquire(10.0)
    with pytest.raises(DeadlineExceeded):
        loop.run_until(gone)
    assert repr(pool) == "<HoldingPool 0 idle, 2 waiting>"
    with pool.held(first.result()) as connection:
        assert not last.settled
    assert last.result() is connection
    pool.release(connection)
    assert repr(pool) == "<HoldingPool 1 idle, 0 waiting>"
