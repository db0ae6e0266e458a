"""The held-connection outage, in counts: with a backend that never answers, what of the rest is answered?"""

from __future__ import annotations

import asyncio
import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from actors import Loop, Reply
from examples.outage.chart import draw
from examples.outage.figures import Course, Outage, Sample, summary
from examples.outage.scenario import APPLICATIONS, DATABASE_CONNECTIONS, PHASES, SET_UP
from protocols import http, postgres
from tests.examples.asgi import ask_asgi
from tests.protocols.postgres.servers import Server

ROOT = Path(__file__).parents[2]
ASKED = 30  # accounts
PATIENCE_SECONDS = 20.0


@pytest.fixture
def database(postgres_server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The database's URL, with the tables made anew."""
    with Loop() as loop:
        pool = loop.spawn(postgres.pool(postgres_server.url, connections=1))
        for statement in SET_UP:
            loop.run_until(pool.submit(postgres.execute(statement), timeout=PATIENCE_SECONDS))
    monkeypatch.setenv("DATABASE", postgres_server.url)
    return postgres_server.url


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], object]], None]]:
    """A backend that never answers: `stuck(callback)` has it called when it is asked."""
    called: list[Callable[[], object]] = []

    async def answer(request: http.Request) -> http.Response:
        called[0]()
        answered: Reply[http.Response] = Reply()
        return await answered

    with Loop.in_thread(drain=0.0) as loop:
        server = loop.spawn(http.server("127.0.0.1:0", answer))
        monkeypatch.setenv("RATES", f"http://{server.address}")
        yield called.append


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "answered"), [("holding", 0), ("releasing", ASKED), ("submitting", ASKED)])
def test_accounts_that_are_answered_while_reports_are_stuck(
    name: str, answered: int, database: str, stuck: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding = importlib.import_module("examples.outage.holding")
    module = importlib.import_module(f"examples.outage.{name}")
    for where in (holding, module):
        for limit in ("DATABASE_SECONDS", "RATES_SECONDS"):
            monkeypatch.setattr(where, limit, PATIENCE_SECONDS, raising=False)

    async def main() -> list[tuple[int, Any]]:
        host, asked = asyncio.get_running_loop(), asyncio.Semaphore(0)
        stuck(lambda: host.call_soon_threadsafe(asked.release))
        async with module.app.router.lifespan_context(module.app):
            reports = [
                asyncio.ensure_future(ask_asgi(module.app, f"/report/{id}"))
                for id in range(1, DATABASE_CONNECTIONS + 1)
            ]
            async with asyncio.timeout(PATIENCE_SECONDS):
                for _ in reports:  # every one waits for the rates now
                    await asked.acquire()
            if not answered:
                monkeypatch.setattr(holding, "DATABASE_SECONDS", 0.05)
            accounts = await asyncio.gather(
                *(ask_asgi(module.app, f"/account/{id + 1}") for id in range(ASKED))
            )
            for report in reports:
                report.cancel()
            await asyncio.gather(*reports, return_exceptions=True)
            return accounts

    accounts = asyncio.run(main())
    good = [body for status, body in accounts if status == 200]
    assert len(good) == answered
    assert all(body == {"balance": (id + 1) * 100} for id, body in enumerate(good))
    assert {status for status, _ in accounts} <= {200, 503}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", APPLICATIONS)
def test_reports_when_all_is_well(name: str, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"examples.outage.{name}")

    async def main() -> list[tuple[int, Any]]:
        async with module.app.router.lifespan_context(module.app):
            return [await ask_asgi(module.app, f"/report/{id}") for id in (1, 2)]

    with Loop.in_thread(drain=0.0) as loop:
        server = loop.spawn(http.server("127.0.0.1:0", lambda request: http.json_response({"euro": 0.5})))
        monkeypatch.setenv("RATES", f"http://{server.address}")
        assert asyncio.run(main()) == [(200, {"value": 50.0}), (200, {"value": 100.0})]


def test_the_program_measures_and_draws(database: str, tmp_path: Path) -> None:
    chart, figures = tmp_path / "chart.svg", tmp_path / "figures.json"
    command = [sys.executable, "-m", "examples.outage", "--seconds", "0.2", "--rounds", "1"]
    command += ["--database", database, "--chart", str(chart), "--json", str(figures)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Windlass: keeps" in done.stdout
    outage = msgspec.json.decode(figures.read_bytes(), type=Outage)
    assert [(row.application, row.phase) for row in outage.rows] == [
        (a, p) for a in APPLICATIONS for p in PHASES
    ]
    assert outage.row("submitting", "quick").per_second > 0
    ElementTree.parse(chart)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seconds", "0"], "--seconds is from"),
        (["--rounds", "0"], "--rounds from"),
        (["--database", "mysql://x"], "is not a URL like postgresql://"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.outage", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (1, 2)
    assert said in done.stderr.splitlines()[-1]


def course_of(*phases: tuple[int, int]) -> Course:
    """Phases of one second, each with so many good answers after 2 ms, and so many refusals after 4."""
    samples = [
        Sample(100.0 + phase + index / (good + bad), 0.002 if index < good else 0.004, index < good)
        for phase, (good, bad) in enumerate(phases)
        for index in range(good + bad)
    ]
    return Course([100.0, 101.0, 102.0, 103.0], samples, samples[:10])


def test_figures_are_medians_of_rounds() -> None:
    rounds = [course_of((100, 0), (slow, 100 - slow), (100, 0)) for slow in (10, 20, 60)]
    outage = summary(1.0, [dict.fromkeys(APPLICATIONS, course) for course in rounds])
    row = outage.row("holding", "slow")
    assert (row.per_second, row.p50, row.p99) == (20.0, 4.0, 4.0)
    assert outage.row("holding", "quick").reports == 10.0
    assert outage.kept("holding") == pytest.approx(0.2)
    windows = outage.windows["holding"]
    rates = [windows[index].per_second for index in (0, 10, 19)]
    assert rates == pytest.approx([100.0, 100.0, 0.0])
    assert (windows[0].at, windows[-1].at) == pytest.approx((0.05, 2.95))


def test_a_chart_is_drawn_of_what_was_not_asked_too() -> None:
    outage = summary(1.0, [dict.fromkeys(APPLICATIONS, course_of((10, 0), (0, 0), (10, 0)))])
    assert outage.row("holding", "slow").p99 is None
    assert draw(outage).count("<polyline") == 3 + 6  # a line that is broken has two pieces


def test_what_the_page_shows_is_what_runs() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "examples" / "outage").glob("*.py"))
    blocks = re.findall(
        r"^```py\n(.*?)^```$", (ROOT / "docs" / "outage.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert len(blocks) == 2
    assert all(block in sources for block in blocks)
