"""Flows with deadlines over two pools: composed in every way, nested, cancelled.

Whatever the network does, a flow ends by its deadline, an inner deadline never outlives the outer one,
everything that was begun inside it has settled by then, and no caller gets another's answer.
"""

from __future__ import annotations

from typing import Final

import pools
from actors import ActorError, Listener, Reply, deadline, first, gather, settle_all, sleep, with_deadline
from actors.simulation import Host, World, scenario
from pools import PoolError
from pools.simulation import account, watch
from pools.testing import Account

from .flapping import FAULTS, PORT, Question, QuestionWire, Responder

__all__ = ["flows"]

ASKERS: Final = 3
TURNS: Final = 20  # of each
PAUSE_SECONDS: Final = 0.1
ROUNDING: Final = 1e-6  # seconds
NO_ANSWER: Final = (ActorError, PoolError)


class Composer:
    """One flow: what it begins must be over by `due`, and by that of a deadline inside it."""

    def __init__(self, host: Host, pools: tuple[Account, Account], name: str, seconds: float) -> None:
        self.host = host
        self.pools = pools
        self.name = name
        self.random = host.world.random(f"flow {name}")
        self.due = host.loop.time() + seconds
        self.asked = 0

    def ask(self) -> Reply[bytes]:
        """A question to one of the pools, without a timeout: the deadline around it holds."""
        self.asked += 1
        text = f"again {self.name}.{self.asked}".encode()
        pool = self.random.choice(self.pools)
        reply = pool.submit(
            Question(text, self.random.random() < 0.5),
            f"the answer to {text.decode()}",
            within=max(0.0, self.due - self.host.loop.time()),
            value=b"re:" + text,
        )
        if reply.deadline > self.due + ROUNDING:
            self.host.world.fail(f"{text.decode()} may take longer than the deadline around it")
        return reply

    async def compose(self, depth: int = 0) -> int:
        """Some way to ask several things; how many answers there were."""
        way = self.random.randrange(6 if depth < 2 else 4)
        if way == 0:
            return len(await gather(self.ask(), self.ask(), self.ask()))
        if way == 1:
            return len([await first(self.ask(), self.ask())])
        if way == 2:
            found = await settle_all(*(self.ask() for _ in range(4)))
            return sum(isinstance(answer, bytes) for answer in found)
        if way == 3:
            return await with_deadline(self.ask(), self.random.uniform(0.01, 0.2)).map(len)
        if way == 4:
            return await self.inside(self.random.uniform(0.01, 0.3), depth + 1)
        for _ in range(3):
            await sleep(self.random.uniform(0, 0.02))
            await self.compose(depth + 1)
        return 3

    async def inside(self, seconds: float, depth: int) -> int:
        """The same, by a deadline of its own, which is no later than the one around it."""
        before = self.due
        self.due = min(before, self.host.loop.time() + seconds)
        try:
            with deadline(seconds):
                return await self.compose(depth)
        except NO_ANSWER:
            return 0
        finally:
            self.due = before


async def asker(host: Host, pools: tuple[Account, Account], number: int) -> None:
    """One flow after the other; sometimes one is cancelled."""
    random = host.world.random(f"asker {number}")
    for turn in range(TURNS):
        seconds = random.uniform(0.05, 0.6)
        composer = Composer(host, pools, f"{number}.{turn}", seconds)
        with deadline(seconds):
            flow: Reply[int] = host.loop.spawn(composer.compose())
        host.expect(flow, f"flow {composer.name}", within=seconds)
        if random.random() < 0.1:
            await sleep(random.uniform(0, 0.05))
            flow.cancel()
        await sleep(random.expovariate(1 / PAUSE_SECONDS))


@scenario(seconds=3.0, faults=FAULTS)
def flows(world: World) -> None:
    """Flows over two pools with nested deadlines; each ends in time, with its own answers."""
    random = world.random("flows")

    def serve(host: Host) -> None:
        host.loop.spawn(Listener(f"0.0.0.0:{PORT}", lambda: Responder(world, set())))

    def compose(host: Host) -> None:
        made = [
            pools.pool(
                QuestionWire,
                [f"{name}:{PORT}"],
                connections=random.choice((1, 3)),
                pipeline=random.choice((1, 8)),
                timeout=1.0,
                connect_timeout=0.5,
                name=name,
            )
            for name in ("users", "carts")
        ]
        users, carts = (account(host, watch(host, host.loop.spawn(pool))) for pool in made)
        for number in range(ASKERS):
            asking = host.loop.spawn(asker(host, (users, carts), number))
            host.expect(asking, f"asker {number}", may_fail=False)

    for name in ("users", "carts"):
        world.host(name, serve, crashes=True)
    world.host("service", compose, tolerates={"flow failed"})
