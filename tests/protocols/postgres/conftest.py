"""A PostgreSQL for the session, and a pool of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actors import Loop
from actors.simulation.knobs import turned
from pools import Pool, Unit
from protocols import postgres
from tests.protocols.postgres.servers import Server, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """PostgreSQL, set up and running."""
    with running_server() as server:
        yield server


@pytest.fixture(autouse=True)
def patience(request: pytest.FixtureRequest) -> Iterator[None]:
    """A real server on a busy machine may take its time to hear a CancelRequest."""
    given = {"protocols.postgres.orphans.LINGER_SECONDS": 30.0} if "server" in request.fixturenames else {}
    with turned(given, ("protocols.postgres",)):
        yield


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
