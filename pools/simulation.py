"""Pools in a simulation: what must hold after every tick (`pools.invariants`), and at the end.

Once everything has come true: nothing is queued or in flight.
"""

from __future__ import annotations

from actors.simulation import Host

from .invariants import check_pool
from .pool import Pool

__all__ = ["watch"]


def watch(host: Host, pool: Pool) -> Pool:
    """Check the pool after each tick of its host. Returns it."""

    def check() -> None:
        check_pool(pool, host)

    boot = host.boots

    def at_rest() -> bool:
        if host.boots != boot:
            return True  # it fell with its host
        now = pool.statistics()
        return not (now.queued or now.in_flight)

    host.always(check)
    host.world.eventually(f"{host.name}: {pool.name} is at rest", at_rest)
    return pool
