"""Connections that lead nowhere any more, servers that are not the right ones, and who is to blame when a
connection ends."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from actors import Backoff
from actors.testing import FakeSocket
from pools import BackendDown, BackendError, Cancelled, ConnectionLost, DeadlineExceeded, Unit, Work
from pools.testing import Ask, Bench, LineWire


class Pinged(LineWire):
    """Has a probe, and knows answers that are about the server."""

    __slots__ = ()

    def probe(self) -> Unit[Any] | None:
        return Ask("PING")

    def received(self) -> None:
        *lines, rest = bytes(self.transport.input).split(b"\n")
        self.transport.input = rest
        for line in lines:
            if line == b"NOT ME":
                self.connection.elsewhere(NotMe("not the primary"))
            elif line == b"NOT ME, IN PART":
                self.connection.leave()
                self.connection.fail(NotMe("not the primary"))
            else:
                self.connection.settle(line)


class NotMe(BackendError):
    """The server is not the right one."""


class Names:
    """What serves: lines are answered by what `answers` says, on the connections that are not forgotten."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.forgotten: set[FakeSocket] = set()

    def turn(self) -> None:
        for _ in range(3):
            self.bench.accept()
            for sock in self.bench.sockets:
                if sock.closed or not sock.readiness():
                    continue
                for line in sock.delivered().decode().splitlines():
                    if sock not in self.forgotten:
                        sock.arrive(f"re:{line}\n".encode())
            self.bench.run()

    def forget(self) -> None:
        """A NAT's table is cleared: what is connected now leads nowhere."""
        self.forgotten |= set(self.bench.sockets)


def filled(connections: int, wire: Callable[[], LineWire] = Pinged, **options: Any) -> tuple[Bench, Names]:
    """A pool all of whose connections are idle, and have been for a minute."""
    options = {"connections": connections, "timeout": 2.0, "idle_timeout": 9999.0, **options}
    bench = Bench(wire, **options)
    names = Names(bench)
    for number in range(connections):
        bench.submit(f"{number}")
    names.turn()
    assert bench.pool.statistics().backends[0].idle == connections
    bench.advance(60.0)
    return bench, names


# -- silence ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", [Pinged, LineWire])
@pytest.mark.parametrize("pipeline", [1, 8])
def test_ten_forgotten_connections_cost_one_deadline(wire: Callable[[], LineWire], pipeline: int) -> None:
    bench, names = filled(10, wire, pipeline=pipeline)
    names.forget()
    first = bench.submit("first")
    names.turn()
    bench.advance(2.01)
    names.turn()
    assert isinstance(first.error, DeadlineExceeded)
    for number in range(12):
        reply = bench.submit(f"then {number}")
        names.turn()
        assert reply.result() == f"re:then {number}".encode()
    bench.advance(1.01)  # the probes' time
    names.turn()
    assert all(sock.closed for sock in names.forgotten)
    assert bench.add_up()


def test_a_cancel_in_the_silence_is_a_sign_too() -> None:
    bench, names = filled(10)
    names.forget()
    first = bench.submit("first")
    names.turn()
    bench.advance(0.3)
    first.cancel()
    names.turn()
    assert bench.pool.statistics().backends[0].idle == 0
    bench.advance(1.01)
    reply = bench.submit("then")
    names.turn()
    assert reply.result() == b"re:then"


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_a_cancel_at_once_is_none(seconds: float) -> None:
    bench, names = filled(10)
    first = bench.submit("first")
    bench.run()
    bench.advance(seconds)
    first.cancel()
    assert isinstance(first.error, Cancelled)
    assert bench.pool.statistics().backends[0].idle == 9
    names.turn()
    assert bench.pool.statistics().backends[0].idle == 10


def test_suspects_that_answer_are_used_on() -> None:
    bench, names = filled(4)
    slow = bench.submit("slow")
    bench.run()
    bench.sockets[-1].delivered()  # this one is read, and never answered
    bench.advance(2.01)
    assert isinstance(slow.error, DeadlineExceeded)
    assert bench.pool.statistics().orphans == 3
    names.turn()
    now = bench.pool.statistics()
    assert (now.connections, now.backends[0].idle, now.orphans) == (3, 3, 0)
    assert now.opened == 4


def test_who_was_heard_meanwhile_is_no_suspect() -> None:
    bench, names = filled(4)
    slow = bench.submit("slow")
    bench.run()
    bench.sockets[-1].delivered()
    bench.advance(1.0)
    others = [bench.submit(f"{number}") for number in range(3)]
    names.turn()
    assert all(reply.settled for reply in others)
    bench.advance(1.01)
    assert isinstance(slow.error, DeadlineExceeded)
    assert bench.pool.statistics().orphans == 0
    assert bench.pool.statistics().backends[0].idle == 3


def test_a_slow_unit_on_a_connection_that_speaks_makes_no_suspects() -> None:
    bench, _ = filled(4, pipeline=4)
    for name in ("1", "2", "3", "4", "5"):
        bench.submit(name, timeout=9.0)
    bench.run()
    talking = next(sock for sock in bench.sockets if len(sock.delivered().splitlines()) > 1)
    late = bench.submit("late", timeout=1.0)
    bench.run()
    bench.advance(0.9)
    talking.arrive(b"one\n")
    bench.run()
    bench.advance(0.2)
    assert isinstance(late.error, DeadlineExceeded)
    assert bench.add_up()


def test_while_a_suspect_is_probed_nothing_is_sent_on_it_and_a_drain_does_not_wait() -> None:
    bench, names = filled(2, pipeline=8)
    names.forget()
    first = bench.submit("first", timeout=1.0)
    names.turn()
    bench.advance(1.01)
    assert isinstance(first.error, DeadlineExceeded)
    assert bench.pool.statistics().orphans == 1
    more = [bench.submit(f"{number}") for number in range(8)]
    names.turn()
    assert all(reply.settled for reply in more)
    assert b"0" not in bench.sockets[0].delivered()
    bench.pool.drain()
    bench.run()
    assert not bench.loop.alive(bench.pool.token)


@pytest.mark.parametrize("how", ["raises", "cannot be sent"])
def test_a_probe_that_is_none_closes_the_suspect(how: str) -> None:
    class Broken(LineWire):
        __slots__ = ()

        def probe(self) -> Unit[Any] | None:
            if how == "raises":
                raise RuntimeError("a bug")
            return Unit()

    bench, names = filled(3, Broken)
    names.forget()
    first = bench.submit("first")
    names.turn()
    bench.advance(2.01)
    assert first.settled
    assert bench.pool.statistics().connections == 0
    then = bench.submit("then")
    names.turn()
    assert then.result() == b"re:then"


# -- the other end's system ------------------------------------------------------------------------------


def options_of(bench: Bench) -> dict[int, Any]:
    set_options: dict[int, Any] = {}
    real = FakeSocket.setsockopt

    def note(self: FakeSocket, level: int, option: int, value: int) -> None:
        set_options[option] = value
        real(self, level, option, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeSocket, "setsockopt", note)
        bench.submit("a")
        bench.accept()
    return set_options


def test_the_system_gives_up_on_a_silent_end() -> None:
    told = options_of(Bench())
    assert told[socket.SO_KEEPALIVE] == 1
    assert told[socket.TCP_KEEPIDLE] == 30
    assert told[socket.TCP_KEEPINTVL] == 10
    assert told[socket.TCP_USER_TIMEOUT] == 60_000
    assert options_of(Bench(lost_after=8.0))[socket.TCP_USER_TIMEOUT] == 8_000
    assert options_of(Bench(lost_after=0)) == {}
    assert options_of(Bench(backends=("unix:/run/x",))) == {}
    with pytest.raises(ValueError, match="lost_after=-1"):
        Bench(lost_after=-1)


# -- not me ----------------------------------------------------------------------------------------------


def test_a_server_that_is_not_the_primary_any_more_is_left() -> None:
    bench, _ = filled(4)
    reply = bench.submit("write")
    assert bench.sent() == ["write"]
    bench.answer("NOT ME")
    now = bench.pool.statistics()
    assert (now.queued, now.closed) == (1, 4)
    bench.accept()
    assert bench.sent() == ["write"]
    bench.answer("written")
    assert reply.result() == b"written"
    assert bench.add_up()


def test_where_the_new_connection_leads_to_the_same_server_the_unit_is_told() -> None:
    bench, _ = filled(1)
    reply = bench.submit("write")
    bench.sent()
    bench.answer("NOT ME")
    bench.accept()
    bench.sent()
    bench.answer("NOT ME")
    assert isinstance(reply.error, NotMe)
    again = bench.submit("again")
    bench.run()
    assert len(bench.sockets) == 2  # as good as new: it is kept
    assert bench.sent() == ["again"]
    bench.answer("NOT ME")
    assert isinstance(again.error, NotMe)
    bench.advance(1.0)
    last = bench.submit("last")
    bench.sent()
    bench.answer("NOT ME")
    bench.accept()
    assert len(bench.sockets) == 3
    assert bench.sent() == ["last"]
    bench.answer("ok")
    assert last.result() == b"ok"


def test_those_behind_it_are_sent_elsewhere_too_and_in_order() -> None:
    bench, _ = filled(1, pipeline=4)
    replies = [bench.submit(f"{number}") for number in range(4)]
    bench.sent()
    bench.answer("zero", "NOT ME", "NOT ME", "three")
    bench.accept()
    assert bench.sent() == ["1", "2"]
    bench.answer("one", "two")
    assert [reply.result() for reply in replies] == [b"zero", b"one", b"two", b"three"]


def test_what_was_executed_in_part_is_not_sent_again() -> None:
    bench, _ = filled(2)
    reply = bench.submit("several")
    bench.sent()
    bench.answer("NOT ME, IN PART")
    assert isinstance(reply.error, NotMe)
    assert bench.pool.statistics().connections == 0


def test_a_unit_whose_asker_has_gone_is_not_sent_again() -> None:
    bench, _ = filled(1)
    reply = bench.submit("write")
    bench.sent()
    reply.cancel()
    bench.answer("NOT ME")
    now = bench.pool.statistics()
    assert (now.queued, now.orphans, now.connections) == (0, 0, 0)


# -- blame -----------------------------------------------------------------------------------------------


class Fed(LineWire):
    """A unit `client ...` is broken off by its client; `poison ...` makes the server's process crash."""

    __slots__ = ()

    def send(self, work: Work[Any]) -> None:
        super().send(work)
        if work.unit.line.startswith(b"client"):
            self.connection.wake()

    def wakeup(self) -> None:
        if self.connection.current is not None and self.connection.current.unit.line.startswith(b"client"):
            self.connection.break_off(ConnectionLost("the client has gone"))


TWO = ("192.0.2.1:7000", "192.0.2.2:7000")


def serve(bench: Bench, text: str) -> None:
    reply = bench.submit(text, timeout=1.0)
    Names(bench).turn()
    assert reply.result() == f"re:{text}".encode()


@pytest.mark.parametrize("backends", [TWO[:1], TWO])
def test_clients_that_break_off_make_no_backend_unreachable(backends: tuple[str, ...]) -> None:
    bench = Bench(Fed, backends, connections=4)
    for number in range(50):
        reply = bench.submit(f"client {number}")
        bench.accept()
        assert isinstance(reply.error, ConnectionLost)
    now = bench.pool.statistics()
    assert now.connects_failed == 0
    assert [backend.failures for backend in now.backends] == [0] * len(backends)
    serve(bench, "another")
    assert bench.add_up()


def test_what_stood_before_the_one_that_was_broken_off_is_not_told_its_error() -> None:
    bench = Bench(Fed, connections=1, pipeline=4)
    before = bench.submit(Ask("before", idempotent=True))
    broken = bench.submit("client")
    bench.accept()
    bench.sent()
    bench.pool.backends[0].all  # noqa: B018
    connection = next(iter(bench.pool.backends[0].all))
    connection.break_off(ConnectionLost("the client has gone"))
    bench.run()
    assert str(broken.error) == "the client has gone"
    bench.accept()
    assert bench.sent() == ["before"]
    bench.answer("BEFORE")
    assert before.result() == b"BEFORE"


@pytest.mark.parametrize("backends", [TWO[:1], TWO])
def test_poison_makes_no_backend_unreachable(backends: tuple[str, ...]) -> None:
    bench = Bench(Fed, backends, connections=4)
    for number in range(30):
        poison = bench.submit(f"poison {number}")
        bench.accept()
        for sock in bench.sockets:
            if not sock.closed and b"poison" in sock.delivered():
                sock.reset()
        bench.run()
        assert isinstance(poison.error, ConnectionLost)
        if number % 10 == 9:
            serve(bench, f"another {number}")
    assert bench.pool.statistics().connects_failed == 0


def test_of_two_the_one_that_never_answers_is_avoided() -> None:
    bench = Bench(backends=TWO, connections=4, backoff=Backoff(5.0, 5.0))
    lost = 0
    for number in range(40):
        reply = bench.submit(f"{number}")
        for _ in range(3):
            bench.accept()
            for sock in bench.sockets:
                if not sock.closed and sock.readiness() and (line := sock.delivered()):
                    if str(sock.address) == TWO[0]:
                        sock.end()
                    else:
                        sock.arrive(line)
            bench.run()
        lost += isinstance(reply.error, ConnectionLost)
    assert lost == 5
    bench.advance(5.01)
    for _ in range(4):
        serve(bench, "recovered")
    assert bench.pool.backends[0].doubts == 0


def test_a_server_that_accepts_and_closes_never_leads_to_a_hot_loop() -> None:
    bench = Bench(warm=2, connections=2)
    for _ in range(100):
        bench.accept()
        for sock in bench.sockets:
            if not sock.closed:
                sock.end()
        bench.run()
    assert len(bench.sockets) <= 6  # the clock stood still
    bench.advance(1.0)
    bench.accept()
    serve(bench, "at last")
    assert bench.pool.statistics().connects_failed == 0


def test_one_that_is_refused_is_unreachable_however_many_answered_before() -> None:
    bench = Bench(connections=1)
    serve(bench, "before")
    bench.end()
    reply = bench.submit("after")
    bench.refuse()
    assert isinstance(reply.error, BackendDown)
    assert bench.pool.statistics().connects_failed == 1
