"""32 threads ask one pool for answers that nobody else asks for: each gets its own."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from actors import Loop
from protocols import http
from tests.soak.backend import expected

THREADS = 32


@pytest.mark.parametrize("pipeline", [1, 16])
def test_no_answer_is_another_threads(backend: Any, full_size: bool, pipeline: int) -> None:
    rounds = 1_000 if full_size else 100
    wrong: list[Any] = []

    def ask(pool: Any, thread: int) -> None:
        try:
            for step in range(rounds):
                target, body = f"/{thread}/{step}", b"%d:%d" % (thread, step)
                answer = pool.submit(http.put(target, body=body)).result(timeout=30.0)
                if answer.body != expected("PUT", target, body):
                    wrong.append((target, answer.body))
        except Exception as error:
            wrong.append(error)

    with Loop.in_thread() as loop:
        pool = loop.spawn(http.pool(backend.url, connections=8, pipeline=pipeline))
        threads = [threading.Thread(target=ask, args=(pool, number)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statistics = pool.statistics()
    assert not wrong, wrong[:5]
    assert statistics.succeeded == statistics.submitted == THREADS * rounds
    assert (statistics.lost, statistics.closed) == (0, 0)
