"""What is pushed to Kafka, and what is told of it when it has been written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from pools import Unit

__all__ = ["RECORD_OVERHEAD", "Header", "Push", "RecordMetadata", "check", "message"]

RECORD_OVERHEAD: Final = 16  # bytes around key and value, at most about
PARTITION_MAX: Final = (1 << 31) - 1
TIMESTAMP_MAX: Final = 253402300799999  # milliseconds: the end of the year 9999

Header = tuple[str, bytes | None]


class RecordMetadata(msgspec.Struct, frozen=True, gc=False):
    """Where a message was written. `offset` is -1 where the broker does not tell (`acks` 0, or a batch that
    it had before). `timestamp`: milliseconds since 1970.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int


class Push(msgspec.Struct, Unit[RecordMetadata], frozen=True, gc=False):
    """One message to be written; made by `message`, settles with its `RecordMetadata`.

    `value` None deletes the key in a compacted topic. Without a `partition` the key decides, as in Java's
    client; without a key, messages stay together for some kilobytes and then move on. `timestamp`:
    milliseconds since 1970; None: when it was submitted.
    """

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[Header] = ()
    partition: int | None = None
    timestamp: int | None = None

    def __repr__(self) -> str:
        return f"<Push to {self.topic}, {self.size} bytes>"

    @property
    def size(self) -> int:  # type: ignore[override]
        """About how many bytes it takes in a batch."""
        size = RECORD_OVERHEAD + (len(self.value) if self.value else 0) + (len(self.key) if self.key else 0)
        for name, value in self.headers:
            size += 2 * len(name) + (len(value) if value else 0)
        return size


message = Push
"""A unit: `kafka.message("clicks", b"payload", key=b"user-7")`."""


def check(unit: object) -> None:
    """Raise `TypeError` or `ValueError` for what cannot be sent, and say what to write instead."""
    if not isinstance(unit, Push):
        raise TypeError(f"{unit!r} is not a message; write kafka.message(topic, value)")
    if not isinstance(unit.topic, str):
        raise TypeError(f"topic {unit.topic!r} is not a string")
    for name, value in (("value", unit.value), ("key", unit.key), *unit.headers):
        if not isinstance(name, str):
            raise TypeError(f"a header's name {name!r} is not a string")
        name.encode()  # a lone surrogate raises here, and not when others are on their way with it
        if not (value is None or isinstance(value, bytes)):
            raise TypeError(f"{name} is {value!r:.60}, which is not bytes; encode it first")
    for name, number, most in (
        ("partition", unit.partition, PARTITION_MAX),
        ("timestamp", unit.timestamp, TIMESTAMP_MAX),
    ):
        if number is not None and not (isinstance(number, int) and 0 <= number <= most):
            raise ValueError(f"{name}={number!r}; write a whole number from 0 to {most}")
