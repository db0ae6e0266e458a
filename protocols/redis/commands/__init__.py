"""The common commands, one file per family, with typed results. `protocols.redis.command` has all others."""

from __future__ import annotations

__all__: list[str] = []
