"""The pool on a kernel without sockets: queueing, growing, deadlines, keeping connections, the end."""

from __future__ import annotations

import pytest

import actors
import pools
from actors import Loop, deadline, parse_address
from actors.testing import ManualKernel
from pools import (
    Cancelled,
    DeadlineExceeded,
    Endpoint,
    PoolClosed,
    QueueFull,
    RetryBudget,
)
from pools.testing import Ask, Bench, LineWire


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


def test_an_exclusive_unit_gets_a_connection_to_itself_and_is_not_starved() -> None:
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
    with pytest.raises(QueueFull, match="2 units already wait"):
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


def test_a_deadline_in_flight_drains_the_connection() -> None:
    bench = Bench(connections=1, pipeline=3)
    slow = bench.submit("slow", timeout=1)
    neighbour = bench.submit("neighbour", timeout=3)
    bench.accept()
    bench.advance(1.01)
    assert stage_of(slow) == "sent"
    bench.submit("next", timeout=10)
    bench.run()
    assert bench.sent() == ["slow", "neighbour"]  # nothing new goes to it
    assert bench.loop.next_deadline > bench.loop.time()  # and nothing spins meanwhile
    bench.answer("late", "2")
    assert neighbour.result() == b"2"  # and never "late"
    assert bench.sockets[0].closed
    bench.accept()
    assert bench.sent() == ["next"]
    assert bench.add_up()


def test_a_connection_with_only_orphans_is_closed() -> None:
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


def test_a_drain_does_not_wait_for_orphans() -> None:
    bench = Bench()
    before, during = bench.submit("before"), bench.submit("during")
    bench.accept()
    assert before.cancel()
    bench.pool.drain()
    bench.run()
    assert bench.loop.alive(bench.pool.token)
    assert during.cancel()
    bench.run()
    assert not bench.loop.alive(bench.pool.token)
    assert bench.add_up()


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


def test_a_description_is_compared_and_told_and_spawned_twice() -> None:
    described = pools.pool(LineWire, ["192.0.2.1:1"], connections=2)
    assert described == pools.pool(LineWire, iter([Endpoint(parse_address("192.0.2.1:1"))]), connections=2)
    assert described != pools.pool(LineWire, ["192.0.2.1:2"], connections=2)
    told = repr(described)
    assert told.startswith("PoolSpec(<class 'pools.testing.lines.LineWire'>, (Endpoint(address=TcpAddress(")
    assert told.endswith("), connections=2)")
    with pytest.raises(AttributeError):
        described.connections = 3  # type: ignore[misc]
    one, other = (Loop(kernel=ManualKernel()).spawn(described) for _ in range(2))
    one.submit(Ask("a"))
    assert (len(one.queue), len(other.queue)) == (1, 0)
    assert one.options is other.options is described
    assert not {*one.backends} & {*other.backends}


@pytest.mark.parametrize("option", ["connections", "pipeline", "queue", "attempts"])
def test_bad_options_say_what_to_write(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}=0; write 1 or more"):
        pools.pool(LineWire, ["192.0.2.1:1"], **{option: 0})


def test_bad_sets_of_options() -> None:
    with pytest.raises(ValueError, match="at least one address"):
        pools.pool(LineWire, [])
    with pytest.raises(ValueError, match="warm=11 of connections=10"):
        pools.pool(LineWire, ["192.0.2.1:1"], warm=11)
    with pytest.raises(ValueError, match="share=-1; write 0 or more"):
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
    (connection,) = backend.all
    assert repr(connection) == "<Connection 192.0.2.7:7000 ready, 1 in flight, 0 done>"
    assert repr(bench.pool.queue) == "<UnitQueue 1/1024 units, 0/67108864 bytes>"
    assert repr(bench.pool.budget) == "<Retries 20% + 10/s, 0 granted>"
    assert repr(reply) == "<Work Ask sent>"
    bench.answer("ok")
    assert repr(reply) == "<Work Ask sent, settled>"
    assert "Bench" in repr(bench)
