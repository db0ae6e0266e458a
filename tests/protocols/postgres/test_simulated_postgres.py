"""The simulated server: the same answers as a real one, and everything that a pool asks of it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest

from actors import Listener, Loop, StreamProtocol, gather
from actors.testing import Driver, run_until
from actors.testing.conformance import check_protocol
from actors.testing.events import END, EXPIRE
from pools import DeadlineExceeded, Pool
from pools.testing.conformance import check_wire
from protocols import postgres
from protocols.postgres import PostgresError, messages
from protocols.postgres.simulated import Changes, Database, SimulatedPostgres, declare
from protocols.postgres.startup.handshake import Settings
from protocols.postgres.statements import Statement, Statements
from protocols.postgres.wire import PostgresWire
from tests.protocols.postgres.servers import Server

BALANCE = "select balance from accounts where id = $1 for update"
TAKE = "update accounts set balance = balance - $2 where id = $1"
GIVE = "update accounts set balance = balance + $2 where id = $1"
SUM = "select sum(balance)::bigint from accounts"


@postgres.transaction(isolation="serializable")
async def transfer(tx: postgres.Transaction, source: int, target: int, amount: int) -> int:
    balance: int = await tx.fetch_value(BALANCE, source)
    await tx.execute(TAKE, source, amount)
    await tx.execute(GIVE, target, amount)
    return balance - amount


@postgres.transaction
async def careless(tx: postgres.Transaction) -> None:
    try:
        await tx.execute("insert into accounts (id, balance) values ($1, $2)", 1, 5)
    except PostgresError:
        await tx.query("select 1")  # in a transaction that has failed


@postgres.transaction
async def swallows(tx: postgres.Transaction) -> None:
    try:
        await tx.execute("insert into accounts (id, balance) values ($1, $2)", 1, 5)
    except PostgresError:
        pass


@postgres.transaction(read_only=True)
async def writes_although(tx: postgres.Transaction) -> None:
    await tx.execute(TAKE, 1, 1)


UNITS = [
    postgres.query("select 1"),
    postgres.fetch_value("select $1::int", 7),
    postgres.fetch_value("select $1::int", None),
    postgres.fetch_value("select $1::text", "hé"),
    postgres.query("select * from generate_series(1, $1)", 50),
    postgres.execute("insert into accounts (id, balance) values ($1, $2)", 1, 100),
    postgres.execute("insert into accounts (id, balance) values ($1, $2)", 1, 100),
    postgres.execute_many("insert into accounts (id, balance) values ($1, $2)", [(2, 10), (3, 20)]),
    postgres.execute_many("insert into accounts (id, balance) values ($1, $2)", [(4, 10), (3, 20)]),
    postgres.query("select id, balance from accounts order by id", into=dict),
    postgres.fetch_value(BALANCE, 9),
    transfer(1, 2, 30),
    transfer(1, 2, 3000),
    careless(),
    swallows(),
    writes_although(),
    postgres.fetch_value(SUM),
    postgres.execute("delete from accounts where id = $1", 3),
    postgres.execute("delete from accounts where id = $1", 3),
    postgres.query("select id, balance from accounts order by id"),
    postgres.query("selec 1"),
    postgres.execute(GIVE, 99, 1),
    postgres.query("select pg_sleep($1)", 0.001),
]


def outcomes(loop: Loop, pool: Pool) -> list[Any]:
    found: list[Any] = []
    for unit in UNITS:
        try:
            found.append(loop.run_until(pool.submit(unit, timeout=20)))
        except PostgresError as error:
            found.append(error.sqlstate)
        except Exception as error:
            found.append(type(error))
    return found


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


def served(loop: Loop, server: SimulatedPostgres, **options: Any) -> Pool:
    listener = loop.spawn(Listener("127.0.0.1:0", server))
    return loop.spawn(postgres.pool(f"postgresql://me@127.0.0.1:{listener.address.port}/db", **options))


def test_a_real_server_gives_the_same(loop: Loop, server: Server) -> None:
    real = loop.spawn(postgres.pool(server.url, connections=1))

    async def make() -> None:
        await real.submit(postgres.execute("drop table if exists accounts"))
        await real.submit(
            postgres.execute(
                "create table accounts (id integer primary key, balance bigint not null, "
                "constraint solvent check (balance >= 0))"
            )
        )

    loop.run_until(loop.spawn(make()))
    ours = outcomes(loop, served(loop, SimulatedPostgres(), connections=1))
    assert ours == outcomes(loop, real)
    loop.run_until(real.submit(postgres.execute("drop table accounts")))


def test_conflicts_are_told_and_money_is_conserved(loop: Loop) -> None:
    database = Database({"accounts": dict.fromkeys(range(3), 100)})
    pool = served(loop, SimulatedPostgres(database), connections=4)

    async def transfers() -> list[Any]:
        replies = [pool.submit(transfer(n % 3, (n + 1) % 3, 1), timeout=30) for n in range(40)]
        found = []
        for reply in replies:
            try:
                found.append(await reply)
            except PostgresError as error:
                found.append(error.sqlstate)
        return found

    found = loop.run_until(loop.spawn(transfers()))
    done = [value for value in found if isinstance(value, int)]
    assert set(found) - set(done) <= {"40001"}
    assert database.conflicts > 0
    assert database.commits == len(done)
    assert sum(database.tables["accounts"].values()) == 300
    assert f"{database.conflicts} conflicts" in repr(database)


def test_a_statement_past_its_deadline_is_cancelled(loop: Loop) -> None:
    account: list[tuple[str, list[Any]]] = []
    server = SimulatedPostgres(executed=lambda sql, arguments: account.append((sql, arguments)))
    pool = served(loop, server, connections=1)
    loop.run_until(pool.submit(postgres.query("select pg_sleep($1)", 0.0)))
    (session,) = server.sessions.values()
    reply = pool.submit(postgres.query("select pg_sleep($1)", 3600.0), timeout=0.05)
    run_until(loop, lambda: "busy" in repr(session))
    run_until(loop, lambda: reply.settled)
    assert isinstance(reply.error, DeadlineExceeded)
    run_until(loop, lambda: not server.sessions)  # the server has ended it, and the pool its connection
    assert account[-1] == ("select pg_sleep($1)", [3600.0])


def test_statements_of_ones_own() -> None:
    def seen(changes: Changes, name: str) -> list[tuple[Any, ...]]:
        changes.put("seen", name, changes.get("seen", name, 0) + 1)
        return [(changes.get("seen", name), len(changes.all("seen")))]

    declared = declare("select seen($1)", seen, takes=["text"], gives={"times": "integer", "names": "bigint"})
    database = Database({"seen": {}})

    def make() -> SimulatedPostgres:
        return SimulatedPostgres(database, [declared])

    with pytest.raises(ValueError, match=r"types integre are not known; write .*integer"):
        declare("select 1", seen, takes=["integre"])
    with Loop() as loop:
        pool = served(loop, make())

        async def twice() -> list[Any]:
            return await gather(*(pool.submit(postgres.query("select seen($1)", "ada")) for _ in range(2)))

        assert sorted(loop.run_until(loop.spawn(twice()))) in ([[(1, 1)], [(2, 1)]], [[(1, 1)], [(1, 1)]])
    assert database.tables["seen"]["ada"] >= 1
    missing = Database({}).begin()
    with pytest.raises(PostgresError, match="does not exist"):
        missing.get("nowhere", 1)
    assert "0 written" in repr(missing)


# -- the protocol, message by message ------------------------------------------------------------------------

START = messages.startup({"user": "me", "database": "db"})
ONE = Statement(b"one", "select $1::int", (23,), (messages.Column("int4", 23),))

AS_TEXT = messages.message(
    b"B", b"\0one\0" + struct.pack("!hhhi", 1, 0, 1, 1) + b"1" + struct.pack("!hh", 1, 0)
)


def session() -> StreamProtocol:
    return SimulatedPostgres(Database({"accounts": {1: 5}}))()


def kinds(data: bytes) -> str:
    found, at = "", 0
    while at < len(data):
        found += chr(data[at])
        at += 1 + int.from_bytes(data[at + 1 : at + 5])
    return found


@pytest.mark.no_cover
def test_a_session_keeps_the_kits_rules() -> None:
    sleeps = messages.parse(b"s", "select pg_sleep($1)") + messages.message(
        b"B", b"\0s\0" + struct.pack("!hhhid", 1, 1, 1, 8, 5.0) + struct.pack("!hh", 1, 1)
    )
    check_protocol(
        session,
        [
            [
                (START, None),
                (ONE.introduction + ONE.bind([7]), None),
                (messages.simple_query("begin"), None),
                (ONE.bind([8]) + messages.parse(b"x", "nonsense") + ONE.bind([9]), None),
                (messages.simple_query("commit"), None),
                (messages.TERMINATE, b""),
            ],
            [(START, None), (sleeps + messages.EXECUTE + messages.SYNC + messages.SYNC, None), EXPIRE],
            [(messages.SSL_REQUEST, b"N"), (START, None), END],
        ],
        clones=False,
        lingers=True,
    )


@pytest.mark.parametrize(
    ("said", "answered", "sqlstate"),
    [
        (messages.SSL_REQUEST[:4] + b"\0\0\0\0", "E", b"08P01"),
        (b"\x7f\0\0\0\0\0\0\0", "E", b"08P01"),
        (START + messages.message(b"?"), "E", b"08P01"),
        (START + messages.message(b"P", b"no end"), "E", b"08P01"),
        (START + messages.message(b"B", b"\0\0"), "E", b"08P01"),
        (START + messages.message(b"B", b"\0one\0" + bytes(9)), "E", b"08P01"),
        (START + ONE.bind([1]), "EZ", b"26000"),
        (START + messages.describe(b"one") + messages.SYNC, "EZ", b"26000"),
        (START + messages.DESCRIBE_PORTAL + messages.SYNC, "EZ", b"34000"),
        (START + messages.EXECUTE + messages.SYNC, "EZ", b"34000"),
        (START + ONE.introduction * 2 + messages.SYNC, "1tTEZ", b"42P05"),
        (START + messages.parse(b"one", "select 1") + ONE.bind([1]), "1EZ", b"08P01"),
        (START + messages.simple_query("select 1"), "EZ", b"42601"),
        (
            START + ONE.introduction + AS_TEXT + messages.SYNC,
            "1tTEZ",
            b"0A000",
        ),
    ],
)
def test_what_is_wrong_is_answered(said: bytes, answered: str, sqlstate: bytes) -> None:
    driver = Driver(session())
    sent = driver.receive(said).sent()
    found = kinds(sent).removeprefix("RSSSKZ")
    assert found == answered
    assert b"C" + sqlstate in sent
    assert driver.alive == ("Z" in answered)


def test_a_cancel_with_the_wrong_secret_cancels_nothing() -> None:
    server = SimulatedPostgres()
    busy = Driver(server())
    busy.receive(START)
    asked = Statement(b"s", "select pg_sleep($1)", (701,), (messages.Column("pg_sleep", 2278),))
    busy.receive(asked.introduction + asked.bind([9.0]))
    connection = busy.machine
    for secret in (connection.secret ^ 1, connection.secret):
        assert "busy" in repr(connection)
        cancels = Driver(server())
        cancels.receive(messages.cancel_request(connection.process, secret))
        assert not cancels.alive
        busy.settle()
    assert b"C57014" in busy.sent()
    assert "idle" in repr(connection)
    assert "1 sessions" in repr(server)


def test_limits() -> None:
    driver = Driver(session())
    driver.receive(START)
    many = b"".join([messages.parse(b"n%d" % number, "select 1") for number in range(1025)])
    assert kinds(driver.receive(many + messages.SYNC).sent()).endswith("1EZ")
    driver.receive(messages.close_statement(b"n1") + messages.SYNC)
    assert kinds(driver.sent()) == "3Z"


@postgres.transaction(read_only=True)
async def report(tx: postgres.Transaction) -> tuple[int, list[int]]:
    balance: int = await tx.fetch_value(BALANCE, 1)
    return balance, [await reply for reply in [tx.fetch_value("select $1::int", n) for n in range(2)]]


@pytest.mark.no_cover
def test_transactions_under_the_kit() -> None:
    settings = Settings("me", None, "db", {}, {})

    def prepared() -> SimulatedPostgres:
        nonlocal statements
        statements = Statements(0)
        return SimulatedPostgres(Database({"accounts": {1: 5}}))

    statements = Statements(0)
    units = [
        (report(), (5, [0, 1])),
        (swallows(), postgres.RolledBack),
        (postgres.fetch_value("select $1::int", 8), 8),
    ]
    check_wire(lambda: PostgresWire(settings, statements, 1 << 20), units, server=prepared)


@pytest.mark.no_cover
def test_the_wire_against_it() -> None:
    settings = Settings("me", None, "db", {}, {})

    def wire() -> PostgresWire:
        return PostgresWire(settings, statements, 1 << 20)

    def prepared() -> SimulatedPostgres:
        nonlocal statements
        statements = Statements(8)
        return SimulatedPostgres(Database({"accounts": {1: 5, 2: 6}}))

    statements = Statements(8)
    units = [
        (postgres.fetch_value("select $1::int", 7, idempotent=True), 7),
        (postgres.query("select id, balance from accounts order by id"), [(1, 5), (2, 6)]),
        (postgres.query("nonsense"), PostgresError),
    ]
    tally = check_wire(wire, units, server=prepared)
    assert tally["cut"] > 100
    assert check_wire(wire, units[:2], server=prepared, pipeline=1)["reset"] > 10
