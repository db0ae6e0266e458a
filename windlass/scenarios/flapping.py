"""A pool whose backends flap: the smallest service there is, with every fault.

The protocol is one line per question and one per answer. An answer names its question, so that a pool which
gives anybody another's answer is caught at once.
"""

from __future__ import annotations

from typing import Any, Final

import pools
from actors import ANYTHING, Expectation, Listener, Outcome, Stop, StreamProtocol, Timeout, Transport, sleep
from actors.simulation import Faults, Host, World, scenario
from pools import BackendError, Exchanges, Held, Unit, Wire, Work
from pools.simulation import account, watch
from pools.testing import Account

__all__ = ["Question", "QuestionWire", "Responder", "flapping"]

PORT: Final = 7000
BACKENDS: Final = 3
ASKERS: Final = 4
QUESTIONS: Final = 40  # of each asker
PATIENCE: Final = 0.3  # seconds, for an answer
IDLE_SECONDS: Final = 60.0
LINE_MAX: Final = 1024

FAULTS: Final = Faults(
    lag=4.0,
    reset=1.5,
    half_close=0.7,
    vanish=0.3,
    forget=0.1,
    half_open=0.2,
    mute=0.3,
    partition=0.1,
    one_way=0.1,
    clog=0.7,
    short_reads=0.5,
    short_writes=0.5,
    full_buffers=0.3,
    refuse=0.4,
    slow_accept=0.3,
    resolve_failure=0.1,
    resolve_change=0.1,
    kill=0.5,
    crash=0.2,
    restart=0.2,
    jump=0.1,
    stall=0.4,
    slow_consumer=0.5,
)


class Question(Unit[bytes]):
    """One question. Its answer is the same text with `re:` before it."""

    __slots__ = ("idempotent", "pipelinable", "text")

    def __init__(self, text: bytes, idempotent: bool, pipelinable: bool = True) -> None:
        self.text = text
        self.idempotent = idempotent
        self.pipelinable = pipelinable

    def __repr__(self) -> str:
        return f"<Question {self.text.decode()}>"


class Conversation(Exchanges[bytes]):
    """Two questions on one connection, the second when the first is answered. The second's answer is its
    own."""

    __slots__ = ("_text", "idempotent")

    def __init__(self, text: bytes, idempotent: bool) -> None:
        self._text = text
        self.idempotent = idempotent

    def __repr__(self) -> str:
        return f"<Conversation {self._text.decode()}>"

    async def body(self, held: Held) -> bytes:
        """Ask twice."""
        before = self._text + b" before"
        answer = await held.submit(Question(before, self.idempotent))
        if answer != b"re:" + before:
            return answer
        return await held.submit(Question(self._text, self.idempotent))


class QuestionWire(Wire):
    """Lines out, lines in."""

    __slots__ = ()

    def send(self, work: Work[Any]) -> None:
        """One line."""
        self.transport.write(work.unit.text + b"\n")

    def received(self) -> Expectation | None:
        """Answers, in the order of the questions."""
        transport = self.transport
        *lines, rest = bytes(transport.input).split(b"\n")
        transport.input = rest
        for line in lines:
            if not line.startswith(b"re:"):
                raise BackendError(f"{line!r} is not an answer")
            self.connection.settle(line)
        return None


class Responder(StreamProtocol):
    """Answers each line at once, or after `seconds`, then in the order of the lines."""

    __slots__ = ("_answers", "_done", "_world")

    def __init__(self, world: World, done: set[bytes]) -> None:
        self._world = world
        self._done = done  # the questions that were executed and may not be again
        self._answers: list[tuple[float, bytes]] = []

    def connected(self, transport: Transport) -> Outcome:
        """A question comes."""
        return Timeout(self, transport.scope.now + IDLE_SECONDS, ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        """Lines. Some take long, and hold up those behind them."""
        now = transport.scope.now
        *lines, rest = bytes(transport.input).split(b"\n")
        transport.input = rest
        if len(rest) > LINE_MAX:
            return Stop(ValueError("a line too long"))
        random = transport.scope.kernel.random()
        for line in lines:
            takes = random.choice((0.0, 0.0, 0.002, 0.02)) if random.random() < 0.97 else 0.5
            ready = max(now + takes, self._answers[-1][0] if self._answers else 0.0)
            self._answers.append((ready, b"re:" + line + b"\n"))
            self.executed(line)
        return self._answer(transport)

    def executed(self, line: bytes) -> None:
        """Keep account: a question that is not idempotent may not be executed twice."""
        if line.startswith(b"once "):
            if line in self._done:
                self._world.fail(f"{line.decode()!r} was executed twice")
            self._done.add(line)

    def timeout(self, transport: Transport) -> Outcome:
        """An answer is ready, or no question has come for long."""
        return self._answer(transport) if self._answers else Stop()

    def _answer(self, transport: Transport) -> Outcome:
        now = transport.scope.now
        while self._answers and self._answers[0][0] <= now:
            transport.write(self._answers.pop(0)[1])
        due = self._answers[0][0] if self._answers else now + IDLE_SECONDS
        return Timeout(self, due)


async def asker(host: Host, asks: Account, number: int, questions: int = QUESTIONS) -> None:
    """Ask, sometimes several things at once; sometimes lose interest."""
    random = host.world.random(f"asker {host.name} {number}")
    asked = 0
    while asked < questions:
        replies = []
        token, reminder = host.loop.spawn_with_token(remind(random.expovariate(1 / 0.05)))
        host.expect(reminder, f"the reminder of caller {number}", may_fail=False)
        for _ in range(min(random.choice((1, 1, 1, 2, 5)), questions - asked)):
            asked += 1
            idempotent = random.random() < 0.6
            text = b"%s %d.%d" % (b"again" if idempotent else b"once", number, asked)
            patience = PATIENCE * random.uniform(0.2, 1.5)
            unit: Unit[bytes] = Question(text, idempotent, random.random() < 0.9)
            if random.random() < 0.1:
                unit = Conversation(text, idempotent)
            what = f"the answer to {text.decode()}"
            priority = random.choice((0, 0, 0, 3))
            replies.append(asks.submit(unit, what, timeout=patience, priority=priority, value=b"re:" + text))
        await reminder
        for reply in replies:
            if random.random() < 0.1:
                reply.cancel()
        for reply in replies:
            while not reply.settled:
                await sleep(0.01)
        host.loop.kill(token)  # it has ended long ago, so this must reach nobody


async def remind(seconds: float) -> None:
    """Another caller's short task."""
    await sleep(seconds)


@scenario(name="pool", seconds=3.0, faults=FAULTS)
def flapping(world: World) -> None:
    """A pool with three backends that come and go; every unit settles once, with its own answer."""
    done: set[bytes] = set()

    def serve(host: Host) -> None:
        host.loop.spawn(Listener(f"0.0.0.0:{PORT}", lambda: Responder(world, done)))

    for number in range(BACKENDS):
        world.host(f"backend{number}", serve, crashes=True)

    names = [f"backend{number}:{PORT}" for number in range(BACKENDS)]
    world.network.names["everywhere"] = [host.address for host in world.hosts.values()]

    def ask(host: Host) -> None:
        random = world.random("pool")
        pool = pools.pool(
            QuestionWire,
            random.choice((names, ["everywhere:7000"])),
            connections=random.choice((1, 2, 3)),
            pipeline=random.choice((1, 1, 4, 16)),
            queue=random.choice((8, 1024)),
            timeout=PATIENCE,
            connect_timeout=0.5,
            idle_timeout=random.choice((0.2, 600.0)),
            lifetime=random.choice((0.5, 1800.0)),
            warm=random.choice((0, 0, 1)),
        )
        running = host.loop.spawn(pool)
        asks = account(host, watch(host, running))
        if random.random() < 0.1:
            world.at(random.uniform(0.5, 2.0), running.drain)
        for number in range(ASKERS):
            host.expect(host.loop.spawn(asker(host, asks, number)), f"asker {number}", may_fail=False)

    world.host("asker", ask)
