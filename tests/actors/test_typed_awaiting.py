"""What is awaited has exact types: a type checker says so of `typed_awaiting.py`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PROGRAM = Path(__file__).parent / "typed_awaiting.py"


def test_awaiting_is_typed(require_program: Callable[[str, str], str]) -> None:
    if importlib.util.find_spec("mypy") is None:
        require_program("mypy", "pip install mypy")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(PROGRAM)],
        cwd=PROGRAM.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
