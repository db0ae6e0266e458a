"""What a URL says: `postgresql://user:password@host:port/database?sslmode=verify-full`."""

from __future__ import annotations

import getpass
import ssl
from collections.abc import Mapping
from functools import cache
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from actors import TcpAddress, UnixAddress
from pools import Endpoint
from pools.endpoints import system_trust

from .startup.handshake import Settings

__all__ = ["hidden", "settings_of"]

PORT: Final = 5432
ENCODED: Final = "percent-encode special characters in a password, or give it as password="
SSL_MODES: Final = ("disable", "require", "verify-full")


def settings_of(
    url: str,
    user: str | None = None,
    password: str | None = None,
    database: str | None = None,
    settings: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> tuple[Endpoint, Settings]:
    """Where to connect, and as whom: what is given goes before what the URL says. TLS is negotiated on the
    connection, so the endpoint has none. Raises `ValueError` for a URL that is not of that form.
    """
    parts = _split(url)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    endpoint = _endpoint(url, parts, given.pop("host", None))
    context = _context(given.pop("sslmode", None), tls)
    _check_rest(parts, given)
    address = endpoint.address
    who = user or unquote(parts.username or "") or getpass.getuser()
    return endpoint, Settings(
        user=who,
        password=password if password is not None else unquote(parts.password or "") or None,
        database=database or unquote(parts.path[1:]) or who,
        parameters=_parameters({**given, **(settings or {})}),
        keys={},
        tls=context if isinstance(address, TcpAddress) else None,  # a Unix socket leads nowhere else
        server_hostname=address.host if isinstance(address, TcpAddress) else None,
        local=isinstance(address, UnixAddress),
    )


def hidden(url: str) -> str:
    """A URL that may be shown: without its password."""
    before, at, rest = url.rpartition("@")
    return f"{before.rpartition(':')[0]}:…@{rest}" if at and ":" in before.partition("://")[2] else url


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"{hidden(url)!r} cannot be read; {ENCODED}") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError(
            f"{hidden(url)!r} is not a URL like postgresql://user:password@127.0.0.1:5432/database"
        )
    return parts


def _endpoint(url: str, parts: SplitResult, given: str | None) -> Endpoint:
    try:
        port = parts.port or PORT
    except ValueError:
        raise ValueError(
            f"{hidden(url)!r} has a port that is not a number from 1 to 65535; {ENCODED}"
        ) from None
    host = given or parts.hostname or "127.0.0.1"
    if host.startswith("/"):
        return Endpoint(UnixAddress(f"{host.rstrip('/')}/.s.PGSQL.{port}"))
    return Endpoint(TcpAddress(host, port))


def _context(mode: str | None, tls: ssl.SSLContext | None) -> ssl.SSLContext | None:
    """What a mode asks for. A context of the caller's is for `verify-full`, and implies it."""
    mode = mode if mode is not None else "disable" if tls is None else "verify-full"
    if mode not in SSL_MODES:
        raise ValueError(f"sslmode={mode}; write one of {', '.join(SSL_MODES)}")
    if mode == "disable":
        if tls is not None:
            raise ValueError("sslmode=disable together with tls=; omit one of them")
        return None
    if tls is not None:
        return tls
    return _unverified() if mode == "require" else system_trust()


@cache
def _unverified() -> ssl.SSLContext:
    """Encrypts, and asks for no certificate that is trusted."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _check_rest(parts: SplitResult, given: Mapping[str, str]) -> None:
    unknown = given.keys() - {"application_name", "options"}
    if unknown or parts.fragment:
        raise ValueError(
            f"a URL with {', '.join(sorted(unknown)) or 'a fragment'}, which is not known here; "
            "write sslmode=, host=, application_name= or options="
        )


def _parameters(settings: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a session as text."""
    if any(name.lower() == "client_encoding" for name in settings):
        raise ValueError("client_encoding is UTF8 on every connection; leave it out of the settings")
    return {name: str(value) for name, value in settings.items()}
