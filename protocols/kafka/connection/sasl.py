"""Proving who one is to a broker: PLAIN (RFC 4616) and SCRAM (RFC 5802). No I/O."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

import msgspec

from protocols import scram
from protocols.kafka.errors import AuthenticationFailed

__all__ = ["MECHANISMS", "Login", "prove"]


class Scram256(scram.Scram):
    """SCRAM-SHA-256."""

    __slots__ = ()

    failure = AuthenticationFailed


class Scram512(scram.Scram):
    """SCRAM-SHA-512."""

    __slots__ = ()

    digest = "sha512"
    failure = AuthenticationFailed


SCRAMS: Final = {"SCRAM-SHA-256": Scram256, "SCRAM-SHA-512": Scram512}
MECHANISMS: Final = ("PLAIN", *SCRAMS)


class Login(msgspec.Struct, frozen=True):
    """Who we say we are, and how we prove it. The password is never shown."""

    mechanism: str
    user: str
    password: str
    keys: scram.Keys

    def __repr__(self) -> str:
        return f"<Login of {self.user} by {self.mechanism}>"


def prove(login: Login) -> Generator[bytes, bytes, None]:
    """Yields what to send, is sent the broker's answers. Raises `AuthenticationFailed` if the broker cannot
    prove that it knows the password.
    """
    if login.mechanism == "PLAIN":
        yield f"\0{login.user}\0{login.password}".encode()
        return
    exchange = SCRAMS[login.mechanism](login.password, login.keys, user=login.user)
    server_first = yield exchange.first()
    server_final = yield exchange.final(server_first)
    exchange.verify(server_final)
