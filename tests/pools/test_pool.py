"""The pool on a kernel without sockets: queueing, growing, deadlines, losses, retries, drains."""

from __future__ import annotations

from typing import Any

import pytest

import actors
from actors import Backoff, Loop, Misuse, Stop, StreamProtocol, Transport, deadline, parse_address
from pools import (
    Backend,
    BackendDown,
    Cancelled,
    ConnectionLost,
    DeadlineExceeded,
    Member,
    Pool,
    PoolClosed,
    QueueFull,
    RetryBudget,
    Wire,
    Work,
)
from pools.testing import Ask, Bench, LineWire, Refused


def test_a_unit_is_sent_and_its_answer_settles_the_reply() -> None:
    bench = Bench()
    reply = bench.submit("hello")
    bench.accept()
    assert bench.sent() == ["hello"]
    assert not reply.settled
    bench.answer("world")
    assert reply.result() == b"world"
    assert bench.pool.statistics().backends[0].idle == 1


def test_units_of_one_tick_leave_in_one_write() -> None:
    bench = Bench(connections=1, pipeline=8)
    replies = [bench.submit(f"{n}") for n in range(8)]
    bench.accept()
    sock = bench.sockets[0]
    assert sock.delivered() == b"0\n1\n2\n3\n4\n5\n6\n7\n"
    bench.answer("a", "b", "c", "d", "e", "f", "g", "h")
    assert [reply.result() for reply in replies] == [bytes([c]) for c in b"abcdefgh"]


def test_it_grows_by_one_connection_per_waiting_unit_up_to_the_limit() -> None:
    bench = Bench(connections=3)
    bench.submit("1")
    bench.run()
    assert len(bench.sockets) == 1
    bench.submit("2")
    bench.run()
    assert len(bench.sockets) == 2
    for n in range(10):
        bench.submit(f"{n}")
    bench.run()
    assert len(bench.sockets) == 3
    bench.accept()
    assert bench.pool.statistics().queued == 9
    assert bench.add_up()


def test_the_connection_that_fell_idle_last_is_used_first() -> None:
    bench = Bench(connections=2)
    for name in "ab":
        bench.submit(name)
    bench.accept()
    bench.answer("1", index=1)
    bench.answer("0", index=0)
    bench.sent(0), bench.sent(1)
    for expected in ("0", "0", "0"):
        bench.submit("next")
        assert bench.sent(int(expected)) == ["next"]
        bench.answer("done", index=0)


def test_one_connection_per_unit_unless_pipelining_is_asked_for() -> None:
    bench = Bench(connections=1)
    bench.submit("a")
    bench.submit("b")
    bench.accept()
    assert bench.sent() == ["a"]
    bench.answer("1")
    assert bench.sent() == ["b"]


def test_lower_priorities_wait() -> None:
    bench = Bench(connections=1)
    bench.submit("first")
    bench.accept()
    bench.submit("late", priority=3)
    bench.submit("soon", priority=1)
    bench.submit("now")
    order = []
    for _ in range(4):
        order += bench.sent()
        bench.answer("ok")
    assert order == ["first", "now", "soon", "late"]
    with pytest.raises(ValueError, match="priority=4"):
        bench.submit("x", priority=4)


def test_an_exclusive_unit_gets_a_member_to_itself_and_is_not_starved() -> None:
    bench = Bench(connections=1, pipeline=4)
    bench.submit("a")
    bench.accept()
    bench.submit("b")
    exclusive = bench.submit(Ask("alone", pipelinable=False))
    bench.submit("c")
    assert bench.sent() == ["a", "b"]
    bench.answer("1")
    assert bench.sent() == []
    bench.answer("2")
    assert bench.sent() == ["alone"]
    bench.answer("3")
    assert exclusive.result() == b"3"
    assert bench.sent() == ["c"]


def test_a_full_queue_refuses_at_once() -> None:
    bench = Bench(queue=2)
    waiting = [bench.submit(f"{n}") for n in range(2)]
    refused = bench.submit("too many")
    with pytest.raises(QueueFull, match="2 units wait"):
        refused.result()
    assert not any(reply.settled for reply in waiting)
    assert bench.pool.statistics().failed == {"QueueFull": 1}


def test_the_queue_is_bounded_in_bytes_too() -> None:
    bench = Bench(queue_bytes=100)
    bench.submit(Ask("big", size=100))
    assert isinstance(bench.submit("small").error, QueueFull)


def test_cancelling_a_queued_unit_makes_room() -> None:
    bench = Bench(queue=1)
    reply = bench.submit("a")
    assert reply.cancel()
    assert not reply.cancel()
    assert isinstance(reply.error, Cancelled)
    assert isinstance(reply.error, actors.Cancelled)
    other = bench.submit("b")
    bench.accept()
    assert bench.sent() == ["b"]
    bench.answer("ok")
    assert other.result() == b"ok"
    assert bench.pool.statistics().failed == {"Cancelled": 1}


# -- deadlines -------------------------------------------------------------------------------------------


def stage_of(reply: actors.Reply[bytes]) -> str:
    error = reply.error
    assert isinstance(error, DeadlineExceeded)
    assert isinstance(error, TimeoutError)
    return error.stage


def test_a_deadline_counts_connecting() -> None:
    bench = Bench(connect_timeout=60)
    reply = bench.submit("a", timeout=1.0)
    bench.run()
    bench.advance(0.9)
    assert not reply.settled
    bench.advance(0.11)
    assert stage_of(reply) == "connecting"


def test_a_deadline_counts_the_queue() -> None:
    bench = Bench(connections=1)
    bench.submit("slow", timeout=10)
    bench.accept()
    reply = bench.submit("waits", timeout=1)
    bench.advance(1.01)
    assert stage_of(reply) == "queued"
    assert bench.sent() == ["slow"]


def test_a_deadline_in_flight_drains_the_member() -> None:
    bench = Bench(connections=1, pipeline=3)
    slow = bench.submit("slow", timeout=1)
    neighbour = bench.submit("neighbour", timeout=3)
    bench.accept()
    bench.advance(1.01)
    assert stage_of(slow) == "sent"
    bench.submit("next", timeout=10)
    bench.run()
    assert bench.sent() == ["slow", "neighbour"]  # nothing new goes to it
    bench.answer("late", "2")
    assert neighbour.result() == b"2"  # and never "late"
    assert bench.sockets[0].closed
    bench.accept()
    assert bench.sent() == ["next"]
    assert bench.add_up()


def test_a_member_with_only_orphans_is_closed() -> None:
    bench = Bench(connections=1)
    reply = bench.submit("a", timeout=1)
    bench.accept()
    bench.advance(1.01)
    assert stage_of(reply) == "sent"
    assert bench.sockets[0].closed
    assert bench.pool.statistics().connections == 0


def test_the_surrounding_deadline_is_inherited() -> None:
    bench = Bench()
    with deadline(0.5):
        reply = bench.submit("a", timeout=10)
    bench.accept()
    bench.advance(0.51)
    assert stage_of(reply) == "sent"


def test_the_default_deadline_is_the_pools() -> None:
    bench = Bench(timeout=2.0)
    reply = bench.submit("a")
    bench.accept()
    bench.advance(1.9)
    assert not reply.settled
    bench.advance(0.2)
    assert reply.settled


def test_a_deadline_that_has_passed_already() -> None:
    bench = Bench(connections=1)
    bench.submit("warm up")
    bench.accept()
    bench.answer("ok")
    bench.sent()
    reply = bench.submit("too late", timeout=-1)
    assert bench.sent() == []
    assert stage_of(reply) == "queued"


def test_many_deadlines_in_any_order() -> None:
    bench = Bench(connections=1)
    bench.submit("slow", timeout=100)
    bench.accept()
    replies = {seconds: bench.submit(f"{seconds}", timeout=seconds) for seconds in (5, 1, 4, 2, 3)}
    for second in range(1, 6):
        bench.advance(1.0001)
        assert [seconds for seconds in sorted(replies) if replies[seconds].settled] == list(
            range(1, second + 1)
        )


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


def test_a_broken_protocol_closes_that_one_member() -> None:
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


def test_an_answer_that_nothing_asked_for_closes_the_member() -> None:
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


def test_a_server_that_accepts_and_closes_is_down_too() -> None:
    bench = Bench(backoff=Backoff(1.0, 1.0))
    reply = bench.submit(Ask("a", idempotent=True))
    for _ in range(2):
        assert not reply.settled
        bench.accept()
        bench.end()
    with pytest.raises(ConnectionLost):  # not BackendDown: it had been sent
        reply.result()
    assert isinstance(bench.submit("b").error, BackendDown)


def test_a_loop_without_a_slot_is_a_failed_connect() -> None:
    bench = Bench()
    full = Loop(kernel=bench.kernel, slots=1)
    pool = full.spawn(Pool(LineWire, ["192.0.2.7:7000"]))
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


# -- keeping connections ---------------------------------------------------------------------------------


def test_warm_connections_are_opened_and_kept() -> None:
    bench = Bench(warm=2, connections=4, idle_timeout=10)
    bench.accept()
    assert bench.pool.statistics().backends[0].idle == 2
    bench.advance(100)
    assert bench.pool.statistics().backends[0].idle == 2
    bench.end(0)
    bench.advance(2)
    bench.accept()
    assert bench.pool.statistics().backends[0].idle == 2


def test_idle_connections_are_closed_down_to_warm() -> None:
    bench = Bench(connections=3, warm=1, idle_timeout=10)
    for n in range(3):
        bench.submit(f"{n}")
    bench.accept()
    for index in range(3):
        bench.answer("ok", index=index)
    bench.advance(9)
    assert bench.pool.statistics().connections == 3
    bench.advance(11)
    assert bench.pool.statistics().connections == 1
    assert bench.pool.statistics().closed == 2


def test_a_connection_in_use_is_not_idle() -> None:
    bench = Bench(connections=1, idle_timeout=10)
    bench.submit("long", timeout=100)
    bench.accept()
    bench.advance(50)
    assert not bench.sockets[0].closed
    bench.answer("ok")
    bench.advance(9)
    assert not bench.sockets[0].closed
    bench.advance(12)
    assert bench.sockets[0].closed


def test_a_connection_is_renewed_after_its_lifetime() -> None:
    bench = Bench(connections=1, lifetime=100, idle_timeout=1000)
    bench.submit("a")
    bench.accept()
    bench.answer("ok")
    busy = bench.submit("b", timeout=200)
    bench.advance(97)
    assert bench.pool.statistics().connections == 1
    bench.advance(3.1)
    assert not bench.sockets[0].closed  # it finishes what it has
    bench.answer("ok")
    assert busy.result() == b"ok"
    assert bench.sockets[0].closed


def test_warm_connections_are_renewed_too() -> None:
    bench = Bench(connections=1, warm=1, lifetime=100)
    bench.accept()
    bench.advance(101)
    bench.accept()
    assert len(bench.sockets) == 2
    assert bench.sockets[0].closed
    assert bench.pool.statistics().backends[0].idle == 1


# -- the end ---------------------------------------------------------------------------------------------


def test_drain_finishes_what_is_there_and_refuses_the_rest() -> None:
    bench = Bench(connections=1)
    replies = [bench.submit("a"), bench.submit("b")]
    bench.accept()
    bench.pool.drain()
    refused = bench.submit("c")
    assert isinstance(refused.error, PoolClosed)
    bench.answer("1")
    bench.answer("2")
    assert [reply.result() for reply in replies] == [b"1", b"2"]
    assert bench.sockets[0].closed
    assert "stopped" in repr(bench.pool)
    assert isinstance(bench.submit("d").error, PoolClosed)


def test_drain_ends_when_the_last_is_cancelled() -> None:
    bench = Bench(connections=1)
    reply = bench.submit("a")
    bench.run()
    bench.pool.drain()
    bench.run()
    assert "draining" in repr(bench.pool)
    reply.cancel()
    bench.run()
    assert "stopped" in repr(bench.pool)
    assert bench.kernel.descriptors == 1  # the notifier's


def test_a_draining_loop_lets_those_that_serve_go_first() -> None:
    bench = Bench(connections=1)
    reply = bench.submit("a")
    bench.accept()
    bench.loop.drain(10)
    bench.run()
    assert not reply.settled
    bench.answer("ok")
    assert reply.result() == b"ok"
    assert bench.loop.machines == 0


def test_stopping_settles_everything() -> None:
    bench = Bench(connections=1)
    sent = bench.submit(Ask("a", idempotent=True))
    bench.accept()
    queued = bench.submit("b")
    bench.loop.close()
    assert isinstance(sent.error, PoolClosed)
    assert isinstance(queued.error, PoolClosed)
    assert bench.add_up()
    assert all(sock.closed for sock in bench.sockets)


def test_a_pool_that_does_not_run_says_so() -> None:
    pool = Pool(LineWire, ["192.0.2.1:1"])
    assert "not spawned" in repr(pool)
    with pytest.raises(Misuse, match="spawn it first"):
        pool.submit(Ask("a"))


@pytest.mark.parametrize("option", ["connections", "pipeline", "queue", "attempts"])
def test_bad_options_say_what_to_write(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}=0; write 1 or more"):
        Pool(LineWire, ["192.0.2.1:1"], **{option: 0})


def test_bad_sets_of_options() -> None:
    with pytest.raises(ValueError, match="at least one address"):
        Pool(LineWire, [])
    with pytest.raises(ValueError, match="warm=11 of connections=10"):
        Pool(LineWire, ["192.0.2.1:1"], warm=11)
    with pytest.raises(ValueError, match="RetryBudget"):
        RetryBudget(-1)


def test_reprs_tell_the_story() -> None:
    bench = Bench(connections=1)
    reply = bench.submit("a")
    bench.submit("b")
    assert repr(reply) == "<Work Ask queued>"
    bench.accept()
    assert repr(bench.pool) == "<Pool 192.0.2.7:7000 open, 1 queued, 1 in flight on 1 connections>"
    backend = bench.pool.backends[0]
    assert repr(backend) == "<Backend 192.0.2.7:7000 1 connections, 0 idle, 1 in flight>"
    (member,) = backend.members
    assert repr(member) == "<Member 192.0.2.7:7000 ready, 1 in flight, 0 done>"
    assert repr(bench.pool.queue) == "<UnitQueue 1/1024 units, 0/67108864 bytes>"
    assert repr(bench.pool.budget) == "<RetryBudget 20% + 10/s, 0 retries granted>"
    assert repr(reply) == "<Work Ask sent>"
    bench.answer("ok")
    assert repr(reply) == "<Work Ask sent, settled>"
    assert "Bench" in repr(bench)


# -- streamed answers and handed-over connections --------------------------------------------------------


def test_an_answer_in_parts_occupies_its_member_until_it_is_finished() -> None:
    bench = Bench(connections=1, timeout=1)
    reply = bench.submit("a")
    bench.accept()
    bench.answer("head")
    assert reply.result() == b"head"
    assert not reply.cancel()
    bench.advance(10)  # from the answer on there is no deadline
    assert not bench.sockets[0].closed
    waits = bench.submit("b")
    assert bench.sent() == ["a"]
    bench.answer("tail")
    assert bench.sent() == ["b"]
    bench.answer("ok")
    assert waits.result() == b"ok"


def test_a_connection_lost_in_the_middle_of_an_answer_is_the_wires_to_tell() -> None:
    told: list[BaseException | None] = []

    class Telling(LineWire):
        __slots__ = ()

        def closed(self, error: BaseException | None) -> None:
            told.append(error)

    bench = Bench(Telling, connections=1)
    reply = bench.submit(Ask("a", idempotent=True))
    bench.accept()
    bench.answer("head")
    bench.reset()
    assert reply.result() == b"head"
    assert isinstance(told[0], OSError)
    assert bench.pool.statistics().retried == 0
    assert bench.add_up()


class Tunnel(StreamProtocol):
    """What takes a connection over."""

    def __init__(self) -> None:
        self.heard = b""

    def received(self, transport: Transport) -> actors.Outcome:
        self.heard += transport.take(len(transport.input))
        return Stop() if b"end" in self.heard else actors.Continue(self, actors.ANYTHING)


def upgrading(tunnel: Tunnel) -> type[LineWire]:
    class Upgrading(LineWire):
        __slots__ = ()

        def received(self) -> actors.Expectation | None:
            if self.transport.input.startswith(b"upgrade\n"):
                self.transport.consume(8)
                self.member.answer(b"upgrade")
                self.member.hand_over(tunnel)
                return None
            return super().received()

    return Upgrading


def test_a_connection_that_is_handed_over_never_comes_back() -> None:
    tunnel = Tunnel()
    bench = Bench(upgrading(tunnel), connections=1)
    reply = bench.submit("a")
    bench.accept()
    bench.answer("upgrade", "and more")
    assert reply.result() == b"upgrade"
    assert tunnel.heard == b"and more\n"
    waits = bench.submit("b")
    bench.run()
    assert len(bench.sockets) == 1  # it counts against the limit …
    assert "handed over" in repr(next(iter(bench.pool.backends[0].members)))
    bench.answer("end")
    assert bench.sockets[0].closed  # … until it is closed
    bench.accept()
    bench.answer("ok")
    assert waits.result() == b"ok"


def test_stopping_ends_what_was_handed_over_too() -> None:
    bench = Bench(upgrading(Tunnel()), connections=1)
    bench.submit("a")
    bench.accept()
    bench.answer("upgrade")
    bench.loop.kill(bench.pool.token)
    bench.run()
    assert bench.sockets[0].closed


def test_hand_over_belongs_into_a_handler() -> None:
    bench = Bench(connections=1)
    bench.submit("a")
    bench.accept()
    (member,) = bench.pool.backends[0].members
    with pytest.raises(Misuse, match="outside of a wire's handler"):
        member.hand_over(Tunnel())


def test_finish_before_answer_is_a_mistake() -> None:
    bench = Bench(connections=1)
    bench.submit("a")
    bench.accept()
    (member,) = bench.pool.backends[0].members
    with pytest.raises(Misuse, match="finish\\(\\) before answer"):
        member.finish()


def test_a_drain_waits_for_what_was_handed_over() -> None:
    bench = Bench(upgrading(Tunnel()), connections=1)
    bench.submit("a")
    bench.accept()
    bench.answer("upgrade")
    bench.pool.drain()
    bench.run()
    assert "draining" in repr(bench.pool)
    bench.answer("end")
    assert "stopped" in repr(bench.pool)


# -- what a wire may do ----------------------------------------------------------------------------------


class Uploading(LineWire):
    """`upload` is not written whole until the test says so; `alarm` sets the wire's own deadline."""

    __slots__ = ("said",)

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def send(self, work: Work[Any]) -> None:
        super().send(work)
        if work.unit.line == b"upload":
            self.writable = False
        if work.unit.line == b"alarm":
            self.deadline = self.transport.scope.now + 0.5
            self.member.wake()

    def wakeup(self) -> actors.Expectation | None:
        if "done" in self.said:
            self.writable = True
        return (actors.ANYTHING, actors.Flush(0))

    def flushed(self) -> None:
        self.said.append("flushed")

    def goodbye(self) -> None:
        self.transport.write(b"quit\n")

    def abandoned(self, work: Work[Any]) -> None:
        self.said.append(f"abandoned {work.unit.line.decode()}")


def the_member(bench: Bench) -> Member:
    (member,) = bench.pool.backends[0].members
    return member


def test_nothing_is_sent_into_a_body_that_is_being_written() -> None:
    bench = Bench(Uploading, connections=1, pipeline=4)
    for name in ("upload", "behind"):
        bench.submit(name)
    bench.accept()
    assert bench.sent() == ["upload"]
    wire = the_member(bench).wire
    assert isinstance(wire, Uploading)
    wire.said.append("done")
    the_member(bench).wake()
    assert bench.sent() == ["behind"]
    assert "flushed" in wire.said


def test_a_body_that_was_being_written_has_been_sent() -> None:
    bench = Bench(Uploading, connections=1, pipeline=4)
    bench.submit("warm up")
    bench.accept()
    bench.answer("ok")
    bench.sent()
    bench.sockets[0].room = 0
    reply = bench.submit("upload")
    bench.run()
    bench.end()
    assert isinstance(reply.error, ConnectionLost)


def test_a_wires_own_deadline_gives_the_connection_up() -> None:
    bench = Bench(Uploading, connections=1)
    reply = bench.submit("alarm")
    bench.accept()
    bench.advance(0.51)
    with pytest.raises(ConnectionLost, match="silent for too long"):
        reply.result()
    assert bench.sockets[0].closed


def test_a_wire_says_goodbye_before_it_is_closed() -> None:
    bench = Bench(Uploading, connections=1, idle_timeout=1)
    bench.submit("a")
    bench.accept()
    bench.answer("ok")
    bench.sent()
    bench.advance(3)
    assert bench.sent() == ["quit"]
    assert bench.sockets[0].closed


def test_a_wire_is_told_of_orphans() -> None:
    bench = Bench(Uploading, connections=1)
    reply = bench.submit("a")
    bench.accept()
    reply.cancel()
    wire = the_member(bench).wire
    assert isinstance(wire, Uploading)
    assert wire.said == ["abandoned a"]
    assert bench.pool.statistics().orphans == 1
    assert "1 orphans" in repr(the_member(bench))


def test_a_server_that_keeps_connections_for_shorter_is_obeyed() -> None:
    class Short(LineWire):
        __slots__ = ()

        def received(self) -> actors.Expectation | None:
            self.keep_alive = 4.0
            return super().received()

    bench = Bench(Short, connections=1)
    bench.submit("a")
    bench.accept()
    bench.answer("ok")
    bench.advance(3.9)
    assert not bench.sockets[0].closed
    bench.advance(0.2)
    assert bench.sockets[0].closed


def test_an_answer_may_end_with_the_connection() -> None:
    class UntilTheEnd(LineWire):
        __slots__ = ()

        def received(self) -> None:
            return None

        def ended(self) -> None:
            self.member.settle(self.transport.take(100), reusable=False)

    bench = Bench(UntilTheEnd, connections=1)
    reply = bench.submit("a")
    bench.accept()
    bench.answer("all", "of it")
    bench.end()
    assert reply.result() == b"all\nof it\n"
    assert bench.pool.statistics().closed == 1


def test_a_truncated_answer_is_the_wires_to_judge() -> None:
    class Strict(LineWire):
        __slots__ = ()

        def ended(self) -> None:
            raise Refused("truncated")

    bench = Bench(Strict, connections=1)
    reply = bench.submit(Ask("a", idempotent=True))
    bench.accept()
    bench.end()
    with pytest.raises(Refused, match="truncated"):
        reply.result()


def test_a_wire_may_keep_an_ended_connection_for_what_is_left() -> None:
    class Slow(LineWire):
        __slots__ = ()

        def ended(self) -> actors.Expectation:
            return actors.SLEEP

        def wakeup(self) -> None:
            self.member.settle(b"at last", reusable=False)

    bench = Bench(Slow, connections=1)
    reply = bench.submit("a")
    bench.accept()
    bench.end()
    assert not reply.settled
    the_member(bench).wake()
    bench.run()
    assert reply.result() == b"at last"
    assert bench.sockets[0].closed


def test_a_wires_failing_clean_up_settles_its_units_all_the_same() -> None:
    class Failing(LineWire):
        __slots__ = ()

        def closed(self, error: BaseException | None) -> None:
            raise RuntimeError("a bug")

    bench = Bench(Failing, connections=1)
    reply = bench.submit("a")
    bench.accept()
    bench.reset()
    assert isinstance(reply.error, ConnectionLost)
    assert bench.add_up()


def test_a_wire_that_cannot_be_made_is_a_failed_connect() -> None:
    def broken() -> LineWire:
        raise RuntimeError("no password")

    bench = Bench(broken)
    reply = bench.submit("a")
    bench.run()
    with pytest.raises(BackendDown, match="no password"):
        reply.result()


def test_a_wire_that_gives_up_in_its_greeting_is_a_failed_connect() -> None:
    class Rude(LineWire):
        __slots__ = ()

        def start(self) -> None:
            raise Refused("not this server")

    bench = Bench(Rude)
    reply = bench.submit("a")
    bench.accept()
    with pytest.raises(BackendDown, match="not this server"):
        reply.result()


def test_a_wire_must_say_how_to_send_and_to_read() -> None:
    class Nothing(Wire):
        __slots__ = ()

    with pytest.raises(NotImplementedError):
        Nothing().received()
    with pytest.raises(NotImplementedError):
        Nothing().send(Work(Bench().pool, Ask("a"), 0.0))
    nothing = Nothing()
    assert (nothing.flushed(), nothing.ended(), nothing.wakeup(), nothing.restore()) == (None,) * 4


def test_a_wire_without_a_greeting_need_not_say_so() -> None:
    class Plain(Wire):
        __slots__ = ()
        send = LineWire.send

        def received(self) -> None:
            self.member.settle(self.transport.take(100))

    bench = Bench(Plain, (Backend(parse_address("192.0.2.9:7000")),))  # type: ignore[arg-type]
    reply = bench.submit("a")
    bench.accept()
    bench.answer("ok")
    assert reply.result() == b"ok\n"


def test_answers_may_come_from_outside_of_the_handlers() -> None:
    bench = Bench(connections=1, pipeline=2)
    replies = [bench.submit(name) for name in "abc"]
    bench.accept()
    member = the_member(bench)
    member.settle(b"1")
    member.answer(b"2")
    member.finish(reusable=False)
    bench.accept()
    assert [reply.result() for reply in replies[:2]] == [b"1", b"2"]
    assert bench.sockets[0].closed
    assert bench.sent() == ["c"]


def test_the_hook_of_a_reply_is_called_on_cancel() -> None:
    bench = Bench()
    reply = bench.submit("a")
    called = []
    reply.on_cancel(lambda: called.append(True))
    mapped = reply.map(len)
    mapped.cancel()
    assert called == [True]
    assert isinstance(reply.error, Cancelled)


def test_an_exclusive_unit_that_cannot_go_any_more_in_its_plan_waits() -> None:
    class Once(LineWire):
        __slots__ = ()

        def send(self, work: Work[Any]) -> None:
            super().send(work)
            self.writable = False

        def received(self) -> actors.Expectation | None:
            self.writable = True
            return super().received()

    bench = Bench(Once, connections=1, pipeline=4)
    for name in "ab":
        bench.submit(name)
    bench.accept()
    assert bench.sent() == ["a"]
    bench.answer("1")
    assert bench.sent() == ["b"]


def test_many_cancelled_units_do_not_pile_up() -> None:
    bench = Bench(connections=1, queue=10)
    bench.submit("busy")
    bench.accept()
    for _ in range(1000):
        bench.submit("never").cancel()
    last = bench.submit("last")
    assert sum(len(level) for level in bench.pool.queue._levels) < 200
    bench.sent()
    bench.answer("ok")
    assert bench.sent() == ["last"]
    assert not last.settled
