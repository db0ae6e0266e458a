"""Decisions: where every random choice of a simulation comes from.

Rules:
1. One seed is the whole run. Each purpose has a stream of its own, named, so that a choice more for one
   purpose changes nothing for the others.
2. A stream's seed is a digest of the run's seed and the stream's name: the same in every process, whatever
   `PYTHONHASHSEED` is.
"""

from __future__ import annotations

import random
from hashlib import blake2b

__all__ = ["Decisions", "Stream"]

Stream = random.Random
"""A generator of one purpose."""


class Decisions:
    """The streams of one seed."""

    __slots__ = ("_streams", "seed")

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._streams: dict[str, Stream] = {}

    def __repr__(self) -> str:
        return f"<Decisions of seed {self.seed}, {len(self._streams)} streams>"

    def stream(self, name: str) -> Stream:
        """The generator of this name: the same object at each call."""
        stream = self._streams.get(name)
        if stream is None:
            digest = blake2b(f"{self.seed}/{name}".encode(), digest_size=8).digest()
            stream = self._streams[name] = Stream(int.from_bytes(digest))
        return stream
