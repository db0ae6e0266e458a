"""`import windlass`: every public name under one root, each imported when it is first used."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import windlass

TREE = ast.parse(Path(windlass.__file__).read_text())


@pytest.mark.parametrize("name", windlass.__all__)
def test_a_name_is_that_of_its_package(name: str) -> None:
    value = getattr(windlass, name)
    if name == "__version__":
        assert value == version("windlass-runtime")
    elif name in ("http", "kafka", "postgres", "redis"):
        assert value is importlib.import_module(f"protocols.{name}")
    else:
        homes = [importlib.import_module(package) for package in ("actors", "pools")]
        assert value is next(getattr(home, name) for home in homes if name in home.__all__)


def test_checkers_see_the_same_names() -> None:
    seen = {alias.name for node in ast.walk(TREE) if isinstance(node, ast.ImportFrom) for alias in node.names}
    inside = {"annotations", "import_module", "TYPE_CHECKING", "Any", "Final", "check_siblings", "version"}
    assert seen - inside == set(windlass.__all__) - {"__version__"}


@pytest.mark.parametrize("package", ["actors", "pools"])
def test_nothing_public_is_missing(package: str) -> None:
    too_general = {"Event", "Exchange", "Router", "State", "pool"}  # without `pools.` before them
    names = set(importlib.import_module(package).__all__)
    assert names - set(windlass.__all__) == (too_general if package == "pools" else set())


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="module 'windlass' has no attribute 'Lop'"):
        windlass.Lop  # noqa: B018


def test_importing_it_imports_nothing() -> None:
    program = (
        "import sys, windlass; dir(windlass); print({'actors', 'pools', 'protocols'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
