"""This machine: its cores and how they are shared out, its limits, its description for the record."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "BUILD",
    "LOAD_CORES",
    "PEERS",
    "PEER_BIN",
    "ROOT",
    "SERVER_CORES",
    "describe",
    "raise_descriptor_limit",
    "run_on",
]

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).resolve().parent / "peers"
PEER_BIN = ROOT / ".venv-bench" / "bin"
BUILD = ROOT / "benchmarks" / ".build"

_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORES = set(_CORES[:1])
LOAD_CORES = set(_CORES[1:]) or SERVER_CORES


@contextmanager
def run_on(cores: Set[int]) -> Iterator[None]:
    """Processes started inside run on these cores: a child inherits what its parent's thread may use."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_descriptor_limit() -> int:
    """Raise the soft limit on open files to the hard one, here and for all children; return it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def describe() -> dict[str, str | int | bool]:
    """What a reader needs to judge the figures by."""
    return {
        "cpu": _cpu_model(),
        "cores": len(_CORES),
        "load_on_other_cores": LOAD_CORES != SERVER_CORES,
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
    }
