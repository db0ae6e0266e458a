"""The consumer: reads ahead from the partitions' leaders and hands messages out in order."""

from __future__ import annotations

__all__ = ()
