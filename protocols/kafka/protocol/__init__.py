"""Kafka's requests and answers as classes whose annotations are the wire format."""

from __future__ import annotations

__all__ = ()
