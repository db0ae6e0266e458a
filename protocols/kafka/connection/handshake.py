"""How a connection begins: what do you speak, and who are we. No I/O.

`greet` is a generator: it yields a request and its version, and is sent the body of the answer; what it
returns says how to go on. An old broker that does not know our version of the first question answers in
version 0, with error 35 (KIP-511); it is asked again so.

A listener that wants to know who we are closes the connection at the first request that is not about that,
without a word. One that has done so is asked, on the next connection, which mechanisms it takes.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from protocols.kafka.codes import Code
from protocols.kafka.errors import AuthenticationFailed, error_of
from protocols.kafka.protocol.api import ApiVersions, ApiVersionsResponse, SaslAuthenticate, SaslHandshake
from protocols.kafka.protocol.schema import Request, decode, version_for

from .sasl import Login, prove

__all__ = ["Greeting", "Offered", "greet"]

UNSUPPORTED: Final = b"\0\x23"  # the same, as an answer begins

Offered = dict[int, tuple[int, int]]
"""What a broker speaks: the oldest and newest version of each request, by its key."""

Greeting = Generator[tuple[Request[Any], int], bytes, tuple[Offered, float]]


def greet(login: Login | None, broker: object, *, doubtful: bool = False) -> Greeting:
    """Returns what the broker speaks, and for how many seconds it believes who we are (0: for ever). Raises
    `AuthenticationFailed`, `BrokerTooOld`, or what else the broker answers.

    `doubtful`: it has closed a connection at the first request.
    """
    version = ApiVersions.api.newest
    body = yield ApiVersions(), version
    if body.startswith(UNSUPPORTED):
        version = 0
        body = yield ApiVersions(), version
    offered = _offered(decode(ApiVersions, version, body))
    lifetime = 0.0
    if login is not None:
        lifetime = yield from _authenticate(login, offered, broker)
    elif doubtful and SaslHandshake.api.key in offered:
        yield from _look_whether_login(offered, broker)
    return offered, lifetime


def _offered(answer: ApiVersionsResponse) -> Offered:
    if answer.error:
        raise error_of(answer.error, about="ApiVersions")
    return {entry.api: (entry.oldest, entry.newest) for entry in answer.apis}


def _look_whether_login(offered: Offered, broker: object) -> Generator[tuple[Request[Any], int], bytes, None]:
    version = version_for(SaslHandshake.api, offered, broker)
    accepted = decode(SaslHandshake, version, (yield SaslHandshake(""), version))
    if accepted.error == Code.UNSUPPORTED_SASL_MECHANISM:
        raise AuthenticationFailed(
            f"{broker} requires authentication; give user=, password= and sasl=, which is one of "
            f"{', '.join(accepted.mechanisms)}"
        )


def _authenticate(
    login: Login, offered: Offered, broker: object
) -> Generator[tuple[Request[Any], int], bytes, float]:
    version = version_for(SaslHandshake.api, offered, broker)
    accepted = decode(SaslHandshake, version, (yield SaslHandshake(login.mechanism), version))
    if accepted.error == Code.UNSUPPORTED_SASL_MECHANISM:
        raise AuthenticationFailed(
            f"{broker} does not take {login.mechanism}; set sasl= to one that it accepts: "
            f"{', '.join(accepted.mechanisms)}"
        )
    if accepted.error:
        raise AuthenticationFailed(
            f"{broker} does not use authentication ({error_of(accepted.error)}): use another listener, or "
            "omit sasl=, user= and password="
        )
    version = version_for(SaslAuthenticate.api, offered, broker)
    exchange = prove(login)
    token = next(exchange)
    while True:
        answer = decode(SaslAuthenticate, version, (yield SaslAuthenticate(token), version))
        if answer.error:
            raise AuthenticationFailed(
                f"{broker} does not accept user {login.user!r} by {login.mechanism}: "
                f"{answer.message or error_of(answer.error)}; check user and password"
            )
        try:
            token = exchange.send(answer.token)
        except StopIteration:
            return answer.lifetime_ms / 1000
