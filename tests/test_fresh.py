"""What CI makes of a fresh seed that fails: a change is stopped for its own bugs, and told of older ones."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("fresh.sh")
LINE = '{"scenario": "pool", "seed": 7}'


@pytest.fixture
def run(tmp_path: Path, require_program: Callable[[str, str], str]) -> Callable[..., tuple[int, str]]:
    """Runs the script in a repository of its own, whose programs only pretend."""
    git = require_program("git", "apt-get install git")
    (tmp_path / "tests" / "windlass").mkdir(parents=True)
    shutil.copy(SCRIPT, tmp_path / "tests")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    kept = tmp_path / "tests" / "windlass" / "kept_seeds.jsonl"
    kept.write_text("")

    def program(name: str, text: str) -> None:
        path = tmp_path / ".venv" / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def commit(count: int) -> None:
        own = [git, "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run([git, "init", "--quiet"], cwd=tmp_path, check=True)
        for _ in range(count):
            subprocess.run([git, "add", "tests"], cwd=tmp_path, check=True)
            subprocess.run([*own, "commit", "--quiet", "--allow-empty", "-m", "x"], cwd=tmp_path, check=True)

    def go(*, fails: bool = True, before: int = 1, commits: int = 2, found: str = LINE) -> tuple[int, str]:
        for last in ("found", "told"):
            assert not (tmp_path / last).exists()
        program("windlass", f"printf '%s' '{found}\n' >\"$8\"; exit 1" if fails else "exit 0")
        program("python", f"cat tests/windlass/kept_seeds.jsonl; exit {before}")
        commit(commits)
        done = subprocess.run(
            ["sh", "tests/fresh.sh", "1"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert kept.read_text() == (f"{found}\n" if fails and found else "")
        return done.returncode, done.stdout

    return go


def test_none_has_failed(run: Callable[..., tuple[int, str]]) -> None:
    assert run(fails=False) == (0, "")


def test_an_older_bug_is_told_and_stops_nothing(run: Callable[..., tuple[int, str]]) -> None:
    status, out = run(before=1)
    assert status == 0
    assert "A FRESH SEED HAS FAILED" in out
    assert LINE in out
    assert out.endswith("an OLDER BUG, which this change is not stopped for.\n")


def test_what_held_before_is_red(run: Callable[..., tuple[int, str]]) -> None:
    status, out = run(before=0)
    assert status == 1
    assert f"It holds on the commit before: {LINE}" in out


def test_what_cannot_be_compared_is_told(run: Callable[..., tuple[int, str]]) -> None:
    status, out = run(commits=1)
    assert status == 0
    assert "There is no commit before" in out
