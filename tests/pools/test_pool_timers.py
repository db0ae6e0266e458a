"""The pool's one timer, in every order of what may happen: it is never later than the first deadline of what
waits or is in flight, and the loop needs no other reason to notice it."""

from __future__ import annotations

from itertools import product

import pytest

from actors import NEVER, Cancelled, Reply
from pools import PoolError
from pools.testing import Ask, Bench, LineWire

LATENESS = 1e-5  # seconds by which the timer may be late: a microsecond for each of a few units
STEPS = ("short", "over", "accept", "answer", "reset", "cancel", "tick", "second")
TIMEOUTS = {"short": 1.5, "long": 4.5, "over": 0.0}
COUNT = 3

BEFORE = {
    "connected when it is late": "long second tick accept",
    "two sent": "long short tick accept tick",
}
"""Each begins with units that ask again as soon as they have failed."""


class Run:
    """One order of steps. Who answers greets, too, where the wire waits for that."""

    def __init__(self, *, greeting: bool) -> None:
        self.bench = Bench(
            lambda: LineWire(b"answer" if greeting else b""), connections=1, pipeline=2, connect_timeout=3.0
        )
        self.replies: list[Reply[object]] = []

    def submit(self, name: str) -> Reply[object]:
        reply = self.bench.submit(Ask(name, idempotent=True), timeout=TIMEOUTS[name])
        self.replies.append(reply)
        return reply

    def submit_again(self, reply: Reply[object]) -> None:
        if reply.error is not None:
            self.submit("short")

    def step(self, name: str) -> None:
        bench = self.bench
        if name in TIMEOUTS:
            self.submit(name)
        elif name == "cancel":
            self.replies[-1].cancel()
        elif name == "tick":
            bench.loop.tick(0)
        elif name == "second":
            bench.kernel.clock.advance(1.0)
        for sock in bench.sockets:
            if name == "accept":
                sock.accept_connection()
            elif name == "answer" and not sock.closed:
                sock.arrive(b"answer\n")
            elif name == "reset" and not sock.closed:
                sock.reset()

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
        return all(isinstance(error, PoolError | Cancelled) for error in errors) and self.bench.add_up()


@pytest.mark.parametrize("greeting", [False, True])
@pytest.mark.parametrize("before", BEFORE)
def test_no_order_of_events_loses_a_deadline(before: str, greeting: bool) -> None:
    for steps in product(STEPS, repeat=COUNT):
        run = Run(greeting=greeting)
        for name in BEFORE[before].split():
            run.step(name)
        for reply in list(run.replies):
            reply.when_settled(run.submit_again)
        for name in steps:
            run.step(name)
        assert run.finish(), (before, steps)
