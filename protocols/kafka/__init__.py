"""Kafka: messages as units of work, gathered into batches for the partitions' leaders."""

from __future__ import annotations

__all__: list[str] = []
