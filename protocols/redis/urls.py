"""What a URL says: `redis://user:password@host:6379/0`, `rediss://host`, `unix:///path.sock?db=0`."""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from actors import TcpAddress, UnixAddress
from pools import Endpoint
from pools.endpoints import system_trust

from .handshake import Login

__all__ = ["discreet", "parse_url"]

PORT: Final = 6379
NOBODY: Final = Login()
ENCODED: Final = "percent-encode special characters in a password"
FORM: Final = "redis://user:password@host:6379/0, rediss://host, unix:///path.sock?db=0"


def parse_url(url: str, tls: ssl.SSLContext | None = None, given: Login = NOBODY) -> tuple[Endpoint, Login]:
    """Where a URL leads, and how to introduce oneself there. What is `given` goes before what the URL says.
    Raises `ValueError` for a URL that is not of that form.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"the URL cannot be read; {ENCODED}, and write {FORM}") from None
    database = _database(parts)
    _check_rest(parts, tls)
    login = Login(
        given.username or unquote(parts.username or ""),
        given.password or unquote(parts.password or ""),
        database,
        given.name,
    )
    return _unix(parts) if parts.scheme == "unix" else _tcp(parts, tls), login


def discreet(url: str) -> str:
    """A URL that may be shown: without its password."""
    before, at, rest = url.rpartition("@")
    return f"{before.partition('://')[0]}://…@{rest}" if at else url


def _database(parts: SplitResult) -> int:
    if parts.scheme == "unix":
        database = parse_qs(parts.query).get("db", ["0"])[-1]
    else:
        database = parts.path.strip("/") or "0"
    if not (database.isascii() and database.isdigit() and len(database) < 6):
        raise ValueError(f"database {database!r} is not a number; write {FORM}")
    return int(database)


def _check_rest(parts: SplitResult, tls: ssl.SSLContext | None) -> None:
    if parts.fragment:
        raise ValueError(f"a # in the URL; {ENCODED}, and write {FORM}")
    if tls is not None and parts.scheme == "redis":
        raise ValueError("tls= is for rediss://; with redis:// nothing would be encrypted")
    query = parse_qs(parts.query)
    if query.keys() - ({"db"} if parts.scheme == "unix" else set()):
        raise ValueError(
            f"options {sorted(query)} are not known here; write {FORM}, and options as arguments"
        )


def _unix(parts: SplitResult) -> Endpoint:
    if not parts.path.strip("/"):
        raise ValueError(f"the URL names no path; write {FORM}")
    return Endpoint(UnixAddress(unquote(parts.path)))


def _tcp(parts: SplitResult, tls: ssl.SSLContext | None) -> Endpoint:
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        shown = f"{parts.scheme}://{parts.hostname or ''}"  # without the password
        raise ValueError(f"{shown} is not the URL of a Redis server; {ENCODED}, and write {FORM}")
    try:
        port = parts.port or PORT
    except ValueError:
        raise ValueError(f"the port is not a number from 1 to 65535; {ENCODED}, and write {FORM}") from None
    context = (tls or system_trust()) if parts.scheme == "rediss" else None
    return Endpoint(TcpAddress(parts.hostname, port), context, parts.hostname)
