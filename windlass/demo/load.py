"""The load: requests at a fixed rate whether or not the ones before were answered (open loop), as a crowd of
users makes them.

A latency counts from when the request was due, so a stall of the gateway or of this generator is not left
out.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from actors import Loop, Reply, sleep
from protocols import http

from .figures import Sample
from .scenario import TIMEOUT_SECONDS, USERS_SHARE

__all__ = ["Load"]

CONNECTIONS_MAX = 2000
LATEST_SECONDS = 4 * TIMEOUT_SECONDS  # to wait for an answer; the gateway gives up long before


class Load:
    """Asks one gateway; answered requests gather as samples, to be taken by `take`."""

    def __init__(self, loop: Loop, url: str, rate: float) -> None:
        self._loop = loop
        self._rate = rate
        self._pool = loop.spawn(
            http.pool(url, connections=CONNECTIONS_MAX, queue=CONNECTIONS_MAX, timeout=LATEST_SECONDS)
        )
        self._samples: list[Sample] = []
        self.waiting = 0

    def __repr__(self) -> str:
        return f"<Load {self._rate:g}/s, {self.waiting} waiting>"

    def take(self) -> list[Sample]:
        """What was answered since the last time."""
        samples, self._samples = self._samples, []
        return samples

    async def drive(self, stop: Reply[Any]) -> None:
        """Ask until `stop` settles."""
        loop = self._loop
        due, share = loop.time(), 0.0
        while not stop.settled:
            if due > loop.time():
                await sleep(due - loop.time())
            share += USERS_SHARE
            alone = share >= 1.0
            share -= alone
            self._ask(due, alone)
            due += 1.0 / self._rate

    async def finish(self) -> None:
        """Wait for what is under way."""
        while self.waiting:
            await sleep(0.01)

    def _ask(self, due: float, alone: bool) -> None:
        self.waiting += 1
        unit = http.get("/users/7" if alone else "/profile/7")
        self._pool.submit(unit).when_settled(partial(self._answered, due, alone))

    def _answered(self, due: float, alone: bool, reply: Reply[http.Response]) -> None:
        self.waiting -= 1
        good = reply.error is None and reply.result().status == 200
        self._samples.append(Sample(due, self._loop.now - due, alone, good))
