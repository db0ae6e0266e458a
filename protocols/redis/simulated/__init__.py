"""A small Redis as a machine, for tests and simulations: `Listener("127.0.0.1:6379", SimulatedRedis())`.

It knows strings, counters, lists, hashes, times to live, blocking pops, MULTI with WATCH, and publishing.
"""

from __future__ import annotations

from .server import SimulatedRedis
from .store import Store

__all__ = ["SimulatedRedis", "Store"]
