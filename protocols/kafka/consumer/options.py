"""The consumer's options: one function, as long as there are options to be named and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

from actors.options import check_counts, check_seconds
from protocols.kafka.arguments import SECONDS_MAX, offset_of, partition_of, text_of
from protocols.kafka.group.assignors import assignor_named
from protocols.kafka.group.membership import Rebalance
from protocols.kafka.group.state import GroupSettings
from protocols.kafka.producer.options import settings_of
from protocols.kafka.protocol.fetch_api import BEGINNING, END

from .consumer import Consumer
from .fetcher import FetchSettings

__all__ = ["consumer"]

RESETS: Final[dict[str, int | None]] = {"earliest": BEGINNING, "latest": END, "none": None}
ISOLATIONS: Final = ("read_committed", "read_uncommitted")


def consumer(
    brokers: str | Iterable[str],
    *topics: str,
    group: str | None = None,
    partitions: Mapping[tuple[str, int], int | None] | None = None,
    assignor: str | tuple[str, ...] = "cooperative-sticky",
    instance: str | None = None,
    auto_offset_reset: Literal["earliest", "latest", "none"] = "latest",
    auto_commit: float | None = 5.0,
    isolation: Literal["read_committed", "read_uncommitted"] = "read_committed",
    on_rebalance: Callable[[Rebalance], object] | None = None,
    session_timeout: float = 45.0,
    heartbeat: float = 3.0,
    rebalance_timeout: float = 60.0,
    fetch_wait: float = 0.5,
    fetch_min_bytes: int = 1,
    fetch_bytes: int = 16 << 20,
    partition_bytes: int = 1 << 20,
    buffer_bytes: int = 64 << 20,
    create_topics: bool = False,
    **options: Any,
) -> Consumer:
    """A reader of topics, for `loop.spawn`.

    With a `group` its members share the partitions; without one, all are read here. `partitions` instead of
    topics: exactly these, each from an offset, or (None) from where the group has stored, or as
    `auto_offset_reset` says, which is the word whenever nothing is stored or what is stored is gone.
    `assignor`: "cooperative-sticky", "range", or several that members may agree on. `instance`: a static
    member's name. `auto_commit`: seconds between two times that what is finished is stored; None: only by
    `commit`. `on_rebalance` is told what changes. Sizes in bytes, times in seconds. The other options are
    those of `settings_of`. Raises `ValueError` for what makes no sense.
    """
    if bool(topics) == bool(partitions):
        raise ValueError("name topics, or partitions={(topic, number): offset}; one of the two")
    if auto_offset_reset not in RESETS:
        raise ValueError(f"auto_offset_reset={auto_offset_reset!r}; write one of {', '.join(RESETS)}")
    if isolation not in ISOLATIONS:
        raise ValueError(f"isolation={isolation!r}; write one of {', '.join(ISOLATIONS)}")
    if auto_commit is not None:
        check_seconds(auto_commit=auto_commit)
    check_seconds(heartbeat=heartbeat)
    check_seconds(most=SECONDS_MAX, session_timeout=session_timeout, rebalance_timeout=rebalance_timeout)
    check_seconds(zero=True, most=SECONDS_MAX, fetch_wait=fetch_wait)
    check_counts(fetch_bytes=fetch_bytes, partition_bytes=partition_bytes, buffer_bytes=buffer_bytes)
    check_counts(least=0, fetch_min_bytes=fetch_min_bytes)
    for option, text in (("group", group), ("instance", instance), *(("topic", topic) for topic in topics)):
        if text is not None:
            text_of(option, text)
    if heartbeat >= session_timeout:
        raise ValueError(f"heartbeat={heartbeat} is not less than session_timeout={session_timeout}")
    manual = {
        partition_of(key): None if offset is None else offset_of(offset)
        for key, offset in (partitions or {}).items()
    }
    names = topics or tuple(dict.fromkeys(topic for topic, _ in manual))
    assignors = (assignor,) if isinstance(assignor, str) else assignor
    for name in assignors:
        assignor_named(name)
    membership = None
    if group is not None:
        membership = GroupSettings(
            group, names, assignors, instance, session_timeout, heartbeat, rebalance_timeout
        )
    return Consumer(
        settings_of(brokers, create_topics=create_topics, **options),
        names,
        fetch=FetchSettings(
            wait=fetch_wait,
            bytes_min=fetch_min_bytes,
            fetch_bytes=fetch_bytes,
            partition_bytes=partition_bytes,
            buffer_bytes=buffer_bytes,
            committed_only=isolation == "read_committed",
            reset=RESETS[auto_offset_reset],
        ),
        group=membership,
        manual=manual or None,
        auto_commit=auto_commit,
        on_rebalance=on_rebalance,
    )
