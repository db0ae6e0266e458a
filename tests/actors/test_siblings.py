"""What is said when another package of one of our names is in the way, in every order of import."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HOME = Path(__import__("actors").__file__).parent.parent
PACKAGES = ("actors", "pools", "protocols", "windlass")
SHADOW = "THERE = True\n"


def error_of(statement: str, *folders: Path) -> str:
    """The last line of standard error after `statement` ran with these folders first in `sys.path`."""
    path = [*map(str, folders), sysconfig.get_path("purelib")]
    done = subprocess.run(
        # Without `site`, so that an editable installation of ours is not found besides.
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {path!r}; {statement}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == (1 if done.stderr else 0)
    return done.stderr.strip().rpartition("\n")[2]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder that holds our packages as an installation does, without the single protocols."""
    folder = tmp_path / "site-packages"
    for name in PACKAGES:
        shutil.copytree(
            HOME / name,
            folder / name,
            ignore=shutil.ignore_patterns("http", "redis", "postgres", "kafka", "scenarios"),
        )
    return folder


@pytest.mark.parametrize(
    "statement", [f"import {name}" for name in PACKAGES] + ["from protocols import http"]
)
def test_nothing_is_said_of_our_own(statement: str) -> None:
    assert error_of(statement, HOME) == ""


@pytest.mark.parametrize(
    ("name", "first"), [("pools", "actors"), ("protocols", "actors"), ("protocols", "pools")]
)
def test_a_package_that_comes_before_ours_is_named(tmp_path: Path, name: str, first: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(SHADOW)
    said = error_of(f"import {first}", tmp_path, HOME)
    assert said.startswith("ImportError: ")
    assert f"`import {name}` finds {tmp_path / name}, which is not Windlass's; rename or remove it" in said


def test_a_program_may_be_called_windlass(tmp_path: Path) -> None:
    (tmp_path / "windlass.py").write_text(SHADOW)
    assert error_of("from protocols import http", tmp_path, HOME) == ""


@pytest.mark.parametrize("first", ["pools", "protocols"])
@pytest.mark.parametrize("shadow", ["actors.py", "actors/__init__.py"])
def test_an_actors_in_the_way_is_named_whoever_is_imported_first(
    tmp_path: Path, first: str, shadow: str
) -> None:
    (tmp_path / shadow).parent.mkdir(exist_ok=True)
    (tmp_path / shadow).write_text(SHADOW)
    said = error_of(f"import {first}", tmp_path, HOME)
    assert said.startswith(f"ImportError: {first} of Windlass needs its `actors`")
    assert f"`import actors` finds {tmp_path / shadow}; rename or remove that" in said


def test_a_missing_actors_is_named(installed: Path) -> None:
    shutil.rmtree(installed / "actors")
    said = error_of("import pools", installed)
    assert "`import actors` finds nothing" in said
    assert "install Windlass (the distribution windlass-runtime) again" in said


@pytest.mark.parametrize(
    ("over", "statement"),
    [
        ("actors", "from protocols import http"),
        ("actors", "import pools"),
        ("pools", "import actors"),
        ("protocols", "import actors"),
        ("windlass", "import actors"),
        ("actors", "import windlass; windlass.Loop"),
        ("pools", "from protocols import http"),
    ],
)
def test_a_distribution_installed_over_ours_is_named(installed: Path, over: str, statement: str) -> None:
    (installed / over / "__init__.py").write_text(SHADOW)
    for distribution in ("windlass_runtime", "stranger"):
        record = installed / f"{distribution}-1.0.dist-info"
        record.mkdir()
        (record / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution.replace('_', '-')}\nVersion: 1.0\n"
        )
        (record / "top_level.txt").write_text(f"{over}\n")
    said = error_of(statement, installed)
    assert f"{installed / over / '__init__.py'} is not Windlass's: stranger was installed over it" in said
    assert "uninstall that, then install Windlass (the distribution windlass-runtime) again" in said
