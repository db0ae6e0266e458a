"""Redis with everything that a pool does on it: counters, transactions, blocking pops, publishing, while
connections and the server come and go.

What was acknowledged was done, what is not idempotent is never executed twice, a transaction is all or
nothing, no caller gets another's value, and no message comes twice.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any, Final

from actors import Listener, Reply, gather, sleep
from actors.simulation import Faults, Host, World, scenario
from pools import BackendDown, DeadlineExceeded, PoolClosed, QueueFull
from pools.simulation import account, watch
from pools.testing import Account
from protocols import redis
from protocols.redis.simulated import SimulatedRedis, Store

__all__ = ["store"]

PORT: Final = 6379
CLIENTS: Final = 3
TURNS: Final = 25  # of each client
MONEY: Final = 1000
PATIENCE: Final = 0.4

MARKED: Final = ([b"RPUSH", b"marks"], [b"LPUSH", b"line"], [b"LSET", b"line"])  # done once, or not at all

FAULTS: Final = Faults(
    lag=4.0,
    reset=5.0,
    half_close=2.0,
    vanish=0.3,
    forget=0.1,
    half_open=0.2,
    mute=0.3,
    partition=0.1,
    one_way=0.1,
    clog=0.5,
    short_reads=0.5,
    short_writes=0.5,
    full_buffers=0.3,
    refuse=0.1,
    slow_accept=0.2,
    resolve_failure=0.1,
    kill=0.3,
    crash=0.1,
    jump=0.1,
    stall=0.3,
    slow_consumer=0.3,
)


@redis.transaction
async def move(tx: redis.Transaction, amount: int) -> int:
    """From one account to the other, if there is enough."""
    await tx.watch("left")
    left = int(await tx.submit(redis.get("left")) or 0)
    if left >= amount:
        tx.queue(redis.decrby("left", amount))
        tx.queue(redis.incrby("right", amount))
    else:
        tx.queue(redis.command("MSET", "left", str(MONEY), "right", "0"))
    return left


class Told:
    """What was done in the server, and what the callers were told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.done: Counter[bytes] = Counter()  # marks, by how often they were pushed
        self.told: set[bytes] = set()
        self.refused: set[bytes] = set()
        self.popped: Counter[bytes] = Counter()

    def executed(self, command: list[bytes]) -> None:
        """By the server."""
        if command[:2] in MARKED:
            mark = command[-1]
            self.done[mark] += 1
            did = "pushed" if command[1] == b"marks" else "executed"
            self.world.check(self.done[mark] == 1, f"{mark.decode()} was {did} twice")

    def answered(self, mark: bytes, reply: Reply[Any]) -> None:
        """A push has settled."""
        error = reply.error
        if error is None:
            self.told.add(mark)
        elif isinstance(error, BackendDown | QueueFull | PoolClosed) or (
            isinstance(error, DeadlineExceeded) and error.stage != "sent"
        ):
            self.refused.add(mark)

    def check(self, kept: Store) -> None:
        """Hold one against the other."""
        world, marks = self.world, set(self.done)
        world.check(self.told <= marks, f"acknowledged, and not there: {sorted(self.told - marks)}")
        world.check(not self.refused & marks, f"said not to be done: {sorted(self.refused & marks)}")
        twice = [job for job, times in self.popped.items() if times > 1]
        world.check(not twice, f"given out twice: {twice}")

    def took(self, reply: Reply[Any]) -> None:
        """A blocking pop has settled."""
        if reply.error is None and reply.result() is not None:
            self.popped[reply.result()[1]] += 1


def balanced(kept: Store) -> bool:
    """Whether the money is all there."""
    left, right = (kept.values.get(name, b"0") for name in (b"left", b"right"))
    return int(bytes(left)) + int(bytes(right)) == MONEY  # type: ignore[arg-type]  # they are no lists


def of(key: str, value: bytes | None) -> bool:
    """Whether a value is this key's."""
    return value is None or (type(value) is bytes and value.startswith(key.encode() + b"="))


def is_job(popped: Any) -> bool:
    """Whether this is what a blocking pop gives: a list's name and a job, or nothing in time."""
    return popped is None or (popped[0] == b"jobs" and popped[1].startswith(b"job "))


async def client(host: Host, asks: Account, told: Told, number: int) -> None:
    """A bit of everything, several units at a time; sometimes interest is lost."""
    random = host.world.random(f"client {number}")
    for turn in range(TURNS):
        patience = PATIENCE * random.uniform(0.2, 1.5)
        mark = b"%d.%d" % (number, turn)
        pushed = asks.submit(redis.rpush("marks", mark), f"mark {mark.decode()}", timeout=patience, kind=int)
        pushed.when_settled(partial(told.answered, mark))
        key = f"key{random.randrange(5)}"
        written = asks.submit(redis.set(key, f"{key}={turn}"), f"set {key}", timeout=patience, value=True)
        read = asks.submit(redis.get(key), f"get {key}", partial(of, key), timeout=patience)
        if random.random() < 0.5:  # at a place which others move
            line = f"line {mark.decode()}"
            first = random.random() < 0.6
            unit = redis.command("LSET", "line", 0, line) if first else redis.lpush("line", line)
            placed = asks.submit(unit, line, timeout=patience)
            placed.when_settled(partial(told.answered, line.encode()))
        if random.random() < 0.3:  # the first that fails has the others cancelled
            host.expect(gather(pushed, written, read), f"all of {mark.decode()}")
        if random.random() < 0.5:
            moving, what = move(random.randrange(1, 300)), f"move {mark.decode()}"
            there = range(MONEY + 1).__contains__  # unless others are faster each time that it is tried
            asks.submit(moving, what, there, timeout=patience, kind=int, may_fail=redis.Conflict)
        if random.random() < 0.3:
            job = f"job {mark.decode()}"
            asks.submit(redis.rpush("jobs", job), job, timeout=patience, kind=int)
            unit = redis.blpop("jobs", seconds=0.2)
            taken = asks.submit(unit, f"a job for {number}", is_job, timeout=patience + 0.2)
            taken.when_settled(told.took)
        if random.random() < 0.3:
            asks.submit(redis.publish("news", mark), f"news {mark.decode()}", timeout=patience, kind=int)
        await sleep(random.expovariate(1 / 0.06))
        if random.random() < 0.1:
            pushed.cancel()


async def listen(host: Host, news: redis.Subscription, until: Reply[Any]) -> None:
    """No message comes twice; what is lost is told by `gaps`."""
    heard: set[bytes] = set()
    while not until.settled:
        while len(news.messages):
            message = news.messages.take()
            host.world.check(message.data not in heard, f"{message.data.decode()} was heard twice")
            heard.add(message.data)
            host.world.count("heard")
        await sleep(0.02)


@scenario(name="redis", seconds=3.0, faults=FAULTS)
def store(world: World) -> None:
    """Counters, transactions, queues and messages on a Redis that comes and goes; nothing is done twice."""
    told = Told(world)
    random = world.random("store")
    kept = Store()  # on a disk that loses nothing
    kept.put(b"left", b"%d" % MONEY)
    kept.put(b"right", b"0")
    kept.put(b"line", [b"begins"])

    def serve(host: Host) -> None:
        host.loop.spawn(Listener(f"0.0.0.0:{PORT}", SimulatedRedis(kept, executed=told.executed)))
        host.always(lambda: world.check(balanced(kept), "money was lost or made"))

    def call(number: int, host: Host) -> None:
        pool = redis.pool(
            f"redis://store:{PORT}",
            connections=random.choice((1, 2)),
            transactions=random.choice((1, 4)),
            blocking=random.choice((1, 4)),
            pipeline=random.choice((1, 16, 256)),
            timeout=PATIENCE,
            connect_timeout=0.5,
            lifetime=random.choice((0.5, 1800.0)),
        )
        running = host.loop.spawn(pool)
        lanes = [running.lane(name) for name in ("transactions", "blocking")]
        for watched in (running, *lanes):
            watch(host, watched)
        asks = account(host, running, *lanes)
        asking = host.loop.spawn(client(host, asks, told, number))
        host.expect(asking, f"client {number}", may_fail=False)
        if number == 0:
            news = host.loop.spawn(redis.subscribe(f"redis://store:{PORT}", "news", ping=1.0))
            host.loop.spawn(listen(host, news, asking))

    world.host("store", serve, crashes=True)
    for number in range(CLIENTS):
        world.host(f"client{number}", partial(call, number))
    world.at_rest(lambda: told.check(kept))
