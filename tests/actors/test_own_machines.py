"""Windlass's own machines under the kit."""

from __future__ import annotations

from actors import (
    UNCHANGED,
    Backoff,
    Channel,
    Child,
    Mailbox,
    Outcome,
    Scope,
    Stop,
    Supervisor,
    Timeout,
    sleep,
)
from actors.flows import Flow
from actors.machine import Machine
from actors.testing import Driver
from actors.testing.conformance import check_machine
from actors.testing.events import DRAIN, EXPIRE, WAKE, Event, advance, do


class Worker(Machine[int]):
    """Lives for ten seconds, then fails."""

    def start(self, scope: Scope) -> Outcome:
        return Timeout(self, scope.now + 10)

    def wakeup(self, scope: Scope) -> Outcome:
        return Stop(ValueError("told to"))

    def timeout(self, scope: Scope) -> Outcome:
        raise ValueError("its time is over")


def family(strategy: str) -> Supervisor:
    return Supervisor(
        Child("first", Worker),
        Child("second", Worker, "transient"),
        Child("third", Worker, "temporary"),
        strategy=strategy,  # type: ignore[arg-type]
        restarts_max=3,
        window=60.0,
        backoff=Backoff(1.0, 1.0),
    )


def one_for_one() -> Supervisor:
    return family("one_for_one")


def rest_for_one() -> Supervisor:
    return family("rest_for_one")


def fail(name: str) -> Event:
    def fails(driver: Driver) -> None:
        supervisor: Supervisor = driver.handle
        token = supervisor._by_name[name].token
        if token is not None:
            driver.loop.wake(token)

    return do(fails)


def states(driver: Driver) -> list[tuple[str, str, int]]:
    return [(child.name, child.state, child.starts) for child in driver.handle.statistics()]


STORY = [fail("first"), WAKE, fail("third"), EXPIRE, fail("second"), advance(2), fail("first"), fail("first")]


def test_a_supervisor() -> None:
    for factory in (one_for_one, rest_for_one):
        tally = check_machine(factory, STORY, look=states)
        assert tally["wakeups"] == len(STORY) + 1


class Ledger(Machine[Mailbox[str]]):
    """Takes messages."""

    def start(self, scope: Scope) -> Outcome:
        self.inbox: Mailbox[str] = Mailbox(scope, 4, overflow="drop_oldest")
        self.kept: list[str] = []
        return Timeout(self, scope.now + 60)

    def handle(self, scope: Scope) -> Mailbox[str]:
        return self.inbox

    def wakeup(self, scope: Scope) -> Outcome:
        if not len(self.inbox):
            return UNCHANGED
        self.kept += list(self.inbox.drain())
        return Timeout(self, scope.now + 60)

    def timeout(self, scope: Scope) -> Outcome:
        return Stop()


def send(*texts: str) -> Event:
    def sends(driver: Driver) -> None:
        for text in texts:
            driver.handle.send(text)

    return do(sends)


def test_a_mailbox() -> None:
    story = [send("a"), send(*"bcdefg"), advance(59), send("h"), EXPIRE]
    check_machine(Ledger, story, look=lambda driver: list(driver.machine.kept))


def test_a_flow() -> None:
    async def waits() -> int:
        channel: Channel[int] = Channel(1)
        await channel.send(1)
        await sleep(10)
        await sleep(5)
        return await channel.receive()

    def settled(driver: Driver) -> object:
        reply = driver.handle
        return reply.settled and (reply.error is None and reply.result(), type(reply.error))

    def flow() -> Flow[int]:
        return Flow(waits())

    check_machine(flow, [WAKE, EXPIRE, WAKE, EXPIRE], look=settled, clones=False)
    check_machine(flow, [advance(3), DRAIN, EXPIRE], look=settled, clones=False)
