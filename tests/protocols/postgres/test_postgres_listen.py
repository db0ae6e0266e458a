"""LISTEN on a real server, and against one that the test plays: cuts, silence, damage, every split point."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from actors import Backoff, ChannelClosed, Loop, settle_all
from actors.testing import ManualKernel, run_until
from pools import BackendError, Pool, PoolClosed
from protocols import postgres
from protocols.postgres import BadMessage, Notification, PostgresError, Subscription, messages
from tests.protocols.postgres.played import READY, WELCOME, error, m
from tests.protocols.postgres.servers import PASSWORD, Server

Ask = Callable[..., Any]

SOON = Backoff(0.001, 0.01)
DONE = m(b"C", b"LISTEN\0") + READY


def receive(loop: Loop, news: Subscription, count: int = 1) -> list[Notification]:
    async def some() -> list[Notification]:
        return [await news.receive() for _ in range(count)]

    return loop.run_until(loop.spawn(some()))


def said(notifications: list[Notification]) -> list[tuple[str, str]]:
    return [(notification.channel, notification.payload) for notification in notifications]


@pytest.fixture
def news(loop: Loop, server: Server) -> Subscription:
    """A subscription to `news` that has begun."""
    listening = loop.spawn(postgres.listen(server.url + "?application_name=listener", "news", backoff=SOON))
    loop.run_until(listening.subscribed)
    return listening


def listeners(ask: Ask) -> Any:
    return ask(
        postgres.fetch_value("select count(*) from pg_stat_activity where application_name = 'listener'")
    )


# -- a real server --------------------------------------------------------------------------------


def test_notifications_come_by_channel(loop: Loop, news: Subscription, ask: Ask, server: Server) -> None:
    loop.run_until(news.add('od"d', "News", "a; select 1"))
    for channel, payload in [
        ("news", "é"),
        ('od"d', ""),
        ("News", "x" * 7999),
        ("a; select 1", "1"),
        ("else", ""),
    ]:
        assert ask(postgres.notify(channel, payload)) is None
    with psycopg.connect(server.url, autocommit=True) as connection:
        pid = connection.info.backend_pid
        connection.execute("notify news, 'theirs'")
    got = receive(loop, news, 5)
    assert said(got) == [
        ("news", "é"),
        ('od"d', ""),
        ("News", "x" * 7999),
        ("a; select 1", "1"),
        ("news", "theirs"),
    ]
    assert got[-1].pid == pid
    assert news.gaps == news.dropped == 0
    assert "0 gaps" in repr(news)


def test_a_channel_that_is_removed(loop: Loop, news: Subscription, ask: Ask) -> None:
    loop.run_until(news.add("more"))
    loop.run_until(news.remove("news", "never"))
    loop.run_until(news.remove())
    ask(postgres.notify("news", "missed"))
    ask(postgres.notify("more", "heard"))
    assert said(receive(loop, news)) == [("more", "heard")]
    assert list(news.channels) == ["more"]


def test_a_commit_tells_and_a_rollback_does_not(loop: Loop, news: Subscription, ask: Ask) -> None:
    @postgres.transaction
    async def tell(tx: postgres.Transaction, fail: bool) -> None:
        await tx.submit(postgres.notify("news", str(fail)))
        if fail:
            raise LookupError

    with pytest.raises(LookupError):
        ask(tell(True))
    ask(tell(False))
    assert said(receive(loop, news)) == [("news", "False")]


def test_it_listens_again_after_a_reconnect(loop: Loop, news: Subscription, ask: Ask) -> None:
    kill = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'listener'"
    with capture_logs() as logs:
        for turn in range(3):
            loop.run_until(news.add(f"turn {turn}"))
            assert ask(postgres.execute(kill)) == 1
            run_until(loop, lambda turn=turn: news.gaps == turn + 1)
            loop.run_until(news.add("while away"))  # settles when the next connection listens
            ask(postgres.notify(f"turn {turn}", "x"))
            ask(postgres.notify("while away", "y"))
            assert said(receive(loop, news, 2)) == [(f"turn {turn}", "x"), ("while away", "y")]
    assert {entry["event"] for entry in logs} == {"subscription lost", "listening again"}


def test_a_cancel_unlistens_and_closes(loop: Loop, news: Subscription, ask: Ask) -> None:
    assert listeners(ask) == 1
    reply = news.add("late")
    news.cancel()
    assert any(listeners(ask) == 0 for _ in range(1000))
    with pytest.raises(ChannelClosed):
        receive(loop, news)
    assert isinstance(settled(loop, reply), PoolClosed)
    assert isinstance(settled(loop, news.add("later")), PoolClosed)


def settled(loop: Loop, reply: Any) -> BaseException | None:
    loop.run_until(settle_all(reply))
    error: BaseException | None = reply.error
    return error


def test_the_oldest_is_dropped_for_a_slow_reader(loop: Loop, server: Server, ask: Ask) -> None:
    slow = loop.spawn(postgres.listen(server.url, "news", capacity=3))
    loop.run_until(slow.subscribed)
    ask(postgres.query("select pg_notify('news', n::text) from generate_series(1, 50) n"))
    run_until(loop, lambda: slow.dropped == 47)
    assert slow.gaps == 1
    assert [notification.payload for notification in receive(loop, slow, 3)] == ["48", "49", "50"]
    ask(postgres.query("select pg_notify('news', n::text) from generate_series(1, 5) n"))
    run_until(loop, lambda: slow.dropped == 49)
    assert slow.gaps == 2
    slow.cancel()


def test_or_the_reading_stops_and_nothing_is_lost(loop: Loop, server: Server, ask: Ask) -> None:
    slow = loop.spawn(postgres.listen(server.url, "news", capacity=2, overflow="pause", ping=0.01))
    loop.run_until(slow.subscribed)
    ask(postgres.query("select pg_notify('news', n::text) from generate_series(1, 200) n"))
    run_until(loop, lambda: len(slow.messages) == 2)
    with pytest.raises(AssertionError, match="not come true"):
        run_until(loop, lambda: slow.gaps, seconds=0.05)  # it does not ask for what it would not read
    assert [notification.payload for notification in receive(loop, slow, 200)] == [
        str(n) for n in range(1, 201)
    ]
    assert slow.gaps == slow.dropped == 0
    slow.cancel()


def test_inside_asyncio(server: Server) -> None:
    async def main() -> list[str]:
        async with Loop.in_asyncio() as loop:
            db = loop.spawn(postgres.pool(server.url, connections=1))
            news = loop.spawn(postgres.listen(server.url))
            await news.subscribed
            await news.add("jobs")
            await asyncio.gather(*[db.submit(postgres.notify("jobs", str(n))) for n in range(3)])
            got = []
            async for notification in news:
                got.append(notification.payload)
                if len(got) == 3:
                    break
            news.cancel()
            return got

    assert sorted(asyncio.run(main())) == ["0", "1", "2"]


def test_a_wrong_password_ends_it_with_what_to_do(loop: Loop, server: Server) -> None:
    with capture_logs() as logs:
        news = loop.spawn(postgres.listen(server.url_of("scram"), "x", password=PASSWORD + "!"))
        waiting = news.add("y")
        with pytest.raises(PostgresError, match="check the password"):
            loop.run_until(news.subscribed)
    with pytest.raises(PostgresError, match="check the password"):
        receive(loop, news)
    assert isinstance(settled(loop, waiting), PoolClosed)
    assert [entry["event"] for entry in logs] == ["subscription lost"]
    assert PASSWORD not in repr(news)


def test_a_draining_loop_ends_it(loop: Loop, server: Server) -> None:
    news = loop.spawn(postgres.listen(server.url, "x"))
    loop.drain(5.0)
    loop.run(signals=False)
    with pytest.raises(PoolClosed):
        news.subscribed.result()


def test_what_cannot_be_listened_to() -> None:
    for channel, told in (("", "not a name"), ("a\0", "not a name"), ("é" * 32, "longer than 63 bytes")):
        with pytest.raises(ValueError, match=told):
            postgres.listen("postgresql://host/db", channel)
        with pytest.raises(ValueError, match=told):
            postgres.notify(channel)
    with pytest.raises(ValueError, match="drop_oldest or pause"):
        postgres.listen("postgresql://host/db", overflow="explode")  # type: ignore[arg-type]


def test_a_payload_that_the_server_refuses(ask: Ask, db: Pool) -> None:
    with pytest.raises(PostgresError, match="payload string too long"):
        ask(postgres.notify("news", "x" * 8000))


# -- a played one ---------------------------------------------------------------------------------


def note(payload: str, channel: str = "x") -> bytes:
    return m(b"A", (77).to_bytes(4) + f"{channel}\0{payload}\0".encode())


class Stage:
    """A subscription to `x` whose server the test plays."""

    def __init__(self, **options: Any) -> None:
        self.kernel = ManualKernel()
        self.loop = Loop(kernel=self.kernel)
        self.news = self.loop.spawn(postgres.listen("postgresql://u@192.0.2.7/d", "x", **options))
        self.run()

    def run(self, ticks: int = 4) -> None:
        for _ in range(ticks):
            self.loop.tick(0)

    def say(self, data: bytes) -> None:
        self.kernel.sockets[-1].arrive(data)
        self.run()

    def accept(self) -> None:
        self.kernel.sockets[-1].accept_connection()
        self.run()

    def sent(self) -> bytes:
        return self.kernel.sockets[-1].delivered()

    def advance(self, seconds: float) -> None:
        self.kernel.clock.advance(seconds)
        self.run()

    def got(self) -> list[str]:
        channel = self.news.messages
        return [channel.take().payload for _ in range(len(channel))]


def test_a_conversation_at_every_split_point() -> None:
    told = DONE + note("one") + m(b"S", b"a\0b\0") + note("two") + m(b"N", b"Mx\0\0") + note("three")
    for split in range(len(WELCOME) + len(told)):
        stage = Stage()
        stage.accept()
        rest = max(0, split - len(WELCOME))
        for part in (WELCOME[:split], WELCOME[split:], told[:rest], told[rest:]):
            if part:
                stage.say(part)
        assert stage.news.subscribed.settled, split
        assert stage.got() == ["one", "two", "three"]


@pytest.mark.parametrize("seed", range(40))
def test_fuzzed_bytes_are_a_gap_or_read(seed: int) -> None:
    rng = random.Random(seed)
    stage = Stage()
    stage.accept()
    stage.say(WELCOME)
    stage.say(DONE)
    data = bytearray(note("one") + m(b"S", b"a\0b\0") + note("two") + m(b"I") + READY)
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    with capture_logs():
        stage.say(bytes(data))
        stage.advance(31.0)
        stage.advance(31.0)
    assert stage.news.gaps == 1 or len(stage.got()) <= 2
    assert stage.loop.machines >= 1


def test_silence_is_asked_about_and_then_given_up() -> None:
    stage = Stage(ping=10.0)
    stage.accept()
    stage.say(WELCOME)
    stage.say(DONE)
    stage.sent()
    stage.advance(11.0)
    assert stage.sent() == messages.simple_query("")
    stage.say(m(b"I") + READY)
    with capture_logs() as logs:
        stage.advance(11.0)
        stage.advance(11.0)
    assert "has not answered" in logs[0]["error"]
    assert stage.news.gaps == 1


def test_what_waits_for_an_answer_is_settled_by_the_next_connection() -> None:
    stage = Stage(backoff=SOON)
    stage.accept()
    stage.say(WELCOME)
    stage.say(DONE)
    added, removed = stage.news.add("y", "z"), stage.news.remove("z")
    with capture_logs():
        stage.kernel.sockets[-1].end()
        stage.run()
        stage.advance(1.0)
        stage.accept()
        stage.sent()
        stage.say(WELCOME)
        assert messages.simple_query('listen "x"; listen "y"') in stage.sent()
        assert not added.settled
        stage.say(DONE)
    assert added.settled
    assert removed.settled
    assert added.error is None


def test_a_command_that_is_refused() -> None:
    stage = Stage()
    stage.accept()
    stage.say(WELCOME)
    stage.say(DONE)
    reply = stage.news.add("y")
    stage.run()
    stage.say(error("25006") + READY)
    assert isinstance(reply.error, PostgresError)
    assert stage.news.gaps == 0
    many = [stage.news.add("y") for _ in range(1100)]
    assert isinstance(many[-1].error, BackendError)


@pytest.mark.parametrize(
    ("begin", "kind"),
    [
        (b"HTTP/1.1 400\r\n", BadMessage),
        (WELCOME + error("25006") + READY, PostgresError),
        (WELCOME + error("57P01", "FATAL"), PostgresError),
    ],
)
def test_a_server_that_refuses(begin: bytes, kind: type[Exception]) -> None:
    stage = Stage()
    stage.accept()
    with capture_logs():
        stage.say(begin[: len(WELCOME)])
        stage.say(begin[len(WELCOME) :]) if len(begin) > len(WELCOME) else None
    assert isinstance(stage.news.subscribed.error, kind)
    assert stage.loop.machines == 0


@pytest.mark.parametrize(
    "bad", [m(b"A", b"\0\0\0\1x\0y"), m(b"A", b"\0\0\0\1\xff\0y\0"), m(b"D", b"\0\0"), READY, error("1")]
)
def test_what_breaks_the_protocol_is_a_gap(bad: bytes) -> None:
    stage = Stage()
    stage.accept()
    stage.say(WELCOME)
    stage.say(DONE)
    with capture_logs():
        stage.say(bad)
    assert stage.news.gaps == 1


def test_the_end_before_the_start() -> None:
    stage = Stage()
    stage.accept()
    with capture_logs():
        stage.kernel.sockets[-1].end()
        stage.run()
    assert isinstance(stage.news.subscribed.error, BadMessage)
    stage = Stage(ping=3.0)
    stage.accept()
    with capture_logs() as logs:
        stage.advance(4.0)
        stage.news.cancel()
        stage.run()
    assert "silent" in logs[0]["error"]
    assert stage.loop.machines == 0
