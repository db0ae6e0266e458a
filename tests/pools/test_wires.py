"""What a wire may do: answers in parts, bodies that are still being written, handing a connection over."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

import actors
import pools
import pools.wires as documented
from actors import Loop, Misuse, Stop, StreamProtocol, Transport, parse_address
from actors.testing import ManualKernel
from pools import (
    BackendDown,
    Cancelled,
    Connection,
    ConnectionLost,
    Endpoint,
    Unit,
    Wire,
    Work,
)
from pools.testing import Ask, Bench, LineWire, Refused

# -- streamed answers and handed-over connections --------------------------------------------------------


def test_an_answer_in_parts_occupies_its_connection_until_it_is_finished() -> None:
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
                self.connection.answer(b"upgrade")
                self.connection.hand_over(tunnel)
                return None
            return super().received()

    return Upgrading


def test_a_connection_that_is_handed_over_never_comes_back() -> None:
    tunnel = Tunnel()
    bench = Bench(upgrading(tunnel), connections=1, tunnels=1)
    reply = bench.submit("a")
    waits = bench.submit("b")
    bench.accept()
    bench.answer("upgrade", "and more")
    assert reply.result() == b"upgrade"
    assert tunnel.heard == b"and more\n"
    bench.accept()
    bench.answer("ok")
    assert waits.result() == b"ok"  # on another one: a tunnel counts against no other limit than its own …
    now = bench.pool.statistics()
    assert (now.connections, now.tunnels, now.opened) == (1, 1, 2)
    refusal = bench.pool.tunnels.refusal(bench.pool)
    assert refusal is not None
    assert str(refusal).startswith("1 tunnels to 192.0.2.7:7000 are open")
    bench.answer("end", index=0)
    assert bench.sockets[0].closed  # … until it is closed
    assert bench.pool.tunnels.refusal(bench.pool) is None
    now = bench.pool.statistics()
    assert (now.connections, now.tunnels, now.closed) == (1, 0, 1)


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
    (connection,) = bench.pool.backends[0].all
    with pytest.raises(Misuse, match="outside a wire's handler"):
        connection.hand_over(Tunnel())


def test_finish_before_answer_is_a_mistake() -> None:
    bench = Bench(connections=1)
    bench.submit("a")
    bench.accept()
    (connection,) = bench.pool.backends[0].all
    with pytest.raises(Misuse, match="finish\\(\\) before answer"):
        connection.finish()


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
            self.connection.wake()

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


def the_connection(bench: Bench) -> Connection:
    (connection,) = bench.pool.backends[0].all
    return connection


def test_nothing_is_sent_into_a_body_that_is_being_written() -> None:
    bench = Bench(Uploading, connections=1, pipeline=4)
    for name in ("upload", "behind"):
        bench.submit(name)
    bench.accept()
    assert bench.sent() == ["upload"]
    wire = the_connection(bench).wire
    assert isinstance(wire, Uploading)
    wire.said.append("done")
    the_connection(bench).wake()
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
    wire = the_connection(bench).wire
    assert isinstance(wire, Uploading)
    assert wire.said == ["abandoned a"]
    assert bench.pool.statistics().orphans == 1
    assert "1 orphans" in repr(the_connection(bench))


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
            self.connection.settle(self.transport.take(100), reusable=False)

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
            self.connection.settle(b"at last", reusable=False)

    bench = Bench(Slow, connections=1)
    reply = bench.submit("a")
    bench.accept()
    bench.end()
    assert not reply.settled
    the_connection(bench).wake()
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
            self.connection.settle(self.transport.take(100))

    bench = Bench(Plain, (Endpoint(parse_address("192.0.2.9:7000")),))  # type: ignore[arg-type]
    reply = bench.submit("a")
    bench.accept()
    bench.answer("ok")
    assert reply.result() == b"ok\n"


def test_answers_may_come_from_outside_of_the_handlers() -> None:
    bench = Bench(connections=1, pipeline=2)
    replies = [bench.submit(name) for name in "abc"]
    bench.accept()
    connection = the_connection(bench)
    connection.settle(b"1")
    connection.answer(b"2")
    connection.finish(reusable=False)
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
    assert list(bench.pool.queue) == [last]
    bench.sent()
    bench.answer("ok")
    assert bench.sent() == ["last"]
    assert not last.settled


def test_the_example_in_the_documentation_runs() -> None:
    text = documented.__doc__ or ""
    example = textwrap.dedent(text[text.index("    class Ask") : text.index("The first argument")])
    kernel = ManualKernel()
    names: dict[str, Any] = {
        "Unit": Unit,
        "Wire": Wire,
        "Work": Work,
        "pools": pools,
        "Any": Any,
        "Expectation": actors.Expectation,
        "loop": Loop(kernel=kernel),
    }
    exec(example, names)
    names["loop"].tick(0)
    kernel.sockets[0].accept_connection()
    for _ in range(3):
        names["loop"].tick(0)
    assert kernel.sockets[0].delivered() == b"hello\n"
    kernel.sockets[0].arrive(b"wor")
    names["loop"].tick(0)
    kernel.sockets[0].arrive(b"ld\n")
    names["loop"].tick(0)
    assert names["reply"].result() == b"world"
