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
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from actors import Outcome, Reply, Scope, Stop, TcpAddress, UnixAddress
from actors.options import check_counts
from pools import Backend, Pool, Unit, Wire

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
ENCODED: Final = "percent-encode special characters in a password"
FORM: Final = "redis://user:password@host:6379/0, rediss://host, unix:///path.sock?db=0"


class _Waiting(Pool[Redis]):
    """For units that wait in the server: a drain does not wait for what may never come."""

    __slots__ = ()

    def drain(self) -> None:
        self.draining_now = True
        if self.token >= 0:
            self.loop.kill(self.token)

    def draining(self, scope: Scope) -> Outcome:
        self.draining_now = True
        return Stop()


class RedisPool(Pool[Redis]):
    """Made by `redis.pool`."""

    __slots__ = ("_lanes", "_make_lane")

    def __init__(
        self,
        wire: Callable[..., Wire],
        backend: Backend,
        *,
        transactions: int,
        blocking: int,
        **options: Any,
    ) -> None:
        check_counts(transactions=transactions, blocking=blocking)
        super().__init__(wire, [backend], **options)
        self._lanes: dict[str, Pool] = {}
        shared = {**options, "pipeline": 1, "warm": 0}

        def make(name: str) -> Pool:
            kind, connections = (_Waiting, blocking) if name == "blocking" else (Pool, transactions)
            own = Backend(backend.address, backend.tls, backend.server_hostname)
            options = {**shared, "connections": connections, "name": f"{self.name} ({name})"}
            made = partial(wire, standing=True) if name == "atomic" else wire
            return self.loop.spawn(kind(made, [own], **options))

        self._make_lane = make

    def submit_apart(self, lane: str, unit: Unit[T], timeout: float | None, priority: int) -> Reply[T] | None:
        """Into the lane of units that hold a connection: `transactions`, `atomic` or `blocking`. None: there
        is none any more, and the pool itself will refuse.
        """
        if self.loop is None or self.draining_now:
            return None
        return self.lane(lane).submit(unit, timeout, priority)

    def lane(self, name: str) -> Pool:
        """The pool behind a lane, made now if there is none. Its statistics are its own."""
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = self._make_lane(name)
        return lane

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


def pool(
    url: str,
    *,
    username: str = "",
    password: str = "",
    name: str = "",
    tls: ssl.SSLContext | None = None,
    connections: int = 2,
    pipeline: int = PIPELINE,
    transactions: int = 10,
    blocking: int = 100,
    queue: int = QUEUE,
    reply_bytes: int = REPLY_BYTES_MAX,
    **options: Any,
) -> RedisPool:
    """A pool of connections to one server, for `loop.spawn`. `url`:
    `redis://user:password@host:port/database`, `rediss://…` for TLS, `unix:///path?db=0`.

    `username` and `password` may be given here instead; `name` is what CLIENT LIST shows. `connections` are
    for what is executed at once, `pipeline` units deep; up to `transactions` (as many again for `atomic`) and
    `blocking` more are opened when needed, for units that hold one. `reply_bytes`: how large a reply may be.
    `tls`: instead of the system's trust. The other options are those of `pools.Pool`. Raises `ValueError` for
    a URL that is not of that form.
    """
    check_counts(reply_bytes=reply_bytes)
    backend, login = parse_url(url, tls, Login(username, password, 0, name))
    return RedisPool(
        partial(RedisWire, login, reply_bytes),
        backend,
        transactions=transactions,
        blocking=blocking,
        connections=connections,
        pipeline=pipeline,
        queue=queue,
        **options,
    )


def parse_url(url: str, tls: ssl.SSLContext | None = None, given: Login = NOBODY) -> tuple[Backend, Login]:
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
        return Backend(UnixAddress(unquote(parts.path))), login
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        shown = f"{parts.scheme}://{parts.hostname or ''}"  # without the password
        raise ValueError(f"{shown} is not the URL of a Redis server; {ENCODED}, and write {FORM}")
    try:
        port = parts.port or PORT
    except ValueError:
        raise ValueError(f"the port is not a number from 1 to 65535; {ENCODED}, and write {FORM}") from None
    context = (tls or ssl.create_default_context()) if parts.scheme == "rediss" else None
    return Backend(TcpAddress(parts.hostname, port), context, parts.hostname), login
