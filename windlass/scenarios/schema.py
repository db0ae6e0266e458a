"""PostgreSQL whose tables are altered under its clients, whose prepared statements vanish, and before which a
pooler may stand: everything that a client has been told of a statement becomes untrue at some time.

A value is the one that was asked for, of the type that the column has now (or had since it was asked for):
5 is not 5.0, and neither is their eight bytes read as the other. A statement is the caller's own, not one
that another client has prepared under the same name. What is written is written once.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any, Final

from actors import Listener, Reply, sleep
from actors.simulation import Faults, Host, World, scenario
from actors.testing import same
from pools import BackendDown, DeadlineExceeded, QueueFull
from pools.simulation import account, watch
from pools.testing import Account
from protocols import postgres
from protocols.postgres.errors import Turned
from protocols.postgres.simulated import Changes, Database, Declared, SimulatedPostgres, declare
from protocols.postgres.simulated.database import failure

__all__ = ["schema"]

PORT: Final = 5432
CLIENTS: Final = 2
TURNS: Final = 20  # of each client
PATIENCE: Final = 0.5
MOMENT: Final = datetime(2000, 1, 1, tzinfo=UTC)
WAITS: Final = 0.004  # seconds, until who wants to alter a table looks again whether it is free

FAULTS: Final = Faults(
    lag=3.0,
    reset=2.0,
    half_close=1.0,
    vanish=0.1,
    clog=0.3,
    short_reads=0.3,
    short_writes=0.3,
    kill=0.2,
    stall=0.2,
)

FIRST: Final = "select price from prices"
ROW: Final = "select * from prices"
CURSOR: Final = "declare cur cursor for select * from prices"
FETCH: Final = "fetch 2 from cur"
CLOSE: Final = "close cur"
OTHER: Final = "declare cur cursor for select 'client 0'"
ALTER: Final = "alter table prices alter price type bigint"
NOTE: Final = "insert into ledger (id) values ($1)"
KINDS: Final = ("bigint", "double precision", "integer", "real", "text", "bytea", "boolean", "timestamptz")
CHANGED: Final = ("0A000", "26000")  # the result of a statement is another; there is no such statement
IN_THE_WAY: Final = ("55P03", "40001")  # somebody else reads the table; not serializable

Row = tuple[Any, ...]


def sample(kind: str, number: int) -> Any:
    """The only value that is right for a column of this type in the version `number`."""
    match kind:
        case "double precision" | "real":
            return number + 0.5
        case "text":
            return f"text {number}"
        case "bytea":
            return b"bytes %d" % number
        case "boolean":
            return bool(number % 2)
        case "timestamptz":
            return MOMENT + timedelta(seconds=number)
    return number


class Truth:
    """What the table has been, by version, and what the server has done."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = world.random("truth")
        self.rows: list[Row] = []
        self.columns: dict[str, str] = {}
        self.lost = 0  # times that prepared statements have vanished
        self.server: SimulatedPostgres
        self.turn()

    def turn(self) -> None:
        """Another version of the table: one to three columns of other types."""
        kinds = self.random.choices(KINDS, k=self.random.randrange(1, 4))
        number = len(self.rows)
        self.rows.append(tuple(sample(kind, number) for kind in kinds))
        self.columns = dict(zip(("price", "tax", "note"), kinds, strict=False))

    def statements(self) -> list[Declared]:
        """Those whose result depends on the version."""
        row, columns = self.rows[-1], self.columns
        first = {"price": columns["price"]}
        return [
            declare(FIRST, lambda changes: [row[:1]], gives=first),
            declare(ROW, lambda changes: [row], gives=columns),
        ]

    def alter(self, changes: Changes) -> int:
        """From within a transaction, which must be the only one."""
        if sum(session.open for session in self.server.sessions.values()) > 1:
            raise failure("55P03", "canceling statement due to lock timeout")
        self.turn()
        self.server.alter(*self.statements())
        return 0

    def alter_apart(self) -> None:
        """By another client, which waits for those that have begun; then the next time."""
        world = self.world
        if not self.server.at_rest:
            world.at(world.now + WAITS, self.alter_apart)
            return
        if self.random.random() < 0.3:
            self.server.lose_statements()
            self.lost += 1
        if self.random.random() < 0.8:
            self.turn()
            self.server.alter(*self.statements())
        world.at(world.now + self.random.expovariate(1 / 0.1), self.alter_apart)

    @property
    def changes(self) -> int:
        """How often something that was known has become untrue."""
        return len(self.rows) + self.lost

    def first(self, since: int, value: Any) -> bool:
        """Whether it is the first column's, in some version since that one."""
        return any(same(value, row[0]) for row in self.rows[since:])

    def whole(self, since: int, found: list[Row]) -> bool:
        """Whether it is the only row."""
        return len(found) == 1 and any(same(found[0], row) for row in self.rows[since:])

    def fetched(self, since: int, found: tuple[list[Row], list[Row], list[Row]]) -> bool:
        """Whether it is the only row, then none, then what the other cursor has."""
        return not found[1] and self.whole(since, found[0]) and found[2] == [("client 0",)]

    def both(self, since: int, found: tuple[Any, Any]) -> bool:
        """Whether it is the first column of two versions, the one right after the other."""
        rows = self.rows[since:]
        return any(same(found[0], one[0]) and same(found[1], other[0]) for one, other in pairwise(rows))


@postgres.transaction
async def by_cursor(tx: postgres.Transaction) -> tuple[list[Row], list[Row], list[Row]]:
    """The table, by a cursor, and something else by another one of the same name."""
    await tx.execute(CURSOR)
    found, end = await tx.query(FETCH), await tx.query(FETCH)
    await tx.execute(CLOSE)
    await tx.execute(OTHER)
    other = await tx.query(FETCH)
    await tx.execute(CLOSE)
    return found, end, other


@postgres.transaction
async def before_and_after(tx: postgres.Transaction) -> tuple[Any, Any]:
    """The first column before and after it is altered."""
    before = await tx.fetch_value(FIRST)
    await tx.execute(ALTER)
    return before, await tx.fetch_value(FIRST)


class Client:
    """One process: its pool, its own statement, and what it has written."""

    def __init__(self, host: Host, truth: Truth, number: int) -> None:
        self.host = host
        self.truth = truth
        self.number = number
        self.random = host.world.random(f"client {number}")
        self.done: set[str] = set()
        self.not_done: set[str] = set()

    def make_pool(self) -> Account:
        """Small and large ones, with prepared statements and without."""
        pool = postgres.pool(
            f"postgresql://me@database:{PORT}/shop",
            connections=self.random.choice((1, 3, 8)),
            pipeline=self.random.choice((1, 4, 16)),
            statements=self.random.choice((0, 2, 100)),
            timeout=PATIENCE,
            connect_timeout=0.5,
            lifetime=self.random.choice((0.5, 1800.0)),
            name=f"client {self.number}",
        )
        return account(self.host, watch(self.host, self.host.loop.spawn(pool)))

    def may_fail(self, before: int, idempotent: bool, error: BaseException) -> bool:
        """What the server may answer. What was known may become untrue once more while it is asked again; and
        rows that come in an old form are dropped if the statement may not be executed again."""
        if isinstance(error, postgres.PostgresError):
            again = self.truth.changes - before > 1
            return error.sqlstate in IN_THE_WAY or (error.sqlstate in CHANGED and again)
        return isinstance(error, Turned) and not idempotent

    def told(self, id: str, reply: Reply[Any]) -> None:
        """An error that rules out execution counts as "not done"."""
        error = reply.error
        if error is None:
            self.done.add(id)
        elif isinstance(error, BackendDown | QueueFull | postgres.PostgresError) or (
            isinstance(error, DeadlineExceeded) and error.stage != "sent"
        ):
            self.not_done.add(id)

    def ask(self, asks: Account) -> None:
        """One unit."""
        truth, since = self.truth, len(self.truth.rows) - 1
        way, idempotent = self.random.randrange(12), self.random.random() < 0.6
        refused = partial(self.may_fail, truth.changes, idempotent)

        def expect(unit: Any, what: str, check: Any) -> None:
            asks.submit(unit, f"{what} since version {since}", check, timeout=PATIENCE, may_fail=refused)

        if way < 5:
            unit = postgres.fetch_value(FIRST, idempotent=idempotent)
            expect(unit, "the first column", partial(truth.first, since))
        elif way < 8:
            expect(postgres.query(ROW, idempotent=idempotent), "the row", partial(truth.whole, since))
        elif way < 9:
            expect(by_cursor(), "the row by a cursor", partial(truth.fetched, since))
        elif way < 10:
            expect(before_and_after(), "before and after", partial(truth.both, since))
        elif way < 11:
            mine = f"client {self.number}"
            unit = postgres.fetch_value(f"select '{mine}'", idempotent=idempotent)
            expect(unit, f"the name of {mine}", partial(str.__eq__, mine))
        else:
            id = f"{self.number}.{self.random.getrandbits(40)}"
            unit = postgres.execute(NOTE, id)
            reply = asks.submit(unit, f"the note {id}", timeout=PATIENCE, value=1, may_fail=refused)
            reply.when_settled(partial(self.told, id))

    async def run(self, asks: Account) -> None:
        """Several units at a time."""
        for _ in range(TURNS):
            for _ in range(self.random.choice((1, 1, 3, 8))):
                self.ask(asks)
            await sleep(self.random.expovariate(1 / 0.06))

    def check(self, ledger: dict[str, bool]) -> None:
        """Hold what was told against what is there."""
        world = self.host.world
        lost, false = self.done - ledger.keys(), self.not_done & ledger.keys()
        world.check(not lost, f"acknowledged, and not there: {sorted(lost)}")
        world.check(not false, f"said not to be done, and there: {sorted(false)}")


def note(changes: Changes, id: str) -> int:
    """Into the ledger, once."""
    if changes.get("ledger", id):
        raise failure("23505", f"{id} was executed twice")
    changes.put("ledger", id, True)
    return 1


@scenario(name="schema", seconds=3.0, faults=FAULTS)
def schema(world: World) -> None:
    """PostgreSQL whose tables change under its clients; a value is of the type that its column has now."""
    truth = Truth(world)
    pooled = world.random("schema").random() < 0.4
    database = Database({"ledger": {}})  # on a disk that loses nothing
    known = [
        declare(ALTER, truth.alter),
        declare(NOTE, note, takes=["text"]),
        *(
            declare(
                f"select 'client {number}'", partial(says, f"client {number}"), gives={"?column?": "text"}
            )
            for number in range(CLIENTS)
        ),
    ]

    def serve(host: Host) -> None:
        truth.server = SimulatedPostgres(database, [*known, *truth.statements()], pooled=pooled)
        host.loop.spawn(Listener(f"0.0.0.0:{PORT}", truth.server))

    def call(number: int, host: Host) -> None:
        client = Client(host, truth, number)
        running = host.loop.spawn(client.run(client.make_pool()))
        host.expect(running, f"client {number}", may_fail=False)
        world.at_rest(lambda: client.check(database.tables["ledger"]))

    world.host("database", serve, crashes=True)
    for number in range(CLIENTS):
        world.host(f"client{number}", partial(call, number))
    world.at(0.1, truth.alter_apart)


def says(text: str, changes: Changes) -> list[Row]:
    """An echo."""
    return [(text,)]
