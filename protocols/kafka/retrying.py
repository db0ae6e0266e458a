"""How long Kafka's parts wait before they ask again."""

from __future__ import annotations

import random
from typing import Final

from actors import Backoff, Retry

__all__ = ["PAUSE", "retry"]

PAUSE: Final = Backoff(0.1, 1.0)  # as retry.backoff.ms and retry.backoff.max.ms of Java's client


def retry(source: random.Random) -> Retry:
    """The memory of one thing that is asked for again and again. `source` gives the jitter."""
    return Retry(PAUSE, source)
