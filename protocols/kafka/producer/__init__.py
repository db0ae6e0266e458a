"""The producer: messages are gathered per partition and written by the partitions' leaders."""

from __future__ import annotations

__all__ = ()
