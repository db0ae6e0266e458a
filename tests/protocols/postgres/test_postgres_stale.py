"""What a connection knows of a statement is true no more: the unit has its answer all the same, whatever the
connections know that it meets.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from actors import Listener, sleep
from actors.simulation import CALM, Host, World, scenario, simulate
from pools import Pool
from pools.simulation import watch
from pools.testing import Bench
from protocols import postgres
from protocols.postgres.simulated import Database, SimulatedPostgres
from protocols.postgres.startup.handshake import Settings
from protocols.postgres.statements import Statements
from protocols.postgres.wire import PostgresWire
from tests.protocols.postgres.played import DESCRIBED, READY, UNIT, WELCOME, answer, m

BOUND: Final = "BES"  # Bind, Execute, Sync
DESCRIBE: Final = "PDH"  # Parse, Describe, Flush
BEGUN: Final = m(b"C", b"BEGIN\0") + m(b"Z", b"T")
FAILED: Final = m(b"Z", b"E")
UNDONE: Final = m(b"C", b"ROLLBACK\0") + READY
DONE: Final = m(b"C", b"COMMIT\0") + READY
STALE: Final = (
    ("26000", ""),  # it is not there
    ("0A000", "RevalidateCachedQuery"),  # its columns are others
    ("42804", ""),  # its parameters are
)


def refusal(sqlstate: str, routine: str = "") -> bytes:
    return m(b"E", f"SERROR\0VERROR\0C{sqlstate}\0Mno\0R{routine}\0\0".encode())


def inside(number: int) -> bytes:
    """An answer in a transaction."""
    return answer(number).removesuffix(READY) + m(b"Z", b"T")


class Known(Bench):
    """A pool whose connections all know `UNIT`."""

    def __init__(self, connections: int, statements: int = 8, **options: Any) -> None:
        settings = Settings("me", None, "db", {}, {}, None, "localhost")
        shared = Statements(statements)
        super().__init__(
            lambda: PostgresWire(settings, shared, 1 << 20),
            ("192.0.2.7:5432",),
            connections=connections,
            warm=connections,
            **options,
        )
        self.accept()
        for sock in self.sockets:
            sock.arrive(WELCOME)
            sock.delivered()
        first = [self.submit(UNIT) for _ in range(connections)]
        self.run()
        for data in (DESCRIBED, answer(5)):
            for sock in self.sockets:
                sock.arrive(data)
            self.run()
        assert [reply.result() for reply in first] == [[(5,)]] * connections
        for sock in self.sockets:
            sock.delivered()

    def asked(self, index: int) -> str:
        """The kinds of the messages that a connection was sent since the last call."""
        data, kinds = self.sockets[index].delivered(), ""
        while data:
            kinds += chr(data[0])
            data = data[1 + int.from_bytes(data[1:5]) :]
        return kinds

    def say(self, index: int, data: bytes) -> None:
        self.sockets[index].arrive(data)
        self.run()

    def fill(self, pipeline: int) -> None:
        """Every connection has as much to do as it takes."""
        while self.pool.statistics().in_flight < pipeline * len(self.sockets):
            self.submit(UNIT)
            self.run()
        assert not self.pool.statistics().queued


@pytest.mark.parametrize(("sqlstate", "routine"), STALE)
@pytest.mark.parametrize("connections", [3, 4, 6])
def test_a_unit_that_meets_none_but_stale_connections(connections: int, sqlstate: str, routine: str) -> None:
    bench = Known(connections, pipeline=2)
    reply = bench.submit(UNIT)
    bench.run()
    (at,) = [index for index in range(connections) if bench.asked(index) == BOUND]
    asked = BOUND
    for target in [*range(at + 1, connections), *range(at)]:
        bench.fill(2)
        bench.say(target, answer(5) * 2)  # it is free, and the others are not
        bench.asked(target)
        bench.say(at, refusal(sqlstate, routine) + READY)
        at, asked = target, bench.asked(target)
        if asked != BOUND:
            break
    assert asked == DESCRIBE
    bench.say(at, DESCRIBED)
    assert bench.asked(at).lstrip("C") == BOUND
    bench.say(at, answer(7))
    assert reply.result() == [(7,)]
    assert bench.add_up()


def test_a_pooler_is_recognised_on_all_connections_at_once() -> None:
    bench = Known(4)
    replies = [bench.submit(UNIT) for _ in range(2)]
    bench.run()
    one, two = [index for index in range(4) if bench.asked(index) == BOUND]
    with capture_logs() as logs:
        bench.say(one, refusal("26000") + READY)
        assert not logs  # this may have been somebody's DEALLOCATE
        named = bench.asked(one)
        bench.say(two, refusal("26000") + READY)
    assert [entry["event"] for entry in logs] == ["statements vanish"]
    assert named.lstrip("C") == bench.asked(two).lstrip("C") == DESCRIBE
    for index in (one, two):
        bench.say(index, DESCRIBED)
        assert bench.asked(index) == BOUND
        bench.say(index, answer(5))
    assert [reply.result() for reply in replies] == [[(5,)]] * 2
    replies = [bench.submit(UNIT) for _ in range(4)]
    bench.run()
    assert [bench.asked(index) for index in range(4)] == ["PDBES"] * 4
    for index in range(4):
        bench.say(index, answer(5, introduced=True))
    assert [reply.result() for reply in replies] == [[(5,)]] * 4


THIRD = "select $1::int + 2"


@postgres.transaction
async def three(tx: postgres.Transaction, runs: list[int]) -> list[Any]:
    runs.append(len(runs))
    return [await tx.fetch_value(sql, 5) for sql in (UNIT.sql, "select $1::int + 1", THIRD)]


@pytest.mark.parametrize(("sqlstate", "routine"), STALE)
def test_a_transaction_of_stale_statements_is_run_anew_once(sqlstate: str, routine: str) -> None:
    bench = Known(1)
    runs: list[int] = []

    def play(*answers: bytes) -> list[str]:
        asked = []
        for data in answers:
            asked.append(bench.asked(0).lstrip("C"))
            bench.say(0, data)
        return asked

    def spoken(number: int) -> tuple[bytes, bytes]:
        return DESCRIBED, inside(number)

    reply = bench.submit(three(runs))
    bench.run()
    play(BEGUN, inside(5), *spoken(6), *spoken(7), DONE)
    assert reply.result() == [5, 6, 7]
    reply = bench.submit(three(runs))
    bench.run()
    asked = play(
        BEGUN, refusal(sqlstate, routine) + FAILED, UNDONE, BEGUN, *spoken(5), *spoken(6), *spoken(7), DONE
    )
    assert reply.result() == [5, 6, 7]
    assert runs == [0, 1, 2]
    assert asked == ["Q", BOUND, "Q", "Q", *[DESCRIBE, BOUND] * 3, "Q"]
    reply = bench.submit(three(runs))
    bench.run()
    asked = play(BEGUN, inside(5), inside(6), inside(7), DONE)  # what was described anew is relied upon again
    assert reply.result() == [5, 6, 7]
    assert asked == ["Q", BOUND, BOUND, BOUND, "Q"]


BALANCE: Final = "select balance from accounts where id = $1"
DELETE: Final = "delete from accounts where id = $1"


@postgres.transaction
async def both(tx: postgres.Transaction) -> list[int]:
    return [await tx.fetch_value(BALANCE, 1), await tx.fetch_value(BALANCE, 2)]


@scenario(seconds=1.0, faults=CALM)
def pooled(world: World) -> None:
    """Two programs behind one pooler, which does what a network without faults lets it do in any order."""
    database = Database({"accounts": dict.fromkeys(range(100), 5)})
    random = world.random("options")

    def serve(host: Host) -> None:
        host.loop.spawn(Listener("0.0.0.0:6432", SimulatedPostgres(database, pooled=True)))

    def call(number: int, host: Host) -> None:
        pool = postgres.pool(
            "postgresql://me@database:6432/db",
            connections=random.choice((1, 2, 3, 6)),
            pipeline=random.choice((1, 2, 8)),
            statements=random.choice((1, 256)),
        )
        running = watch(host, host.loop.spawn(pool))
        flow = host.loop.spawn(calls(number, host, running))
        host.expect(flow, f"client {number}", may_fail=False)

    async def calls(number: int, host: Host, pool: Pool) -> None:
        for turn in range(8):
            if number:
                for id in (10 + 2 * turn, 11 + 2 * turn):
                    deleted = pool.submit(postgres.execute(DELETE, id), timeout=30)
                    host.expect(deleted, f"delete {id}", (1).__eq__, may_fail=False)
            for id in range(6):
                read = pool.submit(postgres.fetch_value(BALANCE, id), timeout=30)
                host.expect(read, f"balance {id}", (5).__eq__, may_fail=False)
            host.expect(pool.submit(both(), timeout=30), "both", [5, 5].__eq__, may_fail=False)
            await sleep(0.01)

    world.host("database", serve)
    for number in range(2):
        world.host(f"client{number}", partial(call, number))
    world.at_rest(lambda: world.check(len(database.tables["accounts"]) == 84, "others were deleted"))


@pytest.mark.parametrize("seed", range(8))
def test_behind_a_pooler_whatever_the_order(seed: int) -> None:
    assert simulate(pooled, seed).failure is None
