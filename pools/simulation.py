"""Pools in a simulation: what must hold after every tick (`pools.invariants`), and at the end.

Once everything has come true: nothing is queued or in flight, and the pool has counted what its askers have
(`account`).
"""

from __future__ import annotations

from actors.simulation import Host

from .invariants import check_pool
from .pool import Pool
from .testing.account import Account, Counting, differences

__all__ = ["account", "watch"]


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


def account(host: Host, pool: Counting, *parts: Counting) -> Account:
    """An account with this pool, whose replies the host expects: submit by it. At the end it must agree with
    the pool's statistics; `parts` as of `pools.testing.Account`."""
    kept = Account(pool, *parts, by=host)
    boot = host.boots

    def compare() -> None:
        wrong = "" if host.boots != boot else differences(kept)
        host.world.check(not wrong, f"{host.name}: {wrong}")

    host.world.at_rest(compare)
    return kept
