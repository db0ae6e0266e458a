"""The pool of connections to one Redis server: few connections, deep pipelines.

Rules:
1. What is executed at once shares connections, hundreds of units deep.
2. What holds a connection never stands in front of others: transactions and blocking commands go to lanes,
   pools of their own that are made when first needed. So does `atomic`, whose connections stand behind a
   MULTI.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Generic, TypeVar

from actors import Outcome, Reply, Scope, Stop
from actors.options import check_counts
from pools import Endpoint, Pool, PoolOptions, Unit, Wire
from pools.options import shared_options
from pools.pool import PoolSpec

from .codec import REPLY_BYTES_MAX
from .handshake import Login
from .units import Redis
from .urls import discreet, parse_url
from .wire import RedisWire

__all__ = ["RedisPool", "pool"]

P = TypeVar("P", covariant=True)
T = TypeVar("T")

PIPELINE: Final = 1024  # units in flight on one connection
QUEUE: Final = 16384  # units that wait: a pipeline drains them quickly


class _Waiting(Pool[Redis]):
    """For units that wait in the server: a drain does not wait for what may never come."""

    __slots__ = ()

    def drain(self) -> None:
        self.draining_now = True
        self.loop.kill(self.token)

    def draining(self, scope: Scope) -> Outcome:
        self.draining_now = True
        return Stop()


class _WaitingSpec(PoolSpec, frozen=True):
    runs = _Waiting


class RedisPool(Pool[Redis]):
    """One server's connections, and lanes apart for units that hold one. Described by `redis.pool`."""

    __slots__ = ("_endpoint", "_lanes", "_wire", "options")

    options: RedisPoolOptions[Any]

    def __init__(
        self, options: RedisPoolOptions[Any], wire: Callable[..., Wire], endpoint: Endpoint, scope: Scope
    ) -> None:
        super().__init__(options, wire, [endpoint], scope, str(endpoint.address))
        self._endpoint = endpoint
        self._wire = wire
        self._lanes: dict[str, Pool] = {}

    def submit_apart(self, lane: str, unit: Unit[T], timeout: float | None, priority: int) -> Reply[T] | None:
        """Into the lane of units that hold a connection: `transactions`, `atomic` or `blocking`. None: there
        is none any more, and the pool itself will refuse.
        """
        if self.draining_now:
            return None
        return self.lane(lane).submit(unit, timeout, priority)

    def lane(self, name: str) -> Pool:
        """The pool behind a lane, made now if there is none. Its statistics are its own."""
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = self.loop.spawn(self._lane(name))
        return lane

    def _lane(self, name: str) -> PoolSpec:
        options, kind = self.options, _WaitingSpec if name == "blocking" else PoolSpec
        wire = partial(self._wire, standing=True) if name == "atomic" else self._wire
        connections = options.blocking if name == "blocking" else options.transactions
        own = {"pipeline": 1, "warm": 0, "connections": connections, "name": f"{self.name} ({name})"}
        return kind(wire, [self._endpoint], **{**shared_options(options), **own})

    def drain(self) -> None:
        """Take no more units, finish those that are there (except what waits in the server), then stop."""
        super().drain()
        for lane in self._lanes.values():
            lane.drain()

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """The lanes stop too, unless a drain has them finish."""
        if not self.draining_now:
            for lane in self._lanes.values():
                self.loop.kill(lane.token, error)
        super().stopped(scope, error)


class RedisPoolOptions(PoolOptions[P], Generic[P], frozen=True, kw_only=True):
    """What `redis.pool` and `redis.cluster` take besides the options of every pool, or have by another
    default.
    """

    username: str = ""
    """Goes before the URL's."""
    password: str = ""
    """Goes before the URL's."""
    name: str | None = None
    """What CLIENT LIST shows."""
    tls: ssl.SSLContext | None = None
    """For `rediss://`, instead of the system's certificates."""
    connections: int = 2
    """For what is executed at once."""
    pipeline: int = PIPELINE
    """Units in flight on one of these, at most."""
    transactions: int = 10
    """Connections that are opened when needed for transactions, at most, and as many again for `atomic`."""
    blocking: int = 100
    """Connections that are opened when needed for blocking commands, at most."""
    queue: int = QUEUE
    """Units that may wait; the next one fails with `QueueFull`."""
    reply_bytes: int = REPLY_BYTES_MAX
    """How large a reply may be."""

    secret = frozenset({"password"})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(transactions=self.transactions, blocking=self.blocking)
        check_counts(reply_bytes=self.reply_bytes)

    @property
    def login(self) -> Login:
        """Who is said to come, besides what a URL says."""
        return Login(self.username, self.password, 0, self.name or "")


class RedisPoolSpec(RedisPoolOptions["RedisPool"], frozen=True):
    """A pool of connections to one server, for `loop.spawn`. `url`:
    `redis://user:password@host:port/database`, `rediss://…` for TLS, `unix:///path?db=0`.

    Raises `ValueError` for a URL that is not of that form, and for an option that makes no sense.
    """

    url: str

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_url(self.url, self.tls, self.login)

    def shown(self, name: str) -> str:
        """The URL without its password."""
        return repr(discreet(self.url)) if name == "url" else super().shown(name)

    def make(self, scope: Scope) -> RedisPool:
        """As `actors.Spec`."""
        endpoint, login = parse_url(self.url, self.tls, self.login)
        return RedisPool(self, partial(RedisWire, login, self.reply_bytes), endpoint, scope)


pool = RedisPoolSpec
