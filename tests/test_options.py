"""Every option of a constructor that is a number refuses what makes no sense, and says which one it was.

The table is read from the signatures: an option that is added is tried, too.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest

import pools
from actors import Backoff, Loop
from actors.testing import ManualKernel
from actors.workers import serve
from pools import Pool, RetryBudget
from pools.testing import LineWire
from protocols import http, kafka, postgres, redis

NOWHERE = "127.0.0.1:9"
ELSEWHERE = "192.0.2.7:9"  # no address of this host: nothing is forked
SOMEWHERE: Pool[Any] = Loop(kernel=ManualKernel()).spawn(http.pool(f"http://{NOWHERE}"))

CONSTRUCTORS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "pools.pool": (pools.pool, lambda **options: pools.pool(LineWire, [NOWHERE], **options)),
    "RetryBudget": (RetryBudget, RetryBudget),
    "Backoff": (Backoff, Backoff),
    "http.pool": (http.pool, lambda **options: http.pool(f"http://{NOWHERE}", **options)),
    "http.server": (http.server, lambda **options: http.server(NOWHERE, http.text_response, **options)),
    "http.proxy": (http.proxy, lambda **options: http.proxy(SOMEWHERE, **options)),
    "http.Timeouts": (http.Timeouts, http.Timeouts),
    "http.Limits": (http.Limits, http.Limits),
    "redis.pool": (redis.pool, lambda **options: redis.pool(f"redis://{NOWHERE}", **options)),
    "redis.cluster": (redis.cluster, lambda **options: redis.cluster(f"redis://{NOWHERE}", **options)),
    "redis.subscribe": (
        redis.subscribe,
        lambda **options: redis.subscribe(f"redis://{NOWHERE}", "news", **options),
    ),
    "postgres.pool": (postgres.pool, lambda **options: postgres.pool(f"postgresql://{NOWHERE}", **options)),
    "postgres.listen": (
        postgres.listen,
        lambda **options: postgres.listen(f"postgresql://{NOWHERE}", "news", **options),
    ),
    "kafka.pool": (kafka.pool, lambda **options: kafka.pool(NOWHERE, **options)),
    "kafka.consumer": (kafka.consumer, lambda **options: kafka.consumer(NOWHERE, "topic", **options)),
    "serve": (serve, lambda **options: serve(print, listen=[ELSEWHERE], **options)),
}
"""What has the signature, and how it is called with nothing but options."""

TAKES_POOL_OPTIONS = ("http.pool", "redis.pool", "redis.cluster", "postgres.pool")
KAFKA_OPTIONS = ("connect_timeout", "request_timeout", "metadata_age")
BAD_SECONDS = (math.nan, -1, -0.001, math.inf, True, "1")
BAD_COUNTS = (math.nan, -1, 1.5, math.inf, True, "1")
ENDLESS = {("serve", "silence")}  # has words of its own


def numbers(function: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """The options that are a number, and of which kind."""
    for option in inspect.signature(function).parameters.values():
        kind = str(getattr(option.annotation, "__name__", option.annotation)).removesuffix(" | None")
        if kind in ("int", "float"):
            yield option.name, kind


def table() -> Iterator[tuple[str, str, str]]:
    for name, (function, _) in CONSTRUCTORS.items():
        options = dict(numbers(function))
        if name in TAKES_POOL_OPTIONS:
            options = {**dict(numbers(pools.pool)), **options}
        if name.startswith("kafka"):
            options.update(dict.fromkeys(KAFKA_OPTIONS, "float"))
        yield from ((name, option, kind) for option, kind in options.items() if (name, option) not in ENDLESS)


TABLE = list(table())


@pytest.mark.parametrize(("name", "option", "kind"), TABLE, ids=[f"{row[0]}-{row[1]}" for row in TABLE])
def test_what_makes_no_sense_is_refused_by_its_name(name: str, option: str, kind: str) -> None:
    _, call = CONSTRUCTORS[name]
    for value in BAD_SECONDS if kind == "float" else BAD_COUNTS:
        with pytest.raises((TypeError, ValueError), match=rf"^{option}=.*; write ") as caught:
            call(**{option: value})
        wrong_type = isinstance(value, bool | str) or (kind == "int" and isinstance(value, float))
        assert isinstance(caught.value, TypeError) == wrong_type, value


def test_the_table_has_what_it_is_for() -> None:
    found = {(name, option) for name, option, _ in TABLE}
    assert len(found) > 100
    for known in [
        ("pools.pool", "queue_bytes"),
        ("redis.cluster", "idle_timeout"),
        ("http.Timeouts", "idle"),
        ("http.Limits", "body_bytes"),
        ("http.proxy", "timeout"),
        ("kafka.consumer", "auto_commit"),
        ("postgres.listen", "ping"),
    ]:
        assert known in found


def test_what_does_not_fit_into_the_protocol_is_too_much() -> None:
    for option in ("session_timeout", "rebalance_timeout", "fetch_wait", "request_timeout"):
        with pytest.raises(ValueError, match=f"^{option}=3000000; write 2147483 or less"):
            kafka.consumer(NOWHERE, "topic", **{option: 3_000_000})


def test_what_makes_sense_is_taken() -> None:
    for name, (_, call) in CONSTRUCTORS.items():
        with pytest.raises(OSError, match="cannot listen") if name == "serve" else nullcontext():
            call()
    pools.pool(LineWire, [NOWHERE], timeout=0, idle_timeout=0, lost_after=0, warm=0, connect_timeout=1)
    http.Limits(body_bytes=None, trailers=0)
    http.proxy(SOMEWHERE, timeout=None, body_max=None, gather=0)
