"""The load: requests at a fixed rate, whatever becomes of the ones before (open loop), as a crowd makes them.

A latency counts from when the request was due, so that nothing is left out when this program itself is late.
"""

from __future__ import annotations

from functools import partial

from actors import Loop, Reply, sleep
from protocols import http

from .figures import Sample
from .scenario import ACCOUNTS, ACCOUNTS_PER_SECOND, CLIENT_SECONDS, REPORTS_PER_SECOND

__all__ = ["Load"]

CONNECTIONS_MAX = 1000  # more than clients wait at a time: 150 per second for 1 second, 50 for 4


class Load:
    """Asks one application."""

    def __init__(self, loop: Loop, url: str) -> None:
        self._loop = loop
        self._pool = loop.spawn(
            http.pool(url, connections=CONNECTIONS_MAX, queue=CONNECTIONS_MAX, timeout=CLIENT_SECONDS)
        )
        self.accounts: list[Sample] = []
        self.reports: list[Sample] = []
        self.waiting = 0

    def __repr__(self) -> str:
        return f"<Load {len(self.accounts)} accounts, {len(self.reports)} reports, {self.waiting} waiting>"

    def begin(self, until: Reply[None]) -> None:
        """Ask both endpoints until this settles."""
        self._loop.spawn(self._drive("/account", ACCOUNTS_PER_SECOND, self.accounts, until))
        self._loop.spawn(self._drive("/report", REPORTS_PER_SECOND, self.reports, until))

    async def finish(self) -> None:
        """Wait for what is under way."""
        while self.waiting:
            await sleep(0.01)

    async def _drive(self, path: str, rate: float, samples: list[Sample], until: Reply[None]) -> None:
        loop, number = self._loop, 0
        begin = loop.time()
        while not until.settled:
            due = begin + number / rate
            if due > loop.time():
                await sleep(due - loop.time())
            self.waiting += 1
            unit = http.get(f"{path}/{number % ACCOUNTS + 1}")
            self._pool.submit(unit).when_settled(partial(self._answered, due, samples))
            number += 1

    def _answered(self, due: float, samples: list[Sample], reply: Reply[http.Response]) -> None:
        self.waiting -= 1
        good = reply.error is None and reply.result().status == 200
        samples.append(Sample(due, self._loop.now - due, good))
