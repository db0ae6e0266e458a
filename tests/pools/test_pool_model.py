"""A model of the whole pool: clients that submit and cancel, backends that answer, fail, close and die.

Whatever the order of events: every unit settles exactly once, with its own answer or an error, and by its
deadline, as the submitter's own watch tells it; capacity is never exceeded; units leave in order; the
submitter's own count is the pool's; and when all is well again, every connection is idle.

Units come one by one and by the hundred, and the thresholds are small ones as well as those of the product.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from actors import Backoff, Reply
from actors.simulation import turned
from actors.testing import FakeSocket
from actors.testing.strategies import knobs
from pools import Cancelled, Exchanges, Held, PoolError, Unit
from pools.testing import Ask, Bench, LineWire, Refused

LATE = 0.001  # seconds by which a pool may notice a deadline late


class Twice(Exchanges[bytes]):
    """Two exchanges; the answer is both."""

    __slots__ = ("idempotent", "name")

    def __init__(self, name: str, idempotent: bool) -> None:
        self.name = name
        self.idempotent = idempotent

    async def body(self, held: Held) -> bytes:
        first = await held.submit(Ask(self.name))
        second = await held.submit(Ask(self.name))
        assert first.split()[-1] == second.split()[-1]
        return first


class Server:
    """What one connection's backend has read and not answered."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.over = False


class PoolModel(RuleBasedStateMachine):
    @initialize(
        backends=st.integers(1, 2),
        connections=st.integers(1, 3),
        pipeline=st.integers(1, 3),
        seed=st.integers(0, 9),
        queue=st.sampled_from([8, 300]),
        turns=knobs("pools"),
    )
    def begin(
        self,
        backends: int,
        connections: int,
        pipeline: int,
        seed: int,
        queue: int,
        turns: dict[str, int | float],
    ) -> None:
        self.turned = ExitStack()
        self.turned.enter_context(turned(turns, ["pools"]))
        self.limit = queue
        self.bench = Bench(
            LineWire,
            tuple(f"192.0.2.{n}:7000" for n in range(backends)),
            seed=seed,
            connections=connections,
            pipeline=pipeline,
            queue=queue,
            backoff=Backoff(0.5, 2.0),
            idle_timeout=20.0,
            lifetime=30.0,
        )
        self.servers: dict[FakeSocket, Server] = {}
        self.replies: dict[str, Reply[bytes]] = {}
        self.units: dict[str, tuple[Unit[Any], int]] = {}
        self.names: dict[int, str] = {}
        self.due: dict[str, float] = {}  # by the submitter's own watch
        self.settled: Counter[str] = Counter()
        self.first_sent: list[str] = []
        self.executed: Counter[str] = Counter()  # by the backends
        self.too_late: list[str] = []  # executed although the answer was there already

    # -- clients ---------------------------------------------------------------------------------------

    @rule(
        count=st.sampled_from([1, 1, 2, 3, 4, 70, 140]),
        priority=st.sampled_from([0, 0, 0, 1]),
        timeout=st.sampled_from([0.3, 1.0, 5.0]),
        kind=st.sampled_from(["plain", "idempotent", "exclusive", "twice", "twice again"]),
    )
    def submit(self, count: int, priority: int, timeout: float, kind: str) -> None:
        for _ in range(count):
            name = str(len(self.replies))
            unit: Unit[bytes] = (
                Twice(name, idempotent=kind == "twice again")
                if kind.startswith("twice")
                else Ask(name, idempotent=kind == "idempotent", pipelinable=kind != "exclusive")
            )
            reply = self.bench.submit(unit, timeout=timeout, priority=priority)
            self.replies[name] = reply
            self.names[id(reply)] = name
            self.due[name] = self.bench.kernel.clock.now + timeout
            self.units[name] = (unit, priority)
            reply.when_settled(lambda _, name=name: self.settled.update([name]))

    @rule(choice=st.integers(0, 1000))
    def cancel(self, choice: int) -> None:
        waiting = [reply for reply in self.replies.values() if not reply.settled]
        if waiting:
            reply = waiting[choice % len(waiting)]
            reply.cancel()
            assert isinstance(reply.error, Cancelled)

    # -- the world ---------------------------------------------------------------------------------------

    @rule()
    def tick(self) -> None:
        self.look()

    @rule(seconds=st.sampled_from([0.01, 0.4, 2.0, 25.0]))
    def time_passes(self, seconds: float) -> None:
        self.bench.advance(seconds)
        self.look()

    @rule()
    def accept(self) -> None:
        self.bench.accept()
        self.look()

    @rule()
    def refuse(self) -> None:
        self.bench.refuse()
        self.look()

    @rule(
        choice=st.integers(0, 1000),
        count=st.integers(1, 5),
        how=st.sampled_from(["", "", "", "error ", "bye ", "head "]),
    )
    def answer(self, choice: int, count: int, how: str) -> None:
        open_ones = [sock for sock, server in self.servers.items() if server.asked and not server.over]
        if open_ones:
            sock = open_ones[choice % len(open_ones)]
            server = self.servers[sock]
            for _ in range(min(count, len(server.asked))):
                name = server.asked.pop(0)
                if name == "tail":
                    sock.arrive(b"tail\n")
                    continue
                sock.arrive(f"{how}{name}\n".encode())
                if how == "head ":
                    server.asked.insert(0, "tail")
                    break
                if how == "bye ":  # what stands behind it was read and not executed: `spares_behind`
                    self.executed.subtract(left for left in server.asked if left in self.replies)
                    server.over = True
                    sock.end()
                    break
            self.look()

    @rule(choice=st.integers(0, 1000), how=st.sampled_from(["end", "reset", "garbage", "unasked"]))
    def misbehave(self, choice: int, how: str) -> None:
        open_ones = [sock for sock, server in self.servers.items() if not server.over]
        if open_ones:
            sock = open_ones[choice % len(open_ones)]
            self.servers[sock].over = True
            if how == "end":
                sock.end()
            elif how == "reset":
                sock.reset()
            elif how == "garbage" or any(backend.in_flight for backend in self.bench.pool.backends):
                sock.arrive(b"garbage\n")
            else:
                sock.arrive(b"unasked\n")
            self.look()

    @rule(choice=st.integers(0, 1000), room=st.integers(0, 3))
    def buffer_fills(self, choice: int, room: int) -> None:
        open_ones = [sock for sock, server in self.servers.items() if not server.over]
        if open_ones:
            open_ones[choice % len(open_ones)].room = room

    @rule()
    def buffers_drain(self) -> None:
        for sock in self.servers:
            sock.room = None
        self.look()

    def look(self) -> None:
        """Let the loop run, and the backends read."""
        self.bench.run()
        for sock in self.bench.sockets:
            if sock.closed:
                self.servers.pop(sock, None)
                continue
            if not sock.readiness():
                continue  # not connected
            text = sock.delivered().decode()
            server = self.servers.setdefault(sock, Server())
            if server.asked and server.asked[-1].endswith("…"):
                text = server.asked.pop()[:-1] + text
            whole = text.split("\n")
            rest = whole.pop()
            server.asked += whole
            for name in whole:
                self.executed[name] += 1
                if self.replies[name].settled and self.replies[name].error is None:
                    self.too_late.append(name)
                if name not in self.first_sent:
                    self.first_sent.append(name)
            if rest:
                server.asked.append(rest + "…")  # a line that has not come whole
            # a unit of several exchanges may go on while the first one's answer is not whole
            assert len(server.asked) - server.asked.count("tail") <= self.bench.pool.options.pipeline

    # -- what holds always -------------------------------------------------------------------------------

    @invariant()
    def counts_add_up(self) -> None:
        if hasattr(self, "bench"):
            assert self.bench.add_up(), self.bench.pool.statistics()
            now = self.bench.pool.statistics()
            assert now.submitted == len(self.replies)
            assert now.queued + now.in_flight == sum(not reply.settled for reply in self.replies.values())
            waiting = list(self.bench.pool.queue)
            assert len(waiting) == len(self.bench.pool.queue) == now.queued
            assert not any(work.settled for work in waiting)

    @invariant()
    def everyone_gets_their_own(self) -> None:
        if not hasattr(self, "bench"):
            return
        for name, reply in self.replies.items():
            assert self.settled[name] == reply.settled
            if reply.settled and reply.error is None:
                assert reply.result().split()[-1] == name.encode()
            elif reply.settled:
                assert isinstance(reply.error, PoolError | Cancelled)
                if isinstance(reply.error, Refused):
                    assert str(reply.error) in (f"error {name}", "garbage")

    @invariant()
    def only_what_may_be_is_executed_again(self) -> None:
        """And never after its answer: another's write may have come between, which it would undo."""
        if hasattr(self, "bench"):
            once = {name: times for name, times in self.executed.items() if self.executions_of(name) < times}
            assert once == {}
            assert self.too_late == []

    def executions_of(self, name: str) -> int | float:
        """How often a unit may be executed."""
        unit, _ = self.units[name]
        exchanges = 2 if isinstance(unit, Twice) else 1
        return float("inf") if unit.idempotent else exchanges

    @invariant()
    def everyone_is_served_in_time(self) -> None:
        if hasattr(self, "bench"):
            now = self.bench.kernel.clock.now
            late = [name for name, due in self.due.items() if due + LATE < now]
            assert [name for name in late if not self.replies[name].settled] == []
            for name in late:
                del self.due[name]

    @invariant()
    def capacity_is_kept(self) -> None:
        if hasattr(self, "bench"):
            pool = self.bench.pool
            assert len(pool.queue) <= self.limit + pool.options.connections * pool.options.pipeline * len(
                pool.backends
            )
            for backend in pool.backends:
                assert backend.connections <= pool.options.connections
                assert backend.in_flight == sum(connection.in_flight for connection in backend.all)
                assert set(backend.idle) | set(backend.sharing) <= set(backend.all)

    @invariant()
    def nothing_spins(self) -> None:
        if hasattr(self, "bench"):
            self.bench.run(8)
            assert self.bench.loop.next_deadline > self.bench.kernel.clock.now

    @invariant()
    def order_is_kept(self) -> None:
        if not hasattr(self, "bench"):
            return
        for priority in (0, 1):
            sent = [int(name) for name in self.first_sent if self.units[name][1] == priority]
            queued = [
                int(self.names[id(work)])
                for work in self.bench.pool.queue
                if self.names[id(work)] not in self.first_sent
                and not work.attempts
                and work.priority == priority
            ]
            assert queued == sorted(queued)
            assert not (sent and queued) or max(sent) < min(queued)

    def teardown(self) -> None:
        """The network heals: everything settles, everything that is still connected is idle."""
        if not hasattr(self, "bench"):
            return
        self.turned.close()
        for _ in range(60):
            self.buffers_drain()
            self.bench.accept()
            self.look()
            for sock, server in list(self.servers.items()):
                if not server.over and not sock.closed:
                    for name in server.asked:
                        sock.arrive(f"{name}\n".encode())
                    server.asked.clear()
            self.look()
        self.bench.advance(5.1)
        self.look()
        assert all(reply.settled for reply in self.replies.values())
        now = self.bench.pool.statistics()
        assert now.queued == now.in_flight == now.orphans == 0
        for backend in now.backends:
            assert backend.idle == backend.connections
            assert backend.in_flight == 0
        assert now.opened == now.closed + now.lost + now.connections
        self.counts_add_up()
        self.everyone_gets_their_own()
        self.bench.loop.close()
        assert self.bench.kernel.descriptors == 0


TestPoolModel = PoolModel.TestCase
TestPoolModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPoolModel.pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.no_cover]
