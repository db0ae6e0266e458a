"""Running beside other loops and threads: what `Loop.in_asyncio()` and its like return."""

from __future__ import annotations

__all__: list[str] = []
