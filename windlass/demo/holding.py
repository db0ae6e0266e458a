"""The pool that nearly every service uses, written fairly, to be compared with.

A caller acquires one of a bounded number of connections, has it for itself, and releases it. A request that
needs two backends does what a handler with a session, a `with pool.connection()` around its body or an
injected connection does: it has the first backend's connection in its hands while it works with the second
one.

It is not a straw man: waiters are served in order, one whose time is over is skipped, a connection that timed
out is replaced, waiting for a connection and each request have the same time limit as with Windlass, and
underneath are the same runtime and the same HTTP client. What differs is who decides how long a connection is
taken: here it is the caller, and so the slowest thing that a caller waits for. One deadline over a whole
request would not change that: then the others are still answered, but only at the edge of that deadline.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from actors import Loop, Reply, with_deadline
from pools import Pool
from protocols import http

__all__ = ["HoldingPool"]


class HoldingPool:
    """At most `connections` connections to `url`, each of which belongs to one caller at a time."""

    def __init__(self, loop: Loop, url: str, connections: int) -> None:
        # A connection is a pool of one: this gives it reconnecting and timeouts without a second HTTP client.
        self._idle = [loop.spawn(http.pool(url, connections=1)) for _ in range(connections)]
        self._waiting: deque[Reply[Pool]] = deque()

    def __repr__(self) -> str:
        return f"<HoldingPool {len(self._idle)} idle, {len(self._waiting)} waiting>"

    def acquire(self, timeout: float) -> Reply[Pool]:
        """A connection, as soon as one is free; `DeadlineExceeded` after `timeout` seconds."""
        reply: Reply[Pool] = Reply()
        if self._idle:
            reply.settle(self._idle.pop())
        else:
            self._waiting.append(reply)
        return with_deadline(reply, timeout)

    def release(self, connection: Pool) -> None:
        """Give it to the caller that has waited longest and still waits."""
        while self._waiting:
            if self._waiting.popleft().settle(connection):
                return
        self._idle.append(connection)

    @contextmanager
    def held(self, connection: Pool) -> Iterator[Pool]:
        """`with pool.held(await pool.acquire(1.0)) as connection:` releases it at the end."""
        try:
            yield connection
        finally:
            self.release(connection)
