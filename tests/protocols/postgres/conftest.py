"""A PostgreSQL for the session, and a pool of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actors import Loop
from pools import Pool, Unit
from protocols import postgres
from tests.protocols.postgres.servers import Server, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """PostgreSQL, set up and running."""
    with running_server() as server:
        yield server


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


@pytest.fixture
def db(loop: Loop, server: Server) -> Pool:
    """A pool of two connections."""
    return loop.spawn(postgres.pool(server.url, connections=2, pipeline=8))


@pytest.fixture
def ask(loop: Loop, db: Pool) -> Callable[[Unit[Any]], Any]:
    """`ask(unit)`: what the pool answers."""

    def submit(unit: Unit[Any], timeout: float = 10.0) -> Any:
        return loop.run_until(db.submit(unit, timeout=timeout))

    return submit
