"""What the load proofs share: sizes, a seed that a failed test shows, and the backend that can be killed."""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FULL = os.environ.get("WINDLASS_SOAK") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Load is not slowed by measuring: which lines are run, the tests of each part tell."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.no_cover)


@pytest.fixture
def full_size() -> bool:
    """Whether the sizes are those of `make soak`."""
    return FULL


@pytest.fixture
def rng() -> random.Random:
    """Seeded: `WINDLASS_SEED` repeats a run; what pytest shows of a failed test tells the seed."""
    seed = int(os.environ.get("WINDLASS_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"WINDLASS_SEED={seed}")  # noqa: T201
    return random.Random(seed)


@pytest.fixture
def backend(free_port: Callable[[], int]) -> Iterator[Backend]:
    """A running `tests.soak.backend`."""
    process = Backend(free_port())
    yield process
    process.close()


class Backend:
    """The process of `tests.soak.backend`, and how to have its server killed and replaced."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.kills = self._restarts = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.backend", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._up()

    def _up(self) -> None:
        assert self._process.stdout is not None
        while self._process.stdout.readline() != b"up\n":
            assert self._process.poll() is None

    @property
    def url(self) -> str:
        """What a pool is given."""
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """SIGKILL the server; the next one is forked at once. Nothing is done while that is not up yet."""
        assert self._process.stdin is not None
        if self.kills > self._restarts:
            if not select.select([self._process.stdout], [], [], 0)[0]:
                return
            self._up()
            self._restarts += 1
        self.kills += 1
        self._process.stdin.write(b"kill\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """No more."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10.0)
