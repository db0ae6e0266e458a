"""Who reads what in a group: decided by its leader, as a pure function of members and partitions. No I/O.

Rules:
1. Members and leader understand each other across languages: names, and what members say of themselves, are
   those of Java's client ("range", "cooperative-sticky").
2. `range`: per topic, each member gets a run of partitions; everybody gives back everything first.
3. `cooperative-sticky`: as few partitions move as a balance needs, and one that moves is given to nobody in
   this round: its owner gives it back, and asks for the next round, in which it is given (KIP-429).
4. Balanced means: nobody has two more than another who could take one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple, TypeVar

import msgspec

from protocols.kafka.errors import BadMessage
from protocols.kafka.protocol.group_api import Assigned, Subscribed, TopicPartitions
from protocols.kafka.protocol.schema import Message, reader, writer

__all__ = [
    "ASSIGNORS",
    "Assignor",
    "GroupMember",
    "TopicPartition",
    "assign_range",
    "assign_sticky",
    "assignor_named",
    "read_assignment",
    "read_subscription",
    "write_assignment",
    "write_subscription",
]

_M = TypeVar("_M", bound=Message)

SUBSCRIPTION_VERSION: Final = 3
ASSIGNMENT_VERSION: Final = 1
_version = struct.Struct(">h")
_generation = struct.Struct(">i")


class TopicPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int


class GroupMember(msgspec.Struct, frozen=True):
    """A member as the leader sees it: what it wants to read, and what it read in which generation."""

    name: str
    topics: tuple[str, ...]
    owned: tuple[TopicPartition, ...] = ()
    generation: int = -1
    instance: str | None = None


Given = dict[str, list[TopicPartition]]
"""By the members' names."""


class Assignor(NamedTuple):
    """One way to decide. `eager`: members give everything back before they join."""

    name: str
    eager: bool
    assign: Callable[[Collection[GroupMember], Mapping[str, int]], Given]


def assignor_named(name: str) -> Assignor:
    """The assignor of that name. Raises `ValueError` if there is none."""
    found = ASSIGNORS.get(name)
    if found is None:
        raise ValueError(f"assignor={name!r}; write one of {', '.join(ASSIGNORS)}")
    return found


# -- range -------------------------------------------------------------------------------------------------


def assign_range(members: Collection[GroupMember], counts: Mapping[str, int]) -> Given:
    """Runs of partitions per topic; the first members get one more where it does not come out even. `counts`
    is how many partitions each topic has.
    """
    given: Given = {member.name: [] for member in members}
    ordered = sorted(members, key=lambda member: (member.instance is None, member.instance or member.name))
    for topic in sorted(counts):
        readers = [member for member in ordered if topic in member.topics]
        at = 0
        for index, member in enumerate(readers):
            size = counts[topic] // len(readers) + (index < counts[topic] % len(readers))
            given[member.name] += [TopicPartition(topic, number) for number in range(at, at + size)]
            at += size
    return given


# -- cooperative-sticky ------------------------------------------------------------------------------------


def assign_sticky(members: Collection[GroupMember], counts: Mapping[str, int]) -> Given:
    """A balance near to what is; without the partitions that another member has still to give back."""
    wants = {member.name: frozenset(member.topics) for member in members}
    claims: dict[TopicPartition, set[str]] = {}
    for member in members:
        for partition in member.owned:
            claims.setdefault(partition, set()).add(member.name)
    given = _kept(members, counts, wants)
    taken = {partition for partitions in given.values() for partition in partitions}
    for topic in sorted(counts):
        readers = [name for name in sorted(given) if topic in wants[name]]
        for number in range(counts[topic]) if readers else ():
            partition = TopicPartition(topic, number)
            if partition not in taken:
                given[min(readers, key=lambda name: len(given[name]))].append(partition)
    _balance(given, wants)
    return {
        name: sorted(partition for partition in partitions if name in claims.get(partition, (name,)))
        for name, partitions in given.items()
    }


def _kept(
    members: Collection[GroupMember], counts: Mapping[str, int], wants: Mapping[str, frozenset[str]]
) -> Given:
    """What everybody has and may keep. Of two that claim the same, the one of the later generation has it."""
    latest: dict[TopicPartition, tuple[int, str | None]] = {}
    for member in members:
        for partition in member.owned:
            generation, owner = latest.get(partition, (-2, None))
            if member.generation > generation:
                latest[partition] = (member.generation, member.name)
            elif member.generation == generation and owner != member.name:
                latest[partition] = (generation, None)
    given: Given = {member.name: [] for member in members}
    for partition, (_, owner) in latest.items():
        known = 0 <= partition.partition < counts.get(partition.topic, 0)
        if owner is not None and known and partition.topic in wants[owner]:
            given[owner].append(partition)
    return given


def _balance(given: Given, wants: Mapping[str, frozenset[str]]) -> None:
    """Move partitions from those who have most to those who have least, until nobody would gain."""
    moved = True
    while moved:
        moved = False
        for loaded in sorted(given, key=lambda name: (-len(given[name]), name)):
            for partition in reversed(given[loaded]):
                least = min(
                    (name for name in sorted(given) if partition.topic in wants[name]),
                    key=lambda name: len(given[name]),
                )
                if len(given[least]) + 1 < len(given[loaded]):
                    given[loaded].remove(partition)
                    given[least].append(partition)
                    moved = True
                    break
            if moved:
                break


ASSIGNORS: Final[Mapping[str, Assignor]] = {
    "cooperative-sticky": Assignor("cooperative-sticky", False, assign_sticky),
    "range": Assignor("range", True, assign_range),
}
"""By name."""


# -- what members tell each other --------------------------------------------------------------------------


def write_subscription(
    topics: Iterable[str], owned: Iterable[TopicPartition] = (), generation: int = -1
) -> bytes:
    """What a member says of itself, as Java's client does. The generation stands in it twice: older members
    look for it in the user data.
    """
    said = Subscribed(sorted(topics), _generation.pack(generation), _grouped(owned), generation)
    out = bytearray(_version.pack(SUBSCRIPTION_VERSION))
    writer(Subscribed, SUBSCRIPTION_VERSION, False)(out, said)
    return bytes(out)


def read_subscription(name: str, data: bytes, instance: str | None = None) -> GroupMember:
    """What a member has said of itself. Raises `BadMessage`."""
    said = _read(Subscribed, data, SUBSCRIPTION_VERSION)
    generation = said.generation
    if generation < 0 and said.user_data is not None and len(said.user_data) == _generation.size:
        (generation,) = _generation.unpack(said.user_data)
    return GroupMember(name, tuple(said.topics), tuple(_flat(said.owned)), generation, instance)


def write_assignment(partitions: Iterable[TopicPartition]) -> bytes:
    """What a member is told to read."""
    out = bytearray(_version.pack(ASSIGNMENT_VERSION))
    writer(Assigned, ASSIGNMENT_VERSION, False)(out, Assigned(_grouped(partitions), None))
    return bytes(out)


def read_assignment(data: bytes) -> list[TopicPartition]:
    """What we are told to read; nothing, if that is empty. Raises `BadMessage`."""
    return list(_flat(_read(Assigned, data, ASSIGNMENT_VERSION).topics)) if data else []


def _read(kind: type[_M], data: bytes, newest: int) -> _M:
    """Newer versions only append."""
    try:
        version = _version.unpack_from(data)[0]
        said: _M = reader(kind, min(version, newest), False)(data, _version.size)[0]
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise BadMessage(f"a group's member sent something that cannot be read: {error}") from error
    return said


def _grouped(partitions: Iterable[TopicPartition]) -> list[TopicPartitions]:
    topics: dict[str, list[int]] = {}
    for topic, number in partitions:
        topics.setdefault(topic, []).append(number)
    return [TopicPartitions(topic, numbers) for topic, numbers in topics.items()]


def _flat(topics: Iterable[TopicPartitions]) -> Iterable[TopicPartition]:
    return (TopicPartition(topic.topic, number) for topic in topics for number in topic.partitions)
