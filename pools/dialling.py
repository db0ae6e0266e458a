"""Dialling: which connections are made, and what their ends say of the backends.

Rules:
1. A backend that cannot be connected to is left alone for its backoff. One that ends connections without an
   answer is avoided after some in a row, while there are others.
2. When there is no connection, none is being made and none may be tried now, the pool is down until the first
   backend may be tried again: what waits and what comes fails with `BackendDown` at once.
3. `warm` connections per backend are kept open without need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from actors import NEVER, Connector
from actors.telling import words_of

from .blame import Blame, blame
from .connections import Connection
from .errors import BackendDown
from .states import State

if TYPE_CHECKING:
    from .backends import Backend
    from .pool import Pool
    from .wires import Wire

__all__ = ["Dialling"]

LIFETIME_JITTER: Final = (
    0.025  # as database/sql's users and HikariCP do, so that connections are not renewed all at once
)


class Dialling:
    """Makes the connections of one pool."""

    __slots__ = ("down_until", "pool", "wire")

    def __init__(self, pool: Pool, wire: Callable[[], Wire]) -> None:
        self.pool = pool
        self.wire = wire
        self.down_until = 0.0  # nothing can be reached before (monotonic seconds)

    def __repr__(self) -> str:
        opening = sum(backend.opening for backend in self.pool.backends)
        return f"<Dialling for {self.pool.name}, {opening} opening>"

    def open(self, backend: Backend, now: float) -> None:
        """Begin a connection, unless the backend is to be left alone just now."""
        pool, options = self.pool, self.pool.options
        if backend.retry_at > now:
            return  # the one before has failed at once
        if backend.open_at > now:
            pool.wake_at(backend.open_at)
            return
        try:
            connection = Connection(pool, backend, self.wire(), now)
        except Exception as error:
            self._connect_failed(backend, error, now)
            pool.wake()
            return
        backend.opens(connection)
        self.down_until = 0.0
        connection.dial(
            Connector(
                backend.address,
                connection,
                timeout=options.connect_timeout,
                tls=backend.endpoint.tls,
                server_hostname=backend.endpoint.server_hostname,
                owner=pool,
                lost_after=options.lost_after,
            )
        )
        pool.wake_at(now + options.connect_timeout)

    def keep_warm(self, now: float) -> None:
        """As many connections as are to be there without need."""
        warm = self.pool.options.warm
        for backend in self.pool.backends:
            for _ in range(warm - backend.connections):
                self.open(backend, now)
            if backend.connections < warm:
                self.pool.wake_at(max(backend.retry_at, backend.open_at))

    def renew(self, connection: Connection, now: float) -> float:
        """Retire a connection that has been idle or has lived for too long; when to look at it again."""
        backend, options = connection.backend, self.pool.options
        if connection.state is not State.READY:
            return NEVER
        if connection not in backend.idle:
            idle_at = now + options.idle_timeout
        elif backend.connections > options.warm:
            idle_at = connection.times.idle + min(options.idle_timeout, connection.wire.keep_alive)
        else:
            idle_at = connection.times.idle + connection.wire.keep_alive
        when = min(idle_at, connection.times.renewal)
        if when > now:
            return when
        connection.retire()
        if options.warm:
            self.pool.wake()
        return NEVER

    # -- what connections tell -------------------------------------------------------------------------------

    def ready(self, connection: Connection) -> float:
        """A connection has come up. Gives when it is to be renewed (monotonic seconds)."""
        pool, backend = self.pool, connection.backend
        backend.ready()
        if backend.failures:
            pool.loop.log.info(
                "reconnected",
                cause=f"reconnected {backend.address}",
                pool=pool.name,
                backend=str(backend.address),
                failures=backend.failures,
            )
        self.down_until = 0.0
        now, options = pool.loop.now, pool.options
        jitter = LIFETIME_JITTER * pool.loop.kernel.random().random()
        retire_at = now + options.lifetime * (1.0 - jitter)
        pool.wake_at(min(retire_at, now + options.idle_timeout))
        pool.wake()
        return retire_at

    def gone(self, connection: Connection, before: State, error: BaseException | None, asked: bool) -> None:
        """A connection has ended, or was never made. `asked`: whether anything for it has left."""
        backend = connection.backend
        if before is State.CONNECTING or before is State.HANDSHAKING:
            backend.never_ready(connection)
        else:
            lost = bool(connection.in_flight) and error is not None
            backend.gone(connection, lost)
            if lost and not self.pool.ended:
                self.warn("connection lost", backend, error, in_flight=connection.in_flight)
        whose = blame(connection, before, error)
        if connection.completed:
            backend.proved()
        elif whose is Blame.UNREACHABLE:
            self._connect_failed(backend, error, connection.times.begun)
        elif whose is Blame.DOUBTFUL and not self.pool.ended:
            preferred_for = backend.doubtful(self.pool.loop.now, asked)
            if preferred_for is not None:
                told = {"in_a_row": backend.doubts, "others_preferred_for": round(preferred_for, 3)}
                self.warn("backend closes without an answer", backend, error, **told)

    def _connect_failed(self, backend: Backend, error: BaseException | None, begun: float) -> None:
        if self.pool.ended:
            return
        now = self.pool.loop.now
        if backend.unreachable(now, error, begun):
            pause = round(backend.retry_at - now, 3)
            self.warn("cannot connect", backend, error, failures=backend.failures, retry_in=pause)

    def warn(self, event: str, backend: Backend, error: BaseException | None, **fields: object) -> None:
        """Say in the log what happened to a backend; once a second of each kind of error."""
        self.pool.loop.log.warning(
            event,
            cause=f"{event} {backend.address} {type(error).__name__}",
            pool=self.pool.name,
            backend=str(backend.address),
            error=words_of(error),
            **fields,
        )

    # -- when nothing can be reached -------------------------------------------------------------------------

    def is_down(self, now: float) -> bool:
        """Whether there is no connection, none opening and none to be tried now: then nothing that waits will
        be served soon.
        """
        backends = self.pool.backends
        if any(backend.connections or backend.retry_at <= now for backend in backends):
            return False
        self.down_until = min(backend.retry_at for backend in backends)
        return True

    @property
    def last_error(self) -> BaseException | None:
        """Why the first backend that could not be reached could not."""
        errors = (backend.retry.error for backend in self.pool.backends)
        return next((error for error in errors if error is not None), None)

    def down_error(self) -> BackendDown:
        """What a unit gets that cannot go anywhere."""
        cause = self.last_error
        error = BackendDown(f"{self.pool.name} cannot be reached ({words_of(cause)}); the unit was not sent")
        error.__cause__ = cause
        return error
