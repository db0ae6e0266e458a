"""A bank on PostgreSQL: clients move money while connections and the server come and go.

Every transfer writes its number into a ledger, in the same transaction. So it can be held against what its
caller was told: what was acknowledged is there, what was certainly not done is not, nothing is done twice.
The money is always all there.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from actors import Listener, Reply, gather, sleep
from actors.simulation import Faults, Host, World, scenario
from pools import BackendDown, DeadlineExceeded, QueueFull
from pools.simulation import account, watch
from pools.testing import Account
from protocols import postgres
from protocols.postgres.simulated import Changes, Database, SimulatedPostgres, declare
from protocols.postgres.simulated.database import failure

__all__ = ["bank", "transfer"]

PORT: Final = 5432
CLIENTS: Final = 3
ACCOUNTS: Final = 10
DEPOSIT: Final = 100  # in each account
TRANSFERS: Final = 25  # that each client tries
PATIENCE: Final = 0.5

FAULTS: Final = Faults(
    lag=4.0,
    reset=6.0,
    half_close=2.0,
    vanish=0.3,
    forget=0.1,
    half_open=0.2,
    mute=0.3,
    partition=0.1,
    one_way=0.1,
    clog=0.5,
    short_reads=0.5,
    short_writes=0.5,
    full_buffers=0.3,
    refuse=0.1,
    slow_accept=0.2,
    resolve_failure=0.1,
    kill=0.3,
    crash=0.1,
    jump=0.1,
    stall=0.3,
    slow_consumer=0.3,
)

REFUSALS: Final = ("23514", "40001")  # a check is violated; not serializable
BALANCE: Final = "select balance from accounts where id = $1 for update"
TAKE: Final = "update accounts set balance = balance - $2 where id = $1"
GIVE: Final = "update accounts set balance = balance + $2 where id = $1"
ALL: Final = "select id, balance from accounts order by id"
NOTE: Final = "insert into ledger (id) values ($1)"


class Insufficient(Exception):
    """The account has less than that."""


def refused(error: BaseException) -> bool:
    """Whether the bank or its server may say this: too little money, or others at the same accounts."""
    return isinstance(error, Insufficient) or (
        isinstance(error, postgres.PostgresError) and error.sqlstate in REFUSALS
    )


def note(changes: Changes, id: str) -> int:
    """Into the ledger, once."""
    if changes.get("ledger", id):
        raise failure("23505", f"transfer {id} was executed twice")
    changes.put("ledger", id, True)
    return 1


@postgres.transaction(isolation="serializable")
async def transfer(tx: postgres.Transaction, id: str, source: int, target: int, amount: int) -> int:
    """Move money, and note that it was done."""
    balance: int = await tx.fetch_value(BALANCE, source)
    if balance < amount:
        raise Insufficient(source)
    await tx.execute(NOTE, id)
    await tx.execute(TAKE, source, amount)
    await tx.execute(GIVE, target, amount)
    return balance - amount


@postgres.transaction(read_only=True)
async def report(tx: postgres.Transaction) -> list[int]:
    """The money, counted twice."""
    return [sum(balance for _, balance in await tx.query(ALL)) for _ in range(2)]


class Books:
    """What the callers were told of each transfer."""

    def __init__(self) -> None:
        self.done: set[str] = set()
        self.not_done: set[str] = set()

    def told(self, id: str, reply: Reply[Any]) -> None:
        """An error that rules out execution counts as "not done"."""
        error = reply.error
        if error is None:
            self.done.add(id)
        elif isinstance(error, BackendDown | QueueFull | Insufficient | postgres.PostgresError) or (
            isinstance(error, DeadlineExceeded) and error.stage != "sent"
        ):
            self.not_done.add(id)

    def check(self, world: World, ledger: dict[str, bool]) -> None:
        """Hold it against the ledger."""
        lost, false = self.done - ledger.keys(), self.not_done & ledger.keys()
        world.check(not lost, f"acknowledged, and not there: {sorted(lost)}")
        world.check(not false, f"said not to be done, and there: {sorted(false)}")


async def client(host: Host, asks: Account, books: Books, number: int) -> None:
    """Transfers, reports and questions, several at a time; sometimes interest is lost."""
    random = host.world.random(f"client {number}")
    for turn in range(TRANSFERS):
        id = f"{number}.{turn}"
        source, target = random.sample(range(ACCOUNTS), 2)
        moved = asks.submit(
            transfer(id, source, target, random.randrange(1, 40)),
            f"transfer {id}",
            timeout=PATIENCE * random.uniform(0.2, 1.5),
            kind=int,
            may_fail=refused,
        )
        moved.when_settled(partial(books.told, id))
        unit = postgres.fetch_value("select $1::int", turn, idempotent=True)
        echo = asks.submit(unit, f"the echo of {turn}", value=turn)
        if random.random() < 0.3:  # the first that fails has the other cancelled
            host.expect(gather(moved, echo), f"transfer and echo {id}", may_fail=refused)
        if random.random() < 0.3:
            asks.submit(report(), f"report {id}", value=[ACCOUNTS * DEPOSIT] * 2, may_fail=refused)
        if random.random() < 0.1:
            asks.submit(postgres.query("select pg_sleep($1)", 0.3), f"nap {id}", timeout=0.05)
        await sleep(random.expovariate(1 / 0.06))
        if random.random() < 0.1:
            moved.cancel()


@scenario(name="postgres", seconds=3.0, faults=FAULTS)
def bank(world: World) -> None:
    """Transfers on a PostgreSQL that comes and goes; the money stays, and every answer is true."""
    books = Books()
    random = world.random("bank")
    accounts: dict[Any, Any] = dict.fromkeys(range(ACCOUNTS), DEPOSIT)
    database = Database({"accounts": accounts, "ledger": {}})  # on a disk that loses nothing
    noting = declare(NOTE, note, takes=["text"])

    def serve(host: Host) -> None:
        host.loop.spawn(Listener(f"0.0.0.0:{PORT}", SimulatedPostgres(database, [noting])))
        host.always(all_there)

    def all_there() -> None:
        money = sum(database.tables["accounts"].values())
        world.check(money == ACCOUNTS * DEPOSIT, f"there is {money} instead of {ACCOUNTS * DEPOSIT}")

    def call(number: int, host: Host) -> None:
        pool = postgres.pool(
            f"postgresql://me@database:{PORT}/bank",
            connections=random.choice((1, 2, 4)),
            pipeline=random.choice((1, 4, 16)),
            statements=random.choice((0, 2, 100)),
            timeout=PATIENCE,
            connect_timeout=0.5,
            lifetime=random.choice((0.5, 1800.0)),
        )
        asks = account(host, watch(host, host.loop.spawn(pool)))
        host.expect(host.loop.spawn(client(host, asks, books, number)), f"client {number}", may_fail=False)

    world.host("database", serve, crashes=True)
    for number in range(CLIENTS):
        world.host(f"client{number}", partial(call, number))
    world.at_rest(lambda: books.check(world, database.tables["ledger"]))
