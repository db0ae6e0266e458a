"""The common commands, one file per family, with typed results. `redis.command` makes all others."""

from __future__ import annotations

from . import hashes, keys, lists, server, sets, sorted_sets, streams, strings

__all__ = ["hashes", "keys", "lists", "server", "sets", "sorted_sets", "streams", "strings"]
