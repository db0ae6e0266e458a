"""What must hold of a pool between two ticks of its loop. Simulations check it, and `pools.testing.Bench`.

Rules:
1. submitted = succeeded + failed + queued + in flight.
2. The queue holds at most its limit, and what was taken back from connections; its count is that of its
   works.
3. Each member is on its backend's lists where its state says, and no two use one socket. What the backend
   counts in flight and opening is what its members have; a member's orphans are those in its FIFO.
4. Nothing that waits is past its deadline by more than a moment, and nothing waits while a member is idle.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from actors import Loop, Stream
from actors.simulation import Broken

from .backends import Backend
from .members import Member, State
from .pool import Pool
from .units import ABANDONED

__all__ = ["Place", "check_pool"]

LATE_SECONDS: Final = 0.001  # by which a deadline may be noticed late; each thousand that wait add one more


class Place(Protocol):
    """Where a pool runs."""

    @property
    def name(self) -> str: ...
    @property
    def loop(self) -> Loop: ...


def check_pool(pool: Pool, host: Place) -> None:
    """Raises `Broken` if one of the rules does not hold."""
    in_flight = 0
    socks: dict[Any, Member] = {}
    for backend in pool.backends:
        in_flight += _check_backend(pool, backend, host, socks)
    if not pool.ledger.adds_up(pool.queue.live + in_flight):
        raise Broken(f"{host.name}: not every unit is accounted for: {pool.statistics()}")
    _check_queue(pool, host)


def _check_queue(pool: Pool, host: Place) -> None:
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


def _check_backend(pool: Pool, backend: Backend, host: Place, socks: dict[Any, Member]) -> int:
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


def _check_member(member: Member, backend: Backend, host: Place) -> None:
    if member.over:
        raise Broken(f"{host.name}: {member!r} is over, and its slot is not free")
    if member.token >= 0 and not host.loop.alive(member.token):
        raise Broken(f"{host.name}: {member!r} holds a slot, and nothing drives it")
    idle = member.state is State.READY and not member.in_flight and member.wire.writable
    if (member in backend.idle) != idle:
        raise Broken(f"{host.name}: {member!r} is {'not ' if idle else ''}on its backend's idle list")
    may_share = member.state is State.READY and member.wire.writable
    if member in backend.sharing and not (may_share and 0 < member.in_flight < member.pool.pipeline):
        raise Broken(f"{host.name}: {member!r} is on its backend's list of those with room")
    orphans = sum(work.stage == ABANDONED for work in member._fifo)
    if member.orphans != orphans:
        raise Broken(f"{host.name}: {member!r} has {orphans} orphans")
    late = host.loop.now - member.due
    if late > LATE_SECONDS:
        raise Broken(f"{host.name}: {member!r} is {late:.6f} s late")
