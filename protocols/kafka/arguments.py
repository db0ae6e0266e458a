"""What callers give, checked where they give it: what is wrong raises there, with words, and never reaches a
machine, which it would end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from actors.options import check_counts

from .group.assignors import TopicPartition
from .offsets import Offset, epoch_of

__all__ = ["OFFSET_MAX", "offset_of", "offsets_of", "partition_of", "text_of", "whole_of"]

OFFSET_MAX: Final = (1 << 63) - 1
PARTITION_MAX: Final = (1 << 31) - 1
SECONDS_MAX: Final = 2_147_483.0  # in the protocol, times are 32 bits of milliseconds


def partition_of(value: Any) -> TopicPartition:
    """A topic's name and a number. Raises `TypeError`, `ValueError`."""
    if not (isinstance(value, tuple) and len(value) == 2):
        raise TypeError(f"{value!r:.60} is not a partition; write TopicPartition(topic, number)")
    return TopicPartition(
        text_of("topic", value[0]), whole_of("partition", value[1], least=0, most=PARTITION_MAX)
    )


def offset_of(value: Any) -> int:
    """An offset. Raises `TypeError`, `ValueError`."""
    return whole_of("offset", value, least=0, most=OFFSET_MAX)


def offsets_of(value: Any) -> dict[TopicPartition, Offset]:
    """Offsets by partition. Raises `TypeError`, `ValueError`."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r:.60} is not a mapping; write {{TopicPartition(topic, number): offset}}")
    return {partition_of(key): Offset(offset_of(offset), epoch_of(offset)) for key, offset in value.items()}


def whole_of(name: str, value: Any, *, least: int, most: int = OFFSET_MAX) -> int:
    """A whole number. Raises `TypeError`, `ValueError`."""
    check_counts(least=least, most=most, **{name: value})
    return int(value)


def text_of(name: str, value: Any) -> str:
    """Text that can be sent. Raises `TypeError`, `ValueError`."""
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r:.60}; write a string")
    value.encode()  # a lone surrogate raises here
    return value
