"""Where pools are told to go, and whom they trust there."""

from __future__ import annotations

import ssl

import pytest

from actors import Loop
from actors.testing import ManualKernel
from pools import Pool
from protocols import http, redis
from protocols.postgres.urls import settings_of


@pytest.mark.parametrize(
    "description",
    [
        http.pool(["https://a.example", "https://b.example"]),
        redis.pool("rediss://a.example"),
    ],
    ids=["http", "redis"],
)
def test_the_systems_trust_is_read_once_and_asks_for_names(description: object) -> None:
    pool = Loop(kernel=ManualKernel()).spawn(description)  # type: ignore[call-overload]
    assert isinstance(pool, Pool)
    contexts = {backend.endpoint.tls for backend in pool.backends}
    shared = Loop(kernel=ManualKernel()).spawn(http.pool("https://c.example")).backends[0].endpoint.tls
    assert contexts == {shared}
    assert isinstance(shared, ssl.SSLContext)
    assert (shared.check_hostname, shared.verify_mode) == (True, ssl.CERT_REQUIRED)


def test_encrypting_alone_does_not_change_what_others_trust() -> None:
    url = "postgresql://u@a.example/d?sslmode="
    careless, careful = (settings_of(url + mode)[1].tls for mode in ("require", "verify-full"))
    assert careless is not None
    assert careful is not None
    assert (careless.verify_mode, careful.verify_mode) == (ssl.CERT_NONE, ssl.CERT_REQUIRED)
