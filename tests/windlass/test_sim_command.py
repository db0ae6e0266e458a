"""`windlass sim`: what it prints, what it writes, how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from windlass.main import main
from windlass.scenarios import SCENARIOS
from windlass.sim import Batch, run_batch, run_sim

ROOT = Path(__file__).parents[3]
SECONDS_MAX = 60.0
MINE = """\
from actors.simulation import Faults, scenario


def idle(host):
    pass


@scenario(seconds=1.0, faults=Faults(stall=5.0, lag=5.0))
def mine(world):
    '''Nobody may be stalled.'''
    world.host("a", idle)
    world.at(0.9, lambda: world.check(not world.injector.hits["stall"], "it was stalled"))


@scenario(seconds=1.0)
def fine(world):
    '''Nothing is wrong.'''
    world.host("a", idle)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a scenario file, and the current one."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # and put back what the command adds
    return tmp_path


def test_the_list_shows_what_each_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(SCENARIOS)
    assert all(line.endswith(".") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("sim", "no scenario; write one of "),
        ("sim pol", "there is no scenario 'pol'; did you mean pool?"),
        ("sim zzz", "there is no scenario 'zzz'; write one of "),
        ("sim pool --run 3", "there is no option --run; did you mean --runs?"),
        ("sim pool --seed -1", "write a number from 0"),
        ("sim pool --faults wild", "--faults: invalid choice: 'wild'"),
        ("sim none.py:x", "there is no file none.py"),
    ],
)
def test_a_mistake_is_answered(arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 2
    assert said in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--help"]) == 0
    assert "--runs N" in capsys.readouterr().out


def test_one_seed_shows_its_trace_and_is_the_same_again(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for _ in range(2):
        assert main(["sim", "pool", "--seed", "3", "--seconds", "0.5"]) == 0
        told.append([line for line in capsys.readouterr().out.splitlines() if line.startswith("trace ")])
    assert told[0] == told[1]
    assert len(told[0]) == 1


def test_a_failure_is_shrunk_to_a_test(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_sim(["mine.py:mine", "--seed", "1"]) == 1
    out = capsys.readouterr().out
    assert "seed 1 failed: it was stalled" in out
    assert "again: windlass sim mine.py:mine --seed 1\n" in out
    assert "faults shrunk to 1 in" in out
    written = (mine / "test_mine_1.py").read_text()
    assert 'kind="stall"' in written
    namespace: dict[str, object] = {}
    exec(written, namespace)
    with pytest.raises(AssertionError, match="it was stalled"):
        namespace["test_mine_1"]()  # type: ignore[operator]


def test_where_the_test_goes(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_sim(["mine:mine", "--seed", "1", "--faults", "storm", "--keep", "no/such/folder.py"]) == 1
    out = capsys.readouterr().out
    assert "again: windlass sim mine:mine --seed 1 --faults storm\n" in out
    assert "not written to no/such/folder.py: No such file or directory" in out


def test_many_seeds_in_several_processes(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_sim(["mine.py:fine", "--runs", "12", "--jobs", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("fine: 12 seeds, each run twice, 0 failed; ")
    assert "outcomes: none" in out
    assert run_sim(["mine.py:mine", "--runs", "1000"]) == 1
    assert run_batch(Batch("mine.py:fine", range(3), None), 0.1, None, False).seeds == 3


def test_what_means_nothing_beside_a_seed_is_said(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_sim(["mine.py:fine", "--seed", "1", "--runs", "50", "--jobs", "2"]) == 0
    assert capsys.readouterr().err == "--seed runs one seed: --runs, --jobs means nothing beside it\n"


def test_for_so_long(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_sim(["mine.py:fine", "--for", "0.01", "--seconds", "0.01"]) == 0
    assert capsys.readouterr().out.startswith("fine: ")


ALL = """\
import sys

from windlass import sim

sim.SCENARIOS = {"mine": "mine.py:mine", "fine": "mine.py:fine"}
if __name__ == "__main__":
    sys.exit(sim.run_sim("all --first 7 --runs 5 --seconds 2 --kept kept".split()))
"""


def test_all_scenarios_in_turn(mine: Path) -> None:
    (mine / "program.py").write_text(ALL)
    done = subprocess.run([sys.executable, "program.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    out = done.stdout
    assert out.startswith("seeds from 7 on: windlass sim all --first 7\n")
    assert re.search(r"^fine +own +5 seeds, 0 failed; ", out, re.MULTILINE)
    assert re.search(r"^fine +storm +5 seeds, 0 failed; ", out, re.MULTILINE)
    assert re.search(r"^mine +\w+ +\d seeds, 1 failed; ", out, re.MULTILINE)
    assert "constants turned to" in out
    assert "again: windlass sim mine" in out
    kept = json.loads((mine / "kept").read_text().splitlines()[0])
    assert (kept["scenario"], kept["found"]) == ("mine", "it was stalled")
    assert kept["seed"] in range(7, 12)


def test_all_takes_no_seed(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "all", "--seed", "1"]) == 2
    assert "write the scenario's name instead of all" in capsys.readouterr().err


def test_on_the_real_kernel(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_sim(["mine.py:fine", "--real", "--runs", "2", "--seconds", "0.01"]) == 0
    assert capsys.readouterr().out.startswith("fine: 2 seeds, 0 failed; ")
    assert run_sim(["mine.py:mine", "--real", "--seed", "1", "--seconds", "0.95", "--faults", "calm"]) == 0
    assert run_sim(["mine.py:mine", "--real", "--seed", "1", "--seconds", "0.95"]) == 1
    out = capsys.readouterr().out
    assert "seed 1 failed: it was stalled" in out
    assert "shrunk" not in out


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_ends_with_the_summary_so_far(jobs: str) -> None:
    command = [sys.executable, "-u", "-c", INTERRUPTED, jobs]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    os.killpg(process.pid, signal.SIGINT)  # a terminal tells the workers, too
    try:
        out, err = process.communicate(timeout=SECONDS_MAX)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, err
    assert "interrupted; results so far" in err
    assert " seeds, each run twice, 0 failed" in out


INTERRUPTED = """
import sys
from windlass import sim

tally = sim.Tally.merge

def merge(self, other):
    tally(self, other)
    if self.seeds == other.seeds:
        print("running")

if __name__ == "__main__":
    sim.Tally.merge = merge
    sys.exit(sim.run_sim(["pool", "--runs", "100000", "--seconds", "0.2", "--jobs", sys.argv[1]]))
"""
