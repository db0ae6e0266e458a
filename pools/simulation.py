"""Pools in a simulation: what must hold after every tick, and at the end.

Rules, checked after each tick of the pool's host:
1. submitted = succeeded + failed + queued + in flight.
2. The queue holds at most its limit, and what was taken back from connections; its count is that of its
   works.
3. Each member is on its backend's lists where its state says, and no two use one socket. What the backend
   counts in flight and opening is what its members have.
4. Nothing that waits is past its deadline by more than a moment, and nothing waits while a member is idle.
Once everything has come true: nothing is queued or in flight, and the pool has counted what its askers have
(`account`).
"""

from __future__ import annotations

from typing import Any, Final

from actors import Stream
from actors.simulation import Broken, Host

from .backends import Backend
from .members import Member, State
from .pool import Pool
from .testing.account import Account, Counting, differences

__all__ = ["account", "watch"]

LATE_SECONDS: Final = 0.001  # by which a deadline may be noticed late; each thousand that wait add one more


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


def check_pool(pool: Pool, host: Host) -> None:
    """Raises `Broken` if one of the rules does not hold."""
    in_flight = 0
    socks: dict[Any, Member] = {}
    for backend in pool.backends:
        in_flight += _check_backend(pool, backend, host, socks)
    if not pool.ledger.adds_up(pool.queue.live + in_flight):
        raise Broken(f"{host.name}: not every unit is accounted for: {pool.statistics()}")
    _check_queue(pool, host)


def _check_queue(pool: Pool, host: Host) -> None:
    queue = pool.queue
    works = list(queue)
    if len(works) != queue.live:
        raise Broken(f"{host.name}: the queue counts {queue.live} works and holds {len(works)}")
    if queue.live > queue.limit + len(pool.backends) * pool.connections * pool.pipeline:
        raise Broken(f"{host.name}: {queue!r} is over its limit")
    now = host.loop.now
    late = LATE_SECONDS * (1 + len(works) / 1000)
    for work in works:
        if work.deadline + late < now:
            raise Broken(f"{host.name}: {work!r} waits {now - work.deadline:.6f} s past its deadline")
    if works and pool.token >= 0 and host.loop.alive(pool.token) and not _woken(pool):
        for backend in pool.backends:
            for member in backend.idle:
                if member.wire.writable:
                    raise Broken(f"{host.name}: {len(works)} units wait while {member!r} is idle")


def _woken(pool: Pool) -> bool:
    return any(scope.machine is pool for scope in pool.loop.woken)


def _check_backend(pool: Pool, backend: Backend, host: Host, socks: dict[Any, Member]) -> int:
    """How many units of living askers are in flight there."""
    if len(backend.members) > pool.connections:
        raise Broken(f"{host.name}: {backend!r} has more than {pool.connections} connections")
    in_flight = pending = opening = 0
    for member in backend.members:
        in_flight += member.in_flight
        pending += member.pending
        opening += member.state is State.CONNECTING or member.state is State.HANDSHAKING
        _check_member(member, backend, host)
        stream = member.transport
        if isinstance(stream, Stream) and socks.setdefault(stream.sock, member) is not member:
            raise Broken(f"{host.name}: one connection is used by {socks[stream.sock]!r} and {member!r}")
    if backend.in_flight != in_flight or backend.opening != opening:
        told = f"counts {backend.in_flight} in flight and {backend.opening} opening"
        raise Broken(f"{host.name}: {backend!r} {told}; its members are {list(backend.members)}")
    return pending


def _check_member(member: Member, backend: Backend, host: Host) -> None:
    if member.over:
        raise Broken(f"{host.name}: {member!r} is over, and its slot is not free")
    if member.token >= 0 and not host.loop.alive(member.token):
        raise Broken(f"{host.name}: {member!r} holds a slot, and nothing drives it")
    idle = member.state is State.READY and not member.in_flight and member.wire.writable
    if (member in backend.idle) != idle:
        raise Broken(f"{host.name}: {member!r} is {'not ' if idle else ''}on its backend's idle list")
    late = host.loop.now - member.due
    if late > LATE_SECONDS:
        raise Broken(f"{host.name}: {member!r} is {late:.6f} s late")
