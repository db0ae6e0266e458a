"""A pool on a kernel without sockets, its peers played by the test. Whenever it has run, the pool's books are
checked: see `pools.invariants`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors import Loop, Reply
from actors.testing import FakeSocket, ManualKernel
from pools.invariants import check_pool
from pools.pool import Pool, pool
from pools.units import Unit
from pools.wires import Wire

from .lines import Ask, LineWire

__all__ = ["Bench"]


class Bench:
    """A pool of `wire` on a manual kernel. `options` are the pool's."""

    name = "bench"

    def __init__(
        self,
        wire: Callable[[], Wire] = LineWire,
        backends: tuple[str, ...] = ("192.0.2.7:7000",),
        *,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.kernel = ManualKernel(seed=seed)
        self.loop = Loop(kernel=self.kernel)
        self.pool: Pool = self.loop.spawn(pool(wire, backends, **options))

    def __repr__(self) -> str:
        return f"<Bench {self.pool!r}>"

    @property
    def sockets(self) -> list[FakeSocket]:
        """One per connection, in the order in which they were begun."""
        return self.kernel.sockets

    def run(self, ticks: int = 4) -> None:
        """Let the loop do what there is to do. Raises `actors.simulation.Broken` if the books are wrong."""
        for _ in range(ticks):
            self.loop.tick(0)
        check_pool(self.pool, self)

    def advance(self, seconds: float) -> None:
        """Let time pass, and the loop notice."""
        self.kernel.clock.advance(seconds)
        self.run()

    def submit(self, unit: Unit[Any] | str, **options: Any) -> Reply[Any]:
        """Submit to the pool; a string becomes an `Ask`."""
        return self.pool.submit(Ask(unit) if isinstance(unit, str) else unit, **options)

    def accept(self) -> None:
        """Every backend accepts what is connecting."""
        self.run()
        for sock in self.sockets:
            sock.accept_connection()
        self.run()

    def refuse(self) -> None:
        """Every backend refuses what is connecting."""
        self.run()
        for sock in self.sockets:
            if not sock.closed and sock.readiness() == 0:
                sock.refuse()
        self.run()

    def sent(self, index: int = -1) -> list[str]:
        """The lines that a connection has sent since the last call."""
        self.run()
        return self.sockets[index].delivered().decode().splitlines()

    def answer(self, *lines: str, index: int = -1) -> None:
        """A backend answers on a connection."""
        for line in lines:
            self.sockets[index].arrive(line.encode() + b"\n")
        self.run()

    def end(self, index: int = -1) -> None:
        """A backend closes a connection (FIN)."""
        self.sockets[index].end()
        self.run()

    def reset(self, index: int = -1) -> None:
        """A backend resets a connection (RST)."""
        self.sockets[index].reset()
        self.run()

    def add_up(self) -> bool:
        """Whether every unit that was submitted is accounted for."""
        now = self.pool.statistics()
        return self.pool.ledger.adds_up(now.queued + now.in_flight)
