"""The pool of connections to a PostgreSQL server, as users describe it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from actors import Scope
from actors.options import check_counts
from pools import Endpoint, Pool, PoolOptions

from .startup.handshake import Settings
from .statements import Statements
from .units import Sql
from .urls import hidden, settings_of
from .wire import PostgresWire

__all__ = ["pool"]


class PostgresPoolOptions(PoolOptions[Pool[Sql]], frozen=True, kw_only=True):
    """What `postgres.pool` takes besides the options of every pool."""

    user: str | None = None
    """Where the URL names none; by default who runs this."""
    password: str | None = None
    """Goes before the URL's."""
    database: str | None = None
    """Where the URL names none; by default called as the user."""
    settings: Mapping[str, str] | None = None
    """The sessions' settings, such as `{"timezone": "UTC"}`."""
    tls: ssl.SSLContext | None = None
    """For `?sslmode=verify-full`, instead of the system's certificates."""
    statements: int = 256
    """How many each connection keeps prepared; 0 for PgBouncer in transaction mode."""
    result_bytes: int = 256 << 20
    """What the rows of one unit may hold."""

    secret = frozenset({"password", "settings"})


class PostgresPoolSpec(PostgresPoolOptions, frozen=True):
    """A pool of PostgreSQL connections, for `loop.spawn`.

    `url`: `postgresql://user:password@host:port/database`, `?host=/run/postgresql` for a Unix socket.
    `?sslmode=`: `disable`, the default; `require` encrypts; `verify-full` knows the server too. Up to
    `pipeline` units are in flight on one connection. Raises `ValueError` for a URL that is not of that form,
    and for an option that makes no sense.
    """

    url: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(least=0, statements=self.statements)
        check_counts(result_bytes=self.result_bytes)
        self._settings()

    def _settings(self) -> tuple[Endpoint, Settings]:
        return settings_of(self.url, self.user, self.password, self.database, self.settings, self.tls)

    def shown(self, name: str) -> str:
        """The URL without its password."""
        return repr(hidden(self.url)) if name == "url" else super().shown(name)

    def make(self, scope: Scope) -> Pool[Sql]:
        """As `actors.Spec`."""
        endpoint, made = self._settings()
        statements = Statements(self.statements)
        return Pool(self, lambda: PostgresWire(made, statements, self.result_bytes), [endpoint], scope)


pool = PostgresPoolSpec
