"""What went wrong in other pools, one test per failure, named after it. None of them may ever happen here."""

from __future__ import annotations

from typing import Any

from actors import first, gather, with_deadline
from pools import Cancelled, ConnectionLost, DeadlineExceeded, PoolClosed, QueueFull
from pools.testing import Ask, Bench, LineWire


def all_idle(bench: Bench, connections: int = 1) -> bool:
    now = bench.pool.statistics()
    return (
        now.queued == now.in_flight == now.orphans == 0
        and sum(backend.idle for backend in now.backends) == now.connections == connections
        and bench.add_up()
    )


def served(bench: Bench, name: str = "another", index: int = -1) -> bool:
    """Whether the pool still works."""
    reply = bench.submit(name)
    bench.accept()
    if bench.sent(index)[-1:] != [name]:
        return False
    bench.answer(f"to {name}", index=index)
    return bool(reply.result() == f"to {name}".encode())


def test_cancelled_while_connecting_httpcore_1093() -> None:
    bench = Bench(connections=1)
    bench.submit("a").cancel()
    bench.run()
    reply = bench.submit("b")
    bench.run()
    reply.cancel()
    bench.accept()
    assert all_idle(bench)
    assert served(bench)


def test_cancelled_after_assignment_httpcore_830_httpx_1461() -> None:
    bench = Bench(connections=1)
    for n in range(5):
        reply = bench.submit(f"{n}")
        bench.accept()
        assert bench.sent() == [f"{n}"]
        reply.cancel()
        bench.answer("to nobody")
    assert all_idle(bench)
    assert served(bench)


def test_cancelled_in_the_tick_of_its_answer() -> None:
    bench = Bench(connections=1)
    reply = bench.submit("a")
    bench.accept()
    bench.sockets[0].arrive(b"answer\n")
    reply.cancel()
    bench.run()
    assert isinstance(reply.error, Cancelled)
    assert all_idle(bench)


def test_the_wakeup_of_a_waiter_that_timed_out_aiohttp_9670() -> None:
    bench = Bench(connections=1)
    bench.submit("busy", timeout=10)
    bench.accept()
    impatient = bench.submit("impatient", timeout=1)
    patient = bench.submit("patient", timeout=10)
    bench.kernel.clock.advance(1.1)
    bench.answer("done")  # frees the connection in the tick of the deadline
    assert isinstance(impatient.error, DeadlineExceeded)
    assert bench.sent() == ["busy", "patient"]
    bench.answer("ok")
    assert patient.result() == b"ok"


def test_reused_as_the_server_closes_it_aiohttp_13283() -> None:
    bench = Bench(connections=1)
    assert served(bench, "a")
    bench.sockets[0].end()
    reply = bench.submit("b")  # the end is there, but nobody has read it yet
    bench.accept()
    assert not reply.settled
    assert bench.sent() == ["b"]
    bench.answer("ok")
    assert reply.result() == b"ok"
    assert bench.pool.statistics().lost == 0


def test_reused_just_before_the_servers_end_comes_aiohttp_3507() -> None:
    bench = Bench(connections=2)
    assert served(bench, "a")
    plain = bench.submit("not safe to repeat")
    bench.run()
    bench.end()
    assert isinstance(plain.error, ConnectionLost)
    assert served(bench, "b")
    safe = bench.submit(Ask("safe", idempotent=True))
    bench.run()
    bench.end()
    bench.accept()
    assert bench.sent() == ["safe"]
    bench.answer("ok")
    assert safe.result() == b"ok"


def test_replies_shifted_by_one_after_a_cancel_redis_py_2624_2665_2695() -> None:
    bench = Bench(connections=1, pipeline=8)
    replies = [bench.submit(f"{n}") for n in range(8)]
    bench.accept()
    for n in (0, 3, 7):
        replies[n].cancel()
    bench.answer(*(f"to {n}" for n in range(8)))
    for n, reply in enumerate(replies):
        assert isinstance(reply.error, Cancelled) if n in (0, 3, 7) else reply.result() == f"to {n}".encode()
    assert all_idle(bench)
    assert served(bench)


def test_a_deadline_and_the_next_users_answer_redis_py_2665() -> None:
    bench = Bench(connections=1)
    late = bench.submit("late", timeout=1)
    bench.accept()
    bench.advance(1.1)
    bench.sockets[0].arrive(b"to late\n")
    reply = bench.submit("next")
    bench.accept()
    assert bench.sent() == ["next"]
    bench.answer("to next")
    assert isinstance(late.error, DeadlineExceeded)
    assert reply.result() == b"to next"


def test_an_answer_that_comes_never_asyncpg_1307() -> None:
    bench = Bench(connections=1)
    reply = bench.submit("a", timeout=2)
    bench.accept()
    reply.cancel()
    bench.advance(1.9)
    assert bench.pool.statistics().orphans == 1  # it is still waited for …
    assert not bench.sockets[0].closed
    bench.advance(0.2)
    assert bench.sockets[0].closed  # … until the unit's deadline
    assert served(bench)


def test_cancel_and_deadline_together_asyncpg_467_547() -> None:
    bench = Bench(connections=1)
    reply = bench.submit("a", timeout=1)
    bench.accept()
    outer = with_deadline(reply, 1.0)
    bench.kernel.clock.advance(1.0)
    outer.cancel()
    bench.run()
    assert reply.settled
    bench.advance(0.1)
    assert bench.pool.statistics().connections == 0
    assert served(bench)


def test_closing_with_units_everywhere_asyncpg_464() -> None:
    bench = Bench(connections=2)
    replies = [bench.submit(f"{n}") for n in range(5)]
    bench.accept()
    replies[0].cancel()
    bench.loop.kill(bench.pool.token)
    bench.run()
    assert [type(reply.error) for reply in replies] == [Cancelled, *[PoolClosed] * 4]
    assert bench.add_up()
    assert bench.pool.statistics().connections == 0


def test_nested_use_never_deadlocks_asyncpg_5_aiopg_113() -> None:
    bench = Bench(connections=1)
    results: list[bytes] = []

    async def nested() -> None:
        outer = bench.submit("outer")
        results.append(await bench.submit("inner"))  # the only connection is busy with the outer one
        results.append(await outer)

    bench.loop.spawn(nested())
    bench.accept()
    bench.answer("1")
    bench.answer("2")
    assert results == [b"2", b"1"]


def test_many_at_once_never_collide_asyncpg_258() -> None:
    bench = Bench(connections=1)
    both = gather(*(bench.submit(f"{n}") for n in range(3)))
    bench.accept()
    for n in range(3):
        assert bench.sent() == [f"{n}"]
        bench.answer(f"to {n}")
    assert both.result() == (b"to 0", b"to 1", b"to 2")


def test_the_losers_of_a_race_are_cleaned_up_psycopg_509() -> None:
    bench = Bench(connections=3)
    fastest = first(*(bench.submit(f"{n}") for n in range(3)))
    bench.accept()
    bench.answer("fast", index=1)
    assert fastest.result() == b"fast"
    assert bench.pool.statistics().orphans == 2
    for index in (0, 2):
        bench.answer("slow", index=index)
    assert all_idle(bench, connections=3)


def test_one_cancelled_unit_does_not_break_later_ones_aiokafka_409() -> None:
    bench = Bench(connections=1, pipeline=4)
    bench.submit("a").cancel()
    replies = [bench.submit("b"), bench.submit("c")]
    bench.accept()
    assert bench.sent() == ["b", "c"]
    bench.answer("1", "2")
    assert [reply.result() for reply in replies] == [b"1", b"2"]


def test_a_full_queue_is_an_error_the_caller_sees_confluent_kafka_16() -> None:
    bench = Bench(connections=1, queue=4)
    replies: list[Any] = [bench.submit(f"{n}") for n in range(10)]
    assert [type(reply.error) for reply in replies[4:]] == [QueueFull] * 6
    bench.accept()
    for _ in range(4):
        bench.answer("ok")
    assert [reply.result() for reply in replies[:4]] == [b"ok"] * 4


def test_queue_wait_counts_swindon_15() -> None:
    bench = Bench(connections=1)  # the backend never accepts
    replies = [bench.submit(f"{n}", timeout=1) for n in range(3)]
    bench.run()
    bench.advance(1.1)
    assert [type(reply.error) for reply in replies] == [DeadlineExceeded] * 3


def test_whoever_waits_for_a_dead_connection_is_told_rotor_http() -> None:
    bench = Bench(connections=1, pipeline=3)
    replies = [bench.submit(f"{n}") for n in range(3)]
    bench.accept()
    bench.end()
    assert [type(reply.error) for reply in replies] == [ConnectionLost] * 3


def test_a_wakeup_when_busy_is_harmless_rotor_http_45() -> None:
    bench = Bench(connections=1)
    reply = bench.submit("a")
    bench.accept()
    (connection,) = bench.pool.backends[0].all
    for _ in range(3):
        connection.wake()
        bench.pool.wake()
        bench.run()
    bench.answer("ok")
    assert reply.result() == b"ok"


def test_cost_does_not_grow_with_the_number_of_connections_httpx_3215() -> None:
    bench = Bench(connections=200, queue=1000)
    looked_at: list[object] = []

    class Counting(dict[Any, None]):
        def __iter__(self) -> Any:
            looked_at.extend(self.keys())
            return super().__iter__()

    for n in range(200):
        bench.submit(f"{n}")
    bench.accept()
    for index in range(200):
        bench.answer("ok", index=index)
    backend = bench.pool.backends[0]
    backend.all = Counting(backend.all)
    backend.idle = Counting(backend.idle)
    looked_at.clear()
    for _ in range(10):
        bench.submit("more")
        bench.loop.tick(0)  # and not `bench.run`, which looks at all of them itself
    assert looked_at == []
    assert bench.pool.statistics().in_flight == 10


def test_a_handshake_has_its_deadline_though_its_asker_went_while_it_was_connecting() -> None:
    bench = Bench(lambda: LineWire(b"hello"), connections=1, connect_timeout=1.0)
    reply = bench.submit("one", timeout=0.2)
    bench.run()
    bench.advance(0.3)  # the timer has fired, and there was no handshake yet that could be late
    assert isinstance(reply.error, DeadlineExceeded)
    bench.accept()
    assert bench.pool.statistics().connections == 1
    bench.advance(0.7)
    assert bench.pool.statistics().connections == 0
    assert bench.sockets[0].closed


def test_a_loss_that_has_its_neighbours_cancelled_counts_each_unit_once() -> None:
    bench = Bench(connections=1, pipeline=4)
    replies = [bench.submit(Ask(f"{n}", idempotent=n < 2)) for n in range(4)]
    together = gather(*replies)  # the first that fails has the others cancelled
    bench.accept()
    bench.sent()
    bench.reset()
    assert isinstance(together.error, ConnectionLost)
    assert all(reply.settled for reply in replies)
    assert bench.pool.statistics().queued == 0
    assert bench.add_up()
    bench.accept()
    again = bench.submit("again")
    bench.accept()
    bench.answer("AGAIN")
    assert again.result() == b"AGAIN"


class Unsendable(LineWire):
    __slots__ = ()

    def send(self, work: Any) -> None:
        if work.unit.line == b"bad":
            raise ValueError("this cannot be encoded")
        super().send(work)


def test_a_unit_that_cannot_be_sent_and_has_its_neighbours_cancelled() -> None:
    bench = Bench(Unsendable, connections=1, pipeline=4)
    replies = [bench.submit(line) for line in ("bad", "one", "two")]
    together = gather(*replies)
    bench.accept()
    assert isinstance(together.error, ValueError)
    assert bench.sent() == []  # what was cancelled before it was sent is not sent
    assert bench.pool.statistics().queued == 0
    assert bench.add_up()
    last = bench.submit("last")
    assert bench.sent() == ["last"]
    bench.answer("LAST")
    assert last.result() == b"LAST"


def test_an_orphan_is_looked_at_by_the_deadline_that_was_set_later() -> None:
    bench = Bench(connections=1, timeout=5.0)
    reply = with_deadline(bench.submit("one"), 0.5)
    bench.accept()
    bench.advance(0.5)
    assert isinstance(reply.error, TimeoutError)
    bench.advance(0.001)
    assert bench.pool.statistics().connections == 0  # not used again: its answer is late
