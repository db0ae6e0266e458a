"""Endpoints: where a backend is reached, and how. Descriptions; what is connected is a `Backend`."""

from __future__ import annotations

import ssl
from functools import cache

import msgspec

from actors import Address, parse_address

__all__ = ["Endpoint", "as_endpoint", "system_trust"]


class Endpoint(msgspec.Struct, frozen=True):
    """An address, and with `tls` the context for it and the name that its certificate must be for."""

    address: Address
    tls: ssl.SSLContext | None = None
    server_hostname: str | None = None


def as_endpoint(given: Address | Endpoint | str) -> Endpoint:
    """An endpoint, from any way of naming one. Raises `ValueError` for text that is not an address."""
    if isinstance(given, Endpoint):
        return given
    return Endpoint(parse_address(given) if isinstance(given, str) else given)


@cache
def system_trust() -> ssl.SSLContext:
    """The context for servers whose certificates the system's authorities have signed, names checked. Made
    once and shared, because reading the authorities takes 50 ms: do not change it.
    """
    return ssl.create_default_context()
