"""Redis and PostgreSQL behind one name that leads to the primary: failovers, after which the old server
lives on and says "not me", directly or by a pooler; and connections that what lies between has forgotten.

Each of these is over within a bound, one for each client. It is counted from what happened and not from what
the pool says: until then a caller may be affected, afterwards none is. What was acknowledged is on the
primary, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from zlib import crc32

from actors import Listener, Reply, sleep
from actors.simulation import Faults, Host, World, scenario
from actors.testing import by_network
from pools import Pool, suspects
from pools.simulation import account, watch
from pools.testing import Account
from protocols import postgres, redis
from protocols.postgres import orphans
from protocols.postgres.simulated import Changes, Database, SimulatedPostgres, declare
from protocols.postgres.simulated.database import failure
from protocols.redis.simulated import SimulatedRedis, Store

__all__ = ["primaries"]

NAME: Final = "primary"
REDIS: Final = 6379
POSTGRES: Final = 5432
HOSTS: Final = ("east", "west")
CLIENTS: Final = ("cache", "books")
SECONDS: Final = 8.0
PATIENCE: Final = 0.3
CONNECT_SECONDS: Final = 0.5
NAME_LATE: Final = 0.4  # seconds, in which a name follows a failover
PAUSE: Final = 0.08  # seconds between two questions
BURST: Final = 4  # questions at once, seldom
CONNECTIONS: Final = (1, 4, 12)  # that are kept open: if one silence told of no other, each would cost one
MARGIN: Final = 0.3
AFTERMATH: Final = 6.0  # seconds after a fault that is not this scenario's, for which nothing is promised

FAULTS: Final = Faults(reset=0.05, half_open=0.05, short_reads=0.3, short_writes=0.3)
HARMLESS: Final = frozenset({"short_reads", "short_writes"})

NOTE: Final = "insert into marks (id) values ($1)"
LOOK: Final = "select id from marks where id = $1"


class Troubles:
    """When something happened, and by when it must be over for each client."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._spans: dict[str, list[tuple[float, float]]] = {client: [] for client in CLIENTS}

    def add(self, client: str, seconds: float) -> None:
        """From now on, for so long."""
        self._spans[client].append((self.world.now, self.world.now + seconds))

    def between(self, client: str, begin: float, end: float) -> bool:
        """Whether anything was the matter for this client then, be it a fault that was drawn."""
        acts = [act for act in self.world.acts if act.kind not in HARMLESS]
        drawn = [(act.at, act.at + act.seconds + act.amount + AFTERMATH) for act in acts]
        return any(first <= end and begin <= last for first, last in (*self._spans[client], *drawn))


class Sites:
    """Two hosts with both servers on each, and a name for the one that is the primary."""

    def __init__(self, world: World, troubles: Troubles) -> None:
        self.world = world
        self.troubles = troubles
        self.random = world.random("sites")
        self.pooled = self.random.random() < 0.4
        self.store = Store()  # on disks that lose nothing, and both have the same
        self.database = Database({"marks": {}})
        self.primary = HOSTS[0]
        self.done: Counter[str] = Counter()
        self.servers: dict[str, tuple[SimulatedRedis, SimulatedPostgres]] = {}

    def serve(self, host: Host) -> None:
        """Boot one of them."""
        known = [
            declare(NOTE, self.note, takes=["text"]),
            declare(LOOK, lambda changes, id: [(id,)], takes=["text"], gives={"id": "text"}),
        ]
        cache = SimulatedRedis(self.store, executed=self.executed)
        database = SimulatedPostgres(self.database, known, pooled=self.pooled)
        self.servers[host.name] = cache, database
        host.loop.spawn(Listener(f"0.0.0.0:{REDIS}", cache))
        host.loop.spawn(Listener(f"0.0.0.0:{POSTGRES}", database))
        self.part()

    def part(self) -> None:
        """Which clients write, and which do not."""
        for name, (cache, database) in self.servers.items():
            cache.standby = database.standby = name != self.primary

    def executed(self, command: list[bytes]) -> None:
        """By one of the Redis servers."""
        if command[0] == b"RPUSH":
            self.once(command[2].decode())

    def note(self, changes: Changes, id: str) -> int:
        """By PostgreSQL."""
        if changes.get("marks", id):
            raise failure("23505", f"{id} was executed twice")
        changes.put("marks", id, True)
        return 1

    def once(self, mark: str) -> None:
        """A write was done."""
        self.done[mark] += 1
        self.world.check(self.done[mark] == 1, f"{mark} was executed twice")

    def name_leads(self) -> None:
        """Where the name leads from now on."""
        self.world.network.names[NAME] = [self.world.hosts[self.primary].address]

    def fail_over(self) -> dict[str, float]:
        """The other one is the primary, and the name says so a moment later; when all of that is over."""
        late = self.random.uniform(0.0, NAME_LATE)
        self.primary = HOSTS[1 - HOSTS.index(self.primary)]
        self.part()
        self.world.at(self.world.now + late, self.name_leads)
        return dict.fromkeys(CLIENTS, late + suspects.RENEW_SECONDS + CONNECT_SECONDS + MARGIN)

    def forget(self) -> dict[str, float]:
        """What lies between has forgotten every connection. One that waits in vain makes the others suspects,
        which have their time to answer. PostgreSQL's own connection stays one of the pool's, until the server
        has answered a CancelRequest or has had its time to.
        """
        for client in CLIENTS:
            self.world.act("forget", f"{client}>{self.primary}")
        over = 2 * PATIENCE + CONNECT_SECONDS + MARGIN
        return {
            "cache": over + suspects.PROBE_SECONDS,
            "books": over + max(suspects.PROBE_SECONDS, orphans.LINGER_SECONDS),
        }

    def happen(self) -> None:
        """Something, and the next thing when it is over."""
        world = self.world
        what: Callable[[], dict[str, float]] = self.random.choice((self.fail_over, self.forget))
        bounds = what()
        for client, seconds in bounds.items():
            self.troubles.add(client, seconds)
        over = max(bounds.values())
        world.note(f"{what.__name__}, to be over in {over:g} s")
        if world.now + over < SECONDS:
            world.at(world.now + over + self.random.uniform(0.2, 1.5), self.happen)


class Client:
    """Asks one thing after the other, and sometimes a few at once."""

    def __init__(self, host: Host, sites: Sites, asks: Account, make: Callable[[bool, str], Any]) -> None:
        self.host = host
        self.sites = sites
        self.asks = asks
        self.make = make
        self.random = host.world.random(f"client {host.name}")
        self.asked = 0
        self.done: set[str] = set()

    def ask(self) -> Reply[Any]:
        """One unit, and when it was asked."""
        self.asked += 1
        writes = self.random.random() < 0.5
        mark = f"{self.host.name}.{self.asked}"
        unit = self.make(writes, mark)
        reply = self.asks.submit(unit, mark, timeout=PATIENCE, may_fail=about_server)
        reply.when_settled(partial(self.judge, self.host.world.now, writes, mark))
        return reply

    def judge(self, since: float, writes: bool, mark: str, reply: Reply[Any]) -> None:
        """Nothing fails unless something was the matter just then."""
        world = self.host.world
        error = reply.error
        if error is None:
            if writes:
                self.done.add(mark)
        elif self.host.loop.draining or self.sites.troubles.between(self.host.name, since, world.now):
            world.count("in trouble")
        else:
            world.fail(f"{mark} has failed though all is well again: {error!r}")

    async def run(self) -> None:
        """As long as things happen."""
        world = self.host.world
        while world.now < SECONDS:
            replies = [self.ask() for _ in range(BURST if self.random.random() < 0.05 else 1)]
            for reply in replies:
                while not reply.settled:
                    await sleep(0.005)
            await sleep(self.random.expovariate(1 / PAUSE))

    def check(self, there: set[str]) -> None:
        """What was acknowledged is there."""
        self.host.world.check(self.done <= there, f"acknowledged, and not there: {sorted(self.done - there)}")


def about_server(error: BaseException) -> bool:
    """Whether a server has said that it is not the one."""
    return (
        (isinstance(error, redis.RedisError) and error.code == "READONLY")
        or (isinstance(error, postgres.PostgresError) and error.sqlstate == "25006")
        or by_network(error)
    )


def by_redis(writes: bool, mark: str) -> Any:
    """Something for Redis."""
    return redis.rpush("marks", mark) if writes else redis.get("k")


@postgres.transaction
async def noted(tx: postgres.Transaction, mark: str) -> int:
    """A write in a transaction."""
    return await tx.execute(NOTE, mark)


def by_postgres(writes: bool, mark: str) -> Any:
    """Something for PostgreSQL."""
    if not writes:
        return postgres.fetch_value(LOOK, mark, idempotent=True)
    return noted(mark) if crc32(mark.encode()) % 4 == 0 else postgres.execute(NOTE, mark)


@scenario(seconds=SECONDS, faults=FAULTS)
def primaries(world: World) -> None:
    """Failovers behind a name, and connections that are forgotten: each is over within a bound."""
    troubles = Troubles(world)
    sites = Sites(world, troubles)
    options: dict[str, Any] = {"timeout": PATIENCE, "connect_timeout": CONNECT_SECONDS}
    random = world.random("primaries")

    def cache(host: Host) -> None:
        kept = random.choice(CONNECTIONS)
        pool = redis.pool(f"redis://{NAME}:{REDIS}", connections=kept, warm=kept, pipeline=1, **options)
        start(host, host.loop.spawn(pool), by_redis, lambda: {mark.decode() for mark in marks(sites.store)})

    def books(host: Host) -> None:
        url = f"postgresql://me@{NAME}:{POSTGRES}/books"
        kept = random.choice(CONNECTIONS)
        statements = random.choice((0, 100))
        pool = postgres.pool(url, connections=kept, warm=kept, statements=statements, **options)
        start(host, host.loop.spawn(pool), by_postgres, lambda: set(sites.database.tables["marks"]))

    def start(
        host: Host, pool: Pool, make: Callable[[bool, str], Any], there: Callable[[], set[str]]
    ) -> None:
        client = Client(host, sites, account(host, watch(host, pool)), make)
        host.expect(host.loop.spawn(client.run()), f"the caller on {host.name}", may_fail=False)
        world.at_rest(lambda: client.check(there()))

    for name in HOSTS:
        world.host(name, sites.serve)
    sites.name_leads()
    world.host("cache", cache)
    world.host("books", books)
    world.at(random.uniform(0.5, 1.5), sites.happen)


def marks(store: Store) -> list[bytes]:
    """What was pushed."""
    return store.get(b"marks", list) or []
