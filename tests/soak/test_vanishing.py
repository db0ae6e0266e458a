"""Clients that vanish in the middle: no connection is leaked, and no answer reaches another client."""

from __future__ import annotations

import random
from typing import Any

from actors import Loop
from actors.testing import run_until
from protocols import http
from tests.soak.askers import Asker, Tally, Vanisher, dial, questions

AT_A_TIME = 100


def test_clients_that_vanish_leave_nothing_behind(backend: Any, rng: random.Random, full_size: bool) -> None:
    count = 10_000 if full_size else 1_500
    with Loop() as loop:
        pool = loop.spawn(http.pool(backend.url, connections=8, pipeline=4, timeout=20.0))
        server = loop.spawn(http.server("127.0.0.1:0", http.proxy(pool)))
        tally = Tally()
        todo = questions(count, rng)
        for _ in range(8):
            dial(loop, server.address, Asker(todo, tally))
        begun = gone = 0

        def another() -> None:
            nonlocal begun, gone
            gone += 1
            if begun < count:
                begun += 1
                dial(loop, server.address, Vanisher(rng, begun, another))

        for _ in range(AT_A_TIME):
            begun += 1
            dial(loop, server.address, Vanisher(rng, begun, another))
        run_until(loop, lambda: gone == count and not tally.living, seconds=300.0, ticks=count * 200)
        assert not tally.wrong, tally.wrong[:5]
        assert tally.statuses == {200: count}

        def at_rest() -> bool:
            now = pool.statistics()
            idle = sum(each.idle for each in now.backends)
            return not (server.connections or now.in_flight or now.orphans) and idle == now.connections

        run_until(loop, at_rest, seconds=60.0)
        now = pool.statistics()
        assert now.submitted == now.succeeded + sum(now.failed.values())
        assert set(now.failed) <= {"Cancelled", "ConnectionLost"}, now.failed
        assert loop.machines == 2 + now.connections
        assert loop.statistics().crashed == 0
        print(f"{gone} vanished, {tally}, {now}")  # noqa: T201
