"""PostgreSQL under load: never another's answer through a proxy that delays and cuts, copies among it, and
no money made or lost while the server's backends are killed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from actors import (
    ANYTHING,
    SLEEP,
    Cancelled,
    Channel,
    ChannelClosed,
    Connector,
    Continue,
    Listener,
    Loop,
    Outcome,
    Stop,
    StreamProtocol,
    TcpAddress,
    Timeout,
    Transport,
    settle_all,
    sleep,
)
from pools import BackendDown, ConnectionLost, DeadlineExceeded, Pool, PoolError
from protocols import postgres
from protocols.postgres import PostgresError, Transaction
from tests.protocols.postgres.servers import Server, running_server

ACCOUNTS = 8
OPENING = 1000
SURE_CUT = 200  # this delivery is one, whatever the dice say


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """PostgreSQL, set up and running."""
    with running_server() as server:
        yield server


# -- a proxy that delays and cuts -----------------------------------------------------------------


class Side(StreamProtocol):
    """One of the two connections of a proxied one: hands on what comes, late and in pieces, or cuts both."""

    drain_phase = None

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.other: Side | None = None
        self.transport: Transport | None = None
        self.held = b""
        self.gone = False

    def connected(self, transport: Transport) -> Outcome:
        self.transport = transport
        return self._pass_on(transport)

    def received(self, transport: Transport) -> Outcome:
        self.held += transport.take(len(transport.input))
        rng = self.proxy.rng
        self.proxy.deliveries += 1
        if rng.random() < self.proxy.cuts or self.proxy.deliveries == SURE_CUT:
            self.proxy.cut += 1
            return Stop(ConnectionResetError("cut"))
        if rng.random() < 0.3:
            return Timeout(self, transport.scope.now + rng.uniform(0.0, 0.004), SLEEP)
        return self._pass_on(transport)

    def timeout(self, transport: Transport) -> Outcome:
        return self._pass_on(transport)

    def wakeup(self, transport: Transport) -> Outcome:
        other = self.other
        if other is not None and other.gone:
            return Stop(ConnectionResetError("the other side has gone"))
        return self._pass_on(transport)

    def ended(self, transport: Transport) -> Outcome:
        self._pass_on(transport)
        return Stop()

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        self.gone = True
        if self.other is not None and self.other.transport is not None:
            self.other.transport.scope.wake()

    def _pass_on(self, transport: Transport) -> Outcome:
        """All but a part, sometimes: every message is split somewhere."""
        other = self.other
        if other is None or other.transport is None or other.gone or not self.held:
            return Continue(self, ANYTHING)
        split = len(self.held)
        if self.proxy.rng.random() < 0.3:
            split = self.proxy.rng.randrange(len(self.held)) + 1
        other.transport.write(self.held[:split])
        self.held = self.held[split:]
        if self.held:
            return Timeout(self, transport.scope.now + 0.001, SLEEP)
        return Continue(self, ANYTHING)


class Client(Side):
    """The side that asks: has the proxy connect to the server."""

    def connected(self, transport: Transport) -> Outcome:
        self.other = server = Side(self.proxy)
        server.other = self
        address = TcpAddress("127.0.0.1", self.proxy.port)
        transport.scope.spawn(Connector(address, server))
        return super().connected(transport)


class Proxy:
    """What all its connections share."""

    def __init__(self, port: int, rng: random.Random, cuts: float) -> None:
        self.port = port
        self.rng = rng
        self.cuts = cuts  # how likely a delivery is the last one
        self.cut = self.deliveries = 0

    def spawn(self, loop: Loop) -> str:
        """Listen; the address."""
        return str(loop.spawn(Listener("127.0.0.1:0", lambda: Client(self))).address)


async def asks(pool: Pool, rng: random.Random, who: int, count: int, tally: Counter[str]) -> None:
    """Questions whose answers name the one who asked, of all shapes and fates."""
    for number in range(count):
        mine = f"{who}/{number}"
        kind = rng.randrange(4)
        timeout = rng.choice((0.004, 0.02, 5.0, 5.0))
        unit: Any
        if kind == 0:
            unit, wanted = postgres.fetch_value("select $1::text", mine), mine
        elif kind == 1:
            rows = rng.randrange(40)
            sql = "select n, $1::text from generate_series(1, $2::int) n"
            unit, wanted = postgres.query(sql, mine, rows), [(n, mine) for n in range(1, rows + 1)]
        elif kind == 2:
            unit, wanted = postgres.fetch_value("select 1 / (length($1::text) * 0)", mine), None
        else:
            unit, wanted = (
                postgres.fetch_one("select $1::text, repeat($1::text, 90)", mine),
                (mine, mine * 90),
            )
        reply = pool.submit(unit, timeout=timeout)
        if rng.random() < 0.1:
            await sleep(0)
            reply.cancel()
        try:
            answer = await reply
        except PostgresError as error:
            if kind != 2 or error.sqlstate != "22012":
                raise
            tally["failed, as it should"] += 1
        except (Cancelled, DeadlineExceeded, ConnectionLost, BackendDown) as error:
            tally[type(error).__name__] += 1
            if isinstance(error, BackendDown):
                await sleep(0.02)  # or all that is asked would be refused while the pool backs off
        else:
            assert answer == wanted, (mine, answer)
            tally["answered"] += 1


async def copies_out(pool: Pool, rng: random.Random, mine: str, timeout: float) -> str:
    """Rows that name the one who asked, read to the end or left at some point."""
    rows = rng.choice((0, 5, 500, 20_000))
    sql = f"select n, '{mine}' from generate_series(1, {rows}) n"
    records = rng.random() < 0.5
    unit: Any = postgres.copy_out_records(sql) if records else postgres.copy_out(f"copy ({sql}) to stdout")
    reply = pool.submit(unit, timeout=timeout)
    if rng.random() < 0.1:
        await sleep(0)
        reply.cancel()
    stream = await reply
    leaves = rng.randrange(30) if rng.random() < 0.3 else -1
    pieces: list[Any] = []
    async for chunk in stream:
        pieces += chunk if records else [chunk]
        if len(pieces) > leaves >= 0:
            stream.cancel()
            return "left"
        if rng.random() < 0.1:
            await sleep(rng.uniform(0.0, 0.002))
    if records:
        assert pieces == [(n, mine) for n in range(1, rows + 1)], mine
    else:
        assert b"".join(pieces) == b"".join(b"%d\t%b\n" % (n, mine.encode()) for n in range(1, rows + 1)), (
            mine
        )
    assert stream.rows == rows
    return "answered"


async def copies_in(pool: Pool, rng: random.Random, mine: str, timeout: float) -> tuple[str, int]:
    """Rows that name the one who sends them: all of them, or none."""
    rows = rng.choice((1, 50, 3000))
    records = [(mine, n) for n in range(rows)]
    dry = rng.random() < 0.2

    def some() -> Iterator[tuple[str, int]]:
        yield from records
        if dry:
            raise LookupError(mine)

    data: Any = some() if rng.random() < 0.5 else Channel(64)
    reply = pool.submit(postgres.copy_in_records("copied", data), timeout=timeout)
    if isinstance(data, Channel):
        try:
            for record in records:
                await data.send(record)
            data.close(LookupError(mine) if dry else None)
        except ChannelClosed:
            pass
    if rng.random() < 0.1:
        await sleep(rng.uniform(0.0, 0.004))
        reply.cancel()
    try:
        assert await reply == rows
    except LookupError as error:
        if error.args != (mine,):
            raise
        return "failed, as it should", 0
    assert not dry
    return "answered", rows


async def copies(
    pool: Pool, rng: random.Random, who: int, count: int, tally: Counter[str], sent: dict[str, int]
) -> None:
    """Copies both ways, of all fates. `sent`: how many rows there must be of each that was answered."""
    for number in range(count):
        mine = f"copy {who}/{number}"
        timeout = rng.choice((0.01, 30.0, 30.0))
        try:
            if rng.random() < 0.5:
                fate = await copies_out(pool, rng, mine, timeout)
            else:
                fate, rows = await copies_in(pool, rng, mine, timeout)
                sent[mine] = rows
        except (Cancelled, DeadlineExceeded, ConnectionLost, BackendDown) as error:
            if isinstance(error, DeadlineExceeded) and timeout > 1.0:
                raise  # it has stood still
            fate = type(error).__name__
            if isinstance(error, BackendDown):
                await sleep(0.02)
        tally[fate] += 1


def test_copies_among_others(server: Server, rng: random.Random, full_size: bool) -> None:
    count = 4_000 if full_size else 300
    proxy = Proxy(server.port, rng, 0.001)
    tally: Counter[str] = Counter()
    others: Counter[str] = Counter()
    sent: dict[str, int] = {}
    with Loop() as loop:
        admin = loop.spawn(postgres.pool(server.url, connections=1))
        for sql in ("drop table if exists copied", "create table copied (who text, n int)"):
            loop.run_until(admin.submit(postgres.execute(sql)))
        url = f"postgresql://postgres@{proxy.spawn(loop)}/test"
        pool = loop.spawn(postgres.pool(url, connections=6, pipeline=4))
        flows = [loop.spawn(copies(pool, rng, who, count // 10, tally, sent)) for who in range(10)]
        flows += [loop.spawn(asks(pool, rng, who, count // 5, others)) for who in range(10)]
        assert loop.run_until(settle_all(*flows)) == (None,) * 20
        now = pool.statistics()
        sql = "select who, count(*), count(distinct n), max(n) + 1 from copied group by who"
        there = {who: rest for who, *rest in loop.run_until(admin.submit(postgres.query(sql)))}
    assert sum(tally.values()) == count
    assert tally["answered"] > count // 5, tally
    for mine, rows in sent.items():
        assert there.get(mine, [0, 0, None])[0] == rows, mine
    for mine, (rows, distinct, last) in there.items():
        assert rows == distinct == last, mine  # all of it, and once
    assert now.submitted == now.succeeded + sum(now.failed.values()) + now.queued + now.in_flight


@pytest.mark.parametrize(("connections", "pipeline", "statements"), [(4, 16, 256), (8, 1, 2)])
def test_never_anothers_answer(
    server: Server, rng: random.Random, full_size: bool, connections: int, pipeline: int, statements: int
) -> None:
    count = 25_000 if full_size else 2_500
    proxy = Proxy(server.port, rng, 0.002)
    tally: Counter[str] = Counter()
    with Loop() as loop:
        url = f"postgresql://postgres@{proxy.spawn(loop)}/test"
        options = {"connections": connections, "pipeline": pipeline, "statements": statements}
        pool = loop.spawn(postgres.pool(url, **options))  # type: ignore[arg-type]
        askers = [loop.spawn(asks(pool, rng, who, count // 25, tally)) for who in range(25)]
        assert loop.run_until(settle_all(*askers)) == (None,) * 25
        now = pool.statistics()
    assert sum(tally.values()) == count
    assert tally["answered"] > count // 4, tally
    assert proxy.cut > 0
    assert now.submitted == now.succeeded + sum(now.failed.values()) + now.queued + now.in_flight


# -- money ----------------------------------------------------------------------------------------


@postgres.transaction(isolation="serializable", attempts=20)
async def transfer(tx: Transaction, source: int, target: int, amount: int, receipt: str) -> int:
    """As the example's, with a receipt by which to tell later whether it has happened."""
    balance: int = await tx.fetch_value("select balance from accounts where id = $1 for update", source)
    if balance < amount:
        raise LookupError(source)
    await tx.execute("update accounts set balance = balance - $2 where id = $1", source, amount)
    await tx.execute("update accounts set balance = balance + $2 where id = $1", target, amount)
    await tx.execute("insert into receipts values ($1)", receipt)
    return balance - amount


class Book:
    """What the flows were told."""

    def __init__(self) -> None:
        self.done: set[str] = set()
        self.refused: set[str] = set()  # certainly not happened
        self.unknown: set[str] = set()
        self.over = False


async def spends(pool: Pool, rng: random.Random, who: int, count: int, book: Book) -> None:
    """Transfers at random."""
    for number in range(count):
        source, target = rng.sample(range(ACCOUNTS), 2)
        receipt = f"{who}/{number}"
        try:
            await pool.submit(transfer(source, target, rng.randint(1, 300), receipt), timeout=20)
        except (LookupError, PostgresError, BackendDown):
            book.refused.add(receipt)
        except DeadlineExceeded as error:
            (book.unknown if error.stage == "sent" else book.refused).add(receipt)
        except ConnectionLost:
            book.unknown.add(receipt)
        except PoolError:
            book.refused.add(receipt)
        else:
            book.done.add(receipt)


async def kills(pool: Pool, rng: random.Random, book: Book) -> int:
    """Backends, one at a time, until the flows are done; how many."""
    killed = 0
    sql = (
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'spender' "
        "order by random() limit 1"
    )
    while not book.over:
        await sleep(rng.uniform(0.005, 0.05))
        killed += await pool.submit(postgres.execute(sql))
    return killed


def test_no_money_is_made_or_lost(server: Server, rng: random.Random, full_size: bool) -> None:
    count = 200 if full_size else 12
    book = Book()
    with Loop() as loop:
        pool = loop.spawn(postgres.pool(server.url + "?application_name=spender", connections=8))
        admin = loop.spawn(postgres.pool(server.url, connections=1))

        def ask(unit: Any) -> Any:
            return loop.run_until(admin.submit(unit))

        for sql in (
            "drop table if exists accounts, receipts",
            "create table accounts (id int primary key, balance int not null check (balance >= 0))",
            "create table receipts (receipt text primary key)",
        ):
            ask(postgres.execute(sql))
        opening = [(id, OPENING) for id in range(ACCOUNTS)]
        ask(postgres.execute_many("insert into accounts values ($1, $2)", opening))
        killer = loop.spawn(kills(admin, rng, book))
        flows = [loop.spawn(spends(pool, rng, who, count, book)) for who in range(32)]
        assert loop.run_until(settle_all(*flows)) == (None,) * 32
        book.over = True
        killed = loop.run_until(killer)
        total = ask(postgres.fetch_value("select sum(balance)::int from accounts"))
        happened = {receipt for (receipt,) in ask(postgres.query("select receipt from receipts"))}
    assert total == ACCOUNTS * OPENING
    assert killed > 0
    assert len(book.done) + len(book.refused) + len(book.unknown) == 32 * count
    assert book.done <= happened
    assert not book.refused & happened
    assert happened <= book.done | book.unknown
    assert book.done
