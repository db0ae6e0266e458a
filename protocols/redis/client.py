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
from typing import Final, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from actors import Outcome, Reply, Scope, Stop, TcpAddress, UnixAddress
from actors.options import check_counts
from pools import Endpoint, Pool, PoolOptions, Unit, Wire
from pools.options import shared_options
from pools.pool import PoolSpec

from .codec import REPLY_BYTES_MAX
from .handshake import Login
from .units import Redis
from .wire import RedisWire

__all__ = ["RedisPool", "parse_url", "pool"]

T = TypeVar("T")

PORT: Final = 6379
PIPELINE: Final = 1024  # units in flight on one connection
QUEUE: Final = 16384  # units that wait: a pipeline drains them quickly
NOBODY: Final = Login()
ENCODED: Final = "percent-encode what stands in a password"
FORM: Final = "redis://user:password@host:6379/0, rediss://host, unix:///path.sock?db=0"


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

    options: RedisPoolOptions

    def __init__(
        self, options: RedisPoolOptions, wire: Callable[..., Wire], endpoint: Endpoint, scope: Scope
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


class RedisPoolOptions(PoolOptions["RedisPool"], frozen=True, kw_only=True):
    """What `redis.pool` takes besides the options of every pool, or has by another default."""

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


class RedisPoolSpec(RedisPoolOptions, frozen=True):
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


def discreet(url: str) -> str:
    """A URL that may be shown: without its password."""
    before, at, rest = url.rpartition("@")
    return f"{before.partition('://')[0]}://…@{rest}" if at else url


def parse_url(url: str, tls: ssl.SSLContext | None = None, given: Login = NOBODY) -> tuple[Endpoint, Login]:
    """Where a URL leads, and how to introduce oneself there; what is `given` goes before what it says."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"the URL cannot be read; {ENCODED}, and write {FORM}") from None
    query = parse_qs(parts.query)
    unix = parts.scheme == "unix"
    database = query.get("db", ["0"])[-1] if unix else parts.path.strip("/") or "0"
    if not (database.isascii() and database.isdigit() and len(database) < 6):
        raise ValueError(f"database {database!r} is not a number; write {FORM}")
    if parts.fragment:
        raise ValueError(f"a # in the URL; {ENCODED}, and write {FORM}")
    if tls is not None and parts.scheme == "redis":
        raise ValueError("tls= is for rediss://; with redis:// nothing would be encrypted")
    if query.keys() - ({"db"} if unix else set()):
        raise ValueError(
            f"options {sorted(query)} are not known here; write {FORM}, and options as arguments"
        )
    login = Login(
        given.username or unquote(parts.username or ""),
        given.password or unquote(parts.password or ""),
        int(database),
        given.name,
    )
    if unix:
        if not parts.path.strip("/"):
            raise ValueError(f"the URL names no path; write {FORM}")
        return Endpoint(UnixAddress(unquote(parts.path))), login
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        shown = f"{parts.scheme}://{parts.hostname or ''}"  # without the password
        raise ValueError(f"{shown} is not the URL of a Redis server; {ENCODED}, and write {FORM}")
    try:
        port = parts.port or PORT
    except ValueError:
        raise ValueError(f"the port is not a number from 1 to 65535; {ENCODED}, and write {FORM}") from None
    context = (tls or ssl.create_default_context()) if parts.scheme == "rediss" else None
    return Endpoint(TcpAddress(parts.hostname, port), context, parts.hostname), login
