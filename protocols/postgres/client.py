"""The pool, and what a URL says: `postgresql://user:password@host:port/database?sslmode=verify-full`."""

from __future__ import annotations

import getpass
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from actors import Address, Scope, TcpAddress, UnixAddress
from actors.options import check_counts
from pools import Endpoint, Pool, PoolOptions

from .startup.handshake import Settings
from .statements import Statements
from .units import Sql
from .wire import PostgresWire

__all__ = ["parse_url", "pool", "settings_of"]

PORT: Final = 5432
ENCODED: Final = "percent-encode what stands in a password, or give it as password="
SSL_MODES: Final = ("disable", "require", "verify-full")


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

    def _settings(self) -> tuple[Address, Settings]:
        return settings_of(self.url, self.user, self.password, self.database, self.settings, self.tls)

    def shown(self, name: str) -> str:
        """The URL without its password."""
        return repr(hidden(self.url)) if name == "url" else super().shown(name)

    def make(self, scope: Scope) -> Pool[Sql]:
        """As `actors.Spec`."""
        address, made = self._settings()
        statements = Statements(self.statements)
        return Pool(
            self, lambda: PostgresWire(made, statements, self.result_bytes), [Endpoint(address)], scope
        )


pool = PostgresPoolSpec


def settings_of(
    url: str,
    user: str | None = None,
    password: str | None = None,
    database: str | None = None,
    settings: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> tuple[Address, Settings]:
    """Where to connect, and as whom: what the URL says, and what is said besides."""
    address, who = parse_url(url, tls)
    who_user = user or who["user"] or getpass.getuser()
    return address, Settings(
        user=who_user,
        password=password if password is not None else who["password"],
        database=database or who["database"] or who_user,
        parameters=parameters_of({**who["parameters"], **(settings or {})}),
        keys={},
        tls=who["tls"] if isinstance(address, TcpAddress) else None,  # a Unix socket leads nowhere else
        server_hostname=address.host if isinstance(address, TcpAddress) else None,
        local=isinstance(address, UnixAddress),
    )


def parameters_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a session as text. Raises `ValueError` for one that is not the caller's."""
    if any(name.lower() == "client_encoding" for name in settings):
        raise ValueError("client_encoding is UTF8 on every connection; leave it out of the settings")
    return {name: str(value) for name, value in settings.items()}


def parse_url(url: str, tls: ssl.SSLContext | None = None) -> tuple[Address, dict[str, Any]]:
    """The address, and who connects to what."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"{hidden(url)!r} cannot be read; {ENCODED}") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError(
            f"{hidden(url)!r} is not a URL like postgresql://user:password@127.0.0.1:5432/database"
        )
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    try:
        port = parts.port or PORT
    except ValueError:
        raise ValueError(
            f"{hidden(url)!r} has a port that is not a number from 1 to 65535; {ENCODED}"
        ) from None
    host = given.pop("host", None) or parts.hostname or "127.0.0.1"
    mode = given.pop("sslmode", "verify-full" if tls is not None else "disable")
    if mode not in SSL_MODES:
        raise ValueError(f"sslmode={mode}; write one of {', '.join(SSL_MODES)}")
    if mode == "disable" and tls is not None:
        raise ValueError("sslmode=disable, and tls= besides; leave one of them out")
    unknown = given.keys() - {"application_name", "options"}
    if unknown or parts.fragment:
        raise ValueError(
            f"a URL with {', '.join(sorted(unknown)) or 'a fragment'}, which is not known here; "
            "write sslmode=, host=, application_name= or options="
        )
    address: Address = (
        UnixAddress(f"{host.rstrip('/')}/.s.PGSQL.{port}") if host.startswith("/") else TcpAddress(host, port)
    )
    return address, {
        "user": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
        "database": unquote(parts.path[1:]) or None,
        "parameters": given,
        "tls": None if mode == "disable" else tls or context_of(mode),
    }


def context_of(mode: str) -> ssl.SSLContext:
    """What a mode asks for."""
    context = ssl.create_default_context()
    if mode == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def hidden(url: str) -> str:
    """A URL that may be shown: without its password."""
    before, at, rest = url.rpartition("@")
    return f"{before.rpartition(':')[0]}:…@{rest}" if at and ":" in before.partition("://")[2] else url
