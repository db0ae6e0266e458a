"""A PostgreSQL for the examples that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.protocols.postgres.servers import Server, running_server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """PostgreSQL, set up and running."""
    with running_server() as server:
        yield server
