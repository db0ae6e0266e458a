"""The wire against a server that the test plays: at every split point, damaged, out of turn; and over TLS."""

from __future__ import annotations

import os
import random
import ssl
import struct
import subprocess
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from actors import Loop, Transport
from actors.testing import settle
from pools import BackendDown, BackendError, ConnectionLost, PoolError
from protocols import postgres
from protocols.postgres import PostgresError, messages
from protocols.postgres.startup.authenticate import certificate_hash
from protocols.postgres.startup.handshake import Handshake, Settings
from protocols.postgres.statements import Statements
from protocols.postgres.wire import PostgresWire
from tests.protocols.postgres.played import (
    DESCRIBED,
    READY,
    UNIT,
    WELCOME,
    Played,
    answer,
    error,
    m,
    row,
)
from tests.protocols.postgres.servers import PASSWORD, Server


def test_a_conversation_at_every_split_point() -> None:
    said = [WELCOME, DESCRIBED, answer(1, 2)]
    for number, part in enumerate(said):
        for split in range(len(part)):
            bench = Played()
            reply = bench.submit(UNIT)
            bench.accept()
            for piece in (*said[:number], part[:split], part[split:], *said[number + 1 :]):
                if piece:
                    bench.say(piece)
            assert reply.result() == [(1,), (2,)], (number, split)


@pytest.mark.parametrize("cut", range(1, len(WELCOME)))
def test_a_part_of_the_greeting_is_waited_for_at_rest(cut: int) -> None:
    bench = Played()
    bench.submit(UNIT)
    bench.accept()
    bench.say(WELCOME[:cut])
    settle(bench.loop)  # it spun for as long as the rest had not come
    assert not bench.sockets[-1].closed


def test_byte_by_byte() -> None:
    bench = Played().ready()
    reply = bench.submit(UNIT)
    bench.run()
    for byte in answer(*range(12)):
        bench.say(bytes((byte,)))
    assert reply.result() == [(n,) for n in range(12)]


def test_units_of_one_tick_leave_together_and_are_answered_in_order() -> None:
    bench = Played(pipeline=8).ready()
    replies = [bench.submit(UNIT) for _ in range(4)]
    bench.run()
    assert bench.sockets[-1].delivered().count(b"B\0\0\0") == 4
    bench.say(answer(1) + m(b"2") + error("22012") + READY + answer(3) + answer())
    assert [reply.result() for reply in (replies[0], replies[2], replies[3])] == [[(1,)], [(3,)], []]
    assert isinstance(replies[1].error, PostgresError)
    assert bench.add_up()
    assert "0 answers to come" in repr(next(iter(bench.pool.backends[0].all)).wire)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad\r\n", m(b"?"), b"Z\0\0\0\0", b"D\0\0\0\0\0\0", m(b"T", b"\0"),
        m(b"t", b"\0"), m(b"E"), READY + READY, m(b"R", bytes(4)), m(b"G"), m(b"S", b"x"),
        m(b"2") + row(1)[:-1] + b"\0" * 40,
        b"D\x7f\xff\xff\xff\0\0", b"2\x7f\xff\xff\xff\0\0",
    ],
)  # fmt: skip
def test_what_breaks_the_protocol_closes_that_connection(said: bytes) -> None:
    bench = Played().ready()
    reply = bench.submit(UNIT)
    bench.run()
    bench.say(said)
    if not reply.settled or reply.error is None:
        bench.end()
    assert reply.settled
    assert isinstance(reply.error, BackendError | ConnectionLost) or said.startswith(READY)
    assert bench.sockets[-1].closed
    assert bench.add_up()


@pytest.mark.parametrize("seed", range(60))
def test_fuzzed_bytes_settle_every_unit(seed: int) -> None:
    rng = random.Random(seed)
    bench = Played(pipeline=4, attempts=1).ready()
    replies = [bench.submit(UNIT) for _ in range(3)]
    bench.run()
    said = bytearray(answer(1) + m(b"2") + error("22012") + READY + answer(2, 3, 4))
    for _ in range(rng.randrange(1, 6)):
        said[rng.randrange(len(said))] = rng.randrange(256)
    bench.say(bytes(said))
    if not all(reply.settled for reply in replies):
        bench.end()
    assert all(reply.settled for reply in replies)
    assert all(reply.error is None or isinstance(reply.error, PoolError) for reply in replies)
    assert bench.add_up()


@pytest.mark.parametrize("seed", range(20))
def test_fuzzed_greetings_settle_every_unit(seed: int) -> None:
    rng = random.Random(seed)
    bench = Played(password="secret")
    reply = bench.submit(UNIT)
    bench.accept()
    said = bytearray(WELCOME)
    said[rng.randrange(len(said))] = rng.randrange(256)
    bench.say(bytes(said))
    bench.advance(60.0)
    assert reply.settled
    assert bench.add_up()


def test_a_fatal_error_is_a_lost_connection() -> None:
    bench = Played().ready()
    reply = bench.submit(UNIT)
    bench.run()
    bench.say(error("57P01", "FATAL"))
    assert isinstance(reply.error, ConnectionLost)
    bench = Played().ready()
    bench.say(error("57P01", "FATAL"))
    assert bench.sockets[-1].closed
    bench = Played().ready()
    bench.say(error("XX000"))
    assert bench.sockets[-1].closed


def test_a_server_that_goes_away_for_good() -> None:
    bench = Played().ready()
    with capture_logs() as logs:
        bench.end()
        replies = [bench.submit(UNIT) for _ in range(20)]
        bench.refuse()
    for reply in replies:
        assert isinstance(reply.error, BackendDown)
        assert "refused" in str(reply.error)
    assert [entry["event"] for entry in logs] == ["cannot connect"]


def test_another_connection_reads_by_what_its_own_server_says() -> None:
    bench = Played().ready()
    bench.end()
    replies = [bench.submit(UNIT) for _ in range(3)]
    bench.accept()
    bench.say(WELCOME)
    sent = bench.sockets[-1].delivered()
    assert sent.endswith(messages.FLUSH)
    assert sent.count(b"select") == 1  # nothing is bound before it is described
    known, other = (struct.pack("!ihi", 0, 0, oid) for oid in (23, 700))
    bench.say(DESCRIBED.replace(known, other))
    assert bench.sockets[-1].delivered().startswith(b"B")
    number = struct.unpack("!i", struct.pack("!f", 2.5))[0]
    bench.say(answer(number))
    bench.say(answer(number))
    bench.say(answer(number))
    assert [reply.result() for reply in replies] == [[(2.5,)]] * 3
    gone = bench.submit(UNIT)
    bench.run()
    bench.say(error("26000") + READY)
    assert not gone.settled
    bench.say(m(b"1") + m(b"t", struct.pack("!hI", 1, 23)) + m(b"n"))
    bench.say(m(b"2") + m(b"C", b"DO\0") + READY)
    assert gone.result() == []


def test_a_question_waits_for_the_answers_before_it() -> None:
    bench = Played(pipeline=4).ready()
    first, other, behind = bench.submit(UNIT), bench.submit(postgres.query("select 2", 5)), bench.submit(UNIT)
    bad = bench.submit(postgres.query("select \0"))
    bench.run()
    assert b"P\0" not in bench.sockets[-1].delivered()  # a pooler takes the next Z for the end
    bench.say(answer(1))
    assert bench.sockets[-1].delivered().endswith(messages.FLUSH)
    bench.say(DESCRIBED)
    bench.say(answer(2))
    bench.say(answer(3))
    bench.say(READY)
    assert [reply.result() for reply in (first, other, behind)] == [[(1,)], [(2,)], [(3,)]]
    assert isinstance(bad.error, ValueError)
    assert bench.add_up()


def test_a_connection_that_is_lost_while_it_describes_has_executed_nothing() -> None:
    bench = Played(pipeline=4)
    replies = [bench.submit(UNIT) for _ in range(3)]
    bench.accept()
    bench.say(WELCOME)
    bench.sockets[-1].delivered()
    bench.reset()
    bench.advance(1.0)
    bench.accept()
    bench.say(WELCOME)
    bench.say(DESCRIBED)
    for number in (1, 2, 3):
        bench.say(answer(number))
    assert [reply.result() for reply in replies] == [[(1,)], [(2,)], [(3,)]]
    assert bench.add_up()


def test_a_neighbour_that_a_cancel_hits_is_sent_again() -> None:
    bench = Played(pipeline=4).ready()
    late = bench.submit(UNIT, timeout=0.5)
    neighbour = bench.submit(UNIT, timeout=60.0)
    bench.run()
    bench.advance(1.0)
    assert late.settled
    bench.sockets[1].accept_connection()
    bench.run()
    assert bench.sockets[1].delivered() == messages.cancel_request(7, 9)
    bench.say(answer(1) + m(b"2") + error("57014") + READY, index=0)
    assert not neighbour.settled
    bench.accept()
    bench.say(WELCOME)
    bench.say(DESCRIBED)
    bench.say(answer(8))
    assert neighbour.result() == [(8,)]
    assert bench.add_up()


# -- start-up -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (m(b"R", b"\0"), "cannot be read"),
        (m(b"R", struct.pack("!i", 7)), "kind 7"),
        (m(b"R", struct.pack("!i", 3)), "in the clear"),
        (m(b"R", struct.pack("!i", 10) + b"OTHER\0\0"), "offers"),
        (m(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0") + m(b"R", bytes(4)), "without proving"),
        (m(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0") + m(b"R", struct.pack("!i", 12)), "prove"),
        (m(b"Z", b"I"), "PostgreSQL server"),
        (m(b"K", bytes(8)), "PostgreSQL server"),
        (error("53300", "FATAL"), "53300"),
    ],
)
def test_a_start_that_goes_wrong(said: bytes, text: str) -> None:
    bench = Played(password="secret")
    reply = bench.submit(UNIT)
    bench.accept()
    bench.say(said)
    assert isinstance(reply.error, BackendDown)
    assert text in str(reply.error)


def test_what_is_shown_has_no_password() -> None:
    settings = Settings("me", "secret", "db", {}, {})
    assert repr(settings) == "<Settings of me for db>"
    assert "secret" not in repr(PostgresWire(settings, Statements(8), 1))
    assert repr(Handshake(settings, Transport())) == "<Handshake of me>"


def test_notices_before_the_start_is_done() -> None:
    bench = Played()
    reply = bench.submit(UNIT)
    bench.accept()
    bench.say(m(b"v", bytes(8)) + m(b"N", b"Shi\0\0") + WELCOME)
    bench.say(DESCRIBED)
    bench.say(answer(5))
    assert reply.result() == [(5,)]


@pytest.mark.parametrize(
    ("said", "text"), [(b"N", "does not support TLS"), (b"S!", "no answer"), (b"HTTP", "no answer")]
)
def test_tls_that_is_refused(said: bytes, text: str) -> None:
    bench = Played(tls=ssl.create_default_context())
    reply = bench.submit(UNIT)
    bench.accept()
    assert bench.sockets[-1].delivered() == messages.SSL_REQUEST
    bench.say(said)
    assert text in str(reply.error)


def test_tls_that_fails() -> None:
    bench = Played(tls=ssl.create_default_context())
    reply = bench.submit(UNIT)
    bench.accept()
    bench.say(b"S")
    bench.say(b"not a TLS record at all")
    assert "TLS with the server failed" in str(reply.error)


@pytest.fixture(scope="module")
def secured(server: Server) -> Iterator[Server]:
    """The server, with a certificate for as long as these tests need it."""
    data = server.folder / "data"
    openssl = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout server.key"
    names = "-out server.crt -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run([*openssl.split(), *names.split()], cwd=data, check=True, capture_output=True)
    for path in (data / "server.key", data / "server.crt"):
        path.chmod(0o600)
        os.chown(path, data.stat().st_uid, data.stat().st_gid)

    def run(*statements: str) -> None:
        for sql in (*statements, "select pg_reload_conf()"):
            subprocess.run(server.command("-d", "postgres", "-c", sql), check=True, capture_output=True)

    run("alter system set ssl = on")
    yield server
    run("alter system reset ssl")


def trusting(server: Server) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(server.folder / "data" / "server.crt"))


@pytest.mark.parametrize("who", ["scram", "clear", "hashed"])
def test_over_tls(loop: Loop, secured: Server, who: str) -> None:
    pool = loop.spawn(postgres.pool(secured.url_of(who), password=PASSWORD, tls=trusting(secured)))
    sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
    assert loop.run_until(pool.submit(postgres.fetch_value(sql))) is True
    rows = loop.run_until(
        pool.submit(postgres.query("select n, repeat('x', 90) from generate_series(1, 9000) n"))
    )
    assert rows == [(n, "x" * 90) for n in range(1, 9001)]
    assert len(loop.run_until(pool.submit(postgres.fetch_value("select repeat('y', 300000)")))) == 300_000


def test_copies_and_notifications_over_tls(loop: Loop, secured: Server) -> None:
    url, options = secured.url_of("scram"), {"password": PASSWORD, "tls": trusting(secured)}
    pool = loop.spawn(postgres.pool(url, connections=1, **options))  # type: ignore[arg-type]
    news = loop.spawn(postgres.listen(url, "news", **options))  # type: ignore[arg-type]
    lines = [b"%d\t%s\n" % (n, b"x" * 90) for n in range(30_000)]

    @postgres.transaction
    async def there_and_back(tx: postgres.Transaction) -> bytes:
        await tx.execute("create temporary table sealed (n int, x text) on commit drop")
        assert await tx.copy_in("sealed", lines) == len(lines)
        return await tx.copy_out("sealed")

    async def use() -> tuple[bytes, str]:
        assert await pool.submit(there_and_back()) == b"".join(lines)
        sql = "copy (select n, repeat('x', 90) from generate_series(0, 29999) n) to stdout"
        stream = await pool.submit(postgres.copy_out(sql))
        chunks = [chunk async for chunk in stream]  # more than a stream holds: it stops, and goes on
        await news.subscribed
        await pool.submit(postgres.notify("news", "sealed"))
        return b"".join(chunks), (await news.receive()).payload

    assert loop.run_until(loop.spawn(use())) == (b"".join(lines), "sealed")
    assert pool.statistics().opened == 1


def test_scram_is_bound_to_the_certificate(
    loop: Loop, secured: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = secured.url_of("scram") + "?sslmode=require"
    one = postgres.fetch_value("select 1")
    assert loop.run_until(loop.spawn(postgres.pool(url, password=PASSWORD)).submit(one)) == 1
    der = ssl.PEM_cert_to_DER_cert((secured.folder / "data" / "server.crt").read_text())
    assert len(certificate_hash(der)) == 32
    monkeypatch.setattr("protocols.postgres.startup.handshake.certificate_hash", lambda der: bytes(32))
    reply = loop.spawn(postgres.pool(url, password=PASSWORD)).submit(one)
    with pytest.raises(BackendDown, match="channel binding"):
        loop.run_until(reply)


def test_a_certificate_that_is_not_trusted(loop: Loop, secured: Server) -> None:
    pool = loop.spawn(postgres.pool(secured.url + "?sslmode=verify-full"))
    with pytest.raises(BackendDown, match="certificate"):
        loop.run_until(pool.submit(postgres.fetch_value("select 1")))
