"""The pool's one timer, in every order of what may happen: it is never later than the first deadline of what
waits or is in flight, and the loop needs no other reason to notice it."""

from __future__ import annotations

from itertools import product

import pytest

from actors import NEVER, Cancelled, Reply
from pools import DeadlineExceeded
from pools.testing import Bench

LATENESS = 1e-5  # seconds by which the timer may be late: a microsecond for each of a few units
STEPS = ("short", "long", "over", "accept", "answer", "cancel", "tick", "second")
TIMEOUTS = {"short": 1.5, "long": 4.5, "over": 0.0}
COUNT = 3


class Run:
    """One order of steps."""

    def __init__(self, pipeline: int) -> None:
        self.bench = Bench(connections=1, pipeline=pipeline, connect_timeout=30.0)
        self.replies: list[Reply[object]] = []

    def step(self, name: str) -> None:
        bench = self.bench
        if name in TIMEOUTS:
            self.replies.append(bench.submit(name, timeout=TIMEOUTS[name]))
        elif name == "accept":
            for sock in bench.sockets:
                sock.accept_connection()
        elif name == "answer":
            for sock in bench.sockets:
                if sock.delivered() and not sock.closed:
                    sock.arrive(b"answer\n")
        elif name == "cancel":
            self.replies[-1].cancel()
        elif name == "tick":
            bench.loop.tick(0)
        else:
            bench.kernel.clock.advance(1.0)

    @property
    def earliest(self) -> float:
        return min((reply.deadline for reply in self.replies if not reply.settled), default=NEVER)

    def finish(self) -> bool:
        """As the loop does it by itself: it sleeps until its next deadline, and never wakes for another
        reason. Whether every deadline was noticed when it had passed."""
        loop, clock = self.bench.loop, self.bench.kernel.clock
        while self.earliest != NEVER:
            self.bench.run()  # what is ready: that does not sleep
            if loop.next_deadline > max(self.earliest, loop.time()) + LATENESS:
                return False
            clock.advance(max(0.0, loop.next_deadline - loop.time()))
            loop.tick(0)
        errors = [reply.error for reply in self.replies if reply.error is not None]
        return all(isinstance(error, DeadlineExceeded | Cancelled) for error in errors)


@pytest.mark.parametrize("pipeline", [1, 2])
@pytest.mark.parametrize("before", ["short", "long", "short tick accept", "long tick accept tick"])
def test_no_order_of_events_loses_a_deadline(before: str, pipeline: int) -> None:
    for steps in product(STEPS, repeat=COUNT):
        run = Run(pipeline)
        for name in (*before.split(), *steps):
            run.step(name)
        assert run.finish(), (before, steps)
