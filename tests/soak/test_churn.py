"""Nothing is lost and nothing mixed up while a backend is killed and restarted at random moments."""

from __future__ import annotations

import random
from typing import Any

import pytest

from actors import Loop, Machine, Outcome, Scope, Timeout
from actors.testing import run_until
from protocols import http
from tests.soak.askers import Asker, Tally, dial, questions

ANSWERS = 30  # by each backend before it is killed, however slow the machine is


class Killer(Machine[Any]):
    """Has the backend killed at random moments, once it has answered something."""

    def __init__(self, backend: Any, rng: random.Random, tally: Tally) -> None:
        self.backend = backend
        self.rng = rng
        self.tally = tally
        self.enough = ANSWERS

    def start(self, scope: Scope) -> Outcome:
        """The first time soon."""
        return Timeout(self, scope.now + self.rng.uniform(0.01, 0.05))

    def timeout(self, scope: Scope) -> Outcome:
        """And again."""
        if self.tally.statuses[200] >= self.enough:
            self.enough = self.tally.statuses[200] + ANSWERS
            self.backend.kill()
        return Timeout(self, scope.now + self.rng.uniform(0.005, 0.1))


@pytest.mark.parametrize(("connections", "pipeline"), [(2, 64), (16, 1)])
def test_every_client_gets_its_own_answer_while_the_backend_dies(
    backend: Any, rng: random.Random, full_size: bool, connections: int, pipeline: int
) -> None:
    count = 100_000 if full_size else 10_000
    with Loop() as loop:
        pool = loop.spawn(http.pool(backend.url, connections=connections, pipeline=pipeline, timeout=20.0))
        server = loop.spawn(http.server("127.0.0.1:0", http.proxy(pool)))
        tally = Tally()
        todo = questions(count, rng)
        for _ in range(64):
            dial(loop, server.address, Asker(todo, tally))
        killer = loop.spawn_with_token(Killer(backend, rng, tally))[0]
        run_until(loop, lambda: not tally.living, seconds=300.0, ticks=count * 100)
        loop.kill(killer)
        assert not tally.wrong, tally.wrong[:5]
        assert tally.asked == sum(tally.statuses.values()) == count
        assert set(tally.statuses) <= {200, 502}
        assert tally.statuses[200] >= ANSWERS * backend.kills
        assert backend.kills > 3
        now = pool.statistics()
        assert now.submitted == count
        assert now.succeeded == tally.statuses[200]
        assert sum(now.failed.values()) == tally.statuses[502]
        assert (now.queued, now.in_flight, now.orphans) == (0, 0, 0)
        assert server.statistics().requests == count
        assert loop.statistics().crashed == 0
        told = f"{now.retried} retried, {now.taken_back} taken back, {now.lost} connections lost"
        print(f"{tally}, {backend.kills} kills, {told}")  # noqa: T201
