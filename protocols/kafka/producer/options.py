"""The producer's options, and what a list of brokers says."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any, Final, Literal, TypedDict, Unpack, overload

from actors import TcpAddress, parse_address
from actors.options import check_seconds
from pools.endpoints import system_trust
from protocols.kafka.arguments import SECONDS_MAX, text_of
from protocols.kafka.cluster import Settings
from protocols.kafka.connection.sasl import MECHANISMS, Login
from protocols.kafka.records.compression import codec_named

from .producer import ProducerOptions
from .transactions import TransactionalOptions

__all__ = ["Acks", "ClusterOptions", "pool", "settings_of"]

PORT: Final = 9092

Acks = Literal[0, 1, "all"]
"""Who must have a message before it is acknowledged: nobody, its leader, all replicas in sync."""


class ClusterOptions(TypedDict, total=False):
    """The options of `settings_of` that pools and consumers take as well."""

    sasl: str
    user: str
    password: str
    tls: ssl.SSLContext | bool
    client: str
    connect_timeout: float
    request_timeout: float
    metadata_age: float


class PoolClusterOptions(ClusterOptions, total=False):
    """The same, with whether asking for a topic may create it."""

    create_topics: bool


class PoolOptions(PoolClusterOptions, total=False):
    """All options of `pool` but the transactional ones."""

    acks: Acks
    idempotent: bool | None
    compression: str
    linger: float
    batch_bytes: int
    message_bytes: int
    queue_bytes: int
    timeout: float


@overload
def pool(
    brokers: str | Iterable[str],
    *,
    transactional_id: str,
    transaction_timeout: float = 60.0,
    **options: Unpack[PoolOptions],
) -> TransactionalOptions: ...
@overload
def pool(
    brokers: str | Iterable[str],
    *,
    transactional_id: None = None,
    transaction_timeout: float = 60.0,
    **options: Unpack[PoolOptions],
) -> ProducerOptions: ...
def pool(
    brokers: str | Iterable[str],
    *,
    acks: Acks = "all",
    idempotent: bool | None = None,
    compression: str = "none",
    linger: float = 0.0,
    batch_bytes: int = 256 << 10,
    message_bytes: int = 1_000_000,
    queue_bytes: int = 64 << 20,
    timeout: float = 30.0,
    transactional_id: str | None = None,
    transaction_timeout: float = 60.0,
    **options: Unpack[PoolClusterOptions],
) -> ProducerOptions | TransactionalOptions:
    """A producer, for `loop.spawn`. `brokers`: one `host:port` or several, of which one must answer.

    `acks`: 0, 1 or "all". `idempotent`: whether the broker tells what it has already; by default with "all"
    only, where it is possible. `compression`: none, gzip, snappy, lz4, zstd. A message waits `linger` seconds
    for others to go with it, and longer only while earlier ones are on their way; up to `batch_bytes` go
    together. `message_bytes`: how large one may be; `queue_bytes`: what all that wait may hold together.
    `timeout`: seconds within which a message settles, if `submit` is given none.

    `transactional_id` makes a producer of transactions (`TransactionalPool`), of which each process has its
    own id; one that takes longer than `transaction_timeout` seconds is rolled back by the broker. The other
    options are those of `settings_of`. Raises `ValueError` for what makes no sense.
    """
    if acks not in (0, 1, "all"):
        raise ValueError(f"acks={acks!r}; write 0, 1 or 'all'")
    if idempotent and acks != "all":
        raise ValueError(f"idempotent=True with acks={acks!r}; it takes acks='all'")
    if transactional_id is not None and (acks != "all" or idempotent is False):
        raise ValueError("transactional_id= takes acks='all' and idempotence")
    check_seconds(most=SECONDS_MAX, transaction_timeout=transaction_timeout)
    fields: dict[str, Any] = {
        "settings": settings_of(brokers, **options),
        "codec": codec_named(compression),
        "acks": -1 if acks == "all" else acks,
        "idempotent": acks == "all" if idempotent is None else idempotent,
        "linger": linger,
        "batch_bytes": batch_bytes,
        "message_bytes": message_bytes,
        "queue_bytes": queue_bytes,
        "timeout": timeout,
    }
    if transactional_id is None:
        return ProducerOptions(**fields)
    return TransactionalOptions(
        transactional_id=transactional_id, transaction_timeout=transaction_timeout, **fields
    )


def settings_of(
    brokers: str | Iterable[str],
    *,
    sasl: str = "",
    user: str = "",
    password: str = "",
    tls: ssl.SSLContext | bool = False,
    client: str = "windlass",
    connect_timeout: float = 5.0,
    request_timeout: float = 10.0,
    metadata_age: float = 300.0,
    create_topics: bool = True,
) -> Settings:
    """How a cluster is talked to. `sasl`: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, with `user` and `password`.

    `tls`: True for the system's trust, or a context. `client` is what the brokers' logs and quotas call us. A
    request without an answer is given up after `request_timeout` seconds. What is known of the cluster is
    asked again after `metadata_age` seconds. `create_topics`: whether a topic that is not there may be made
    by asking for it, where the brokers allow that. Raises `ValueError` for what is no address or mechanism.
    """
    named = brokers.split(",") if isinstance(brokers, str) else list(brokers)
    addresses = [parse_address(name.strip(), PORT) for name in named if name.strip()]
    if not addresses:
        raise ValueError("no brokers; name at least one address, for example 127.0.0.1:9092")
    text_of("client", client)
    check_seconds(connect_timeout=connect_timeout, metadata_age=metadata_age)
    check_seconds(most=SECONDS_MAX, request_timeout=request_timeout)
    if sasl and sasl not in MECHANISMS:
        raise ValueError(f"sasl={sasl!r}; write one of {', '.join(MECHANISMS)}")
    if bool(user or password) != bool(sasl):
        raise ValueError("sasl=, user= and password= go together; give all of them, or none")
    return Settings(
        bootstrap=tuple(address for address in addresses if isinstance(address, TcpAddress)),
        login=Login(sasl, user, password, {}) if sasl else None,
        tls=system_trust() if tls is True else tls or None,
        client=client,
        connect_timeout=connect_timeout,
        request_timeout=request_timeout,
        metadata_age=metadata_age,
        create_topics=create_topics,
    )
