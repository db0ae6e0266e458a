"""What a simulation holds of every pool after every tick: each rule sees it when it is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

import pools
from actors import Listener, Outcome, StreamProtocol, Transport
from actors.outcomes import UNCHANGED
from actors.simulation import Broken, Host, World
from pools import Pool
from pools.connections import Connection, State
from pools.invariants import check_pool
from pools.simulation import watch
from pools.testing import Ask, LineWire
from pools.units import ABANDONED, Work


class Silent(StreamProtocol):
    """Never answers."""

    def received(self, transport: Transport) -> Outcome:
        return UNCHANGED


@pytest.fixture
def world() -> Iterator[World]:
    """Of two connections one is busy, the other idle; nothing waits."""
    world = World(seed=1)
    world.host("backend", lambda host: host.loop.spawn(Listener("0.0.0.0:7000", Silent)))
    host = world.host("asker", ask)
    world.run(0.1)
    pool = host.disk["pool"]
    assert (busy(pool).in_flight, idle(pool).in_flight) == (1, 0)
    yield world
    host.loop.kill(pool.token)
    world.close()


def ask(host: Host) -> None:
    pool = host.loop.spawn(pools.pool(LineWire, ["backend:7000"], connections=2, queue=2, warm=2))
    host.disk["pool"] = pool
    pool.submit(Ask("one"))


def busy(pool: Pool) -> Connection:
    return next(connection for connection in pool.backends[0].all if connection.in_flight)


def idle(pool: Pool) -> Connection:
    return next(iter(pool.backends[0].idle))


def lose_count(pool: Pool) -> None:
    pool.ledger.submitted += 1


def lose_a_work(pool: Pool) -> None:
    pool.queue.live += 1
    pool.ledger.submitted += 1


def overfill(pool: Pool) -> None:
    pool.queue.limit = -5


def keep_waiting(pool: Pool) -> None:
    pool.ledger.submitted += 1
    pool.queue.push(busy(pool)._fifo[0], 0)


def forget_a_deadline(pool: Pool) -> None:
    pool.queue.push(Work(pool, Ask("two"), pool.loop.now - 1), 0)


def count_wrongly(pool: Pool) -> None:
    pool.backends[0].in_flight += 1


def open_too_many(pool: Pool) -> None:
    pool.options = replace(pool.options, connections=1, warm=1)


def keep_the_dead(pool: Pool) -> None:
    idle(pool).state = State.DEAD


def drive_nobody(pool: Pool) -> None:
    idle(pool).token += 1 << 30


def forget_the_idle(pool: Pool) -> None:
    pool.backends[0].idle.clear()


def be_late(pool: Pool) -> None:
    busy(pool)._fifo[0].deadline = pool.loop.now - 1


def offer_the_idle(pool: Pool) -> None:
    pool.backends[0].sharing[idle(pool)] = None


def miss_an_orphan(pool: Pool) -> None:
    busy(pool)._fifo[0].stage = ABANDONED


def share_a_connection(pool: Pool) -> None:
    idle(pool).transport = busy(pool).transport


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lose_count, "not every unit is accounted for"),
        (lose_a_work, "the queue counts 1 works and holds 0"),
        (overfill, "is over its limit"),
        (keep_waiting, "1 units wait while <Connection"),
        (forget_a_deadline, "past its deadline"),
        (count_wrongly, "counts 2 in flight"),
        (open_too_many, "has more than 1 connections"),
        (keep_the_dead, "is over, and its slot is not free"),
        (drive_nobody, "nothing drives it"),
        (forget_the_idle, "not on its backend's idle list"),
        (offer_the_idle, "on its backend's list of those with room"),
        (miss_an_orphan, "has 1 orphans"),
        (be_late, "s late"),
        (share_a_connection, "one connection is used by"),
    ],
)
def test_each_rule_sees_it(world: World, harm: Callable[[Pool], None], said: str) -> None:
    host = world.hosts["asker"]
    pool = host.disk["pool"]
    check_pool(pool, host)
    harm(pool)
    with pytest.raises(Broken, match=said):
        check_pool(pool, host)


def test_it_must_come_to_rest(world: World) -> None:
    host = world.hosts["asker"]
    watch(host, host.disk["pool"])
    assert world.missing() == ["asker: backend:7000 is at rest"]
    with pytest.raises(Broken, match="it is still not so: asker: backend:7000 is at rest"):
        world.settle(1.0)
    world.settle(10.0)  # its deadline has ended the unit


def test_what_waits_may_wait_until_the_pool_has_had_its_turn(world: World) -> None:
    host = world.hosts["asker"]
    pool = host.disk["pool"]
    keep_waiting(pool)
    pool.wake()
    check_pool(pool, host)
    pool.loop.woken.clear()
    pool.loop.wake(idle(pool).token)  # another's turn is none of the pool's
    with pytest.raises(Broken, match="1 units wait while <Connection"):
        check_pool(pool, host)


def test_what_fell_with_its_host_is_at_rest(world: World) -> None:
    host = world.hosts["asker"]
    watch(host, host.disk["pool"])
    assert world.missing() != []
    assert world.act("kill", "asker", 1.0)
    world.run(3.0)
    assert host.boots == 2
    assert world.missing() == []
