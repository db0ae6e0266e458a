"""A kept connection, with a small protocol of lines on sockets that the test plays."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from actors import Backoff, Loop, Reply, Scope, TcpAddress, Transport
from actors.testing import ManualKernel
from pools import BackendError, Endpoint, PoolClosed
from pools.persistent import Ask, Link, Persistent, PersistentOptions

SOON = Backoff(1.0, 8.0)
HERE = Endpoint(TcpAddress("192.0.2.1", 7))
THERE = Endpoint(TcpAddress("192.0.2.2", 7))


class Follow(PersistentOptions["Feed"], frozen=True, kw_only=True):
    endpoints: tuple[Endpoint, ...] = (HERE,)
    topics: tuple[str, ...] = ("a",)

    def make(self, scope: Scope) -> Feed:
        return Feed(scope, self)


class Feed(Persistent[str, Ask]):
    __slots__ = ("topics",)

    options: Follow
    again = "following again"

    def __init__(self, scope: Scope, options: Follow) -> None:
        super().__init__(scope, options, options.endpoints)
        self.topics = list(options.topics)

    def follow(self, topic: str) -> Reply[None]:
        reply: Reply[None] = Reply()
        self.ask(Ask(f"+{topic}\n".encode() if topic else b"", [reply]))
        return reply

    def link(self, transport: Transport) -> Lines:
        return Lines(self, transport)

    def replay(self, pending: list[Ask]) -> list[Ask]:
        everything = "+" + " ".join(self.topics) + "\n" if self.topics else ""
        return [Ask(everything.encode(), []), *pending]


class Lines(Link[Ask]):
    """`hello` is answered with `ready`; `+a b` with `yes` or `no`; the rest are messages."""

    owner: Feed
    question = "a question"
    farewell = b"bye\n"

    def hello(self) -> None:
        self.write(b"hello\n")

    def line(self) -> bytes | None:
        whole = bytes(self.transport.input).partition(b"\n")
        if not whole[1]:
            return None
        self.transport.consume(len(whole[0]) + 1)
        return whole[0]

    def greet(self) -> bool:
        line = self.line()
        if line not in (None, b"ready"):
            raise BackendError(f"no such server: {line!r}")
        return line is not None

    def read(self) -> None:
        while self.owner.reading and (line := self.line()) is not None:
            if line == b"yes":
                self.confirmed()
            elif line == b"no":
                self.refused(BackendError("refused"))
            elif line == b"broken":
                raise BackendError("broken")
            elif line != b"pong":
                self.owner.messages.put(line.decode())

    def ping(self) -> None:
        self.write(b"ping\n")

    def closed_early(self) -> BackendError:
        return BackendError("closed early")


class Stage:
    """A feed whose server the test plays."""

    def __init__(self, **options: Any) -> None:
        self.kernel = ManualKernel()
        self.loop = Loop(kernel=self.kernel)
        self.feed = self.loop.spawn(Follow(**{"backoff": SOON, **options}))
        self.run()

    def run(self, ticks: int = 4) -> None:
        for _ in range(ticks):
            self.loop.tick(0)

    def accept(self) -> bytes:
        self.kernel.sockets[-1].accept_connection()
        self.run()
        return self.sent()

    def say(self, data: bytes) -> bytes:
        self.kernel.sockets[-1].arrive(data)
        self.run()
        return self.sent()

    def end(self) -> None:
        self.kernel.sockets[-1].end()
        self.run()

    def sent(self) -> bytes:
        return self.kernel.sockets[-1].delivered()

    def advance(self, seconds: float) -> bytes:
        self.kernel.clock.advance(seconds)
        self.run()
        return self.sent()

    def serve(self) -> None:
        self.accept()
        self.say(b"ready\n")
        self.say(b"yes\n")


def got(feed: Feed) -> list[str]:
    return [feed.messages.take() for _ in range(len(feed.messages))]


def test_it_greets_then_asks_for_everything() -> None:
    stage = Stage(topics=("a", "b"))
    assert stage.accept() == b"hello\n"
    assert stage.say(b"rea") == b""
    assert stage.say(b"dy\n") == b"+a b\n"
    assert not stage.feed.subscribed.settled
    assert stage.say(b"yes\none\ntwo\n") == b""
    assert stage.feed.subscribed.error is None
    assert got(stage.feed) == ["one", "two"]
    assert repr(stage.feed) == "<Feed to 192.0.2.1:7, 0 gaps, <Channel 0 items, weight 0/1024>>"


def test_nothing_to_ask_for_is_confirmed_at_once() -> None:
    stage = Stage(topics=())
    stage.accept()
    assert stage.say(b"ready\n") == b""
    assert stage.feed.subscribed.settled
    assert stage.feed.follow("").settled


def test_what_is_asked_early_waits_for_the_connection() -> None:
    stage = Stage()
    early = stage.feed.follow("b")
    stage.accept()
    assert stage.say(b"ready\n") == b"+a\n+b\n"
    stage.say(b"yes\n")
    assert not early.settled
    stage.say(b"yes\n")
    assert early.error is None


def test_what_was_not_confirmed_is_asked_again_and_the_gap_is_counted() -> None:
    stage = Stage()
    stage.serve()
    first, second = stage.feed.follow("b"), stage.feed.follow("c")
    stage.run()
    assert stage.say(b"yes\n") == b"+b\n+c\n"
    with capture_logs() as logs:
        stage.end()
        assert stage.feed.gaps == 1
        stage.advance(1.0)
        stage.accept()
        assert stage.say(b"ready\n") == b"+a\n+c\n"
        stage.say(b"yes\nyes\n")
    assert first.settled
    assert second.error is None
    assert [(entry["event"], entry["backend"]) for entry in logs] == [
        ("subscription lost", "192.0.2.1:7"),
        ("following again", "192.0.2.1:7"),
    ]
    assert stage.feed.gaps == 1


def test_failures_in_a_row_are_one_gap_and_pause_longer() -> None:
    stage = Stage(endpoints=(HERE, THERE))
    stage.serve()
    with capture_logs() as logs:
        stage.end()
        for pause in (1.0, 2.0, 4.0, 8.0, 8.0):
            sockets = len(stage.kernel.sockets)
            stage.advance(pause / 2 - 0.01)
            assert len(stage.kernel.sockets) == sockets
            stage.advance(pause / 2 + 0.01)
            assert len(stage.kernel.sockets) == sockets + 1
            stage.kernel.sockets[-1].refuse()
            stage.run()
    assert stage.feed.gaps == 1
    assert [entry["failures"] for entry in logs] == [1, 2, 4]
    assert {entry["backend"] for entry in logs} == {"192.0.2.1:7", "192.0.2.2:7"}


def test_a_wakeup_during_the_pause_does_not_move_the_attempt() -> None:
    stage = Stage()
    stage.serve()
    with capture_logs():
        stage.end()
    for _ in range(10):
        stage.advance(0.1)
        stage.feed.follow("b")
        stage.run()
    assert len(stage.kernel.sockets) == 2


def test_a_server_that_refuses_the_first_greeting_ends_it() -> None:
    for said in (b"what?\n", b"ready\n"):
        stage = Stage()
        stage.accept()
        waiting = stage.feed.follow("b")
        with capture_logs():
            stage.say(said)
            stage.say(b"no\n") if said == b"ready\n" else None
        assert isinstance(stage.feed.subscribed.error, BackendError)
        assert isinstance(waiting.error, PoolClosed)
        assert stage.loop.machines == 0
    stage = Stage()
    stage.accept()
    with capture_logs():
        stage.end()
    assert str(stage.feed.subscribed.error) == "closed early"


def test_later_refusals_are_tried_again() -> None:
    stage = Stage()
    stage.serve()
    with capture_logs():
        stage.say(b"broken\n")
        stage.advance(1.0)
        stage.accept()
        stage.say(b"what?\n")
        stage.advance(2.0)
        stage.serve()
    assert stage.feed.gaps == 1
    stage.say(b"one\n")
    assert got(stage.feed) == ["one"]


def test_a_change_that_is_refused_fails_alone() -> None:
    stage = Stage()
    stage.serve()
    refused, allowed = stage.feed.follow("b"), stage.feed.follow("c")
    stage.run()
    stage.say(b"no\nyes\n")
    assert str(refused.error) == "refused"
    assert allowed.error is None
    assert stage.feed.gaps == 0


def test_silence_is_asked_about_once() -> None:
    stage = Stage(ping=10.0)
    stage.serve()
    assert stage.advance(9.9) == b""
    assert stage.advance(0.2) == b"ping\n"
    stage.say(b"pong\n")
    assert stage.advance(10.1) == b"ping\n"
    with capture_logs() as logs:
        stage.advance(10.1)
    assert logs[0]["error"] == "the server has been silent, and has not answered a question"


def test_a_silent_greeting_is_not_asked_about() -> None:
    stage = Stage(ping=3.0)
    stage.accept()
    with capture_logs() as logs:
        assert stage.advance(3.1) == b""
    assert "has been silent" in logs[0]["error"]
    assert not stage.feed.subscribed.settled  # it is tried again


def test_a_slow_reader_stops_the_reading_and_is_not_the_servers_silence() -> None:
    stage = Stage(capacity=2, ping=1.0)
    stage.serve()
    stage.say(b"1\n2\n3\n4\n5\n")
    assert len(stage.feed.messages) == 2
    for _ in range(5):
        assert stage.advance(1.1) == b""
    assert got(stage.feed) == ["1", "2"]
    stage.run()
    assert got(stage.feed) == ["3", "4"]
    stage.run()
    assert got(stage.feed) == ["5"]
    assert stage.advance(1.1) == b"ping\n"


def test_too_much_that_waits_is_refused() -> None:
    for served in (False, True):
        stage = Stage()
        if served:
            stage.serve()
        replies = [stage.feed.follow("b") for _ in range(1025)]
        assert [reply.settled for reply in replies[-2:]] == [False, True]
        assert "await some of them" in str(replies[-1].error)


@pytest.mark.parametrize("how", ["cancel", "drain"])
def test_the_end_says_farewell_and_tells_who_waits(how: str) -> None:
    stage = Stage()
    stage.serve()
    waiting = stage.feed.follow("b")
    stage.run()
    stage.sent()
    if how == "cancel":
        stage.feed.cancel()
    else:
        stage.loop.drain(5.0)
    stage.run()
    assert stage.sent() == b"bye\n"
    assert stage.loop.machines == 0
    assert isinstance(waiting.error, PoolClosed)
    assert isinstance(stage.feed.follow("c").error, PoolClosed)


def test_the_end_before_and_during_a_connection_attempt() -> None:
    for accepted in (False, True):
        stage = Stage()
        if accepted:
            stage.accept()
        stage.feed.cancel()
        stage.run()
        assert stage.loop.machines == 0
        assert isinstance(stage.feed.subscribed.error, PoolClosed)


def test_the_end_during_a_pause() -> None:
    stage = Stage()
    stage.serve()
    with capture_logs():
        stage.end()
    stage.feed.cancel()
    stage.run()
    assert stage.loop.machines == 0


def test_one_description_can_be_spawned_twice() -> None:
    spec = Follow(topics=("a", "b"))
    assert spec == Follow(topics=("a", "b"))
    feeds = [Loop(kernel=ManualKernel()).spawn(spec) for _ in range(2)]
    assert feeds[0] is not feeds[1]
    with pytest.raises(ValueError, match="ping=0"):
        Follow(ping=0)
    with pytest.raises(TypeError, match="capacity"):
        Follow(capacity=1.5)  # type: ignore[arg-type]
