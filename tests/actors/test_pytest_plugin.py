"""The plugin, in pytest runs of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCENARIO = """
from actors import sleep
from actors.simulation import World


def work(world: World) -> None:
    async def wait() -> float:
        await sleep(world.random("wait").uniform(1, 2))
        return world.now

    def program(host):
        host.expect(host.loop.spawn(wait()), "the wait")

    world.host("only", program)


def broken(world: World) -> None:
    work(world)
    world.eventually("pigs fly", lambda: False)


def now_and_then(world: World) -> None:
    work(world)
    world.check(world.decisions.seed != 44, "seed 44 is unlucky")
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # others' plugins take seconds to import anew
    pytester.makepyfile(scenarios=SCENARIO)
    pytester.syspathinsert()
    return pytester


def outcome(run: pytest.Pytester, body: str, *arguments: str) -> pytest.RunResult:
    run.makepyfile(f"from scenarios import *\n\n{body}")
    return run.runpytest_inprocess("-p", "windlass.pytest_plugin", "-p", "no:cacheprovider", *arguments)


def test_a_scenario_is_run_with_the_seed_that_was_given(run: pytest.Pytester) -> None:
    body = """
def test_it(simulation, windlass_seed):
    report = simulation.run(work, seconds=0.5)
    assert (report.seed, windlass_seed, simulation.seed) == (7, 7, 7)
    assert report.hash == simulation.run(work, seconds=0.5).hash
    assert "seed 7" in repr(simulation)
"""
    outcome(run, body, "--windlass-seed", "7").assert_outcomes(passed=1)


def test_a_failure_shows_its_seed_and_the_line_that_runs_it_again(run: pytest.Pytester) -> None:
    result = outcome(run, "def test_it(simulation):\n    simulation.run(broken, seconds=0.5)\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*pigs fly*", "*- windlass -*"])
    line = re.search(r"pytest 'test_a_failure\S+::test_it' --windlass-seed=(\d+)", result.stdout.str())
    assert line is not None
    again = outcome(
        run, "def test_it(simulation):\n    assert simulation.seed < 0\n", f"--windlass-seed={line[1]}"
    )
    again.stdout.fnmatch_lines([f"*--windlass-seed={line[1]}"])


def test_of_several_seeds_the_one_that_failed_is_shown(run: pytest.Pytester) -> None:
    body = "def test_it(simulation):\n    simulation.run(now_and_then, seconds=0.1, runs=5)\n"
    result = outcome(run, body, "--windlass-seed=42")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*seed 44 is unlucky*", "*--windlass-seed=44"])
    outcome(run, body, "--windlass-seed=45").assert_outcomes(passed=1)


def test_the_faults_that_it_takes_are_shown(run: pytest.Pytester) -> None:
    body = """
from actors.simulation import Faults

def killed(world):
    work(world)
    world.host("weak", lambda host: host.world.check(host.boots < 2, "it was killed"), crashes=True)

def test_it(simulation):
    simulation.run(killed, faults=Faults(kill=5.0, jump=5.0), seconds=3)
"""
    result = outcome(run, body, "--windlass-seed=1")
    result.stdout.fnmatch_lines(["*it was killed", "*it takes: script=[[]", '*Act(at=*kind="kill"*'])
    script = result.stdout.str().partition("it takes: script=")[2].partition("]")[0]
    assert script.count("Act(at=") == 1
    calm = outcome(run, "def test_it(simulation):\n    simulation.run(broken, seconds=0.1)\n")
    calm.stdout.fnmatch_lines(["*it takes no faults"])


def test_what_is_not_the_same_twice_is_found(run: pytest.Pytester) -> None:
    body = """
import itertools
turn = itertools.count()

def differs(world):
    work(world)
    world.note(f"turn {next(turn)}")

def test_it(simulation):
    simulation.run(differs, seconds=0.1)
"""
    outcome(run, body).stdout.fnmatch_lines(["*two runs are not the same*"])


def test_a_world_by_hand_is_guarded_until_the_test_has_ended(run: pytest.Pytester) -> None:
    body = """
import time
import pytest
from actors.simulation import RealityReached

def test_it(simulation):
    world = simulation.world()
    work(world)
    with pytest.raises(RealityReached):
        time.time()
    world.run(0.5)
    world.heal()
    world.settle()
    assert 1 < world.now < 3

def test_after_it():
    assert time.time() > 0

def test_none(simulation):
    with pytest.raises(ValueError, match="write 1 or more"):
        simulation.run(work, runs=0)
"""
    outcome(run, body).assert_outcomes(passed=3)


def test_clock_kernel_and_transport_belong_together(run: pytest.Pytester) -> None:
    body = """
from actors import Loop, sleep

async def wait():
    await sleep(60)

def test_time(manual_kernel, manual_clock):
    with Loop(kernel=manual_kernel) as loop:
        reply = loop.spawn(wait())
        loop.tick(0)
        manual_clock.advance(60)
        loop.tick(0)
        assert reply.settled

def test_bytes(fake_transport, manual_clock):
    fake_transport.arrive(b"abc")
    fake_transport.write(fake_transport.take(3).upper())
    assert fake_transport.sent() == b"ABC"
    manual_clock.advance(5)
    assert fake_transport.scope.loop.time() == manual_clock.now
"""
    outcome(run, body).assert_outcomes(passed=2)


def test_a_failure_that_has_no_simulation_shows_no_seed(run: pytest.Pytester) -> None:
    result = outcome(run, "def test_it(manual_clock):\n    assert manual_clock.now < 0\n")
    result.stdout.no_fnmatch_line("*--windlass-seed*")


def test_pytests_start_imports_nothing_of_ours(tmp_path: Path) -> None:
    (tmp_path / "actors").mkdir()  # somebody's own, of this name
    (tmp_path / "actors" / "__init__.py").write_text("mine = True\n")
    (tmp_path / "test_mine.py").write_text(
        "import sys\n\n\ndef test_it():\n    assert 'actors.loop' not in sys.modules\n"
        "    import actors\n    assert actors.mine\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "windlass.pytest_plugin", "-p", "no:cacheprovider"]
    command += ["-p", "no:anyio", "."]  # which would import all of trio
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
