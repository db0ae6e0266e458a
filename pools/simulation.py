"""Pools in a simulation: what must hold after every tick, and at the end.

Rules, checked after each tick of the pool's host:
1. submitted = succeeded + failed + queued + in flight.
2. The queue holds at most its limit, and what was taken back from connections; its count is that of its
   works.
3. Each member is on its backend's lists where its state says, and no two use one socket. What the backend
   counts in flight and opening is what its members have.
4. Nothing that waits is past its deadline by more than a moment, and nothing waits while a member is idle.
Once everything has come true: nothing is queued or in flight.
"""

from __future__ import annotations

from typing import Any, Final

from actors import Stream
from actors.simulation import Broken, Host

from .backends import Backend
from .members import Member, State
from .pool import Pool

__all__ = ["watch"]

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


def check_pool(pool: Pool, host: Host) -> None:
    """Raises `Broken` if one of the rules does not hold."""
    statistics = pool.statistics()
    failed = sum(statistics.failed.values())
    told = statistics.succeeded + failed + statistics.queued + statistics.in_flight
    if statistics.submitted != told:
        raise Broken(f"{host.name}: of {statistics.submitted} units {told} are accounted for: {statistics}")
    _check_queue(pool, host)
    socks: dict[Any, Member] = {}
    for backend in pool.backends:
        _check_backend(pool, backend, host)
        for member in backend.members:
            stream = member.transport
            if isinstance(stream, Stream) and not member.over:
                other = socks.setdefault(stream.sock, member)
                if other is not member:
                    raise Broken(f"{host.name}: one connection is used by {other!r} and {member!r}")


def _check_queue(pool: Pool, host: Host) -> None:
    queue = pool.queue
    works = list(queue)
    if len(works) != queue.live:
        raise Broken(f"{host.name}: the queue counts {queue.live} works and holds {len(works)}")
    if queue.live > queue.limit + pool.taken_back + pool.retried:
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


def _check_backend(pool: Pool, backend: Backend, host: Host) -> None:
    members = list(backend.members)
    in_flight = sum(member.in_flight for member in members if not member.over)
    opening = sum(member.state in (State.CONNECTING, State.HANDSHAKING) for member in members)
    if backend.in_flight != in_flight or backend.opening != opening:
        raise Broken(f"{host.name}: {backend!r} counts {backend.opening} opening; its members are {members}")
    if len(members) > pool.connections:
        raise Broken(f"{host.name}: {backend!r} has more than {pool.connections} connections")
    late = LATE_SECONDS + host.loop.now
    for member in members:
        if member.over:
            raise Broken(f"{host.name}: {member!r} is over, and its slot is not free")
        if not host.loop.alive(member.token) and member.token >= 0:
            raise Broken(f"{host.name}: {member!r} holds a slot, and nothing drives it")
        idle = member.state is State.READY and not member.in_flight and member.wire.writable
        if (member in backend.idle) != idle:
            raise Broken(f"{host.name}: {member!r} is {'not ' if idle else ''}on its backend's idle list")
        if member.due + LATE_SECONDS < host.loop.now:
            raise Broken(f"{host.name}: {member!r} is {late - member.due:.6f} s late")
