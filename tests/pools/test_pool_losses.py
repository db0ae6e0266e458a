"""Connections that die, backends that are down: what becomes of the units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import pools
from actors import Backoff, Loop, Misuse
from pools import BackendDown, ConnectionLost, RetryBudget, Unit, Work
from pools.testing import Ask, Bench, LineWire, Refused

# -- losses ----------------------------------------------------------------------------------------------


def test_a_sent_unit_is_lost_with_its_connection() -> None:
    bench = Bench()
    reply = bench.submit("a")
    bench.accept()
    bench.sent()
    bench.reset()
    with pytest.raises(ConnectionLost, match="may have been executed"):
        reply.result()
    assert bench.pool.statistics().lost == 1


def test_an_idempotent_unit_is_sent_again() -> None:
    bench = Bench()
    bench.submit("other")
    bench.accept()
    bench.answer("ok")
    reply = bench.submit(Ask("a", idempotent=True))
    assert bench.sent() == ["other", "a"]
    bench.end()
    bench.accept()
    assert bench.sent() == ["a"]
    bench.answer("2")
    assert reply.result() == b"2"
    assert bench.pool.statistics().retried == 1


def test_the_number_of_attempts_is_limited() -> None:
    bench = Bench(attempts=2)
    reply = bench.submit(Ask("a", idempotent=True))
    for _ in range(2):
        assert not reply.settled
        bench.accept()
        bench.advance(2)
        bench.end()
    assert isinstance(reply.error, ConnectionLost)
    assert len(bench.sockets) == 2


def test_the_retry_budget_limits_all_together() -> None:
    bench = Bench(connections=1, pipeline=50, budget=RetryBudget(0.2, 0))
    replies = [bench.submit(Ask(f"{n}", idempotent=True)) for n in range(50)]
    bench.accept()
    bench.answer("ok")
    bench.reset()
    assert sum(not reply.settled for reply in replies) == 10  # a fifth of 50
    assert bench.pool.statistics().failed == {"ConnectionLost": 39}
    assert bench.add_up()


def test_what_had_not_left_is_taken_back_even_if_not_idempotent() -> None:
    bench = Bench(connections=1, pipeline=4)
    bench.submit("warm up")
    bench.accept()
    bench.answer("ok")
    bench.sent()
    bench.sockets[0].room = 3
    sent = bench.submit("first")
    kept = bench.submit("second")
    bench.run()
    bench.end()
    assert isinstance(sent.error, ConnectionLost)  # a part of it had left
    assert not kept.settled
    bench.accept()
    assert bench.sent() == ["second"]
    assert bench.pool.statistics().taken_back == 1
    assert bench.pool.statistics().retried == 0


def test_an_announced_close_takes_back_what_was_behind() -> None:
    bench = Bench(connections=1, pipeline=4)
    replies = [bench.submit(f"{n}") for n in range(3)]
    bench.accept()
    bench.answer("bye", "ignored")
    assert replies[0].result() == b"bye"
    bench.accept()
    assert bench.sent() == ["1", "2"]
    bench.answer("one", "two")
    assert [reply.result() for reply in replies[1:]] == [b"one", b"two"]


def test_without_that_promise_what_was_behind_may_have_been_executed() -> None:
    class Careful(LineWire):
        __slots__ = ()
        spares_behind = False

    bench = Bench(Careful, connections=1, pipeline=4)
    replies = [bench.submit("0"), bench.submit("1"), bench.submit(Ask("2", idempotent=True))]
    bench.accept()
    bench.answer("bye")
    assert replies[0].result() == b"bye"
    assert isinstance(replies[1].error, ConnectionLost)
    assert not replies[2].settled


def test_a_backends_error_settles_its_unit_alone() -> None:
    bench = Bench(connections=1, pipeline=3)
    replies = [bench.submit(f"{n}") for n in range(3)]
    bench.accept()
    bench.answer("0", "error 1", "2")
    assert [replies[0].result(), replies[2].result()] == [b"0", b"2"]
    with pytest.raises(Refused, match="error 1"):
        replies[1].result()
    assert bench.pool.statistics().failed == {"Refused": 1}
    assert not bench.sockets[0].closed


def test_a_broken_protocol_closes_that_one_connection() -> None:
    bench = Bench(connections=1, pipeline=3)
    head = bench.submit(Ask("head", idempotent=True))
    behind = bench.submit(Ask("behind", idempotent=True))
    bench.submit("lost")
    bench.accept()
    bench.answer("ok?garbage", "garbage")
    assert head.result() == b"ok?garbage"
    assert isinstance(behind.error, Refused)  # the one whose answer it was
    assert bench.sockets[0].closed
    assert bench.pool.statistics().failed == {"Refused": 1, "ConnectionLost": 1}


def test_an_answer_that_nothing_asked_for_closes_the_connection() -> None:
    bench = Bench(connections=1)
    reply = bench.submit("a")
    bench.accept()
    bench.answer("mine", "whose?")
    assert reply.result() == b"mine"
    assert bench.sockets[0].closed
    assert bench.pool.statistics().connections == 0


def test_an_unasked_line_on_an_idle_connection_closes_it() -> None:
    bench = Bench(connections=1)
    bench.submit("a")
    bench.accept()
    bench.answer("ok")
    bench.answer("408 you are slow")
    assert bench.sockets[0].closed


def test_a_wire_that_crashes_loses_only_its_connection(capsys: pytest.CaptureFixture[str]) -> None:
    class Crashing(LineWire):
        __slots__ = ()

        def received(self) -> None:
            raise RuntimeError("a bug")

    bench = Bench(Crashing, connections=1)
    reply = bench.submit("a")
    bench.accept()
    bench.answer("ok")
    assert isinstance(reply.error, ConnectionLost)
    assert isinstance(reply.error.__cause__, RuntimeError)
    assert bench.add_up()


def test_a_unit_that_cannot_be_encoded_fails_alone() -> None:
    class Picky(LineWire):
        __slots__ = ()

        def send(self, work: object) -> None:
            if work.unit.line == b"bad":  # type: ignore[attr-defined]
                raise ValueError("cannot be encoded")
            super().send(work)  # type: ignore[arg-type]

    bench = Bench(Picky, connections=1, pipeline=4)
    replies = [bench.submit(name) for name in ("a", "bad", "b")]
    bench.accept()
    assert bench.sent() == ["a", "b"]
    bench.answer("1", "2")
    assert [replies[0].result(), replies[2].result()] == [b"1", b"2"]
    assert isinstance(replies[1].error, ValueError)
    assert bench.add_up()


def test_a_unit_that_fails_half_written_ends_its_connection() -> None:
    class Sloppy(LineWire):
        __slots__ = ()

        def send(self, work: object) -> None:
            super().send(work)  # type: ignore[arg-type]
            raise ValueError("too late")

    bench = Bench(Sloppy, connections=1)
    reply = bench.submit("a")
    bench.accept()
    assert isinstance(reply.error, ValueError)
    assert bench.pool.statistics().connections == 0
    assert bench.add_up()


# -- backends that are down ------------------------------------------------------------------------------


def test_a_dead_backend_fails_what_waits_at_once() -> None:
    bench = Bench(connections=4)
    replies = [bench.submit(f"{n}") for n in range(3)]
    bench.refuse()
    for reply in replies:
        with pytest.raises(BackendDown, match="was not sent") as caught:
            reply.result()
        assert isinstance(caught.value.__cause__, OSError)


def test_during_the_backoff_units_fail_at_once_and_afterwards_it_is_tried_again() -> None:
    bench = Bench(backoff=Backoff(1.0, 1.0))
    bench.submit("a")
    bench.refuse()
    assert isinstance(bench.submit("b").error, BackendDown)
    assert len(bench.sockets) == 1
    bench.advance(1.01)
    reply = bench.submit("c")
    bench.accept()
    bench.answer("back")
    assert reply.result() == b"back"
    assert bench.pool.statistics().connects_failed == 1


def test_a_refused_connect_never_leads_to_a_hot_loop() -> None:
    bench = Bench()
    for _ in range(50):
        bench.submit("again")
        bench.refuse()
    assert len(bench.sockets) == 1  # the clock stood still
    warm = Bench(warm=2, backoff=Backoff(0, 0))
    warm.kernel.unreachable[warm.pool.backends[0].address] = OSError("no route")
    for _ in range(50):
        warm.run()
    assert warm.pool.statistics().connects_failed == 1
    assert warm.loop.next_deadline > warm.loop.time()


def test_ten_connects_refused_together_are_one_failure() -> None:
    bench = Bench(connections=10, backoff=Backoff(1.0, 32.0))
    for n in range(10):
        bench.submit(f"{n}")
    bench.run()
    bench.kernel.clock.advance(0.1)
    bench.refuse()
    assert bench.pool.statistics().connects_failed == 10
    assert bench.pool.statistics().backends[0].failures == 1
    bench.advance(1.0)
    bench.submit("again")
    bench.run()
    assert len(bench.sockets) == 11


def test_a_failed_handshake_is_a_failed_connect() -> None:
    bench = Bench(lambda: LineWire(b"welcome"))
    reply = bench.submit("a")
    bench.accept()
    bench.answer("go away")
    with pytest.raises(BackendDown, match="go away"):
        reply.result()


def test_a_handshake_has_its_time() -> None:
    bench = Bench(lambda: LineWire(b"welcome"), connect_timeout=2)
    reply = bench.submit("a", timeout=10)
    bench.accept()
    bench.advance(2.01)
    with pytest.raises(BackendDown, match="handshake"):
        reply.result()


def test_a_handshake_comes_before_the_units() -> None:
    bench = Bench(lambda: LineWire(b"welcome"))
    reply = bench.submit("a")
    bench.accept()
    assert bench.sent() == []
    bench.answer("welcome")
    assert bench.sent() == ["a"]
    bench.answer("ok")
    assert reply.result() == b"ok"


def test_a_server_that_accepts_and_closes_is_not_down() -> None:
    bench = Bench()
    reply = bench.submit(Ask("a", idempotent=True))
    for _ in range(3):
        assert not reply.settled
        bench.accept()
        bench.sent()
        bench.end()
    with pytest.raises(ConnectionLost):  # not BackendDown: it had been sent
        reply.result()
    after = bench.submit("b")
    bench.accept()
    assert bench.sent() == ["b"]
    bench.answer("B")
    assert after.result() == b"B"


def test_a_loop_without_a_slot_is_a_failed_connect() -> None:
    bench = Bench()
    full = Loop(kernel=bench.kernel, slots=1)
    pool = full.spawn(pools.pool(LineWire, ["192.0.2.7:7000"]))
    reply = pool.submit(Ask("a"))
    for _ in range(3):
        full.tick(0)
    assert isinstance(reply.error, BackendDown)


# -- several backends ------------------------------------------------------------------------------------

TWO = ("192.0.2.1:7000", "192.0.2.2:7000")


def test_the_backend_with_the_least_in_flight_is_chosen() -> None:
    bench = Bench(backends=TWO, connections=2)
    for n in range(4):
        bench.submit(f"{n}")
    bench.accept()
    assert [backend.in_flight for backend in bench.pool.backends] == [2, 2]


def test_equal_backends_take_turns() -> None:
    bench = Bench(backends=TWO, connections=1)
    used = []
    for n in range(10):
        reply = bench.submit(f"{n}")
        bench.accept()
        busy = next(i for i, backend in enumerate(bench.pool.backends) if backend.in_flight)
        used.append(busy)
        for index, sock in enumerate(bench.sockets):
            if sock.address == bench.pool.backends[busy].address:
                bench.answer("ok", index=index)
        assert reply.result() == b"ok"
    assert used[-6:] in ([0, 1] * 3, [1, 0] * 3)  # when both are connected


def test_a_backend_that_is_down_is_left_out() -> None:
    bench = Bench(backends=TWO, connections=2)
    replies = [bench.submit(f"{n}") for n in range(2)]
    bench.run()
    down = next(sock for sock in bench.sockets if sock.address == bench.pool.backends[0].address)
    down.refuse()
    bench.accept()
    for index, sock in enumerate(bench.sockets):
        if not sock.closed:
            bench.answer("ok", index=index)
    bench.run()
    for index, sock in enumerate(bench.sockets):
        if not sock.closed and sock.delivered().count(b"\n") > 1:
            bench.answer("ok", index=index)
    assert [reply.result() for reply in replies] == [b"ok", b"ok"]
    assert bench.pool.statistics().backends[0].failures == 1


def test_all_down_fails_and_the_first_to_be_tried_again_is() -> None:
    bench = Bench(backends=TWO)
    reply = bench.submit("a")
    bench.refuse()
    bench.refuse()
    assert isinstance(reply.error, BackendDown)
    assert len(bench.sockets) == 2
    bench.advance(1.01)
    reply = bench.submit("b")
    bench.accept()
    bench.answer("ok")
    assert reply.result() == b"ok"


class Fed(Ask):
    """A unit that is fed by somebody, who is to be told when nobody will read."""

    __slots__ = ("drops",)

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.drops = 0

    def dropped(self) -> None:
        self.drops += 1


def _cancelled(bench: Bench, fed: Fed) -> None:
    bench.submit(fed).cancel()


def _late(bench: Bench, fed: Fed) -> None:
    bench.submit(fed, timeout=1.0)
    bench.run()
    bench.advance(1.5)


def _refused(bench: Bench, fed: Fed) -> None:
    bench.submit("first", timeout=9.0)
    bench.submit(fed)


def _backend_down(bench: Bench, fed: Fed) -> None:
    bench.submit(fed)
    bench.run()
    bench.refuse()


def _stopped(bench: Bench, fed: Fed) -> None:
    bench.submit(fed)
    bench.loop.kill(bench.pool.token)
    bench.run()


@pytest.mark.parametrize("end", [_cancelled, _late, _refused, _backend_down, _stopped])
def test_whoever_feeds_a_unit_that_was_never_sent_is_told(end: Callable[[Bench, Fed], None]) -> None:
    bench = Bench(connections=1, queue=1)
    fed = Fed("a")
    end(bench, fed)
    bench.run()
    assert fed.drops == 1


def test_what_was_sent_is_the_wires_business() -> None:
    bench = Bench(connections=1)
    fed = Fed("a")
    reply = bench.submit(fed)
    bench.accept()
    assert bench.sent() == ["a"]
    reply.cancel()
    bench.answer("to nobody")
    assert fed.drops == 0


def test_a_unit_of_another_kind_is_refused_by_name() -> None:
    class Foreign(Unit[bytes]):
        def __repr__(self) -> str:
            return "<Foreign>"

    class Plain(LineWire):
        takes = Ask

        def send(self, work: Work[Any]) -> None:
            self.transport.write(work.unit.line)

    bench = Bench(wire=Plain, connections=1)
    reply = bench.submit(Foreign())
    bench.accept()
    with pytest.raises(Misuse, match=r"<Foreign> is a Foreign, and the pool of .*takes Ask"):
        reply.result()
    assert bench.add_up()


def test_of_two_the_second_of_which_has_left_in_part_neither_is_sent_again() -> None:
    bench = Bench(connections=1, pipeline=2)
    bench.accept()
    first = bench.submit("warm")
    bench.accept()
    bench.answer("ok")
    assert first.result() == b"ok"
    bench.sent()
    replies = [bench.submit("abc"), bench.submit("a longer line")]
    bench.sockets[0].room = 6
    assert bench.sent() == ["abc", "a "]
    bench.reset()
    bench.advance(1.0)
    bench.accept()
    assert all(isinstance(reply.error, ConnectionLost) for reply in replies)
    assert bench.pool.statistics().taken_back == 0


@pytest.mark.parametrize("how", ["settle", "fail", "finish"])
def test_a_wire_may_answer_outside_of_its_handlers(how: str) -> None:
    bench = Bench(connections=1)
    replies = [bench.submit("a"), bench.submit("b")]
    bench.accept()
    assert bench.sent() == ["a"]
    (connection,) = bench.pool.backends[0].all
    if how == "settle":
        connection.settle(b"A")
    elif how == "fail":
        connection.fail(Refused("A"))
    else:
        connection.answer(b"A")
        connection.finish()
    assert bench.sent() == ["b"]
    bench.answer("B")
    assert replies[1].result() == b"B"


def test_a_wire_is_told_whose_answer_comes_next() -> None:
    told: list[Any] = []

    class Noting(LineWire):
        __slots__ = ()

        def _line(self, line: bytes) -> bool:
            told.append(self.connection.settle(line))
            return True

    bench = Bench(Noting, connections=1, pipeline=3)
    replies = [bench.submit(line) for line in ("a", "b")]
    bench.accept()
    bench.answer("A", "B")
    assert told == [replies[1], None]
