"""The client: units for a pool, and the wire that sends them over its connections."""

from __future__ import annotations

__all__ = ()
