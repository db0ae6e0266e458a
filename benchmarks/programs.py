"""Programs that measure themselves and print microseconds per operation; run on the server's core."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.contest import Sample
from benchmarks.machine import ROOT, SERVER_CORES, run_on
from benchmarks.servers import Absent

__all__ = ["microseconds"]

SECONDS_MAX = 120


def microseconds(module: str, *arguments: str | float, python: str | Path = sys.executable) -> Sample:
    """Run `python -m module arguments` and read the figure it prints. Raises `Absent` if it fails."""
    command = [python, "-m", module, *map(str, arguments)]
    with run_on(SERVER_CORES):
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS_MAX
        )
    if done.returncode:
        raise Absent((done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    return {"value": float(done.stdout)}
