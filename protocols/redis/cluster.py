"""Redis Cluster: a pool per node behind one `submit`, units routed by their keys' slot.

Rules:
1. The map of slots is asked for when it is needed: at first, after a MOVED, when a node cannot be reached.
   One question at a time, `REFRESH_PAUSE` seconds between two at least; who has to wait for it is parked.
2. MOVED, ASK, TRYAGAIN, CLUSTERDOWN and what is about the server (READONLY, LOADING, …) say that nothing was
   executed: the unit is submitted again, at once if the answer names the node, else after a pause, for as
   long as its deadline allows.
3. MOVED changes its slot in the map at once, ASK changes nothing. More than `redirects` of them fail a unit.
4. What was sent to a node that went away is sent again only if it is idempotent; what was not is submitted
   again until another node serves its slot. When no node at all can be reached it fails at once.
5. A command that is to be so on every node goes to all that serve slots at that time (see `everywhere`).
6. The commands of a pipeline go to their nodes by slot: those of one slot in one piece and in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import force_setattr, replace

from actors import NEVER, ActorError, Backoff, Misuse, Reply, Retry, Scope, TcpAddress
from actors.callbacks import one_turn
from actors.options import check_counts
from pools import (
    BackendDown,
    BackendError,
    ConnectionLost,
    DeadlineExceeded,
    Endpoint,
    PoolClosed,
    Routed,
    Router,
    Unit,
    Wire,
)

from .client import RedisPool, RedisPoolOptions
from .codec import encode
from .errors import BadReply, CrossSlot, RedisError, is_about_server
from .everywhere import MERGES, check_place, full_name
from .slots import SLOTS, key_slot, parse_redirect, parse_slots, slot_of
from .units import Command, Idempotent, Part, Pipeline, RedisUnit, Several, unexpected
from .urls import discreet, parse_url
from .wire import RedisWire

__all__ = ["Cluster", "cluster"]

T = TypeVar("T")

NODES_MAX: Final = 1000  # as the cluster's specification has it
REDIRECTS: Final = 16  # redis-py 16, Jedis 5
FOLLOWED_AT_ONCE: Final = 3  # redirects; more mean that the nodes do not agree yet: they are given time
REFRESH_PAUSE: Final = 0.1  # seconds between two questions for the map
SUSPICION_PAUSE: Final = 1.0  # the same, where the reason may be the asker's impatience
REFRESH_SECONDS: Final = 1.0  # in which a node must answer, before the next one is asked
ASKED_MAX: Final = 8  # nodes, for one map
PAUSES: Final = Backoff(0.01, 0.5)  # of units whose node cannot serve them now
RETRIES: Final = Backoff(0.1, 2.0)  # when no node at all could be asked for the map
NOT_NOW: Final = frozenset({"TRYAGAIN", "CLUSTERDOWN"})
SENT_ELSEWHERE: Final = frozenset({"MOVED", "ASK"})
SINGLE: Final = (Command, Idempotent)  # units of one command as it is written
MAP: Final[Idempotent[Any]] = Idempotent(encode("CLUSTER", "SLOTS"))


class _ClusterWire(RedisWire):
    __slots__ = ()

    clustered = True


class _NodePool(RedisPool):
    __slots__ = ()

    drain_phase = None  # type: ignore[assignment]  # the cluster asks it itself


class _Node(RedisPoolOptions[RedisPool], frozen=True):
    wire: Callable[..., Wire]
    endpoint: Endpoint

    def make(self, scope: Scope) -> RedisPool:
        return _NodePool(self, self.wire, self.endpoint, scope)


class Cluster(Router[RedisPool]):
    """What `loop.spawn(redis.cluster(…))` gives: a pool per node, and the map of slots."""

    __slots__ = (
        "_asked",
        "_asked_host",
        "_masters",
        "_node",
        "_refresh_at",
        "_refreshed_at",
        "_retry",
        "_seeds",
        "_table",
        "_to_ask",
        "_turn",
        "moved",
        "options",
        "refreshed",
    )

    def __init__(self, options: RedisClusterSpec, scope: Scope) -> None:
        self._node, self._seeds = options.nodes()
        super().__init__(f"the cluster of {self._seeds[0]}", queue=options.queue, timeout=options.timeout)
        self.options = options
        self._table: list[RedisPool | None] = [None] * SLOTS
        self._masters: list[RedisPool] = []
        self._turn = 0  # of units without a key
        self.moved = 0  # redirects followed
        self.refreshed = 0  # maps that were read
        self._retry = Retry(RETRIES, scope.kernel.random())  # of maps that nobody gave
        self._refresh_at = NEVER
        self._refreshed_at = -NEVER
        self._asked: Reply[Any] | None = None  # for the map
        self._asked_host = ""
        self._to_ask: list[TcpAddress] = []  # if that one does not give it

    @property
    def _down(self) -> bool:
        """Whether nobody gave the last map."""
        return self._retry.failures > 0

    # -- for whoever asks ------------------------------------------------------------------------------------

    def submit(self, unit: Unit[T], timeout: float | None = None, priority: int = 0) -> Reply[T]:
        """As `pools.Pool.submit`. Units of several slots fail with `CrossSlot`, except pipelines. Raises
        `Misuse` for a command about the keys of one node alone: see `masters`.
        """
        kind = unit.__class__
        if (kind is Command or kind is Idempotent) and not (priority or self.draining_now):
            pool = self._pool_of(unit)
            if pool is not None:
                return self.start_at(pool, unit, timeout)
        if not isinstance(unit, RedisUnit):
            raise Misuse(
                f"{unit!r} is not a unit of protocols.redis; submit it to a pool of its own protocol"
            )
        due = self.due(unit.seconds_of(timeout, self.timeout_default))
        if priority:
            self.check(priority)
        if unit.__class__ is Command and full_name(unit.data) in MERGES:
            everywhere: Any = _Everywhere(self, unit, due, priority)
            return self.start_with(everywhere)
        if isinstance(unit, Pipeline):
            whole: Any = _Whole(self, unit, due, priority)
            return self.start_with(whole)
        return self.start_with(Routed(self, unit, due, priority))

    def masters(self) -> list[RedisPool]:
        """The pools of the nodes that serve slots, for commands that ask one node: `redis.dbsize()`,
        `redis.scan()`. Empty before the first unit was answered.
        """
        return list(self._masters)

    def node_of(self, key: str | bytes) -> TcpAddress | None:
        """Where a key lives, as far as is known."""
        pool = self._table[key_slot(key.encode() if isinstance(key, str) else key)]
        return None if pool is None else address_of(pool)

    # -- routing ---------------------------------------------------------------------------------------------

    def _pool_of(self, unit: Any) -> RedisPool | None:
        """By its slot, if that is all there is to say."""
        try:
            slot = slot_of(unit.data)
        except CrossSlot:
            return None
        return None if slot is None else self._table[slot]

    def place(self, unit: Any) -> RedisPool | None:
        """By the slot; any master will do for a unit without a key."""
        slot = unit.key
        if isinstance(unit, Several):
            for part in unit.units:
                if part.key is None:
                    check_place(part.data)
        elif slot is None and unit.__class__ in SINGLE and full_name(unit.data) not in MERGES:
            check_place(unit.data)
        if slot is None:
            pool = self._in_turn()
        else:
            pool = self._table[slot]
        if pool is None:
            if self._down:
                raise self._down_error()
            self.want_map()
        return pool

    def _in_turn(self) -> RedisPool | None:
        self._turn += 1
        return self._masters[self._turn % len(self._masters)] if self._masters else None

    def go(self, routed: Routed[Any]) -> None:
        """To where it belongs: a pipeline in parts."""
        if isinstance(routed, _Whole) or (isinstance(routed, _Everywhere) and self._masters):
            routed.begin()
        else:
            Router.go(self, routed)

    def again(self, routed: Routed[Any], error: BaseException) -> None:
        """What a node has failed."""
        if isinstance(error, RedisError) and is_unfinished(error):
            routed.tries += 1
            if error.code in SENT_ELSEWHERE:
                self._follow(routed, error)
            else:
                self.want_map()
                self._pause(routed, error)
        elif isinstance(error, BackendDown):
            self._node_down(routed, error)
        elif isinstance(error, ConnectionLost) and routed.unit.idempotent:
            self.want_map()
            routed.tries += 1
            self._pause(routed, error)
        elif isinstance(error, ConnectionLost | DeadlineExceeded):
            self.want_map(SUSPICION_PAUSE)
            self.fail(routed, error)
        elif isinstance(error, PoolClosed) and not self.draining_now:
            self.want_map()
            gone = f"{routed.pool.name} has left the cluster; the unit may have been executed"
            self.fail(routed, ConnectionLost(gone))
        else:
            self.fail(routed, error)

    def _pause(self, routed: Routed[Any], reason: BaseException) -> None:
        self.park(routed, PAUSES.delay(routed.tries, self.loop.kernel.random()), reason)

    def _follow(self, routed: Routed[Any], error: RedisError) -> None:
        """Where MOVED or ASK leads."""
        try:
            slot, address = parse_redirect(error, routed.pool.backends[0].address.host)
            pool = self._pool_at(address)
        except Exception as bad:
            self.fail(routed, bad)
            return
        self.moved += 1
        routed.hops += 1
        if error.code == "MOVED":
            self._table[slot] = pool
            self.want_map()
        if routed.hops > self.options.redirects:
            advice = f"followed {self.options.redirects} times; do the nodes agree? See CLUSTER NODES on each"
            self.fail(routed, RedisError(f"{error} ({advice})"))
        elif routed.hops > FOLLOWED_AT_ONCE:
            self._pause(routed, error)
        else:
            self.send(routed, pool, routed.unit if error.code == "MOVED" else routed.unit.asking())

    def _node_down(self, routed: Routed[Any], error: BackendDown) -> None:
        """Not sent: wait until another node serves the slot, but not for a node that refuses us."""
        cause = error.__cause__
        if isinstance(cause, BackendError) or self._down:
            self.fail(routed, error)
            return
        routed.tries += 1
        self.want_map()
        told = BackendDown(
            f"{error} (the cluster announces this node as {address_of(routed.pool)}; if that address cannot "
            "be reached from here, see cluster-announce-ip and cluster-announce-hostname there)"
        )
        told.__cause__ = cause
        self._pause(routed, told)

    def _pool_at(self, address: TcpAddress) -> RedisPool:
        """The pool of a node, made now if there is none."""
        pool = self.pools.get(address)
        if pool is None or not self.loop.alive(pool.token):
            if len(self.pools) >= NODES_MAX:
                raise BadReply(f"{self.name} names more than {NODES_MAX} nodes")
            endpoint = Endpoint(address, self._node.endpoint.tls, address.host)
            self.pools[address] = pool = self.loop.spawn(replace(self._node, endpoint=endpoint))
        return pool

    # -- the map ---------------------------------------------------------------------------------------------

    def want_map(self, pause: float | None = None) -> None:
        """Ask for the map soon, if it is not being asked for, so long after the last one."""
        when = max(self.loop.time(), self._refreshed_at + (REFRESH_PAUSE if pause is None else pause))
        if when < self._refresh_at and self._asked is None and not self._down:
            self._refresh_at = when
            self.look_at(when)

    def look(self, now: float) -> float:
        """Ask for the map when it is time, read what was answered."""
        if self._asked is not None and self._asked.settled:
            self._read(now, self._asked)
        if self._refresh_at <= now and self._asked is None:
            self._refresh_at = NEVER
            self._to_ask = self._whom_to_ask()
            self._ask(None)
        return self._refresh_at

    def _whom_to_ask(self) -> list[TcpAddress]:
        """Those that can be reached first, each time in another order; then the seeds."""
        rng = self.loop.kernel.random()
        known = [address_of(pool) for pool in self.pools.values() if not pool.backends[0].failures]
        rng.shuffle(known)
        return list(dict.fromkeys([*known[:ASKED_MAX], *self._seeds]))

    def _ask(self, error: BaseException | None) -> None:
        """The next one."""
        self._asked = None
        if not self._to_ask:
            self._nobody_knows(error)
            return
        try:
            pool = self._pool_at(self._to_ask.pop(0))
        except ActorError as full:
            self._nobody_knows(full)
            return
        self._asked = pool.submit(MAP, REFRESH_SECONDS)
        self._asked_host = address_of(pool).host
        self._asked.attach(self.scope)

    def _read(self, now: float, asked: Reply[Any]) -> None:
        self._asked = None
        try:
            ranges = parse_slots(asked.result(), self._asked_host)
            if not ranges:
                raise BadReply("the cluster has no slots yet; see CLUSTER ADDSLOTSRANGE")
            table: list[RedisPool | None] = [None] * SLOTS
            for first, last, master in ranges:
                table[first : last + 1] = [self._pool_at(master)] * (last + 1 - first)
        except ActorError as error:
            self._ask(error)
            return
        self._table = table
        masters = dict.fromkeys(master for _, _, master in ranges)
        self._masters = [self.pools[master] for master in masters]
        self.retire([address for address in self.pools if address not in masters])
        self.refreshed += 1
        self._refreshed_at = now
        self._retry.succeeded()
        self.release()

    def _nobody_knows(self, error: BaseException | None) -> None:
        now = self.loop.now
        self._retry.failed(now, error)
        self._refreshed_at = now
        self._refresh_at = self._retry.due
        self.release()

    def _down_error(self) -> BackendDown:
        error = BackendDown(f"{self.name} cannot be reached ({self._retry.error}); the unit was not sent")
        error.__cause__ = self._retry.error
        return error


class _Everywhere(Routed[Any]):
    """A command for every node that serves slots. What one of them has failed is not sent there again."""

    __slots__ = ("_answers", "_asked", "cluster")

    def __init__(self, cluster: Cluster, unit: Unit[Any], deadline: float, priority: int) -> None:
        super().__init__(cluster, unit, deadline, priority)
        self.cluster = cluster

    def begin(self) -> None:
        """Send it to all."""
        left = max(0.0, self.deadline - self.router.loop.time())
        pools = self.cluster.masters()
        self._answers: dict[RedisPool, Reply[Any]] = {}
        self._asked = [(pool, pool.submit(self.unit, left, self.priority)) for pool in pools]
        for pool, asked in list(self._asked):
            asked.when_settled(partial(self._answered, pool))

    def _answered(self, pool: RedisPool, asked: Reply[Any]) -> None:
        self._answers[pool] = asked
        if len(self._answers) < len(self._asked) or not self.pending:
            return
        failed = next((entry for entry in self._asked if entry[1].error is not None), None)
        if failed is not None:
            self._fail(*failed)
            return
        try:
            value = MERGES[full_name(self.unit.data)]([asked.result() for _, asked in self._asked])
        except RedisError as error:
            self.router.fail(self, error)
        except Exception as error:
            self.router.fail(self, unexpected(self.unit, None, error))
        else:
            self.router.done(self, value)

    def _fail(self, pool: RedisPool, asked: Reply[Any]) -> None:
        error = asked.error
        assert error is not None
        if not isinstance(error, RedisError) or is_about_server(error):
            self.cluster.want_map()
        if isinstance(error, RedisError):
            done = sum(reply.error is None for _, reply in self._asked)
            told = f"{error} (said by {address_of(pool)}; {done} of {len(self._asked)} nodes have done it)"
            error = RedisError(told)
        self.router.fail(self, error)

    def cancel(self, error: BaseException | None = None) -> bool:
        """Lose interest in every node's answer."""
        with one_turn():
            if not super().cancel(error):
                return False
            for _, asked in getattr(self, "_asked", ()):
                asked.cancel()
            return True


class _Whole(Routed[list[Any]]):
    """A pipeline: a part for each slot."""

    __slots__ = ("_left", "_parts", "answers")

    def begin(self) -> None:
        """Send the parts."""
        units = self.unit.units
        by_slot: dict[int | None, list[int]] = {}
        try:
            for number, unit in enumerate(units):
                by_slot.setdefault(unit.key, []).append(number)
        except RedisError as error:
            self.router.fail(self, error)
            return
        self.answers: list[Any] = [None] * len(units)
        self._left = len(by_slot)
        self._parts = [_PartOfWhole(self, numbers) for numbers in by_slot.values()]
        for part in self._parts:
            part.when_settled(self._part_settled)
            self.router.start_with(part)

    def cancel(self, error: BaseException | None = None) -> bool:
        """Lose interest in every part."""
        with one_turn():
            if not super().cancel(error):
                return False
            self._cancel_parts()
            return True

    def _cancel_parts(self) -> None:
        parts, self._parts = self._parts, []
        for part in parts:
            part.cancel()

    def _part_settled(self, part: Reply[None]) -> None:
        self._left -= 1
        if not self.pending:
            return
        if part.error is not None:
            self.router.fail(self, part.error)
            self._cancel_parts()
        elif not self._left:
            self._parts = []
            self._finish()

    def _finish(self) -> None:
        unit = self.unit
        try:
            values = unit.values(self.answers)
        except RedisError as error:
            self.router.fail(self, error)
        except Exception as error:
            self.router.fail(self, unexpected(unit, self.answers, error))
        else:
            self.router.done(self, values)


class _PartOfWhole(Routed[Any]):
    """The commands of a pipeline whose keys are in one slot. Which have not been executed go on together."""

    __slots__ = ("numbers", "whole")

    counted = False

    def __init__(self, whole: _Whole, numbers: list[int]) -> None:
        self.whole = whole
        self.numbers = numbers  # places in the pipeline
        super().__init__(whole.router, self._made(), whole.deadline, whole.priority)

    def _made(self) -> Part:
        units = self.whole.unit.units
        return Part([units[number] for number in self.numbers])

    def answered(self, inner: Reply[Any]) -> None:
        """By a node: errors that are the commands' own are results."""
        error = inner.error
        if inner is not self.inner or self.settled:
            return
        if error is not None and not isinstance(error, RedisError):
            super().answered(inner)
            return
        self.inner = None
        values: Any = inner.result() if error is None else error
        answers = self.whole.answers
        left: list[int] = []
        reason: RedisError | None = None
        for number, value in zip(self.numbers, [values] if len(self.numbers) == 1 else values, strict=True):
            if isinstance(value, RedisError) and is_unfinished(value):
                left.append(number)
                reason = reason or value
            else:
                answers[number] = value
        if reason is None:
            self.router.done(self, None)
            return
        if len(left) < len(self.numbers):
            self.numbers = left
            self.unit = self._made()
        self.router.failed(self, reason)


def is_unfinished(error: RedisError) -> bool:
    """Whether nothing was executed, and the unit is to be sent again: elsewhere, or later."""
    return error.code in SENT_ELSEWHERE or error.code in NOT_NOW or is_about_server(error)


def address_of(pool: RedisPool) -> TcpAddress:
    """Which node it is for."""
    address: Any = pool.backends[0].address
    return TcpAddress(address.host, address.port)


class RedisClusterSpec(RedisPoolOptions[Cluster], frozen=True):
    """A Redis Cluster, for `loop.spawn`. `urls`: one or more of its nodes, which name the others; in the
    forms of `redis.pool`, all with the same user and password.

    The options are those of `redis.pool`, for each node. `queue` is also how many units may wait for a node
    to be known or to serve them. Raises `ValueError` for a URL that is not of that form, or that names a
    database: a cluster has only 0; and for an option that makes no sense.
    """

    urls: str | Iterable[str]
    redirects: int = msgspec.field(default=REDIRECTS)
    """How many MOVED and ASK one unit follows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(least=0, redirects=self.redirects)
        if not isinstance(self.urls, str):
            force_setattr(self, "urls", tuple(self.urls))
        self.nodes()

    def shown(self, name: str) -> str:
        """The URLs without their passwords."""
        if name != "urls":
            return super().shown(name)
        return repr([discreet(url) for url in ([self.urls] if isinstance(self.urls, str) else self.urls)])

    def make(self, scope: Scope) -> Cluster:
        """As `actors.Spec`."""
        return Cluster(self, scope)

    def nodes(self) -> tuple[_Node, list[TcpAddress]]:
        """How each node's pool is described, and the nodes that were named."""
        urls = [self.urls] if isinstance(self.urls, str) else self.urls
        parsed = [parse_url(url, self.tls, self.login) for url in urls]
        if not parsed:
            raise ValueError("no nodes; name at least one: redis.cluster('redis://host:6379')")
        first, login = parsed[0]
        seeds: list[TcpAddress] = []
        for endpoint, own in parsed:
            address = endpoint.address
            if not isinstance(address, TcpAddress):
                raise ValueError(f"{address} is not the address of a cluster's node; write redis://host:port")
            if own.database:
                raise ValueError(f"database {own.database}: a cluster has only 0; leave it out of the URL")
            if own != login or (endpoint.tls is None) != (first.tls is None):
                raise ValueError("the URLs differ in user, password or scheme; all nodes must have the same")
            seeds.append(address)
        wire = partial(_ClusterWire, login, self.reply_bytes)
        shared = {name: getattr(self, name) for name in RedisPoolOptions.__struct_fields__}
        return _Node(wire=wire, endpoint=first, **{**shared, "name": None}), seeds


cluster = RedisClusterSpec
