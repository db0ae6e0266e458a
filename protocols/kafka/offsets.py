"""Offsets that know more than a number."""

from __future__ import annotations

from typing import Self

__all__ = ["Offset", "epoch_of"]


class Offset(int):
    """The offset that is to be read next. `leader_epoch`: the leader's epoch in which what is before it was
    written, -1 if that is not known. Who goes on from there can tell by it whether it is still that log
    (KIP-320).
    """

    leader_epoch: int

    def __new__(cls, offset: int, leader_epoch: int = -1) -> Self:
        """An `int`, with the epoch beside it."""
        made = super().__new__(cls, offset)
        made.leader_epoch = leader_epoch
        return made


def epoch_of(offset: int) -> int:
    """Of an offset that knows its epoch; -1 for a plain number."""
    return offset.leader_epoch if isinstance(offset, Offset) else -1
