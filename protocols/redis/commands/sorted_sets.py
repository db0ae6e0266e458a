"""Sorted sets: members with scores."""

from __future__ import annotations

from collections.abc import Mapping

from protocols.redis.codec import Arg, Name, encode
from protocols.redis.convert import as_scored, maybe
from protocols.redis.units import Command, Idempotent

__all__ = [
    "zadd",
    "zcard",
    "zcount",
    "zincrby",
    "zpopmax",
    "zpopmin",
    "zrange",
    "zrange_by_score",
    "zrange_with_scores",
    "zrank",
    "zrem",
    "zremrangebyscore",
    "zscore",
]


def zadd(key: Arg, scores: Mapping[Name, float]) -> Command[int]:
    """Set members' scores; how many members are new."""
    return Command(
        encode("ZADD", key, *(part for member, score in scores.items() for part in (score, member)))
    )


def zrem(key: Arg, *members: Arg) -> Command[int]:
    """Remove members; how many there were."""
    return Command(encode("ZREM", key, *members))


def zincrby(key: Arg, member: Arg, amount: float = 1.0) -> Command[float]:
    """Add to a member's score; the sum."""
    return Command(encode("ZINCRBY", key, amount, member), float)


def zscore(key: Arg, member: Arg) -> Command[float | None]:
    """A member's score, None if it is not there."""
    return Idempotent(encode("ZSCORE", key, member), maybe)


def zrank(key: Arg, member: Arg) -> Command[int | None]:
    """A member's place, the lowest score first; None if it is not there."""
    return Idempotent(encode("ZRANK", key, member))


def zcard(key: Arg) -> Command[int]:
    """How many members."""
    return Idempotent(encode("ZCARD", key))


def zcount(key: Arg, lowest: Arg = "-inf", highest: Arg = "+inf") -> Command[int]:
    """How many members with a score from `lowest` to `highest`."""
    return Idempotent(encode("ZCOUNT", key, lowest, highest))


def zrange(key: Arg, start: int = 0, end: int = -1, *, reverse: bool = False) -> Command[list[bytes]]:
    """Members from place `start` to `end`, both included; `reverse`: the highest score first."""
    return Idempotent(encode("ZRANGE", key, start, end, *(("REV",) if reverse else ())))


def zrange_with_scores(
    key: Arg, start: int = 0, end: int = -1, *, reverse: bool = False
) -> Command[list[tuple[bytes, float]]]:
    """As `zrange`, with scores."""
    options = ("REV", "WITHSCORES") if reverse else ("WITHSCORES",)
    return Idempotent(encode("ZRANGE", key, start, end, *options), as_scored)


def zrange_by_score(
    key: Arg, lowest: Arg = "-inf", highest: Arg = "+inf", *, offset: int = 0, count: int = -1
) -> Command[list[tuple[bytes, float]]]:
    """Members with a score from `lowest` to `highest` (`"(5"`: above 5), `count` of them from `offset` on."""
    options = ("BYSCORE", "LIMIT", offset, count, "WITHSCORES")
    return Idempotent(encode("ZRANGE", key, lowest, highest, *options), as_scored)


def zpopmin(key: Arg, count: int = 1) -> Command[list[tuple[bytes, float]]]:
    """Take those with the lowest scores."""
    return Command(encode("ZPOPMIN", key, count), as_scored)


def zpopmax(key: Arg, count: int = 1) -> Command[list[tuple[bytes, float]]]:
    """Take those with the highest scores."""
    return Command(encode("ZPOPMAX", key, count), as_scored)


def zremrangebyscore(key: Arg, lowest: Arg, highest: Arg) -> Command[int]:
    """Remove members with a score from `lowest` to `highest`; how many there were."""
    return Command(encode("ZREMRANGEBYSCORE", key, lowest, highest))
