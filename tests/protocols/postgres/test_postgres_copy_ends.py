"""However a copy comes to its end, and however soon, nobody feeds it or reads it for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from actors import Channel, ChannelClosed, Reply
from pools import (
    BackendDown,
    Cancelled,
    ConnectionLost,
    DeadlineExceeded,
    HeldAcrossBackends,
    PoolClosed,
    QueueFull,
)
from protocols import postgres
from protocols.postgres import PostgresError, messages
from tests.protocols.postgres.played import DESCRIBED, READY, UNIT, WELCOME, Played, error, m

COPY_IN = m(b"G", b"\0\0\0")
COPY_OUT = m(b"H", b"\0\0\0")
UNITS: dict[str, Callable[[Any], Any]] = {
    "bytes": lambda rows: postgres.copy_in("copy t from stdin", rows),
    "records": lambda rows: postgres.copy_in_records("t", rows),
}


def feeding(bench: Played, rows: Channel[Any]) -> Reply[None]:
    """Somebody who feeds it, and stands still because nothing is taken."""

    async def feed() -> None:
        for _ in range(100):
            await rows.send((1,))

    reply = bench.loop.spawn(feed())
    bench.run()
    assert not reply.settled
    return reply


def stop(bench: Played) -> None:
    bench.loop.kill(bench.pool.token)
    bench.run()


def ends(bench: Played, reply: Reply[Any]) -> dict[str, tuple[Callable[[], object], type[Exception]]]:
    """What can happen to a copy whose server has not answered yet."""
    return {
        "reset": (bench.reset, ConnectionLost),
        "end": (bench.end, ConnectionLost),
        "deadline": (lambda: bench.advance(2.0), DeadlineExceeded),
        "cancel": (reply.cancel, Cancelled),
        "stop": (lambda: stop(bench), PoolClosed),
        "error": (lambda: bench.say(error("42P01") + READY), PostgresError),
        "fatal": (lambda: bench.say(error("57P01", "FATAL")), ConnectionLost),
        "nonsense": (lambda: bench.say(m(b"?")), postgres.BadMessage),
        "another copy": (lambda: bench.say(COPY_OUT + m(b"c") + m(b"C", b"COPY 0\0") + READY), ValueError),
        "no copy": (lambda: bench.say(m(b"C", b"DO\0") + READY), ValueError),
    }


HOW = list(ends(Played(), Reply()))


@pytest.mark.parametrize("kind", UNITS)
@pytest.mark.parametrize("how", HOW)
def test_before_the_server_is_ready_for_its_data(kind: str, how: str) -> None:
    bench = Played().ready()
    rows: Channel[Any] = Channel(1)
    reply = bench.submit(UNITS[kind](rows), timeout=1.0)
    bench.run()
    if kind == "records":
        bench.say(DESCRIBED)
    assert b"Q" in bench.sockets[-1].delivered()
    fed = feeding(bench, rows)
    happen, kind_of = ends(bench, reply)[how]
    happen()
    bench.run()
    assert isinstance(reply.error, kind_of)
    assert isinstance(fed.error, ChannelClosed)
    assert type(fed.error.__cause__) is type(reply.error)


@pytest.mark.parametrize("how", ["reset", "end", "deadline", "cancel", "stop", "error", "fatal", "nonsense"])
def test_while_its_types_are_asked_for(how: str) -> None:
    bench = Played(attempts=1, connect_timeout=0.5).ready()
    rows: Channel[Any] = Channel(1)
    reply = bench.submit(UNITS["records"](rows), timeout=1.0)
    bench.run()
    fed = feeding(bench, rows)
    happen, kind_of = ends(bench, reply)[how]
    happen()
    bench.run()
    if how in ("reset", "end", "fatal"):  # nothing was executed: it is done on the next connection
        assert not reply.settled
        bench.refuse()
        kind_of = BackendDown
    bench.run()
    assert isinstance(reply.error, kind_of)
    assert isinstance(fed.error, ChannelClosed)


@pytest.mark.parametrize("kind", UNITS)
@pytest.mark.parametrize("how", ["deadline", "cancel", "stop", "down", "full", "late", "draining", "crash"])
def test_before_it_is_sent(kind: str, how: str) -> None:
    bench = Played(queue=1, connect_timeout=5.0)
    rows: Channel[Any] = Channel(1)
    if how == "full":
        bench.submit(UNIT)
    elif how == "draining":
        bench.submit(UNIT)
        bench.run()
        bench.pool.drain()
        bench.run()
    elif how == "late":
        bench.submit(UNIT)
        bench.refuse()
    reply = bench.submit(UNITS[kind](rows), timeout=1.0)

    async def feed() -> None:
        for _ in range(100):
            await rows.send((1,))

    fed = bench.loop.spawn(feed())
    bench.run()
    happen: dict[str, Callable[[], object]] = {
        "deadline": lambda: bench.advance(2.0), "cancel": reply.cancel, "stop": lambda: stop(bench), "down":
        bench.refuse, "crash": lambda: bench.loop.kill(bench.pool.token, LookupError("crashed")),
    }  # fmt: skip
    happen.get(how, lambda: None)()
    bench.run()
    kinds = {"deadline": DeadlineExceeded, "cancel": Cancelled, "stop": PoolClosed, "down": BackendDown,
             "full": QueueFull, "late": BackendDown, "draining": PoolClosed, "crash": PoolClosed}  # fmt: skip
    assert isinstance(reply.error, kinds[how])
    assert isinstance(fed.error, ChannelClosed)


@pytest.mark.parametrize("how", HOW)
def test_while_its_data_flows(how: str) -> None:
    bench = Played().ready()
    rows: Channel[Any] = Channel(1)
    reply = bench.submit(UNITS["bytes"](rows), timeout=1.0)
    bench.run()
    bench.say(COPY_IN)
    rows.put(b"1\n")
    bench.run()
    assert messages.copy_data(b"1\n") in bench.sockets[-1].delivered()
    happen, kind_of = ends(bench, reply)[how]
    happen()
    bench.run()
    if not reply.settled:
        bench.end()
    assert isinstance(reply.error, kind_of | ValueError | postgres.BadMessage | ConnectionLost)
    assert rows.ended
    with pytest.raises(ChannelClosed):
        rows.put(b"2\n")


def test_behind_another_in_a_transaction_that_ends() -> None:
    bench = Played()

    @postgres.transaction
    async def load(tx: postgres.Transaction, rows: Channel[bytes]) -> None:
        first = tx.submit(UNIT)
        await tx.copy_in("copy t from stdin", rows)
        await first

    rows: Channel[bytes] = Channel(1)
    reply = bench.submit(load(rows))
    bench.accept()
    bench.say(WELCOME)
    fed = feeding(bench, rows)
    bench.say(m(b"C", b"BEGIN\0") + m(b"Z", b"T"))
    bench.say(DESCRIBED)
    bench.say(m(b"2") + m(b"C", b"SELECT 0\0") + m(b"Z", b"T"))
    bench.say(m(b"Z", b"T"))
    bench.say(m(b"C", b"ROLLBACK\0") + READY)
    assert isinstance(reply.error, HeldAcrossBackends)
    assert isinstance(fed.error, ChannelClosed)


@pytest.mark.parametrize("how", ["reset", "end", "stop", "error", "fatal", "nonsense"])
def test_a_reader_hears_of_the_end(how: str) -> None:
    bench = Played().ready()
    reply = bench.submit(postgres.copy_out("copy t to stdout"), timeout=1.0)
    bench.run()
    bench.say(COPY_OUT + m(b"d", b"1\n"))
    stream = reply.result()

    async def read() -> list[bytes]:
        return [chunk async for chunk in stream]

    got = bench.loop.spawn(read())
    bench.run()
    assert not got.settled
    ends(bench, reply)[how][0]()
    bench.run()
    assert isinstance(got.error, ConnectionLost | PostgresError | PoolClosed)


@pytest.mark.parametrize("how", ["unknown", "refused", "reset", "stop"])
def test_a_subscription_ends_for_everybody_who_waits_for_it(how: str) -> None:
    bench = Played()
    jobs = bench.loop.spawn(postgres.listen("postgresql://me@192.0.2.7/db", "jobs"))

    async def read() -> Any:
        return await jobs.receive()

    got, more = bench.loop.spawn(read()), jobs.add("more")
    bench.accept()
    if how == "unknown":
        bench.say(error("3D000", "FATAL"))
    else:
        bench.say(WELCOME)
        if how == "refused":
            bench.say(error("42501") + READY)
        else:
            bench.say(m(b"C", b"LISTEN\0") + READY)
            assert jobs.subscribed.settled
            assert more.settled
            more = jobs.remove("more")
            bench.run()
            if how == "reset":
                bench.reset()
                bench.advance(0.2)
                bench.accept()
                bench.say(WELCOME)
                bench.say(m(b"C", b"LISTEN\0") + READY)
                assert more.settled
                assert more.error is None
                assert not got.settled
            jobs.cancel()
            bench.run()
    assert got.settled
    assert jobs.subscribed.settled
    assert more.settled
