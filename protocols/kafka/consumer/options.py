"""How users describe a consumer: one function, as long as there are options to be named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, Unpack

from protocols.kafka.arguments import offset_of, partition_of
from protocols.kafka.group.membership import Rebalance
from protocols.kafka.group.state import GroupSettings
from protocols.kafka.producer.options import ClusterOptions, settings_of
from protocols.kafka.protocol.fetch_api import BEGINNING, END

from .consumer import ConsumerOptions
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
    **options: Unpack[ClusterOptions],
) -> ConsumerOptions:
    """A reader of topics, for `loop.spawn`. Sizes in bytes, times in seconds.

    `group`: its members share the partitions; without one, all are read here. `partitions`, instead of
    topics: exactly these, each from an offset, or (None) from where the group has stored, or as
    `auto_offset_reset` says. `assignor`: "cooperative-sticky", "range", or several that members may agree on.
    `instance`: a static member's name. `auto_offset_reset`: where to begin if nothing is stored, or what is
    stored is gone. `auto_commit`: how often what is finished is stored; None: only by `commit`. `isolation`:
    whether messages of transactions are read before they are committed. `on_rebalance` is told what changes.

    `session_timeout`: the group expels a member that is silent for so long. `heartbeat`: how often a member
    speaks. `rebalance_timeout`: how long the others wait for a member that is to join again. `fetch_wait`:
    how long a broker may wait for `fetch_min_bytes`. `fetch_bytes` and `partition_bytes`: the largest answer,
    and the largest part of one partition. `buffer_bytes`: how much is read ahead. `create_topics`: whether
    asking for a topic may create it. The other options are those of `settings_of`. Raises `ValueError` or
    `TypeError` for an option that makes no sense.
    """
    if bool(topics) == bool(partitions):
        raise ValueError("name topics, or partitions={(topic, number): offset}; one of the two")
    if auto_offset_reset not in RESETS:
        raise ValueError(f"auto_offset_reset={auto_offset_reset!r}; write one of {', '.join(RESETS)}")
    if isolation not in ISOLATIONS:
        raise ValueError(f"isolation={isolation!r}; write one of {', '.join(ISOLATIONS)}")
    manual = {
        partition_of(key): None if offset is None else offset_of(offset)
        for key, offset in (partitions or {}).items()
    }
    names = topics or tuple(dict.fromkeys(topic for topic, _ in manual))
    assignors = (assignor,) if isinstance(assignor, str) else assignor
    member = GroupSettings(
        group or "", names, assignors, instance, session_timeout, heartbeat, rebalance_timeout
    )  # checked, also if there is no group
    return ConsumerOptions(
        settings=settings_of(brokers, create_topics=create_topics, **options),
        topics=names,
        fetch=FetchSettings(
            wait=fetch_wait,
            bytes_min=fetch_min_bytes,
            fetch_bytes=fetch_bytes,
            partition_bytes=partition_bytes,
            buffer_bytes=buffer_bytes,
            committed_only=isolation == "read_committed",
            reset=RESETS[auto_offset_reset],
        ),
        group=None if group is None else member,
        manual=manual or None,
        auto_commit=auto_commit,
        on_rebalance=on_rebalance,
    )
