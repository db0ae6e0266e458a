"""Connections that lead nowhere, and a name that leads to another server: real servers behind a relay."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from actors import Reply
from pools import DeadlineExceeded
from protocols import postgres
from protocols.postgres import PostgresError
from tests.protocols.postgres.servers import Server, running_standby
from tests.relay import Relay
from tests.still_time import StillLoop


def url_of(relay: Relay) -> str:
    return f"postgresql://postgres@127.0.0.1:{relay.port}/test"


def outcome(loop: StillLoop, reply: Reply[Any], step: float = 0.0) -> Any:
    """What it settles with; `step` seconds pass with each look."""
    loop.until(lambda: reply.settled, step)
    return reply.error or reply.result()


def execute(server: Server, *statements: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def notes(server: Server) -> Iterator[Server]:
    """A server with a table."""
    execute(server, "drop table if exists notes", "create table notes (n int)")
    yield server
    execute(server, "drop table notes")


def test_forgotten_connections_cost_one_statement(server: Server) -> None:
    with Relay(server.port) as relay, StillLoop() as loop:
        db = loop.spawn(postgres.pool(url_of(relay), connections=4, warm=4, timeout=5.0))
        loop.until(lambda: db.statistics().backends[0].idle == 4)
        relay.silence()
        loop.advance(60.0)
        lost = db.submit(postgres.fetch_value("select 1"))
        loop.until(lambda: db.statistics().in_flight == 1)
        loop.advance(5.1)
        assert isinstance(lost.error, DeadlineExceeded)
        units = [postgres.fetch_value("select $1::int", n) for n in range(20)]
        assert [outcome(loop, db.submit(unit), step=0.001) for unit in units] == [*range(20)]
        assert sum(db.statistics().failed.values()) == 1


def test_a_server_that_goes_silent_fails_within_the_bound_and_comes_back(server: Server) -> None:
    with Relay(server.port) as relay, StillLoop() as loop:
        db = loop.spawn(postgres.pool(url_of(relay), connections=2, timeout=5.0, connect_timeout=1.0))
        assert outcome(loop, db.submit(postgres.fetch_value("select 1"))) == 1
        relay.mute = True
        relay.silence()
        began = loop.now
        replies = [db.submit(postgres.fetch_value("select 1")) for _ in range(20)]
        loop.until(lambda: all(reply.settled for reply in replies), step=0.05)
        assert loop.now - began < 5.5
        assert all(reply.error is not None for reply in replies)
        relay.mute = False
        loop.advance(60.0)
        assert outcome(loop, db.submit(postgres.fetch_value("select 1")), step=0.01) == 1


def test_after_a_failover_behind_a_name_the_pool_goes_to_the_primary(notes: Server) -> None:
    with running_standby(notes) as standby, Relay(standby.port) as relay, StillLoop() as loop:
        db = loop.spawn(postgres.pool(url_of(relay), connections=3, warm=3, timeout=5.0))
        loop.until(lambda: db.statistics().backends[0].idle == 3)
        assert outcome(loop, db.submit(postgres.fetch_value("select pg_is_in_recovery()"))) is True
        write = [db.submit(postgres.execute("insert into notes values ($1)", n)) for n in range(3)]
        assert {outcome(loop, reply).sqlstate for reply in write} == {"25006"}  # it is all that there is
        loop.advance(60.0)
        relay.target = notes.port
        replies = [db.submit(postgres.execute("insert into notes values ($1)", n)) for n in range(30)]
        loop.until(lambda: all(reply.settled for reply in replies), step=0.001)
        assert [reply.error for reply in replies] == [None] * 30
        assert outcome(loop, db.submit(postgres.fetch_value("select count(*) from notes"))) == 30


def test_a_server_that_is_read_only_for_a_while(notes: Server) -> None:
    with StillLoop() as loop:
        db = loop.spawn(postgres.pool(notes.url, connections=2, timeout=5.0))

        def write() -> Any:
            return outcome(loop, db.submit(postgres.execute("insert into notes values (1)")), step=0.001)

        assert write() == 1
        try:
            execute(notes, "alter system set default_transaction_read_only = on", "select pg_reload_conf()")
            wait_for(notes, "on")
            loop.advance(60.0)
            refused = write()
            assert isinstance(refused, PostgresError)
            assert refused.sqlstate == "25006"
        finally:
            execute(notes, "alter system reset default_transaction_read_only", "select pg_reload_conf()")
        wait_for(notes, "off")
        loop.advance(60.0)
        assert write() == 1


def wait_for(server: Server, read_only: str) -> None:
    """Until new sessions are like that."""
    command = server.command("-d", "test", "-c", "show default_transaction_read_only")
    for _ in range(1000):
        if subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == read_only:
            return
    raise AssertionError(f"default_transaction_read_only does not become {read_only}")
