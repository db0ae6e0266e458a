"""What must hold of a pool between two ticks of its loop. Simulations check it, and `pools.testing.Bench`.

Rules:
1. submitted = succeeded + failed + queued + in flight.
2. The queue holds at most its limit, and what was taken back from connections; its count is that of its
   works.
3. Each connection is on its backend's lists where its state says, and no two use one socket. What the backend
   counts in flight and opening is what its connections have; a connection's orphans are those in its FIFO.
4. Nothing that waits is past its deadline by more than a moment, and nothing waits while one is idle.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from actors import Loop, Stream
from actors.simulation import Broken

from .backends import Backend
from .connections import Connection, State
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
    socks: dict[Any, Connection] = {}
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
    if queue.live > queue.limit + len(pool.backends) * pool.options.connections * pool.options.pipeline:
        raise Broken(f"{host.name}: {queue!r} is over its limit")
    now = host.loop.now
    late = LATE_SECONDS * (1 + len(works) / 1000)
    for work in works:
        if work.deadline + late < now:
            raise Broken(f"{host.name}: {work!r} waits {now - work.deadline:.6f} s past its deadline")
    if works and host.loop.alive(pool.token) and not _woken(pool):
        for backend in pool.backends:
            for connection in backend.idle:
                if connection.wire.writable:
                    raise Broken(f"{host.name}: {len(works)} units wait while {connection!r} is idle")


def _woken(pool: Pool) -> bool:
    return any(scope.machine is pool for scope in pool.loop.woken)


def _check_backend(pool: Pool, backend: Backend, host: Place, socks: dict[Any, Connection]) -> int:
    """How many units of living askers are in flight there."""
    if len(backend.all) > pool.options.connections:
        raise Broken(f"{host.name}: {backend!r} has more than {pool.options.connections} connections")
    in_flight = pending = opening = 0
    for connection in backend.all:
        in_flight += connection.in_flight
        pending += connection.pending
        opening += connection.state is State.CONNECTING or connection.state is State.HANDSHAKING
        _check_connection(connection, backend, host)
        stream = connection.transport
        if isinstance(stream, Stream) and socks.setdefault(stream.sock, connection) is not connection:
            raise Broken(f"{host.name}: one connection is used by {socks[stream.sock]!r} and {connection!r}")
    if backend.in_flight != in_flight or backend.opening != opening:
        told = f"counts {backend.in_flight} in flight and {backend.opening} opening"
        raise Broken(f"{host.name}: {backend!r} {told}; its connections are {list(backend.all)}")
    return pending


def _check_connection(connection: Connection, backend: Backend, host: Place) -> None:
    if connection.over:
        raise Broken(f"{host.name}: {connection!r} is over, and its slot is not free")
    if connection.token >= 0 and not host.loop.alive(connection.token):
        raise Broken(f"{host.name}: {connection!r} holds a slot, and nothing drives it")
    idle = connection.state is State.READY and not connection.in_flight and connection.wire.writable
    if (connection in backend.idle) != idle:
        raise Broken(f"{host.name}: {connection!r} is {'not ' if idle else ''}on its backend's idle list")
    may_share = connection.state is State.READY and connection.wire.writable
    if connection in backend.sharing and not (
        may_share and 0 < connection.in_flight < connection.pool.options.pipeline
    ):
        raise Broken(f"{host.name}: {connection!r} is on its backend's list of those with room")
    orphans = sum(work.stage == ABANDONED for work in connection._fifo)
    if connection.orphans != orphans:
        raise Broken(f"{host.name}: {connection!r} has {orphans} orphans")
    late = host.loop.now - connection.due
    if late > LATE_SECONDS:
        raise Broken(f"{host.name}: {connection!r} is {late:.6f} s late")
